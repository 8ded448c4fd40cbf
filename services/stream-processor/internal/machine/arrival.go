package machine

import (
	"math"
	"math/bits"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	arrivalGaps = 32
	burstMS     = 1000 // frames this close to the first of a burst are one arrival
)

// arrivals learns how often a machine is heard of, in broker time. A gateway may send many frames at once: a burst is one arrival. The
// learned interval is the second longest of the last 32: the longest may be an outage, which must not make the next one
// harder to notice, while a slower rhythm is believed when it comes twice.
type arrivals struct {
	lastMS  int64 // log time of the newest accepted frame
	burstMS int64 // log time of the first frame of the newest burst
	count   uint32
	n, pos  uint8
	gaps    [arrivalGaps]coarseMS
}

// coarseMS is a number of milliseconds of 12 significant bits, exact up to 4 s and for round numbers beyond: 11 bits of it, and 5 of its power of two.
type coarseMS uint16

func coarseOf(ms int64) coarseMS {
	ms = max(0, min(ms, 1<<41))
	shift := max(0, bits.Len64(uint64(ms))-12)
	if ms>>shift < 1<<11 {
		return coarseMS(ms)
	}
	return coarseMS(shift+1)<<11 | coarseMS(ms>>shift&(1<<11-1))
}

func (c coarseMS) ms() int64 {
	if c < 1<<11 {
		return int64(c)
	}
	return int64(c&(1<<11-1)|1<<11) << (c>>11 - 1)
}

func (a *arrivals) note(nowMS int64) {
	a.lastMS = nowMS
	if a.count > 0 {
		gap := nowMS - a.burstMS
		if gap < burstMS {
			return
		}
		a.gaps[a.pos] = coarseOf(gap)
		a.pos = (a.pos + 1) % arrivalGaps
		a.n = min(a.n+1, arrivalGaps)
	}
	a.burstMS = nowMS
	if a.count < math.MaxUint32 {
		a.count++
	}
}

// intervalMS is the learned interval.
func (a *arrivals) intervalMS() int64 {
	var longest, second coarseMS // their order is that of the times
	for _, g := range a.gaps[:a.n] {
		if g > longest {
			longest, second = g, longest
		} else if g > second {
			second = g
		}
	}
	return second.ms()
}

// silentAtMS is the log time from which the machine counts as silent; math.MaxInt64 while too little is known.
func (a *arrivals) silentAtMS(c *SilenceConfig) int64 {
	if int64(a.count) < int64(c.MinArrivals) {
		return math.MaxInt64
	}
	return a.lastMS + int64(a.patienceMS(c))
}

// patienceMS is how long nothing may be heard, finite.
func (a *arrivals) patienceMS(c *SilenceConfig) float64 {
	return min(max(float64(c.Min.Milliseconds()), c.Factor*float64(a.intervalMS())), 1e15)
}

// notePeriod learns the usual distance of windows: 5 s where samples come faster, more where they are rarer. Gaps count little.
func (m *Machine) notePeriod(startUS int64) {
	defer func() { m.lastUS = startUS }()
	if m.periodUS == 0 && m.lastUS == 0 || startUS <= m.lastUS {
		return
	}
	gap := float64(startUS - m.lastUS)
	if m.periodUS == 0 {
		m.periodUS = gap
		return
	}
	m.periodUS += (min(gap, 2*m.periodUS) - m.periodUS) / 64
}

func (a *arrivals) appendState(dst []byte) []byte {
	dst = codec.AppendI64(dst, a.lastMS)
	dst = codec.AppendI64(dst, a.burstMS)
	dst = codec.AppendU32(dst, a.count)
	dst = append(dst, a.n, a.pos)
	for _, g := range a.gaps {
		dst = append(dst, byte(g), byte(g>>8))
	}
	return dst
}

func (a *arrivals) restoreState(r *codec.Reader) {
	a.lastMS, a.burstMS, a.count, a.n, a.pos = r.I64(), r.I64(), r.U32(), r.U8(), r.U8()
	if a.n > arrivalGaps || a.pos >= arrivalGaps {
		r.Fail("arrivals out of range")
		a.n, a.pos = 0, 0
	}
	for i := range a.gaps {
		a.gaps[i] = coarseMS(r.U8()) | coarseMS(r.U8())<<8
	}
}
