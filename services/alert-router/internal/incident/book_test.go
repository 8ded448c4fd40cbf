package incident

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func report(machine, cause string, startedUS int64, phase eventv1.Phase, sev eventv1.Severity, atMS int64) *eventv1.Anomaly {
	ep := fmt.Sprintf("%s/%s/%d", machine, cause, startedUS)
	return &eventv1.Anomaly{
		AnomalyId: fmt.Sprintf("%s/%d/%d", ep, atMS, phase), EpisodeId: ep, EquipmentId: machine, Cause: cause, Phase: phase,
		Severity: sev, Score: 0.99, Confidence: 0.5, StartedUs: startedUS, ObservedUs: startedUS + 1_000_000, JudgedAtMs: atMS,
		Summary: "bearing runs hot", GatewayId: "gw-1",
	}
}

const (
	started = eventv1.Phase_PHASE_STARTED
	ongoing = eventv1.Phase_PHASE_ONGOING
	ended   = eventv1.Phase_PHASE_ENDED
	info    = eventv1.Severity_SEVERITY_INFO
	warning = eventv1.Severity_SEVERITY_WARNING
	crit    = eventv1.Severity_SEVERITY_CRITICAL
)

// ids are the events that a sequence of reports gives.
func ids(b *Book, as ...*eventv1.Anomaly) []string {
	var out []string
	for _, a := range as {
		for _, t := range b.Apply(a) {
			out = append(out, t.Event.GetEventId())
		}
	}
	return out
}

