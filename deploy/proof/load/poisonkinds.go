package load

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// loadID is a header of the harness's own on each poison record; letters keep it, so they can be told apart whatever their bytes are.
const loadID = "load_id"

// poisonGateway sends the frames that are poison; its sequences are not those of the good ones.
const poisonGateway = "poison-gw"

// poisonKind is one way in which a record cannot be judged.
type poisonKind struct {
	name   string
	reason string // stands in the letter's reason
	// spoil makes the poison of a good frame of machine, whose sequence is its own among the poison frames of that machine.
	spoil func(p *poisoner, fr *frame.Frame) *kgo.Record
	// mended: once the missing schema is registered it can be judged.
	mended bool
}

// poisoner makes poison.
type poisoner struct {
	missing []string // sensors of the schema that nobody has registered yet
	junk    []byte   // bytes that are no protobuf
}

func newPoisoner(sensors int) *poisoner {
	p := &poisoner{junk: make([]byte, 8<<20)}
	for i := range sensors {
		p.missing = append(p.missing, fmt.Sprintf("late-%02d", i))
	}
	x := uint64(0x9E3779B97F4A7C15)
	for i := range p.junk { // not compressible, so that it is as large on the wire as it looks
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p.junk[i] = byte(x)
	}
	p.junk[0] = 0xff // field 15 of a wire type that does not exist
	return p
}

func raw(fr *frame.Frame, value []byte) *kgo.Record {
	r := record(fr)
	r.Value = value
	return r
}

func longName() []byte {
	name := make([]byte, frame.MaxIDLength+1)
	for i := range name {
		name[i] = 'x'
	}
	return name
}

// poisonKinds are the small kinds, taken in turns. huge ones are few, because of their size.
func poisonKinds() []poisonKind {
	return []poisonKind{
		{name: "garbage bytes", reason: "not a SensorFrame", spoil: func(p *poisoner, fr *frame.Frame) *kgo.Record { return raw(fr, p.junk[:64]) }},
		{name: "truncated protobuf", reason: "not a SensorFrame", spoil: func(_ *poisoner, fr *frame.Frame) *kgo.Record {
			whole := fr.AppendTo(nil)
			return raw(fr, whole[:len(whole)-7])
		}},
		{name: "wrong key", reason: "is not the record's key", spoil: func(_ *poisoner, fr *frame.Frame) *kgo.Record {
			r := record(fr)
			r.Key = append([]byte("not-"), fr.EquipmentID...)
			return r
		}},
		{name: "no key", reason: "is not the record's key", spoil: func(_ *poisoner, fr *frame.Frame) *kgo.Record {
			r := record(fr)
			r.Key = nil
			return r
		}},
		{name: "empty value", reason: "is not the record's key", spoil: func(_ *poisoner, fr *frame.Frame) *kgo.Record { return raw(fr, nil) }},
		{name: "unknown schema", reason: "is not registered", mended: true, spoil: func(p *poisoner, fr *frame.Frame) *kgo.Record {
			fr.SchemaID, fr.Sensors = []byte(schema.ID(p.missing)), nil
			return record(fr)
		}},
		{name: "values do not fit", reason: "values for", spoil: func(_ *poisoner, fr *frame.Frame) *kgo.Record {
			fr.Values = fr.Values[:len(fr.Values)-1]
			return record(fr)
		}},
		{name: "no values", reason: "values", spoil: func(_ *poisoner, fr *frame.Frame) *kgo.Record {
			fr.Values, fr.Sensors = nil, nil
			return record(fr)
		}},
		{name: "qualities do not fit", reason: "codes for", spoil: func(_ *poisoner, fr *frame.Frame) *kgo.Record {
			fr.Qualities = []uint8{frame.QualityGood}
			return record(fr)
		}},
		{name: "sensor name too long", reason: "a name of", spoil: func(_ *poisoner, fr *frame.Frame) *kgo.Record {
			fr.Sensors = append([][]byte{longName()}, fr.Sensors[1:]...)
			return record(fr)
		}},
		{name: "gateway name too long", reason: "a name of", spoil: func(_ *poisoner, fr *frame.Frame) *kgo.Record {
			fr.GatewayID = longName()
			return record(fr)
		}},
	}
}

// hugeKinds are large. largest is as large as the topic takes any.
func hugeKinds() []poisonKind {
	return []poisonKind{
		{name: "huge value, 3 MiB", reason: "not a SensorFrame", spoil: func(p *poisoner, fr *frame.Frame) *kgo.Record { return raw(fr, p.junk[:3<<20]) }},
		{name: "huge value, the largest that Kafka takes", reason: "at most 6291456 can be judged", spoil: func(p *poisoner, fr *frame.Frame) *kgo.Record {
			return raw(fr, p.junk[:8<<20-512])
		}},
	}
}

// poison makes one record of the kind.
func (p *poisoner) poison(k poisonKind, f *fleet, m *maker, machine int, sequence uint64, at time.Time, id string) *kgo.Record {
	base := m.frame(machine, sequence, at, 1, 0)
	fr := &frame.Frame{
		EquipmentID: []byte(f.id(machine)), GatewayID: []byte(poisonGateway), Sequence: sequence, BaseTimeUS: base.BaseTimeUS,
		Sensors: base.Sensors, Values: append([]float32(nil), base.Values...),
	}
	r := k.spoil(p, fr)
	r.Topic = topic.Frames
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: loadID, Value: []byte(id)})
	return r
}
