package replayalert

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
)

// Log is what a replay reads. Everything is of committed records.
type Log interface {
	// Partition is where records with that key stand.
	Partition(ctx context.Context, topic, key string) (int32, error)
	// Partitions of a topic.
	Partitions(ctx context.Context, topic string) (int, error)
	// Bounds are the first offset that is still there and the one after the last.
	Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error)
	// After is the first offset at or after a broker time; the end when there is none.
	After(ctx context.Context, topic string, partition int32, ms int64) (int64, error)
	// Read calls each for every record in [from, to), control records too, until it returns an error.
	Read(ctx context.Context, topic string, partition int32, from, to int64, each func(*kgo.Record) error) error
}

// KafkaLog is a Log on a cluster. Not safe for concurrent use.
type KafkaLog struct {
	cl  *kgo.Client
	adm *kadm.Client
}

// fetchBytes bounds one fetch: two of them are held at a time.
const fetchBytes = 8 << 20

// OpenKafka does not connect yet.
func OpenKafka(k kafka.Config, log *zap.Logger) (*KafkaLog, error) {
	base, err := k.Options(log)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(base,
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes))...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &KafkaLog{cl: cl, adm: kadm.NewClient(cl)}, nil
}

// Close ends the client.
func (l *KafkaLog) Close() { l.cl.Close() }

// Partition is Kafka's default for the key.
func (l *KafkaLog) Partition(ctx context.Context, topic, key string) (int32, error) {
	n, err := l.Partitions(ctx, topic)
	if err != nil {
		return 0, err
	}
	p := kgo.StickyKeyPartitioner(nil).ForTopic(topic)
	return int32(p.Partition(&kgo.Record{Key: []byte(key)}, n)), nil
}

// Partitions asks the broker.
func (l *KafkaLog) Partitions(ctx context.Context, topic string) (int, error) {
	topics, err := l.adm.ListTopics(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", topic, err)
	}
	t := topics[topic]
	if t.Err != nil {
		return 0, fmt.Errorf("topic %s: %w", topic, t.Err)
	}
	if len(t.Partitions) == 0 {
		return 0, fmt.Errorf("topic %s has no partitions", topic)
	}
	return len(t.Partitions), nil
}

// Bounds asks the broker.
func (l *KafkaLog) Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	starts, err := l.adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("start of %s: %w", topic, err)
	}
	ends, err := l.adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, 0, fmt.Errorf("end of %s: %w", topic, err)
	}
	s, ok1 := starts.Lookup(topic, partition)
	e, ok2 := ends.Lookup(topic, partition)
	switch {
	case !ok1 || !ok2:
		return 0, 0, fmt.Errorf("%s[%d] does not exist", topic, partition)
	case s.Err != nil:
		return 0, 0, fmt.Errorf("start of %s[%d]: %w", topic, partition, s.Err)
	case e.Err != nil:
		return 0, 0, fmt.Errorf("end of %s[%d]: %w", topic, partition, e.Err)
	}
	return s.Offset, e.Offset, nil
}

// After asks the broker's time index.
func (l *KafkaLog) After(ctx context.Context, topic string, partition int32, ms int64) (int64, error) {
	offsets, err := l.adm.ListOffsetsAfterMilli(ctx, ms, topic)
	if err != nil {
		return 0, fmt.Errorf("%s at %d ms: %w", topic, ms, err)
	}
	o, ok := offsets.Lookup(topic, partition)
	if !ok {
		return 0, fmt.Errorf("%s[%d] does not exist", topic, partition)
	}
	if o.Err != nil {
		return 0, fmt.Errorf("%s[%d] at %d ms: %w", topic, partition, ms, o.Err)
	}
	return o.Offset, nil
}

// Read consumes the range.
func (l *KafkaLog) Read(ctx context.Context, topic string, partition int32, from, to int64, each func(*kgo.Record) error) error {
	if from >= to {
		return nil
	}
	l.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}})
	defer l.cl.RemoveConsumePartitions(map[string][]int32{topic: {partition}})
	for at := from; at < to; {
		fs := l.cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return err
		}
		for _, e := range fs.Errors() {
			return fmt.Errorf("%s[%d] at %d: %w", e.Topic, e.Partition, at, e.Err)
		}
		for _, rec := range fs.Records() {
			if rec.Topic != topic || rec.Partition != partition || rec.Offset < at {
				continue
			}
			at = rec.Offset + 1
			if rec.Offset < to {
				if err := each(rec); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
