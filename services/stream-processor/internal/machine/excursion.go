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
