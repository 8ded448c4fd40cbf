package kafka_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// What was there is met whole, also where a transaction's end is the last thing; what comes later is not part of it.
func TestExtent(t *testing.T) {
	k := kafkatest.Start(t, 3)
	ctx := within(t, 2*time.Minute)
	cl := kafkatest.Client(t, k, kgo.TransactionalID("writer"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	write := func(n int, commit kgo.TransactionEndTry) {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			cl.Produce(ctx, &kgo.Record{Topic: topic.Windows, Partition: int32(i % 2), Value: fmt.Append(nil, i)}, nil)
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(ctx, commit); err != nil {
			t.Fatal(err)
		}
	}
	write(10, kgo.TryCommit)
	write(4, kgo.TryAbort)
	e, err := kafka.ExtentOf(ctx, kadm.NewClient(cl), topic.Windows, topic.Anomalies)
	if err != nil || e.Done() {
		t.Fatal(e, err)
	}
	write(6, kgo.TryCommit)
	reader := kafkatest.Client(t, k, kgo.ConsumeTopics(topic.Windows, topic.Anomalies), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	n := 0
	for !e.Done() {
		fs := reader.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if e.Meet(r) {
				n++
			}
		})
	}
	if n != 10 || e.Total < 14 || e.Met > e.Total {
		t.Errorf("%d records of 10, met %d of %d offsets", n, e.Met, e.Total)
	}
}
