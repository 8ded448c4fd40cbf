//go:build cgo && journeys

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
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
	node, chromium := browserTools(t)
	p := run(t, []string{"TOCSIN_COLD_PATH_WRITER_CHUNK_INTERVAL=5s"},
		"--data-dir", t.TempDir(), "--simulate", "12", "--faults", faults(t, "10m5s"))
	travel(t, node, map[string]any{"page": p.addrs["Live page"], "chromium": chromium, "fails": "spindle-0001", "find": "fan-0001"}, nil)
	p.interrupt(t)
}

// The same on Kafka, PostgreSQL and S3, each service a process of its own; the API is killed and started again. `make journeys` keeps the pictures.
func TestRealJourneys(t *testing.T) {
	node, chromium := browserTools(t)
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
	steps := map[string]func() error{
		"stop":  func() error { return s.Kill("realtime-api", syscall.SIGKILL) },
		"start": func() error { return s.Start(ctx, "realtime-api") },
	}
	travel(t, node, map[string]any{"page": "http://" + s.Addr("realtime-api"), "chromium": chromium, "fails": "spindle-0001", "find": "fan-0001", "restart": true, "shots": os.Getenv("TOCSIN_SHOTS")}, steps)
}

// travel runs the script and does what it asks for.
func travel(t *testing.T, node string, options map[string]any, steps map[string]func() error) {
	t.Helper()
	options["profile"] = t.TempDir()
	arg, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "e2e/journeys.mjs", string(arg))
	cmd.Dir = filepath.Join(repo(t), "services", "realtime-api", "web")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	passed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		t.Log(line)
		passed = passed || strings.HasPrefix(line, "PASS")
		name, isStep := strings.CutPrefix(line, "STEP ")
		if !isStep {
			continue
		}
		answer := "done"
		if do := steps[name]; do == nil {
			answer = "unknown"
		} else if err := do(); err != nil {
			answer = err.Error()
		}
		_, _ = io.WriteString(in, strings.ReplaceAll(answer, "\n", " ")+"\n") // a script that is gone fails below
	}
	if err := cmd.Wait(); err != nil || !passed {
		t.Fatalf("journeys: %v", err)
	}
}

// browserTools finds node, a Chromium and the driver, or skips; TOCSIN_REQUIRE_REAL=1 makes a missing one a failure.
func browserTools(t *testing.T) (node, chromium string) {
	t.Helper()
	missing := func(format string, args ...any) {
		t.Helper()
		msg := "THE JOURNEYS ARE NOT TRAVELLED: " + fmt.Sprintf(format, args...)
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing("node is not installed")
	}
	for _, name := range []string{os.Getenv("TOCSIN_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); name != "" && err == nil {
			chromium = p
			break
		}
	}
	if chromium == "" {
		missing("no Chromium is installed (Debian: apt-get install chromium); TOCSIN_CHROMIUM may name one")
	}
	if _, err := os.Stat(filepath.Join(repo(t), "services", "realtime-api", "web", "node_modules", "playwright-core")); err != nil {
		missing("playwright-core is not installed: run npm ci in services/realtime-api/web")
	}
	return node, chromium
}
