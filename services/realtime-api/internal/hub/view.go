package hub

import (
	"cmp"
	"slices"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"
)

// Row is one machine as a list shows it.
type Row struct {
	ID, GatewayID string
	State         queryv1.MachineState
	// Severity is the worst of its open alerts: a silent machine may be a critical one that fell silent.
	Severity eventv1.Severity
	Score    float64
	// LastUS is the end of its last window in event time; 0 before the first.
	LastUS     int64
	OpenAlerts int
	Version    uint64
}

func (m *machine) row() Row {
	r := Row{
		ID: m.id, GatewayID: m.gatewayID, State: m.state, Severity: m.severity(),
		OpenAlerts: len(m.open), Version: m.version,
	}
	if w := m.latest(); w != nil {
		r.Score, r.LastUS = w.Score, w.EndUS
	}
	return r
}

// FleetDelta is what changed of the fleet between two versions.
type FleetDelta struct {
	Version uint64
	// Reset tells that Rows is the whole fleet: forget what was before.
	Reset   bool
	Rows    []Row
	Removed []string
}

// Version is the version of the latest change.
func (h *Hub) Version() uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.version
}

// FleetSince gives the machines that changed after version since; 0, a version from the future, or one too long
// ago gives all.
func (h *Hub) FleetSince(since uint64) FleetDelta {
	h.mu.RLock()
	defer h.mu.RUnlock()
	d := FleetDelta{Version: h.version}
	if since == 0 || since > h.version || since < h.removedFloor {
		d.Reset, since = true, 0
		d.Rows = make([]Row, 0, len(h.machines))
	}
	for e := h.recent.Front(); e != nil; e = e.Next() {
		m := e.Value.(*machine)
		if m.version <= since {
			break
		}
		d.Rows = append(d.Rows, m.row())
	}
	if !d.Reset {
		for i := len(h.removed) - 1; i >= 0 && h.removed[i].version > since; i-- {
			if _, back := h.machines[h.removed[i].id]; !back {
				d.Removed = append(d.Removed, h.removed[i].id)
			}
		}
	}
	return d
}

// AlertsSince gives the latest event of each alert that changed after version since, latest change first, and
// the version that it is as of. 0 gives all that are open and the remembered closed ones.
func (h *Hub) AlertsSince(since uint64) ([]*eventv1.AlertEvent, uint64) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var out []*eventv1.AlertEvent
	for e := h.recentAlerts.Front(); e != nil; e = e.Next() {
		a := e.Value.(*alert)
		if a.version <= since {
			break
		}
		out = append(out, a.Event)
	}
	return out, h.version
}

// MachineDelta is what changed of one machine after a version.
type MachineDelta struct {
	Version   uint64
	Known     bool
	Row       Row
	Sensors   []string // names in the latest window
	Windows   []*Window
	Anomalies []*eventv1.Anomaly
	Alerts    []*eventv1.AlertEvent // that changed, closed ones included
}

// Changed tells whether there is anything in it.
func (d *MachineDelta) Changed(since uint64) bool { return d.Known && d.Row.Version > since }

// MachineSince gives what changed of one machine after version since; 0 gives all that is kept.
func (h *Hub) MachineSince(id string, since uint64) MachineDelta {
	h.mu.RLock()
	defer h.mu.RUnlock()
	d := MachineDelta{Version: h.version}
	m := h.machines[id]
	if m == nil {
		return d
	}
	d.Known, d.Row = true, m.row()
	if m.version <= since {
		return d
	}
	if w := m.latest(); w != nil {
		d.Sensors = w.Sensors
	}
	for _, w := range m.windows {
		if w.Version > since {
			d.Windows = append(d.Windows, w)
		}
	}
	for _, a := range m.anomalies {
		if a.Version > since {
			d.Anomalies = append(d.Anomalies, a.Event)
		}
	}
	for e := h.recentAlerts.Front(); e != nil; e = e.Next() {
		a := e.Value.(*alert)
		if a.version <= since {
			break
		}
		if a.Event.EquipmentId == id {
			d.Alerts = append(d.Alerts, a.Event)
		}
	}
	return d
}

