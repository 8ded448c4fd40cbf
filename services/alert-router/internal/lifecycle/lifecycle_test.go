package lifecycle

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts anew")

const (
	opened    = eventv1.AlertTransition_ALERT_TRANSITION_OPENED
	escalated = eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED
	ended     = eventv1.AlertTransition_ALERT_TRANSITION_CLOSED
	acked     = eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED
	shelved   = eventv1.AlertTransition_ALERT_TRANSITION_SHELVED
	unshelved = eventv1.AlertTransition_ALERT_TRANSITION_UNSHELVED
	removed   = eventv1.AlertTransition_ALERT_TRANSITION_OUT_OF_SERVICE
	returned  = eventv1.AlertTransition_ALERT_TRANSITION_IN_SERVICE
	judged    = eventv1.AlertTransition_ALERT_TRANSITION_VERDICT
)

var policy = Policy{Rearm: 30 * time.Minute, Keep: time.Hour}

// scripted is the policy of the scripts that a word names: hold-... has the rules that hold back.
func scripted(name string) Policy {
	p := policy
	if strings.HasPrefix(name, "hold-") {
		p.Holds = Holds{
			Gateways: true, Grace: 2 * time.Minute, Cooldown: 2 * time.Minute, Rate: Limit{4, time.Hour}, Chatter: Limit{5, 10 * time.Minute}, Flood: Limit{6, 10 * time.Minute},
			Groups: []Group{{Name: "line-a", Equipment: []string{"a-*"}, Pages: Limit{3, 10 * time.Minute}}, {Name: "line-k", Equipment: []string{"k-*"}, Incident: time.Minute}},
		}
	}
	return p
}

// epoch is when transcripts begin.
var epoch = time.Date(2026, 3, 28, 22, 0, 0, 0, time.UTC)

// logOf writes events as they stand in a log.
type logOf struct {
	offset int64
	now    time.Time
	n      int
	places map[string]place // of alerts, when not all are of one machine
}

type place struct {
	machine, cause, gateway string
	partition               int32
}

func (l *logOf) at() At { return l.in(0) }

func (l *logOf) in(partition int32) At {
	l.offset++
	return At{Partition: partition, Offset: l.offset, MS: l.now.UnixMilli()}
}

// event of an alert of machine m, cause limit: judge's ones by severity, people's by their id.
func (l *logOf) event(id string, t eventv1.AlertTransition, sev eventv1.Severity) *eventv1.AlertEvent {
	l.n++
	ev := &eventv1.AlertEvent{
		EventId: fmt.Sprintf("%s/%s", id, TransitionName(t)), AlertId: id, EquipmentId: "m", Cause: "limit", Transition: t, Severity: sev, AtMs: l.now.UnixMilli(),
		StartedUs: l.now.UnixMicro(), Summary: "runs hot", Labels: map[string]string{"gateway_id": "gw"},
	}
	switch {
	case t == escalated:
		ev.EventId += fmt.Sprint("-", sev)
	case t == ended:
		ev.EndedUs = l.now.UnixMicro()
	case ByPeople(t):
		ev.EventId, ev.Actor = fmt.Sprintf("%s/%d", ev.EventId, l.n), "ada"
	}
	return ev
}

var (
	words = map[string]eventv1.AlertTransition{
		"open": opened, "escalate": escalated, "close": ended, "ack": acked, "shelve": shelved, "unshelve": unshelved, "remove": removed, "return": returned, "verdict": judged,
	}
	grades = map[string]eventv1.Severity{"info": 1, "warning": 2, "critical": 3}
)

