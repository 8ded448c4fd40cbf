package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect/detecttest"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const second = int64(1_000_000) // microseconds

var epochMS = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC).UnixMilli()

// exporter is an Exporter that keeps nothing.
type exporter struct{}

func (exporter) Append(dst []byte, w *machine.Window) []byte { return w.AppendID(dst) }
func (exporter) Export([]byte)                               {}

func resolve(_ context.Context, id string) ([]string, error) {
	if id == "known" {
		return []string{"s0", "s1"}, nil
	}
	return nil, ErrUnknownSchema
}

func judgeConfig() *machine.Config {
	c := machine.DefaultConfig()
	return &c
}

// life is the log of one partition as it is written, and the partition that follows it.
type life struct {
	cfg     *detection.Config // what a fresh partition begins with
	known   map[string]bool   // schemas registered now, beside "known"
	p       *partition
	log     []*kgo.Record
	saved   *saved // what the state topic holds
	logMS   int64
	seq     map[string]uint64
	eventUS map[string]int64
}

const maxMachines = 4

func newLife() *life {
	l := &life{
		cfg: detection.New(judgeConfig(), 1), known: map[string]bool{}, saved: &saved{machines: map[string][]byte{}},
		logMS: epochMS, seq: map[string]uint64{}, eventUS: map[string]int64{},
	}
	l.p = l.empty()
	return l
}

// empty is a partition of which nothing is known yet.
func (l *life) empty() *partition {
	return newPartition(3, l.cfg, maxMachines, func(ctx context.Context, id string) ([]string, error) {
		if l.known[id] {
			return []string{"s0", "s1"}, nil
		}
		return resolve(ctx, id)
	}, exporter{}, nil)
}

// write appends a record to the log as the broker would.
func (l *life) write(r *kgo.Record) *kgo.Record {
	r.Topic, r.Partition, r.Offset, r.Timestamp = topic.Frames, 3, int64(len(l.log)), time.UnixMilli(l.logMS)
	l.log = append(l.log, r)
	return r
}

func describe(r *kgo.Record) string {
	return fmt.Sprintf("%s %q %x %q", r.Topic, r.Key, r.Value, r.Headers)
}

func (l *life) apply(t rapid.TB, p *partition, r *kgo.Record) []string {
	t.Helper()
	var out []string
	if err := p.apply(context.Background(), r, func(r *kgo.Record) { out = append(out, describe(r)) }); err != nil {
		t.Fatal(err)
	}
	return out
}

// commit ends a transaction: what it saves is what a restore finds.
func (l *life) commit(t rapid.TB, c SnapshotConfig) {
	t.Helper()
	n := int64(0)
	l.p.snapshot(c, func(r *kgo.Record) {
		if r.Topic != topic.State || r.Partition != 3 {
			t.Fatalf("a snapshot for %s[%d]", r.Topic, r.Partition)
		}
		r.Offset = n
		n++
		if err := l.saved.add(r); err != nil {
			t.Fatal(err)
		}
	})
	l.p.arena.reset()
}

