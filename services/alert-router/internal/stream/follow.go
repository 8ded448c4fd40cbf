package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Entry is one record of alert.events.v1.
type Entry struct {
	Partition int32
	Offset    int64
	MS        int64               // the broker's time of the record
	Event     *eventv1.AlertEvent // nil: only time passes
}

// Log is the whole of alert.events.v1, every partition, as each instance reads it for itself: committed events only, a partition's in their order. It also writes what people
// do. Safe for concurrent use; Follow is called once.
type Log struct {
	kafka  kafka.Config
	log    *zap.Logger
	shared *Shared

	unreadable, fetchErrors *metrics.Counter

	mu sync.Mutex
	cl *kgo.Client // nil until Follow has connected, and after it
}

// ErrNotFollowing: the log is not connected yet, or not any more.
var ErrNotFollowing = errors.New("not connected to Kafka")

// NewLog opens nothing yet. What the Consumer of this process has written need not be decoded again: it is taken from shared, which may be nil.
func NewLog(deps service.Deps, shared *Shared) *Log {
	return &Log{
		kafka: deps.Kafka, log: deps.Log, shared: shared,
		unreadable:  deps.Metrics.GetOrCreateCounter("tocsin_alert_events_unreadable_total"),
		fetchErrors: deps.Metrics.GetOrCreateCounter("tocsin_alert_fetch_errors_total"),
	}
}

func (l *Log) client() (*kgo.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cl == nil {
		return nil, ErrNotFollowing
	}
	return l.cl, nil
}

// Reader is given what stands in the log, by one goroutine.
type Reader struct {
	// Begin is given the bounds of each partition and says where to begin reading it.
	Begin func(ctx context.Context, starts, ends map[int32]int64) (map[int32]int64, error)
	// Read is given the next entries, and the offsets that come after them.
	Read func(ctx context.Context, entries []Entry, next map[int32]int64)
}

// Follow reads until ctx ends; then it returns nil.
func (l *Log) Follow(ctx context.Context, r Reader) error {
	if err := l.follow(ctx, r); err != nil && ctx.Err() == nil {
		return fmt.Errorf("follow %s: %w", topic.Alerts, err)
	}
	return nil
}

func (l *Log) follow(ctx context.Context, r Reader) error {
	base, err := l.kafka.Options(l.log)
	if err != nil {
		return err
	}
	from, err := l.start(ctx, base, r)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(base,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic.Alerts: from}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // retention took what was to be read: go on with what is there
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // a partition mostly ends with a marker: without it the end is never reached
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchBytes/4),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(30*time.Second),
		kgo.ProducerBatchMaxBytes(maxRecord),
		kgo.ProducerLinger(0),
	)...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	l.mu.Lock()
	l.cl = cl
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.cl = nil
		l.mu.Unlock()
		kafka.CloseWithin(drainTimeout, l.log, cl.Close)
	}()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return nil
		}
		for _, fe := range fetches.Errors() {
			l.fetchErrors.Inc()
			l.log.Warn("fetch failed, will be tried again", zap.String("topic", fe.Topic), zap.Int32("partition", fe.Partition), zap.Error(fe.Err))
		}
		entries, next := l.entries(fetches)
		if len(next) > 0 {
			r.Read(ctx, entries, next)
		}
	}
}

// start finds out where to begin.
func (l *Log) start(ctx context.Context, base []kgo.Opt, r Reader) (map[int32]kgo.Offset, error) {
	cl, err := kgo.NewClient(base...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	err = kafka.AwaitTopics(ctx, cl, l.kafka, func(err error) { l.log.Warn("waiting for Kafka", zap.Error(err)) }, topic.Specs(topic.Alerts)...)
	if err != nil {
		return nil, err
	}
	adm := kadm.NewClient(cl)
	starts, err := offsets(adm.ListStartOffsets(ctx, topic.Alerts))
	if err != nil {
		return nil, fmt.Errorf("start of %s: %w", topic.Alerts, err)
	}
	ends, err := offsets(adm.ListEndOffsets(ctx, topic.Alerts))
	if err != nil {
		return nil, fmt.Errorf("end of %s: %w", topic.Alerts, err)
	}
	at, err := r.Begin(ctx, starts, ends)
	if err != nil {
		return nil, err
	}
	from := make(map[int32]kgo.Offset, len(starts))
	for p, start := range starts {
		from[p] = kgo.NewOffset().At(max(start, at[p]))
	}
	return from, nil
}

func offsets(listed kadm.ListedOffsets, err error) (map[int32]int64, error) {
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, err
	}
	out := make(map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) { out[o.Partition] = o.Offset })
	return out, nil
}

func (l *Log) entries(fetches kgo.Fetches) ([]Entry, map[int32]int64) {
	var out []Entry
	next := map[int32]int64{}
	fetches.EachRecord(func(r *kgo.Record) {
		next[r.Partition] = r.Offset + 1
		if r.Attrs.IsControl() {
			return
		}
		e := Entry{Partition: r.Partition, Offset: r.Offset, MS: r.Timestamp.UnixMilli()}
		// An event that was given back to another reader stands twice; here the first counts.
		if topic.Is(r, topic.TypeAlert) && dlq.IsFor(r, dlq.Router) {
			e.Event = l.event(r)
		}
		out = append(out, e)
	})
	return out, next
}

// event of a record; nil of one that cannot be read.
func (l *Log) event(r *kgo.Record) *eventv1.AlertEvent {
	if ev := l.shared.take(topic.Header(r, topic.HeaderID), r.Value); ev != nil {
		return ev
	}
	ev := new(eventv1.AlertEvent)
	if err := proto.Unmarshal(r.Value, ev); err != nil {
		l.unreadable.Inc()
		l.log.Error("alert event unreadable, passed over", zap.Int32("partition", r.Partition), zap.Int64("offset", r.Offset), zap.Error(err))
		return nil
	}
	return ev
}

// Ends is where each partition ends now, open transactions included.
func (l *Log) Ends(ctx context.Context) (map[int32]int64, error) {
	cl, err := l.client()
	if err != nil {
		return nil, err
	}
	ends, err := offsets(kadm.NewClient(cl).ListEndOffsets(ctx, topic.Alerts))
	if err != nil {
		return nil, fmt.Errorf("end of %s: %w", topic.Alerts, err)
	}
	return ends, nil
}

// Publish writes an event that somebody has made, into the partition of its alert, and returns its offset once Kafka has it.
func (l *Log) Publish(ctx context.Context, partition int32, ev *eventv1.AlertEvent) (int64, error) {
	cl, err := l.client()
	if err != nil {
		return 0, err
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(ev)
	if err != nil {
		return 0, fmt.Errorf("encode alert event: %w", err)
	}
	rec := &kgo.Record{
		Topic: topic.Alerts, Partition: partition, Key: []byte(ev.GetEquipmentId()), Value: value,
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeAlert)}, {Key: topic.HeaderID, Value: []byte(ev.GetEventId())}},
	}
	if err := kafka.ProduceSync(ctx, cl, rec); err != nil {
		return 0, fmt.Errorf("write to %s: %w", topic.Alerts, err)
	}
	return rec.Offset, nil
}

// Passed tells whether positions have reached every one of marks.
func Passed(positions, marks map[int32]int64) bool {
	for _, p := range slices.Sorted(maps.Keys(marks)) {
		if positions[p] < marks[p] {
			return false
		}
	}
	return true
}
