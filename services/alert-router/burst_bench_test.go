//go:build bench

package alertrouter

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// TestBenchBurst has all alerts of a plant begin at once, and end, for several builds of the router in turn: what one build takes beside another in the same minutes holds on a machine that has
// other work too. See `make bench-burst`; the whole of it on the real parts, beside Alertmanager, is `make bench-alerts`.
//
//	BENCH_ALERTS, BENCH_GROUPS   how many
//	BENCH_ROUTERS                name=path,...: test binaries of this package, built with -tags bench; empty: this one
//	BENCH_ROUNDS                 how often each has its turn
//	BENCH_PROFILES               a folder for profiles; empty: none
func TestBenchBurst(t *testing.T) {
	alerts, groups, rounds := number("BENCH_ALERTS", 20_000), number("BENCH_GROUPS", 200), number("BENCH_ROUNDS", 1)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	routers := os.Getenv("BENCH_ROUTERS")
	if routers == "" {
		routers = "this=" + self
	}
	t.Logf("%-8s %8s %8s %8s %8s %8s %9s %9s %9s %9s", "router", "told s", "journ s", "ends s", "journ s", "CPU s", "peak MB", "stand MB", "messages", "body MB")
	for range rounds {
		for router := range strings.SplitSeq(routers, ",") {
			name, path, _ := strings.Cut(router, "=")
			b := burst{alerts: alerts, groups: groups, name: name, path: path}
			b.run(t)
			t.Logf("%-8s %8.1f %8.1f %8.1f %8.1f %8.1f %9d %9d %9d %9.0f", name, b.told.Seconds(), b.journaled.Seconds(), b.ends.Seconds(), b.endsJournaled.Seconds(), b.cpu, b.peak, b.standing, b.messages,
				float64(b.bytes)/1e6)
		}
	}
}

func number(name string, or int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return or
}

type burst struct {
	alerts, groups int
	name, path     string

	told, journaled, ends, endsJournaled time.Duration
	cpu                                  float64
	peak, standing                       int64

	more     chan struct{} // something was told
	mu       sync.Mutex
	seen     map[string]bool // "status alert_id"
	firing   int
	resolved int
	messages int
	bytes    int64
}

func (b *burst) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var m struct {
		Alerts []struct {
			Status string
			Labels struct {
				ID string `json:"alert_id"`
			}
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &m) != nil {
		return
	}
	defer func() {
		select {
		case b.more <- struct{}{}:
		default: // until has not looked yet
		}
	}()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages++
	b.bytes += int64(len(body))
	for _, a := range m.Alerts {
		if key := a.Status + " " + a.Labels.ID; a.Labels.ID != "" && !b.seen[key] { // else the router's own: that this receiver failed
			b.seen[key] = true
			if a.Status == "firing" {
				b.firing++
			} else {
				b.resolved++
			}
		}
	}
}

