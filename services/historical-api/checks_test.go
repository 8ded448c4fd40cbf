package historicalapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/checkstore"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage/usagetest"
)

// business stores 90 days of so many entities' orders, which end a day before today's midnight. It gives what is unusual and the first day.
func (f *fixture) business(entities int, firstSeed uint64) (truth map[string]map[int]string, first time.Time) {
	first = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -usagetest.Days-1) // no slot at the end comes while a test runs
	truth = map[string]map[int]string{}
	var rows []reading
	for e := range entities {
		g := usagetest.Generate(firstSeed + uint64(e))
		entity := fmt.Sprintf("shop-%02d", e)
		truth[entity] = g.Truth
		for h, figure := range g.Values {
			v := float32(figure)
			us := first.Add(time.Duration(h)*time.Hour + 30*time.Minute).UnixMicro()
			rows = append(rows, reading{EquipmentID: entity, TS: us, Sensor: "orders", Value: &v, Validity: "good", LogAppendTime: us})
		}
	}
	store(f, "readings", time.Now().UTC(), rows)
	return truth, first
}

// orders is the check of them, from where enough has been learned.
func orders(first time.Time, schedule string) CheckJob {
	return CheckJob{Name: "orders", Schedule: schedule, Source: "sensor_sum", Metrics: []string{"orders"}, Since: first.AddDate(0, 0, usagetest.Learning).Format(time.RFC3339), CatchUp: 10_000}
}

type jobsAnswer struct {
	Runner string
	Here   bool
	Jobs   []struct {
		Name, State, Error string
		Due                int
		Skipped            int64
		Last               *struct{ OK bool }
		Result             *checkstore.Summary
	}
	Waiting         int `json:"alerts_waiting"`
	FindingsWaiting int `json:"findings_waiting"`
}

func (r *running) jobs(token string) jobsAnswer {
	r.t.Helper()
	a := r.ask(token, "GET", "/v1/jobs", nil)
	var out jobsAnswer
	if err := json.Unmarshal([]byte(a.text), &out); err != nil || a.status != 200 && a.status != 503 {
		r.t.Fatal(a.status, a.text)
	}
	return out
}

// caughtUp: all that is due has been judged and what was to be told is in Kafka.
func (r *running) caughtUp() bool {
	j := r.jobs(adminToken)
	return len(j.Jobs) == 1 && j.Jobs[0].State == "waiting" && j.Jobs[0].Last != nil && j.Waiting+j.FindingsWaiting == 0
}

// anomalies are all that was found, page by page.
func (r *running) anomalies(token string, pairs ...string) []checkstore.Finding {
	r.t.Helper()
	var all []checkstore.Finding
	cursor := ""
	for {
		ask := append([]string{"limit", "7"}, pairs...)
		if cursor != "" {
			ask = append(ask, "cursor", cursor)
		}
		a := r.get(token, "/v1/anomalies", ask...)
		var page struct {
			Anomalies []checkstore.Finding
			Next      string
		}
		if err := json.Unmarshal([]byte(a.text), &page); err != nil || a.status != 200 {
			r.t.Fatal(a.status, a.text)
		}
		all = append(all, page.Anomalies...)
		if cursor = page.Next; cursor == "" {
			return all
		}
	}
}

