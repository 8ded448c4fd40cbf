package table

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/parquetfile"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// batch holds the decoded frames of one file in flat arrays, about 8 bytes per value, and is used again for the next.
type batch struct {
	scratch judged
	rows    int64

	names map[string]uint32 // of machines, gateways and sensors
	text  []name
	lists map[string]*sensorList
	key   []byte

	frames []frameRef
	// Arenas that frames point into.
	times    []int64
	values   []float32
	quals    []uint8
	valids   []uint8
	disps    []uint8
	machines map[uint32][]sampleRef // by machine's name, in log order, then by time
	order    []uint32               // machines by name
}

type name struct {
	s     string
	hash  uint64
	value parquet.Value
}

// sensorList is a list of sensors that many frames share.
type sensorList struct {
	sensors []uint32 // names
	sorted  []int32  // positions in the order of the names
}

// frameRef is a frame: its samples, values and codes stand in the arenas from the given positions on; -1 where there are none.
type frameRef struct {
	machine, gateway uint32
	list             *sensorList
	sequence         int64
	logUS            int64
	offset           int64
	partition        int32
	samples          int32
	times, values    int
	quals, valids    int
	disps            int
	oneForAll        bool // a single disposition
	hash             rowhash.Hash
}

// sampleRef is one sample of one frame.
type sampleRef struct {
	ts     int64
	frame  int32
	sample int32
}

func newBatch() *batch {
	return &batch{names: map[string]uint32{}, lists: map[string]*sensorList{}, machines: map[uint32][]sampleRef{}}
}

// maxKept bounds what a batch keeps for the next file.
const maxKept = 4 << 20

// reset empties the batch and keeps its memory, unless that is unusually much.
func (b *batch) reset() {
	if cap(b.values) > maxKept || len(b.text) > maxKept/64 || len(b.lists) > 1024 {
		*b = *newBatch()
		return
	}
	b.rows, b.order = 0, b.order[:0]
	b.frames, b.times, b.values = b.frames[:0], b.times[:0], b.values[:0]
	b.quals, b.valids, b.disps = b.quals[:0], b.valids[:0], b.disps[:0]
	for m, s := range b.machines {
		if len(s) == 0 {
			delete(b.machines, m) // not seen in the last file either
			continue
		}
		b.machines[m] = s[:0]
	}
}

func (b *batch) intern(s []byte) uint32 {
	if i, ok := b.names[string(s)]; ok {
		return i
	}
	own := string(s)
	i := uint32(len(b.text))
	b.names[own] = i
	b.text = append(b.text, name{own, rowhash.Of(own), parquet.ByteArrayValue([]byte(own))})
	return i
}

// list interns the frame's sensors.
func (b *batch) list(j *judged) *sensorList {
	b.key = b.key[:0]
	if j.names != nil {
		b.key = append(append(b.key, 0), j.frame.SchemaID...)
	} else {
		for _, s := range j.frame.Sensors {
			b.key = append(append(b.key, byte(len(s)), byte(len(s)>>8), byte(len(s)>>16)), s...)
		}
	}
	if l, ok := b.lists[string(b.key)]; ok {
		return l
	}
	l := &sensorList{sensors: make([]uint32, j.sensors()), sorted: make([]int32, j.sensors())}
	for i := range l.sensors {
		l.sensors[i], l.sorted[i] = b.intern([]byte(j.sensor(i))), int32(i)
	}
	slices.SortStableFunc(l.sorted, func(x, y int32) int {
		return strings.Compare(b.text[l.sensors[x]].s, b.text[l.sensors[y]].s)
	})
	b.lists[string(b.key)] = l
	return l
}

// add decodes a record.
func (b *batch) add(ctx context.Context, rec Record, schemas Schemas) error {
	j := &b.scratch
	if err := j.unmarshal(ctx, rec.Value, schemas); err != nil {
		return err
	}
	f := &j.frame
	ref := frameRef{
		machine: b.intern(f.EquipmentID), gateway: b.intern(f.GatewayID), list: b.list(j),
		sequence: int64(f.Sequence), logUS: micros(j.timeMS), offset: j.offset, partition: j.partition,
		samples: int32(f.Samples()), times: len(b.times), values: len(b.values), quals: -1, valids: -1, disps: -1,
	}
	ref.hash = frameHash(b.text[ref.machine].hash, b.text[ref.gateway].hash, ref.sequence, ref.logUS, ref.partition, ref.offset)
	b.values = append(b.values, f.Values...)
	if len(f.Qualities) > 0 {
		ref.quals = len(b.quals)
		b.quals = append(b.quals, f.Qualities...)
	}
	if len(j.validities) > 0 {
		ref.valids = len(b.valids)
		b.valids = append(b.valids, j.validities...)
	}
	if n := len(j.dispositions); n > 0 {
		ref.disps, ref.oneForAll = len(b.disps), n == 1
		b.disps = append(b.disps, j.dispositions...)
	}
	at := int32(len(b.frames))
	b.frames = append(b.frames, ref)
	samples := b.machines[ref.machine]
	for t := range ref.samples {
		ts := f.TimeUS(int(t))
		b.times = append(b.times, ts)
		samples = append(samples, sampleRef{ts, at, t})
	}
	b.machines[ref.machine] = samples
	b.rows += int64(len(f.Values))
	return nil
}

// sort puts machines and their samples in order. Samples of one machine come nearly sorted.
func (b *batch) sort() {
	b.order = b.order[:0]
	for m, s := range b.machines {
		if len(s) == 0 {
			continue
		}
		b.order = append(b.order, m)
		byTime := func(x, y sampleRef) int { return cmp.Compare(x.ts, y.ts) }
		if !slices.IsSortedFunc(s, byTime) {
			slices.SortStableFunc(s, byTime)
		}
	}
	slices.SortFunc(b.order, func(x, y uint32) int { return strings.Compare(b.text[x].s, b.text[y].s) })
}

