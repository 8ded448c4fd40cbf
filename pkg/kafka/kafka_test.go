package kafka_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// The event topics are made with the broker's time. A real broker then stamps records itself. The embedded one keeps the setting but looks only at
// the batch's own attribute, which clients do not set: there a record's time is its producer's clock. Pinned, so that we learn when that changes.
func TestTimestampType(t *testing.T) {
	cfg := kafkatest.Start(t, 3)
	cl := kafkatest.Client(t, cfg)
	for name, want := range map[string]string{topic.Frames: "LogAppendTime", topic.State: "CreateTime"} {
		rs, err := kadm.NewClient(cl).DescribeTopicConfigs(within(t, 10*time.Second), name)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, c := range rs[0].Configs {
			if c.Key == "message.timestamp.type" {
				got = c.MaybeValue()
			}
		}
		if got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	claimed := time.Unix(1_000_000, 0)
	r := &kgo.Record{Topic: topic.Frames, Value: []byte("x"), Timestamp: claimed}
	if err := cl.ProduceSync(within(t, 10*time.Second), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := kafkatest.Consume(t, cfg, topic.Frames, 1, 10*time.Second)[0].Timestamp; !got.Equal(claimed) {
		t.Errorf("%v: the embedded broker stamps records now; want its time here, and say so above", got)
	}
}

func TestEnsureTopicsChecksTheShape(t *testing.T) {
	cfg := kafkatest.Start(t, 3)
	cl := kafkatest.Client(t, cfg)
	if err := kafka.EnsureTopics(within(t, 10*time.Second), cl, cfg, topic.All()...); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	cfg.Partitions = 4
	err := kafka.EnsureTopics(within(t, 10*time.Second), cl, cfg, topic.All()...)
	if !errors.Is(err, kafka.ErrTopicShape) || !strings.Contains(err.Error(), "has 3 partitions") {
		t.Fatal(err)
	}
	// Waiting does not mend it.
	if err := kafka.AwaitTopics(within(t, 10*time.Second), cl, cfg, func(error) { t.Error("waits") }, topic.All()...); !errors.Is(err, kafka.ErrTopicShape) {
		t.Fatal(err)
	}
}

func TestAwaitTopicsWaitsForABroker(t *testing.T) {
	// The port is ours from the start, but nobody serves it yet.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Partitions = []string{ln.Addr().String()}, 2
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	cl := kafkatest.Client(t, cfg, kgo.RetryTimeout(200*time.Millisecond))
	ctx, cancel := context.WithCancel(context.Background())
	if err := kafka.AwaitTopics(ctx, cl, cfg, func(error) { cancel() }, topic.All()...); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	var cluster *kfake.Cluster
	defer func() {
		if cluster != nil {
			cluster.Close()
		}
	}()
	err = kafka.AwaitTopics(within(t, 30*time.Second), cl, cfg, func(error) {
		if cluster == nil {
			var err error
			cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(func(network, _ string) (net.Listener, error) {
				return net.Listen(network, cfg.Brokers[0])
			}))
			if err != nil {
				t.Errorf("start the broker: %v", err)
			}
		}
	}, topic.All()...)
	if err != nil || cluster == nil {
		t.Fatalf("%v, started: %v", err, cluster != nil)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*kafka.Config){
		"brokers:":             func(c *kafka.Config) { c.Brokers = nil },
		"partitions:":          func(c *kafka.Config) { c.Partitions = 0 },
		"min_insync_replicas:": func(c *kafka.Config) { c.MinInSync = 2 },
		"sasl.mechanism:":      func(c *kafka.Config) { c.SASL.Mechanism = "plain" },
	} {
		cfg := kafka.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