// restored is a partition as the next owner would have it.
func (l *life) restored(t rapid.TB) *partition {
	t.Helper()
	p := l.empty()
	if err := p.load(l.saved); err != nil {
		t.Fatal(err)
	}
	for _, r := range l.log[p.next:l.saved.meta.NextOffset] {
		if err := p.apply(context.Background(), r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.replayed(l.saved); err != nil {
		t.Fatal(err)
	}
	return p
}

func frameRecord(f *frame.Frame) *kgo.Record {
	return &kgo.Record{Key: f.EquipmentID, Value: f.AppendTo(nil), Headers: []kgo.RecordHeader{
		{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: f.AppendID(nil)}, {Key: topic.HeaderTraceParent, Value: []byte("00-x")},
	}}
}

func tickRecord() *kgo.Record {
	return &kgo.Record{Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}}
}

// drawRecord is something that may stand in the log.
func (l *life) drawRecord(t *rapid.T) *kgo.Record {
	l.logMS += rapid.SampledFrom([]int64{0, 50, 1000, 7000, 40_000}).Draw(t, "log time passes")
	id := fmt.Sprintf("m%d", rapid.IntRange(0, maxMachines).Draw(t, "machine")) // one more than there is room for
	switch rapid.SampledFrom([]string{"frame", "frame", "frame", "frame", "frame", "tick", "tick", "again", "bad", "key", "shape", "schema", "unknown", "config", "no config", "round", "round", "no round"}).Draw(t, "record") {
	case "config":
		return configRecord(3, drawConfig(t))
	case "round":
		if round := l.p.gather(); round != nil {
			return roundRecords(3, round)[0]
		}
		return tickRecord()
	case "no round":
		return &kgo.Record{Value: []byte("\x08\x07"), Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeCohort)}}}
	case "no config":
		return &kgo.Record{Value: []byte("\x08\x07"), Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeDetection)}}}
	case "tick":
		return tickRecord()
	case "again":
		if len(l.log) > 0 {
			old := rapid.SampledFrom(l.log).Draw(t, "record")
			return &kgo.Record{Key: old.Key, Value: old.Value, Headers: old.Headers}
		}
		return tickRecord()
	case "bad":
		return &kgo.Record{Key: []byte(id), Value: []byte("\xff\xff\xff")}
	case "key":
		f := frame.New("m0", "gw", 1, time.UnixMilli(l.logMS), []string{"s0"}, []float32{1})
		return &kgo.Record{Key: []byte("m1"), Value: f.AppendTo(nil)}
	case "shape":
		return frameRecord(frame.New(id, "gw", 1, time.UnixMilli(l.logMS), []string{"s0", "s1"}, []float32{1}))
	case "unknown":
		return frameRecord(&frame.Frame{EquipmentID: []byte(id), GatewayID: []byte("gw"), SchemaID: []byte(rapid.SampledFrom([]string{"unknown", "later"}).Draw(t, "schema id")), Sequence: uint64(len(l.log)), Values: []float32{1, 2}})
	case "schema":
		l.seq[id]++
		return frameRecord(&frame.Frame{EquipmentID: []byte(id), GatewayID: []byte("gw"), SchemaID: []byte("known"), Sequence: l.seq[id], BaseTimeUS: l.logMS * 1000, Values: []float32{1, 2}})
	}
	l.seq[id]++
	l.eventUS[id] = max(l.eventUS[id], l.logMS*1000-60*second) + second
	n := rapid.IntRange(1, 12).Draw(t, "samples")
	f := frame.New(id, "gw", l.seq[id], time.UnixMicro(l.eventUS[id]), []string{"s0", "s1"}, nil)
	for i := range n {
		f.OffsetsUS = append(f.OffsetsUS, uint64(i)*uint64(second))
	}
	l.eventUS[id] += int64(n) * second
	for range 2 * n {
		f.Values = append(f.Values, float32(rapid.IntRange(0, 3).Draw(t, "value")))
	}
	return frameRecord(f)
}

// drawConfig is a detection configuration that differs from others in what is judged, in which detectors do, or in the shape of windows.
func drawConfig(t *rapid.T) *detection.Config {
	c := machine.DefaultConfig()
	c.Detect.Detectors = rapid.SampledFrom([][]string{c.Detect.Detectors, {"limits", "ewma"}, {"cohort", "ewma"}, {"spread", "robust_z", "ewma"}, {}}).Draw(t, "detectors")
	c.Detect.RobustZ.History = rapid.SampledFrom([]int{64, 16}).Draw(t, "history")
	c.Silence.Min = rapid.SampledFrom([]time.Duration{15 * time.Second, 2 * time.Second, time.Hour}).Draw(t, "silence")
	c.IdleFlush = rapid.SampledFrom([]time.Duration{10 * time.Second, time.Second}).Draw(t, "flush")
	c.WindowLength = rapid.SampledFrom([]time.Duration{5 * time.Second, 2 * time.Second}).Draw(t, "window")
	c.Calibrate.Budget = rapid.SampledFrom([]float64{1, 1000}).Draw(t, "budget")
	if rapid.Bool().Draw(t, "limited") {
		high := 2.0
		c.Detect.Limits = []detect.Limit{{Sensor: "s1", HighCritical: &high}}
	}
	if seed := rapid.Uint64Range(0, 2).Draw(t, "model"); seed > 0 {
		m, _ := detecttest.Model(t, "model", seed, func(r *rand.Rand, _ int) float64 { return 3 * r.Float64() }, "s1", "s0")
		c.Detect.Models.Champions, c.Detect.Models.Shadows = []detect.Model{m}, []detect.Model{m}
		c.Detect.Detectors = append(slices.Clone(c.Detect.Detectors), "champion", "shadow")
	}
	return detection.New(&c, rapid.Uint32Range(0, 3).Draw(t, "revision"))
}