// play runs a script, one step a line: "wait DURATION", or "WORD ALERT [info|warning|critical] [DURATION]"; and gives the rows.
// Of an alert that opens also m=MACHINE, cause=CAUSE, gw=GATEWAY (silent with it) and p=PARTITION.
func play(t *testing.T, p Policy, script string) string {
	t.Helper()
	var out strings.Builder
	l, log := New(p), &logOf{now: epoch, places: map[string]place{}}
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			fmt.Fprintln(&out, line)
			continue
		}
		fmt.Fprintf(&out, "> %s\n", line)
		f := strings.Fields(line)
		var err error
		if f[0] == "wait" {
			d, parseErr := time.ParseDuration(f[1])
			if parseErr != nil {
				t.Fatal(parseErr)
			}
			for end := log.now.Add(d); log.now.Before(end); {
				log.now = log.now.Add(min(time.Minute, end.Sub(log.now)))
				for partition := range int32(2) {
					at := log.in(partition)
					l.Advance(at.Partition, at.Offset, at.MS)
				}
			}
		} else {
			if _, ok := log.places[f[1]]; !ok {
				log.places[f[1]] = placeOf(f[2:])
			}
			pl := log.places[f[1]]
			ev := log.event(f[1], words[f[0]], eventv1.Severity_SEVERITY_WARNING)
			for _, a := range f[2:] {
				if g, ok := grades[a]; ok {
					ev.Severity = g
				} else if d, parseErr := time.ParseDuration(a); parseErr == nil {
					ev.UntilMs = log.now.Add(d).UnixMilli()
				}
			}
			if ev.GetTransition() == judged {
				ev.Verdict = eventv1.AlertVerdict_ALERT_VERDICT_FALSE
			}
			ev.EquipmentId, ev.Cause = pl.machine, pl.cause
			if pl.gateway != "" {
				ev.Labels, ev.Origin = map[string]string{"gateway_id": pl.gateway}, eventv1.Origin_ORIGIN_GATEWAY
			}
			err = l.Apply(log.in(pl.partition), ev)
		}
		for _, r := range l.Take().Rows {
			fmt.Fprintf(&out, "  %s %-6s %-14s -> %-14s by %s", time.UnixMilli(r.AtMS).UTC().Format("15:04:05"), r.AlertID, r.Transition, r.State, r.Actor)
			if r.UntilMS != 0 {
				fmt.Fprintf(&out, ", until %s", time.UnixMilli(r.UntilMS).UTC().Format("15:04:05"))
			}
			if r.Comment != "" {
				fmt.Fprintf(&out, " (%s)", r.Comment)
			}
			if r.Transition == "closed" && l.Deferred(r.AlertID) {
				fmt.Fprint(&out, ", which waits for the others")
			}
			fmt.Fprintln(&out)
		}
		if err != nil {
			fmt.Fprintf(&out, "  nothing: %v\n", err)
		}
	}
	return out.String()
}

func placeOf(words []string) place {
	p := place{machine: "m", cause: "limit"}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "m":
			p.machine = v
		case "cause":
			p.cause = v
		case "gw":
			p.gateway = v
		case "p":
			p.partition = 1
		}
	}
	return p
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			script, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got, golden := play(t, scripted(filepath.Base(f)), string(script)), strings.TrimSuffix(f, ".script")+".transcript"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// A repeated event, from people or the judge, changes nothing and has no row.
func TestRepeats(t *testing.T) {
	l, log := New(policy), &logOf{now: epoch}
	open := log.event("a", opened, 2)
	ack := log.event("a", acked, 2)
	shelf := log.event("a", shelved, 2)
	shelf.UntilMs = epoch.Add(time.Hour).UnixMilli()
	for _, ev := range []*eventv1.AlertEvent{open, ack, shelf} {
		if err := l.Apply(log.at(), ev); err != nil {
			t.Fatal(err)
		}
	}
	l.Take()
	for _, ev := range []*eventv1.AlertEvent{open, ack, shelf} {
		if err := l.Apply(log.at(), ev); err != nil {
			t.Errorf("%s again: %v", ev.GetEventId(), err)
		}
	}
	if rows := l.Take().Rows; len(rows) != 0 {
		t.Errorf("rows of repeats: %+v", rows)
	}
}

// What somebody says of an alert that is only in the journal any more is taken by what their event tells of it.
func TestActOnForgottenAlert(t *testing.T) {
	l, log := New(policy), &logOf{now: epoch}
	ev := log.event("old", judged, 3)
	ev.EndedUs, ev.Verdict = epoch.Add(-24*time.Hour).UnixMicro(), eventv1.AlertVerdict_ALERT_VERDICT_REAL
	if err := l.Apply(log.at(), ev); err != nil {
		t.Fatal(err)
	}
	c := l.Take()
	if len(c.Rows) != 1 || c.Rows[0].Verdict != ev.GetVerdict() || len(c.Alerts) != 1 || c.Alerts[0].Open() {
		t.Errorf("%+v", c)
	}
	l.Advance(0, 10, epoch.Add(2*policy.Keep).UnixMilli())
	if n := len(l.Alerts()); n != 0 {
		t.Errorf("%d alerts kept", n)
	}
}

