package machine

import (
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/coverage"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/quality"
)

// sensor is what is known of one sensor beside its windows and detectors.
type sensor struct {
	name      string
	low, high float32 // physical range
	quality   quality.Sensor
	course    course
	cover     coverage.Sensor
	badStreak uint16 // windows in a row with mostly unusable values
}

// unslotted stands for a sensor beyond the limit of sensors per machine.
const unslotted = -1

// indexFrom is the number of sensors from which an index finds a name faster than a look at each.
const indexFrom = 24

// layout remembers which slots the columns of recent frames went to. It is a cache, no state: it changes the cost, never the result.
type layout struct {
	schema   string // content-addressed, so equal ids mean equal names
	slots    []int32
	overflow []string // names of the columns without a slot, in order
}

// slotsOf returns the slot of each of a frame's sensors; new sensors get the next slot. The result is valid until the next call.
func (m *Machine) slotsOf(schema []byte, names [][]byte) []int32 {
	l := &m.layout
	if len(l.slots) == len(names) && m.matches(schema, names) {
		return l.slots
	}
	*l = layout{schema: string(schema), slots: slices.Grow(l.slots[:0], len(names))}
	before := len(m.sensors)
	if before == 0 { // mostly all of a machine's sensors come at once: no spare room then
		m.sensors = make([]sensor, 0, min(len(names), m.cfg.MaxSensors))
	}
	var added map[string]int32
	if before+len(names) >= indexFrom {
		added = make(map[string]int32)
		if len(m.byName) == 0 { // few sensors until now
			for i := range m.sensors {
				added[m.sensors[i].name] = int32(i)
			}
		}
	}
	for _, name := range names {
		slot := m.slot(name, added)
		l.slots = append(l.slots, slot)
		if slot == unslotted {
			l.overflow = append(l.overflow, string(name))
		}
	}
	if len(m.sensors) > before {
		m.sortNames()
		m.grow()
	}
	return l.slots
}

// matches tells whether names are those of the layout.
func (m *Machine) matches(schema []byte, names [][]byte) bool {
	l := &m.layout
	if len(schema) > 0 && l.schema == string(schema) {
		return true
	}
	if len(schema) > 0 || l.schema != "" {
		return false
	}
	overflow := l.overflow
	for i, n := range names {
		switch slot := l.slots[i]; {
		case slot != unslotted:
			if m.sensors[slot].name != string(n) {
				return false
			}
		case overflow[0] != string(n):
			return false
		default:
			overflow = overflow[1:]
		}
	}
	return true
}

// slot finds a sensor or makes one. added, if not nil, holds the sensors that are not in the index yet.
func (m *Machine) slot(name []byte, added map[string]int32) int32 {
	if i, ok := slices.BinarySearchFunc(m.byName, name, func(slot int32, name []byte) int {
		switch known := m.sensors[slot].name; { // operators, unlike functions, take a converted string without a copy
		case known < string(name):
			return -1
		case known > string(name):
			return 1
		}
		return 0
	}); ok {
		return m.byName[i]
	}
	switch {
	case added != nil:
		if i, ok := added[string(name)]; ok {
			return i
		}
	case len(m.byName) == 0:
		for i := range m.sensors {
			if m.sensors[i].name == string(name) {
				return int32(i)
			}
		}
	}
	if len(m.sensors) >= m.cfg.MaxSensors {
		return unslotted
	}
	m.addSensor(string(name))
	slot := int32(len(m.sensors) - 1)
	if added != nil {
		added[m.sensors[slot].name] = slot
	}
	return slot
}

// sortNames brings the index up to date with new sensors.
func (m *Machine) sortNames() {
	if len(m.sensors) < indexFrom {
		return
	}
	m.byName = slices.Grow(m.byName, len(m.sensors)-len(m.byName))
	for i := len(m.byName); i < len(m.sensors); i++ {
		m.byName = append(m.byName, int32(i))
	}
	slices.SortFunc(m.byName, func(a, b int32) int { return strings.Compare(m.sensors[a].name, m.sensors[b].name) })
}

func (m *Machine) addSensor(name string) {
	s := sensor{name: name}
	s.low, s.high = m.cfg.Quality.Bounds(name)
	m.sensors = append(m.sensors, s)
	m.shelf.add(name)
}

// grow gives new sensors their place in everything that is kept by slot.
func (m *Machine) grow() {
	m.widen()
	names := make([]string, len(m.sensors))
	for i := range m.sensors {
		names[i] = m.sensors[i].name
	}
	for i := range m.detectors {
		d := &m.detectors[i]
		d.Grow(names)
		if !d.spec.Fixed {
			d.tails = growTo(d.tails, len(names))
		}
	}
	for _, p := range m.panes.All() {
		p.Grow(len(names))
	}
}

func growTo[T any](s []T, n int) []T {
	if n <= len(s) {
		return s
	}
	out := make([]T, n)
	copy(out, s)
	return out
}