func drawSnapshotConfig(t *rapid.T) SnapshotConfig {
	return SnapshotConfig{
		MaxAgeMS:   rapid.SampledFrom([]int64{1, 5_000, 60_000}).Draw(t, "max age"),
		MaxRecords: rapid.Int64Range(1, 40).Draw(t, "max records"), MaxBytes: rapid.SampledFrom([]int{1, 1500, 1 << 20}).Draw(t, "max bytes"),
	}
}

// check proves what must always hold of a partition.
func check(t rapid.TB, p *partition) {
	t.Helper()
	// The heap: every machine that waits for a tick stands in it, where it says, none later than its children.
	for i, e := range p.due {
		if e.heapAt != i {
			t.Fatalf("%s says %d, stands at %d", e.id, e.heapAt, i)
		}
		if i > 0 && p.due.Less(i, (i-1)/2) {
			t.Fatalf("%s at %d is due before its parent", e.id, i)
		}
		if p.machines[e.id] != e {
			t.Fatalf("%s is due and no machine of the partition", e.id)
		}
		if e.deadline < e.machine.NextDeadline() {
			t.Fatalf("%s is looked at at %d, and is due at %d", e.id, e.deadline, e.machine.NextDeadline())
		}
	}
	replayFrom, dirty := p.next, 0
	var hash uint64
	for id, e := range p.machines {
		if never := e.machine.NextDeadline() == math.MaxInt64; never != (e.heapAt < 0) {
			t.Fatalf("%s: next deadline %d, heap %d", id, e.machine.NextDeadline(), e.heapAt)
		}
		if e.firstDirty >= 0 {
			dirty++
			replayFrom = min(replayFrom, e.firstDirty)
		}
		hash ^= e.snapshotHash
	}
	// The queue: each dirty machine once, the oldest first.
	queued := p.dirty.list[p.dirty.at:]
	if len(queued) != dirty || !slices.IsSortedFunc(queued, func(a, b *entry) int { return int(a.firstDirty - b.firstDirty) }) {
		t.Fatalf("%d machines queued, %d dirty, or out of order", len(queued), dirty)
	}
	for _, e := range queued {
		if e.firstDirty < 0 {
			t.Fatalf("%s is queued and clean", e.id)
		}
	}
	if got := p.replayFrom(); got != replayFrom || got > p.next {
		t.Fatalf("replay from %d, the oldest unsaved effect is at %d and the next record %d", got, replayFrom, p.next)
	}
	hash ^= p.past.hash
	if p.hash != hash {
		t.Fatalf("hash %x, the snapshots' is %x", p.hash, hash)
	}
}

// same proves that two partitions know the same, byte for byte.
func same(t rapid.TB, got, want *partition) {
	t.Helper()
	if got.next != want.next || got.logTimeMS != want.logTimeMS || got.lastTickMS != want.lastTickMS || got.hash != want.hash || got.replayFrom() != want.replayFrom() {
		t.Fatalf("restored at %d, %d ms, hash %x, unsaved from %d; it was %d, %d ms, %x, %d", got.next, got.logTimeMS, got.hash, got.replayFrom(), want.next, want.logTimeMS, want.hash, want.replayFrom())
	}
	if !detection.Same(got.in, want.in) || !slices.Equal(got.dead, want.dead) || !bytes.Equal(got.past.encode(), want.past.encode()) {
		t.Fatalf("restored under %s with dead letters %v, it was %s with %v", got.in, got.dead, want.in, want.dead)
	}
	if a, b := got.comparing.saved(), want.comparing.saved(); !slices.EqualFunc(a, b, func(a, b *eventv1.ModelComparison) bool { return proto.Equal(a, b) }) {
		t.Fatalf("counted of models %v, it was %v", a, b)
	}
	if a, b := got.comparing.inputs.saved(), want.comparing.inputs.saved(); !slices.EqualFunc(a, b, func(a, b *eventv1.ModelInputs) bool { return proto.Equal(a, b) }) {
		t.Fatalf("counted of models' inputs %v, it was %v", a, b)
	}
	if len(got.machines) != len(want.machines) {
		t.Fatalf("%d machines, there were %d", len(got.machines), len(want.machines))
	}
	for id, e := range want.machines {
		g := got.machines[id]
		if g == nil || !bytes.Equal(g.machine.AppendSnapshot(nil), e.machine.AppendSnapshot(nil)) {
			t.Fatalf("%s differs after a restore", id)
		}
		if g.firstDirty != e.firstDirty || g.machine.NextDeadline() != e.machine.NextDeadline() {
			t.Fatalf("%s is unsaved since %d and due at %d, it was %d and %d", id, g.firstDirty, g.machine.NextDeadline(), e.firstDirty, e.machine.NextDeadline())
		}
	}
}

func TestARestoreIsTheSamePartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife()
		c := drawSnapshotConfig(t)
		for range rapid.IntRange(1, 5).Draw(t, "owners") {
			for range rapid.IntRange(1, 15).Draw(t, "transactions") {
				for range rapid.IntRange(1, 6).Draw(t, "records") {
					l.apply(t, l.p, l.write(l.drawRecord(t)))
					check(t, l.p)
				}
				l.commit(t, c)
				check(t, l.p)
				// Whoever restored here would say the same: compared at the end of this owner's time, but for the state, which must be right at once.
				same(t, l.restored(t), l.p)
			}
			l.known["later"] = rapid.Bool().Draw(t, "registered meanwhile") || l.known["later"]
			next := l.restored(t)
			check(t, next)
			same(t, next, l.p)
			// Both go on alike, for as long as nobody is handed over again.
			for range rapid.IntRange(1, 10).Draw(t, "records after") {
				r := l.write(l.drawRecord(t))
				want, got := l.apply(t, l.p, r), l.apply(t, next, r)
				if !slices.Equal(got, want) {
					t.Fatalf("record %d: after a restore\n%s\nwithout\n%s", r.Offset, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
			same(t, next, l.p)
			l.p = next
			l.commit(t, c)
		}
	})
}

// A frame may come from anybody who may write to the topic. Whatever it holds, it must not leave state that the next
// owner cannot read.
func TestNoFrameLeavesStateThatCannotBeRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife()
		text := rapid.SampledFrom([]string{"a", "b", "c", "a", "b", "c", "a", "b", "c", "a", "b", "c", "", "é", strings.Repeat("x", 128), strings.Repeat("y", 129), strings.Repeat("z", 3000)})
		times := rapid.SampledFrom([]int64{0, -1, math.MinInt64, math.MinInt64 + 1, math.MaxInt64, 1 << 60, -1 << 60, 1 << 61, -1 << 61, epochMS * 1000})
		for range rapid.IntRange(1, 6).Draw(t, "frames") {
			f := &frame.Frame{
				EquipmentID: []byte(text.Draw(t, "equipment")), GatewayID: []byte(text.Draw(t, "gateway")),
				Sequence: rapid.SampledFrom([]uint64{0, 1, 2, math.MaxUint64}).Draw(t, "sequence"), BaseTimeUS: times.Draw(t, "base"),
			}
			if rapid.Bool().Draw(t, "by schema") {
				f.SchemaID = []byte("known")
			} else {
				for range 2 {
					f.Sensors = append(f.Sensors, []byte(text.Draw(t, "sensor")))
				}
			}
			n := rapid.IntRange(1, 3).Draw(t, "samples")
			for range n {
				f.OffsetsUS = append(f.OffsetsUS, rapid.SampledFrom([]uint64{0, 1, 5_000_000, 1 << 62, 1 << 63, math.MaxUint64}).Draw(t, "offset"))
			}
			for range 2 * n {
				f.Values = append(f.Values, rapid.OneOf(rapid.Float32(), rapid.SampledFrom([]float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32})).Draw(t, "value"))
				f.Qualities = append(f.Qualities, rapid.SampledFrom([]uint8{0, 1, 4, 255}).Draw(t, "quality"))
			}
			l.apply(t, l.p, l.write(frameRecord(f)))
			l.logMS += 20_000
			l.apply(t, l.p, l.write(tickRecord()))
		}
		l.commit(t, SnapshotConfig{MaxAgeMS: 0, MaxRecords: 1, MaxBytes: 1 << 30})
		check(t, l.restored(t))
	})
}

