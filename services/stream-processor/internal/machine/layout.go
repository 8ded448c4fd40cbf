package machine

import (
	"math"
	"slices"
	"strings"
	"unique"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/breaker"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/coverage"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/quality"
)

// sensor is what is known of one sensor beside its windows and detectors.
type sensor struct {
	name      unique.Handle[string] // machines of one kind have sensors of the same names
	quality   quality.Sensor
	course    course
	cover     coverage.Sensor
	badStreak uint16 // windows in a row with mostly unusable values
}

// physical is the range of values that a sensor can have.
type physical struct {
	slot      int32
	low, high float32
}

// everything is constant.
var everything = physical{low: float32(math.Inf(-1)), high: float32(math.Inf(1))}

// rangeOf is that of a sensor. Few sensors have one: they are in the order of slots.
func (m *Machine) rangeOf(slot int32) physical {
	if len(m.ranges) == 0 {
		return everything
	}
	if i, ok := slices.BinarySearchFunc(m.ranges, slot, func(p physical, slot int32) int { return int(p.slot - slot) }); ok {
		return m.ranges[i]
	}
	return everything
}

// unslotted stands for a sensor beyond the limit of sensors per machine.
const unslotted = -1

// indexFrom is the number of sensors from which an index finds a name faster than a look at each.
const indexFrom = 24

// layout remembers which slots the columns of recent frames went to. It is a cache, no state: it changes the cost, never the result.
type layout struct {
	schema   unique.Handle[string] // content-addressed, so equal ids mean equal names
	slots    []int32
	overflow []string // names of the columns without a slot, in order
}

// slotsOf returns the slot of each of a frame's sensors; new sensors get the next slot. The result is valid until the next call.
func (m *Machine) slotsOf(schema []byte, names [][]byte) []int32 {
	l := &m.layout
	if len(l.slots) == len(names) && m.matches(schema, names) {
		return l.slots
	}
	*l = layout{schema: unique.Make(string(schema)), slots: slices.Grow(l.slots[:0], len(names))}
	before := len(m.sensors)
	if before == 0 { // mostly all of a machine's sensors come at once: no spare room then
		m.sensors = make([]sensor, 0, min(len(names), m.cfg.MaxSensors))
	}
	var added map[string]int32
	if before+len(names) >= indexFrom {
		added = make(map[string]int32)
		if len(m.byName) == 0 { // few sensors until now
			for i := range m.sensors {
				added[m.sensors[i].name.Value()] = int32(i)
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
	known := l.schema.Value()
	if len(schema) > 0 && known == string(schema) {
		return true
	}
	if len(schema) > 0 || known != "" {
		return false
	}
	overflow := l.overflow
	for i, n := range names {
		switch slot := l.slots[i]; {
		case slot != unslotted:
			if m.sensors[slot].name.Value() != string(n) {
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
		switch known := m.sensors[slot].name.Value(); { // operators, unlike functions, take a converted string without a copy
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
			if m.sensors[i].name.Value() == string(name) {
				return int32(i)
			}
		}
	}
	if len(m.sensors) >= int(m.room) {
		return unslotted
	}
	m.addSensor(string(name))
	slot := int32(len(m.sensors) - 1)
	if added != nil {
		added[m.sensors[slot].name.Value()] = slot
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
	slices.SortFunc(m.byName, func(a, b int32) int { return strings.Compare(m.sensors[a].name.Value(), m.sensors[b].name.Value()) })
}

func (m *Machine) addSensor(name string) {
	m.sensors = append(m.sensors, sensor{name: unique.Make(name)})
	if low, high := m.cfg.Quality.Bounds(name); low > everything.low || high < everything.high {
		m.ranges = append(m.ranges, physical{slot: int32(len(m.sensors) - 1), low: low, high: high})
	}
	m.shelf.add(name)
}

// names are those of all sensors, by slot.
func (m *Machine) names() []string {
	names := make([]string, len(m.sensors))
	for i := range m.sensors {
		names[i] = m.sensors[i].name.Value()
	}
	return names
}

// grow gives new sensors their place in everything that is kept by slot.
func (m *Machine) grow() {
	m.widen()
	m.spoke = 0 // models of all sensors together begin anew
	names := m.names()
	n := len(names)
	calibrated := 0
	for i := range m.detectors {
		if m.detectors[i].spec.Sensors() {
			calibrated++
		}
	}
	tails := make([]calibrate.Tail, calibrated*n)
	for i := range m.detectors {
		d := &m.detectors[i]
		if why, detail := m.tryGrow(i, names); why != breaker.None && m.breakers.of(i).Asked() {
			m.trip(i, why, detail, m.newestUS, nil)
		}
		if d.spec.Sensors() {
			copy(tails, d.tails)
			d.tails, tails = tails[:n:n], tails[n:]
		}
	}
	if m.regimes != nil {
		m.regimes.Grow(names)
	}
	m.onset.Grow(len(names))

	for _, p := range m.panes.All() {
		p.Grow(n)
	}
}
