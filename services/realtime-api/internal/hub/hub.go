// Package hub holds what is live: every machine with its recent windows, the recent anomalies, and the alerts.
//
// It does no I/O and reads no clock: whoever feeds it says what time it is. Memory is bounded by Limits, whatever
// arrives. What it holds does not depend on the order in which records of different topics or revisions of one
// window arrive, as long as no bound binds: the highest revision of a window stands, an alert that was closed
// stays closed.
//
// # Following changes
//
// Each change is stamped with a version, and everything that changed lies in a list with the latest in front. A
// reader that says which version it has seen gets what is newer: the latest state of each thing once, however
// often it changed. So a slow reader costs no queue; it sees fewer steps, never a wrong state.
//
// # Concurrency and cost
//
// All methods may be called from any goroutine; one lock guards all. Windows, anomalies and alerts never change
// once they are in, so readers get pointers and encode outside the lock. Applying a record is O(sensors), a read
// of changes O(changes).
package hub

import (
	"container/list"
	"errors"
	"fmt"
	"sync"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
)

// Limits bound the hub's memory.
type Limits struct {
	// Machines is how many machines are known; the one that was silent longest without an open alert goes first.
	Machines int
	// Windows is how many windows are kept of each machine.
	Windows int
	// Cells is how many sensor-windows (40 bytes each) are kept of all machines. Where it binds, each machine
	// keeps an equal share, at least its latest window.
	Cells int
	// Anomalies is how many reports are kept of the fleet, MachineAnomalies of each machine.
	Anomalies, MachineAnomalies int
	// OpenAlerts is a safety net far above any real fleet; ClosedAlerts is how many closed ones are remembered.
	OpenAlerts, ClosedAlerts int
}

// DefaultLimits hold 20,000 machines, in at most about 600 MB.
func DefaultLimits() Limits {
	return Limits{
		Machines: 20_000, Windows: 180, Cells: 12_000_000,
		Anomalies: 2_000, MachineAnomalies: 32, OpenAlerts: 50_000, ClosedAlerts: 1_000,
	}
}

// Validate names the first bound that is wrong.
func (l Limits) Validate() error {
	for _, f := range []struct {
		name string
		v    int
	}{
		{"machines", l.Machines},
		{"windows", l.Windows},
		{"cells", l.Cells},
		{"anomalies", l.Anomalies},
		{"machine_anomalies", l.MachineAnomalies},
		{"open_alerts", l.OpenAlerts},
		{"closed_alerts", l.ClosedAlerts},
	} {
		if f.v < 1 || f.v > 1<<30 {
			return fmt.Errorf("%s: %d is not in 1..2^30", f.name, f.v)
		}
	}
	return nil
}

// ErrInvalid is what Apply returns for a record that decodes but cannot be meant: without a machine, or with an
// id too long to be one.
var ErrInvalid = errors.New("invalid record")

// maxID bounds ids that come from records. Machine ids are at most 128 bytes; an alert id holds one and a cause.
const maxID = 512

// maxTimeUS is the end of the year 9999: no clock of a machine is meant to say more, and dates beyond it cannot be
// written by everybody.
const maxTimeUS = 253_402_300_799_000_000

func validTime(us int64) bool { return us >= -maxTimeUS && us <= maxTimeUS }

// Hub is the live state. Make one with New.
type Hub struct {
	lim Limits

	mu       sync.RWMutex
	version  uint64
	machines map[string]*machine
	recent   *list.List // of *machine, latest change in front
	cells    int
	states   [int(queryv1.MachineState_MACHINE_STATE_SILENT) + 1]int

	// Machines that were dropped for room: ids by version, oldest first, for readers that still show them.
	removed      []tombstone
	removedFloor uint64 // readers older than this must start again

	anomalies []*Anomaly // by (observed_us, id) ascending

	alerts       map[string]*alert
	recentAlerts *list.List                   // of *alert, latest change in front
	open         map[string]map[string]*alert // by machine and alert id; each known machine shares its own
	closed       []*alert                     // by (at_ms, id) ascending
	openCount    int

	stats Stats
	where *places.Map

	cov covered // under a lock of its own
}

type tombstone struct {
	id      string
	version uint64
}

// maxTombstones bounds the memory of dropped machines.
const maxTombstones = 4096

// Stats count what the bounds and the data cost so far.
type Stats struct {
	EvictedMachines, EvictedAlerts, StaleRevisions uint64
}

