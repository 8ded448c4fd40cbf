package machine

import (
	"cmp"
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

// Explanation is how the score of one window came about. Surprises are -ln(p): 0 is usual, 7 one in a thousand. NaN: no opinion.
type Explanation struct {
	StartUS, EndUS int64
	Learning       bool    // there is too little history; nothing is scored
	Own            float64 // surprise of this window by itself
	Scanned        float64 // with the windows before it
	Final          float64 // corrected by the machine's own history
	Demand         float64 // what Final has to reach to page, as pages given and habits have it now
	PValue         float64 // of Final
	Joint          []Saying
	// Sensors that were most surprising, the most surprising first.
	Sensors []SensorExplanation
}

// SensorExplanation is what was seen of one sensor in the window and what each detector said to it.
type SensorExplanation struct {
	Sensor                       string
	Count, Unusable              uint32
	Mean, Stddev, Min, Max, Last float64
	Surprise                     float64 // of all detectors together
	Says                         []Saying
}

// Saying is one detector's opinion.
type Saying struct {
	Detector  string
	Nominal   float64 // as the detector has it
	Surprise  float64 // corrected by how often and how far it really went on this machine
	Low, High float64 // NaN: it expects nothing in particular
	// Limit: it holds a limit given by people, which is broken or not.
	Limit bool
	// Broken says that a limit was.
	Broken bool
}

// maxExplained is the number of sensors that an Explanation tells of.
const maxExplained = 12

// explain tells what the scratch of a window that was just judged holds.
func (m *Machine) explain(p *window.Pane, op *opinion, sc *scratch) Explanation {
	x := Explanation{
		StartUS: p.StartUS, EndUS: p.StartUS + m.cfg.WindowLength.Microseconds(), Learning: m.learning(),
		Own: op.own, Scanned: op.nominal, Final: op.final, Demand: op.demand, PValue: calibrate.PValue(op.final),
	}
	for d := range m.detectors {
		if j := float64(sc.scores[d].Joint); j == j {
			x.Joint = append(x.Joint, Saying{Detector: m.detectors[d].title(), Nominal: j, Surprise: m.detectors[d].joint.Correct(&calibrate.SensorPrior, j), Low: math.NaN(), High: math.NaN()})
		}
	}
	order := make([]int, len(m.sensors))
	for i := range order {
		order[i] = i
	}
	rank := func(i int) float64 {
		r := -1.0
		if t := float64(sc.surprise[i]); t == t {
			r = t
		}
		return r + 1000*float64(sc.level[i])
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank(b), rank(a)) })
	for _, i := range order[:min(maxExplained, len(order))] {
		st := p.Accums[i].Stats()
		s := SensorExplanation{
			Sensor: m.sensors[i].name.Value(), Count: st.Count, Unusable: st.Unusable,
			Mean: st.Mean, Stddev: st.Stddev, Min: st.Min, Max: st.Max, Last: st.Last, Surprise: float64(sc.surprise[i]),
		}
		for d := range m.detectors {
			det, said := &m.detectors[d], &sc.scores[d]
			y := Saying{
				Detector: det.title(), Nominal: float64(said.Surprise[i]), Surprise: float64(said.Surprise[i]), Low: wide(said.Low[i]), High: wide(said.High[i]),
				Limit: det.spec.Fixed, Broken: said.Level[i] > detect.Within,
			}
			if y.Nominal == y.Nominal && i < len(det.tails) && m.wide == nil { // a wide machine's SVMs are calibrated already
				y.Surprise = det.tails[i].Correct(&calibrate.SensorPrior, y.Nominal)
			}
			if y.Nominal == y.Nominal || y.Low == y.Low || y.High == y.High || y.Broken {
				s.Says = append(s.Says, y)
			}
		}
		x.Sensors = append(x.Sensors, s)
	}
	return x
}
