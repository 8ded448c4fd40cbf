package topology

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

// snapshotOf is a machine of so many sensors, after some windows.
func snapshotOf(t testing.TB, id string, sensors int) []byte {
	t.Helper()
	p := newPartition(0, detection.New(judgeConfig(), 0), 1, resolve, exporter{}, nil)
	names := make([]string, sensors)
	for i := range names {
		names[i] = fmt.Sprintf("sensor-%d", i)
	}
	for i := range 30 {
		values := make([]float32, sensors)
		for j := range values {
			values[j] = float32((i*31+j*17)%97) / 7
		}
		r := frameRecord(frame.New(id, "gw", uint64(i+1), time.UnixMilli(epochMS+int64(i)*5000), names, values))
		r.Offset, r.Timestamp = int64(i), time.UnixMilli(epochMS+int64(i)*5000)
		if err := p.apply(context.Background(), r, func(*kgo.Record) {}); err != nil {
			t.Fatal(err)
		}
	}
	return p.machines[id].machine.AppendSnapshot(nil)
}

// writeState writes the state of one partition, of so many machines, as a processor would have; it returns the bytes.
func writeState(t testing.TB, k kafka.Config, id int32, machines, sensors int) (written int) {
	t.Helper()
	cl := kafkatest.Client(t, k, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(8<<20), kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p := newPartition(id, detection.New(judgeConfig(), 0), 1, resolve, exporter{}, nil)
	p.next = 0
	emit := func(r *kgo.Record) {
		written += len(r.Value)
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	for i := range machines {
		name := fmt.Sprintf("machine-%06d", i)
		state := snapshotOf(t, name, sensors)
		value, err := proto.Marshal(&eventv1.MachineSnapshot{Format: stateFormat, ConfigVersion: p.in.Fingerprint, AppliedOffset: -1, State: state})
		if err != nil {
			t.Fatal(err)
		}
		r := p.stateRecord(machinePrefix+name, topic.TypeSnapshot, value)
		p.hash ^= hashSnapshot(r.Key, r.Value)
		emit(r)
	}
	p.snapshot(SnapshotConfig{MaxAgeMS: 1, MaxRecords: 1, MaxBytes: 1}, emit)
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	return written
}

func TestProgressSaysWhatIsGoingOn(t *testing.T) {
	p := newProgress(waiting)
	for _, step := range []struct {
		enter    phase
		from, at int64
		to       int64
		want     string
	}{
		{listing, 0, 0, 0, "listing offsets"},
		{reading, 100, 141, 200, "reading state 41%"},
		{loading, 0, 0, 7, "loading 7 machines"},
		{replaying, 1000, 2200, 21000, "replaying 1200 of 20000 records"},
		{missingSchema, 1000, 2200, 21000, "replaying 1200 of 20000 records, waiting for a schema"},
		{live, 0, 0, 0, "live"},
	} {
		p.enter(step.enter, step.from, step.to)
		p.at.Store(step.at)
		if got := p.String(); !strings.HasPrefix(got, step.want) {
			t.Errorf("%q, want %q", got, step.want)
		}
	}
	if p.left() != 0 || p.seconds(replaying) <= 0 {
		t.Errorf("%d left, replayed for %v s", p.left(), p.seconds(replaying))
	}
}

// BenchmarkRestore reads a state of some 100 MB from the embedded broker, which shares the processors.
func BenchmarkRestore(b *testing.B) {
	k := kafkatest.Start(b, 1)
	n := writeState(b, k, 0, 4000, 20)
	top := newTopology(b, k)
	top.work = context.Background()
	ctx := context.Background()
	done := make(chan struct{})
	run, cancel := context.WithCancel(ctx)
	go func() { defer close(done); top.detections.Run(run) }()
	if _, err := top.detections.Settle(ctx, top.mine); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(n))
	b.ResetTimer()
	for range b.N {
		prog := newProgress(waiting)
		p, err := top.restore(ctx, 0, 0, false, prog)
		if err != nil {
			b.Fatal(err)
		}
		if len(p.machines) != 4000 {
			b.Fatal(len(p.machines))
		}
		b.ReportMetric(prog.seconds(reading), "s-read")
		b.ReportMetric(prog.seconds(loading), "s-load")
		runtime.KeepAlive(p)
	}
	b.StopTimer()
	cancel()
	<-done
}

// A state larger than a record goes on in others; when it shrinks they are taken back.
func TestAStateInPartsGrowsAndShrinks(t *testing.T) {
	l := newLife()
	names := make([]string, 18_000)
	for i := range names {
		names[i] = fmt.Sprintf("s%d", i)
	}
	always := SnapshotConfig{MaxAgeMS: 0, MaxRecords: 1, MaxBytes: 1 << 30}
	for i := range 3 {
		l.logMS += 5000
		values := make([]float32, len(names))
		values[i] = 1
		l.apply(t, l.p, l.write(frameRecord(frame.New("wide", "gw", uint64(i+1), time.UnixMilli(l.logMS), names, values))))
	}
	l.commit(t, always)
	many := len(l.saved.parts)
	if many < 1 {
		t.Fatal("it fits in a record: this shows nothing")
	}
	same(t, l.restored(t), l.p)
	c := judgeConfig()
	c.Detect.Detectors, c.Detect.Wide.From = nil, 1<<20
	l.apply(t, l.p, l.write(configRecord(3, detection.New(c, 2))))
	l.commit(t, always)
	if len(l.saved.parts) >= many {
		t.Fatalf("%d parts, there were %d: this shows nothing", len(l.saved.parts), many)
	}
	same(t, l.restored(t), l.p)
	check(t, l.restored(t))
	l.saved.parts[partOf{"wide", many + 1}] = []byte{1}
	if err := l.empty().load(l.saved); err == nil {
		t.Error("a part too many was passed over")
	}
}
