package broker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 90 * time.Second

func start(t *testing.T, dir string) (*broker.Broker, kafka.Config) {
	t.Helper()
	b, err := broker.Start(broker.Config{Mode: "embedded", Listen: "127.0.0.1:0"}, dir, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Partitions = b.Addrs(), 2
	return b, cfg
}

func client(t *testing.T, cfg kafka.Config, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	base, err := cfg.Options(zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func TestDataSurvivesAStop(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	b, cfg := start(t, dir)
	cl := client(t, cfg, kgo.TransactionalID("tx"))
	if err := kafka.EnsureTopics(ctx, cl, cfg, topic.All()...); err != nil {
		t.Fatal(err)
	}
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic.Frames, Key: []byte(id), Value: []byte("value of " + id)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic.Frames, Partition: 1, At: 2, LeaderEpoch: -1})
	if err := kadm.NewClient(cl).CommitAllOffsets(ctx, "judges", offsets); err != nil {
		t.Fatal(err)
	}
	before := kafkatest.ReadAll(t, cfg, topic.Frames)
	cl.Close()
	b.Close()

	b, cfg = start(t, dir)
	defer b.Close()
	cl = client(t, cfg)
	defer cl.Close()
	if err := kafka.EnsureTopics(ctx, cl, cfg, topic.All()...); err != nil {
		t.Errorf("the topics are not what they were: %v", err)
	}
	after := map[string]*kgo.Record{}
	for _, r := range kafkatest.Consume(t, cfg, topic.Frames, 3, patience) {
		after[string(r.Key)] = r
	}
	for _, r := range before {
		got := after[string(r.Key)]
		if got == nil || string(got.Value) != string(r.Value) || got.Offset != r.Offset || got.Partition != r.Partition || !got.Timestamp.Equal(r.Timestamp) {
			t.Errorf("%s was %+v, is %+v", r.Key, r, got)
		}
	}
	if len(before) != 3 || len(after) != 3 {
		t.Errorf("%d records before, %d after", len(before), len(after))
	}
	os, err := kadm.NewClient(cl).FetchOffsets(ctx, "judges")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := os.Lookup(topic.Frames, 1); o.At != 2 {
		t.Errorf("the group's offset is %d, want 2", o.At)
	}
}

// The event topics ask for the broker's time. This broker keeps the setting but goes by the attribute of each batch, which clients do not set: a
// record carries its producer's time, and all producers share this machine's clock. Pinned, so that we learn when that changes.
func TestTheTimeOfAFrame(t *testing.T) {
	b, cfg := start(t, t.TempDir())
	defer b.Close()
	cl := client(t, cfg)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := kafka.EnsureTopics(ctx, cl, cfg, topic.All()...); err != nil {
		t.Fatal(err)
	}
	rs, err := kadm.NewClient(cl).DescribeTopicConfigs(ctx, topic.Frames)
	if err != nil {
		t.Fatal(err)
	}
	kind := ""
	for _, c := range rs[0].Configs {
		if c.Key == "message.timestamp.type" {
			kind = c.MaybeValue()
		}
	}
	if kind != "LogAppendTime" {
		t.Errorf("message.timestamp.type is %q", kind)
	}
	began := time.Now().Truncate(time.Millisecond)
	claimed := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, r := range []*kgo.Record{
		{Topic: topic.Frames, Key: []byte("a"), Value: []byte("claimed"), Timestamp: claimed}, {Topic: topic.Frames, Key: []byte("a"), Value: []byte("v")},
	} {
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	got := kafkatest.Consume(t, cfg, topic.Frames, 2, patience)
	if !got[0].Timestamp.Equal(claimed) {
		t.Errorf("%s: this broker stamps records now; want its time here, and say so above", got[0].Timestamp)
	}
	if at := got[1].Timestamp; at.Before(began) || at.After(time.Now()) {
		t.Errorf("a record written after %s is of %s", began, at)
	}
}

func TestTheListenAddressIsTheOneAskedFor(t *testing.T) {
	b, _ := start(t, t.TempDir())
	defer b.Close()
	taken := b.Addrs()[0]
	if !strings.HasPrefix(taken, "127.0.0.1:") {
		t.Errorf("it listens on %s", taken)
	}
	_, err := broker.Start(broker.Config{Mode: "embedded", Listen: taken}, t.TempDir(), zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("a taken address: %v, want it named", err)
	}
}

func TestValidate(t *testing.T) {
	if err := broker.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		cfg  broker.Config
		want string
	}{
		"mode":         {broker.Config{Mode: "x", Listen: "127.0.0.1:1"}, "mode: "},
		"no port":      {broker.Config{Mode: "auto", Listen: "127.0.0.1"}, "listen: "},
		"not a port":   {broker.Config{Mode: "auto", Listen: "127.0.0.1:http"}, "listen: "},
		"the network":  {broker.Config{Mode: "auto", Listen: "0.0.0.0:9092"}, "listen: "},
		"a name":       {broker.Config{Mode: "auto", Listen: "localhost:9092"}, "listen: "},
		"another host": {broker.Config{Mode: "auto", Listen: "192.0.2.1:9092"}, "listen: "},
	} {
		if err := c.cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
