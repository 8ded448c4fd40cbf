package cohort

import (
	"fmt"
	"math"
	"slices"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// RoundWindows is the length of a round in windows, for machines that keep so many closed ones: half of them, so that a round is still whole when the record of it arrives.
func RoundWindows(kept int) int { return max(1, kept/2) }

// Round says where the cohorts of a partition were in a stretch of time.
type Round struct {
	StartUS, LengthUS int64
	Classes           []Middles
}

// Middles is one cohort in a round.
type Middles struct {
	Class   uint64
	Members int
	// Anew: of none of them it is known how far it usually is from the others, so the middles are of the values themselves.
	Anew    bool
	Sensors []detect.Middle // in the order of names
}

// Find is the round of one class; nil if it is not in it.
func (r *Round) Find(class uint64) *Middles {
	if i, ok := slices.BinarySearchFunc(r.Classes, class, func(c Middles, class uint64) int {
		switch {
		case c.Class < class:
			return -1
		case c.Class > class:
			return 1
		}
		return 0
	}); ok {
		return &r.Classes[i]
	}
	return nil
}

// MiddleOf is where the values are, which it sorts.
func MiddleOf(v []float64) (m detect.Middle) {
	n := len(v)
	if n == 0 {
		return m
	}
	slices.Sort(v)
	m.N = uint32(n)
	if n%2 == 0 {
		m.Low, m.High = v[n/2-1], v[n/2]
		m.Mid = m.Low + (m.High-m.Low)/2
		return m
	}
	m.Mid = v[n/2]
	m.Low, m.High = v[max(0, n/2-1)], v[min(n-1, n/2+1)]
	return m
}

// Message is the round as it stands in the log.
func (r *Round) Message() *eventv1.CohortRound {
	out := &eventv1.CohortRound{StartUs: r.StartUS, LengthUs: r.LengthUS}
	for i := range r.Classes {
		c := &r.Classes[i]
		k := &eventv1.CohortMiddle{SensorClass: c.Class, Members: uint32(c.Members), Anew: c.Anew}
		for _, m := range c.Sensors {
			k.Counts, k.Low, k.Mid, k.High = append(k.Counts, m.N), append(k.Low, m.Low), append(k.Mid, m.Mid), append(k.High, m.High)
		}
		out.Classes = append(out.Classes, k)
	}
	return out
}

// mostSensors and longest bound what is taken from a record.
const (
	mostSensors = 1 << 12
	mostUS      = 1 << 60
	mostClasses = 1 << 16
)

// RoundOf reads what Message wrote, trusting nothing.
func RoundOf(m *eventv1.CohortRound) (*Round, error) {
	if l := m.GetLengthUs(); l <= 0 || l > (24*time.Hour).Microseconds() || m.GetStartUs() > mostUS || m.GetStartUs() < -mostUS {
		return nil, fmt.Errorf("a round of %d us from %d on", l, m.GetStartUs())
	}
	if n := len(m.GetClasses()); n > mostClasses {
		return nil, fmt.Errorf("a round of %d cohorts", n)
	}
	r := &Round{StartUS: m.GetStartUs(), LengthUS: m.GetLengthUs(), Classes: make([]Middles, 0, len(m.GetClasses()))}
	for _, k := range m.GetClasses() {
		n := len(k.GetCounts())
		if n > mostSensors || len(k.GetLow()) != n || len(k.GetMid()) != n || len(k.GetHigh()) != n {
			return nil, fmt.Errorf("cohort %x: %d, %d, %d and %d values of its sensors", k.GetSensorClass(), n, len(k.GetLow()), len(k.GetMid()), len(k.GetHigh()))
		}
		if i := len(r.Classes); i > 0 && k.GetSensorClass() <= r.Classes[i-1].Class {
			return nil, fmt.Errorf("cohort %x is out of order", k.GetSensorClass())
		}
		c := Middles{Class: k.GetSensorClass(), Members: int(min(k.GetMembers(), math.MaxUint16)), Anew: k.GetAnew(), Sensors: make([]detect.Middle, n)}
		for i := range c.Sensors {
			s := detect.Middle{N: k.GetCounts()[i], Low: k.GetLow()[i], Mid: k.GetMid()[i], High: k.GetHigh()[i]}
			if !(s.Low <= s.Mid && s.Mid <= s.High && s.High-s.Low < math.MaxFloat64) { // NaN and infinities, too
				return nil, fmt.Errorf("cohort %x: sensor %d lies at %v, %v, %v", c.Class, i, s.Low, s.Mid, s.High)
			}
			c.Sensors[i] = s
		}
		r.Classes = append(r.Classes, c)
	}
	return r, nil
}
