package detection_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 90 * time.Second

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// config tells contents apart by their warm-up.
func config(revision uint32, warmUp int) *detection.Config {
	c := machine.DefaultConfig()
	c.Calibrate.WarmUp = warmUp
	return detection.New(&c, revision)
}

func open(t *testing.T, k kafka.Config) *detection.Log {
	t.Helper()
	l, err := detection.Open(k, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; l.Close() })
	return l
}

func TestWhoseConfigurationHolds(t *testing.T) {
	k := kafkatest.Start(t, 1)
	first := open(t, k)
	for i, step := range []struct {
		mine, want *detection.Config
		published  int // in all
	}{
		{config(1, 100), config(1, 100), 1},
		{config(1, 100), config(1, 100), 1},
		{config(2, 200), config(2, 200), 2},
		{config(1, 100), config(2, 200), 2}, // the old file, restarted
		{config(0, 50), config(2, 200), 2},
		{config(2, 300), config(2, 300), 3}, // corrected without a new revision
		{config(3, 300), config(3, 300), 4},
	} {
		got, err := open(t, k).Settle(within(t), step.mine)
		if err != nil || !detection.Same(got, step.want) {
			t.Fatalf("step %d: %v, %v, want %v", i, got, err, step.want)
		}
		if n := len(kafkatest.ReadAll(t, k, topic.Config)); n != step.published {
			t.Fatalf("step %d: %d records published, want %d", i, n, step.published)
		}
		for ctx := within(t); first.Current() == nil || !detection.Same(first.Current(), step.want); {
			if ctx.Err() != nil {
				t.Fatalf("step %d: whoever follows has %v, want %v", i, first.Current(), step.want)
			}
			<-time.After(time.Millisecond)
		}
	}
}

// Whatever stands in the topic beside configurations changes nothing, and a lower revision that came late does not either.
func TestWhatIsNoConfigurationIsPassedOver(t *testing.T) {
	k := kafkatest.Start(t, 1)
	cl := kafkatest.Client(t, k)
	bad := config(9, 90).Value()
	for _, v := range [][]byte{config(5, 70).Value(), []byte("what"), nil, bad[:len(bad)-3], config(4, 60).Value()} {
		if err := cl.ProduceSync(within(t), &kgo.Record{Topic: topic.Config, Key: []byte("5"), Value: v}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := open(t, k).Settle(within(t), config(0, 50))
	if err != nil || !detection.Same(got, config(5, 70)) {
		t.Fatal(got, err)
	}
}

func TestSettleWaitsForKafkaAsLongAsItMay(t *testing.T) {
	k := kafka.DefaultConfig()
	k.Brokers = []string{"127.0.0.1:1"}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if got, err := open(t, k).Settle(ctx, config(1, 100)); err == nil {
		t.Fatal(got)
	}
}

func TestAConfigurationComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := machine.DefaultConfig()
		c.Detect.Detectors = rapid.SampledFrom([][]string{{"ewma"}, {}, c.Detect.Detectors}).Draw(t, "detectors")
		c.Calibrate.Budget = rapid.Float64Range(math.SmallestNonzeroFloat64, 1e6).Draw(t, "budget")
		c.Lateness = time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "lateness"))
		if c.Validate() != nil {
			t.Fatal(c.Validate())
		}
		in := detection.New(&c, rapid.Uint32().Draw(t, "revision"))
		out, err := detection.Parse(in.Value())
		if err != nil || !detection.Same(in, out) || out.Judge.Fingerprint() != c.Fingerprint() || string(out.Value()) != string(in.Value()) {
			t.Fatal(out, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(config(1, 100).Value())
	f.Add([]byte("\x08\x01\x10\x07"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := detection.Parse(b)
		if err == nil && c.Judge.Validate() != nil {
			t.Fatal("an invalid configuration was taken")
		}
	})
}
