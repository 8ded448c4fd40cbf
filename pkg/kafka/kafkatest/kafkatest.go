// Package kafkatest gives a test an embedded Kafka broker with Tocsin's topics.
package kafkatest

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Start runs an embedded broker until the test ends and creates all topics with the given number of partitions.
func Start(t testing.TB, partitions int32) kafka.Config {
	t.Helper()
	_, cfg := StartCluster(t, partitions)
	return cfg
}

// StartCluster is Start that also gives the broker itself, for injecting faults with its Control functions.
func StartCluster(t testing.TB, partitions int32, opts ...kfake.Opt) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.AllowAutoTopicCreation(),
		kfake.GroupMinSessionTimeout(100 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatalf("start embedded broker: %v", err)
	}
	t.Cleanup(c.Close)
	cfg := kafka.DefaultConfig()
	cfg.Brokers = c.ListenAddrs()
	cfg.Partitions = partitions
	cl := Client(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := kafka.EnsureTopics(ctx, cl, cfg, topic.All()...); err != nil {
		t.Fatalf("create topics: %v", err)
	}
	return c, cfg
}

// Client is a plain client that is closed when the test ends.
func Client(t testing.TB, cfg kafka.Config, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	base, err := cfg.Options(zap.NewNop())
	if err != nil {
		t.Fatalf("kafka options: %v", err)
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		t.Fatalf("kafka client: %v", err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// Consume reads the topic read_committed from its start and returns its first n records; it fails the test
// when they have not come within the timeout.
func Consume(t testing.TB, cfg kafka.Config, name string, n int, timeout time.Duration) []*kgo.Record {
	t.Helper()
	return ConsumeUntil(t, cfg, name, timeout, func(rs []*kgo.Record) bool { return len(rs) >= n })
}

// ConsumeUntil reads the topic read_committed from its start until done is content with all that was read.
func ConsumeUntil(t testing.TB, cfg kafka.Config, name string, timeout time.Duration, done func([]*kgo.Record) bool) []*kgo.Record {
	t.Helper()
	cl := Client(t, cfg, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var out []*kgo.Record
	for !done(out) {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("after %s: %d records in %s, not what was waited for", timeout, len(out), name)
		}
		fs.EachRecord(func(r *kgo.Record) { out = append(out, r) })
	}
	return out
}

// ReadAll reads what the topic holds now, read_committed, from its start to its end.
func ReadAll(t testing.TB, cfg kafka.Config, name string) []*kgo.Record {
	t.Helper()
	cl := Client(t, cfg, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatalf("end of %s: %v", name, err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	var out []*kgo.Record
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s was not read to its end: %d partitions are left", name, len(left))
		}
		fs.EachRecord(func(r *kgo.Record) {
			end, ok := left[r.Partition]
			if ok && r.Offset >= end-1 {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() && ok && r.Offset < end {
				out = append(out, r)
			}
		})
	}
	return out
}
