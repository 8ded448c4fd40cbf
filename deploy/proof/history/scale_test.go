package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// faultless is a partition of n frames of a thousand machines with what the judge makes of them, in memory.
func faultless(b *testing.B, n int) (*memory, *Ledger) {
	b.Helper()
	m := &memory{topics: map[string]map[int32][]*kgo.Record{}, ends: map[string]map[int32]interval{}}
	for _, s := range topic.All() {
		m.topics[s.Name], m.ends[s.Name] = map[int32][]*kgo.Record{}, map[int32]interval{0: {}}
	}
	put := func(r *kgo.Record) {
		in := m.ends[r.Topic][0]
		r.Offset = in.to
		in.to++
		m.ends[r.Topic][0] = in
		m.topics[r.Topic][0] = append(m.topics[r.Topic][0], r)
	}
	l := NewLedger()
	judge := streamprocessor.NewReplayer(streamprocessor.DefaultConfig(), 0, unknown)
	for i := range n {
		id, q := fmt.Sprintf("m-%04d", i%1000), uint64(i/1000+1)
		at := base.Add(time.Duration(q) * time.Second)
		f := frame.New(id, "gw", q, at, []string{"a", "b", "c"}, []float32{float32(i % 13), float32(i % 17), 5})
		r := &kgo.Record{Topic: topic.Frames, Key: []byte(id), Value: f.AppendTo(nil), Timestamp: at}
		put(r)
		ref := FrameRef{"gw", id, q}
		l.Sent(ref)
		l.Acked(ref)
		out, err := judge.Apply(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		for _, o := range out {
			c := *o
			c.Key, c.Value = append([]byte(nil), o.Key...), append([]byte(nil), o.Value...)
			put(&c)
		}
	}
	return m, l
}

// BenchmarkCheck tells how many frames are checked in a second, Kafka's own time left out.
func BenchmarkCheck(b *testing.B) {
	const n = 100_000
	m, l := faultless(b, n)
	w := World{Groups: Groups{Processor: "p", Router: "r"}, Ledger: l, Schemas: unknown}
	b.ReportAllocs()
	for b.Loop() {
		rep, err := check(b.Context(), &w, m)
		if err != nil {
			b.Fatal(err)
		}
		if !rep.OK() || rep.Counts[topic.Readings] != n {
			b.Fatal(rep)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "frames/s")
}
