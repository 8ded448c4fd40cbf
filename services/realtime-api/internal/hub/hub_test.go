package hub

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"
)

var roomy = Limits{Machines: 100, Windows: 8, Cells: 10_000, Anomalies: 1000, MachineAnomalies: 1000, OpenAlerts: 1000, ClosedAlerts: 1000}

// genEvents draws the records of a small fleet, several revisions and transitions of the same things among them.
func genEvents(t *rapid.T) []proto.Message {
	var out []proto.Message
	machine := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
	for range rapid.IntRange(0, 40).Draw(t, "windows") {
		id, start := machine.Draw(t, "machine"), rapid.Int64Range(0, 12).Draw(t, "start")*5
		rev := rapid.Uint32Range(0, 3).Draw(t, "revision")
		w := &eventv1.Window{EquipmentId: id, StartUs: start, EndUs: start + 5, Revision: rev, Score: float64(rev) / 10, Learning: rev == 0}
		for s := range rapid.IntRange(0, 4).Draw(t, "sensors") {
			// A revision's content depends on its identity only, as a deterministic processor's does.
			w.Sensors = append(w.Sensors, &eventv1.SensorWindow{Sensor: fmt.Sprint("s", s), Count: rev, Mean: float64(start), ExpectedLow: math.NaN()})
		}
		if i := slices.IndexFunc(out, func(m proto.Message) bool {
			o, ok := m.(*eventv1.Window)
			return ok && o.EquipmentId == id && o.StartUs == start && o.Revision == rev
		}); i >= 0 {
			w = out[i].(*eventv1.Window)
		}
		out = append(out, w)
	}
	for i := range rapid.IntRange(0, 15).Draw(t, "anomalies") {
		id := machine.Draw(t, "machine")
		out = append(out, &eventv1.Anomaly{
			AnomalyId: fmt.Sprint(i), EquipmentId: id, Cause: rapid.SampledFrom([]string{CauseSilence, "limit"}).Draw(t, "cause"),
			Phase: eventv1.Phase(rapid.Int32Range(1, 3).Draw(t, "phase")), ObservedUs: rapid.Int64Range(0, 5).Draw(t, "observed"),
			GatewayId: rapid.SampledFrom([]string{"", "g1", "g2"}).Draw(t, "gateway"),
		})
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "alerts") {
		id, at := machine.Draw(t, "machine"), int64(i)
		for tr := range rapid.Int32Range(1, 3).Draw(t, "transitions") {
			sev := min(eventv1.Severity(tr+2), eventv1.Severity_SEVERITY_CRITICAL)
			out = append(out, &eventv1.AlertEvent{
				EventId: fmt.Sprint(i, "/", tr), AlertId: fmt.Sprint(i), EquipmentId: id, Cause: "limit", Severity: sev,
				Transition: eventv1.AlertTransition(tr + 1), AtMs: at + int64(tr),
			})
		}
	}
	return out
}

