package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/telemetry"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/incident"
)

const (
	// maxRecord is the topics' max.message.bytes: larger records are not to be had.
	maxRecord = 8 << 20
	// endBeyond the transaction's time-out its end is given up, and the process leaves: the broker has aborted it by then. A session whose heartbeat failed at
	// that moment would wait for ever.
	endBeyond = 2 * time.Second
	// drainTimeout is how long a process that is asked to stop waits for Kafka's answer.
	drainTimeout = 4 * time.Second
)

// work is one transaction under way.
type work struct {
	out     []*kgo.Record
	changes []change
	touched map[int32]bool

	applied, unchanged, dead, others, ticks int
}

type change struct {
	Committed
	record *kgo.Record
	span   trace.Span
}

// handle takes one poll through one transaction. A partition's records are handled in their order.
func (c *Consumer) handle(ctx context.Context, fetches kgo.Fetches) error {
	if fetches.NumRecords() == 0 {
		return nil
	}
	w := &work{touched: make(map[int32]bool)}
	missing := make(map[int32]bool)
	fetches.EachRecord(func(r *kgo.Record) {
		part, ok := c.parts[r.Partition]
		if !ok {
			missing[r.Partition] = true
			return
		}
		w.touched[r.Partition] = true
		c.apply(ctx, w, part, r)
	})
	if len(missing) > 0 {
		// Records of a partition whose book is not here (see clear): nothing of this poll may count.
		return c.abandon(ctx, w, missing, errors.New("partition without its book"))
	}
	if err := c.begin(ctx); err != nil {
		return err
	}
	produced := c.produce(ctx, w.out)
	// A cancelled ctx must not break a transaction off half-way: finish it, then leave.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.TransactionTimeout+endBeyond)
	defer cancel()
	if errors.Is(produced, errUnanswered) {
		w.finish(produced)
		return produced
	}
	if produced != nil {
		c.log.Warn("produce failed, aborting", zap.Error(produced))
		return c.end(ctx, w, kgo.TryAbort)
	}
	for _, r := range w.out {
		if r.Topic == topic.Alerts {
			c.parts[r.Partition].next = r.Offset + 1
		}
	}
	for _, ch := range w.changes {
		c.parts[ch.Partition].book.Recorded(ch.Event.GetAlertId(), ch.record.Offset)
	}
	return c.end(ctx, w, kgo.TryCommit)
}

// errUnanswered: the process is asked to stop while Kafka does not answer. Whether the records stand is for the broker to say; whoever claims
// the transactional id next ends their transaction.
var errUnanswered = errors.New("stopping while Kafka does not answer")

// produce writes the records and waits until Kafka has them, as long as it takes: meanwhile people are told of what is known. Once ctx ends it waits
// for drainTimeout only.
func (c *Consumer) produce(ctx context.Context, out []*kgo.Record) error {
	wait, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(stopped)
		select {
		case <-time.After(drainTimeout):
			cancel()
		case <-wait.Done():
		}
	})
	var first kgo.FirstErrPromise
	for _, r := range out {
		c.session.Produce(wait, r, first.Promise())
	}
	err := c.session.Client().Flush(wait)
	if cancel(); !unhook() {
		<-stopped
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnanswered, err)
	}
	return first.Err()
}

func (c *Consumer) end(ctx context.Context, w *work, try kgo.TransactionEndTry) error {
	committed, err := c.session.End(kgo.PreTxnCommitFnContext(ctx, c.mark), try)
	if err != nil {
		w.finish(err)
		return fmt.Errorf("end transaction, outcome unknown: %w", err)
	}
	c.mu.Lock()
	c.notes.rebalanced = false // End has cleared the session's mark too
	c.mu.Unlock()
	if !committed {
		c.count.aborts.Inc()
		w.finish(errors.New("transaction aborted"))
		c.discard(w.touched)
		return nil
	}
	w.finish(nil)
	c.count.commits.Inc()
	c.count.applied.Add(w.applied)
	c.count.unchanged.Add(w.unchanged)
	c.count.dead.Add(w.dead)
	c.count.others.Add(w.others)
	c.count.ticks.Add(w.ticks)
	c.tally()
	return c.announce(ctx, w.changes)
}

// mark writes into the offset commit from where each book can be read again, and refuses it for partitions that another member may have owned meanwhile.
func (c *Consumer) mark(req *kmsg.TxnOffsetCommitRequest) error {
	if err := c.members.Check(req); err != nil {
		return err
	}
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			p := &req.Topics[i].Partitions[j]
			if part, ok := c.parts[p.Partition]; ok {
				p.Metadata = kmsg.StringPtr(restoreMetadata(part.book.RestoreFrom(part.next)))
			}
		}
	}
	return nil
}

// abandon throws away what a poll did to the books and goes back to what is committed.
func (c *Consumer) abandon(ctx context.Context, w *work, more map[int32]bool, why error) error {
	c.log.Warn("poll abandoned", zap.Error(why))
	w.finish(why)
	if err := c.clear(ctx); err != nil {
		return err
	}
	maps.Copy(w.touched, more)
	c.discard(w.touched)
	return nil
}