// A later report may know less of what is at fault than the first: the alert stays part of its incident, and leaves it when it ends.
func TestIncidentOutlivesAnotherOrigin(t *testing.T) {
	p := policy
	p.Holds.Gateways = true
	l, log := New(p), &logOf{now: epoch}
	apply := func(ev *eventv1.AlertEvent, origin eventv1.Origin) {
		t.Helper()
		ev.Origin, ev.EquipmentId = origin, ev.GetAlertId()
		if err := l.Apply(log.at(), ev); err != nil {
			t.Fatal(err)
		}
	}
	apply(log.event("a", opened, 2), eventv1.Origin_ORIGIN_GATEWAY)
	apply(log.event("b", opened, 2), eventv1.Origin_ORIGIN_GATEWAY)
	apply(log.event("b", escalated, 3), eventv1.Origin_ORIGIN_MACHINE)
	apply(log.event("a", ended, 2), eventv1.Origin_ORIGIN_MACHINE)
	if members, _ := l.Leads("a"); !l.Deferred("a") || members != 1 {
		t.Errorf("the end of a waits for b: %t, %d members", l.Deferred("a"), members)
	}
	apply(log.event("b", ended, 3), eventv1.Origin_ORIGIN_MACHINE)
	if l.Deferred("a") {
		t.Error("all are back, and the end of a waits")
	}
	apply(log.event("c", opened, 2), eventv1.Origin_ORIGIN_GATEWAY)
	if c, _ := l.Alert("c"); c.Held != "" || c.Lead != "c" {
		t.Errorf("a new incident, and %q leads, held: %q", c.Lead, c.Held)
	}
}

func TestUnknownTransition(t *testing.T) {
	l, log := New(policy), &logOf{now: epoch}
	ev := log.event("a", 99, 2)
	if err := l.Apply(log.at(), ev); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func genEvent(t *rapid.T, log *logOf) *eventv1.AlertEvent {
	all := []eventv1.AlertTransition{opened, opened, escalated, ended, ended, acked, shelved, unshelved, removed, returned, judged}
	ev := log.event(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "alert"), rapid.SampledFrom(all).Draw(t, "transition"), eventv1.Severity(rapid.IntRange(1, 3).Draw(t, "severity")))
	if tr := ev.GetTransition(); tr == shelved || tr == removed && rapid.Bool().Draw(t, "ends") {
		ev.UntilMs = log.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute).UnixMilli()
	}
	if ev.GetTransition() == judged {
		ev.Verdict = eventv1.AlertVerdict(rapid.IntRange(1, 4).Draw(t, "verdict"))
	}
	return ev
}

// Whatever stands in the log: no row twice; a ledger that goes on from what was saved has the same rows as one that never stopped; what it gave out before does not change.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		forever := Policy{Rearm: policy.Rearm, Keep: 10_000 * time.Hour} // a log does not open an alert that was forgotten
		l, log := New(forever), &logOf{now: epoch}
		restarted := New(forever)
		saved, alarms := map[string]*Alert{}, map[Key]Alarm{}
		seen := map[string]bool{}
		stopAt := rapid.IntRange(0, 30).Draw(t, "stopAt")
		for i := range rapid.IntRange(0, 30).Draw(t, "n") {
			log.now = log.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "pause")) * time.Minute)
			if i == stopAt {
				restarted = New(forever)
				var list []*Alert
				for _, a := range saved {
					list = append(list, a)
				}
				var ps []Alarm
				for _, p := range alarms {
					ps = append(ps, p)
				}
				restarted.Load(list, ps)
			}
			at, ev := log.at(), genEvent(t, log)
			errA, errB := l.Apply(at, ev), restarted.Apply(at, ev)
			if !errors.Is(errA, errB) && !errors.Is(errB, errA) {
				t.Fatalf("%s: %v, after a restart: %v", ev.GetEventId(), errA, errB)
			}
			a, b := l.Take(), restarted.Take()
			if i >= stopAt && !slices.Equal(a.Rows, b.Rows) {
				t.Fatalf("%s gives\n%+v\nafter a restart\n%+v", ev.GetEventId(), a.Rows, b.Rows)
			}
			for _, r := range a.Rows {
				if seen[r.ID] {
					t.Fatalf("row %s twice", r.ID)
				}
				seen[r.ID] = true
			}
			for _, x := range a.Alerts {
				saved[x.ID] = x
				if x.State == Acknowledged && x.Ack == nil || x.Open() != (x.ClosedMS == 0) {
					t.Fatalf("alert %+v", x)
				}
			}
			for _, p := range a.Alarms {
				alarms[p.Key] = p
			}
		}
	})
}

// An alert that ends and is forgotten before anybody asks has changed all the same: catching up reads hours at once.
func TestForgottenAlertIsStillAChange(t *testing.T) {
	l, log := New(policy), &logOf{now: epoch}
	_ = l.Apply(log.at(), log.event("a", opened, 2))
	_ = l.Apply(log.at(), log.event("a", ended, 2))
	log.now = log.now.Add(2 * policy.Keep)
	at := log.at()
	l.Advance(at.Partition, at.Offset, at.MS)
	if c := l.Take(); len(c.Alerts) != 1 || c.Alerts[0].Open() || len(l.Alerts()) != 0 {
		t.Errorf("%+v", c)
	}
}
