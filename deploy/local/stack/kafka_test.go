package stack_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
)

func client(t *testing.T, s *stack.Stack, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.Brokers()...), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func makeTopic(ctx context.Context, t *testing.T, cl *kgo.Client, topic string, replication int16) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, 2, replication
	c := kmsg.NewCreateTopicsRequestTopicConfig()
	c.Name, c.Value = "message.timestamp.type", kmsg.StringPtr("LogAppendTime")
	rt.Configs = append(rt.Configs, c)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}

// committed reads n records, read_committed, from the start.
func committed(ctx context.Context, t *testing.T, s *stack.Stack, topic string, n int) []*kgo.Record {
	t.Helper()
	cl := client(t, s, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	var got []*kgo.Record
	for len(got) < n {
		f := cl.PollFetches(ctx)
		if err := f.Err0(); err != nil {
			t.Fatalf("%d of %d records: %v", len(got), n, err)
		}
		got = append(got, f.Records()...)
	}
	return got
}

func transaction(ctx context.Context, t *testing.T, cl *kgo.Client, topic, value string, end kgo.TransactionEndTry) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	// An event time of long ago, which the broker's own must replace.
	for p := range int32(2) {
		rec := &kgo.Record{Topic: topic, Partition: p, Value: []byte(value), Timestamp: time.Unix(1, 0)}
		if err := cl.ProduceSync(ctx, rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(ctx, end); err != nil {
		t.Fatal(err)
	}
}

// What the protocols build on: a broker's clock in each record, transactions, and both surviving kill -9.
func TestKafkaTransactionsAndLogAppendTime(t *testing.T) {
	ctx := deadline(t)
	begin := time.Now()
	s := stacktest.Up(t, stack.Options{Only: []string{stack.GroupKafka}})
	t.Logf("Kafka was up after %.1f s", time.Since(begin).Seconds())

	const topic = "frames"
	cl := client(t, s, kgo.TransactionalID("writer"), kgo.TransactionTimeout(10*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	makeTopic(ctx, t, cl, topic, 1)
	transaction(ctx, t, cl, topic, "aborted", kgo.TryAbort)
	transaction(ctx, t, cl, topic, "committed", kgo.TryCommit)

	if err := s.Kill(stack.GroupKafka, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx, stack.GroupKafka); err != nil {
		t.Fatal(err)
	}
	transaction(ctx, t, cl, topic, "committed after kill -9", kgo.TryCommit)

	var values []string
	for _, rec := range committed(ctx, t, s, topic, 4) {
		values = append(values, string(rec.Value))
		if rec.Attrs.TimestampType() != 1 || rec.Timestamp.Before(begin.Add(-time.Minute)) {
			t.Errorf("record time %v of type %d is not the broker's", rec.Timestamp, rec.Attrs.TimestampType())
		}
	}
	slices.Sort(values)
	if want := []string{"committed", "committed", "committed after kill -9", "committed after kill -9"}; !slices.Equal(values, want) {
		t.Errorf("read %q, want %q", values, want)
	}

	if err := s.Down(ctx); err != nil {
		t.Fatal(err)
	}
	nothingListens(t, s, "kafka-1", "kafka-1-controller")
}

// A transaction whose producer is gone is aborted by the broker soon after its timeout, and readers go on.
func TestKafkaAbortsWhatADeadProducerLeft(t *testing.T) {
	ctx := deadline(t)
	s := stacktest.Up(t, stack.Options{Only: []string{stack.GroupKafka}})
	const topic = "frames"
	const timeout = time.Second
	dead := client(t, s, kgo.TransactionalID("dead"), kgo.TransactionTimeout(timeout), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	makeTopic(ctx, t, dead, topic, 1)
	if err := dead.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := dead.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	left := time.Now()
	plain := client(t, s, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := plain.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("plain")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := committed(ctx, t, s, topic, 1); string(got[0].Value) != "plain" {
		t.Errorf("read %q", got[0].Value)
	}
	if took := time.Since(left); took > timeout+10*time.Second {
		t.Errorf("readers were held for %v by a transaction with a timeout of %v", took, timeout)
	}
}

func TestThreeBrokersOutliveTheLossOfOne(t *testing.T) {
	ctx := deadline(t)
	s := stacktest.Up(t, stack.Options{Brokers: 3, Only: []string{stack.GroupKafka}})
	const topic = "frames"
	cl := client(t, s, kgo.TransactionalID("writer"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	makeTopic(ctx, t, cl, topic, 3)
	for i := range 3 {
		name := fmt.Sprintf("kafka-%d", i+1)
		if err := s.Kill(name, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		transaction(ctx, t, cl, topic, name, kgo.TryCommit)
		if err := s.Start(ctx, name); err != nil {
			t.Fatal(err)
		}
		inSync(ctx, t, cl, topic, 3)
	}
	if got := committed(ctx, t, s, topic, 6); len(got) != 6 {
		t.Errorf("read %d records, want 6", len(got))
	}

	// The last one is left without a quorum: it cannot stop in order, and is not waited for.
	for _, name := range []string{"kafka-1", "kafka-2"} {
		if err := s.Kill(name, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(ctx, "kafka-3"); err != nil {
		t.Error(err)
	}
}

// inSync waits until each partition has n replicas in sync.
func inSync(ctx context.Context, t *testing.T, cl *kgo.Client, topic string, n int) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		req := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			t.Fatal(err)
		}
		lagging := slices.ContainsFunc(resp.Topics[0].Partitions, func(p kmsg.MetadataResponseTopicPartition) bool { return len(p.ISR) < n })
		if !lagging {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("replicas do not come into sync: %v", errors.Join(ctx.Err()))
		case <-tick.C:
		}
	}
}

func nothingListens(t *testing.T, s *stack.Stack, ports ...string) {
	t.Helper()
	for _, p := range ports {
		conn, err := net.DialTimeout("tcp", s.Addr(p), time.Second)
		if err == nil {
			_ = conn.Close()
			t.Errorf("%s still listens at %s", p, s.Addr(p))
		}
	}
}