func TestDamagedStateIsRefused(t *testing.T) {
	l := newLife()
	for i := range 30 {
		for _, id := range []string{"a", "b"} {
			l.apply(t, l.p, l.write(frameRecord(frame.New(id, "gw", uint64(i+1), time.UnixMilli(l.logMS), []string{"s"}, []float32{float32(i)}))))
		}
		l.logMS += 1000
	}
	l.commit(t, SnapshotConfig{MaxAgeMS: 0, MaxRecords: 1, MaxBytes: 1 << 30})
	l.restored(t)
	for name, damage := range map[string]func(*saved){
		"hash":              func(s *saved) { s.meta.StateHash++ },
		"format":            func(s *saved) { s.meta.Format++ },
		"a machine missing": func(s *saved) { delete(s.machines, "a") },
		"a machine of another time": func(s *saved) {
			var snap eventv1.MachineSnapshot
			if err := proto.Unmarshal(s.machines["a"], &snap); err != nil {
				t.Fatal(err)
			}
			snap.AppliedOffset--
			s.machines["a"], _ = proto.Marshal(&snap)
		},
		"machines swapped":   func(s *saved) { s.machines["a"], s.machines["b"] = s.machines["b"], s.machines["a"] },
		"a machine too many": func(s *saved) { s.machines["c"] = s.machines["a"] },
		"a flipped bit":      func(s *saved) { s.machines["b"][len(s.machines["b"])/2] ^= 1 },
		"no message":         func(s *saved) { s.machines["b"] = []byte{0xff} },
	} {
		t.Run(name, func(t *testing.T) {
			s := &saved{config: l.saved.config, meta: proto.Clone(l.saved.meta).(*eventv1.PartitionMeta), machines: map[string][]byte{}} //nolint:forcetypeassert // what was cloned
			for id, b := range l.saved.machines {
				s.machines[id] = bytes.Clone(b)
			}
			damage(s)
			if err := l.empty().load(s); err == nil {
				t.Error("loaded")
			}
		})
	}
	for name, r := range map[string]*kgo.Record{
		"an unknown key": {Key: []byte("x"), Value: []byte("y")},
		"no meta":        {Key: []byte(metaKey), Value: []byte{0xff}},
	} {
		if err := l.saved.add(r); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if err := l.saved.add(&kgo.Record{Key: []byte(machinePrefix + "a")}); err != nil || l.saved.machines["a"] != nil {
		t.Errorf("a tombstone: %v", err)
	}
}

func TestAJudgementThatCannotBeMadeNowIsNoDeadLetter(t *testing.T) {
	away := errors.New("registry is away")
	p := newPartition(0, detection.New(judgeConfig(), 0), 1, func(context.Context, string) ([]string, error) { return nil, away }, exporter{}, nil)
	r := frameRecord(&frame.Frame{EquipmentID: []byte("a"), GatewayID: []byte("gw"), SchemaID: []byte("x"), Values: []float32{1}})
	err := p.apply(context.Background(), r, func(r *kgo.Record) { t.Errorf("emitted to %s", r.Topic) })
	if !errors.Is(err, away) {
		t.Errorf("error %v", err)
	}
}

func TestWithoutATracerATraceCostsNothing(t *testing.T) {
	p := newPartition(0, detection.New(judgeConfig(), 0), 1, resolve, exporter{}, nil)
	r := &kgo.Record{Headers: []kgo.RecordHeader{{Key: topic.HeaderTraceParent, Value: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")}}}
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() {
		if span, parent := p.startSpan(ctx, r); span != nil || parent == nil {
			t.Fatal("a span, or no parent")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Machines that send all the time must not keep ticks from those downstream: a quiet topic has nothing else to tell it the time.
func TestTicksAreForwardedThoughFramesAlwaysComeFirst(t *testing.T) {
	l := newLife()
	forwarded := map[string]int{}
	for range 60 {
		l.logMS += 1000
		f := frame.New("m0", "gw", uint64(len(l.log)+1), time.UnixMilli(l.logMS), []string{"s0"}, []float32{1})
		l.apply(t, l.p, l.write(frameRecord(f)))
		if err := l.p.apply(context.Background(), l.write(tickRecord()), func(r *kgo.Record) {
			if topic.IsTick(r) {
				forwarded[r.Topic]++
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{topic.Readings, topic.Windows, topic.Anomalies} {
		if n := forwarded[name]; n < 12 || n > 13 {
			t.Errorf("%d ticks in a minute of log time went to %s, want one every 5 s", n, name)
		}
	}
}
