//go:build cgo && journeys

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
	"github.com/tocsin-io/tocsin/pkg/browsertest"
)

// failures are those of the fleet: a spindle's bearing wears soon after the history of ten minutes that is sent first; three others do later, for the pictures.
const failures = `faults:
  - {id: worn-bearing, kind: bearing_wear, machines: [spindle-0001], start: %s, duration: 30m, ramp: 10s, magnitude: 0.9}
  - {id: stuck, kind: sensor_stuck, machines: [compressor-0001], sensors: [oil_temperature], start: %[1]s, duration: 30m}
  - {id: leak, kind: leak, machines: [pump-0001], start: 10m50s, duration: 30m, ramp: 10s, magnitude: 0.8}
  - {id: unplugged, kind: silence, machines: [fan-0002], start: 10m50s, duration: 30m}
`

func faults(t *testing.T, start string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "faults.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, failures, start), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The journeys of the people who live with the page, with everything in one process. The script is that of TestRealJourneys; only addresses differ.
func TestJourneys(t *testing.T) {
	b := browser(t)
	p := run(t, []string{"TOCSIN_COLD_PATH_WRITER_CHUNK_INTERVAL=5s"},
		"--data-dir", t.TempDir(), "--simulate", "12", "--faults", faults(t, "10m5s"))
	travel(t, b, map[string]any{"page": p.addrs["Live page"], "fails": "spindle-0001", "find": "fan-0001"}, nil)
	p.interrupt(t)
}

// The same on Kafka, PostgreSQL and S3, each service a process of its own; the API is killed and started again. `make journeys` keeps the pictures.
func TestRealJourneys(t *testing.T) {
	b := browser(t)
	s := stacktest.Up(t, stack.Options{
		Only:          []string{"realtime-api", "ingest-gateway", "stream-processor", "alert-router", "cold-path-writer", "historical-api", "model-trainer", "tuning-bench"},
		HealthTimeout: patience,
		Config:        map[string]any{"cold_path_writer": map[string]any{"chunk": map[string]any{"interval": "10s"}}},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sim := exec.CommandContext(ctx, binary(t, "tocsin"), "simulate", "--machines", "24", "--history", "10m", "--faults", faults(t, "10m20s"), "--truth", filepath.Join(t.TempDir(), "truth.jsonl"), "--to", "http://"+s.Addr("ingest-gateway"))
	sim.Stderr = os.Stderr
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = sim.Wait() }()
	did := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	steps := map[string]func(){
		"stop":  func() { did(s.Kill("realtime-api", syscall.SIGKILL)) },
		"start": func() { did(s.Start(ctx, "realtime-api")) },
	}
	travel(t, b, map[string]any{"page": "http://" + s.Addr("realtime-api"), "fails": "spindle-0001", "find": "fan-0001", "restart": true, "shots": os.Getenv("TOCSIN_SHOTS")}, steps)
}

// travel runs the script and does what it asks for.
func travel(t *testing.T, b *browsertest.Browser, options map[string]any, steps map[string]func()) {
	t.Helper()
	options["profile"], options["chromium"] = t.TempDir(), b.Chromium
	arg, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	b.Run(t, 4*patience, steps, "e2e/journeys.mjs", string(arg))
}

func browser(t *testing.T) *browsertest.Browser {
	t.Helper()
	return browsertest.Find(t, filepath.Join(repo(t), "services", "realtime-api", "web"))
}