// discard has the books of some partitions read again before any of their records is handled.
func (c *Consumer) discard(ps map[int32]bool) {
	c.shared.forget()
	list := slices.Sorted(maps.Keys(ps))
	c.log.Info("transaction aborted, books are read again", zap.Int32s("partitions", list))
	c.session.Client().PauseFetchPartitions(map[string][]int32{topic.Anomalies: list})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range list {
		if !c.notes.revoked[p] {
			c.notes.assigned[p] = true
		}
	}
}

func (c *Consumer) announce(ctx context.Context, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	list := make([]Committed, len(changes))
	for i, ch := range changes {
		list[i] = ch.Committed
		list[i].Offset = ch.record.Offset
	}
	return c.teller.tell(ctx, list)
}

// finish ends the spans of a transaction.
func (w *work) finish(err error) {
	for _, ch := range w.changes {
		if err != nil {
			ch.span.SetStatus(codes.Error, err.Error())
		}
		ch.span.End()
	}
}

// apply takes one record into account.
func (c *Consumer) apply(ctx context.Context, w *work, part *partition, r *kgo.Record) {
	part.book.Advance(r.Timestamp.UnixMilli())
	if !dlq.IsFor(r, dlq.Router) {
		w.others++ // the original has been applied already
		return
	}
	if topic.IsTick(r) {
		w.ticks++
		w.out = append(w.out, &kgo.Record{Topic: topic.Alerts, Partition: r.Partition, Value: r.Value, Headers: slices.Clone(r.Headers)})
		return
	}
	a, err := decode(r)
	if err != nil {
		w.dead++
		w.out = append(w.out, deadLetter(r, err))
		c.log.Warn("anomaly set aside", zap.Int32("partition", r.Partition), zap.Int64("offset", r.Offset), zap.Error(err))
		return
	}
	transitions := part.book.Apply(a)
	if len(transitions) == 0 {
		w.unchanged++
		return
	}
	w.applied++
	ctx = telemetry.Extract(ctx, r)
	for _, t := range transitions {
		t.Event.AnomalyAtMs = max(r.Timestamp.UnixMilli(), 0)
		w.changes = append(w.changes, c.record(ctx, w, r, t))
	}
}

// record adds the event of one transition to the transaction, under a span that continues the anomaly's trace.
func (c *Consumer) record(ctx context.Context, w *work, r *kgo.Record, t incident.Transition) change {
	ctx, span := c.tracer.Start(ctx, "alert "+TransitionName(t.Event.GetTransition()), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("tocsin.alert_id", t.Event.GetAlertId()),
			attribute.String("tocsin.equipment_id", t.Event.GetEquipmentId()),
			attribute.String("tocsin.cause", t.Event.GetCause()),
			attribute.String("tocsin.severity", incident.SeverityName(t.Event.GetSeverity())),
			attribute.String("messaging.destination.name", topic.Alerts),
		))
	// Deterministic: map fields are sorted, so the same anomaly gives the same bytes.
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(t.Event)
	if err != nil {
		// Not reachable: the strings come from a decoded message and have been checked.
		c.log.DPanic("encode alert event", zap.Error(err))
	}
	c.shared.offer(value, t.Event)
	out := &kgo.Record{
		Topic: topic.Alerts, Partition: r.Partition, Key: []byte(t.Event.GetEquipmentId()), Value: value,
		Headers: []kgo.RecordHeader{
			{Key: topic.HeaderType, Value: []byte(topic.TypeAlert)},
			{Key: topic.HeaderID, Value: []byte(t.Event.GetEventId())},
		},
	}
	telemetry.Inject(ctx, out)
	w.out = append(w.out, out)
	ch := change{Committed: Committed{Transition: t, Partition: r.Partition}, record: out, span: span}
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		ch.TraceID = sc.TraceID().String()
	}
	return ch
}

// decode gives the anomaly of a record, checked.
func decode(r *kgo.Record) (*eventv1.Anomaly, error) {
	if t := topic.Type(r); t != "" && t != topic.TypeAnomaly {
		return nil, fmt.Errorf("%s: %q is not an anomaly", topic.HeaderType, t)
	}
	var a eventv1.Anomaly
	if err := proto.Unmarshal(r.Value, &a); err != nil {
		return nil, fmt.Errorf("decode anomaly: %w", err)
	}
	if err := incident.Validate(&a); err != nil {
		return nil, err
	}
	if string(r.Key) != a.GetEquipmentId() {
		return nil, fmt.Errorf("key %q is not the equipment_id %q: the machine's order is not kept", r.Key, a.GetEquipmentId())
	}
	if a.GetJudgedAtMs() <= 0 {
		a.JudgedAtMs = r.Timestamp.UnixMilli()
	}
	return &a, nil
}

// deadLetter of a record.
func deadLetter(r *kgo.Record, why error) *kgo.Record {
	d := dlq.Refuse(r, dlq.Router, why)
	d.Partition = r.Partition
	return d
}

// TransitionName is the word for a transition in logs, metrics and spans.
func TransitionName(t eventv1.AlertTransition) string {
	switch t {
	case eventv1.AlertTransition_ALERT_TRANSITION_OPENED:
		return "opened"
	case eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED:
		return "escalated"
	case eventv1.AlertTransition_ALERT_TRANSITION_CLOSED:
		return "closed"
	default:
		return "unspecified"
	}
}
