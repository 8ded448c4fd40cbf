package history

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 60 * time.Second

func deps(k kafka.Config) service.Deps {
	d := service.Nop()
	d.Kafka = k
	if os.Getenv("TOCSIN_TEST_LOG") != "" {
		d.Log, _ = zap.NewDevelopment()
	}
	return d
}

// run runs a service until the test ends or stop is called.
func run(t *testing.T, s service.Runner, err error) (stop func()) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("service: %v", err)
			}
		case <-time.After(patience):
			t.Error("service does not stop")
		}
	}
	t.Cleanup(stop)
	return stop
}

func detection() streamprocessor.DetectionConfig {
	d := streamprocessor.DefaultDetection()
	limit := 90.0
	d.Detect.Limits = grow(d.Detect.Limits)
	d.Detect.Limits[len(d.Detect.Limits)-1].Sensor = "temperature"
	d.Detect.Limits[len(d.Detect.Limits)-1].HighCritical = &limit
	return d
}

// grow adds a zero element; its type is the processor's own and cannot be named here.
func grow[T any](s []T) []T { return append(s[:len(s):len(s)], *new(T)) }

func processor(t *testing.T, k kafka.Config) (stop func()) {
	t.Helper()
	cfg := streamprocessor.DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.CommitInterval = 20 * time.Millisecond
	cfg.Snapshot.MaxRecords = 50
	cfg.Detection = detection()
	s, err := streamprocessor.New(cfg, deps(k))
	return run(t, s, err)
}

func router(t *testing.T, k kafka.Config, dir string) (stop func()) {
	t.Helper()
	cfg := alertrouter.DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.DataDir = dir
	s, err := alertrouter.New(cfg, deps(k))
	return run(t, s, err)
}

func chunkRules() coldpathwriter.ChunkRules {
	return coldpathwriter.ChunkRules{MaxRows: 100, MaxBytes: 1 << 20, Interval: time.Second}
}

func writer(t *testing.T, k kafka.Config, b *bucket) (stop func()) {
	t.Helper()
	cfg := coldpathwriter.DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Chunk = chunkRules()
	s, err := coldpathwriter.NewOver(cfg, deps(k), b)
	return run(t, s, err)
}

var base = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

// frameRecord is frame i of a machine; its temperature is too high for a while.
func frameRecord(machine, i int) (*kgo.Record, FrameRef) {
	id := fmt.Sprintf("pump-%d", machine)
	odd := float32(0)
	if i >= 30 && i < 60 {
		odd = 50
	}
	f := frame.New(id, "gw-1", uint64(i+1), base.Add(time.Duration(i)*time.Second), []string{"flow", "temperature"}, []float32{20 + float32(i%7), 60 + odd})
	return &kgo.Record{Topic: topic.Frames, Key: []byte(id), Value: f.AppendTo(nil), Headers: []kgo.RecordHeader{
		{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)},
		{Key: topic.HeaderID, Value: f.AppendID(nil)},
		{Key: topic.HeaderReceived, Value: []byte(fmt.Sprint(received(i).UnixMilli()))},
	}}, FrameRef{"gw-1", id, uint64(i + 1)}
}

// received is when a gateway would have taken frame i.
func received(i int) time.Time { return base.Add(time.Duration(i)*time.Second + 40*time.Millisecond) }

const machines, frames = 4, 110

// send writes frames [from, to) of each machine, some of them twice, and a few records that can never be judged.
func send(t *testing.T, cl *kgo.Client, l *Ledger, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		for m := range machines {
			r, ref := frameRecord(m, i)
			again := *r
			l.Sent(ref)
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if i%20 == 7 {
				l.Sent(ref)
				if err := cl.ProduceSync(t.Context(), &again).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			l.Acked(ref)
		}
		if i%25 == 3 {
			poison := &kgo.Record{Topic: topic.Frames, Key: []byte(fmt.Sprint("pump-", i)), Value: []byte{0xff, byte(i)}}
			if err := cl.ProduceSync(t.Context(), poison).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// aRun is a run with restarts that has come to rest; its services have been stopped.
func aRun(t *testing.T) (World, *bucket) {
	t.Helper()
	k := kafkatest.Start(t, 2)
	lake := newBucket()
	d := detection()
	rules := chunkRules()
	w := World{
		Kafka: k, Groups: DefaultGroups(), Lake: lake, Chunk: &rules, Detection: &d, Ledger: NewLedger(),
		NotifyWithin: time.Millisecond, SendResolved: true, Patience: patience,
	}
	cl := kafkatest.Client(t, k)
	stops := []func(){router(t, k, t.TempDir()), writer(t, k, lake)}
	for i := 0; i < frames; i += frames / 2 {
		stop := processor(t, k)
		send(t, cl, w.Ledger, i, i+frames/2)
		if err := Settle(t.Context(), World{Kafka: k, Groups: Groups{Processor: w.Groups.Processor}}, patience); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	stops = append(stops, processor(t, k))
	if err := Settle(t.Context(), w, patience); err != nil {
		t.Fatal(err)
	}
	// Everything is still at work.
	rep, err := Check(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if !rep.OK() {
		t.Fatalf("a run without faults, still going on: %s", rep)
	}
	for _, stop := range stops {
		stop()
	}
	return w, lake
}

// tell makes the notifications that an honest router would have sent.
func tell(m *memory) []Notification {
	told := []Notification{}
	for _, rs := range m.topics[topic.Alerts] {
		for _, r := range rs {
			var ev eventv1.AlertEvent
			if topic.IsTick(r) || proto.Unmarshal(r.Value, &ev) != nil {
				continue
			}
			told = append(told, Notification{AlertID: ev.GetAlertId(), Resolved: ev.GetTransition() == eventv1.AlertTransition_ALERT_TRANSITION_CLOSED, At: r.Timestamp})
		}
	}
	return told
}

func unknown(context.Context, string) ([]string, error) { return nil, schema.ErrUnknown }

func TestStallIsNamedWithItsCause(t *testing.T) {
	k := kafkatest.Start(t, 1)
	cl := kafkatest.Client(t, k)
	send(t, cl, NewLedger(), 0, 2)
	// A transaction that nobody ends, in front of what the checker reads.
	tx := kafkatest.Client(t, k, kgo.TransactionalID("forgotten"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := tx.ProduceSync(t.Context(), &kgo.Record{Topic: topic.Readings, Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	w := World{Kafka: k, Groups: DefaultGroups(), Notes: func(context.Context) []string { return []string{"a note"} }}
	err := Settle(t.Context(), w, 500*time.Millisecond)
	var stall *StallError
	if !errors.As(err, &stall) {
		t.Fatalf("no frame is read, and Settle says %v", err)
	}
	t.Log(err)
	contains(t, stall.Error(), "group stream-processor", "nothing committed", "open transaction in "+topic.Readings+"[0]", "a note")
	w.Patience = 500 * time.Millisecond
	w.Schemas = unknown
	if _, err = Check(t.Context(), w); !errors.As(err, &stall) {
		t.Fatalf("a transaction hangs, and Check says %v", err)
	}
	contains(t, stall.Error(), topic.Readings+"[0]")
}
