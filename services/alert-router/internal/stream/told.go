package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Told carries between the instances what each has told people, over the compacted topic alert.told.v1: whoever takes over a partition, or has lost
// its disk, then knows it. Each entry's key is the instance's name, a zero byte, and what the entry is about.
//
// Passing on is best effort and never in the way of a notification: an entry that is lost costs a repeated page. Safe for concurrent use.
type Told struct {
	kafka    kafka.Config
	instance string
	log      *zap.Logger
	hear     func(source, about string, entry []byte) error

	start   sync.Once
	failed  error
	stop    context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	cl    *kgo.Client
	next  int64         // offset not heard yet
	moved chan struct{} // closed, and made anew, when next has grown

	lost, unreadable *metrics.Counter
}

// NewTold connects at the first CatchUp. hear is given every entry of every instance, this one's too, each instance's in their order, with the key that it was
// published under.
func NewTold(instance string, deps service.Deps, hear func(source, about string, entry []byte) error) *Told {
	return &Told{
		kafka: deps.Kafka, instance: instance, log: deps.Log, hear: hear, moved: make(chan struct{}),
		lost:       deps.Metrics.GetOrCreateCounter("tocsin_alert_told_lost_total"),
		unreadable: deps.Metrics.GetOrCreateCounter("tocsin_alert_told_unreadable_total"),
	}
}

func (t *Told) client() *kgo.Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cl
}

// Publish passes an entry on. It does not block, and keeps nothing of entry.
func (t *Told) Publish(key string, entry []byte) {
	cl := t.client()
	if cl == nil {
		return // nobody is told anything before the first restore
	}
	rec := &kgo.Record{Topic: topic.Told, Partition: 0, Key: append(append([]byte(t.instance), 0), key...), Value: bytes.Clone(entry)}
	cl.TryProduce(context.Background(), rec, func(_ *kgo.Record, err error) {
		if err != nil && !errors.Is(err, kgo.ErrClientClosed) {
			t.lost.Inc()
			t.log.Warn("other instances do not learn what was told: should one take over, people may be told again", zap.Error(err))
		}
	})
}

// CatchUp returns when everything that stands in the topic now has been heard.
func (t *Told) CatchUp(ctx context.Context) error {
	t.start.Do(func() { t.failed = t.begin() })
	if t.failed != nil {
		return t.failed
	}
	cl := t.client()
	if cl == nil {
		return kgo.ErrClientClosed
	}
	adm := kadm.NewClient(cl)
	starts, err := adm.ListStartOffsets(ctx, topic.Told)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("start of %s: %w", topic.Told, err)
	}
	ends, err := adm.ListEndOffsets(ctx, topic.Told)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("end of %s: %w", topic.Told, err)
	}
	start, _ := starts.Lookup(topic.Told, 0)
	end, _ := ends.Lookup(topic.Told, 0)
	for {
		t.mu.Lock()
		at, moved := max(t.next, start.Offset), t.moved
		t.mu.Unlock()
		if at >= end.Offset {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("reading %s: %w", topic.Told, ctx.Err())
		}
	}
}

func (t *Told) begin() error {
	base, err := t.kafka.Options(t.log)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(base,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic.Told: {0: kgo.NewOffset().AtStart()}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // retention took what was to be read: go on with what is there
		kgo.FetchMaxBytes(4<<20),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(10_000),
		kgo.RecordDeliveryTimeout(time.Minute),
		kgo.ProducerBatchMaxBytes(maxRecord),
		kgo.ProducerLinger(0),
	)...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.mu.Lock()
	t.cl, t.stop = cl, stop
	t.mu.Unlock()
	t.running.Go(func() { t.follow(ctx, cl) })
	return nil
}

func (t *Told) follow(ctx context.Context, cl *kgo.Client) {
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		for _, fe := range fetches.Errors() {
			t.log.Warn("fetch failed, will be tried again", zap.String("topic", fe.Topic), zap.Error(fe.Err))
		}
		next := int64(-1)
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			source, about, ok := bytes.Cut(r.Key, []byte{0})
			err := errors.New("the key names no instance")
			if ok {
				err = t.hear(string(source), string(about), r.Value)
			}
			if err != nil {
				t.unreadable.Inc()
				t.log.Warn("passed over", zap.String("topic", r.Topic), zap.Int64("offset", r.Offset), zap.Error(err))
			}
		})
		if next < 0 {
			continue
		}
		t.mu.Lock()
		t.next = next
		close(t.moved)
		t.moved = make(chan struct{})
		t.mu.Unlock()
	}
}

// Close passes on what is left, within moments, and ends. Nothing may be published any more. Idempotent.
func (t *Told) Close() {
	t.start.Do(func() { t.failed = kgo.ErrClientClosed })
	t.mu.Lock()
	cl := t.cl
	t.cl = nil
	t.mu.Unlock()
	if cl == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = cl.Flush(ctx) // what does not arrive costs a repeated page
	t.stop()
	kafka.CloseWithin(drainTimeout, t.log, cl.Close)
	t.running.Wait()
}
