package topology

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func TestAppendReadingIsTheGeneratedEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := &eventv1.Reading{
			Frame:     rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "frame"),
			Partition: rapid.Int32Min(0).Draw(t, "partition"), Offset: rapid.Int64Min(0).Draw(t, "offset"), LogAppendTimeMs: rapid.Int64().Draw(t, "log time"),
			Dispositions: rapid.SliceOfN(rapid.Map(rapid.Int32Range(0, int32(len(eventv1.Disposition_name))-1), func(v int32) eventv1.Disposition { return eventv1.Disposition(v) }), 0, 200).Draw(t, "dispositions"),
			Validities:   rapid.SliceOfN(rapid.Map(rapid.Int32Range(0, int32(len(eventv1.Validity_name))-1), func(v int32) eventv1.Validity { return eventv1.Validity(v) }), 0, 200).Draw(t, "validities"),
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		prefix := []byte("before")
		got := appendReading(prefix, want.Frame, want.Partition, want.Offset, want.LogAppendTimeMs, want.Dispositions, want.Validities)
		if !bytes.Equal(got, append([]byte("before"), b...)) {
			t.Fatalf("%x, generated code writes %x", got[len(prefix):], b)
		}
	})
}

func TestEnumsFitOneByte(t *testing.T) {
	for v := range eventv1.Disposition_name {
		if v < 0 || v > 127 {
			t.Errorf("disposition %d does not fit", v)
		}
	}
	for v := range eventv1.Validity_name {
		if v < 0 || v > 127 {
			t.Errorf("validity %d does not fit", v)
		}
	}
}

func TestArenaKeepsWhatItHandedOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a arena
		for range rapid.IntRange(1, 3).Draw(t, "transactions") {
			var want, got [][]byte
			for range rapid.IntRange(0, 30).Draw(t, "slices") {
				n := rapid.SampledFrom([]int{0, 1, 100, 5000, arenaChunk / 4, arenaChunk/4 + 1, arenaChunk + 1}).Draw(t, "bytes")
				b := bytes.Repeat([]byte{byte(len(want))}, n)
				kept := a.copy(b)
				if len(kept) > 0 {
					_ = append(kept, 0xff) // must not reach into its neighbour
				}
				got, want = append(got, kept), append(want, bytes.Clone(b))
				clear(b) // the arena has its own
			}
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Fatalf("slice %d of %d bytes has changed", i, len(want[i]))
				}
			}
			a.reset()
			if a.full != nil || len(a.cur) != 0 {
				t.Fatal("reset keeps what was handed out")
			}
		}
	})
}

func TestQueueIsFirstInFirstOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		var want []*entry
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			for range rapid.IntRange(0, 3000).Draw(t, "pushed") {
				e := new(entry)
				q.push(e)
				want = append(want, e)
			}
			for range rapid.IntRange(0, len(want)).Draw(t, "popped") {
				if q.head() != want[0] {
					t.Fatal("not the oldest")
				}
				q.pop()
				want = want[1:]
			}
			if len(q.list)-q.at != len(want) || len(want) == 0 && q.head() != nil {
				t.Fatalf("%d queued, want %d", len(q.list)-q.at, len(want))
			}
			if q.at > 1024 && q.at > len(q.list)/2 {
				t.Fatal("what was popped is kept")
			}
		}
	})
}
