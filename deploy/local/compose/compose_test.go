// Package compose_test checks docker-compose.yml against the local stack: no container engine is needed.
package compose_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
)

// repo is a link to the root: what is read through it stands inside the module, so that `go test` sees it change and does not
// answer from its cache.
const repo = "testdata/repo"

// onlyInCompose lists services that the local stack has no process for.
func onlyInCompose() []string { return []string{"grafana"} }

func ours() []string {
	return []string{"ingest-gateway", "stream-processor", "alert-router", "cold-path-writer", "realtime-api", "historical-api", "model-trainer", "tuning-bench", "iceberg-committer"}
}

func load(t *testing.T) *types.Project {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{filepath.Join(repo, "docker-compose.yml")}, cli.WithWorkingDirectory(repo), cli.WithProfiles([]string{"iceberg"}))
	if err != nil {
		t.Fatal(err)
	}
	// The loader checks against the specification's schema and refuses what it does not know.
	p, err := opts.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{repo}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func local(t *testing.T) *stack.Stack {
	t.Helper()
	s, err := stack.New(stack.Options{Dir: t.TempDir(), Repo: repo})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSameServicesAndPortsAsTheLocalStack(t *testing.T) {
	p, s := load(t), local(t)
	want := onlyInCompose()
	for _, name := range s.Names() {
		want = append(want, strings.TrimSuffix(name, "-1")) // kafka-1
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(p.Services)); !slices.Equal(got, want) {
		t.Errorf("services\n%q, want\n%q", got, want)
	}
	for name, service := range p.Services {
		if slices.Contains(onlyInCompose(), name) {
			continue
		}
		want := []string{s.Addr(name)}
		if grpc := s.Addr(name + "-grpc"); grpc != "" {
			want = append(want, grpc)
		}
		var got []string
		for _, port := range service.Ports {
			got = append(got, port.HostIP+":"+port.Published)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s publishes %q, want %q", name, got, want)
		}
	}
}

func TestEveryServiceIsPinnedCheckedAndConfined(t *testing.T) {
	pinned := regexp.MustCompile(`^[a-z0-9./-]+:v?[0-9]+\.[0-9]+(\.[0-9]+)?$`)
	p := load(t)
	for name, s := range p.Services {
		own := slices.Contains(ours(), name)
		switch {
		case own && (s.Build == nil || s.Image != "tocsin/"+name+":local"):
			t.Errorf("%s: image %q is not built here", name, s.Image)
		case !own && !pinned.MatchString(s.Image):
			t.Errorf("%s: image %q is not pinned by a version", name, s.Image)
		}
		if s.HealthCheck == nil || len(s.HealthCheck.Test) < 2 || s.HealthCheck.Disable {
			t.Errorf("%s has no health check", name)
		}
		if s.Privileged || len(s.CapAdd) > 0 || s.NetworkMode == "host" || s.Pid == "host" {
			t.Errorf("%s has more rights than it needs", name)
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may gain privileges", name)
		}
		if s.MemLimit == 0 {
			t.Errorf("%s has no memory limit", name)
		}
		if s.Restart != types.RestartPolicyUnlessStopped {
			t.Errorf("%s: restart is %q", name, s.Restart)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s beyond loopback", name, port.Published)
			}
		}
		for dep, how := range s.DependsOn {
			if how.Condition != types.ServiceConditionHealthy {
				t.Errorf("%s waits for %s to be %q", name, dep, how.Condition)
			}
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
					t.Errorf("%s mounts %s: read-only %t, %v", name, v.Source, v.ReadOnly, err)
				}
			}
		}
		if own {
			checkOwn(t, name, s)
		}
	}
}

func checkOwn(t *testing.T, name string, s types.ServiceConfig) {
	t.Helper()
	if !s.ReadOnly || s.User != "65532:65532" || !slices.Equal(s.CapDrop, []string{"ALL"}) {
		t.Errorf("%s: read-only %t, user %q, dropped capabilities %q", name, s.ReadOnly, s.User, s.CapDrop)
	}
	if arg := s.Build.Args["SERVICE"]; arg == nil || *arg != name {
		t.Errorf("%s is built with another SERVICE", name)
	}
	if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	store := "kafka"
	if name == "iceberg-committer" { // sees the lake only
		store = "s3"
	}
	if _, needs := s.DependsOn[store]; !needs {
		t.Errorf("%s does not wait for %s", name, store)
	}
}