// New makes an empty hub.
func New(lim Limits) *Hub {
	return &Hub{
		version: 1, // 0 is the version of a reader that has seen nothing
		lim:     lim, machines: make(map[string]*machine), recent: list.New(),
		cov:    covered{machines: make(map[string]*eventv1.MachineCoverage)},
		alerts: make(map[string]*alert), recentAlerts: list.New(), open: make(map[string]map[string]*alert),
	}
}

// Locate says where machines stand. Call before anything is applied.
func (h *Hub) Locate(where *places.Map) { h.where = where }

// next stamps a change. Call with the lock held.
func (h *Hub) next() uint64 {
	h.version++
	return h.version
}

// machine finds a machine or makes room for it. Call with the lock held.
func (h *Hub) machine(id string) *machine {
	if m, ok := h.machines[id]; ok {
		return m
	}
	for len(h.machines) >= h.lim.Machines {
		h.evictMachine()
	}
	open := h.open[id] // alerts outlive a machine that was dropped
	if open == nil {
		open = make(map[string]*alert)
		h.open[id] = open
	}
	m := &machine{id: id, place: h.where.Of(id), state: queryv1.MachineState_MACHINE_STATE_LEARNING, open: open}
	m.elem = h.recent.PushFront(m)
	h.machines[id] = m
	h.states[m.state]++
	return m
}

// evictMachine drops the machine that changed longest ago, if it can one without an open alert.
func (h *Hub) evictMachine() {
	victim := h.recent.Back()
	for e, n := victim, 0; e != nil && n < 64; e, n = e.Prev(), n+1 {
		if len(e.Value.(*machine).open) == 0 {
			victim = e
			break
		}
	}
	if victim == nil {
		return
	}
	h.forget(victim.Value.(*machine))
	h.stats.EvictedMachines++
}

// forget drops a machine and tells readers so. Call with the lock held.
func (h *Hub) forget(m *machine) {
	h.recent.Remove(m.elem)
	delete(h.machines, m.id)
	if len(m.open) == 0 {
		delete(h.open, m.id)
	}
	h.states[m.state]--
	h.cells -= m.cells
	h.removed = append(h.removed, tombstone{m.id, h.next()})
	if over := len(h.removed) - maxTombstones; over > 0 {
		h.removedFloor = h.removed[over-1].version
		h.removed = append(h.removed[:0], h.removed[over:]...)
	}
}

// touch recomputes a machine's state and moves it to the front. Call with the lock held.
func (h *Hub) touch(m *machine, version uint64) {
	s := m.judge()
	if s != m.state {
		h.states[m.state]--
		h.states[s]++
		m.state = s
	}
	m.version = version
	h.recent.MoveToFront(m.elem)
}

