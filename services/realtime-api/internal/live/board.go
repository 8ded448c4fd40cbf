// Package live knows the newest values of the machines that somebody looks at, before their windows close.
//
// A Board holds who watches which machine and the newest value of each of its sensors; a Follower fills it from the frames topic. Nothing is judged here: values
// are what the gateways sent, and the window that holds them replaces them.
package live

import (
	"slices"
	"sync"

	"github.com/tocsin-io/tocsin/pkg/frame"
)

// MaxSensors is how many sensors of a machine a watch without a choice of its own is told: the first that come.
const MaxSensors = 64

// standsMS is how long the newest value may stand before an earlier one takes its place: a clock that was wrong for one frame must not hold up those that follow.
const standsMS = 3000

// Sample is the newest value of one sensor.
type Sample struct {
	Sensor  string
	TimeUS  int64 // event time
	Value   float32
	Quality uint8 // frame's codes; Value is NaN when it is QualityMissing
}

// Usable tells whether Value is one.
func (s *Sample) Usable() bool {
	return s.Quality != frame.QualityBad && s.Quality != frame.QualityMissing && s.Value == s.Value
}

// Board is who watches what, and what they see. Memory: for each watch at most the sensors that it keeps, once per machine. Safe for concurrent use.
// Lock order: Board.mu, then machine.mu.
type Board struct {
	mu       sync.RWMutex
	machines map[string]*machine
	changed  chan struct{}
}

// machine is one that is watched.
type machine struct {
	id string

	mu      sync.Mutex
	watches map[*Watch]struct{}
	cells   map[string]*cell
	order   []*cell // in which they were first seen
	open    int     // watches without a choice
	version uint64  // grows with each frame
}

type cell struct {
	Sample
	version  uint64 // of the frame that brought it; 0: none has
	received int64  // ms
}

// NewBoard makes an empty one.
func NewBoard() *Board {
	return &Board{machines: map[string]*machine{}, changed: make(chan struct{}, 1)}
}

// Watch is one look at a machine. Its methods may be called from one goroutine at a time.
type Watch struct {
	board *Board
	of    *machine
	keep  map[string]bool
}

// Watch begins to look at a machine, whether anybody knows it or not. Stop must be called.
func (b *Board) Watch(id string) *Watch {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.machines[id]
	if m == nil {
		m = &machine{id: id, watches: map[*Watch]struct{}{}, cells: map[string]*cell{}}
		b.machines[id] = m
		b.tell()
	}
	w := &Watch{board: b, of: m}
	m.mu.Lock()
	m.watches[w] = struct{}{}
	m.open++
	m.mu.Unlock()
	return w
}

// Keep chooses the sensors; nil: the first MaxSensors that come. The map must not change any more.
func (w *Watch) Keep(sensors map[string]bool) {
	m := w.of
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.watches[w]; !ok {
		return
	}
	m.open += btoi(sensors == nil) - btoi(w.keep == nil)
	w.keep = sensors
	m.forget()
	for s, yes := range sensors {
		if yes && m.cells[s] == nil {
			m.add(s)
		}
	}
}

// Since appends the samples that came after version, in the order in which their sensors were first seen, and gives the version to ask with next. Version 0 asks for all.
func (w *Watch) Since(dst []Sample, version uint64) ([]Sample, uint64) {
	m := w.of
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.version == version {
		return dst, version
	}
	for _, c := range m.order {
		if c.version > version && (w.keep == nil || w.keep[c.Sensor]) {
			dst = append(dst, c.Sample)
		}
	}
	return dst, m.version
}

// Stop ends the watch. Idempotent.
func (w *Watch) Stop() {
	b, m := w.board, w.of
	b.mu.Lock()
	defer b.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.watches[w]; !ok {
		return
	}
	delete(m.watches, w)
	m.open -= btoi(w.keep == nil)
	if len(m.watches) == 0 {
		delete(b.machines, m.id)
		b.tell()
		return
	}
	m.forget()
}

// forget drops the sensors that nobody looks at any more. m.mu is held.
func (m *machine) forget() {
	if m.open > 0 {
		return
	}
	for s := range m.cells {
		wanted := false
		for w := range m.watches {
			wanted = wanted || w.keep[s]
		}
		if !wanted {
			delete(m.cells, s)
		}
	}
	m.order = slices.DeleteFunc(m.order, func(c *cell) bool { return m.cells[c.Sensor] == nil })
}

// add makes a place for a sensor. m.mu is held.
func (m *machine) add(sensor string) *cell {
	c := &cell{Sample: Sample{Sensor: sensor}}
	m.cells[sensor] = c
	m.order = append(m.order, c)
	return c
}

// Changed is sent to when the machines that are watched have become others.
func (b *Board) Changed() <-chan struct{} { return b.changed }

func (b *Board) tell() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Machines are the ids of those that are watched, in no order.
func (b *Board) Machines() []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	ids := make([]string, 0, len(b.machines))
	for id := range b.machines {
		ids = append(ids, id)
	}
	return ids
}

// Count is how many machines are watched.
func (b *Board) Count() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.machines)
}

// watched gives the machine of a record's key, or nil. It does not allocate: it is asked of each record.
func (b *Board) watched(key []byte) *machine {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.machines[string(key)]
}

// Take shows a valid frame, if its machine is watched.
func (b *Board) Take(f *frame.Frame, schema []string, receivedMS int64) {
	if m := b.watched(f.EquipmentID); m != nil {
		m.take(f, schema, receivedMS)
	}
}

// take shows the last sample of each sensor of a valid frame; schema names the sensors if the frame does not. receivedMS is when it came, by the broker's clock.
// A value that is earlier than the one shown is late, and not shown.
func (m *machine) take(f *frame.Frame, schema []string, receivedMS int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.version++
	n := f.Samples()
	at := f.TimeUS(n - 1)
	for s := range f.SensorCount() {
		var c *cell
		if schema != nil {
			c = m.cells[schema[s]]
		} else {
			c = m.cells[string(f.Sensors[s])]
		}
		if c == nil {
			if m.open == 0 || len(m.cells) >= MaxSensors {
				continue
			}
			if schema != nil {
				c = m.add(schema[s])
			} else {
				c = m.add(string(f.Sensors[s]))
			}
		}
		if c.version > 0 && at < c.TimeUS && receivedMS-c.received <= standsMS {
			continue
		}
		i := s*n + n - 1
		c.TimeUS, c.Value, c.Quality = at, f.Values[i], f.Quality(i)
		if c.Value != c.Value {
			c.Quality = frame.QualityMissing
		}
		c.version, c.received = m.version, receivedMS
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
