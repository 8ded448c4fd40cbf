package grafana

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
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
)

// TestPanelsAnswer runs the real stack under a simulated fleet with faults, and asks each panel's queries of the VictoriaMetrics that it
// filled. A panel that has no answer must say why.
func TestPanelsAnswer(t *testing.T) {
	s := stacktest.Up(t, stack.Options{Config: map[string]any{"cold_path_writer": map[string]any{"chunk": map[string]any{"interval": "10s"}}}})
	feed(t, s, "--machines", "12", "--history", "1h", "--faults", "demo", "--first-fault-after", "5s")
	vm := "http://" + s.Addr("victoria-metrics")

	// What takes longest to come: scores of now, once the history has been judged, and a page.
	wait(t, "machine's score", func() bool { return len(series(t, vm, "tocsin_machine_score")) > 0 })
	wait(t, "page", func() bool { return len(series(t, vm, `tocsin_alert_notification_latency_seconds_count > 0`)) > 0 })
	wait(t, "file in the lake", func() bool { return len(series(t, vm, `tocsin_lake_files_total{table="readings"} > 0`)) > 0 })
	post(t, "http://"+s.Addr("historical-api")+"/v1/sql", `{"sql": "SELECT count(*) FROM readings"}`)
	wait(t, "count of it", func() bool { return len(series(t, vm, "tocsin_history_query_seconds_count > 0")) > 0 })

	names := metricNames(t, vm)
	empty, explained, filled := 0, 0, 0
	for _, one := range Dashboards() {
		for _, row := range one.Rows {
			for _, p := range row.Panels {
				answered := false
				for _, q := range p.Queries {
					expr := fill(t, vm, q.Expr)
					for _, m := range metricOf.FindAllString(expr, -1) {
						if !names[m] && p.EmptyWhile == "" {
							t.Errorf("%s, %q: no service has the metric %s", one.UID, p.Title, m)
						}
					}
					answered = answered || len(series(t, vm, expr)) > 0
				}
				switch {
				case answered:
					filled++
				case p.EmptyWhile != "":
					explained++
					t.Logf("%s, %q is empty while %s", one.UID, p.Title, p.EmptyWhile)
				default:
					empty++
					t.Errorf("%s, %q has no answer: %s", one.UID, p.Title, p.Queries[0].Expr)
				}
			}
		}
	}
	t.Logf("%d panels answered, %d empty and explained, %d empty", filled, explained, empty)
	for _, m := range series(t, vm, `count({__name__=~"tocsin_.+", equipment_id!=""}) by (__name__)`) {
		if !pushed.MatchString(m["__name__"]) {
			t.Errorf("%s has a series for each machine", m["__name__"])
		}
	}
	for name := range names {
		if strings.HasPrefix(name, "tocsin_") && unconventional.MatchString(name) {
			t.Errorf("%s: units are seconds and bytes, and what counts ends in _total", name)
		}
	}
	for _, g := range RuleGroups() {
		for _, r := range g.Rules {
			for _, m := range metricOf.FindAllString(r.Expr, -1) {
				if !names[m] && !late[m] {
					t.Errorf("rule %s asks %s, which no service has", r.Name, m)
				}
			}
		}
	}
}

// metricOf finds metrics in a query.
var metricOf = regexp.MustCompile(`\b(?:tocsin|process|go|alertmanager)_[a-z0-9_]+\b`)

// unconventional are names that Prometheus's conventions do not have.
var unconventional = regexp.MustCompile(`[A-Z]|_(ms|millis|milliseconds|us|micros|ns|minutes|hours|kb|mb|kilobytes|megabytes|count_total|total_count)(_|$)`)

// late are metrics that a service has only after the first event, or once a model is asked.
var late = map[string]bool{
	"tocsin_processor_detector_failures_total": true,
	"tocsin_model_drifted":                     true,
}

// fill puts in what Grafana puts in.
func fill(t *testing.T, vm, expr string) string {
	if strings.Contains(expr, "$equipment_id") {
		known := series(t, vm, "tocsin_machine_score or tocsin_window_mean")
		if len(known) == 0 {
			t.Fatal("no machine has statistics")
		}
		expr = strings.ReplaceAll(expr, "$equipment_id", known[0]["equipment_id"])
	}
	for from, to := range map[string]string{"$sensor": ".*", "$__rate_interval": "1m", "$__range_s": "3600", "$__range": "1h"} {
		expr = strings.ReplaceAll(expr, from, to)
	}
	return expr
}

// feed runs the simulator until the test ends.
func feed(t *testing.T, s *stack.Stack, args ...string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "simulator.log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join("..", "..", "bin", "tocsin"), append([]string{"simulate", "--to", "http://" + s.Addr("ingest-gateway"), "--truth", filepath.Join(t.TempDir(), "truth.jsonl")}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			b, _ := os.ReadFile(out.Name())
			t.Logf("simulator: ...%s", b[max(0, len(b)-2000):])
		}
		_ = out.Close()
	})
}