// Machine gives one machine and the sensors of its latest window.
func (h *Hub) Machine(id string) (r Row, sensors []string, ok bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	m := h.machines[id]
	if m == nil {
		return Row{}, nil, false
	}
	if w := m.latest(); w != nil {
		sensors = w.Sensors
	}
	return m.row(), sensors, true
}

// Windows gives a machine's windows that end after sinceUS, oldest first, the latest limit of them; ok is false
// for a machine that is not known.
func (h *Hub) Windows(id string, sinceUS int64, limit int) (ws []*Window, ok bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	m := h.machines[id]
	if m == nil {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(m.windows, sinceUS, func(w *Window, t int64) int {
		if w.EndUS <= t {
			return -1
		}
		return 1
	})
	ws = m.windows[i:]
	if len(ws) > limit {
		ws = ws[len(ws)-limit:]
	}
	return slices.Clone(ws), true
}

// Anomalies gives the latest reports, latest first: of the fleet, or of one machine.
func (h *Hub) Anomalies(id string, limit int) []*eventv1.Anomaly {
	h.mu.RLock()
	defer h.mu.RUnlock()
	from := h.anomalies
	if id != "" {
		m := h.machines[id]
		if m == nil {
			return nil
		}
		from = m.anomalies
	}
	out := make([]*eventv1.Anomaly, 0, min(limit, len(from)))
	for i := len(from) - 1; i >= 0 && len(out) < limit; i-- {
		out = append(out, from[i].Event)
	}
	return out
}

// Alerts gives alerts, open before closed, graver first, then the latest started; id "" means of all machines.
func (h *Hub) Alerts(id string, includeClosed bool, limit int) []*eventv1.AlertEvent {
	h.mu.RLock()
	var out []*eventv1.AlertEvent
	for _, a := range h.alerts {
		if (a.Open || includeClosed) && (id == "" || a.Event.EquipmentId == id) {
			out = append(out, a.Event)
		}
	}
	h.mu.RUnlock()
	closed := func(e *eventv1.AlertEvent) int {
		if e.Transition == eventv1.AlertTransition_ALERT_TRANSITION_CLOSED {
			return 1
		}
		return 0
	}
	slices.SortFunc(out, func(a, b *eventv1.AlertEvent) int {
		if c := cmp.Compare(closed(a), closed(b)); c != 0 {
			return c
		}
		if closed(a) == 0 {
			if c := cmp.Compare(b.Severity, a.Severity); c != 0 {
				return c
			}
			return cmp.Or(cmp.Compare(b.StartedUs, a.StartedUs), cmp.Compare(a.AlertId, b.AlertId))
		}
		return cmp.Or(cmp.Compare(b.AtMs, a.AtMs), cmp.Compare(a.AlertId, b.AlertId))
	})
	if len(out) > limit {
		out = out[:limit]
	}
	return out
}

// Rows gives the machines that match, in order of id, starting after the given one, at most limit; total counts
// all that match, wherever they start.
func (h *Hub) Rows(match func(*Row) bool, after string, limit int) (rows []Row, total int) {
	h.mu.RLock()
	for _, m := range h.machines {
		r := m.row()
		if !match(&r) {
			continue
		}
		total++
		if r.ID > after {
			rows = append(rows, r)
		}
	}
	h.mu.RUnlock()
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	if len(rows) > limit {
		rows = rows[:limit]
	}
	return rows, total
}

// Counts are the hub's sizes.
type Counts struct {
	Version  uint64
	Machines int
	// States counts machines by queryv1.MachineState.
	States                                     [int(queryv1.MachineState_MACHINE_STATE_SILENT) + 1]int
	Cells, Anomalies, OpenAlerts, ClosedAlerts int
	Stats                                      Stats
}

// Counts gives the hub's sizes at one instant.
func (h *Hub) Counts() Counts {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return Counts{
		Version: h.version, Machines: len(h.machines), States: h.states, Cells: h.cells,
		Anomalies: len(h.anomalies), OpenAlerts: h.openCount, ClosedAlerts: len(h.closed), Stats: h.stats,
	}
}