// codeAt is what stands at position i of an arena; 0 where the frame has none.
func codeAt(arena []uint8, at, i int) uint8 {
	if at < 0 {
		return 0
	}
	return arena[at+i]
}

// row is one value with all that belongs to it, before it is spread over the columns.
type row struct {
	frame       *frameRef
	sensor      uint32
	ts          int64
	sample      int32
	value       float32
	present     bool
	quality     uint8
	validity    uint8
	disposition uint8
}

func (b *batch) row(s sampleRef, position int32) row {
	f := &b.frames[s.frame]
	i := int(position)*int(f.samples) + int(s.sample)
	r := row{
		frame: f, sensor: f.list.sensors[position], ts: s.ts, sample: s.sample, value: b.values[f.values+i],
		quality: codeAt(b.quals, f.quals, i), validity: codeAt(b.valids, f.valids, i),
	}
	if f.oneForAll {
		r.disposition = b.disps[f.disps]
	} else {
		r.disposition = codeAt(b.disps, f.disps, int(s.sample))
	}
	if r.value != r.value {
		r.quality = frame.QualityMissing // NaN without a code means missing
	}
	r.present = r.quality != frame.QualityMissing
	return r
}

// each yields all rows in the file's order.
func (b *batch) each(yield func(row) error) error {
	var tied []row
	for _, m := range b.order {
		samples := b.machines[m]
		for len(samples) > 0 {
			n := 1
			for n < len(samples) && samples[n].ts == samples[0].ts {
				n++
			}
			if n == 1 {
				for _, p := range b.frames[samples[0].frame].list.sorted {
					if err := yield(b.row(samples[0], p)); err != nil {
						return err
					}
				}
				samples = samples[1:]
				continue
			}
			// Several samples of one instant: their sensors interleave.
			tied = tied[:0]
			for _, s := range samples[:n] {
				for p := range b.frames[s.frame].list.sorted {
					tied = append(tied, b.row(s, int32(p)))
				}
			}
			slices.SortStableFunc(tied, func(x, y row) int {
				if c := strings.Compare(b.text[x.sensor].s, b.text[y.sensor].s); c != 0 {
					return c
				}
				return cmp.Or(cmp.Compare(x.frame.offset, y.frame.offset), cmp.Compare(x.sample, y.sample))
			})
			for _, r := range tied {
				if err := yield(r); err != nil {
					return err
				}
			}
			samples = samples[n:]
		}
	}
	return nil
}

// names of codes, hashed and as values of a column.
type codes [256]struct {
	hash  uint64
	value parquet.Value
}

func makeCodes(names []string) *codes {
	var c codes
	for i := range c {
		n := codeName(names, uint8(i))
		c[i].hash, c[i].value = rowhash.Of(n), parquet.ByteArrayValue([]byte(n))
	}
	return &c
}

var (
	qualityCodes     = makeCodes(qualityNames[:])
	validityCodes    = makeCodes(validityNames[:])
	dispositionCodes = makeCodes(dispositionNames[:])
)

// sum is the hash of all rows.
func (b *batch) sum() uint64 {
	var sum uint64
	_ = b.each(func(r row) error { // it has no errors of its own
		sum += valueHash(r.frame.hash, b.text[r.sensor].hash, r.ts, r.sample,
			qualityCodes[r.quality].hash, validityCodes[r.validity].hash, dispositionCodes[r.disposition].hash, r.value, r.present)
		return nil
	})
	return sum
}

// write makes the file.
func (b *batch) write(metadata map[string]string) ([]byte, error) {
	w := parquetfile.NewColumns[Reading](readingsOrder, metadata)
	at := func(name string) []parquet.Value { return w.Batch()[w.Index(name)] }
	equipment, ts, sensor, value := at("equipment_id"), at("ts"), at("sensor"), at("value")
	quality, validity, disposition, late := at("quality"), at("validity"), at("disposition"), at("late")
	gateway, sequence, sample := at("gateway_id"), at("sequence"), at("sample")
	logTime, partition, offset := at("log_append_time"), at("partition"), at("offset")
	valueColumn := w.Index("value")
	null := parquet.NullValue().Level(0, 0, valueColumn)
	isLateValue := [2]parquet.Value{parquet.BooleanValue(false), parquet.BooleanValue(true)}
	n := 0
	err := b.each(func(r row) error {
		f := r.frame
		equipment[n], gateway[n], sensor[n] = b.text[f.machine].value, b.text[f.gateway].value, b.text[r.sensor].value
		ts[n], sample[n] = parquet.Int64Value(r.ts), parquet.Int32Value(r.sample)
		if r.present {
			value[n] = parquet.FloatValue(r.value).Level(0, 1, valueColumn)
		} else {
			value[n] = null
		}
		quality[n], validity[n], disposition[n] = qualityCodes[r.quality].value, validityCodes[r.validity].value, dispositionCodes[r.disposition].value
		late[n] = isLateValue[0]
		if isLate(r.disposition) {
			late[n] = isLateValue[1]
		}
		sequence[n], logTime[n] = parquet.Int64Value(f.sequence), parquet.Int64Value(f.logUS)
		partition[n], offset[n] = parquet.Int32Value(f.partition), parquet.Int64Value(f.offset)
		if n++; n == len(ts) {
			n = 0
			return w.Flush(len(ts))
		}
		return nil
	})
	if err == nil {
		err = w.Flush(n)
	}
	if err != nil {
		return nil, err
	}
	return w.Close()
}