// One version of each part, wherever it stands.
func TestVersionsAgree(t *testing.T) {
	p := load(t)
	tag := func(service string) string {
		_, tag, _ := strings.Cut(p.Services[service].Image, ":")
		return tag
	}
	var pom struct {
		Properties struct {
			Kafka string `xml:"kafka.version"`
		} `xml:"properties"`
	}
	if err := xml.Unmarshal(read(t, "deploy/local/stack/kafka-pom.xml"), &pom); err != nil {
		t.Fatal(err)
	}
	if tag("kafka") != pom.Properties.Kafka {
		t.Errorf("kafka: image %s, jars %s", tag("kafka"), pom.Properties.Kafka)
	}
	m := regexp.MustCompile(`github.com/versity/versitygw (v\S+)`).FindSubmatch(read(t, "deploy/tools/versitygw/go.mod"))
	if m == nil || tag("s3") != string(m[1]) {
		t.Errorf("s3: image %s, tool %s", tag("s3"), m)
	}
	if tag("victoria-metrics") != tag("vmalert") {
		t.Errorf("victoria-metrics %s and vmalert %s", tag("victoria-metrics"), tag("vmalert"))
	}
}

// What the broker is told must not differ between the two stacks, but for addresses and folders.
func TestBrokerSettingsAgree(t *testing.T) {
	env := load(t).Services["kafka"].Environment
	place := regexp.MustCompile(`^(process\.roles|node\.id|.*listener.*|controller\..*|log\.dirs)$`)
	for line := range strings.Lines(local(t).KafkaProperties(1)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") || place.MatchString(key) {
			continue
		}
		name := "KAFKA_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		got := env[name]
		if got == nil || *got != value {
			t.Errorf("%s is not %s in docker-compose.yml", name, value)
		}
	}
}

// paths lists the keys of a YAML mapping, dotted.
func paths(prefix string, m map[string]any, into map[string]bool) {
	for k, v := range m {
		if sub, ok := v.(map[string]any); ok {
			paths(prefix+k+".", sub, into)
			continue
		}
		into[prefix+k] = true
	}
}

func fleetKeys(t *testing.T, b []byte) map[string]bool {
	t.Helper()
	var m map[string]any
	dec := yaml.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&m); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	paths("", m, keys)
	return keys
}

func TestFleetConfigurationsAgree(t *testing.T) {
	generated, err := local(t).FleetConfig()
	if err != nil {
		t.Fatal(err)
	}
	want := fleetKeys(t, generated)
	// Containers listen on all their addresses, which gateway, history, trainer, tuning bench and realtime-api refuse without an explicit word, and have no address of their own
	// that a person could follow.
	want["ingest_gateway.auth.allow_anonymous"] = true
	want["historical_api.auth.allow_anonymous"] = true
	want["model_trainer.auth.allow_anonymous"] = true
	want["tuning_bench.auth.allow_anonymous"] = true
	want["stream_processor.auth.allow_anonymous"] = true
	want["realtime_api.auth.allow_anonymous"] = true
	want["alert_router.external_url"] = true
	if got := fleetKeys(t, read(t, "deploy/docker/tocsin.yaml")); !maps.Equal(got, want) {
		t.Errorf("keys of deploy/docker/tocsin.yaml\n%q, want\n%q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// The real reader of the configuration has the last word.
func TestFleetConfigurationsAreValid(t *testing.T) {
	tocsin, err := filepath.Abs(filepath.Join(repo, "bin", "tocsin"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tocsin); errors.Is(err, os.ErrNotExist) {
		stacktest.Need(t, &stack.MissingError{Component: "tocsin validate", What: "bin/tocsin", Install: "make build"})
	}
	generated, err := local(t).FleetConfig()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tocsin.yaml")
	if err := os.WriteFile(file, generated, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(repo, "deploy/docker/tocsin.yaml")} {
		cmd := exec.CommandContext(t.Context(), tocsin, "validate", "--config", path)
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "PGPASSWORD=c")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}
