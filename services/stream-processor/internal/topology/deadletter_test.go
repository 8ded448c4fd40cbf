package topology

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func bySchema(id string, sequence uint64) *frame.Frame {
	return &frame.Frame{EquipmentID: []byte("m0"), GatewayID: []byte("gw"), Sequence: sequence, SchemaID: []byte(id), BaseTimeUS: epochMS * 1000, Values: []float32{1, 2}}
}

// A frame is dead-lettered because its schema is unknown; the schema is registered; the partition moves; the dead letter is sent again.
func TestADeadLetterStaysOneWhenItsSchemaIsRegisteredLater(t *testing.T) {
	l := newLife()
	l.apply(t, l.p, l.write(tickRecord()))
	l.apply(t, l.p, l.write(frameRecord(bySchema("known", 1))))
	if out := l.apply(t, l.p, l.write(frameRecord(bySchema("later", 2)))); len(out) != 1 {
		t.Fatalf("%q, want a dead letter", out)
	}
	l.commit(t, SnapshotConfig{MaxAgeMS: 1 << 40, MaxRecords: 1 << 40, MaxBytes: 1})
	l.known["later"] = true
	next := l.restored(t)
	same(t, next, l.p)
	out := l.apply(t, next, l.write(frameRecord(bySchema("later", 2))))
	if len(out) != 1 || next.count.duplicates != 0 {
		t.Fatalf("the frame sent again from the dead letters gave %q, %d repeats: it is lost", out, next.count.duplicates)
	}
}

// The other way round: what stands is never taken back by a registry that knows less now.
func TestAReplayDoesNotTakeBackAJudgement(t *testing.T) {
	l := newLife()
	l.known["later"] = true
	l.apply(t, l.p, l.write(frameRecord(bySchema("later", 1))))
	l.commit(t, SnapshotConfig{MaxAgeMS: 1 << 40, MaxRecords: 1 << 40, MaxBytes: 1})
	delete(l.known, "later")
	p := l.empty()
	if err := p.load(l.saved); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := p.apply(context.Background(), l.log[0], nil); !errors.Is(err, ErrUnknownSchema) {
			t.Fatalf("a replay without the schema gave %v", err)
		}
	}
	l.known["later"] = true
	if err := p.apply(context.Background(), l.log[0], nil); err != nil {
		t.Fatal(err)
	}
	same(t, p, l.p)
}

// The quota is of the configuration, not of the log.
func TestADeadLetterStaysOneWhenTheQuotaGrows(t *testing.T) {
	l := newLife()
	for i, id := range []string{"a", "b", "c"} {
		f := bySchema("known", 1)
		f.EquipmentID = []byte(id)
		l.p.maxMachines = 2
		if out := l.apply(t, l.p, l.write(frameRecord(f))); len(out) != 1 || len(l.p.machines) != min(i+1, 2) {
			t.Fatal(out)
		}
	}
	l.commit(t, SnapshotConfig{MaxAgeMS: 1 << 40, MaxRecords: 1 << 40, MaxBytes: 1})
	for _, quota := range []int{1, 2, 100} {
		p := l.empty()
		p.maxMachines = quota
		if err := p.load(l.saved); err != nil {
			t.Fatal(err)
		}
		for _, r := range l.log {
			if err := p.apply(context.Background(), r, nil); err != nil {
				t.Fatal(err)
			}
		}
		same(t, p, l.p)
	}
}

// What a former build judged and this one cannot stops the replay.
func TestADivergingReplayStops(t *testing.T) {
	l := newLife()
	l.apply(t, l.p, l.write(tickRecord()))
	l.commit(t, SnapshotConfig{MaxAgeMS: 1 << 40, MaxRecords: 1 << 40, MaxBytes: 1})
	p := l.empty()
	if err := p.load(l.saved); err != nil {
		t.Fatal(err)
	}
	bad := l.write(frameRecord(&frame.Frame{EquipmentID: []byte("m0"), GatewayID: []byte("gw"), Sensors: [][]byte{[]byte("s")}}))
	if err := p.apply(context.Background(), bad, nil); !errors.Is(err, errDiverged) {
		t.Fatalf("%v", err)
	}
}

func TestOffsetsAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := map[int64]bool{}
		var o offsets
		from, to := int64(100), int64(200)
		for at := from; at < to; at++ {
			if rapid.Bool().Draw(t, "in") {
				in[at] = true
				o.add(at)
			}
		}
		cut := rapid.Int64Range(from, to).Draw(t, "cut")
		o.dropBefore(cut)
		back, err := decodeOffsets(o.encode(cut), cut, to)
		if err != nil || !slices.Equal(back, o) {
			t.Fatalf("%v, %v, %v", o, back, err)
		}
		for at := from - 1; at <= to; at++ {
			if o.has(at) != (in[at] && at >= cut) {
				t.Fatalf("%d: %v, in %v, cut %d", at, o.has(at), in[at], cut)
			}
		}
	})
}

func TestDamagedOffsetsAreRefused(t *testing.T) {
	for _, in := range [][]uint64{{1}, {0, 0}, {0, 101}, {101, 1}, {1 << 63, 1}, {0, 1, 0, 1}, {0, 1 << 63}, {50, 50, 1, 1}} {
		if o, err := decodeOffsets(in, 100, 200); err == nil {
			t.Errorf("%v gave %v", in, o)
		}
	}
}

// State of a build that noted neither dead letters nor configurations is taken over, as that build would have.
func TestStateOfAnOlderBuildIsTakenOver(t *testing.T) {
	l := newLife()
	for i := range 40 {
		l.logMS += 1000
		f := bySchema([]string{"known", "unknown"}[i%7/6], uint64(i+1))
		f.BaseTimeUS = l.logMS * 1000
		l.apply(t, l.p, l.write(frameRecord(f)))
		l.commit(t, SnapshotConfig{MaxAgeMS: 15_000, MaxRecords: 1 << 40, MaxBytes: 1 << 20})
	}
	if l.saved.meta.ReplayFrom == l.p.next || len(l.p.dead) == 0 {
		t.Fatal("nothing to replay, or no dead letter in it: this shows nothing")
	}
	old := *l.saved
	old.config = nil
	meta, _ := proto.Clone(l.saved.meta).(*eventv1.PartitionMeta)
	meta.Format, meta.DeadLetters, meta.StateHash = 1, nil, meta.StateHash^l.p.past.hash
	old.meta = meta
	p := l.empty()
	if err := p.load(&old); err != nil {
		t.Fatal(err)
	}
	for _, r := range l.log[p.next:] {
		if err := p.apply(context.Background(), r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.replayed(&old); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.dead, l.p.dead) {
		t.Fatalf("dead letters %v, there were %v", p.dead, l.p.dead)
	}
	// From the next transaction on it is as of this build.
	for id := range l.p.machines {
		if !bytes.Equal(p.machines[id].machine.AppendSnapshot(nil), l.p.machines[id].machine.AppendSnapshot(nil)) {
			t.Fatalf("%s differs", id)
		}
	}
	l.p, l.saved = p, &old
	l.saved.parts = nil
	l.commit(t, SnapshotConfig{MaxAgeMS: 15_000, MaxRecords: 1 << 40, MaxBytes: 1 << 20})
	same(t, l.restored(t), l.p)
}
