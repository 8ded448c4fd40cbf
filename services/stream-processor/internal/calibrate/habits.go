package calibrate

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Habits knows at which hours of the day a machine is usually unlike itself: it is switched off, runs hot, makes another product. What happened in the same
// hour of enough days, and was over by itself each time, raises the demand on a page in that hour to what those days showed, in nominal surprise, and in no other: conformal
// calibration conditional on a group, here the hour (Mondrian conformal prediction: Vovk, Gammerman and Shafer 2005, ch. 4.5).
//
// What lasts longer than a day's habit can, is no habit: a fault that persists is never taken for one. Days and hours are those of event
// time, UTC. 192 bytes.
type Habits [hours]habit

type habit struct {
	far  float32 // logarithm of the nominal surprise that it takes to be worse than then; in force from enough days on
	day  int32   // of the newest occurrence, days since 1970
	days uint8   // on which it happened, in a row but for a few
}

const (
	hours         = 24
	hourUS        = 3600 * 1e6
	dayUS         = hours * hourUS
	habitMargin   = 0.3  // a factor of 1.35 on what was seen: from day to day the same habit differs by a tenth (one standard deviation)
	habitFades    = 0.01 // a day: what was once seen counts for a month
	habitGap      = 3    // days after which a habit that did not recur must be acquired anew
	longestHabit  = 20 * hourUS
	mostHabitDays = 200
	mostFar       = 10.0
)

func hourOf(atUS int64) int {
	h := atUS % dayUS
	if h < 0 {
		h += dayUS
	}
	return int(h / hourUS)
}

func dayOf(atUS int64) int32 { return int32(math.Floor(float64(atUS) / dayUS)) }

// Level is the nominal surprise that it takes to be worse than usual at an instant, when a habit needs enough days; 0: there is no habit.
func (h *Habits) Level(atUS int64, enough int) float64 {
	a := &h[hourOf(atUS)]
	if int(a.days) < enough || dayOf(atUS)-a.day > habitGap {
		return 0
	}
	return math.Exp(float64(a.far))
}

// Ended takes an excursion that is over. far is the highest nominal surprise it came to. It tells whether a habit was acquired
// by it, at any hour.
func (h *Habits) Ended(fromUS, toUS int64, far float64, enough int) (acquired bool) {
	if toUS < fromUS || toUS-fromUS > longestHabit {
		return false
	}
	need := float32(min(math.Log(max(1, far))+habitMargin, mostFar))
	// An hour before and after: people and thermostats are not punctual to the minute.
	for at := fromUS - hourUS/4; ; at += hourUS {
		at = min(at, toUS+hourUS/4)
		a, day := &h[hourOf(at)], dayOf(at)
		switch gap := day - a.day; {
		case a.days == 0 || gap > habitGap || gap < 0:
			*a = habit{far: need, day: day, days: 1}
		case gap == 0:
			a.far = max(a.far, need)
		default:
			a.days = min(a.days+1, mostHabitDays)
			a.day = day
			acquired = acquired || int(a.days) == enough
			a.far = max(a.far-habitFades, need)
		}
		if at == toUS+hourUS/4 {
			return acquired
		}
	}
}

// HabitsSize is the number of bytes that AppendState appends.
const HabitsSize = hours * 9

// AppendState appends the HabitsSize bytes of h.
func (h *Habits) AppendState(dst []byte) []byte {
	for i := range h {
		dst = codec.AppendF32(dst, h[i].far)
		dst = codec.AppendU32(dst, uint32(h[i].day))
		dst = append(dst, h[i].days)
	}
	return dst
}

// RestoreState is the inverse of AppendState.
func (h *Habits) RestoreState(r *codec.Reader) {
	for i := range h {
		h[i] = habit{far: r.F32(), day: int32(r.U32()), days: r.U8()}
		if !(h[i].far >= 0 && h[i].far <= mostFar) || h[i].days > mostHabitDays {
			r.Fail("habits out of range")
		}
	}
}
