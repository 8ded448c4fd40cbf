package machine

import (
	"math"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
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

// Input is what a released model was given of one window that closed, and the score that it gave.
type Input struct {
	Model     string               // name@version
	Reference *modelfile.Reference // nil: the model has none
	Counter   *modelfile.Counter   // of that
	Score     float32
	Row       []float32 // values of the features that the reference watches, as the sensors had them
}

// asksModel is a detector that asks a released model.
type asksModel interface {
	Model() string
	Given() (score float64, slots []int)
	Reference() (*modelfile.Reference, *modelfile.Counter)
}

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
	if m.wide != nil {
		return
	}
	if champion >= 0 {
		m.noteInput(champion, sc)
	}
	if shadow < 0 {
		return
	}
	m.noteInput(shadow, sc)
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

// noteInput notes what a model was given of the window that closes, if it had an opinion. Features are noted as the sensors had them, not as they would be in the machine's base regime: so they were when the model was trained.
func (m *Machine) noteInput(d int, sc *scratch) {
	r, asks := m.detectors[d].Detector.(asksModel)
	if j := m.said(d, sc).Joint; !asks || j != j {
		return
	}
	score, slots := r.Given()
	reference, counter := r.Reference()
	first := len(sc.inputRows)
	for _, slot := range slots {
		sc.inputRows = append(sc.inputRows, float32(sc.mean(slot)))
	}
	sc.inputs = append(sc.inputs, Input{r.Model(), reference, counter, float32(score), sc.inputRows[first:len(sc.inputRows):len(sc.inputRows)]})
}

// jointly is a detector's calibrated surprise at the sensors together, whether it counts or not.
func (m *Machine) jointly(d int, sc *scratch) (surprise float64, ok bool) {
	j := float64(m.said(d, sc).Joint)
	return m.detectors[d].joint.Correct(&calibrate.SensorPrior, j), j == j
}
