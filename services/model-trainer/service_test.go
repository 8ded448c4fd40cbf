package modeltrainer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a running service over a folder.
type fixture struct {
	t    *testing.T
	dir  string
	base string
	http *http.Client
	stop func()
	// token goes with every request; "": none does.
	token string
}

func start(t *testing.T, dir string, change func(*Config)) *fixture {
	t.Helper()
	return startOn(t, dir, kafka.Config{}, change)
}

func startOn(t *testing.T, dir string, k kafka.Config, change func(*Config)) *fixture {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Models.URL = "file://" + filepath.Join(dir, "models")
	cfg.Lake.URL = "file://" + filepath.Join(dir, "lake")
	cfg.DataDir = filepath.Join(dir, "data")
	if change != nil {
		change(&cfg)
	}
	deps := service.Nop()
	deps.Kafka = k
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	transport := &http.Transport{}
	f := &fixture{t: t, dir: dir, base: "http://" + s.Addr(), http: &http.Client{Transport: transport, Timeout: 5 * time.Minute}}
	stopped := false
	f.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		transport.CloseIdleConnections()
	}
	t.Cleanup(f.stop)
	for deadline := time.Now().Add(5 * time.Minute); ; {
		if status, _ := f.do("GET", "/health/ready", ""); status == http.StatusOK {
			return f
		}
		if time.Now().After(deadline) {
			t.Fatal("not ready")
		}
	}
}

// do returns the status and the answer.
func (f *fixture) do(method, path, body string) (int, map[string]any) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, f.base+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if f.token != "" {
		r.Header.Set("Authorization", "Bearer "+f.token)
	}
	a, err := f.http.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(b, &out); err != nil && !strings.HasPrefix(path, "/health") {
		f.t.Fatalf("%s %s: %d %s", method, path, a.StatusCode, b)
	}
	return a.StatusCode, out
}

func (f *fixture) file(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, "data", name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func usual(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.WriteString("time,temperature,pressure,note\n")
	for i := range n {
		fmt.Fprintf(&b, "%d,%.3f,%.3f,x\n", 1_700_000_000+60*i, 70+r.NormFloat64(), 3+0.1*r.NormFloat64())
	}
	return b.String()
}

// TestTrainScoreAndReplace: train, score one row and many, train a challenger, compare, let it take over; a restarted service knows all of it and gives the same scores.
func TestTrainScoreAndReplace(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir, nil)
	f.file("pump.csv", usual(400))
	status, answer := f.do("POST", "/v1/models", `{"name":"pump","algorithm":"isolation_forest","file":"pump.csv","ignore_columns":["note"],"time_column":"time"}`)
	if status != http.StatusCreated {
		t.Fatal(status, answer)
	}
	first := answer["model"].(string)
	if !strings.HasPrefix(first, "pump@") || "pump@"+answer["champion"].(string) != first {
		t.Fatal(answer)
	}

	const batch = `{"rows":[{"temperature":70,"pressure":3},[70.5,3.1],{"temperature":90,"pressure":9}]}`
	status, scored := f.do("POST", "/v1/models/pump/score", batch)
	if status != http.StatusOK {
		t.Fatal(status, scored)
	}
	rows := scored["results"].([]any)
	last := rows[2].(map[string]any)
	if len(rows) != 3 || last["anomaly"] != true || rows[0].(map[string]any)["anomaly"] != false || !(last["p_value"].(float64) < 0.01) {
		t.Fatal(scored)
	}
	_, single := f.do("POST", "/v1/models/"+first+"/score", `{"row":{"temperature":90,"pressure":9}}`)
	if got := single["results"].([]any)[0].(map[string]any); got["score"] != last["score"] {
		t.Fatalf("alone %v, in the batch %v", got, last)
	}

	for algorithm, parameters := range map[string]string{"lof": `{}`, "one_class_svm": `{"width":64,"epochs":3}`} {
		status, answer = f.do("POST", "/v1/models", `{"name":"pump","algorithm":"`+algorithm+`","file":"pump.csv","ignore_columns":["note","time"],"parameters":`+parameters+`}`)
		if status != http.StatusCreated || "pump@"+answer["champion"].(string) != first || "pump@"+answer["challenger"].(string) != answer["model"] {
			t.Fatal(status, answer)
		}
	}
	_, both := f.do("POST", "/v1/models/pump/score", batch)
	if c := both["challenger"].(map[string]any); both["model"] != first || c["model"] != answer["model"] || len(c["results"].([]any)) != 3 || both["agreement"].(float64) < 0.6 {
		t.Fatal(both)
	}
	challenger := answer["challenger"].(string)
	if status, answer := f.do("PUT", "/v1/models/pump/roles", `{"champion":"`+challenger+`"}`); status != http.StatusOK {
		t.Fatal(status, answer)
	}

	f.stop()
	f = start(t, dir, nil)
	_, after := f.do("POST", "/v1/models/pump/score", batch)
	if after["model"] != "pump@"+challenger || after["challenger"] != nil {
		t.Fatal(after)
	}
	_, old := f.do("POST", "/v1/models/"+first+"/score", batch)
	if !slices.Equal(scores(old), scores(scored)) {
		t.Fatalf("%v after the restart, %v before", scores(old), scores(scored))
	}
	_, shown := f.do("GET", "/v1/models/pump", "")
	if len(shown["versions"].([]any)) != 3 {
		t.Fatal(shown)
	}
	_, all := f.do("GET", "/v1/models", "")
	if len(all["models"].([]any)) != 1 {
		t.Fatal(all)
	}
}

