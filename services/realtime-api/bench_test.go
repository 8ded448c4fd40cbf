//go:build bench

package realtimeapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/browsertest"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
)

// TestBenchPage measures the page in a browser: over a fleet that changes at full rate (windows into an embedded broker), and from a frame to the screen through `tocsin run`.
// See `make bench-page`.
func TestBenchPage(t *testing.T) {
	browser := browsertest.Find(t, "web")
	machines, minutes := 10_000, 3.0
	if s := os.Getenv("BENCH_MACHINES"); s != "" {
		machines, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("BENCH_MINUTES"); s != "" {
		minutes, _ = strconv.ParseFloat(s, 64)
	}
	out := os.Getenv("BENCH_OUT")
	binary := os.Getenv("TOCSIN_BINARY")
	if machines < 10 || minutes <= 0 || out == "" || binary == "" {
		t.Fatal("run `make bench-page`")
	}
	options := map[string]any{"chromium": browser.Chromium, "machines": machines + 1, "minutes": minutes, "pages": 5} // one is a replay of 2014
	if os.Getenv("BENCH_PART") != "fleet" {
		page, gateway := wholePath(t, binary)
		options["path"], options["gateway"] = page, gateway
	}
	if os.Getenv("BENCH_PART") != "path" {
		k := kafkatest.Start(t, 4)
		live := madeUpFleet(newFixture(t, k), machines)
		r := start(t, k, nil)
		options["fleet"] = r.url
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			live(ctx)
		}()
		defer func() {
			stop()
			<-done
		}()
	}
	arg, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), browser.Node, "e2e/bench.mjs", string(arg))
	cmd.Dir = "web"
	cmd.Stderr = os.Stderr
	result, err := cmd.Output()
	if err != nil {
		t.Fatalf("bench.mjs: %v", err)
	}
	var all map[string]any
	if err := json.Unmarshal(result, &all); err != nil {
		t.Fatalf("%v: %.300s", err, result)
	}
	all["recorded_at"], all["cores"] = time.Now().UTC().Format(time.RFC3339), cores()
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		all["load_average_at_the_end"] = strings.Fields(string(load))[0]
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b)
}

func cores() int {
	b, _ := os.ReadFile("/proc/cpuinfo")
	return bytes.Count(b, []byte("processor\t:"))
}

// wholePath starts `tocsin run` and gives the addresses of its page and its ingest gateway.
func wholePath(t *testing.T, binary string) (page, gateway string) {
	t.Helper()
	cmd := exec.Command(binary, "run", "--data-dir", t.TempDir())
	cmd.Env = cmd.Environ()
	for _, s := range []string{"BROKER", "INGEST_GATEWAY_HTTP", "INGEST_GATEWAY_GRPC", "STREAM_PROCESSOR_HTTP", "ALERT_ROUTER_HTTP", "COLD_PATH_WRITER_HTTP", "REALTIME_API_HTTP", "REALTIME_API_GRPC", "HISTORICAL_API_HTTP", "MODEL_TRAINER_HTTP", "TUNING_BENCH_HTTP"} {
		cmd.Env = append(cmd.Env, "TOCSIN_"+s+"_LISTEN=127.0.0.1:0")
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		fmt.Fprintln(os.Stderr, lines.Text())
		if what, at, ok := strings.Cut(strings.TrimSpace(lines.Text()), "  "); ok {
			at = strings.TrimSpace(at)
			switch {
			case what == "Live page":
				page = at
			case what == "Send frames to":
				gateway = strings.TrimSuffix(at, "/v1/frames")
			}
		}
		if strings.Contains(lines.Text(), "Ctrl-C") {
			break
		}
	}
	if page == "" {
		t.Fatal("tocsin run did not say where its page is")
	}
	go func() { // keep the pipe empty
		for lines.Scan() {
		}
	}()
	return page, gateway
}
