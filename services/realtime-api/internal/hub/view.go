package hub

import (
	"cmp"
	"slices"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
)

// Scope is the machines that a reader is told of; for any other it is as if there were none. It depends on nothing else, so it holds for a machine's alerts, reports and
// coverage alike. nil: every machine.
type Scope func(id string, at places.Place) bool

// has tells whether a machine is told of. Call with the lock held.
func (h *Hub) has(in Scope, id string) bool {
	return in == nil || in(id, h.placeOf(id))
}

// Row is one machine as a list shows it.
type Row struct {
	ID, GatewayID string
	Place         places.Place
	State         queryv1.MachineState
	// Severity is the worst of its open alerts: a silent machine may be a critical one that fell silent.
	Severity eventv1.Severity
	Score    float64
	// LastUS is the end of its last window in event time; 0 before the first.
	LastUS     int64
	OpenAlerts int
	Version    uint64
	// ClosedAtMS is the broker's time of the frame that closed its last window, if that window is the latest change; else 0.
	ClosedAtMS int64
}

func (m *machine) row() Row {
	r := Row{
		ID: m.id, GatewayID: m.gatewayID, Place: m.place, State: m.state, Severity: m.severity(),
		OpenAlerts: len(m.open), Version: m.version,
	}
	if w := m.latest(); w != nil {
		r.Score, r.LastUS = w.Score, w.EndUS
		if w.Version == m.version {
			r.ClosedAtMS = w.ClosedAtMS
		}
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
// ago gives all. Only machines in scope.
func (h *Hub) FleetSince(since uint64, in Scope) FleetDelta {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.fleetSince(since, in)
}

// Since is FleetSince and AlertsSince as of one instant.
func (h *Hub) Since(since uint64, in Scope) (FleetDelta, []*eventv1.AlertEvent) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.fleetSince(since, in), h.alertsSince(since, in)
}

func (h *Hub) fleetSince(since uint64, in Scope) FleetDelta {
	d := FleetDelta{Version: h.version}
	if since == 0 || since > h.version || since < h.removedFloor {
		d.Reset, since = true, 0
		if in == nil {
			d.Rows = make([]Row, 0, len(h.machines))
		}
	}
	for e := h.recent.Front(); e != nil; e = e.Next() {
		m := e.Value.(*machine)
		if m.version <= since {
			break
		}
		if in != nil && !in(m.id, m.place) {
			continue
		}
		d.Rows = append(d.Rows, m.row())
	}
	if !d.Reset {
		for i := len(h.removed) - 1; i >= 0 && h.removed[i].version > since; i-- {
			if _, back := h.machines[h.removed[i].id]; !back && h.has(in, h.removed[i].id) {
				d.Removed = append(d.Removed, h.removed[i].id)
			}
		}
	}
	return d
}

// AlertsSince gives the latest event of each alert that changed after version since, latest change first, and
// the version that it is as of. 0 gives all that are open and the remembered closed ones.
func (h *Hub) AlertsSince(since uint64, in Scope) ([]*eventv1.AlertEvent, uint64) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.alertsSince(since, in), h.version
}

