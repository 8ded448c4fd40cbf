package machine

import (
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// Comparison counts windows in which the shadow model and whoever judges now both had an opinion, by who found the window unusual (p < 0.01): the champion model, or all detectors together
// where there is none, against the shadow. A single model seldom pages by itself, so pages would tell little of it.
type Comparison struct {
	Neither, Both, Incumbent, Shadow int
}

// Empty is true when nothing was counted.
func (c Comparison) Empty() bool { return c == Comparison{} }

// Add sums up.
func (c *Comparison) Add(o Comparison) {
	c.Neither += o.Neither
	c.Both += o.Both
	c.Incumbent += o.Incumbent
	c.Shadow += o.Shadow
}

// compare takes a window that closed. It changes nothing but sc.
func (m *Machine) compare(op *opinion, sc *scratch) {
	champion, shadow := -1, -1
	for d := range m.detectors {
		switch {
		case m.detectors[d].spec.Shadow:
			shadow = d
		case m.detectors[d].spec.Name == detect.Champion:
			champion = d
		}
	}
	if shadow < 0 || m.wide != nil {
		return
	}
	says, ok := m.jointly(shadow, sc)
	incumbent := op.own
	if champion >= 0 {
		var spoke bool
		incumbent, spoke = m.jointly(champion, sc)
		ok = ok && spoke
	}
	if !ok || incumbent != incumbent {
		return
	}
	switch by, other := incumbent >= clearSurprise, says >= clearSurprise; {
	case by && other:
		sc.models.Both++
	case by:
		sc.models.Incumbent++
	case other:
		sc.models.Shadow++
	default:
		sc.models.Neither++
	}
}

// jointly is a detector's calibrated surprise at the sensors together, whether it counts or not.
func (m *Machine) jointly(d int, sc *scratch) (surprise float64, ok bool) {
	j := float64(m.said(d, sc).Joint)
	return m.detectors[d].joint.Correct(&calibrate.SensorPrior, j), j == j
}
