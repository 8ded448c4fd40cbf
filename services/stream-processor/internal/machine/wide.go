package machine

import (
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// limitsName is the detector of fixed limits, which wide machines keep.
const limitsName = "limits"

// widen hands a machine that has grown wide over to the judge of wide machines. It hangs on the number of sensors alone, so a restored machine comes to the same. What the
// detectors before it knew is lost: they learn anew, as after a change of detectors in the configuration.
func (m *Machine) widen() {
	if m.wide != nil || len(m.sensors) < m.cfg.Detect.Wide.From {
		return
	}
	kept := m.detectors[:0]
	for i := range m.detectors {
		if m.detectors[i].spec.Name == limitsName {
			kept = append(kept, m.detectors[i])
		}
	}
	m.wide = detect.NewWide(&m.cfg.Detect)
	m.detectors = append(kept, detector{Detector: m.wide, spec: detect.WideSpec()})
	m.calibrated, m.learned, m.breakers, m.standIn = 0, 0, nil, int32(len(m.detectors))
	for _, p := range m.panes.All() {
		p.ForgetOpinions()
	}
	for i := range m.episodes {
		if e := &m.episodes[i]; e.any {
			forgetDetectors(e.evidence)
		}
	}
	forgetDetectors(m.current.evidence)
}

func forgetDetectors(list []evidence) {
	for i := range list {
		list[i].detector = noDetector
	}
}

// hearWide takes the opinion of the judge of wide machines, the last detector, as it is: each of its SVMs is calibrated by its own history, and it has joined them.
// Joining 25,000 sensors by the Cauchy combination would cost two hundred times as much as judging them.
func (m *Machine) hearWide(sc *scratch, op *opinion) {
	last := len(m.detectors) - 1
	for i, t := range sc.scores[last].Surprise {
		sc.surprise[i], sc.loudest[i], sc.level[i] = t, uint8(last), detect.Within
	}
	for d := range last {
		for i, l := range sc.scores[d].Level {
			sc.level[i] = max(sc.level[i], l)
			op.worst = max(op.worst, l)
		}
	}
}

// named tells whether a sensor of that surprise may be named in the evidence.
func (m *Machine) named(t float32) bool { return m.wide == nil || t >= m.wide.NamedFrom() }
