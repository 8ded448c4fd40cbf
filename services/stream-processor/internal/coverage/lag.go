package coverage

import (
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Lag follows by how much a machine's samples are behind the broker's clock, and tells three things apart that look alike at one moment: a backlog that
// drains (samples are less old every minute: nothing is wrong any more), a line too slow for what is sent (older every minute), and a clock that is
// wrong (always as old). The zero value has seen nothing. 24 bytes.
type Lag struct {
	sinceMS, firstMS int64 // where the present stretch began, and the lag then; sinceMS 0: in time
	lagMS            int64
	reason           Reason
}

// Note takes the newest sample's age at a moment of log time. Moments must not fall.
func (l *Lag) Note(c *Config, atMS, lagMS int64) {
	if lagMS < c.LateAfter.Milliseconds() {
		*l = Lag{}
		return
	}
	l.lagMS = lagMS
	if l.sinceMS == 0 {
		l.sinceMS, l.firstMS, l.reason = atMS, lagMS, Backlog
		return
	}
	passed := atMS - l.sinceMS
	if passed < max(c.BlindAfter, c.LateAfter).Milliseconds() {
		return
	}
	const slope = 4 // a change of less than a quarter of the time that passed is none
	switch gained := l.firstMS - lagMS; {
	case gained*slope >= passed:
		l.reason = Backlog
	case -gained*slope >= passed:
		l.reason = FallingBehind
	default:
		l.reason = ClockBehind
	}
	l.sinceMS, l.firstMS = atMS, lagMS
}

// Late is why the machine is not judged in time, and by how much in milliseconds it is behind; ok is false when it is in time.
func (l *Lag) Late() (r Reason, behindMS int64, ok bool) { return l.reason, l.lagMS, l.sinceMS != 0 }

// Wrong tells whether somebody must do something about it.
func (l *Lag) Wrong() bool { return l.reason == ClockBehind || l.reason == FallingBehind }

// AppendState appends the state.
func (l *Lag) AppendState(dst []byte) []byte {
	dst = codec.AppendI64(dst, l.sinceMS)
	dst = codec.AppendI64(dst, l.firstMS)
	dst = codec.AppendI64(dst, l.lagMS)
	return append(dst, byte(l.reason))
}

// RestoreState is the inverse of AppendState.
func (l *Lag) RestoreState(r *codec.Reader) {
	*l = Lag{sinceMS: r.I64(), firstMS: r.I64(), lagMS: r.I64(), reason: Reason(r.U8())}
	const far = 1 << 60
	if !l.reason.Valid() || l.sinceMS > far || l.sinceMS < -far || l.firstMS > far || l.firstMS < 0 || l.lagMS > far || l.lagMS < 0 {
		r.Fail("lag out of range")
		*l = Lag{}
	}
}
