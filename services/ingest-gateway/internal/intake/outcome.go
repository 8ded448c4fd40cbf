package intake

import (
	"sync/atomic"
	"time"

	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
)

// Cause is why a frame was not taken, in the terms that receivers translate into their own status codes. It is also the label of
// the metric, so the set is closed.
type Cause string

// Causes. Taken is none.
const (
	Taken        Cause = ""
	Malformed    Cause = "malformed"     // not a frame at all
	Invalid      Cause = "invalid"       // a field is wrong
	TooLarge     Cause = "too_large"     // more bytes than a frame may have
	NotAllowed   Cause = "forbidden"     // not this sender's gateway or machine
	RateLimited  Cause = "rate_limited"  // this gateway sends too much
	Overloaded   Cause = "overloaded"    // too much waits for Kafka
	KafkaAway    Cause = "kafka"         // Kafka refused it or could not be reached
	KafkaTimeout Cause = "kafka_timeout" // Kafka has not said yes in time; it may still have it
	Behind       Cause = "behind"        // an earlier frame of its machine was told to come again
)

// Outcome is the answer for one frame.
type Outcome struct {
	EquipmentID string
	GatewayID   string
	Sequence    uint64
	Cause       Cause
	Field       string        // of the frame, when it is wrong or forbidden
	Reason      string        // for a human
	RetryAfter  time.Duration // when the sender is to try again, unchanged
}

// Status is the outcome in the terms of the wire.
func (o *Outcome) Status() ingestv1.FrameStatus {
	switch o.Cause {
	case Taken:
		return ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED
	case Malformed, Invalid, TooLarge:
		return ingestv1.FrameStatus_FRAME_STATUS_INVALID
	case NotAllowed:
		return ingestv1.FrameStatus_FRAME_STATUS_FORBIDDEN
	default:
		return ingestv1.FrameStatus_FRAME_STATUS_RETRY
	}
}

// again tells whether the sender is to send the frame again.
func (o *Outcome) again() bool { return o.Status() == ingestv1.FrameStatus_FRAME_STATUS_RETRY }

// Result is the outcome as it goes over the wire.
func (o *Outcome) Result() *ingestv1.FrameResult {
	return &ingestv1.FrameResult{
		EquipmentId: o.EquipmentID, GatewayId: o.GatewayID, Sequence: o.Sequence,
		Status: o.Status(), Field: o.Field, Reason: o.Reason, RetryAfterMs: uint32(o.RetryAfter.Milliseconds()),
	}
}

// Ticket is a frame under way.
type Ticket struct {
	metrics  *Metrics
	session  *Session // may be nil
	told     atomic.Bool
	done     chan struct{}
	deadline time.Time
	late     Outcome // what Wait says at the deadline
	outcome  Outcome // belongs to the producer until done is closed
}

// Done is closed when the outcome is known.
func (t *Ticket) Done() <-chan struct{} { return t.done }

// Wait gives the outcome, at the latest at the frame's deadline: then the frame is to be sent again, although Kafka
// may still take it. It must be called once, by one goroutine.
func (t *Ticket) Wait() Outcome {
	select { // the usual case when answers are collected late: no timer needed
	case <-t.done:
		return t.outcome
	default:
	}
	timer := time.NewTimer(time.Until(t.deadline))
	defer timer.Stop()
	select {
	case <-t.done:
		return t.outcome
	case <-timer.C:
	}
	if !t.tell(KafkaTimeout) { // Kafka's word came in this very moment
		<-t.done
		return t.outcome
	}
	t.session.hold(&t.late, time.Now())
	return t.late
}

// tell is true once: what comes first, Kafka's word or the deadline, is what the sender is told, and is counted.
func (t *Ticket) tell(c Cause) bool {
	first := t.told.CompareAndSwap(false, true)
	if first {
		t.metrics.count(c)
	}
	return first
}
