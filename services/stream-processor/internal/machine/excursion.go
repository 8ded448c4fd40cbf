package machine

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/onset"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

// excursion is a stretch in which the machine's history alone would ask for a page, whether there is one or not: the pages given, or a habit of the hour,
// may ask for more. Nothing is learned in it, and when it is over it may become a habit.
type excursion struct {
	startUS int64
	peak    float32 // highest calibrated surprise
	far     float32 // highest nominal surprise
	mean    float32 // running mean of the windows' own surprise
	height  float32 // highest that it was
	clear   uint16  // windows in a row that are as usual
	carried uint16  // windows that would page
	open    bool
}

const (
	mostPeak = 1e6 // keeps peaks finite
	briefest = 2   // windows: what is over as soon as that is an outlier, and how far it went is usual from now on
)

func (m *Machine) habitDays() int {
	if n := m.cfg.Calibrate.HabitDays; n > 0 {
		return n
	}
	return math.MaxInt
}

// habit is the nominal surprise that is usual at that hour; 0: there is none.
func (m *Machine) habit(atUS int64) float64 {
	if m.habits == nil {
		return 0
	}
	return m.habits.Level(atUS, m.habitDays())
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
		if fresh {
			e.rise(op.own)
			e.carried = min(e.carried, math.MaxUint16-1) + 1
		}
		e.peak, e.clear = max(e.peak, float32(min(op.final, mostPeak))), 0
		e.far = max(e.far, float32(min(op.nominal, mostPeak)))
		return
	}
	if !e.open || !fresh {
		return
	}
	e.rise(op.own)
	if op.own >= clearSurprise {
		e.clear = 0
		return
	}
	if e.clear = min(e.clear, math.MaxUint16-1) + 1; int64(e.clear) >= int64(m.cfg.Episodes.ClearWindows) {
		e.open = false
		switch {
		case m.habit(e.startUS) > 0: // it is known why
		case e.carried <= briefest:
			m.peaks.Outlier(float64(e.far))
		default:
			m.peaks.Paged()
		}
		if m.habits == nil {
			m.habits = new(calibrate.Habits)
		}
		if m.habits.Ended(e.startUS, p.StartUS, float64(e.far), m.habitDays()) {
			m.debt.Explained()
		}
	}
}

// news is the surprise that a window's score shows. What begins shows all of its onset's. What lasts shows its surprise below that of a notable onset, in the same order: that it goes on is no
// news. Otherwise one lasting change of level would outweigh, window by window, whatever else is found (Lavin and Ahmad 2015, "Evaluating real-time anomaly detection
// algorithms", count each such row as a false alarm). Flags, episodes and severity go by the machine's calibrated surprise itself.
func (op *opinion) news() float64 {
	switch {
	case op.onset >= onset.Notable:
		return op.onset
	case op.final != op.final:
		return 0
	case op.onset != op.onset:
		return op.final
	}
	return -onset.Notable * math.Expm1(-op.final/onset.Notable)
}

// bar keeps the windows that are not learned from yet from ever being: they led up to something.
func (m *Machine) bar() {
	for _, p := range m.panes.All() {
		p.Teaches = false
	}
}

func (e *excursion) appendState(dst []byte) []byte {
	dst = codec.AppendBool(dst, e.open)
	dst = codec.AppendU32(dst, uint32(e.clear)|uint32(e.carried)<<16)
	dst = codec.AppendI64(dst, e.startUS)
	return codec.AppendF32(codec.AppendF32(codec.AppendF32(codec.AppendF32(dst, e.peak), e.far), e.mean), e.height)
}

func (e *excursion) restoreState(r *codec.Reader) {
	open, windows := r.Bool(), r.U32()
	*e = excursion{open: open, clear: uint16(windows), carried: uint16(windows >> 16), startUS: r.I64(), peak: r.F32(), far: r.F32(), mean: r.F32(), height: r.F32()}
	if !(e.peak >= 0 && e.peak <= mostPeak && e.far >= 0 && e.far <= mostPeak && e.mean >= 0 && e.mean <= mostPeak && e.height >= 0 && e.height <= mostPeak) {
		r.Fail("excursion out of range")
	}
}

// What is left once the worst is over: an excursion's window whose surprise is below that share of the highest running mean is its aftermath. Machines seldom come back to exactly
// where they were before a fault; who was told of the fault need not be told of that.
const (
	aftermathShare  = 0.4
	aftermathFor    = 256 // windows over which the worst is forgotten
	excursionMemory = 8   // windows of the running mean
)

func (e *excursion) rise(own float64) {
	e.mean += (float32(min(own, mostPeak)) - e.mean) / excursionMemory
	e.height = max(e.height*(1-1.0/aftermathFor), e.mean)
}

// aftermath tells whether a window of an excursion is so much less unlike itself than its worst that the fault is over, though not all is as before.
func (m *Machine) aftermath(own float64) bool {
	return m.odd.open && own < aftermathShare*float64(m.odd.height)
}
