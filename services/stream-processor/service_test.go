package streamprocessor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/telemetry"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 60 * time.Second

func config(instance string) streamprocessor.Config {
	c := streamprocessor.DefaultConfig()
	c.HTTP.Listen = "127.0.0.1:0"
	c.InstanceID = instance
	c.CommitInterval = 20 * time.Millisecond
	// Small, so that tests cross many snapshots and replays.
	c.Snapshot.MaxRecords = 50
	return c
}

// start runs a processor; the function it returns stops it and reports what Run said.
func start(t *testing.T, k kafka.Config, c streamprocessor.Config) (stop func() error) {
	t.Helper()
	deps := service.Nop()
	deps.Kafka = k
	return startWith(t, c, deps)
}

func startWith(t *testing.T, c streamprocessor.Config, deps service.Deps) (stop func() error) {
	t.Helper()
	if testing.Verbose() && !deps.Log.Core().Enabled(zap.InfoLevel) {
		// Not the test's own log: the Kafka client may still speak a moment after it is closed.
		log, err := telemetry.NewLogger(telemetry.LogConfig{Level: "warn", Format: "console"}, os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		deps.Log = log
	}
	s, err := streamprocessor.New(c, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var result error
	stopped := false
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			select {
			case result = <-done:
			case <-time.After(patience):
				result = errors.New("did not stop")
			}
		}
		return result
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("processor %s: %v", c.InstanceID, err)
		}
	})
	return stop
}

var base = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

