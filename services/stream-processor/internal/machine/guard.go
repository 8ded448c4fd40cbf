package machine

import (
	"fmt"
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/breaker"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Detectors are called through this file only. One that panics is caught here, and its machine goes on without it: what it held may be half changed and is thrown away. The
// runtime cannot be kept from ending a process that is out of memory or of stack; detectors are bounded in both.

// Failure is one failure of a detector, for logs and metrics.
type Failure struct {
	Detector, Reason string
	Detail           string // what it panicked with
}

const (
	maxFailures = 64
	maxDetail   = 256
)

// nobody stands where a detector that has failed was.
type nobody struct{}

func (nobody) Grow([]string)                        {}
func (nobody) Score(*detect.Window, *detect.Scores) {}
func (nobody) Follow(*detect.Window)                {}
func (nobody) Learn(*detect.Window)                 {}
func (nobody) AppendState(dst []byte) []byte        { return dst }
func (nobody) RestoreState(*codec.Reader)           {}

// caught turns a panic into a cause.
func caught(why *breaker.Cause, detail *string) {
	if r := recover(); r != nil {
		*why = breaker.Panic
		*detail = fmt.Sprint(r)
		*detail = (*detail)[:min(len(*detail), maxDetail)]
	}
}

func (m *Machine) tryScore(d int, w *detect.Window, s *detect.Scores) (why breaker.Cause, detail string) {
	defer caught(&why, &detail)
	m.detectors[d].Score(w, s)
	if !finite(s) {
		return breaker.NotFinite, ""
	}
	return breaker.None, ""
}

// measured is one in how many scores is measured: a prime, so that every detector has its turn.
const measured = 61

// watchScore is tryScore, measured once in a while.
func (m *Machine) watchScore(d int, w *detect.Window, s *detect.Scores, sc *scratch) (why breaker.Cause, detail string) {
	if sc.clock == nil {
		return m.tryScore(d, w, s)
	}
	if sc.asked++; sc.asked%measured != 0 {
		return m.tryScore(d, w, s)
	}
	began := sc.clock()
	why, detail = m.tryScore(d, w, s)
	sc.took = append(sc.took, Took{m.detectors[d].spec.Name, sc.clock() - began})
	return why, detail
}

func (m *Machine) tryFollow(d int, w *detect.Window) (why breaker.Cause, detail string) {
	defer caught(&why, &detail)
	m.detectors[d].Follow(w)
	return breaker.None, ""
}

func (m *Machine) tryLearn(d int, w *detect.Window) (why breaker.Cause, detail string) {
	defer caught(&why, &detail)
	m.detectors[d].Learn(w)
	return breaker.None, ""
}

func (m *Machine) tryCompare(d detect.Peered, w *detect.Window, r *detect.Peers, learn bool) (why breaker.Cause, detail string) {
	defer caught(&why, &detail)
	d.Compare(w, r, learn)
	return breaker.None, ""
}

func (m *Machine) tryGrow(d int, names []string) (why breaker.Cause, detail string) {
	defer caught(&why, &detail)
	if det := &m.detectors[d]; det.spec.Name != limitsName && m.cfg.Detect.Bytes(det.spec.Name, len(names)) > m.cfg.Breaker.MaxBytes {
		return breaker.Memory, ""
	}
	m.detectors[d].Grow(names)
	return breaker.None, ""
}

// tryNew makes a detector that knows nothing; it is grown apart.
func (m *Machine) tryNew(d int) (why breaker.Cause, detail string) {
	defer caught(&why, &detail)
	det := &m.detectors[d]
	det.Detector = det.spec.New(&m.cfg.Detect)
	if w, ok := det.Detector.(*detect.Wide); ok {
		m.wide = w
	}
	return breaker.None, ""
}

func (m *Machine) tryRestore(d int, r *codec.Reader) {
	why, detail := breaker.None, ""
	defer func() {
		if why != breaker.None {
			r.Fail("%s", detail)
		}
	}()
	defer caught(&why, &detail)
	m.detectors[d].RestoreState(r)
}

func (m *Machine) tryAppend(d int, dst []byte) (out []byte, why breaker.Cause, detail string) {
	out = dst
	defer caught(&why, &detail)
	return m.detectors[d].AppendState(dst), breaker.None, ""
}

// finite tells whether all that was said are numbers; NaN says that there is no opinion.
func finite(s *detect.Scores) bool {
	for _, t := range s.Surprise {
		if t > math.MaxFloat32 || t < -math.MaxFloat32 {
			return false
		}
	}
	return !(s.Joint > math.MaxFloat32 || s.Joint < -math.MaxFloat32)
}

// preset makes s say nothing of n sensors.
func preset(s *detect.Scores, n int) {
	s.Surprise, s.Low, s.High, s.Level, s.Share = resize(s.Surprise, n), resize(s.Low, n), resize(s.High, n), resize(s.Level, n), resize(s.Share, n)
	nan := float32(math.NaN())
	s.Joint = nan
	for i := range n {
		s.Surprise[i], s.Low[i], s.High[i], s.Level[i], s.Share[i] = nan, nan, nan, detect.Within, 0
	}
}

// consult has a detector score the window, if it may. What does not count (of one on trial, of the stand-in while nobody has failed) is put aside, and scores say nothing.
// It changes nothing but sc: a failure is acted on when the window closes.
func (m *Machine) consult(d int, w *detect.Window, sc *scratch) {
	for len(sc.faults) <= d {
		sc.faults = append(sc.faults, fault{})
		sc.aside = append(sc.aside, detect.Scores{})
		sc.counts = append(sc.counts, true)
	}
	f := &sc.faults[d]
	f.why, sc.counts[d] = breaker.None, false
	if !m.breakers.of(d).Asked() {
		return
	}
	s := &sc.scores[d]
	f.why, f.detail = m.watchScore(d, w, s, sc)
	if f.why != breaker.None {
		preset(s, len(m.sensors))
		return
	}
	if sc.counts[d] = m.breakers.of(d).Counts() && !m.detectors[d].spec.Shadow && (d != int(m.standIn) || m.bereft(sc)); !sc.counts[d] {
		sc.aside[d], *s = *s, sc.aside[d]
		preset(s, len(m.sensors))
	}
}

// said is what a detector said, whether it counts or not.
func (m *Machine) said(d int, sc *scratch) *detect.Scores {
	if sc.faults[d].why == breaker.None && !sc.counts[d] && m.breakers.of(d).Asked() {
		return &sc.aside[d]
	}
	return &sc.scores[d]
}

// bereft tells whether a detector before the stand-in has failed. The stand-in is the last.
func (m *Machine) bereft(sc *scratch) bool {
	for d := range m.standIn {
		if !sc.counts[d] && !m.detectors[d].spec.Shadow {
			return true
		}
	}
	return false
}

// fault is what went wrong with a detector in a window.
type fault struct {
	why    breaker.Cause
	detail string
}
