package machine

import (
	"math"
	"strings"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/breaker"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

// breakers of a machine's detectors. Most machines never need any: then it is nil.
type breakers []breaker.Breaker

// of is a detector's; nil while it never failed.
func (b breakers) of(d int) *breaker.Breaker {
	if d >= len(b) {
		return nil
	}
	return &b[d]
}

// breaker makes a detector's breaker.
func (m *Machine) breaker(d int) *breaker.Breaker {
	if m.breakers == nil {
		m.breakers = make(breakers, len(m.detectors))
	}
	return &m.breakers[d]
}

// trip takes a failure of a detector. sc may be nil: then nobody is told but by the machine's coverage.
func (m *Machine) trip(d int, why breaker.Cause, detail string, atUS int64, sc *scratch) {
	m.breaker(d).Trip(&m.cfg.Breaker, why, atUS)
	if !m.breakers.of(d).Asked() {
		m.disarm(d)
	}
	m.cover.dirty = true
	if sc != nil && len(sc.failures) < maxFailures {
		sc.failures = append(sc.failures, Failure{Detector: m.detectors[d].spec.Name, Reason: why.String(), Detail: detail})
	}
}

// disarm throws away what a detector holds.
func (m *Machine) disarm(d int) {
	det := &m.detectors[d]
	if m.wide != nil && d == len(m.detectors)-1 {
		m.wide = detect.NewWide(&m.cfg.Detect)
	}
	det.Detector, det.joint = nobody{}, calibrate.Tail{}
	clear(det.tails)
}

// rearm begins a detector's trial with nothing learned.
func (m *Machine) rearm(d int, atUS int64, sc *scratch) {
	why, detail := m.tryNew(d)
	if why == breaker.None {
		why, detail = m.tryGrow(d, m.names())
	}
	if why != breaker.None {
		m.trip(d, why, detail, atUS, sc)
	}
}

// passBreakers takes a window that closed: failures in it, and what each detector said.
func (m *Machine) passBreakers(p *window.Pane, op *opinion, sc *scratch) {
	complete := op.usable == len(m.sensors) && !m.frozen() && !m.odd.open && sc.known
	for d := range m.detectors {
		if f := &sc.faults[d]; f.why != breaker.None {
			m.trip(d, f.why, f.detail, p.StartUS, sc)
			continue
		}
		if m.learns(d) && m.breakers.of(d).Counts() {
			if why := m.suspect(d, complete, op, sc); why != breaker.None {
				m.trip(d, why, "", p.StartUS, sc)
				continue
			}
		}
	}
	idle := true
	for d := range m.breakers {
		if sc.faults[d].why != breaker.None {
			idle = false
			continue
		}
		b := &m.breakers[d]
		before := b.Counts()
		begin, done := b.Passed(&m.cfg.Breaker)
		if begin && b.Cause() != breaker.Drift {
			m.rearm(d, p.StartUS, sc)
		}
		idle = idle && done
		m.cover.dirty = m.cover.dirty || begin || before != b.Counts()
	}
	if idle {
		m.breakers = nil
	}
}

// suspect looks for failures that show only over time.
func (m *Machine) suspect(d int, complete bool, op *opinion, sc *scratch) breaker.Cause {
	name, bit := m.detectors[d].spec.Name, uint32(1)<<min(d, 31)
	said := m.said(d, sc)
	if spoke := speaks(said); spoke {
		m.spoke |= bit
		if b := m.breakers.of(d); b != nil {
			b.Spoke(&m.cfg.Breaker, true)
		}
	} else if complete && m.spoke&bit != 0 && !detect.Pauses(name) && m.breaker(d).Spoke(&m.cfg.Breaker, false) {
		return breaker.Mute
	}
	if detect.Statistical(name) || name == detect.CohortName || m.learning() || m.wide != nil {
		return breaker.None
	}
	alone := op.own >= m.pageSurprise() && m.pagesAlone(d, sc)
	if b := m.breakers.of(d); alone || b != nil {
		if m.breaker(d).Alone(&m.cfg.Breaker, alone, m.cfg.Calibrate.Budget*m.windowUS()/monthUS) {
			return breaker.Drift
		}
	}
	return breaker.None
}

func speaks(s *detect.Scores) bool {
	if s.Joint == s.Joint {
		return true
	}
	for _, t := range s.Surprise {
		if t == t {
			return true
		}
	}
	return false
}

// pagesAlone tells whether a detector by itself finds the window worth a page and no other finds it unusual.
func (m *Machine) pagesAlone(d int, sc *scratch) bool {
	if m.most(d, sc) < m.pageSurprise() {
		return false
	}
	for o := range m.detectors {
		if o != d && m.most(o, sc) >= clearSurprise {
			return false
		}
		for _, l := range sc.scores[o].Level {
			if l > detect.Within {
				return false
			}
		}
	}
	return true
}

// most is a detector's highest calibrated surprise, corrected for the number of sensors looked at (Bonferroni); -1: it says nothing that counts.
func (m *Machine) most(d int, sc *scratch) float64 {
	det, most := &m.detectors[d], -1.0
	for i, t := range sc.scores[d].Surprise {
		if t == t && i < len(det.tails) {
			most = max(most, det.tails[i].Correct(&calibrate.SensorPrior, float64(t)))
		}
	}
	most -= math.Log(float64(max(1, len(m.sensors))))
	if j := float64(sc.scores[d].Joint); j == j {
		most = max(most, det.joint.Correct(&calibrate.SensorPrior, j))
	}
	return most
}

// speaks tells whether what a detector says of the window counts.
func (m *Machine) speaks(d int, sc *scratch) bool { return sc.counts[d] }

// degraded tells whether a detector does not count that should.
func (m *Machine) degraded() bool {
	for d := range m.breakers {
		if !m.breakers[d].Counts() {
			return true
		}
	}
	return false
}

// Health is that of the detectors that judge the machine: degraded while some do not count, failed when none that learns does.
func (m *Machine) Health() eventv1.Health {
	if !m.degraded() {
		return eventv1.Health_HEALTH_HEALTHY
	}
	for d := range m.detectors {
		if m.learns(d) && m.breakers.of(d).Counts() {
			return eventv1.Health_HEALTH_DEGRADED
		}
	}
	return eventv1.Health_HEALTH_FAILED
}

// ailing are the detectors that are not healthy.
func (m *Machine) ailing() []*eventv1.DetectorHealth {
	var out []*eventv1.DetectorHealth
	for d := range m.breakers {
		b := &m.breakers[d]
		if b.Counts() {
			continue
		}
		h := eventv1.Health_HEALTH_FAILED
		if b.OnTrial() {
			h = eventv1.Health_HEALTH_DEGRADED
		}
		out = append(out, &eventv1.DetectorHealth{Detector: m.detectors[d].spec.Name, Health: h, Reason: b.Cause().String(), SinceUs: b.SinceUS(), WindowsLeft: b.Left()})
	}
	return out
}

// judgeModels moves the episode that tells of failed detectors: to be known while others judge, a warning when none is left.
func (m *Machine) judgeModels(p *window.Pane, out *Output) {
	e, h := &m.episodes[model], m.Health()
	endUS := p.StartUS + m.cfg.WindowLength.Microseconds()
	severity := eventv1.Severity_SEVERITY_INFO
	if h == eventv1.Health_HEALTH_FAILED {
		severity = eventv1.Severity_SEVERITY_WARNING
	}
	switch well := h == eventv1.Health_HEALTH_HEALTHY; {
	case !well && !e.open:
		m.start(model, p.StartUS, finding{severity: severity})
		m.report(model, eventv1.Phase_PHASE_STARTED, p.StartUS, endUS, scoreWarning, nil, out)
	case well && e.open:
		m.report(model, eventv1.Phase_PHASE_ENDED, p.StartUS, endUS, 0, nil, out)
		e.open = false
	case e.open && severity > e.severity:
		e.severity = severity
		m.report(model, eventv1.Phase_PHASE_ONGOING, p.StartUS, endUS, scoreWarning, nil, out)
	}
}

// modelText says which detectors have failed and who judges now.
func (m *Machine) modelText() string {
	var failed, left []string
	since := int64(math.MaxInt64)
	statistics := true
	for d := range m.detectors {
		b, name := m.breakers.of(d), m.detectors[d].spec.Name
		switch {
		case !b.Counts():
			failed = append(failed, name+" "+b.Cause().Text())
			since = min(since, b.SinceUS())
		case m.learns(d):
			left = append(left, name)
			statistics = statistics && detect.Statistical(name)
		}
	}
	text := strings.Join(failed, ", ") + ": judged "
	switch {
	case len(left) == 0:
		text += "by fixed limits only"
	case statistics:
		text += "by statistics only (" + strings.Join(left, ", ") + ")"
	default:
		text += "by " + strings.Join(left, ", ")
	}
	return text + " since " + time.UnixMicro(since).UTC().Format(time.RFC3339)
}

// appendBreakers appends the breakers by their detectors' names.
func (m *Machine) appendBreakers(dst []byte) []byte {
	dst = codec.AppendU32(dst, m.spoke)
	dst = codec.AppendU32(dst, uint32(len(m.breakers)))
	for d := range m.breakers {
		dst = codec.AppendString(dst, m.detectors[d].spec.Name)
		dst = m.breakers[d].AppendState(dst)
	}
	return dst
}

// restoreBreakers comes after the detectors. Of detectors that the configuration does not name any more it forgets.
func (m *Machine) restoreBreakers(r *codec.Reader) {
	m.spoke = r.U32()
	n := r.Len(255, 4+breaker.StateSize)
	for range n {
		name := r.String(maxIDBytes)
		var b breaker.Breaker
		b.RestoreState(r)
		if r.Err() != nil {
			return
		}
		for d := range m.detectors {
			if m.detectors[d].spec.Name != name {
				continue
			}
			*m.breaker(d) = b
			if !b.Asked() {
				m.disarm(d)
				m.fresh = max(0, m.fresh-1)
			}
		}
	}
}
