package machine

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

// excursion is a stretch in which the machine's history alone would ask for a page, whether there is one or not: the pages given, or a habit of the hour,
// may ask for more. Nothing is learned in it, and when it is over it may become a habit.
type excursion struct {
	open    bool
	clear   uint32 // windows in a row that are as usual
	startUS int64
	peak    float32 // highest calibrated surprise
}

const mostPeak = 1e6 // keeps peaks finite

func (m *Machine) habitDays() int {
	if n := m.cfg.Calibrate.HabitDays; n > 0 {
		return n
	}
	return math.MaxInt
}

// habit is the logarithm by which what is usual at that hour raises the demand.
func (m *Machine) habit(atUS int64) float64 {
	if m.habits == nil {
		return 0
	}
	return m.habits.Strict(atUS, m.habitDays())
}

// noteExcursion moves the excursion by one window. It comes before the episodes.
func (m *Machine) noteExcursion(p *window.Pane, op *opinion, fresh bool) {
	e, page := &m.odd, m.pageSurprise()
	if m.learning() || op.own != op.own {
		return
	}
	if op.own >= unusualSurprise && op.final >= min(page, op.demand) {
		if !e.open {
			*e = excursion{open: true, startUS: p.StartUS}
			m.bar()
		}
		e.peak, e.clear = max(e.peak, float32(min(op.final, mostPeak))), 0
		return
	}
	if !e.open || !fresh {
		return
	}
	if op.own >= clearSurprise {
		e.clear = 0
		return
	}
	if e.clear++; int64(e.clear) >= int64(m.cfg.Episodes.ClearWindows) {
		e.open = false
		if m.habit(e.startUS) == 0 { // else it is known why
			m.peaks.Paged()
		}
		if m.habits == nil {
			m.habits = new(calibrate.Habits)
		}
		if m.habits.Ended(e.startUS, p.StartUS, math.Log(max(float64(e.peak)/page, 1)), m.habitDays()) {
			m.debt.Explained()
		}
	}
}

// What a window's score keeps of its surprise once its excursion is known.
const (
	knownShare = 0.9  // of what a page asks for
	knownRange = 50.0 // surprise over which the rest of it is spread, so that order is kept
)

// news is the surprise that a window's score shows: all of it in the window that an excursion begins with, and less than a page asks for in those that follow. The score of a window
// says how unlikely it is that this begins by chance; that it goes on is no news. Otherwise one lasting change of level would outweigh, window by window, whatever else is found
// (Lavin and Ahmad 2015, "Evaluating real-time anomaly detection algorithms", count each such row as a false alarm). Flags, episodes and severity look at the surprise itself.
func (m *Machine) news(startUS int64, t float64) float64 {
	page := m.pageSurprise()
	known := knownShare * page
	if !m.odd.open || startUS <= m.odd.startUS || t <= known {
		return t
	}
	return known - (page-known)*math.Expm1(-(t-known)/knownRange)
}

// bar keeps the windows that are not learned from yet from ever being: they led up to something.
func (m *Machine) bar() {
	for _, p := range m.panes.All() {
		p.Teaches = false
	}
}

func (e *excursion) appendState(dst []byte) []byte {
	dst = codec.AppendBool(dst, e.open)
	dst = codec.AppendU32(dst, e.clear)
	dst = codec.AppendI64(dst, e.startUS)
	return codec.AppendF32(dst, e.peak)
}

func (e *excursion) restoreState(r *codec.Reader) {
	*e = excursion{open: r.Bool(), clear: r.U32(), startUS: r.I64(), peak: r.F32()}
	if !(e.peak >= 0 && e.peak <= mostPeak) {
		r.Fail("excursion out of range")
	}
}
