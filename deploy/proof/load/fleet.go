package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// partitions of the topics keyed by machine, kafka.partitions' default.
const partitions = 12

// fleet makes the frames of some machines. Values are a level of the sensor's own with noise around it, so that windows, baselines and
// snapshots have the sizes of real ones.
type fleet struct {
	prefix  string // of equipment ids
	gateway string
	sensors int
	names   [][]byte
}

func newFleet(prefix string, sensors int) *fleet {
	f := &fleet{prefix: prefix, gateway: "load-gw", sensors: sensors}
	for i := range sensors {
		f.names = append(f.names, fmt.Appendf(nil, "sensor-%02d", i))
	}
	return f
}

func (f *fleet) id(machine int) string { return fmt.Sprintf("%s-%06d", f.prefix, machine) }

// machineOf is the number behind an equipment id of this fleet.
func (f *fleet) machineOf(id []byte) (int, bool) {
	n := len(f.prefix)
	if len(id) != n+7 || string(id[:n]) != f.prefix || id[n] != '-' {
		return 0, false
	}
	out := 0
	for _, c := range id[n+1:] {
		if c < '0' || c > '9' {
			return 0, false
		}
		out = out*10 + int(c-'0')
	}
	return out, true
}

// maker makes frames; one goroutine's.
type maker struct {
	f   *fleet
	rng *rand.Rand
	fr  frame.Frame
}

func (f *fleet) maker(seed uint64) *maker {
	m := &maker{f: f, rng: rand.New(rand.NewPCG(seed, 0x7063))}
	m.fr.GatewayID = []byte(f.gateway)
	m.fr.Sensors = f.names
	return m
}

// frame fills m.fr: samples of one machine, step apart.
func (m *maker) frame(machine int, sequence uint64, at time.Time, samples int, step time.Duration) *frame.Frame {
	fr := &m.fr
	fr.EquipmentID = []byte(m.f.id(machine))
	fr.Sequence, fr.BaseTimeUS = sequence, at.UnixMicro()
	fr.OffsetsUS = fr.OffsetsUS[:0]
	if samples > 1 {
		for t := range samples {
			fr.OffsetsUS = append(fr.OffsetsUS, uint64(t)*uint64(step.Microseconds()))
		}
	}
	fr.Values = fr.Values[:0]
	for s := range m.f.sensors {
		level := float32(10 * (s + 1))
		for range samples {
			fr.Values = append(fr.Values, level+float32(m.rng.NormFloat64()))
		}
	}
	return fr
}

// record is the frame as the gateway writes it to Kafka.
func record(fr *frame.Frame) *kgo.Record {
	return &kgo.Record{
		Topic: topic.Frames, Key: fr.EquipmentID, Value: fr.AppendTo(nil),
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: fr.AppendID(nil)}},
	}
}

// partitionOf is where Kafka's default partitioner puts a key.
func partitionOf(key []byte) int32 {
	p := kgo.StickyKeyPartitioner(nil).ForTopic(topic.Frames)
	return int32(p.Partition(&kgo.Record{Key: key}, partitions))
}

// produced counts what a producer was given and what Kafka has of it.
type produced struct {
	acked  atomic.Int64
	failed atomic.Pointer[error]
}

func (p *produced) promise(r *kgo.Record, err error) {
	if err != nil {
		err = fmt.Errorf("produce to %s: %w", r.Topic, err)
		p.failed.CompareAndSwap(nil, &err)
		return
	}
	p.acked.Add(1)
}

func (p *produced) err() error {
	if e := p.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// produceAll writes the records as fast as Kafka takes them and waits for all.
func produceAll(ctx context.Context, cl *kgo.Client, recs []*kgo.Record) error {
	var p produced
	for _, r := range recs {
		cl.Produce(ctx, r, p.promise)
	}
	return errors.Join(cl.Flush(ctx), p.err())
}

// paced writes made records at a fixed rate: those of tick i at began + i*every, whatever happens. A producer that falls behind catches
// up, so the load is the same under any disturbance. It returns when all are acknowledged, or ctx has ended.
func paced(ctx context.Context, cl *kgo.Client, batches [][]*kgo.Record, every time.Duration) error {
	var p produced
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, batch := range batches {
		timer.Reset(time.Until(began.Add(time.Duration(i) * every)))
		select {
		case <-ctx.Done():
			return errors.Join(cl.Flush(context.WithoutCancel(ctx)), p.err())
		case <-timer.C:
		}
		for _, r := range batch {
			cl.Produce(context.WithoutCancel(ctx), r, p.promise)
		}
	}
	return errors.Join(cl.Flush(ctx), p.err())
}