func apply(t testing.TB, h *Hub, ms ...proto.Message) {
	t.Helper()
	for _, m := range ms {
		var err error
		switch m := proto.Clone(m).(type) { // the hub may cut what it is given
		case *eventv1.Window:
			err = h.ApplyWindow(m)
		case *eventv1.Anomaly:
			err = h.ApplyAnomaly(m)
		case *eventv1.AlertEvent:
			err = h.ApplyAlert(m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// dump is everything a reader can see, without the versions.
func dump(h *Hub) map[string]string {
	out := map[string]string{}
	rows, total := h.Rows(func(*Row) bool { return true }, "", 1<<20)
	out["total"] = fmt.Sprint(total)
	states := map[queryv1.MachineState]int{}
	for _, r := range rows {
		r.Version = 0
		out["row "+r.ID] = fmt.Sprintf("%+v", r)
		states[r.State]++
		ws, _ := h.Windows(r.ID, math.MinInt64, 1000)
		for _, w := range ws {
			c := *w
			c.Version = 0
			out[fmt.Sprintf("window %s %d", r.ID, w.StartUS)] = fmt.Sprintf("%+v", c)
		}
		for i, a := range h.Anomalies(nil, r.ID, 1000) {
			out[fmt.Sprintf("anomaly %s %d", r.ID, i)] = a.AnomalyId
		}
	}
	for i, a := range h.Anomalies(nil, "", 1000) {
		out[fmt.Sprint("anomaly ", i)] = a.AnomalyId
	}
	for _, a := range alertsOf(h, true, 1000) {
		out["alert "+a.AlertId] = a.EventId
	}
	c := h.Counts(nil)
	out["open"] = fmt.Sprint(c.OpenAlerts, len(alertsOf(h, false, 1000)))
	for s, n := range c.States {
		if n != states[queryv1.MachineState(s)] {
			out["miscounted"] = fmt.Sprint(c.States, states)
		}
	}
	return out
}

func TestAnyOrderEndsInTheSameState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		events := genEvents(rt)
		one, other := New(roomy), New(roomy)
		apply(t, one, events...)
		apply(t, other, rapid.Permutation(events).Draw(rt, "order")...)
		a, b := dump(one), dump(other)
		if !maps.Equal(a, b) {
			rt.Fatalf("orders differ:\n%v\n%v", a, b)
		}
		if a["miscounted"] != "" {
			rt.Fatalf("states miscounted: %s", a["miscounted"])
		}
	})
}

// A reader that looks at arbitrary moments and applies what it is given knows at the end what the hub knows, also
// when machines had to go for room.
func TestReadersOfChangesEndWithTheWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lim := roomy
		lim.Machines = rapid.IntRange(1, 6).Draw(rt, "room")
		h := New(lim)
		rows, alerts := map[string]Row{}, map[string]string{}
		windows := map[int64]uint32{}
		var seenFleet, seenAlerts, seenMachine uint64
		look := func() {
			d := h.FleetSince(seenFleet, nil)
			if d.Reset {
				clear(rows)
			}
			for _, id := range d.Removed {
				delete(rows, id)
			}
			for _, r := range d.Rows {
				rows[r.ID] = r
			}
			seenFleet = d.Version
			as, v := h.AlertsSince(seenAlerts, nil)
			for _, a := range as {
				alerts[a.AlertId] = a.EventId
			}
			seenAlerts = v
			m := h.MachineSince("a", seenMachine)
			if !m.Known {
				clear(windows)
				seenMachine = 0
				return
			}
			for _, w := range m.Windows {
				windows[w.StartUS] = w.Revision
			}
			seenMachine = m.Version
		}
		for _, e := range genEvents(rt) {
			apply(t, h, e)
			if rapid.Bool().Draw(rt, "look") {
				look()
			}
		}
		look()
		want, _ := h.Rows(func(*Row) bool { return true }, "", 1000)
		if len(want) != len(rows) {
			rt.Fatalf("reader has %v, hub %v", rows, want)
		}
		for _, r := range want {
			if rows[r.ID] != r {
				rt.Fatalf("reader has %+v, hub %+v", rows[r.ID], r)
			}
		}
		for _, a := range alertsOf(h, true, 1000) {
			if alerts[a.AlertId] != a.EventId {
				rt.Fatalf("reader has alert %q, hub %q", alerts[a.AlertId], a.EventId)
			}
		}
		ws, _ := h.Windows("a", math.MinInt64, 1000)
		for _, w := range ws {
			if rev, ok := windows[w.StartUS]; !ok || rev != w.Revision {
				rt.Fatalf("reader has revision %d of window %d, hub %d", rev, w.StartUS, w.Revision)
			}
		}
	})
}

func TestBoundsHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(name string, hi int) int { return rapid.IntRange(1, hi).Draw(rt, name) }
		lim := Limits{
			Machines: draw("machines", 4), Windows: draw("windows", 5), Cells: draw("cells", 12), Anomalies: draw("anomalies", 5),
			MachineAnomalies: draw("machine anomalies", 3), OpenAlerts: draw("open", 3), ClosedAlerts: draw("closed", 3),
		}
		h := New(lim)
		for _, e := range genEvents(rt) {
			apply(t, h, e)
			c := h.Counts(nil)
			// One machine's single window is kept even when it is wider than the bound.
			if c.Cells > max(lim.Cells, 4) || c.Machines > lim.Machines || c.Anomalies > lim.Anomalies ||
				c.OpenAlerts > lim.OpenAlerts || c.ClosedAlerts > lim.ClosedAlerts || len(h.alerts) != c.OpenAlerts+c.ClosedAlerts {
				rt.Fatalf("limits %+v, counts %+v", lim, c)
			}
			cells := 0
			for _, m := range h.machines {
				sum := 0
				for _, w := range m.windows {
					sum += len(w.Cells)
				}
				if len(m.windows) > lim.Windows || len(m.anomalies) > lim.MachineAnomalies || sum != m.cells {
					rt.Fatalf("machine %s: %d windows, %d anomalies, %d cells counted as %d", m.id, len(m.windows), len(m.anomalies), sum, m.cells)
				}
				cells += sum
			}
			if cells != c.Cells || h.recent.Len() != c.Machines || h.recentAlerts.Len() != len(h.alerts) {
				rt.Fatalf("%d cells counted as %d; %d machines in %d places", cells, c.Cells, c.Machines, h.recent.Len())
			}
			for id, open := range h.open {
				if h.machines[id] == nil && len(open) == 0 {
					rt.Fatalf("an empty set of alerts is kept for machine %s, which is gone", id)
				}
			}
		}
	})
}

func TestState(t *testing.T) {
	window := func(end int64, learning bool) *eventv1.Window {
		return &eventv1.Window{EquipmentId: "m", StartUs: end - 5, EndUs: end, Learning: learning}
	}
	alert := func(id, cause string, sev eventv1.Severity, tr eventv1.AlertTransition) *eventv1.AlertEvent {
		return &eventv1.AlertEvent{AlertId: id, EquipmentId: "m", Cause: cause, Severity: sev, Transition: tr}
	}
	silence := func(at int64, p eventv1.Phase) *eventv1.Anomaly {
		return &eventv1.Anomaly{AnomalyId: fmt.Sprint(at), EquipmentId: "m", Cause: CauseSilence, ObservedUs: at, Phase: p}
	}
	const opened, isClosed = eventv1.AlertTransition_ALERT_TRANSITION_OPENED, eventv1.AlertTransition_ALERT_TRANSITION_CLOSED
	const warning, critical = eventv1.Severity_SEVERITY_WARNING, eventv1.Severity_SEVERITY_CRITICAL
	h := New(roomy)
	for _, step := range []struct {
		why  string
		m    proto.Message
		want queryv1.MachineState
	}{
		{"first window", window(5, true), queryv1.MachineState_MACHINE_STATE_LEARNING},
		{"learned", window(10, false), queryv1.MachineState_MACHINE_STATE_OK},
		{"a late window of the past does not unlearn", window(4, true), queryv1.MachineState_MACHINE_STATE_OK},
		{"warning opens", alert("1", "limit", warning, opened), queryv1.MachineState_MACHINE_STATE_WARNING},
		{"critical opens", alert("2", "limit", critical, opened), queryv1.MachineState_MACHINE_STATE_CRITICAL},
		{"a good window does not clear an alert", window(15, false), queryv1.MachineState_MACHINE_STATE_CRITICAL},
		{"falls silent, says the processor", silence(20, eventv1.Phase_PHASE_STARTED), queryv1.MachineState_MACHINE_STATE_SILENT},
		{"speaks again", silence(30, eventv1.Phase_PHASE_ENDED), queryv1.MachineState_MACHINE_STATE_CRITICAL},
		{"an older word on the silence comes late", silence(25, eventv1.Phase_PHASE_ONGOING), queryv1.MachineState_MACHINE_STATE_CRITICAL},
		{"falls silent, says the router", alert("3", CauseSilence, warning, opened), queryv1.MachineState_MACHINE_STATE_SILENT},
		{"speaks again", alert("3", CauseSilence, warning, isClosed), queryv1.MachineState_MACHINE_STATE_CRITICAL},
		{"critical closes", alert("2", "limit", critical, isClosed), queryv1.MachineState_MACHINE_STATE_WARNING},
		{"its opening is read again", alert("2", "limit", critical, opened), queryv1.MachineState_MACHINE_STATE_WARNING},
		{"warning closes", alert("1", "limit", warning, isClosed), queryv1.MachineState_MACHINE_STATE_OK},
	} {
		apply(t, h, step.m)
		if r, _, _ := h.Machine("m"); r.State != step.want {
			t.Fatalf("%s: state %s, want %s", step.why, r.State, step.want)
		}
	}
}

