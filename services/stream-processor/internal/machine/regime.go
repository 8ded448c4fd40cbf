package machine

import (
	"encoding/binary"
	"math"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/regime"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

// locate tells in which regime the window just observed is, and levels it to the base.
func (m *Machine) locate(sc *scratch) {
	sc.leveled, sc.known, sc.place = false, true, 0
	if m.regimes == nil {
		return
	}
	sc.where = m.regimes.Next(m.regimes.At(), sc.window.Values)
	sc.place = m.regimes.Place(sc.where)
	sc.known = m.levelTo(sc, false)
}

// levelTo fills sc.even for sc.place. It is true when the window can be judged.
func (m *Machine) levelTo(sc *scratch, teach bool) bool {
	sc.leveled = sc.place.Away()
	if !sc.leveled {
		return true
	}
	sc.even.StartUS, sc.even.EndUS = sc.window.StartUS, sc.window.EndUS
	sc.even.Values = resize(sc.even.Values, len(sc.window.Values))
	return m.regimes.Level(sc.place, sc.window.Values, sc.even.Values, teach)
}

// seen is the window as detectors see it, sees as one of them does: fixed limits hold in every regime.
func (m *Machine) seen(sc *scratch) *detect.Window {
	if sc.leveled {
		return &sc.even
	}
	return &sc.window
}

func (m *Machine) sees(d int, sc *scratch) *detect.Window {
	if m.detectors[d].spec.Fixed {
		return &sc.window
	}
	return m.seen(sc)
}

// raise puts the bands that a detector expects to where the regime is.
func (m *Machine) raise(d int, sc *scratch) {
	if !sc.leveled || m.detectors[d].spec.Fixed || m.detectors[d].spec.Name == detect.CohortName { // sisters are where they are
		return
	}
	s := &sc.scores[d]
	for i := range s.Low {
		if m.detectors[d].spec.Feature == detect.Stddev {
			f := float32(m.regimes.Inflate(sc.place, i))
			s.Low[i], s.High[i] = s.Low[i]*f, s.High[i]*f
			continue
		}
		by := float32(m.regimes.Raise(sc.place, i))
		s.Low[i], s.High[i] = s.Low[i]+by, s.High[i]+by
	}
}

// seekRegimes begins to look for regimes, if that is asked for.
func (m *Machine) seekRegimes() {
	if m.regimes = regime.Seek(&m.cfg.Regimes, m.cfg.WindowLength); m.regimes != nil {
		names := make([]string, len(m.sensors))
		for i := range names {
			names[i] = m.sensors[i].name.Value()
		}
		m.regimes.Grow(names)
	}
}

// passRegime moves the machine through its regimes by a window that closes.
func (m *Machine) passRegime(p *window.Pane, out *Output) {
	if m.regimes == nil && m.odd.open && len(m.sensors) <= regime.MaxSensors {
		m.seekRegimes() // a machine that was never unlike itself has one
		if m.regimes != nil {
			out.scratch.where = m.regimes.Next(m.regimes.At(), out.scratch.window.Values)
		}
	}
	if m.regimes == nil {
		return
	}
	sc := &out.scratch
	var refs []regime.Reference
	if !m.learning() && m.regimes.NeedsReference() {
		refs = resize(sc.refs, len(m.sensors))
		sc.refs = refs
		for i := range refs {
			c := &m.sensors[i].course
			refs[i] = regime.Reference{Level: c.level, SD: float32(math.Sqrt(float64(c.noise)))}
		}
	}
	explained := m.regimes.Pass(sc.where, sc.window.Values, refs)
	p.Regime = uint32(m.regimes.Place(m.regimes.At()))
	if explained {
		m.excuse()
	}
	if m.regimes.Rebased() {
		if e := &m.episodes[behaviour]; e.open { // while all is learned anew it would never end
			m.report(behaviour, eventv1.Phase_PHASE_ENDED, p.StartUS, p.StartUS, 0, e.evidence, out)
			e.open = false
		}
		m.relearn(p.StartUS, out)
	}
}

// excuse takes back what was held against the machine, or forgiven at its hours, for what is known to be a regime now.
func (m *Machine) excuse() {
	m.habits, m.odd, m.peaks, m.debt = nil, excursion{}, calibrate.Peaks{}, calibrate.Debt{}
}

// learnAside lets a regime that is not believed yet be got to know, apart from all else. It is true when there is nothing else to learn from a window: the
// machine was on its way from one regime to another.
func (m *Machine) learnAside(p *window.Pane, sc *scratch) bool {
	if m.regimes == nil || !regime.Place(p.Regime).Away() {
		return false
	}
	place := regime.Place(p.Regime)
	if place.Aside() {
		var op opinion
		m.observe(p, sc, &op)
		m.regimes.Learn(place, sc.window.Values)
	}
	return place.Held()
}

// learnRegime learns what is usual in the regime of a window, which was observed. It is true when that was known before: then it teaches the detectors too.
func (m *Machine) learnRegime(p *window.Pane, sc *scratch) bool {
	sc.leveled = false
	if m.regimes == nil {
		return true
	}
	sc.place = regime.Place(p.Regime)
	known := m.levelTo(sc, true)
	if !sc.place.Aside() {
		m.regimes.Learn(sc.place, sc.window.Values)
	}
	return known
}

// regimeName is what people call the regime of a window; empty for machines of one.
func (m *Machine) regimeName(place uint32) string {
	if m.regimes == nil {
		return ""
	}
	return m.regimes.Name(regime.Place(place))
}

func (m *Machine) currentRegime() string {
	if m.regimes == nil {
		return ""
	}
	return m.regimes.Name(m.regimes.Place(m.regimes.At()))
}

// appendRegimes appends the regimes so that a configuration without them can pass them over.
func (m *Machine) appendRegimes(dst []byte) []byte {
	dst = codec.AppendBool(dst, m.regimes != nil)
	if m.regimes == nil {
		return dst
	}
	length := len(dst)
	dst = codec.AppendU32(dst, 0)
	dst = m.regimes.AppendState(dst)
	binary.LittleEndian.PutUint32(dst[length:], uint32(len(dst)-length-4))
	return dst
}

func (m *Machine) restoreRegimes(r *codec.Reader) {
	if !r.Bool() {
		return
	}
	state := codec.NewReader(r.Bytes(r.Remaining()))
	if m.regimes == nil {
		m.seekRegimes()
	}
	if m.regimes == nil || r.Err() != nil {
		return
	}
	m.regimes.RestoreState(state)
	if err := state.Err(); err != nil || state.Remaining() > 0 {
		r.Fail("regimes: %v", err)
	}
}
