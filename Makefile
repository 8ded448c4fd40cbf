# Tocsin. `make help` lists what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help

GO       ?= go
TOOLS    := bin/tools
MODULES  := $(shell sed -n 's|^\t\./||p' go.work)
SERVICES := ingest-gateway stream-processor alert-router cold-path-writer realtime-api historical-api model-trainer fleet-simulator
DATA_DIR ?= ./.tocsin
# Machines of the simulated fleet in the demo.
MACHINES ?= 24

# The race detector and DuckDB (which answers SQL, and counts the lake in the end-to-end tests) need a C compiler.
CC_THERE := $(shell command -v "$$($(GO) env CC)")
RACE := $(if $(CC_THERE),-race)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | sort | awk -F'\t' '{printf "  %-14s %s\n", $$1, $$2}'

# The one program that needs cgo: the historical-api starts it for each query. Without it everything else works.
SQL_WORKER = $(if $(CC_THERE),CGO_ENABLED=1 $(GO) build -trimpath -o bin/ ./services/historical-api/cmd/sql-worker,echo "SKIPPED: no C compiler: bin/sql-worker; the historical-api will answer that there is no SQL engine")

.PHONY: build
build: ## every binary into bin/
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./services/all-in-one/cmd/tocsin ./services/all-in-one/cmd/tuning-bench $(foreach s,$(SERVICES),./services/$(s)/cmd/$(s)) ./deploy/local/cmd/stack
	@$(SQL_WORKER)

.PHONY: iceberg
iceberg: ## bin/iceberg-committer: a module outside the workspace, for what it links is large
	@mkdir -p bin
	cd services/iceberg-committer && GOWORK=off $(GO) build -trimpath -o $(CURDIR)/bin/ ./cmd/iceberg-committer

.PHONY: demo
demo: ## one process with everything, a simulated fleet with faults, and the page on http://127.0.0.1:8080
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./services/all-in-one/cmd/tocsin
	@$(SQL_WORKER)
	@exec bin/tocsin run --data-dir "$(DATA_DIR)" --simulate $(MACHINES) --faults demo

# `make test` is three runs, side by side where they can be; each may be made alone.
#   test-real:  what starts the real stack and judges what it did. It judges binaries of `make build`; the race detector would see the judge alone, and makes it ten times
#               slower at reading Kafka's lz4 batches (each gets a block of 4 MB, which the detector marks). One package after the other: they wait much, and others run beside them.
#   test-plain: arithmetic that starts no goroutine, and the judge's own tests: the detector has nothing to find in them, and costs them nine tenths of their time.
#   test-race:  everything else, under the race detector.
# What checks properties with random input does that from one seed, so that a change that is right cannot fail by chance. `make properties` looks further.
REAL  := deploy/e2e deploy/grafana deploy/proof/chaos deploy/proof/load
PLAIN := deploy/proof/history $(addprefix services/stream-processor/internal/,calibrate cohort coverage machine onset regime wide window)
ROOT := github.com/tocsin-io/tocsin
ALL  = $(shell $(GO) list work)
PROPERTIES = $(shell $(GO) list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' work | sed -n '/pgregory\.net\/rapid[] ]/s/ .*//p')
SEED   ?= 1
CHECKS ?= 2000
# GOTESTSUM_JSONFILE=file asks for the events of all in one file.
GOTESTSUM = mkdir -p out/test && $(TOOLS)/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg --jsonfile out/test/$@