// series are the label sets of the answers to an instant query; a value that is no number is no answer.
func series(t *testing.T, vm, expr string) []map[string]string {
	t.Helper()
	var reply struct {
		Status string
		Error  string
		Data   struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	ask(t, vm+"/api/v1/query?"+url.Values{"query": {expr}}.Encode(), &reply)
	if reply.Status != "success" {
		t.Fatalf("%s: %s", expr, reply.Error)
	}
	var out []map[string]string
	for _, r := range reply.Data.Result {
		if r.Value[1] != "NaN" {
			out = append(out, r.Metric)
		}
	}
	return out
}

func metricNames(t *testing.T, vm string) map[string]bool {
	t.Helper()
	var reply struct{ Data []string }
	ask(t, vm+"/api/v1/label/__name__/values", &reply)
	out := map[string]bool{}
	for _, n := range reply.Data {
		out[n] = true
	}
	return out
}

func ask(t *testing.T, from string, into any) {
	t.Helper()
	b := request(t, http.MethodGet, from, "")
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v: %.200s", from, err, b)
	}
}

// wait polls until ok, or fails.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s after five minutes", what)
		}
		<-tick.C
	}
}

// TestRulesFireAndResolve writes an hour of a healthy fleet, a quarter with one thing wrong, and two healthy hours for each rule, and lets
// the real vmalert judge them against a real VictoriaMetrics.
func TestRulesFireAndResolve(t *testing.T) {
	vmalert, err := exec.LookPath("vmalert")
	if err != nil {
		stacktest.Need(t, &stack.MissingError{Component: "vmalert", What: "vmalert", Install: "apt-get install -y victoria-metrics"})
	}
	s := stacktest.Up(t, stack.Options{Only: []string{"victoria-metrics"}})
	vm := "http://" + s.Addr("victoria-metrics")
	from := time.Now().Add(-4 * time.Hour).Truncate(time.Minute)
	begins, ends, until := from.Add(time.Hour), from.Add(75*time.Minute), from.Add(195*time.Minute)

	troubles := troubles()
	var lines strings.Builder
	for _, l := range healthy() {
		l.write(&lines, from, until, begins, ends)
	}
	for _, g := range RuleGroups() {
		for _, r := range g.Rules {
			ls, ok := troubles[r.Name]
			if !ok {
				t.Errorf("nothing here makes %s fire", r.Name)
			}
			for _, l := range ls {
				l.write(&lines, from, until, begins, ends)
			}
		}
	}
	post(t, vm+"/api/v1/import/prometheus", lines.String())
	wait(t, "imported series", func() bool {
		return len(seriesAt(t, vm, "tocsin_api_machines", until.Add(-time.Minute))) > 0
	})

	rules := filepath.Join(t.TempDir(), "rules.yaml")
	b, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rules, b, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), vmalert, "-rule="+rules, "-datasource.url="+vm, "-remoteWrite.url="+vm, "-remoteWrite.flushInterval=100ms", "-evaluationInterval=30s",
		"-replay.timeFrom="+from.UTC().Format(time.RFC3339), "-replay.timeTo="+until.UTC().Format(time.RFC3339), "-replay.rulesDelay=100ms", "-replay.disableProgressBar",
		"-httpListenAddr=127.0.0.1:0", "-datasource.queryStep=30s")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("vmalert: %v\n%s", err, out)
	}
	post(t, vm+"/internal/force_flush", "")

	for _, g := range RuleGroups() {
		for _, r := range g.Rules {
			fired := func(a, b time.Time) int {
				return len(seriesAt(t, vm, fmt.Sprintf(`count_over_time(ALERTS{alertname=%q, alertstate="firing"}[%ds])`, r.Name, int(b.Sub(a).Seconds())), b))
			}
			if fired(from, begins.Add(-time.Minute)) > 0 {
				t.Errorf("%s fires about a healthy fleet", r.Name)
			}
			if fired(begins, ends.Add(10*time.Minute)) == 0 {
				t.Errorf("%s does not fire", r.Name)
			}
			if fired(until.Add(-30*time.Minute), until) > 0 {
				t.Errorf("%s does not resolve", r.Name)
			}
		}
	}
}

func seriesAt(t *testing.T, vm, expr string, at time.Time) []any {
	t.Helper()
	var reply struct {
		Status, Error string
		Data          struct{ Result []any }
	}
	ask(t, vm+"/api/v1/query?"+url.Values{"query": {expr}, "time": {fmt.Sprint(at.Unix())}, "nocache": {"1"}}.Encode(), &reply)
	if reply.Status != "success" {
		t.Fatalf("%s: %s", expr, reply.Error)
	}
	return reply.Data.Result
}

func post(t *testing.T, to, body string) {
	t.Helper()
	request(t, http.MethodPost, to, body)
}

// request is the answer's body; an answer that is no success fails the test.
func request(t *testing.T, method, to, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode/100 != 2 {
		t.Fatalf("%s: %s: %.1000s", to, res.Status, b)
	}
	return b
}