// ApplyWindow takes in one window. A revision lower than or equal to the one already held changes nothing.
func (h *Hub) ApplyWindow(w *eventv1.Window) error {
	id := w.GetEquipmentId()
	if id == "" || len(id) > maxID || w.GetEndUs() <= w.GetStartUs() || !validTime(w.GetStartUs()) || !validTime(w.GetEndUs()) {
		return fmt.Errorf("%w: window of machine %.64q from %d to %d", ErrInvalid, id, w.GetStartUs(), w.GetEndUs())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.machine(id)
	nw := m.compact(w)
	before := m.cells
	if !m.insert(nw, h.lim.Windows) {
		h.stats.StaleRevisions++
		return nil
	}
	h.cells += m.cells - before
	h.makeRoom(m)
	nw.Version = h.next()
	h.touch(m, nw.Version)
	return nil
}

// makeRoom holds the bound on cells after m grew: first m is cut to its equal share, then whole machines go.
func (h *Hub) makeRoom(m *machine) {
	for h.cells > h.lim.Cells && len(m.windows) > 1 && m.cells > h.lim.Cells/len(h.machines) {
		before := m.cells
		m.dropOldest()
		h.cells += m.cells - before
	}
	// Others may hold more than their share from when they were fewer, and a wide machine's single window may be
	// more than a share: those heard longest ago give first.
	share := h.lim.Cells / len(h.machines)
	for _, keep := range []int{share, share / 2, 0} {
		for e := h.recent.Back(); h.cells > h.lim.Cells && e != nil; e = e.Prev() {
			o := e.Value.(*machine)
			for len(o.windows) > 1 && h.cells > h.lim.Cells && o.cells > keep {
				before := o.cells
				o.dropOldest()
				h.cells += o.cells - before
			}
		}
	}
	for h.cells > h.lim.Cells && len(h.machines) > 1 {
		h.evictMachine()
	}
}

// ApplyAnomaly takes in one report of an episode. A repeat changes nothing.
func (h *Hub) ApplyAnomaly(ev *eventv1.Anomaly) error {
	id := ev.GetEquipmentId()
	if id == "" || len(id) > maxID || ev.GetAnomalyId() == "" || len(ev.GetAnomalyId()) > maxID ||
		!validTime(ev.GetStartedUs()) || !validTime(ev.GetObservedUs()) {
		return fmt.Errorf("%w: anomaly %.64q of machine %.64q", ErrInvalid, ev.GetAnomalyId(), id)
	}
	boundAnomaly(ev)
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.machine(id)
	a := &Anomaly{Event: ev}
	var inMachine, inFleet bool
	m.anomalies, inMachine = insertAnomaly(m.anomalies, a, h.lim.MachineAnomalies)
	h.anomalies, inFleet = insertAnomaly(h.anomalies, a, h.lim.Anomalies)
	changed := m.hear(ev)
	if !inMachine && !inFleet && !changed {
		return nil
	}
	a.Version = h.next()
	h.touch(m, a.Version)
	return nil
}

// ApplyAlert takes in one transition of an alert.
func (h *Hub) ApplyAlert(ev *eventv1.AlertEvent) error {
	id := ev.GetEquipmentId()
	if id == "" || len(id) > maxID || ev.GetAlertId() == "" || len(ev.GetAlertId()) > maxID ||
		!validTime(ev.GetStartedUs()) || !validTime(ev.GetEndedUs()) || !validTime(ev.GetAtMs()) {
		return fmt.Errorf("%w: alert %.64q of machine %.64q", ErrInvalid, ev.GetAlertId(), id)
	}
	boundAlert(ev)
	h.mu.Lock()
	defer h.mu.Unlock()
	a, known := h.alerts[ev.AlertId]
	if known && !supersedes(ev, a.Event) {
		return nil
	}
	wasOpen := known && a.Open
	if known && !wasOpen { // a better word on an alert that is already closed
		h.closed = removeClosed(h.closed, a)
	}
	if !known {
		a = &alert{}
		a.elem = h.recentAlerts.PushFront(a)
		h.alerts[ev.AlertId] = a
	}
	a.Event, a.Open = ev, !ended(ev)
	switch {
	case a.Open && !wasOpen:
		h.openCount++
	case !a.Open && wasOpen:
		h.openCount--
	}
	if !a.Open {
		h.closed = insertClosed(h.closed, a)
	}
	a.version = h.next()
	h.recentAlerts.MoveToFront(a.elem)
	// A machine that is known by its closed alerts of the past only is not shown.
	if m := h.machines[id]; m != nil || a.Open {
		m = h.machine(id)
		if a.Open {
			m.open[ev.AlertId] = a
		} else {
			delete(m.open, ev.AlertId)
		}
		if len(m.open) == 0 && len(m.windows) == 0 && len(m.anomalies) == 0 {
			h.forget(m)
		} else {
			h.touch(m, a.version)
		}
	} else if wasOpen {
		delete(h.open[id], ev.AlertId)
		if len(h.open[id]) == 0 {
			delete(h.open, id)
		}
	}
	h.boundAlerts()
	return nil
}

// boundAlerts drops what is over the limits. Call with the lock held.
func (h *Hub) boundAlerts() {
	for len(h.closed) > h.lim.ClosedAlerts {
		a := h.closed[0]
		h.closed = append(h.closed[:0], h.closed[1:]...)
		h.dropAlert(a)
	}
	for e := h.recentAlerts.Back(); h.openCount > h.lim.OpenAlerts && e != nil; {
		a := e.Value.(*alert)
		e = e.Prev()
		if !a.Open {
			continue
		}
		h.openCount--
		h.dropAlert(a)
		h.stats.EvictedAlerts++
		delete(h.open[a.Event.EquipmentId], a.Event.AlertId)
		if m := h.machines[a.Event.EquipmentId]; m != nil {
			h.touch(m, h.next())
		} else if len(h.open[a.Event.EquipmentId]) == 0 {
			delete(h.open, a.Event.EquipmentId)
		}
	}
}

func (h *Hub) dropAlert(a *alert) {
	h.recentAlerts.Remove(a.elem)
	delete(h.alerts, a.Event.AlertId)
}
