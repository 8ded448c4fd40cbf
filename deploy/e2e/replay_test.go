//go:build cgo

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
)

// realStack is the whole real stack with files in the lake every few seconds.
func realStack(t *testing.T) *stack.Stack {
	t.Helper()
	t.Setenv("TOCSIN_COLD_PATH_WRITER_CHUNK_INTERVAL", "5s")
	return stacktest.Up(t, stack.Options{})
}

// lakeDir is where the S3 server keeps the objects as plain files.
func lakeDir(t *testing.T, s *stack.Stack) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(s.ConfigFile()), "data", "s3", "buckets", stack.Bucket)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the bucket's directory: %v", err)
	}
	return dir
}

func getJSON(t testing.TB, u string, to any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 32<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %.200s", u, res.Status, body)
	}
	return json.Unmarshal(body, to)
}

// alerted lists the machines that have an open alert of the cause.
func alerted(t testing.TB, router, cause string) map[string]bool {
	t.Helper()
	var alerts []struct {
		Labels map[string]string `json:"labels"`
	}
	out := map[string]bool{}
	if err := getJSON(t, "http://"+router+"/api/v2/alerts", &alerts); err != nil {
		t.Log(err)
		return out
	}
	for _, a := range alerts {
		if a.Labels["cause"] == cause {
			out[a.Labels["equipment_id"]] = true
		}
	}
	return out
}

// A plant's history goes through the whole real stack while each service in turn is killed: every value stands in the lake
// exactly once, as DuckDB counts it.
func TestRealReplayUnderFire(t *testing.T) {
	s := realStack(t)
	l := openLake(t, lakeDir(t, s))
	const machines, rows = 8, 1500
	dir := t.TempDir()
	want := 0.0
	for _, r := range plant(machines, rows) {
		r.write(t, dir)
		for row := range rows {
			for sensor := range recordingSensors {
				want += float64(r.value(row, sensor))
			}
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t, "tocsin"), "replay", "--input", filepath.Join(dir, "*.csv"), "--ignore-columns", "anomaly,changepoint",
		"--to", "http://"+s.Addr("ingest-gateway"), "--speed", "450")
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()

	// Each service dies while frames are on their way.
	recovered := map[string]time.Duration{}
	for _, name := range []string{"stream-processor", "cold-path-writer", "ingest-gateway", "alert-router", "realtime-api"} {
		seen := l.readings(t, "true").rows
		until(t, "readings in the lake before the next kill", func() bool { return l.readings(t, "true").rows > seen })
		if err := s.Kill(name, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		if err := s.Start(ctx, name); err != nil {
			t.Fatal(err)
		}
		recovered[name] = time.Since(killed).Round(time.Millisecond)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("replay: %v\n%s", err, out)
		}
	case <-ctx.Done():
		t.Fatal("the replay did not end")
	}
	replayed := time.Since(began)

	const expected = machines * rows * 8
	until(t, "all readings in the lake", func() bool { return l.readings(t, "true").rows >= expected })
	got := l.readings(t, "true")
	if got.rows != expected || got.distinct != expected || got.machines != machines {
		t.Errorf("lake: %d rows, %d distinct, %d machines; want %d of %d machines", got.rows, got.distinct, got.machines, expected, machines)
	}
	if diff := got.sum - want; diff > 1e-3 || diff < -1e-3 {
		t.Errorf("sum of the values in the lake %f, sent %f", got.sum, want)
	}
	count := func(table, where string) (n int) {
		if l.empty(table) {
			return 0
		}
		if err := l.db.QueryRow("select count(distinct equipment_id) from " + l.table(table) + " where cause = 'behaviour' and " + where).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "the fault found on every machine", func() bool { return count("anomalies", "true") == machines })
	until(t, "an alert for it on every machine", func() bool { return count("alerts", "true") == machines })

	// The same file once more is recognised.
	tocsin(t, "replay", "--input", filepath.Join(dir, "press-01.csv"), "--ignore-columns", "anomaly,changepoint", "--to", "http://"+s.Addr("ingest-gateway"))
	var frames float64
	until(t, "the duplicates counted", func() bool {
		frames = metric(t, "http://"+s.Addr("stream-processor")+"/metrics", "tocsin_processor_duplicate_frames_total")
		return frames >= rows
	})
	if again := l.readings(t, "true"); again.rows != expected {
		t.Errorf("a replay of the same file made %d rows of %d", again.rows, expected)
	}

	var vm struct {
		Data struct {
			Result []any `json:"result"`
		} `json:"data"`
	}
	at := recordingStart.Add(rows / 2 * time.Second)
	query := "http://" + s.Addr("victoria-metrics") + "/api/v1/query?query=" + url.QueryEscape(`tocsin_window_mean{sensor="flow"}`) + "&time=" + fmt.Sprint(at.Unix())
	until(t, "window statistics in VictoriaMetrics", func() bool { return getJSON(t, query, &vm) == nil && len(vm.Data.Result) == machines })

	report(t, "replay under fire", map[string]any{
		"frames": machines * rows, "values sent": expected, "rows in lake": got.rows, "distinct": got.distinct, "lost": expected - got.distinct, "duplicated": got.rows - got.distinct,
		"replay took": replayed.Round(time.Millisecond).String(), "kill -9 to ready": fmt.Sprint(recovered),
	})
}

// metric reads one sample of a Prometheus page; 0 when it is not there.
func metric(t testing.TB, u, name string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	for _, line := range strings.Split(string(body), "\n") {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			var v float64
			_, _ = fmt.Sscan(rest, &v)
			return v
		}
	}
	return 0
}

// report logs a table and adds to the JSON that `make e2e` asks for.
func report(t testing.TB, what string, figures map[string]any) {
	t.Helper()
	var b strings.Builder
	for _, k := range sorted(figures) {
		fmt.Fprintf(&b, "\n  %-18s %v", k, figures[k])
	}
	t.Logf("%s:%s", what, b.String())
	path := os.Getenv("TOCSIN_E2E_OUT")
	if path == "" {
		return
	}
	all := map[string]any{}
	if old, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(old, &all) // a report that cannot be read is made anew
	}
	all[what] = figures
	b2, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b2, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}
