package hub

import (
	"container/list"
	"slices"
	"sort"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
)

// Cell is one sensor's statistics over one window. Sensor values are float32 on the wire, so float32 is kept.
type Cell struct {
	Mean, StdDev, Min, Max, Last float32
	ExpectedLow, ExpectedHigh    float32 // NaN while nothing is learned
	Score                        float32
	Count, Unusable              uint32
}

// Window is one machine's window. It never changes once the hub has it.
type Window struct {
	EquipmentID    string
	StartUS, EndUS int64
	ClosedAtMS     int64
	Score          float64
	Revision       uint32
	Learning       bool
	Regime         string
	Sensors        []string // parallel to Cells; shared between windows
	Cells          []Cell
	// Version is the hub's version when this window came in.
	Version uint64
}

// machine is what is known of one machine. The hub's lock guards it.
type machine struct {
	id        string
	place     places.Place
	gatewayID string
	gatewayAt int64 // observed_us of the report that named the gateway
	state     queryv1.MachineState
	version   uint64
	elem      *list.Element

	windows   []*Window // by StartUS ascending
	cells     int
	anomalies []*Anomaly
	open      map[string]*alert
	silence   *eventv1.Anomaly // latest report with cause silence
}

// CauseSilence is the cause of episodes in which nothing is heard of a machine.
const CauseSilence = "silence"

// compact turns the record into what is kept, sharing the sensors' names with the window before.
func (m *machine) compact(w *eventv1.Window) *Window {
	n := len(w.Sensors)
	nw := &Window{
		EquipmentID: m.id, StartUS: w.StartUs, EndUS: w.EndUs, ClosedAtMS: w.ClosedAtMs, Score: w.Score,
		Revision: w.Revision, Learning: w.Learning, Regime: boundText(w.Regime), Cells: make([]Cell, n),
	}
	var names []string
	if len(m.windows) > 0 {
		names = m.windows[len(m.windows)-1].Sensors
	}
	same := len(names) == n
	for i, s := range w.Sensors {
		same = same && names[i] == s.GetSensor()
		nw.Cells[i] = Cell{
			Mean: float32(s.GetMean()), StdDev: float32(s.GetStddev()), Min: float32(s.GetMin()), Max: float32(s.GetMax()),
			Last: float32(s.GetLast()), ExpectedLow: float32(s.GetExpectedLow()), ExpectedHigh: float32(s.GetExpectedHigh()),
			Score: float32(s.GetScore()), Count: s.GetCount(), Unusable: s.GetUnusable(),
		}
	}
	if !same {
		names = make([]string, n)
		for i, s := range w.Sensors {
			names[i] = s.GetSensor()
		}
	}
	nw.Sensors = names
	return nw
}

// insert puts w in its place; false when it is older than all that is kept, or not newer than the revision held.
func (m *machine) insert(w *Window, limit int) bool {
	i := sort.Search(len(m.windows), func(i int) bool { return m.windows[i].StartUS >= w.StartUS })
	if i < len(m.windows) && m.windows[i].StartUS == w.StartUS {
		if m.windows[i].Revision >= w.Revision {
			return false
		}
		m.cells += len(w.Cells) - len(m.windows[i].Cells)
		m.windows[i] = w
		return true
	}
	if i == 0 && len(m.windows) >= limit {
		return false
	}
	m.windows = slices.Insert(m.windows, i, w)
	m.cells += len(w.Cells)
	if len(m.windows) > limit {
		m.dropOldest()
	}
	return true
}

func (m *machine) dropOldest() {
	m.cells -= len(m.windows[0].Cells)
	copy(m.windows, m.windows[1:])
	m.windows[len(m.windows)-1] = nil
	m.windows = m.windows[:len(m.windows)-1]
}

// hear notes what a report says of the machine beside being listed: its gateway, and whether it is silent.
func (m *machine) hear(ev *eventv1.Anomaly) bool {
	changed := false
	if g := ev.GatewayId; g != "" && (m.gatewayID == "" || ev.ObservedUs > m.gatewayAt || (ev.ObservedUs == m.gatewayAt && g > m.gatewayID)) {
		changed = g != m.gatewayID
		m.gatewayID, m.gatewayAt = g, ev.ObservedUs
	}
	if ev.Cause == CauseSilence && (m.silence == nil || laterReport(ev, m.silence)) {
		m.silence, changed = ev, true
	}
	return changed
}

// judge derives the state: it decides nothing that the processor and the router have not said.
func (m *machine) judge() queryv1.MachineState {
	if m.silence != nil && m.silence.Phase != eventv1.Phase_PHASE_ENDED {
		return queryv1.MachineState_MACHINE_STATE_SILENT
	}
	for _, a := range m.open {
		if a.Event.Cause == CauseSilence {
			return queryv1.MachineState_MACHINE_STATE_SILENT
		}
	}
	switch m.severity() {
	case eventv1.Severity_SEVERITY_CRITICAL:
		return queryv1.MachineState_MACHINE_STATE_CRITICAL
	case eventv1.Severity_SEVERITY_WARNING:
		return queryv1.MachineState_MACHINE_STATE_WARNING
	}
	if w := m.latest(); w == nil || w.Learning {
		return queryv1.MachineState_MACHINE_STATE_LEARNING
	}
	return queryv1.MachineState_MACHINE_STATE_OK
}

// severity is the worst of the open alerts.
func (m *machine) severity() eventv1.Severity {
	worst := eventv1.Severity_SEVERITY_UNSPECIFIED
	for _, a := range m.open {
		worst = max(worst, a.Event.Severity)
	}
	return worst
}

func (m *machine) latest() *Window {
	if len(m.windows) == 0 {
		return nil
	}
	return m.windows[len(m.windows)-1]
}
