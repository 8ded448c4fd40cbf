package realtimeapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
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