// produce writes frames [from, to) of each machine, one second of event time apart, as the gateway would.
func produce(t *testing.T, k kafka.Config, machines, from, to int) {
	t.Helper()
	cl := kafkatest.Client(t, k)
	var rs []*kgo.Record
	for i := from; i < to; i++ {
		for m := range machines {
			rs = append(rs, frameRecord(m, i))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func frameRecord(machine, i int) *kgo.Record {
	id := fmt.Sprintf("pump-%03d", machine)
	// A deterministic wobble; the third sensor leaves its usual range late, when that is known.
	wobble := float32((i*7919+machine*104729)%1000) / 1000
	odd := float32(0)
	if i > 380 {
		odd = 50
	}
	f := frame.New(id, "gw-1", uint64(i+1), base.Add(time.Duration(i)*time.Second), []string{"pressure", "flow", "temperature"},
		[]float32{5 + wobble, 20 + 2*wobble, 60 + wobble + odd})
	return &kgo.Record{Topic: topic.Frames, Key: []byte(id), Value: f.AppendTo(nil), Headers: []kgo.RecordHeader{
		{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: f.AppendID(nil)},
	}}
}

// data drops the ticks.
func data(rs []*kgo.Record) []*kgo.Record {
	return slices.DeleteFunc(slices.Clone(rs), topic.IsTick)
}

// readings waits for n readings, and checks that each frame has exactly one.
func readings(t *testing.T, k kafka.Config, n int) []*kgo.Record {
	t.Helper()
	rs := data(kafkatest.ConsumeUntil(t, k, topic.Readings, patience, func(rs []*kgo.Record) bool { return len(data(rs)) >= n }))
	seen := map[string]int{}
	for _, r := range rs {
		var reading eventv1.Reading
		if err := proto.Unmarshal(r.Value, &reading); err != nil {
			t.Fatal(err)
		}
		var f eventv1.SensorFrame
		if err := proto.Unmarshal(reading.Frame, &f); err != nil {
			t.Fatal(err)
		}
		seen[fmt.Sprintf("%s/%s/%d", f.GatewayId, f.EquipmentId, f.Sequence)]++
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("frame %s was judged %d times", id, times)
		}
	}
	if len(seen) != n {
		t.Errorf("%d frames judged, %d sent", len(seen), n)
	}
	return rs
}

// outputs is everything that was said, as a set: windows and anomalies by id, with their content but for
// broker times, which no two runs share.
func outputs(t *testing.T, k kafka.Config, windows int) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, r := range data(kafkatest.ConsumeUntil(t, k, topic.Windows, patience, func(rs []*kgo.Record) bool { return len(data(rs)) >= windows })) {
		var w eventv1.Window
		if err := proto.Unmarshal(r.Value, &w); err != nil {
			t.Fatal(err)
		}
		w.ClosedAtMs = 0
		if _, again := out[w.WindowId]; again {
			t.Errorf("window %s was written twice", w.WindowId)
		}
		b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(&w)
		out[w.WindowId] = string(b)
	}
	for _, r := range data(kafkatest.ReadAll(t, k, topic.Anomalies)) {
		var a eventv1.Anomaly
		if err := proto.Unmarshal(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		if a.Cause == "silence" {
			continue // follows the broker's clock
		}
		a.JudgedAtMs = 0
		b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(&a)
		out[a.AnomalyId] = string(b)
	}
	return out
}

// replays is what the processor's log says of restores: how many records each partition replayed.
func replays(log *observer.ObservedLogs) (n int64) {
	for _, e := range log.FilterMessage("partition restored").All() {
		n += e.ContextMap()["replayed"].(int64)
	}
	return n
}

// Each restart replays what no snapshot holds: no frame is judged again for it, and a frame that comes once more afterwards is known for a repeat.
func TestEachFrameIsJudgedOnceThroughRestarts(t *testing.T) {
	k := kafkatest.Start(t, 3)
	const machines, perRun, late, runs = 7, 40, 5, 4
	c := config("a")
	c.Snapshot.MaxRecords = 1000 // more than there are, so that nothing is saved before
	for run := range runs {
		if run == 2 {
			c.Snapshot.MaxRecords = 50 // the first batch is saved, the second hardly
		}
		core, log := observer.New(zap.InfoLevel)
		deps := service.Nop()
		deps.Kafka, deps.Log = k, zap.New(core)
		stop := startWith(t, c, deps)
		produce(t, k, machines, max(0, (run-1)*perRun), run*perRun) // repeats
		for from, to := run*perRun, (run+1)*perRun-late; from < to; from, to = to, (run+1)*perRun {
			produce(t, k, machines, from, to)
			readings(t, k, machines*to)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n, want := replays(log), int64(machines*perRun*run); (run == 1 || run == 2) && n < want {
			t.Errorf("run %d replayed %d records, want %d at least: this test would show nothing", run, n, want)
		}
	}
}

func TestRestartsChangeNothingThatIsSaid(t *testing.T) {
	const machines, frames, windows = 3, 420, 3 * 83
	quiet := kafkatest.Start(t, 4)
	start(t, quiet, config("a"))
	produce(t, quiet, machines, 0, frames)
	want := outputs(t, quiet, windows)
	if len(want) <= windows {
		t.Fatal("the fault in the input gave no anomaly: this test would show nothing")
	}

	broken := kafkatest.Start(t, 4)
	for at := 0; at < frames; at += 105 {
		stop := start(t, broken, config("a"))
		produce(t, broken, machines, at, at+105)
		readings(t, broken, machines*(at+105))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	start(t, broken, config("a"))
	same(t, outputs(t, broken, windows), want)
}

func TestPartitionsChangeNothingThatIsSaid(t *testing.T) {
	const machines, frames, windows = 5, 420, 5 * 83
	one := kafkatest.Start(t, 1)
	start(t, one, config("a"))
	produce(t, one, machines, 0, frames)
	want := outputs(t, one, windows)
	if len(want) <= windows {
		t.Fatal("the fault in the input gave no anomaly: this test would show nothing")
	}

	twelve := kafkatest.Start(t, 12)
	start(t, twelve, config("a"))
	start(t, twelve, config("b"))
	produce(t, twelve, machines, 0, frames)
	same(t, outputs(t, twelve, windows), want)
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if got[id] != want[id] {
			t.Errorf("%s differs or is missing", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[id]; !ok {
			t.Errorf("%s was said in one run only", id)
		}
	}
}

func TestInstancesJoinAndLeave(t *testing.T) {
	k := kafkatest.Start(t, 6)
	const machines, step = 12, 20
	adm := kadm.NewClient(kafkatest.Client(t, k))
	start(t, k, config("a"))
	n := 0
	for _, name := range []string{"b", "c", "b"} {
		stop := start(t, k, config(name))
		produce(t, k, machines, n, n+step)
		n += step
		readings(t, k, machines*n)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		// A static member that stops keeps its place for its restart; scaling down takes it away.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := adm.LeaveGroup(ctx, kadm.LeaveGroup(config(name).Group).InstanceIDs(name))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		produce(t, k, machines, n, n+step)
		n += step
		readings(t, k, machines*n)
	}
}

func TestAbortedTransactionsLeaveNoTrace(t *testing.T) {
	cluster, k := kafkatest.StartCluster(t, 3)
	refused := 0
	cluster.ControlKey(int16(kmsg.TxnOffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if refused++; refused%3 != 1 || refused > 30 {
			return nil, nil, false
		}
		r := req.(*kmsg.TxnOffsetCommitRequest)
		resp := r.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
		for _, rt := range r.Topics {
			st := kmsg.NewTxnOffsetCommitResponseTopic()
			st.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				sp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, kerr.RebalanceInProgress.Code
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	start(t, k, config("a"))
	const machines, frames = 5, 200
	for at := 0; at < frames; at += 20 {
		produce(t, k, machines, at, at+20)
	}
	readings(t, k, machines*frames)
	if refused < 2 {
		t.Fatal("no transaction was refused: this test would show nothing")
	}
}

func TestARecordThatCannotBeJudgedBecomesADeadLetter(t *testing.T) {
	k := kafkatest.Start(t, 1)
	start(t, k, config("a"))
	cl := kafkatest.Client(t, k)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	bad := []*kgo.Record{
		{Topic: topic.Frames, Key: []byte("pump-000"), Value: []byte("not a frame")},
		{Topic: topic.Frames, Key: []byte("another"), Value: frameRecord(0, 1).Value},
		{Topic: topic.Frames, Key: []byte("pump-000"), Value: frame.New("pump-000", "gw", 1, base, []string{"a", "b"}, []float32{1}).AppendTo(nil)},
	}
	unknown := &frame.Frame{EquipmentID: []byte("pump-000"), GatewayID: []byte("gw"), Sequence: 1, SchemaID: []byte("sha256-0"), Values: []float32{1}}
	bad = append(bad, &kgo.Record{Topic: topic.Frames, Key: []byte("pump-000"), Value: unknown.AppendTo(nil)})
	if err := cl.ProduceSync(ctx, bad...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	produce(t, k, 1, 0, 5)
	readings(t, k, 5)
	dead := kafkatest.Consume(t, k, topic.DLQ(topic.Frames), len(bad), patience)
	for i, want := range []string{"not a SensorFrame", "is not the record's key", "1 values for 2 sensors", "not registered"} {
		if got := topic.Header(dead[i], dlq.HeaderReason); !strings.Contains(got, want) {
			t.Errorf("reason %q, want it to say %q", got, want)
		}
		if string(dead[i].Value) != string(bad[i].Value) {
			t.Errorf("dead letter %d does not hold the original bytes", i)
		}
	}
}