func scores(answer map[string]any) []float64 {
	var out []float64
	for _, r := range answer["results"].([]any) {
		out = append(out, r.(map[string]any)["score"].(float64))
	}
	return out
}

// TestSeasonalByTime: a series with a daily course; the value that is usual at noon is an anomaly at midnight.
func TestSeasonalByTime(t *testing.T) {
	f := start(t, t.TempDir(), nil)
	r := rand.New(rand.NewPCG(3, 4))
	var b strings.Builder
	b.WriteString("at;load\n")
	for i := range 24 * 30 {
		level := 10.0
		if i%24 >= 8 && i%24 < 18 {
			level = 50
		}
		fmt.Fprintf(&b, "%s;%.3f\n", time.Unix(1_700_006_400+3600*int64(i), 0).UTC().Format(time.RFC3339), level+r.NormFloat64())
	}
	f.file("load.csv", b.String())
	if status, answer := f.do("POST", "/v1/models", `{"name":"load","algorithm":"seasonal","file":"load.csv","time_column":"at","parameters":{"period":24}}`); status != http.StatusCreated {
		t.Fatal(status, answer)
	}
	status, answer := f.do("POST", "/v1/models/load/score", `{"rows":[[50],[50],[10]],"times":["2024-02-01T12:00:00Z","2024-02-02T00:00:00Z",1706835600]}`)
	if status != http.StatusOK {
		t.Fatal(status, answer)
	}
	got := answer["results"].([]any)
	if got[0].(map[string]any)["anomaly"] != false || got[1].(map[string]any)["anomaly"] != true || got[2].(map[string]any)["anomaly"] != false {
		t.Fatal(answer)
	}
	if status, answer := f.do("POST", "/v1/models/load/score", `{"rows":[[50]]}`); status != http.StatusBadRequest || answer["field"] != "times" {
		t.Fatal(status, answer)
	}
}

// TestRefusalsNameTheField: what is wrong is said, and nothing outside the data folder is opened.
func TestRefusalsNameTheField(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir, func(c *Config) { c.MaxRows = 2; c.MaxBodyBytes = 4096 })
	f.file("pump.csv", usual(300))
	f.file("bad.csv", "a,b\n1,2\n3,x\n")
	if err := os.WriteFile(filepath.Join(dir, "secret.csv"), []byte(usual(10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "secret.csv"), filepath.Join(dir, "data", "link.csv")); err != nil {
		t.Fatal(err)
	}
	if status, answer := f.do("POST", "/v1/models", `{"name":"pump","algorithm":"isolation_forest","file":"pump.csv","ignore_columns":["note","time"]}`); status != http.StatusCreated {
		t.Fatal(status, answer)
	}
	const score = "/v1/models/pump/score"
	for _, c := range []struct {
		method, path, body string
		status             int
		field              any
	}{
		{"POST", "/v1/models", `{`, 400, "body"},
		{"POST", "/v1/models", `{"nam":"x"}`, 400, "body"},
		{"POST", "/v1/models", `{"name":"../x"}`, 400, "name"},
		{"POST", "/v1/models", `{"name":"x","algorithm":"lof","file":"nowhere.csv"}`, 400, "file"},
		{"POST", "/v1/models", `{"name":"x","algorithm":"lof","file":"../secret.csv"}`, 400, "file"},
		{"POST", "/v1/models", `{"name":"x","algorithm":"lof","file":"link.csv"}`, 400, "file"},
		{"POST", "/v1/models", `{"name":"x","algorithm":"lof","file":"."}`, 400, "file"},
		{"POST", "/v1/models", `{"name":"x","algorithm":"lof","file":"bad.csv"}`, 422, "file"},
		{"POST", "/v1/models", `{"name":"x","algorithm":"lof","file":"pump.csv"}`, 422, "file"},
		{"POST", "/v1/models", `{"name":"x","algorithm":"tree","file":"pump.csv","ignore_columns":["note"]}`, 400, "algorithm"},
		{"POST", "/v1/models", `{"name":"x","algorithm":"lof","file":"pump.csv","ignore_columns":["note"],"contamination":2}`, 400, "contamination"},
		{"POST", "/v1/models", `{"name":"x","algorithm":"lof","file":"pump.csv","ignore_columns":["note"],"parameters":{"k":1}}`, 400, "parameters"},
		{"POST", "/v1/models", `{"name":"` + strings.Repeat("x", 5000) + `"}`, 413, nil},
		{"POST", score, `{}`, 400, "rows"},
		{"POST", score, `{"rows":[[1,2],[1,2],[1,2]]}`, 400, "rows"},
		{"POST", score, `{"row":[1,2],"rows":[[1,2]]}`, 400, "row"},
		{"POST", score, `{"rows":[[1,2],[1]]}`, 400, "rows[1]"},
		{"POST", score, `{"rows":[{"temperature":1}]}`, 400, "rows[0].pressure"},
		{"POST", score, `{"rows":[{"temperature":1,"pressure":"2"}]}`, 400, "rows[0]"},
		{"POST", score, `{"rows":[{"temperature":1,"pressure":null}]}`, 400, "rows[0].pressure"},
		{"POST", score, `{"row":[1,1e300]}`, 400, "row[1]"},
		{"POST", score, `{"rows":[[1,2]],"times":[1,2]}`, 400, "times"},
		{"POST", "/v1/models/none/score", `{"row":[1,2]}`, 404, nil},
		{"POST", "/v1/models/pump@000000000000/score", `{"row":[1,2]}`, 404, nil},
		{"POST", "/v1/models/pump@x/score", `{"row":[1,2]}`, 400, "name"},
		{"GET", "/v1/models/none", ``, 404, nil},
		{"PUT", "/v1/models/pump/roles", `{}`, 400, "champion"},
		{"PUT", "/v1/models/pump/roles", `{"champion":"000000000000"}`, 404, nil},
	} {
		status, answer := f.do(c.method, c.path, c.body)
		if status != c.status || answer["field"] != c.field {
			t.Errorf("%s %s %.80s: %d %v", c.method, c.path, c.body, status, answer)
		}
		if detail := fmt.Sprint(answer["detail"]); strings.Contains(detail, dir) {
			t.Errorf("the answer tells folders: %s", detail)
		}
	}
}

