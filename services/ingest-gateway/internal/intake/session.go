package intake

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
)

const (
	// maxHeld bounds the machines that one stream holds back at a time (some 350 bytes each).
	maxHeld = 4096
	// maxPending bounds the refused frames of one machine that are remembered; a sender with more of them under way is cut off.
	maxPending = 1 << 16
	// holdLapses after this long: a sender that gave a refused frame up must not find its machine closed for ever. What was sent
	// before the refusal was answered has long arrived by then.
	holdLapses = time.Minute
)

// Session is one request or one stream of a sender. It keeps the order of each machine's frames when some of them must be sent
// again: what follows a refused frame is refused with it, unproduced, so that the sender's next try does not overtake itself.
//
// Frames are submitted by one goroutine; their outcomes may be waited for by another.
type Session struct {
	in     *Intake
	who    *admission.Identity
	stream bool

	holding atomic.Int32 // len(held): most frames need not take the lock
	full    atomic.Bool

	mu   sync.Mutex
	held map[machineKey]*hold
}

type machineKey struct{ gateway, equipment string }

// hold is what of a machine was refused and has not come again. Only the lowest of it is taken, so that the machine's frames
// enter Kafka in order however the sender mixes its tries.
type hold struct {
	pending []uint64 // ascending
	after   time.Duration
	since   time.Time
}

// add notes a refused sequence. It comes nearly always above those that are there.
func (h *hold) add(sequence uint64) {
	if i, known := slices.BinarySearch(h.pending, sequence); !known {
		h.pending = slices.Insert(h.pending, i, sequence)
	}
}

// Request is a session whose frames are all sent before the first is answered: what is refused comes again in another one.
func (in *Intake) Request(who *admission.Identity) *Session { return &Session{in: in, who: who} }

// Stream is a session in which refused frames come again behind those that were under way already.
func (in *Intake) Stream(who *admission.Identity) *Session {
	return &Session{in: in, who: who, stream: true}
}

// Submit is Intake.Submit in the order of the session.
func (s *Session) Submit(ctx context.Context, raw []byte) *Ticket {
	return s.in.submit(ctx, s.who, raw, s)
}

// Full tells that more machines are held back than a session remembers. A stream must end then: what it has not answered is
// sent again in order.
func (s *Session) Full() bool { return s.full.Load() }

// behind tells whether the frame is to be refused because one before it was, and takes note of one that comes again.
func (s *Session) behind(f *frame.Frame, now time.Time) (after time.Duration, yes bool) {
	key := machineKey{printable(f.GatewayID), printable(f.EquipmentID)}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[key]
	switch {
	case h == nil && s.full.Load(): // it may be one of those that found no place
		return retryOverload, true
	case h == nil:
		return 0, false
	case !s.stream:
		return h.after, true
	case now.Sub(h.since) > holdLapses:
		s.forget(key)
		return 0, false
	case f.Sequence > h.pending[0]:
		h.add(f.Sequence)
		s.bound(h)
		return h.after, true
	case f.Sequence == h.pending[0]:
		if h.pending = h.pending[1:]; len(h.pending) == 0 {
			s.forget(key)
		}
	}
	return 0, false
}

// hold notes that the sender is told to send this frame again. Once for each answer, and before it: a note that came after the
// frame was there again would hold back its machine for nothing.
func (s *Session) hold(o *Outcome, now time.Time) {
	if s == nil || o.Cause == Behind || o.EquipmentID == "" {
		return
	}
	key := machineKey{o.GatewayID, o.EquipmentID}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[key]
	if h == nil {
		if s.stream && len(s.held) >= maxHeld {
			s.lapse(now)
			if len(s.held) >= maxHeld {
				s.full.Store(true)
				return
			}
		}
		if s.held == nil {
			s.held = map[machineKey]*hold{}
		}
		h = &hold{}
		s.held[key] = h
		s.holding.Store(int32(len(s.held)))
	}
	h.add(o.Sequence)
	s.bound(h)
	h.after, h.since = max(h.after, o.RetryAfter), now
}

// bound ends a stream whose sender has more refused frames of a machine under way than are remembered.
func (s *Session) bound(h *hold) {
	if len(h.pending) > maxPending {
		s.full.Store(true)
	}
}

func (s *Session) lapse(now time.Time) {
	for key, h := range s.held {
		if now.Sub(h.since) > holdLapses {
			s.forget(key)
		}
	}
}

func (s *Session) forget(key machineKey) {
	delete(s.held, key)
	s.holding.Store(int32(len(s.held)))
}