// told are the episodes in the topic: how often each began and ended.
func told(t testing.TB, cfg kafka.Config) (began, ended map[string]int) {
	t.Helper()
	began, ended = map[string]int{}, map[string]int{}
	names := map[string]bool{}
	for _, r := range kafkatest.ReadAll(t, cfg, topic.Anomalies) {
		var a eventv1.Anomaly
		if err := proto.Unmarshal(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		if names[a.GetAnomalyId()] {
			t.Errorf("%s was told twice", a.GetAnomalyId())
		}
		names[a.GetAnomalyId()] = true
		if string(r.Key) != a.GetEquipmentId() || topic.Header(r, topic.HeaderID) != a.GetAnomalyId() || !topic.Is(r, topic.TypeAnomaly) {
			t.Errorf("%s: key %q", a.GetAnomalyId(), r.Key)
		}
		switch a.GetPhase() {
		case eventv1.Phase_PHASE_STARTED:
			began[a.GetEpisodeId()]++
		case eventv1.Phase_PHASE_ENDED:
			if ended[a.GetEpisodeId()]++; began[a.GetEpisodeId()] == 0 {
				t.Errorf("%s ended before it began", a.GetEpisodeId())
			}
		}
	}
	return began, ended
}

// concluded are the findings in the topic, by id and revision, and the newest revision of each by its id. Each stands there once, its revisions in their order, and each partition has ticks.
func concluded(t testing.TB, cfg kafka.Config) (all map[string]*eventv1.Finding, newest map[string]*eventv1.Finding) {
	t.Helper()
	all, newest = map[string]*eventv1.Finding{}, map[string]*eventv1.Finding{}
	ticked := map[int32]bool{}
	for _, r := range kafkatest.ReadAll(t, cfg, topic.Findings) {
		if topic.IsTick(r) {
			ticked[r.Partition] = true
			continue
		}
		f := &eventv1.Finding{}
		if err := proto.Unmarshal(r.Value, f); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s/%d", f.GetFindingId(), f.GetRevision())
		if all[name] != nil {
			t.Errorf("%s stands there twice", name)
		}
		if f.GetRevision() != newest[f.GetFindingId()].GetRevision()+1 {
			t.Errorf("%s after revision %d", name, newest[f.GetFindingId()].GetRevision())
		}
		all[name], newest[f.GetFindingId()] = f, f
		if string(r.Key) != f.GetEquipmentId() || topic.Header(r, topic.HeaderID) != name || !topic.Is(r, topic.TypeFinding) {
			t.Errorf("%s: key %q", name, r.Key)
		}
	}
	if len(ticked) != int(cfg.Partitions) {
		t.Errorf("only %d partitions have ticks", len(ticked))
	}
	return all, newest
}

// TestSeededUsage: what is unusual in generated businesses is found by the service, with the precision and recall that docs/CHECKS.md states; critical findings are told of once.
func TestSeededUsage(t *testing.T) {
	f := newLake(t)
	const entities = 12
	truth, first := f.business(entities, 2_000_000)
	cfg := kafkatest.Start(t, 3)
	r := startOn(t, f, cfg, func(c *Config) { c.Checks.Jobs = []CheckJob{orders(first, "20 0 * * *")} })
	eventually(t, "caught up", r.caughtUp)
	type figures struct{ precision, recall float64 }
	for severity, least := range map[string]figures{"": {0.75, 0.85}, "critical": {0.85, 0.75}} {
		said := map[string]map[int]bool{}
		var pairs []string
		if severity != "" {
			pairs = []string{"severity", severity}
		}
		for _, a := range r.anomalies(adminToken, pairs...) {
			if said[a.Entity] == nil {
				said[a.Entity] = map[int]bool{}
			}
			said[a.Entity][int(a.From.Sub(first)/(24*time.Hour))] = true
		}
		var score usagetest.Score
		for entity, days := range truth {
			score.Add(days, said[entity])
		}
		t.Logf("severity %q: precision %.3f, recall %.3f: %+v", severity, score.Precision(), score.Recall(), score)
		if score.Precision() < least.precision || score.Recall() < least.recall {
			t.Errorf("severity %q: less than %+v", severity, least)
		}
	}
	critical := map[string]int{}
	for _, a := range r.anomalies(adminToken, "severity", "critical", "metric", "orders", "from", first.Format(time.DateOnly)) {
		critical[a.ID]++
	}
	began, _ := told(t, cfg)
	if !maps.Equal(began, critical) || len(critical) < 10 {
		t.Errorf("told of %d, found %d", len(began), len(critical))
	}
	_, newest := concluded(t, cfg)
	kept := r.anomalies(adminToken)
	for _, a := range kept {
		f := newest[a.ID]
		if f.GetRevision() != a.Revision || f.GetBeganUs() != a.From.UnixMicro() || f.GetEndedUs() != a.To.UnixMicro() || f.GetOver() != a.Over || f.GetSummary() != a.Summary ||
			strings.ToLower(f.GetSeverity().String()) != "severity_"+a.Severity || (len(f.GetEvidence().GetAlertIds()) == 1) != (a.Alert != "") {
			t.Errorf("the topic has %v of %+v", f, a)
		}
	}
	if len(kept) != len(newest) || len(kept) <= len(critical) {
		t.Errorf("the topic has %d findings, the store %d, %d of them critical", len(newest), len(kept), len(critical))
	}
	if again := r.ask(adminToken, "GET", newest[kept[0].ID].GetEvidence().GetQuery(), nil); again.status != 200 || again.Verdict != kept[0].Severity {
		t.Errorf("%s: %d %s", newest[kept[0].ID].GetEvidence().GetQuery(), again.status, again.text)
	}
	job := r.jobs(adminToken).Jobs[0]
	if job.Result == nil || job.Result.Series != entities || job.Result.Judged+job.Result.Missing != entities*24 || job.Error != "" {
		t.Errorf("%+v %+v", job, job.Result)
	}
	// What others may not see is not there.
	if got := r.anomalies(lineToken); len(got) != 0 {
		t.Error(got)
	}
	if mine := r.jobs(lineToken).Jobs[0]; mine.Result != nil {
		t.Error(mine)
	}
	on := r.get(adminToken, "/v1/anomalies/check", "job", "orders", "entity", "shop-00", "metric", "orders", "at", first.AddDate(0, 0, 80).Format(time.RFC3339), "hours", "336")
	if on.status != 200 || on.Verdict == "" {
		t.Error(on.status, on.text)
	}
	wrong := map[string][]string{
		"kind": {"kind", "x"}, "severity": {"severity", "info"}, "limit": {"limit", "0"}, "cursor": {"cursor", "?"}, "from": {"from", "x"}, "what": {"what", "x"},
	}
	for field, pairs := range wrong {
		if a := r.get(adminToken, "/v1/anomalies", pairs...); a.status != 400 || a.Field != field {
			t.Error(field, a.status, a.text)
		}
	}
}

// TestKilledChecks: the service's process is killed again and again while it makes up for weeks of hourly runs. In the end the topics have what an undisturbed service tells: each alert and
// each revision of a finding once.
func TestKilledChecks(t *testing.T) {
	engine(t)
	f := newLake(t)
	_, first := f.business(6, 3_000_000)
	job := orders(first.AddDate(0, 0, 35), "20 * * * *")

	calm := kafkatest.Start(t, 3)
	r := startOn(t, f, calm, func(c *Config) { c.Checks.Jobs, c.Checks.Stand = []CheckJob{job}, 0 })
	eventually(t, "caught up", r.caughtUp)
	r.stop()
	want, _ := told(t, calm)
	wantFindings, _ := concluded(t, calm)
	if len(want) < 5 {
		t.Fatalf("only %d alerts: nothing to see", len(want))
	}

	cfg := kafkatest.Start(t, 3)
	p := newProcess(t, f, cfg, job)
	random := rand.New(rand.NewPCG(6, 6)) // the times themselves are the machine's
	life, kills := 60*time.Millisecond, 0
	var done time.Time
	for {
		p.start()
		finished := p.caughtUp(life + time.Duration(random.Int64N(int64(life))))
		p.kill()
		if finished {
			break
		}
		kills++
		if now := p.done(); now.After(done) {
			done = now
		} else {
			life = min(life*3/2, 2*time.Minute) // a slow machine must come forward too
		}
		if kills > 300 {
			t.Fatal("it does not come to an end")
		}
	}
	got, ended := told(t, cfg)
	findings, _ := concluded(t, cfg)
	t.Logf("%d kills, %d alerts, %d ended, %d revisions of findings", kills, len(got), len(ended), len(findings))
	if !maps.Equal(got, want) {
		t.Errorf("told %v\nwant %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if len(findings) != len(wantFindings) || len(findings) <= len(got) {
		t.Errorf("%d revisions of findings, want %d", len(findings), len(wantFindings))
	}
	for name, f := range findings {
		w := wantFindings[name]
		if w == nil {
			t.Errorf("%s: undisturbed, nobody says that", name)
			continue
		}
		f.ConcludedAtMs, w.ConcludedAtMs = 0, 0 // by the clock
		if !proto.Equal(f, w) {
			t.Errorf("%v\nwant %v", f, w)
		}
	}
	for id, n := range ended {
		if n != 1 {
			t.Errorf("%s ended %d times", id, n)
		}
	}
	if kills < 3 {
		t.Errorf("only %d kills", kills)
	}
}

// process is the service's program.
type process struct {
	t      testing.TB
	binary string
	config string
	dir    string
	cmd    *exec.Cmd
	addr   string
	log    string
}

func newProcess(t testing.TB, f *fixture, cfg kafka.Config, job CheckJob) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, binary: filepath.Join(dir, "historical-api"), config: filepath.Join(dir, "tocsin.yaml"), dir: filepath.Join(dir, "data"), log: filepath.Join(dir, "log")}
	build := exec.Command("go", "build", "-o", p.binary, "./cmd/historical-api")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	text := fmt.Sprintf(`kafka: {brokers: [%q], partitions: %d}
historical_api:
  http: {listen: "127.0.0.1:0"}
  lake: {url: %q}
  data_dir: %q
  queries: {worker: %q, wait: 1m}
  checks:
    instance_id: one
    stand: 0s
    jobs:
      - {name: %s, schedule: %q, source: %s, metrics: [orders], since: %q, catch_up: %d}
`, cfg.Brokers[0], cfg.Partitions, "file://"+f.dir, p.dir, sqlWorker, job.Name, job.Schedule, job.Source, job.Since, job.CatchUp)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func (p *process) start() {
	p.t.Helper()
	out, err := os.Create(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command(p.binary, "--config", p.config)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.addr = ""
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// caughtUp waits for that, for as long as the process is to live.
func (p *process) caughtUp(life time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), life)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if p.addr == "" {
			p.addr = listening(p.log)
			continue
		}
		r := &running{t: p.t, url: "http://" + p.addr}
		_, body, _, err := r.do(ctx, "", "GET", "/v1/jobs", nil)
		var j jobsAnswer
		if err == nil && json.Unmarshal(body, &j) == nil && len(j.Jobs) == 1 && j.Jobs[0].State == "waiting" && j.Jobs[0].Last != nil && j.Waiting+j.FindingsWaiting == 0 {
			return true
		}
	}
}

// listening finds the address in the log.
func listening(log string) string {
	b, _ := os.ReadFile(log)
	for line := range strings.Lines(string(b)) {
		var entry struct{ HTTP, Addr, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && strings.Contains(line, "listening") {
			for _, a := range []string{entry.HTTP, entry.Addr, entry.Address} {
				if a != "" {
					return a
				}
			}
		}
	}
	return ""
}

// done is how far the job has come by its store.
func (p *process) done() time.Time {
	p.t.Helper()
	if _, err := os.Stat(filepath.Join(p.dir, "checks.db")); err != nil {
		return time.Time{}
	}
	s, err := checkstore.Open(context.Background(), "", p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	j, _, err := s.Job(context.Background(), "orders")
	if err != nil {
		p.t.Fatal(err)
	}
	return j.Done
}