// TestTokens: with clients listed nobody else is answered, and scoring gives no right to train.
func TestTokens(t *testing.T) {
	const reader, master = "reader-0123456789", "master-0123456789"
	f := start(t, t.TempDir(), func(c *Config) {
		c.Auth.Clients = []access.Client{{Name: "reader", Token: reader, Rights: "score"}, {Name: "master", Token: master, Rights: "train"}}
	})
	f.file("pump.csv", usual(300))
	const train = `{"name":"pump","algorithm":"isolation_forest","file":"pump.csv","ignore_columns":["note","time"]}`
	const row = `{"row":{"temperature":70,"pressure":3}}`
	for _, c := range []struct {
		token, method, path, body string
		status                    int
	}{
		{"", "POST", "/v1/models", train, 401},
		{"", "GET", "/v1/models", "", 401},
		{"guessed-0123456789", "GET", "/v1/models", "", 401},
		{"", "GET", "/health/ready", "", 200},
		{reader, "POST", "/v1/models", train, 403},
		{master, "POST", "/v1/models", train, 201},
		{reader, "GET", "/v1/models/pump", "", 200},
		{reader, "POST", "/v1/models/pump/score", row, 200},
		{reader, "PUT", "/v1/models/pump/roles", `{"champion":"000000000000"}`, 403},
		{master, "PUT", "/v1/models/pump/roles", `{"champion":"000000000000"}`, 404},
	} {
		f.token = c.token
		if status, answer := f.do(c.method, c.path, c.body); status != c.status {
			t.Errorf("%q: %s %s: %d %v, want %d", c.token, c.method, c.path, status, answer, c.status)
		}
	}
}

func TestCloseWithoutRun(t *testing.T) {
	cfg := DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Models.URL, cfg.Lake.URL, cfg.DataDir = "file://"+t.TempDir(), "", t.TempDir()
	s, err := New(cfg, service.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfigNamesTheField(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Config){
		"http.listen": func(c *Config) { c.HTTP.Listen = "x" }, "data_dir": func(c *Config) { c.DataDir = "" },
		"trainings": func(c *Config) { c.Trainings = 0 }, "max_train_rows": func(c *Config) { c.MaxTrainRows = 0 },
		"max_train_values": func(c *Config) { c.MaxTrainCells = 0 }, "max_rows": func(c *Config) { c.MaxRows = 0 },
		"max_body_bytes": func(c *Config) { c.MaxBodyBytes = 0 }, "max_model_bytes": func(c *Config) { c.MaxModelBytes = 0 },
		"cache_bytes": func(c *Config) { c.CacheBytes = 0 }, "auth.clients: empty": func(c *Config) { c.HTTP.Listen = "0.0.0.0:8087" },
		"auth.clients[0].token": func(c *Config) { c.Auth.Clients = []access.Client{{Name: "a", Rights: "score"}} },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
