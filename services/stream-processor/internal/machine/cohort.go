package machine

import (
	"strconv"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/cohort"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// Class is the same for machines of the same sensors. It changes as sensors come.
func (m *Machine) Class() uint64 {
	names := make([]string, len(m.sensors))
	for i := range names {
		names[i] = m.sensors[i].name.Value()
	}
	return cohort.Class(names)
}

// Lends tells whether others may be judged by what is usual of this machine: it is known well, nothing is wrong with it, it is not
// judged by others itself, and it has but one regime: nobody knows which of several a new machine would be in.
func (m *Machine) Lends() bool {
	return m.cfg.Cohort.Lend && int64(m.learned) >= int64(m.cfg.Cohort.Known) && m.sisters == 0 && m.wide == nil && m.breakers == nil && !m.frozen() && !m.odd.open &&
		(m.regimes == nil || !m.regimes.Several())
}

// Borrow begins what is usual of a machine that nothing is known of with what is usual of its sisters, which must lend, by the median. It is called before the
// first frame, with the names of that frame's sensors. It is true when the machine is judged by them from its first window on; they are not changed.
//
// The alternative is to learn in silence for some minutes, in which a machine that was delivered broken would teach that it is sound.
func (m *Machine) Borrow(schema []byte, names [][]byte, sisters []*Machine) bool {
	least := m.cfg.Cohort.Sisters
	if m.learned > 0 || len(m.sensors) > 0 || len(sisters) < least {
		return false
	}
	m.slotsOf(schema, names)
	if m.wide != nil {
		return false
	}
	lent, list := 0, make([]detect.Usual, 0, len(sisters))
	slots := make([]int, len(sisters))
	for i := range m.sensors {
		for k, s := range sisters {
			slots[k] = s.slotNamed(m.sensors[i].name.Value())
		}
		some := false
		for d := range m.detectors {
			to, ok := m.detectors[d].Detector.(detect.Lender)
			if !ok {
				continue
			}
			list = list[:0]
			for k, s := range sisters {
				if slots[k] < 0 || d >= len(s.detectors) || s.detectors[d].spec.Name != m.detectors[d].spec.Name {
					continue
				}
				if from, ok := s.detectors[d].Detector.(detect.Lender); ok {
					if u, ok := from.Usual(slots[k]); ok {
						list = append(list, u)
					}
				}
			}
			if u, ok := cohort.Merge(list, least); ok {
				to.Borrow(i, u)
				some = true
			}
		}
		if some {
			lent++
		}
	}
	if 2*lent < len(m.sensors) {
		return false
	}
	m.sisters = uint16(len(sisters))
	return true
}

// slotNamed finds a sensor; below 0 if there is none.
func (m *Machine) slotNamed(name string) int {
	for i := range m.sensors {
		if m.sensors[i].name.Value() == name {
			return i
		}
	}
	return -1
}

// handOver ends the loan once the machine is known itself.
func (m *Machine) handOver() {
	if int64(m.learned) >= int64(m.cfg.Calibrate.WarmUp) {
		m.sisters = 0
	}
}

// cohortText says whose baseline a report rests on.
func (m *Machine) cohortText() string {
	if m.sisters == 0 {
		return ""
	}
	return "; judged by its cohort of " + strconv.Itoa(int(m.sisters)) + " sister machines, for it is new"
}