func (b *burst) run(t *testing.T) {
	b.seen, b.more = make(map[string]bool, 2*b.alerts), make(chan struct{}, 1)
	hook := httptest.NewServer(b)
	defer hook.Close()
	dir := t.TempDir()
	k := broker(t, 4)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	cfg := configFor(t, dir)
	cfg.HTTP.Listen, cfg.HTTP.Pprof = addr, true
	cfg.SessionTimeout, cfg.TransactionTimeout = 30*time.Second, time.Minute
	cfg.Incidents = DefaultConfig().Incidents
	cfg.Incidents.Flood.Count = 100_000
	cfg.RoutingFile = writeRouting(t, filepath.Join(dir, "routing.yml"), fmt.Sprintf(`route:
  receiver: people
  group_by: [gateway_id]
  group_wait: 1s
  group_interval: 5s
  repeat_interval: 4h
receivers:
  - name: people
    webhook_configs:
      - {url: %q, send_resolved: true}
`, hook.URL))
	text, err := json.Marshal(childConfig{cfg, k})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(b.path)
	cmd.Env = append(os.Environ(), asRouter+"="+string(text), routerLog+"="+filepath.Join(dir, "log"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	eventually(t, "ready", func() error {
		resp, err := http.Get("http://" + addr + "/health/ready")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("answers %s", resp.Status)
		}
		return nil
	})
	p := newProducer(t, k)
	began := time.Now()
	profiled := b.profile(addr, "cpu-begin", "profile?seconds=10")
	b.feed(t, p.cl, began, started)
	b.until(t, func() bool { return b.firing >= b.alerts })
	b.told = time.Since(began)
	b.journal(t, dir, b.alerts)
	b.journaled = time.Since(began)
	profiled()
	b.profile(addr, "heap", "heap")()
	b.standing = status(cmd.Process.Pid, "VmRSS:")
	ending := time.Now()
	profiled = b.profile(addr, "cpu-end", "profile?seconds=10")
	b.feed(t, p.cl, began, ended)
	b.until(t, func() bool { return b.resolved >= b.alerts })
	b.ends = time.Since(ending)
	b.journal(t, dir, 2*b.alerts)
	b.endsJournaled = time.Since(ending)
	profiled()
	b.cpu = processor(cmd.Process.Pid)
	b.peak = status(cmd.Process.Pid, "VmHWM:")
	b.profile(addr, "allocs", "allocs")()
}

// feed writes a report of each machine, as the stream-processor does.
func (b *burst) feed(t *testing.T, cl *kgo.Client, began time.Time, phase eventv1.Phase) {
	var first kgo.FirstErrPromise
	for n := range b.alerts {
		a := anomaly(fmt.Sprintf("%s-%06d", b.name, n), "limit", began.UnixMicro(), phase, warning)
		a.GatewayId = fmt.Sprintf("%s-line-%04d", b.name, n%b.groups)
		if n%5 == 0 {
			a.Severity = crit
		}
		a.Summary = "spindle temperature is 91.4, above 85.0 for 20 s; bearing vibration and motor current rise with it"
		a.Contributions = []*eventv1.Contribution{
			{Sensor: "spindle_temperature", Share: 0.7, Observed: 91.4, ExpectedLow: 60.5, ExpectedHigh: 85, Detector: "limits", Statistic: "mean"},
			{Sensor: "bearing_vibration", Share: 0.2, Observed: 4.1, ExpectedLow: 1.2, ExpectedHigh: 2.9, Detector: "ewma", Statistic: "mean"},
			{Sensor: "motor_current", Share: 0.1, Observed: 18.8, ExpectedLow: 11.2, ExpectedHigh: 16.4, Detector: "ewma", Statistic: "stddev"},
		}
		cl.Produce(context.Background(), record(t, a), first.Promise())
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.Err(); err != nil {
		t.Fatal(err)
	}
}

func (b *burst) until(t *testing.T, holds func() bool) {
	deadline := time.After(5 * time.Minute)
	for {
		b.mu.Lock()
		ok, state := holds(), fmt.Sprint(b.firing, " firing, ", b.resolved, " resolved of ", b.alerts)
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-b.more:
		case <-deadline:
			t.Fatal(state)
		}
	}
}

// journal waits until it has so many rows.
func (b *burst) journal(t *testing.T, dir string, rows int) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "journal.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rarely := time.NewTicker(200 * time.Millisecond) // counting takes the database's time
	defer rarely.Stop()
	eventually(t, "journal", func() error {
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM alert_transitions").Scan(&n); err != nil {
			return err
		}
		if n < rows {
			<-rarely.C
			return fmt.Errorf("%d of %d rows", n, rows)
		}
		return nil
	})
}

// profile takes one into the folder for them; the function that it gives waits for it.
func (b *burst) profile(addr, name, query string) (wait func()) {
	dir := os.Getenv("BENCH_PROFILES")
	if dir == "" {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := http.Get("http://" + addr + "/debug/pprof/" + query)
		if err != nil {
			return
		}
		defer func() { _ = resp.Body.Close() }()
		if f, err := os.Create(filepath.Join(dir, b.name+"-"+name)); err == nil {
			_, _ = io.Copy(f, resp.Body)
			_ = f.Close()
		}
	}()
	return func() { <-done }
}

// status is a field of a process, in MB.
func status(pid int, field string) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n >> 10
		}
	}
	return 0
}

// processor is the time that a process has had, in seconds.
func processor(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}