.PHONY: test
test: $(TOOLS)/gotestsum build ## all tests, race detector on; real Kafka, S3, PostgreSQL, VictoriaMetrics and browser where they are installed
	@test -n "$(RACE)" || echo "SKIPPED: no C compiler: the race detector, and the tests in deploy/e2e"
	@rm -rf out/test
	@failed=0; $(MAKE) --no-print-directory -k -j2 test-real test-plain test-race || failed=1; \
		test -z "$$GOTESTSUM_JSONFILE" || cat out/test/*.json > "$$GOTESTSUM_JSONFILE"; exit $$failed

.PHONY: test-real test-plain test-race
test-real: $(TOOLS)/gotestsum
	@$(GOTESTSUM).json -- -p 1 -timeout 20m $(addprefix ./,$(REAL))
test-plain: $(TOOLS)/gotestsum
	@$(GOTESTSUM).json -- -timeout 14m $(addprefix ./,$(PLAIN)) -args -rapid.seed=$(SEED)
test-race: $(TOOLS)/gotestsum
	@failed=0; $(GOTESTSUM)-properties.json -- $(RACE) -timeout 14m $(filter-out $(addprefix $(ROOT)/,$(PLAIN) $(REAL)),$(PROPERTIES)) -args -rapid.seed=$(SEED) || failed=1; \
		$(GOTESTSUM).json -- $(RACE) -timeout 14m $(filter-out $(addprefix $(ROOT)/,$(PLAIN) $(REAL)) $(PROPERTIES),$(ALL)) || failed=1; exit $$failed

.PHONY: properties
properties: ## CHECKS checks (default 2000) of each property, with new seeds: a failure says how to repeat it
	$(GO) test -count=1 -timeout 60m $(PROPERTIES) -args -rapid.checks=$(CHECKS)

.PHONY: real
real: ## install what the real stack needs (Debian: Java, Maven, VictoriaMetrics, PostgreSQL, amtool, Chromium; Maven Central: Kafka)
	deploy/local/install.sh

.PHONY: check
check: lint generated modules test ## what CI runs: lint, generated files up to date, both module modes, race tests

.PHONY: lint
lint: $(TOOLS)/golangci-lint vet proto-lint ## go vet, golangci-lint over every module, buf lint
	@for m in $(MODULES); do echo "lint $$m"; (cd $$m && GOWORK=off $(CURDIR)/$(TOOLS)/golangci-lint run --config $(CURDIR)/.golangci.yml ./...) || exit 1; done

.PHONY: vet
vet: ## go vet of every module, and of the tests that a build tag chooses
	$(GO) vet work
	$(GO) vet -tags bench,demo,journeys,mutants ./services/alert-router ./services/realtime-api ./deploy/e2e ./deploy/proof/mutants ./deploy/proof/simulation

.PHONY: modules
modules: ## every module builds and is tidy without the workspace
	@for m in $(MODULES); do (cd $$m && GOWORK=off $(GO) build ./... && GOWORK=off $(GO) mod tidy -diff) || { echo "$$m: GOWORK=off fails"; exit 1; }; done

.PHONY: proto
proto: $(TOOLS)/buf $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc ## generate Go code from proto/
	cd proto && PATH="$(CURDIR)/$(TOOLS):$$PATH" buf generate

.PHONY: proto-lint
proto-lint: $(TOOLS)/buf ## buf lint, and no breaking change against the last commit
	cd proto && PATH="$(CURDIR)/$(TOOLS):$$PATH" buf lint
	@if git -C . cat-file -e HEAD:proto/buf.yaml 2>/dev/null; then \
		rm -rf out/proto-head && mkdir -p out/proto-head && git archive HEAD proto | tar -x -C out/proto-head && \
		cd proto && "$(CURDIR)/$(TOOLS)/buf" breaking --against ../out/proto-head/proto; fi

.PHONY: docs
docs: ## generate docs/configuration.md
	@mkdir -p bin docs
	$(GO) build -trimpath -o bin/ ./services/all-in-one/cmd/tocsin
	bin/tocsin reference > docs/configuration.md

.PHONY: dashboards
dashboards: ## write Grafana's dashboards and vmalert's rules into the Helm chart's files
	$(GO) run ./deploy/grafana/cmd/grafana helm/tocsin/files

.PHONY: generated
generated: proto docs dashboards ## generated files are what the sources give
	@git diff --exit-code -- proto/gen docs/configuration.md helm/tocsin/files || { echo "generated files are not up to date: commit what 'make proto docs dashboards' made"; exit 1; }
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory web-check; else echo "SKIPPED: npm is missing, the page's build was not compared"; test -z "$$TOCSIN_REQUIRE_REAL"; fi

.PHONY: web
web: ## build the web page into services/realtime-api (needs npm)
	cd services/realtime-api/web && npm ci --no-audit --no-fund && npm run build

.PHONY: web-check
web-check: ## the committed page is what its source builds
	cd services/realtime-api/web && npm ci --no-audit --no-fund && npm run check

.PHONY: stack-up
stack-up: build ## the real stack as host processes on loopback: Kafka, VictoriaMetrics, S3, PostgreSQL, each service its own process
	bin/stack up

.PHONY: stack-down
stack-down: ## stop what stack-up started
	@test -x bin/stack || $(GO) build -trimpath -o bin/ ./deploy/local/cmd/stack
	bin/stack down

.PHONY: e2e
e2e: build ## end to end on the real stack, with a table at the end and out/e2e.json
	TOCSIN_E2E_OUT="$(CURDIR)/out/e2e.json" $(GO) test -count=1 -timeout 20m -v -run 'TestReal' ./deploy/e2e

# Virtual hours, and the first seed: the nightly run takes 200 hours.
SIM_HOURS ?= 20
SIM_SEED ?= 1
.PHONY: simulation
simulation: ## the fleet on virtual time under random faults for SIM_HOURS virtual hours (default 20, some 4 minutes), then every directed scenario (out/simulation.json)
	@mkdir -p out
	cd deploy/proof && TOCSIN_SIM_HOURS=$(SIM_HOURS) TOCSIN_SIM_SEED=$(SIM_SEED) TOCSIN_SIM_OUT="$(CURDIR)/out/simulation.json" \
		$(GO) test -tags synctests -count=1 -timeout 180m -v -run '^(TestSimulation|TestScenario)$$' ./simulation

.PHONY: mutants
mutants: ## deliberate protocol bugs: each must be caught, and it is said by what; MUTANT=name,name for some (out/mutants.json)
	MUTANTS_OUT="$(CURDIR)/out/mutants.json" $(GO) test -count=1 -timeout 60m -v -tags mutants -run 'TestMutants$$' ./deploy/proof/mutants

.PHONY: invariants
invariants: ## generate docs/INVARIANTS.md; RUN=file (gotestsum --jsonfile): fail unless its tests passed in that run
	$(GO) run ./deploy/proof/invariants/cmd/invariants $(if $(RUN),-run "$(RUN)")

# What is given to deploy/proof/cmd/load, e.g. LOAD_FLAGS="-repeat 20" (the nightly run).
LOAD_FLAGS ?=
.PHONY: load load-restore load-poison load-hot
load: build ## a 500 MB restore, 1 M records with 1 % poison, a hot machine, measured on the real stack (out/load-*.json); also load-restore, load-poison, load-hot
	$(GO) build -trimpath -o bin/ ./deploy/proof/cmd/load
	bin/load -out out $(LOAD_FLAGS)
load-restore load-poison load-hot: load-%: build
	$(GO) build -trimpath -o bin/ ./deploy/proof/cmd/load
	bin/load -out out $(LOAD_FLAGS) $*

.PHONY: bench-alerts bench-burst alerts-outage
bench-alerts: build ## alerts on real Kafka: 100 a second until their page, then 100,000 in 1,000 groups beside Alertmanager (out/load-pages.json, out/load-burst.json)
	$(GO) build -trimpath -o bin/ ./deploy/proof/cmd/load
	bin/load -out out $(LOAD_FLAGS) pages burst
bench-burst: ## a burst over the embedded broker, for builds of the router in turn (BENCH_ALERTS, BENCH_GROUPS, BENCH_ROUNDS, BENCH_ROUTERS="name=test binary,..."; services/alert-router/burst_bench_test.go)
	cd services/alert-router && GOWORK=off $(GO) test -tags bench -run TestBenchBurst -count=1 -timeout 0 -v .
alerts-outage: build ## a receiver that is away for 20 minutes, the router killed 50 times meanwhile (LOAD_FLAGS="-away 1h": an hour; out/load-outage.json)
	$(GO) build -trimpath -o bin/ ./deploy/proof/cmd/load
	bin/load -out out $(LOAD_FLAGS) outage

# full, slice, or names of the full run's sections: see deploy/proof/chaos/plan.go.
CHAOS ?= full
.PHONY: chaos
chaos: build ## faults of every kind on the real stack under load, then the whole history checked: the scoreboard, and out/chaos.json (CHAOS=slice: 3 minutes)
	$(GO) build -trimpath -o bin/ ./deploy/proof/cmd/chaos
	bin/chaos -plan "$(CHAOS)" -out out/chaos.json

# What is given to deploy/budget, e.g. BUDGET_FLAGS="-window 30s -rate 0.2" (some seconds instead of minutes).
BUDGET_FLAGS ?=
.PHONY: budget
budget: ## the false-alarm budget: pages asked and given over 20 simulated machine-months without faults; faults found and how soon (out/budget.json)
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./deploy/budget
	bin/budget -out out/budget.json $(BUDGET_FLAGS)

# What is given to deploy/accuracy/cmd/accuracy, e.g. ACCURACY="-only skab,nab -compare old.json".
ACCURACY ?=
.PHONY: accuracy
accuracy: ## detection judged on public data sets below TOCSIN_DATA: tables beside others' figures, out/accuracy.json and a page with plots
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./services/all-in-one/cmd/tocsin ./deploy/accuracy/cmd/accuracy
	@bin/accuracy $(ACCURACY)

.PHONY: bench-wide
bench-wide: ## frames of 25,000 features and batches of 64 of them, beside the memory bandwidth of the same run (out/wide.json)
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./services/stream-processor/cmd/benchwide
	@bin/benchwide -out out/wide.json

.PHONY: bench-lake
bench-lake: ## readings into Parquet beside parquet-go's generic writer, arrow-go and pyarrow in one run; installs that into out/venv (out/lake.json)
	@mkdir -p bin out
	@test -x out/venv/bin/python || python3 -m venv out/venv || { echo "MISSING: python3 with the venv module (Debian: python3-venv)"; rm -rf out/venv; exit 1; }
	@out/venv/bin/python -m pip --version >/dev/null 2>&1 || { echo "MISSING: pip in out/venv"; exit 1; }
	@out/venv/bin/python -c 'import pyarrow' 2>/dev/null || out/venv/bin/python -m pip install --quiet pyarrow==26.0.1 || { echo "MISSING: pyarrow 26.0.1 could not be installed from the package index"; exit 1; }
	$(GO) build -trimpath -o bin/ ./services/cold-path-writer/cmd/benchlake
	cd deploy/bench/lake && GOWORK=off $(GO) build -trimpath -o $(CURDIR)/bin/bench-lake .
	@bin/bench-lake -out out/lake.json

.PHONY: journeys
journeys: build ## ten journeys through the page in Chromium on the real stack, one with the API killed (pictures below out/images, to be looked at and kept in docs/images)
	cd services/realtime-api/web && npm ci --no-audit --no-fund
	mkdir -p out/images
	cd deploy/e2e && GOWORK=off TOCSIN_SHOTS=$(CURDIR)/out/images TOCSIN_REQUIRE_REAL=1 $(GO) test -tags journeys -run 'Test(Real)?Journeys$$' -count=1 -timeout 30m -v .

.PHONY: bench-page
bench-page: build ## the web page in a browser: 10,000 machines at full rate, frames a second, memory over MINUTES (default 30), and from a frame to the screen (out/page.json)
	cd services/realtime-api/web && npm ci --no-audit --no-fund
	cd services/realtime-api && GOWORK=off BENCH_MINUTES=$(or $(MINUTES),30) BENCH_OUT=$(CURDIR)/out/page.json TOCSIN_BINARY=$(CURDIR)/bin/tocsin \
		$(GO) test -tags bench -run TestBenchPage -count=1 -timeout 0 -v .

.PHONY: bench-stream
bench-stream: build ## 1,000 WebSocket clients on 10,000 machines at full rate, then cut at random: the server's CPU and memory, and that a resume loses nothing; 3 minutes (out/stream.json)
	@mkdir -p out
	cd services/realtime-api && GOWORK=off BENCH_OUT=$(CURDIR)/out/stream.json TOCSIN_BINARY=$(CURDIR)/bin/tocsin $(GO) test -tags bench -run TestBenchStream -count=1 -timeout 20m -v .

.PHONY: bench-memory
bench-memory: ## heap bytes per sensor at 100,000 sensors with the default detectors, and what for (out/memory.json)
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./services/stream-processor/cmd/benchmemory
	@bin/benchmemory -out out/memory.json

.PHONY: bench-iforest
bench-iforest: ## the isolation forest beside scikit-learn in one run; installs that into out/venv (out/iforest.json)
	@mkdir -p bin out
	@test -x out/venv/bin/python || python3 -m venv out/venv || { echo "MISSING: python3 with the venv module (Debian: python3-venv)"; rm -rf out/venv; exit 1; }
	@out/venv/bin/python -m pip --version >/dev/null 2>&1 || { echo "MISSING: pip in out/venv"; exit 1; }
	@out/venv/bin/python -c 'import sklearn' 2>/dev/null || out/venv/bin/python -m pip install --quiet scikit-learn==1.9.1 || { echo "MISSING: scikit-learn 1.9.1 could not be installed from the package index"; exit 1; }
	$(GO) build -trimpath -o bin/ ./services/model-trainer/cmd/benchiforest
	@bin/benchiforest -python out/venv/bin/python -out out/iforest.json

.PHONY: lake-day
lake-day: ## a day of 10,000 machines in the lake: files before and after merging, one machine's day and the fleet's hourly means, cold (out/lake-day.json; 4 GB of disk meanwhile)
	@mkdir -p bin out
	$(GO) build -trimpath -o bin/ ./services/historical-api/cmd/historical-api ./services/cold-path-writer/cmd/lake-day
	CGO_ENABLED=1 $(GO) build -trimpath -o bin/ ./services/historical-api/cmd/sql-worker
	@bin/lake-day $(LAKE_DAY)

.PHONY: helm-test
helm-test: build ## render the Helm chart and check every object (builds Helm: minutes the first time)
	cd deploy/helmtest && GOWORK=off $(GO) test -count=1 ./...

.PHONY: iceberg-check
iceberg-check: iceberg $(TOOLS)/golangci-lint ## the Iceberg committer built, linted, tidy, and its tests but for a REST catalog and other engines (make iceberg-test); CI runs it
	cd services/iceberg-committer && export GOWORK=off && $(GO) vet ./... && $(GO) mod tidy -diff && $(CURDIR)/$(TOOLS)/golangci-lint run --config $(CURDIR)/.golangci.yml ./... && \
		$(GO) test -count=1 -timeout 10m -run '/(directory|S3)_and_(SQLite|PostgreSQL)' -skip '^TestOtherEnginesReadTheSame$$' ./...

.PHONY: iceberg-test
iceberg-test: ## the Iceberg tables: faults, S3 and PostgreSQL, a REST catalog, and pyiceberg, pyarrow and DuckDB reading the same; installs those into out/venv-iceberg (minutes the first time)
	@mkdir -p out
	@test -x out/venv-iceberg/bin/python || python3 -m venv out/venv-iceberg || { echo "MISSING: python3 with the venv module (Debian: python3-venv)"; rm -rf out/venv-iceberg; exit 1; }
	@out/venv-iceberg/bin/python -c 'import pyiceberg, duckdb, pyarrow, s3fs, sqlalchemy, psycopg2' 2>/dev/null || \
		out/venv-iceberg/bin/python -m pip install --quiet "pyiceberg[sql-sqlite,pyarrow,s3fs]==0.12.0" pyarrow==26.0.1 duckdb==2.0.0 psycopg2-binary || { echo "MISSING: pyiceberg could not be installed from the package index"; exit 1; }
	@test -d out/rest-catalog || mvn -q -B -f services/iceberg-committer/internal/icebergtable/testdata/rest/pom.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/out/rest-catalog" || { echo "MISSING: Maven, or the REST catalog's jars"; rm -rf out/rest-catalog; exit 1; }
	cd services/iceberg-committer && GOWORK=off TOCSIN_ICEBERG_REST="$(CURDIR)/out/rest-catalog" TOCSIN_PYICEBERG="$(CURDIR)/out/venv-iceberg/bin/python" $(GO) test -count=1 ./...

.PHONY: lake-checks
lake-checks: ## scheduled checks: precision and recall over 2 x 100 generated businesses (out/checks.json), then the service killed while it makes up for weeks of runs
	@mkdir -p out
	TOCSIN_CHECKS_SERIES=100 TOCSIN_CHECKS_OUT="$(CURDIR)/out/checks.json" $(GO) test -count=1 -timeout 30m -v -run '^TestSeeded$$' ./services/historical-api/internal/usage
	TOCSIN_REQUIRE_REAL=1 $(GO) test -count=1 -timeout 30m -v -run '^(TestSeededUsage|TestKilledChecks)$$' ./services/historical-api

ICEBERG_SPARK := iceberg-spark-runtime-4.1_2.13-1.12.0.jar
SQLITE_JDBC   := sqlite-jdbc-3.54.1.0.jar
# What is given to deploy/proof/cmd/lakeproof, e.g. LAKE_FLAGS="-machines 20 -kills 5 -committer-kills 3" (200,000 readings, some 4 minutes).
LAKE_FLAGS ?=
.PHONY: lake-proof
lake-proof: build iceberg ## 10 M readings through the real stack, writer and Iceberg committer killed all the time; then DuckDB, pyarrow, ClickHouse, Spark and pyiceberg must find them all and agree, also after merges, retention and a new column; runs the recipes of docs/LAKE.md (out/lake-proof.json); installs the engines into out (1.7 GB)
	@mkdir -p out/jars
	@test -x out/venv-lake/bin/python || python3 -m venv out/venv-lake || { echo "MISSING: python3 with the venv module (Debian: python3-venv)"; rm -rf out/venv-lake; exit 1; }
	@out/venv-lake/bin/python -c 'import pyiceberg, duckdb, pyarrow, sqlalchemy, pyspark, chdb' 2>/dev/null || \
		out/venv-lake/bin/python -m pip install --quiet "pyiceberg[sql-sqlite,pyarrow]==0.12.0" pyarrow==26.0.1 duckdb==2.0.0 pyspark==4.1.4 chdb==4.4.0 || { echo "MISSING: the engines could not be installed from the package index"; exit 1; }
	@test -s out/jars/$(ICEBERG_SPARK) || curl -sSf -o out/jars/$(ICEBERG_SPARK) https://repo1.maven.org/maven2/org/apache/iceberg/iceberg-spark-runtime-4.1_2.13/1.12.0/$(ICEBERG_SPARK)
	@test -s out/jars/$(SQLITE_JDBC) || curl -sSf -o out/jars/$(SQLITE_JDBC) https://repo1.maven.org/maven2/org/xerial/sqlite-jdbc/3.54.1.0/$(SQLITE_JDBC)
	$(GO) build -trimpath -o bin/ ./deploy/proof/cmd/lakeproof
	bin/lakeproof -out out/lake-proof.json -python out/venv-lake/bin/python -jars out/jars/$(ICEBERG_SPARK),out/jars/$(SQLITE_JDBC) $(LAKE_FLAGS)

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (default 30s)
	@for m in $(MODULES); do (cd $$m && for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $${FUZZTIME:-30s} $$p || exit 1; done; done) || exit 1; done

.PHONY: clean
clean: ## remove what was built; data in .tocsin and .stack stays
	rm -rf bin out

$(TOOLS)/%: deploy/tools/install.sh $(wildcard deploy/tools/*/go.sum) deploy/tools/go.sum
	deploy/tools/install.sh $*
	@touch $@
