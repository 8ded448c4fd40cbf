package machine

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// Compared is what the shadow model and whoever judges now thought of one window that closed.
type Compared struct {
	// Champion and Shadow are name@version. No champion: all detectors together.
	Champion, Shadow string
	StartUS          int64
	SpanUS           float64 // machine time that the window stands for
	// Said is the champion's calibrated surprise, ShadowSaid the shadow's. Each is of this window by itself; without a champion Said is what pages.
	Said, ShadowSaid float64
	Unusual          bool // to the champion
	// Page is the surprise that pages at the budget; infinite while the machine is being learned.
	Page float64
}

// UnusualToShadow tells whether the shadow found it so.
func (c *Compared) UnusualToShadow() bool { return c.ShadowSaid >= clearSurprise }

// asksModel is a detector that asks a released model.
type asksModel interface{ Model() string }

// title is a detector's name as evidence gives it: a released model's with name and version.
func (d *detector) title() string {
	if r, ok := d.Detector.(asksModel); ok && r.Model() != "" {
		return d.spec.Name + " " + r.Model()
	}
	return d.spec.Name
}

func (d *detector) model() string {
	if r, ok := d.Detector.(asksModel); ok {
		return r.Model()
	}
	return ""
}

// compare takes a window that closed. It changes nothing but sc.
func (m *Machine) compare(startUS int64, op *opinion, sc *scratch) {
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
	c := Compared{Shadow: m.detectors[shadow].model(), StartUS: startUS, SpanUS: m.windowUS(), ShadowSaid: says, Said: op.final, Unusual: op.own >= clearSurprise, Page: m.pageSurprise()}
	if champion >= 0 {
		var spoke bool
		c.Champion = m.detectors[champion].model()
		c.Said, spoke = m.jointly(champion, sc)
		c.Unusual = c.Said >= clearSurprise
		ok = ok && spoke
	}
	if !ok || op.own != op.own {
		return
	}
	if m.learning() {
		c.Page = math.Inf(1)
	}
	sc.models = append(sc.models, c)
}

// jointly is a detector's calibrated surprise at the sensors together, whether it counts or not.
func (m *Machine) jointly(d int, sc *scratch) (surprise float64, ok bool) {
	j := float64(m.said(d, sc).Joint)
	return m.detectors[d].joint.Correct(&calibrate.SensorPrior, j), j == j
}
