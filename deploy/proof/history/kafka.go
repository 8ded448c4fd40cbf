package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// source is what the checker reads: Kafka, or in tests what was taken from it.
type source interface {
	// bounds are what the partitions of a topic hold now, as an uncommitted reader sees it.
	bounds(ctx context.Context, name string) (map[int32]interval, error)
	// committed are the positions of a group by topic and partition. A group that is not there has none.
	committed(ctx context.Context, group string) (map[string]map[int32]position, error)
	// read gives each committed record of an interval, in order.
	read(ctx context.Context, name string, partition int32, in interval, each func(*kgo.Record) error) (span, error)
	// topicIDs are the ids of all topics.
	topicIDs(ctx context.Context) (map[string]kadm.TopicID, error)
}

// broker is Kafka as the checker asks it. It makes its clients from the world's configuration only, and reads each partition with a client of its
// own, which is closed before the reading returns.
type broker struct {
	cfg      kafka.Config
	patience time.Duration
	cl       *kgo.Client
	adm      *kadm.Client
}

func connect(w *World) (*broker, error) {
	opts, err := w.Kafka.Options(zap.NewNop())
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &broker{cfg: w.Kafka, patience: w.patience(), cl: cl, adm: kadm.NewClient(cl)}, nil
}

func (b *broker) close() { b.cl.Close() }

// interval of a partition's offsets: [from, to).
type interval struct{ from, to int64 }

// bounds implements source.
func (b *broker) bounds(ctx context.Context, name string) (map[int32]interval, error) {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	starts, err := b.adm.ListStartOffsets(ctx, name)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("start of %s: %w", name, err)
	}
	ends, err := b.adm.ListEndOffsets(ctx, name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("end of %s: %w", name, err)
	}
	out := map[int32]interval{}
	ends.Each(func(o kadm.ListedOffset) {
		s, _ := starts.Lookup(name, o.Partition)
		out[o.Partition] = interval{s.Offset, o.Offset}
	})
	return out, nil
}

// position is what a group has committed of a partition.
type position struct {
	at       int64
	metadata string
}

// committed implements source.
func (b *broker) committed(ctx context.Context, group string) (map[string]map[int32]position, error) {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	rs, err := b.adm.FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("offsets of %s: %w", group, err)
	}
	out := map[string]map[int32]position{}
	rs.Each(func(r kadm.OffsetResponse) {
		if r.Err != nil {
			err = errors.Join(err, fmt.Errorf("offset of %s in %s[%d]: %w", group, r.Topic, r.Partition, r.Err))
			return
		}
		if r.At < 0 {
			return
		}
		if out[r.Topic] == nil {
			out[r.Topic] = map[int32]position{}
		}
		out[r.Topic][r.Partition] = position{r.At, r.Metadata}
	})
	return out, err
}

// span counts what a reading met.
type span struct {
	records int
	// hidden are offsets that no committed reader sees: of aborted transactions, or compacted.
	hidden int
}

// errStuck: a reading has not moved.
var errStuck = errors.New("no record comes, although there are some")

// read implements source. A transaction that is still open below to is waited for, but no longer than patience.
func (b *broker) read(ctx context.Context, name string, partition int32, in interval, each func(*kgo.Record) error) (span, error) {
	var s span
	if in.from >= in.to {
		return s, nil
	}
	opts, err := b.cfg.Options(zap.NewNop())
	if err != nil {
		return s, err
	}
	cl, err := kgo.NewClient(append(opts,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: {partition: kgo.NewOffset().At(in.from)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // a marker may be the last thing there
		kgo.FetchMaxWait(100*time.Millisecond),
	)...)
	if err != nil {
		return s, fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	next, controls := in.from, 0
	for next < in.to {
		fetches, err := b.poll(ctx, cl)
		if err != nil {
			return s, fmt.Errorf("%s[%d] at offset %d of %d: %w", name, partition, next, in.to, err)
		}
		var failed error
		fetches.EachRecord(func(r *kgo.Record) {
			if failed != nil || r.Offset >= in.to {
				next = max(next, r.Offset+1)
				return
			}
			next = r.Offset + 1
			if r.Attrs.IsControl() {
				controls++
				return
			}
			s.records++
			failed = each(r)
		})
		if failed != nil {
			return s, failed
		}
	}
	s.hidden = int(in.to-in.from) - s.records - controls
	return s, nil
}

// poll waits for records; errors of the brokers are waited out.
func (b *broker) poll(ctx context.Context, cl *kgo.Client) (kgo.Fetches, error) {
	limit, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	var last error
	for {
		fetches := cl.PollRecords(limit, 10_000)
		if fetches.NumRecords() > 0 {
			return fetches, nil
		}
		for _, e := range fetches.Errors() {
			if limit.Err() == nil {
				last = e.Err
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case limit.Err() != nil:
			return nil, errors.Join(errStuck, last)
		}
	}
}

// lastData is the offset after the last committed record of [from, to) that is no tick; from when there is none.
func (b *broker) lastData(ctx context.Context, name string, partition int32, in interval) (int64, error) {
	for back := int64(256); ; back *= 8 {
		tail := interval{max(in.from, in.to-back), in.to}
		last := in.from
		_, err := b.read(ctx, name, partition, tail, func(r *kgo.Record) error {
			if !topic.IsTick(r) {
				last = r.Offset + 1
			}
			return nil
		})
		if err != nil || last > in.from || tail.from == in.from {
			return last, err
		}
	}
}

// topicIDs implements source.
func (b *broker) topicIDs(ctx context.Context) (map[string]kadm.TopicID, error) {
	topics, err := b.adm.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("topics: %w", err)
	}
	ids := make(map[string]kadm.TopicID, len(topics))
	for name, d := range topics {
		ids[name] = d.ID
	}
	return ids, nil
}
