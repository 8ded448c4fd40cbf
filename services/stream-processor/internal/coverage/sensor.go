package coverage

import (
	"math"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Seen is a set of what happened to a sensor's values since its last window.
type Seen uint8

// Members of Seen.
const (
	SawOutOfRange Seen = 1 << iota
	SawBadSource
	SawMissing
	SawUncertain
	SawLate // values for a window that was closed
	allSeen = SawOutOfRange | SawBadSource | SawMissing | SawUncertain | SawLate
)

// Sensor follows the coverage of one sensor, window by window.
//
// Whether a sensor is silent is held against its own habit: the most windows in a row that it usually skips, so that one that sends once a minute beside others that
// send every second needs no setting. Windows that the machine as a whole has no samples for do not exist here, so an outage of the machine teaches no sensor to be
// rare. What was itself called silence teaches no more than twice the usual, and what is usual wears off by a 64th per window. Of a sensor that was heard in few
// windows nothing is known yet: it is not called silent, and whatever it skips is believed.
//
// 10 bytes, aligned to 2: there is one for each of millions of sensors.
type Sensor struct {
	untilHigh, untilLow uint16 // event time in seconds up to which it was judged or learned; 0: never
	usual               uint16 // windows in a row that it skips, in 8ths
	absent              uint16 // windows in a row skipped now
	reason              Reason
	seen                Seen // and, above those, the number of windows it was heard in, as far as it can be counted
}

// Note remembers something that happened to a value.
func (s *Sensor) Note(what Seen) { s.seen |= what }

// NoteValidity remembers the judge's word on a value.
func (s *Sensor) NoteValidity(v eventv1.Validity) {
	switch v {
	case eventv1.Validity_VALIDITY_OUT_OF_RANGE:
		s.seen |= SawOutOfRange
	case eventv1.Validity_VALIDITY_BAD:
		s.seen |= SawBadSource
	case eventv1.Validity_VALIDITY_MISSING:
		s.seen |= SawMissing
	case eventv1.Validity_VALIDITY_UNCERTAIN:
		s.seen |= SawUncertain
	}
}

// Window is what is known of one sensor in a window that was judged.
type Window struct {
	StartUS, EndUS  int64
	Count, Unusable uint32
	Stuck           bool // it was stuck in the window
	Opinion         bool // a detector that counts had an opinion of it
	Learning        bool // its machine is
	Degraded        bool // a detector of its machine has failed
	Alone           bool // no detector is in use that could judge it
	Shelved         bool
}

const (
	heardOnce = allSeen + 1 // what one window adds to seen
	heardWell = 0xff &^ allSeen

	eighths     = 8
	mostSkipped = math.MaxUint16 / eighths / 2
)

// Step takes the next window. It tells whether the reason changed.
func (s *Sensor) Step(c *Config, w *Window) (changed bool) {
	before := s.reason
	s.reason = s.decide(c, w)
	s.seen &^= allSeen
	return s.reason != before
}

func (s *Sensor) decide(c *Config, w *Window) Reason {
	arrived := w.Count > 0 || w.Unusable > 0
	s.habit(arrived)
	switch {
	case w.Shelved:
		return Shelved
	case !arrived && s.seen&SawLate != 0:
		return AfterClose
	case !arrived && s.silent(c, w):
		return SensorSilent
	case !arrived:
		return s.reason
	case w.Stuck:
		return Stuck
	case w.Unusable > w.Count:
		return s.unusable()
	}
	if !w.Learning && w.Alone && !w.Opinion && w.Degraded {
		return ModelFailed
	}
	s.setUntil(seconds(w.EndUS))
	switch {
	case w.Learning:
		return WarmingUp
	case w.Alone && !w.Opinion:
		return NoDetector
	case !w.Opinion:
		return NewSensor
	case w.Degraded:
		return StatisticsOnly
	case s.seen&SawUncertain != 0:
		return Uncertain
	}
	return Judged
}

// unusable is why most values of the window could not be used. What the plant is to blame for comes before what the sender is.
func (s *Sensor) unusable() Reason {
	switch {
	case s.seen&SawOutOfRange != 0:
		return OutOfRange
	case s.seen&SawMissing != 0 && s.seen&SawBadSource == 0:
		return Missing
	}
	return BadSource
}

// habit learns how many windows the sensor usually skips.
func (s *Sensor) habit(arrived bool) {
	if !arrived {
		s.absent += min(1, mostSkipped-min(s.absent, mostSkipped))
		return
	}
	skipped := s.absent * eighths
	if s.known() {
		skipped = min(skipped, 2*max(s.usual, eighths))
	} else {
		s.seen += heardOnce
	}
	s.absent = 0
	if skipped >= s.usual {
		s.usual = min(skipped, mostSkipped*eighths)
		return
	}
	s.usual -= (s.usual + 63) / 64
}

func (s *Sensor) silent(c *Config, w *Window) bool {
	return s.known() && float64(s.absent) > c.SensorFactor*float64(s.usual)/eighths && int64(s.absent)*(w.EndUS-w.StartUS) >= c.SensorMin.Microseconds()
}

func (s *Sensor) known() bool { return s.seen&heardWell == heardWell }

func (s *Sensor) until() uint32 { return uint32(s.untilHigh)<<16 | uint32(s.untilLow) }

func (s *Sensor) setUntil(t uint32) { s.untilHigh, s.untilLow = uint16(t>>16), uint16(t) }

// Reason is why the sensor is judged or not.
func (s *Sensor) Reason() Reason { return s.reason }

// UntilUS is the event time up to which it was judged or learned; 0: never.
func (s *Sensor) UntilUS() int64 { return int64(s.until()) * 1e6 }

// BlindFor is for how long in event time, in microseconds, it was not judged at a moment; 0 while nothing is known of it. It has the precision of a second.
func (s *Sensor) BlindFor(atUS int64) int64 {
	if s.until() == 0 {
		return 0
	}
	return max(0, int64(seconds(atUS))-int64(s.until())) * 1e6
}

// seconds keeps times of 1970 to 2106; others stand at the ends.
func seconds(us int64) uint32 { return uint32(max(0, min(us/1e6, math.MaxUint32))) }

// SensorSize is the number of bytes that AppendState appends.
const SensorSize = 4 + 4 + 1 + 1

// AppendState appends the SensorSize bytes of s.
func (s *Sensor) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, s.until())
	dst = codec.AppendU32(dst, uint32(s.usual)<<16|uint32(s.absent))
	return append(dst, byte(s.reason), byte(s.seen))
}

// RestoreState is the inverse of AppendState.
func (s *Sensor) RestoreState(r *codec.Reader) {
	s.setUntil(r.U32())
	n := r.U32()
	s.usual, s.absent = uint16(n>>16), uint16(n)
	s.reason, s.seen = Reason(r.U8()), Seen(r.U8())
	if !s.reason.Valid() || s.usual > mostSkipped*eighths || s.absent > mostSkipped {
		r.Fail("coverage of a sensor out of range")
		*s = Sensor{}
	}
}
