package realtimeapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// running is a service under test.
type running struct {
	t    testing.TB
	svc  *Service
	url  string
	stop func()
}

func startAt(t testing.TB, k kafka.Config, addr string, change func(*Config)) *running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.Listen = addr
	cfg.HTTP.DrainTimeout = time.Second
	cfg.GRPC.Listen, cfg.GRPC.DrainTimeout = "127.0.0.1:0", time.Second
	if change != nil {
		change(&cfg)
	}
	deps := service.Nop()
	deps.Kafka = k
	svc, err := New(cfg, deps)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	stopped := false
	r := &running{t: t, svc: svc, url: "http://" + svc.Addr()}
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not end within 10 s")
		}
		http.DefaultClient.CloseIdleConnections()
	}
	t.Cleanup(r.stop)
	eventually(t, 20*time.Second, "ready", func() bool { return svc.Ready() == nil })
	return r
}

// eventually waits for a condition.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not %s after %s", what, limit)
		case <-tick.C:
		}
	}
}

// get reads a path and decodes its JSON.
func (r *running) get(path string) (int, map[string]any) {
	r.t.Helper()
	status, body, _ := r.raw(path)
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		r.t.Fatalf("GET %s: %d %s: %v", path, status, body, err)
	}
	return status, v
}

func (r *running) raw(path string) (int, []byte, http.Header) {
	r.t.Helper()
	resp, err := http.Get(r.url + path)
	if err != nil {
		r.t.Fatalf("GET %s: %v", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("GET %s: %v", path, err)
	}
	return resp.StatusCode, body, resp.Header
}

func TestServesWhatIsLive(t *testing.T) {
	k := kafkatest.Start(t, 3)
	f := newFixture(t, k)
	f.windows(f.window("pump-1", 0, 3, nil, false), f.window("pump-1", windowUS, 3, nil, false))
	r := start(t, k, nil)
	if status, v := r.get("/v1/machines/pump-1"); status != 200 || v["machine"].(map[string]any)["state"] != "MACHINE_STATE_OK" {
		t.Fatalf("%d %v", status, v)
	}
	f.alert(alertOf("pump-1", "limit", eventv1.Severity_SEVERITY_CRITICAL, 5, "hot"))
	eventually(t, 20*time.Second, "critical", func() bool {
		_, v := r.get("/v1/machines?state=critical")
		return v["total"] == 1.0
	})
	for path, want := range map[string]string{
		"/": "text/html", "/assets/app.js": "text/javascript", "/assets/app.css": "text/css", "/third-party-licences.txt": "text/plain",
		"/openapi.yaml": "application/yaml", "/metrics": "text/plain", "/health/ready": "application/json", "/health/live": "application/json",
		"/status/config": "application/json",
	} {
		status, body, header := r.raw(path)
		if status != 200 || !strings.HasPrefix(header.Get("Content-Type"), want) || len(body) == 0 {
			t.Errorf("GET %s: %d %s, %d bytes", path, status, header.Get("Content-Type"), len(body))
		}
	}
	_, body, _ := r.raw("/metrics")
	for _, name := range []string{"tocsin_api_machines 1", `tocsin_api_alerts{state="open"} 1`, "tocsin_api_stream_clients 0", "tocsin_api_records_total{"} {
		if !strings.Contains(string(body), name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
	if status, _, _ := r.raw("/nothing"); status != 404 {
		t.Errorf("GET /nothing: %d", status)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	cfg := DefaultConfig()
	cfg.HTTP.Listen, cfg.GRPC.Listen = "127.0.0.1:0", "127.0.0.1:0"
	svc, err := New(cfg, service.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if svc.Ready() == nil {
		t.Error("ready before Run")
	}
	for range 2 {
		if err := svc.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigNamesTheField(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for field, breakIt := range map[string]func(*Config){
		"http.listen":            func(c *Config) { c.HTTP.Listen = "nowhere" },
		"grpc.listen":            func(c *Config) { c.GRPC.Listen = "nowhere" },
		"grpc.tls.key_file":      func(c *Config) { c.GRPC.TLS.CertFile = "x" },
		"look_back":              func(c *Config) { c.LookBack = -1 },
		"keep.windows":           func(c *Config) { c.Keep.Windows = 0 },
		"keep.cells":             func(c *Config) { c.Keep.Cells = -1 },
		"stream.interval":        func(c *Config) { c.Stream.Interval = 0 },
		"stream.write_timeout":   func(c *Config) { c.Stream.WriteTimeout = 0 },
		"stream.ping_interval":   func(c *Config) { c.Stream.PingInterval = 0 },
		"stream.max_clients":     func(c *Config) { c.Stream.MaxClients = 0 },
		"stream.allowed_origins": func(c *Config) { c.Stream.AllowedOrigins = []string{"["} },
		"auth.people":            func(c *Config) { c.HTTP.Listen = "0.0.0.0:0" },
		"auth.people[0].token":   func(c *Config) { c.Auth.People = []Person{{Name: "a", Token: "short", Equipment: []string{"*"}}} },
		"auth.session_lifetime":  func(c *Config) { c.Auth.SessionLifetime = 0 },
		"backends.alert_router":  func(c *Config) { c.Backends.AlertRouter = "127.0.0.1:8083" },
		"backends.ca_file":       func(c *Config) { c.Backends.CAFile = "/nowhere" },
		"places.id_pattern":      func(c *Config) { c.Places.IDPattern = "(" },
		"places.rules[0]":        func(c *Config) { c.Places.Rules = []Place{{Equipment: []string{"*"}}} },
	} {
		c := DefaultConfig()
		breakIt(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// A second listener open to others lets in nobody unasked either.
func TestEveryListenerCounts(t *testing.T) {
	c := DefaultConfig()
	c.GRPC.Listen = "0.0.0.0:0"
	if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), "auth.people: empty, so anybody who reaches grpc.listen") {
		t.Error(err)
	}
	c.Auth.AllowAnonymous = true
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
