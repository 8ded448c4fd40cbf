package schema_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, kcfg kafka.Config, cfg schema.Config) *schema.Registry {
	t.Helper()
	r, err := schema.New(kcfg, cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		r.Close()
		r.Close()
	})
	return r
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestIDIsTheDigestOfTheNames(t *testing.T) {
	want := fmt.Sprintf("sha256-%x", sha256.Sum256([]byte("temp\x00flow\x00")))[:7+32]
	if got := schema.ID([]string{"temp", "flow"}); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if !schema.WellFormed(want) || schema.WellFormed(want+"0") || schema.WellFormed("sha256-") || schema.WellFormed(strings.ToUpper(want)) {
		t.Fatal("WellFormed")
	}
	if schema.ID([]string{"ab", "c"}) == schema.ID([]string{"a", "bc"}) || schema.ID([]string{"a", "b"}) == schema.ID([]string{"b", "a"}) {
		t.Fatal("different schemas, the same id")
	}
}

func TestRegisteredHereKnownThere(t *testing.T) {
	kcfg := kafkatest.Start(t, 1)
	a, b := start(t, kcfg, schema.DefaultConfig()), start(t, kcfg, schema.DefaultConfig())
	ctx := within(t)
	wide := make([]string, 25_000)
	for i := range wide {
		wide[i] = fmt.Sprintf("feature %d", i)
	}
	for _, sensors := range [][]string{{"temp", "flow"}, wide} {
		id, err := a.Register(ctx, sensors)
		if err != nil {
			t.Fatal(err)
		}
		// b has to wait for the topic, not for luck.
		if got, err := b.Resolve(ctx, id); err != nil || !slices.Equal(got, sensors) {
			t.Fatalf("%d sensors, %v", len(got), err)
		}
		if got, ok := a.LookupBytes([]byte(id)); !ok || !slices.Equal(got, sensors) {
			t.Fatal("not known where it was registered")
		}
	}
	if _, err := b.Register(ctx, []string{"temp", "flow"}); err != nil {
		t.Fatal(err)
	}
	if rs := kafkatest.Consume(t, kcfg, topic.Registry, 2, 10*time.Second); len(rs) != 2 {
		t.Fatalf("%d records: registering again must write nothing", len(rs))
	}
	// A third that starts later reads it all.
	c := start(t, kcfg, schema.DefaultConfig())
	if _, err := c.Resolve(ctx, schema.ID(wide)); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownIsSaidOnlyAtTheEnd(t *testing.T) {
	r := start(t, kafkatest.Start(t, 1), schema.DefaultConfig())
	for _, id := range []string{schema.ID([]string{"never"}), "sha256-short", "", "x"} {
		if _, err := r.Resolve(within(t), id); !errors.Is(err, schema.ErrUnknown) {
			t.Fatalf("%q: %v", id, err)
		}
	}
}

func TestManyUnknownIdsAskKafkaSeldom(t *testing.T) {
	cluster, kcfg := kafkatest.StartCluster(t, 1)
	r := start(t, kcfg, schema.DefaultConfig())
	ctx := within(t)
	if _, err := r.Resolve(ctx, schema.ID([]string{"warm up"})); !errors.Is(err, schema.ErrUnknown) {
		t.Fatal(err)
	}
	var asked atomic.Int32
	cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked.Add(1)
		return nil, nil, false
	})
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := r.Resolve(ctx, schema.ID([]string{fmt.Sprint(i)})); !errors.Is(err, schema.ErrUnknown) {
				t.Errorf("%v", err)
			}
		}()
	}
	wg.Wait()
	if n := asked.Load(); n > 250 {
		t.Fatalf("%d questions to Kafka for 500 callers at once", n)
	}
}

func TestKafkaAwayIsNotUnknown(t *testing.T) {
	kcfg := kafka.DefaultConfig()
	kcfg.Brokers = []string{"127.0.0.1:1"}
	r := start(t, kcfg, schema.DefaultConfig())
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := r.Resolve(ctx, schema.ID([]string{"a"})); err == nil || errors.Is(err, schema.ErrUnknown) {
		t.Fatalf("%v", err)
	}
	if _, err := r.Register(ctx, []string{"a"}); err == nil {
		t.Fatal("registered without Kafka")
	}
	if r.Ready() == nil {
		t.Fatal("ready without Kafka")
	}
}

func TestLimits(t *testing.T) {
	kcfg := kafkatest.Start(t, 1)
	small := schema.Config{MaxSchemas: 2, MaxBytes: 1 << 20, MaxSensors: 3}
	r := start(t, kcfg, small)
	ctx := within(t)
	for _, bad := range [][]string{nil, {""}, {"a", "a"}, {"a\n"}, {"a", "b", "c", "d"}} {
		var fe *frame.FieldError
		if _, err := r.Register(ctx, bad); !errors.As(err, &fe) {
			t.Fatalf("%q: %v", bad, err)
		}
	}
	for i := range 2 {
		if _, err := r.Register(ctx, []string{fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Register(ctx, []string{"2"}); !errors.Is(err, schema.ErrFull) {
		t.Fatal(err)
	}
	if _, err := r.Register(ctx, []string{"1"}); err != nil {
		t.Fatalf("a known one in a full registry: %v", err)
	}
	// Others may write more than fits here; memory stays bounded and the first ones stay known.
	big := start(t, kcfg, schema.DefaultConfig())
	for i := range 20 {
		if _, err := big.Register(ctx, []string{fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Resolve(ctx, schema.ID([]string{"19"})); !errors.Is(err, schema.ErrUnknown) {
		t.Fatal(err)
	}
	if r.Len() != 2 {
		t.Fatalf("%d schemas kept", r.Len())
	}
}

func TestPoisonIsPassedOver(t *testing.T) {
	kcfg := kafkatest.Start(t, 1)
	lie, err := proto.Marshal(&eventv1.FrameSchema{SchemaId: schema.ID([]string{"a"}), Sensors: []string{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	cl := kafkatest.Client(t, kcfg)
	for _, rec := range []*kgo.Record{
		{Topic: topic.Registry, Key: []byte("x"), Value: []byte{0xff, 0xff}},
		{Topic: topic.Registry, Key: []byte(schema.ID([]string{"a"})), Value: lie},
		{Topic: topic.Registry, Key: []byte("empty"), Value: nil},
	} {
		if err := cl.ProduceSync(within(t), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, kcfg, schema.DefaultConfig())
	if _, err := r.Resolve(within(t), schema.ID([]string{"a"})); !errors.Is(err, schema.ErrUnknown) {
		t.Fatalf("believed a schema under a foreign id: %v", err)
	}
	if n := r.Refused(); n != 2 { // one without a value deletes, and is no schema
		t.Errorf("%d counted", n)
	}
	if _, err := r.Register(within(t), []string{"a"}); err != nil {
		t.Fatal(err)
	}
}
