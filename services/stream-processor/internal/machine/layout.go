package machine

import "github.com/tocsin-io/tocsin/services/stream-processor/internal/quality"

// sensor is what is known of one sensor beside its windows and detectors.
type sensor struct {
	name      string
	low, high float32 // physical range
	quality   quality.Sensor
	badStreak uint16 // windows in a row with mostly unusable values
	course    course
}

// unslotted stands for a sensor beyond the limit of sensors per machine.
const unslotted = -1

// indexFrom is the number of sensors from which a map finds a name faster than a look at each.
const indexFrom = 24

// layout remembers which slots the columns of recent frames went to. It is a cache, no state: it changes the cost, never the result.
type layout struct {
	schema string // content-addressed, so equal ids mean equal names
	names  []string
	slots  []int32
}

// slotsOf returns the slot of each of a frame's sensors; new sensors get the next slot. The result is valid until the next call.
func (m *Machine) slotsOf(schema []byte, names [][]byte) []int32 {
	l := &m.layout
	if len(l.slots) == len(names) && l.matches(schema, names) {
		return l.slots
	}
	*l = layout{schema: string(schema), names: l.names[:0], slots: l.slots[:0]}
	before := len(m.sensors)
	for _, name := range names {
		slot := m.slot(name)
		l.slots = append(l.slots, slot)
		if slot == unslotted {
			l.names = append(l.names, string(name))
		} else {
			l.names = append(l.names, m.sensors[slot].name)
		}
	}
	if len(m.sensors) > before {
		m.grow()
	}
	return l.slots
}

func (l *layout) matches(schema []byte, names [][]byte) bool {
	if len(schema) > 0 && l.schema == string(schema) {
		return true
	}
	if len(schema) > 0 || l.schema != "" {
		return false
	}
	for i, n := range names {
		if l.names[i] != string(n) {
			return false
		}
	}
	return true
}

func (m *Machine) slot(name []byte) int32 {
	if m.index != nil {
		if i, ok := m.index[string(name)]; ok {
			return i
		}
	} else {
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
	return int32(len(m.sensors) - 1)
}

func (m *Machine) addSensor(name string) {
	s := sensor{name: name}
	s.low, s.high = m.cfg.Quality.Bounds(name)
	m.sensors = append(m.sensors, s)
	switch {
	case m.index != nil:
		m.index[name] = int32(len(m.sensors) - 1)
	case len(m.sensors) >= indexFrom:
		m.index = make(map[string]int32, len(m.sensors))
		for i := range m.sensors {
			m.index[m.sensors[i].name] = int32(i)
		}
	}
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