// A wide machine among narrow ones costs the others history, not their place.
func TestWideMachineEvictsNobody(t *testing.T) {
	h := New(Limits{Machines: 100, Windows: 50, Cells: 1000, Anomalies: 1, MachineAnomalies: 1, OpenAlerts: 1, ClosedAlerts: 1})
	window := func(id string, at int64, sensors int) *eventv1.Window {
		w := &eventv1.Window{EquipmentId: id, StartUs: at, EndUs: at + 5}
		for s := range sensors {
			w.Sensors = append(w.Sensors, &eventv1.SensorWindow{Sensor: fmt.Sprint(s)})
		}
		return w
	}
	for at := range int64(100) {
		for m := range 20 {
			apply(t, h, window(fmt.Sprint("m", m), at*5, 10))
		}
		apply(t, h, window("wide", at*5, 600))
	}
	if c := h.Counts(nil); c.Machines != 21 || c.Stats.EvictedMachines != 0 || c.Cells > 1000 {
		t.Fatalf("%+v", c)
	}
}

func TestInvalidRecordsAreRefused(t *testing.T) {
	h := New(roomy)
	long := string(make([]byte, maxID+1))
	for _, w := range []*eventv1.Window{nil, {}, {EquipmentId: "m"}, {EquipmentId: "m", StartUs: 5, EndUs: 5}, {EquipmentId: long, EndUs: 5}, {EquipmentId: "m", EndUs: math.MaxInt64}, {EquipmentId: "m", StartUs: math.MinInt64}} {
		if h.ApplyWindow(w) == nil {
			t.Errorf("window %v accepted", w)
		}
	}
	for _, a := range []*eventv1.Anomaly{nil, {}, {EquipmentId: "m"}, {AnomalyId: "1"}, {EquipmentId: "m", AnomalyId: long}, {EquipmentId: "m", AnomalyId: "1", ObservedUs: math.MaxInt64}} {
		if h.ApplyAnomaly(a) == nil {
			t.Errorf("anomaly %v accepted", a)
		}
	}
	for _, a := range []*eventv1.AlertEvent{nil, {}, {EquipmentId: "m"}, {AlertId: "1"}, {EquipmentId: "m", AlertId: long}, {EquipmentId: "m", AlertId: "1", StartedUs: math.MinInt64}} {
		if h.ApplyAlert(a) == nil {
			t.Errorf("alert %v accepted", a)
		}
	}
	if c := h.Counts(nil); c.Machines != 0 {
		t.Errorf("%d machines made by invalid records", c.Machines)
	}
}

func TestEventsAreCut(t *testing.T) {
	h := New(roomy)
	a := &eventv1.AlertEvent{AlertId: "1", EquipmentId: "m", Summary: string(make([]byte, 1<<20)), Labels: map[string]string{}}
	for i := range 25_000 {
		a.Contributions = append(a.Contributions, &eventv1.Contribution{Sensor: fmt.Sprint(i), Share: float64(i)})
		a.Labels[fmt.Sprint(i)] = "x"
	}
	apply(t, h, a)
	got := alertsOf(h, false, 1)[0]
	if proto.Size(got) > 64<<10 || len(got.Contributions) != maxContributions || got.Contributions[0].Sensor != "24999" {
		t.Fatalf("%d bytes, %d contributions, first %v", proto.Size(got), len(got.Contributions), got.Contributions[0])
	}
}

func alertsOf(h *Hub, closed bool, limit int) []*eventv1.AlertEvent {
	list, _ := h.Alerts(AlertQuery{IncludeClosed: closed, Limit: limit})
	return list
}

func BenchmarkApplyWindow(b *testing.B) {
	h := New(DefaultLimits())
	w := &eventv1.Window{EquipmentId: "m"}
	for s := range 10 {
		w.Sensors = append(w.Sensors, &eventv1.SensorWindow{Sensor: fmt.Sprint("sensor", s)})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.EquipmentId, w.StartUs, w.EndUs = ids[i%len(ids)], int64(i)*5, int64(i)*5+5
		if err := h.ApplyWindow(w); err != nil {
			b.Fatal(err)
		}
	}
}

var ids = func() []string {
	out := make([]string, 10_000)
	for i := range out {
		out[i] = fmt.Sprint("machine-", i)
	}
	return out
}()
