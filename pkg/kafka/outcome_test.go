package kafka_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

const txnID = "some/one"

// crashed is a broker whose coordinator says state while the partitions in open are without the end of the producer's transaction, until it is written.
type crashed struct {
	mu       sync.Mutex
	state    []string // one for each question; the last one stays
	open     map[string][]int32
	asked    int // for producers
	written  []kmsg.WriteTxnMarkersRequestMarker
	refuse   *kerr.Error
	producer int64
}

func (c *crashed) install(k *kfake.Cluster) {
	k.ControlKey(int16(kmsg.DescribeTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		c.mu.Lock()
		defer c.mu.Unlock()
		resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		st := kmsg.NewDescribeTransactionsResponseTransactionState()
		st.TransactionalID, st.ProducerID, st.ProducerEpoch, st.State = txnID, c.producer, 34, c.state[0]
		if len(c.state) > 1 {
			c.state = c.state[1:]
		}
		resp.TransactionStates = append(resp.TransactionStates, st)
		return resp, nil, true
	})
	k.ControlKey(int16(kmsg.DescribeProducers), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.asked++
		req := kreq.(*kmsg.DescribeProducersRequest)
		resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewDescribeProducersResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDescribeProducersResponseTopicPartition()
				rp.Partition = p
				other := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
				other.ProducerID, other.CurrentTxnStartOffset = c.producer+1, 7 // somebody else's: not ours to end
				rp.ActiveProducers = append(rp.ActiveProducers, other)
				for _, o := range c.open[t.Topic] {
					if o == p {
						a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
						a.ProducerID, a.ProducerEpoch, a.CoordinatorEpoch, a.CurrentTxnStartOffset = c.producer, 33, -1, 120
						rp.ActiveProducers = append(rp.ActiveProducers, a)
					}
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	k.ControlKey(int16(kmsg.WriteTxnMarkers), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		c.mu.Lock()
		defer c.mu.Unlock()
		req := kreq.(*kmsg.WriteTxnMarkersRequest)
		resp := req.ResponseKind().(*kmsg.WriteTxnMarkersResponse)
		for _, m := range req.Markers {
			c.written = append(c.written, m)
			rm := kmsg.NewWriteTxnMarkersResponseMarker()
			rm.ProducerID = m.ProducerID
			for _, t := range m.Topics {
				rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
					rp.Partition = p
					if c.refuse != nil {
						rp.ErrorCode = c.refuse.Code
					} else {
						delete(c.open, t.Topic)
					}
					rt.Partitions = append(rt.Partitions, rp)
				}
				rm.Topics = append(rm.Topics, rt)
			}
			resp.Markers = append(resp.Markers, rm)
		}
		return resp, nil, true
	})
}

func outcomes(t *testing.T, cfg kafka.Config) *kafka.Outcomes {
	t.Helper()
	log := zaptest.NewLogger(t)
	base, err := cfg.Options(log)
	if err != nil {
		t.Fatal(err)
	}
	o, err := kafka.NewOutcomes(base, metrics.NewSet(), log, txnID, topic.Readings, topic.Windows)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

// What the coordinator has called complete is ended, as it was decided, where the partitions do not know of it; nobody else's is touched.
func TestUnendedTransactionIsEnded(t *testing.T) {
	for _, c := range []struct {
		states []string
		commit bool
	}{
		{[]string{"CompleteAbort"}, false},
		{[]string{"CompleteCommit"}, true},
		{[]string{"PrepareAbort", "PrepareAbort", "CompleteAbort"}, false},
	} {
		t.Run(strings.Join(c.states, ","), func(t *testing.T) {
			k, cfg := kafkatest.StartCluster(t, 3)
			fake := &crashed{state: c.states, producer: 5, open: map[string][]int32{topic.Readings: {2}, topic.Windows: {0}}}
			fake.install(k)
			o := outcomes(t, cfg)
			if err := o.Settled(within(t, time.Minute)); err != nil {
				t.Fatal(err)
			}
			fake.mu.Lock()
			defer fake.mu.Unlock()
			ended := map[string]int32{}
			for _, m := range fake.written {
				if m.ProducerID != 5 || m.ProducerEpoch != 33 || m.CoordinatorEpoch != 0 || m.Committed != c.commit {
					t.Errorf("wrote %+v, want the end of producer 5 in epoch 33, committed %t", m, c.commit)
				}
				for _, mt := range m.Topics {
					ended[mt.Topic] = mt.Partitions[0]
				}
			}
			if len(ended) != 2 || ended[topic.Readings] != 2 || ended[topic.Windows] != 0 {
				t.Errorf("ended %v", ended)
			}
		})
	}
}

// A claim makes the coordinator forget: then nobody may guess.
func TestUndecidedTransactionStops(t *testing.T) {
	k, cfg := kafkatest.StartCluster(t, 3)
	fake := &crashed{state: []string{"Empty"}, producer: 5, open: map[string][]int32{topic.Readings: {1}}}
	fake.install(k)
	err := outcomes(t, cfg).Settled(within(t, time.Minute))
	if err == nil || !strings.Contains(err.Error(), topic.Readings) || !strings.Contains(err.Error(), "kafka-transactions.sh") {
		t.Fatalf("%v: want an error that names the partition and the way out", err)
	}
	if len(fake.written) != 0 {
		t.Errorf("wrote %+v", fake.written)
	}
}

func TestMissingRightIsNamed(t *testing.T) {
	k, cfg := kafkatest.StartCluster(t, 3)
	fake := &crashed{state: []string{"CompleteAbort"}, producer: 5, open: map[string][]int32{topic.Readings: {1}}, refuse: kerr.ClusterAuthorizationFailed}
	fake.install(k)
	err := outcomes(t, cfg).Settled(within(t, time.Minute))
	if err == nil || !strings.Contains(err.Error(), "CLUSTER_ACTION") {
		t.Fatalf("%v: want an error that names the right", err)
	}
}

// The partitions are looked at once for each connection, not between any two transactions.
func TestPartitionsAreAskedOncePerConnection(t *testing.T) {
	k, cfg := kafkatest.StartCluster(t, 3)
	fake := &crashed{state: []string{"CompleteCommit"}, producer: 5}
	fake.install(k)
	o := outcomes(t, cfg)
	for range 20 {
		if err := o.Settled(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	if fake.asked < 1 || fake.asked > 2 {
		t.Errorf("asked %d times for the producers, with one connection", fake.asked)
	}
}

// What a predecessor has left open is aborted by Claim, not after its time-out.
func TestClaimEndsThePredecessorsTransaction(t *testing.T) {
	cfg := kafkatest.Start(t, 3)
	before := kafkatest.Client(t, cfg, kgo.TransactionalID(txnID), kgo.TransactionTimeout(10*time.Minute))
	if err := before.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := before.ProduceSync(within(t, time.Minute), &kgo.Record{Topic: topic.Readings, Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	o := outcomes(t, cfg)
	if err := o.Claim(within(t, time.Minute), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := before.EndTransaction(within(t, time.Minute), kgo.TryCommit); err == nil {
		t.Error("the predecessor could still commit")
	}
}

// A new id has nothing to end. A context that has ended is said.
func TestSettledAtTheBeginning(t *testing.T) {
	cfg := kafkatest.Start(t, 3)
	o := outcomes(t, cfg)
	if err := o.Settled(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := o.Settled(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}
