package machine

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// sequenceWindow is how far a frame may lag behind the newest of its gateway and still be told from a repeat.
const sequenceWindow = 1024

// sequences recognises repeated frames of one machine by (gateway, sequence), as RFC 4303 section 3.4.3 does for IPsec: per gateway the highest
// sequence and a bitmap of those just below it. A frame below the bitmap cannot be told from a repeat, so it counts as one.
//
// A gateway that lost its disk starts its counter at 1 again, and must not be muted until it catches up. Its frames
// then carry numbers seen before, or below the bitmap, but times later than any frame it ever sent; a repeat, being the
// same bytes, never has. So a low number with a time newer than all before begins a new epoch of the counter. Inside the bitmap, where the
// contract says "the same three change nothing", that needs the number to be one that a counter starts with as well, and the
// counter to have been well beyond it. The epoch before is remembered, so a straggler of it is not counted twice.
//
// Times further ahead than a week do not count as newest (one frame of 2099 would end the detection for ever), and a frame that is ahead of
// the broker's clock never begins an epoch: it may be a repeat whose first coming was ahead, too.
type sequences struct {
	gateways []gatewayState
	clock    uint64 // accepted frames: the order of use, for forgetting
}

type gatewayState struct {
	id     string
	used   uint64
	resets uint32
	now    epoch
	before *epoch // nil: the counter never began anew
}

type epoch struct {
	highest  uint64
	newestUS int64 // newest base time
	bits     [sequenceWindow / 64]uint64
}

const (
	firstNumbers    = 16 // a counter that begins anew is first seen at one of these
	beliefHorizonUS = 7 * 24 * 3600 * 1_000_000
)

type sequenceVerdict uint8

const (
	fresh sequenceVerdict = iota
	repeated
	counterReset
)

// accept judges one frame and, unless it is a repeat, remembers it. limitUS is the latest believable time now. returned says that the frame comes
// back from the dead letters: below the bitmap it is believed to be new, and not remembered, because who gives dead letters back does so once.
func (s *sequences) accept(gateway []byte, seq uint64, baseUS, limitUS int64, maxGateways int, returned bool) sequenceVerdict {
	g := s.find(gateway, maxGateways)
	verdict := fresh
	if e := &g.now; g.used > 0 {
		switch {
		case g.before != nil && baseUS <= g.before.newestUS && g.before.has(seq):
			if returned && g.before.below(seq) {
				return fresh
			}
			return repeated
		case seq > e.highest, e.highest-seq < sequenceWindow && !e.has(seq):
			// new, in order or not
		case returned && e.below(seq):
			return fresh
		case baseUS > e.newestUS && baseUS <= limitUS && e.beganAnew(seq):
			verdict = counterReset
			old := g.now
			g.before = &old
			g.now = epoch{newestUS: math.MinInt64}
			g.resets++
		default:
			return repeated
		}
	}
	s.clock++
	g.used = s.clock
	g.now.mark(seq)
	if horizon := limitUS + beliefHorizonUS; baseUS > g.now.newestUS && baseUS <= horizon {
		g.now.newestUS = baseUS
	}
	return verdict
}

// find returns the gateway's state; the one unused for longest makes room for a new one.
func (s *sequences) find(gateway []byte, most int) *gatewayState {
	oldest := 0
	for i := range s.gateways {
		g := &s.gateways[i]
		if g.id == string(gateway) {
			return g
		}
		if g.used < s.gateways[oldest].used {
			oldest = i
		}
	}
	fresh := gatewayState{id: string(gateway), now: epoch{newestUS: math.MinInt64}}
	if len(s.gateways) < most {
		s.gateways = append(s.gateways, fresh)
		return &s.gateways[len(s.gateways)-1]
	}
	s.gateways[oldest] = fresh
	return &s.gateways[oldest]
}

// has tells whether seq was seen, or is too old to know.
func (e *epoch) has(seq uint64) bool {
	switch {
	case seq > e.highest:
		return false
	case e.below(seq):
		return true
	}
	return e.bits[seq%sequenceWindow/64]&(1<<(seq%64)) != 0
}

// below tells whether seq is too old to know.
func (e *epoch) below(seq uint64) bool { return seq <= e.highest && e.highest-seq >= sequenceWindow }

func (e *epoch) beganAnew(seq uint64) bool {
	return e.highest-seq >= sequenceWindow || seq <= firstNumbers && e.highest-seq >= firstNumbers
}

func (e *epoch) mark(seq uint64) {
	if seq > e.highest {
		if seq-e.highest >= sequenceWindow {
			clear(e.bits[:])
		} else {
			for n := e.highest + 1; n < seq; n++ { // numbers skipped are not seen
				e.bits[n%sequenceWindow/64] &^= 1 << (n % 64)
			}
		}
		e.highest = seq
	}
	e.bits[seq%sequenceWindow/64] |= 1 << (seq % 64)
}

func (e *epoch) appendState(dst []byte) []byte {
	dst = codec.AppendU64(dst, e.highest)
	dst = codec.AppendI64(dst, e.newestUS)
	for _, w := range e.bits {
		dst = codec.AppendU64(dst, w)
	}
	return dst
}

func (e *epoch) restoreState(r *codec.Reader) {
	e.highest, e.newestUS = r.U64(), r.I64()
	for i := range e.bits {
		e.bits[i] = r.U64()
	}
}

const epochSize = 8 + 8 + sequenceWindow/8

func (s *sequences) appendState(dst []byte) []byte {
	dst = codec.AppendU64(dst, s.clock)
	dst = codec.AppendU32(dst, uint32(len(s.gateways)))
	for i := range s.gateways {
		g := &s.gateways[i]
		dst = codec.AppendString(dst, g.id)
		dst = codec.AppendU64(dst, g.used)
		dst = codec.AppendU32(dst, g.resets)
		dst = g.now.appendState(dst)
		dst = codec.AppendBool(dst, g.before != nil)
		if g.before != nil {
			dst = g.before.appendState(dst)
		}
	}
	return dst
}

func (s *sequences) restoreState(r *codec.Reader) {
	s.clock = r.U64()
	s.gateways = make([]gatewayState, r.Len(hardMaxGateways, 4+8+4+epochSize+1))
	for i := range s.gateways {
		g := &s.gateways[i]
		g.id, g.used, g.resets = r.String(maxIDBytes), r.U64(), r.U32()
		g.now.restoreState(r)
		if r.Bool() {
			g.before = new(epoch)
			g.before.restoreState(r)
		}
	}
}