func (h *Hub) alertsSince(since uint64, in Scope) []*eventv1.AlertEvent {
	var out []*eventv1.AlertEvent
	for e := h.recentAlerts.Front(); e != nil; e = e.Next() {
		a := e.Value.(*alert)
		if a.version <= since {
			break
		}
		if h.has(in, a.Event.EquipmentId) {
			out = append(out, a.Event)
		}
	}
	return out
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

// Anomalies gives the latest reports, latest first: of the machines in scope, or of one of them.
func (h *Hub) Anomalies(in Scope, id string, limit int) []*eventv1.Anomaly {
	h.mu.RLock()
	defer h.mu.RUnlock()
	from := h.anomalies
	if id != "" {
		m := h.machines[id]
		if m == nil || !h.has(in, id) {
			return nil
		}
		from = m.anomalies
	}
	out := make([]*eventv1.Anomaly, 0, min(limit, len(from)))
	for i := len(from) - 1; i >= 0 && len(out) < limit; i-- {
		if id != "" || h.has(in, from[i].Event.EquipmentId) {
			out = append(out, from[i].Event)
		}
	}
	return out
}

// AlertKey is an alert's place in a list: open before closed, of the open ones the graver and then the latest started first, of the closed ones the latest closed.
// It tells where a page ended, whatever came and went since.
type AlertKey struct {
	Closed   bool
	Severity eventv1.Severity // 0 when closed
	At       int64            // started_us, or at_ms when closed
	ID       string
}

// KeyOf is where an alert stands in a list.
func KeyOf(e *eventv1.AlertEvent) AlertKey {
	if ended(e) {
		return AlertKey{Closed: true, At: e.AtMs, ID: e.AlertId}
	}
	return AlertKey{Severity: e.Severity, At: e.StartedUs, ID: e.AlertId}
}

// Compare orders keys as the list does.
func (a AlertKey) Compare(b AlertKey) int {
	if a.Closed != b.Closed {
		if a.Closed {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.At, a.At), cmp.Compare(a.ID, b.ID))
}

// AlertQuery says which alerts are wanted.
type AlertQuery struct {
	In            Scope
	EquipmentID   string // empty: of all machines
	IncludeClosed bool
	Match         func(e *eventv1.AlertEvent, at places.Place) bool // nil: all
	After         *AlertKey                                         // nil: from the first
	Limit         int
}

// Alerts gives alerts in the order of AlertKey, and how many match in all.
func (h *Hub) Alerts(q AlertQuery) (list []*eventv1.AlertEvent, total int) {
	h.mu.RLock()
	for _, a := range h.alerts {
		e := a.Event
		if (!a.Open && !q.IncludeClosed) || (q.EquipmentID != "" && e.EquipmentId != q.EquipmentID) || !h.has(q.In, e.EquipmentId) ||
			(q.Match != nil && !q.Match(e, h.placeOf(e.EquipmentId))) {
			continue
		}
		total++
		if q.After == nil || KeyOf(e).Compare(*q.After) > 0 {
			list = append(list, e)
		}
	}
	h.mu.RUnlock()
	slices.SortFunc(list, func(a, b *eventv1.AlertEvent) int { return KeyOf(a).Compare(KeyOf(b)) })
	return list[:min(len(list), q.Limit)], total
}

// placeOf is where a machine stands, known or not. Call with the lock held.
func (h *Hub) placeOf(id string) places.Place {
	if m := h.machines[id]; m != nil {
		return m.place
	}
	return h.where.Of(id)
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

// PlaceCount is a place and the machines there.
type PlaceCount struct {
	places.Place
	Machines, OpenAlerts int
}

// Places lists where the machines in scope stand, in order of site, line and group. Machines of which nothing is known stand at the empty place.
func (h *Hub) Places(in Scope) []PlaceCount {
	by := map[places.Place]*PlaceCount{}
	h.mu.RLock()
	for _, m := range h.machines {
		if in != nil && !in(m.id, m.place) {
			continue
		}
		c := by[m.place]
		if c == nil {
			c = &PlaceCount{Place: m.place}
			by[m.place] = c
		}
		c.Machines++
		c.OpenAlerts += len(m.open)
	}
	h.mu.RUnlock()
	out := make([]PlaceCount, 0, len(by))
	for _, c := range by {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b PlaceCount) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Group, b.Group))
	})
	return out
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

// Counts gives the hub's sizes at one instant; machines and alerts are those in scope. Cost: a look at every machine, where the scope is not all.
func (h *Hub) Counts(in Scope) Counts {
	h.mu.RLock()
	defer h.mu.RUnlock()
	c := Counts{
		Version: h.version, Machines: len(h.machines), States: h.states, Cells: h.cells,
		Anomalies: len(h.anomalies), OpenAlerts: h.openCount, ClosedAlerts: len(h.closed), Stats: h.stats,
	}
	if in == nil {
		return c
	}
	c = Counts{Version: h.version}
	for _, m := range h.machines {
		if !in(m.id, m.place) {
			continue
		}
		c.Machines++
		c.States[m.state]++
	}
	for id, open := range h.open {
		if len(open) > 0 && h.has(in, id) {
			c.OpenAlerts += len(open)
		}
	}
	return c
}