func TestDecisions(t *testing.T) {
	const ep = "m/limit/10"
	for _, c := range []struct {
		name string
		in   []*eventv1.Anomaly
		want string
	}{
		{"started opens", []*eventv1.Anomaly{report("m", "limit", 10, started, warning, 1)}, ep + "/opened"},
		{"ongoing opens when the start was missed", []*eventv1.Anomaly{report("m", "limit", 10, ongoing, warning, 1)}, ep + "/opened"},
		{"ended of an unknown episode", []*eventv1.Anomaly{report("m", "limit", 10, ended, warning, 1)}, ""},
		{"repeats", []*eventv1.Anomaly{
			report("m", "limit", 10, started, warning, 1), report("m", "limit", 10, started, warning, 1),
			report("m", "limit", 10, ongoing, warning, 2), report("m", "limit", 10, ended, warning, 3),
			report("m", "limit", 10, ended, warning, 3), report("m", "limit", 10, ongoing, warning, 2), report("m", "limit", 10, started, crit, 1),
		}, ep + "/opened " + ep + "/closed"},
		{"severity rises step by step, never falls", []*eventv1.Anomaly{
			report("m", "limit", 10, started, info, 1), report("m", "limit", 10, ongoing, warning, 2), report("m", "limit", 10, ongoing, info, 3),
			report("m", "limit", 10, ongoing, crit, 4), report("m", "limit", 10, ongoing, warning, 5), report("m", "limit", 10, ended, info, 6),
		}, ep + "/opened " + ep + "/escalated-warning " + ep + "/escalated-critical " + ep + "/closed"},
		{"lost contact resolves nothing else", []*eventv1.Anomaly{
			report("m", "limit", 10, started, crit, 1), report("m", "silence", 20, started, crit, 2), report("m", "silence", 20, ended, crit, 3),
		}, ep + "/opened m/silence/20/opened m/silence/20/closed"},
		{"a newer episode replaces one whose end was missed", []*eventv1.Anomaly{
			report("m", "limit", 10, started, crit, 1), report("m", "limit", 20, ongoing, warning, 2), report("m", "limit", 10, ongoing, crit, 3), report("m", "limit", 10, ended, crit, 3),
		}, ep + "/opened " + ep + "/closed m/limit/20/opened"},
		{"an older episode does not come back", []*eventv1.Anomaly{
			report("m", "limit", 20, started, warning, 1), report("m", "limit", 10, ongoing, crit, 2),
		}, "m/limit/20/opened"},
		{"no severity is a warning", []*eventv1.Anomaly{report("m", "limit", 10, started, 0, 1), report("m", "limit", 10, ongoing, warning, 2)}, ep + "/opened"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(ids(NewBook(), c.in...), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestEscalationMovesTheAlert(t *testing.T) {
	b := NewBook()
	b.Apply(report("m", "limit", 10, started, warning, 1000))
	tr := b.Apply(report("m", "limit", 10, ongoing, crit, 5000))
	if len(tr) != 1 || len(tr[0].Views) != 2 {
		t.Fatalf("transitions: %+v", tr)
	}
	now, old := tr[0].Views[0], tr[0].Views[1]
	if now.Labels[LabelSeverity] != "critical" || now.StartsMS != 1000 || now.EndsMS != 0 {
		t.Errorf("new view: %+v", now)
	}
	if old.Labels[LabelSeverity] != "warning" || old.EndsMS != 5000 || old.Annotations[AnnotationResolution] == "" {
		t.Errorf("old view: %+v", old)
	}
}

// The gateway of a later report does not change an alert's identity: its end must find it.
func TestLabelsStayAsOpened(t *testing.T) {
	b := NewBook()
	open := b.Apply(report("m", "limit", 10, started, warning, 1))[0].Event
	a := report("m", "limit", 10, ended, warning, 2)
	a.GatewayId = "gw-2"
	if got := b.Apply(a)[0].Event.GetLabels(); !maps.Equal(got, open.GetLabels()) {
		t.Errorf("closed with %v, opened with %v", got, open.GetLabels())
	}
}

// An end whose broker time lies before the start (leaders' clocks differ) still ends at or after the start.
func TestEndNotBeforeStart(t *testing.T) {
	b := NewBook()
	b.Apply(report("m", "limit", 10, started, warning, 9000))
	v := b.Apply(report("m", "limit", 10, ended, warning, 1000))[0].Views[0]
	if v.EndsMS < v.StartsMS {
		t.Errorf("view %+v", v)
	}
}

func TestForgetsAfterHold(t *testing.T) {
	b := NewBook()
	ids(b, report("m", "limit", 10, started, warning, 1000), report("m", "limit", 10, ended, warning, 2000), report("m", "silence", 10, started, warning, 2000))
	b.Recorded("m/limit/10", 5)
	b.Recorded("m/silence/10", 7)
	if got := b.RestoreFrom(9); got != 5 {
		t.Errorf("RestoreFrom %d, want 5", got)
	}
	b.Advance(2000 + Hold.Milliseconds())
	if n := len(b.Views()); n != 2 {
		t.Errorf("%d views within hold, want 2", n)
	}
	b.Advance(2001 + Hold.Milliseconds())
	if n := len(b.Views()); n != 1 {
		t.Errorf("%d views after hold, want the open one", n)
	}
	if got := b.RestoreFrom(9); got != 7 {
		t.Errorf("RestoreFrom %d, want 7", got)
	}
}

func genReport(t *rapid.T) *eventv1.Anomaly {
	return report(
		rapid.SampledFrom([]string{"a", "b"}).Draw(t, "machine"),
		rapid.SampledFrom([]string{"limit", "silence"}).Draw(t, "cause"),
		rapid.Int64Range(1, 4).Draw(t, "started"),
		rapid.SampledFrom([]eventv1.Phase{started, ongoing, ended}).Draw(t, "phase"),
		rapid.SampledFrom([]eventv1.Severity{0, info, warning, crit}).Draw(t, "severity"),
		rapid.Int64Range(1, 100_000_000).Draw(t, "at"),
	)
}

// Whatever reports come, in whatever order: transitions of an alert are opened, escalated upwards, closed; a machine and cause has
// one open alert at most; a repeat changes nothing; a book rebuilt from the events is equal and decides equally.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBook()
		var log []*eventv1.AlertEvent
		open := map[[2]string]string{}
		last := map[string]*eventv1.AlertEvent{}
		seen := map[string]bool{}
		rebuildAt := rapid.IntRange(0, 40).Draw(t, "rebuildAt")
		for i := range rapid.IntRange(0, 40).Draw(t, "n") {
			a := genReport(t)
			if i == rebuildAt {
				b = rebuilt(t, b, log)
			}
			for _, tr := range b.Apply(a) {
				ev := tr.Event
				if seen[ev.GetEventId()] {
					t.Fatalf("event %s twice", ev.GetEventId())
				}
				seen[ev.GetEventId()] = true
				check(t, open, last, ev)
				b.Recorded(ev.GetAlertId(), int64(len(log)))
				log = append(log, ev)
			}
			if got := b.Apply(proto.CloneOf(a)); len(got) != 0 {
				t.Fatalf("repeat of %v changed something", a)
			}
			if b.Open() != len(open) {
				t.Fatalf("%d open, model says %d", b.Open(), len(open))
			}
		}
		from := b.RestoreFrom(int64(len(log)))
		part := NewBook()
		for i, ev := range log[from:] {
			part.Restore(ev, from+int64(i))
		}
		sameViews(t, b, part)
	})
}

func check(t *rapid.T, open map[[2]string]string, last map[string]*eventv1.AlertEvent, ev *eventv1.AlertEvent) {
	key := [2]string{ev.GetEquipmentId(), ev.GetCause()}
	prev := last[ev.GetAlertId()]
	switch ev.GetTransition() {
	case eventv1.AlertTransition_ALERT_TRANSITION_OPENED:
		if prev != nil || open[key] != "" {
			t.Fatalf("%s opened while %q is open (before: %v)", ev.GetAlertId(), open[key], prev)
		}
		open[key] = ev.GetAlertId()
	case eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED:
		if open[key] != ev.GetAlertId() || ev.GetSeverity() <= prev.GetSeverity() {
			t.Fatalf("%s escalated from %v", ev.GetAlertId(), prev)
		}
	case eventv1.AlertTransition_ALERT_TRANSITION_CLOSED:
		if open[key] != ev.GetAlertId() {
			t.Fatalf("%s closed while %q is open", ev.GetAlertId(), open[key])
		}
		if !maps.Equal(prev.GetLabels(), ev.GetLabels()) {
			t.Fatalf("closed with labels %v after %v", ev.GetLabels(), prev.GetLabels())
		}
		delete(open, key)
	default:
		t.Fatalf("transition %v", ev.GetTransition())
	}
	last[ev.GetAlertId()] = ev
}

func rebuilt(t *rapid.T, b *Book, log []*eventv1.AlertEvent) *Book {
	r := NewBook()
	for i, ev := range log {
		r.Restore(ev, int64(i))
		r.Restore(ev, int64(i)) // reading twice must not matter
	}
	sameViews(t, b, r)
	return r
}

func sameViews(t *rapid.T, want, got *Book) {
	x, y := viewStrings(want), viewStrings(got)
	if !slices.Equal(x, y) {
		t.Fatalf("rebuilt book differs\nwant %q\ngot  %q", x, y)
	}
}

func viewStrings(b *Book) []string {
	var out []string
	for _, v := range b.Views() {
		out = append(out, fmt.Sprintf("%v", v)) // maps print sorted
	}
	slices.Sort(out)
	return out
}

func TestValidate(t *testing.T) {
	good := func() *eventv1.Anomaly { return report("m", "limit", 10, started, warning, 1) }
	if err := Validate(good()); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*eventv1.Anomaly){
		"equipment_id":  func(a *eventv1.Anomaly) { a.EquipmentId = "a b" },
		"gateway_id":    func(a *eventv1.Anomaly) { a.GatewayId = "<script>" },
		"episode_id":    func(a *eventv1.Anomaly) { a.EpisodeId = "x\r\nBcc: y" },
		"anomaly_id":    func(a *eventv1.Anomaly) { a.AnomalyId = "" },
		"cause":         func(a *eventv1.Anomaly) { a.Cause = "" },
		"phase":         func(a *eventv1.Anomaly) { a.Phase = 9 },
		"severity":      func(a *eventv1.Anomaly) { a.Severity = -1 },
		"score":         func(a *eventv1.Anomaly) { a.Score = math.NaN() },
		"contributions": func(a *eventv1.Anomaly) { a.Contributions = make([]*eventv1.Contribution, maxContributions+1) },
	} {
		a := good()
		spoil(a)
		if err := Validate(a); err == nil || !strings.HasPrefix(err.Error(), field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func FuzzValidateThenApply(f *testing.F) {
	seed, _ := proto.Marshal(report("m", "limit", 10, started, warning, 1))
	f.Add(seed)
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		var a eventv1.Anomaly
		if proto.Unmarshal(data, &a) != nil || Validate(&a) != nil {
			return
		}
		b := NewBook()
		for _, tr := range b.Apply(&a) {
			if _, err := proto.Marshal(tr.Event); err != nil {
				t.Fatalf("event cannot be encoded: %v", err)
			}
			if len(tr.Event.GetSummary()) > maxSummary {
				t.Fatal("summary not cut")
			}
		}
	})
}

func TestNames(t *testing.T) {
	for cause, want := range map[string]string{"behaviour": "TocsinBehaviour", "bad_quality": "TocsinBadQuality", "silence": "TocsinSilence"} {
		if got := AlertName(cause); got != want {
			t.Errorf("%s: %s, want %s", cause, got, want)
		}
	}
}

func TestAnnotations(t *testing.T) {
	a := report("m", "limit", 1_700_000_000_000_000, started, crit, 1)
	a.Contributions = []*eventv1.Contribution{
		{Sensor: "temperature", Share: 0.25, Observed: 90.123, ExpectedLow: 60, ExpectedHigh: 80, Detector: "limit"},
		{Sensor: "vibration", Share: 0.75, Observed: 9.5, ExpectedLow: math.NaN(), ExpectedHigh: math.NaN()},
	}
	got := NewBook().Apply(a)[0].Event.GetAnnotations()
	want := map[string]string{
		"summary": "bearing runs hot", "score": "0.99", "confidence": "0.5", "started": "2023-11-14T22:13:20Z",
		"sensors":     "vibration: observed 9.5, expected unknown (share 0.75)\ntemperature: observed 90.12, expected 60 to 80 (share 0.25, limit)",
		"description": "Machine m, cause limit, since 2023-11-14T22:13:20Z, score 0.99.\nvibration: observed 9.5, expected unknown (share 0.75)\ntemperature: observed 90.12, expected 60 to 80 (share 0.25, limit)",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
