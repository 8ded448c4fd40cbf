package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/postgrestest"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The same holds on SQLite and on PostgreSQL.
func TestJournal(t *testing.T) {
	tests := map[string]func(t *testing.T, open func() *Store){
		"what was saved is there after a restart": testSaveAndLoad,
		"newest state stands":                     testNewestStateStands,
		"queries":                                 testQueries,
		"notifications and figures":               testToldAndFigures,
		"what is old goes":                        testPrune,
		"two write the same":                      testTogether,
		"figures of a day by hand":                testFiguresOfADayByHand,
		"time to acknowledge an incident":         testTimeToAcknowledgeAnIncident,
	}
	for name, test := range tests {
		t.Run(name+" on SQLite", func(t *testing.T) { test(t, opener(t, "", t.TempDir())) })
	}
	t.Run("PostgreSQL", func(t *testing.T) {
		server := postgrestest.Start(t)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, opener(t, server.Database(t), "")) })
		}
	})
}

func opener(t *testing.T, url, dir string) func() *Store {
	return func() *Store {
		t.Helper()
		s, err := Open(t.Context(), url, dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
}

const t0 = int64(1_780_000_000_000)

// history is what a ledger makes of a few alerts: n machines, each with an alert that is acknowledged, judged and ends, and one that stands.
func history(n int) (*lifecycle.Ledger, Batch) {
	l := lifecycle.New(lifecycle.Policy{Rearm: time.Minute, Keep: 1000 * time.Hour})
	offset := int64(0)
	apply := func(machine, id string, tr eventv1.AlertTransition, ms int64, fill func(*eventv1.AlertEvent)) {
		ev := &eventv1.AlertEvent{
			EventId: id + "/" + lifecycle.TransitionName(tr), AlertId: id, EquipmentId: machine, Cause: "limit", Transition: tr, Severity: 2, AtMs: ms, StartedUs: ms * 1000,
			Score: 0.9, Summary: "runs \x00hot", Labels: map[string]string{"gateway_id": "gw-1", "equipment_id": machine},
			Contributions: []*eventv1.Contribution{{Sensor: "vibration", Share: 0.7}, {Sensor: "temperature", Share: 0.3}},
		}
		if tr == eventv1.AlertTransition_ALERT_TRANSITION_CLOSED {
			ev.EndedUs = ms * 1000
		}
		if fill != nil {
			fill(ev)
		}
		offset++
		_ = l.Apply(lifecycle.At{Offset: offset, MS: ms}, ev)
	}
	for i := range n {
		m, id := fmt.Sprintf("m_%02d", i), fmt.Sprintf("m_%02d/limit/1", i)
		at := t0 + int64(i)*60_000
		apply(m, id, eventv1.AlertTransition_ALERT_TRANSITION_OPENED, at, nil)
		apply(m, id, eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED, at+int64(i+1)*1000, func(ev *eventv1.AlertEvent) { ev.Actor, ev.Comment = "ada", "on it" })
		apply(m, id, eventv1.AlertTransition_ALERT_TRANSITION_VERDICT, at+20_000, func(ev *eventv1.AlertEvent) {
			ev.Actor, ev.Verdict = "ada", eventv1.AlertVerdict(1+i%4)
		})
		apply(m, id, eventv1.AlertTransition_ALERT_TRANSITION_CLOSED, at+30_000, nil)
		apply(m, id+"b", eventv1.AlertTransition_ALERT_TRANSITION_OPENED, at+100_000_000, func(ev *eventv1.AlertEvent) { ev.Severity = 3 })
		apply(m, id+"b", eventv1.AlertTransition_ALERT_TRANSITION_SHELVED, at+100_001_000, func(ev *eventv1.AlertEvent) { ev.Actor, ev.UntilMs = "bo", at+200_000_000 })
	}
	return l, Batch{Changes: l.Take(), Next: map[int32]int64{0: offset + 1}}
}

func save(t *testing.T, s *Store, b Batch) {
	t.Helper()
	if err := s.Save(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, s *Store, table string) (n int) {
	t.Helper()
	if err := s.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// What was saved is there after a restart, once, however often it was written; and a ledger goes on from it as if nothing had been.
func testSaveAndLoad(t *testing.T, open func() *Store) {
	l, b := history(5)
	s := open()
	save(t, s, b)
	save(t, s, b)
	stale := b
	stale.Next = map[int32]int64{0: 3} // another router, behind
	stale.Alerts = nil
	save(t, s, stale)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	if got, want := count(t, s, "alert_transitions"), len(b.Rows); got != want {
		t.Errorf("%d transitions, want %d", got, want)
	}
	alerts, alarms, next, err := s.Load(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if next[0] != b.Next[0] {
		t.Errorf("position %d, want %d", next[0], b.Next[0])
	}
	want := map[string]*lifecycle.Alert{}
	for _, a := range l.Alerts() {
		want[a.ID] = a
	}
	if len(alerts) != len(want) || len(alarms) != len(b.Alarms) {
		t.Errorf("%d alerts and %d alarms, want %d and %d", len(alerts), len(alarms), len(want), len(b.Alarms))
	}
	for _, a := range alerts {
		w := *want[a.ID]
		if !proto.Equal(a.Event, w.Event) {
			t.Errorf("%s: event %v", a.ID, a.Event)
		}
		w.Event = a.Event
		if !reflect.DeepEqual(*a, w) {
			t.Errorf("loaded\n%+v\nwant\n%+v", *a, w)
		}
	}
	for i, p := range b.Alarms {
		j := slices.IndexFunc(alarms, func(q lifecycle.Alarm) bool { return q.Key == p.Key })
		if j < 0 || !reflect.DeepEqual(alarms[j], b.Alarms[i]) {
			t.Errorf("alarm %v not loaded as it was", p.Key)
		}
	}
	if open, _, _, _ := s.Load(t.Context(), t0*2); len(open) != 5 {
		t.Errorf("%d alerts since ever after, want the 5 that stand", len(open))
	}
}

// An older state of an alert, from a router that is behind, does not replace a newer one.
func testNewestStateStands(t *testing.T, open func() *Store) {
	s := open()
	_, b := history(1)
	save(t, s, b)
	older := *b.Alerts[0]
	older.Offset, older.State, older.ClosedMS = 1, lifecycle.Unacknowledged, 0
	save(t, s, Batch{Changes: lifecycle.Changes{Alerts: []*lifecycle.Alert{&older}}})
	list, _, err := s.Alerts(t.Context(), Filter{AlertID: older.ID})
	if err != nil || len(list) != 1 || list[0].State != b.Alerts[0].State {
		t.Errorf("%+v, %v", list, err)
	}
	if err := s.Rewind(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	save(t, s, Batch{Changes: lifecycle.Changes{Alerts: []*lifecycle.Alert{&older}}})
	if list, _, err = s.Alerts(t.Context(), Filter{AlertID: older.ID}); err != nil || list[0].State != lifecycle.Unacknowledged {
		t.Errorf("after a rewind: %+v, %v", list, err)
	}
}

func testQueries(t *testing.T, open func() *Store) {
	s := open()
	_, b := history(12)
	save(t, s, b)
	for _, c := range []struct {
		name               string
		f                  Filter
		alerts, transition int
	}{
		{"all", Filter{}, 24, 72},
		{"machine", Filter{Machine: "m_03"}, 2, 6},
		{"another machine", Filter{Machine: "m%03"}, 0, 0},
		{"sensor", Filter{Sensor: "vibration"}, 24, 72},
		{"no such sensor", Filter{Sensor: "x' OR 1=1 --"}, 0, 0},
		{"severity", Filter{MinSeverity: 3}, 12, 24},
		{"states", Filter{States: []lifecycle.State{lifecycle.Shelved, lifecycle.Returned}}, 12, 12},
		{"some see some machines", Filter{Equipment: []string{"m_0*", "m_11"}}, 22, 66},
		{"_ in a prefix is itself", Filter{Equipment: []string{"m__*"}}, 0, 0},
		{"who sees nothing", Filter{Equipment: []string{}}, 0, 0},
		{"who sees all", Filter{Equipment: []string{"*"}}, 24, 72},
		{"since", Filter{SinceMS: t0 + 100_000_000}, 12, 24},
		{"until", Filter{UntilMS: t0 + 60_000}, 1, 4},
		{"a sensor of a machine of somebody's", Filter{Sensor: "temperature", Machine: "m_01", Equipment: []string{"m_02"}}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, limit := range []int{0, 1, 5} {
				f := c.f
				f.Limit = limit
				alerts, rows := pages(t, s, f)
				if len(alerts) != c.alerts || len(rows) != c.transition {
					t.Errorf("by %d: %d alerts and %d transitions, want %d and %d", limit, len(alerts), len(rows), c.alerts, c.transition)
				}
			}
		})
	}
	if got, _, err := s.Transitions(t.Context(), Filter{Transitions: []string{"acknowledged"}}); err != nil || len(got) != 12 || got[0].Actor != "ada" || got[0].Comment != "on it" {
		t.Errorf("%+v, %v", got, err)
	}
}

// pages reads a list page by page; no item may come twice.
func pages(t *testing.T, s *Store, f Filter) (alerts, rows map[string]bool) {
	t.Helper()
	alerts, rows = map[string]bool{}, map[string]bool{}
	g := f
	for more := true; more; more = g.After != (Cursor{}) {
		list, next, err := s.Alerts(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if alerts[a.ID] {
				t.Fatalf("alert %s twice", a.ID)
			}
			alerts[a.ID] = true
		}
		g.After = next
	}
	for more := true; more; more = f.After != (Cursor{}) {
		list, next, err := s.Transitions(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if rows[r.ID] {
				t.Fatalf("row %s twice", r.ID)
			}
			rows[r.ID] = true
		}
		f.After = next
	}
	return alerts, rows
}

func testToldAndFigures(t *testing.T, open func() *Store) {
	s := open()
	_, b := history(8)
	save(t, s, b)
	n := Told{ID: "1", MessageKey: "k1", AlertID: "m_00/limit/1", EquipmentID: "m_00", Receiver: "ops", Integration: "webhook", Status: "firing", Reason: "first_notification", Outcome: "retry", Attempts: 1, AtMS: t0 + 1000, Error: "serverError", Instance: "r-0"}
	again := n
	again.Outcome, again.Error, again.AtMS, again.LatencyMS = "sent", "", t0+2000, 2000
	other := again
	other.ID, other.MessageKey, other.AtMS = "2", "k2", t0+3*3_600_000
	for _, list := range [][]Told{{n}, {again, other}} {
		if err := s.SaveTold(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	told, err := s.Told(t.Context(), n.AlertID)
	if err != nil || len(told) != 2 || told[0].Attempts != 2 || told[0].Outcome != "sent" || told[0].LatencyMS != 2000 {
		t.Errorf("told %+v, %v", told, err)
	}
	from := time.UnixMilli(t0)
	fig, err := s.Figures(t.Context(), Filter{}, from, from.Add(24*time.Hour), from.Add(72*time.Hour), 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if fig.Alerts["warning"] != 8 || fig.States["shelved"] != 8 || fig.Acknowledged != 8 || len(fig.Stale) != 8 {
		t.Errorf("%+v", fig)
	}
	if fig.AckMedian != 4*time.Second || fig.AckP90 != 7*time.Second || fig.AckMost != 8*time.Second {
		t.Errorf("acknowledged within %s, %s, %s", fig.AckMedian, fig.AckP90, fig.AckMost)
	}
	if len(fig.Precision) != 8 || fig.Precision[0].Share != 0 || fig.Precision[7].Share != 1 {
		t.Errorf("precision %+v", fig.Precision)
	}
	if len(fig.Pages) != 2 || fig.Pages[0].Pages != 1 || !fig.Pages[1].Begin.Equal(from.Add(2*time.Hour)) {
		t.Errorf("pages %+v", fig.Pages)
	}
	fig, err = s.Figures(t.Context(), Filter{Equipment: []string{"m_07"}}, from, from.Add(24*time.Hour), from.Add(72*time.Hour), 2*time.Hour)
	if err != nil || fig.Alerts["warning"] != 1 || len(fig.Pages) != 0 || len(fig.Precision) != 1 {
		t.Errorf("for one machine: %+v, %v", fig, err)
	}
}

func testPrune(t *testing.T, open func() *Store) {
	s := open()
	_, b := history(6)
	save(t, s, b)
	if _, err := s.Prune(t.Context(), t0+3*60_000); err != nil {
		t.Fatal(err)
	}
	if got := count(t, s, "alerts"); got != 9 {
		t.Errorf("%d alerts, want 9: three were closed long enough ago", got)
	}
	if got := count(t, s, "alert_sensors"); got != 18 {
		t.Errorf("%d sensors, want 18", got)
	}
	if _, err := s.Prune(t.Context(), t0*2); err != nil {
		t.Fatal(err)
	}
	// What stands keeps its story.
	if got := count(t, s, "alerts"); got != 6 {
		t.Errorf("%d alerts, want the 6 that stand", got)
	}
	if got := count(t, s, "alert_transitions"); got != 12 {
		t.Errorf("%d transitions, want the 12 of what stands", got)
	}
}

// Two routers may write the same at once.
func testTogether(t *testing.T, open func() *Store) {
	_, b := history(50)
	errs := make(chan error, 2)
	for _, s := range []*Store{open(), open()} {
		go func() {
			var err error
			for try := 0; try < 20; try++ { // as the desk does: a deadlock between the two is tried again
				if err = s.Save(context.Background(), b); err == nil {
					break
				}
			}
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if got, want := count(t, open(), "alert_transitions"), len(b.Rows); got != want {
		t.Errorf("%d transitions, want %d", got, want)
	}
}

// A damaged file is set aside, not a reason to stay down.
func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	open := opener(t, "", dir)
	s := open()
	_, b := history(50)
	save(t, s, b)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte(strings.Repeat("rubbish ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open()
	if s.Reset() == "" {
		t.Fatal("the damage was not seen")
	}
	if n := count(t, s, "alerts"); n != 0 {
		t.Errorf("%d alerts in a new journal", n)
	}
	save(t, s, b)
}
