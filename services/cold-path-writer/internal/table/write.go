package table

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/columnar"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// readingsSchema is that of Reading.
var readingsSchema = columnar.Schema{
	Columns: []columnar.Column{
		{Name: "equipment_id", Kind: columnar.String, Bloom: true},
		{Name: "ts", Kind: columnar.Timestamp},
		{Name: "sensor", Kind: columnar.String},
		{Name: "value", Kind: columnar.Float32, Optional: true},
		{Name: "quality", Kind: columnar.String},
		{Name: "validity", Kind: columnar.String},
		{Name: "disposition", Kind: columnar.String},
		{Name: "late", Kind: columnar.Bool},
		{Name: "gateway_id", Kind: columnar.String},
		{Name: "sequence", Kind: columnar.Int64},
		{Name: "sample", Kind: columnar.Int32},
		{Name: "log_append_time", Kind: columnar.Timestamp},
		{Name: "partition", Kind: columnar.Int32},
		{Name: "offset", Kind: columnar.Int64},
	},
	SortedBy: readingsOrder,
}

// columns of the table readings in a file.
type columns struct {
	w                              *columnar.Writer
	equipment, sensor, gateway     *columnar.Strings
	quality, validity, disposition *columnar.Strings
	ts, sequence, sample           *columnar.Ints
	logTime, partition, offset     *columnar.Ints
	late                           *columnar.Ints
	value                          *columnar.Floats[float32]
	codes                          codeIDs
}

// codeIDs are the numbers, + 1, of codes in their columns of a file.
type codeIDs [3][256]uint32

// Of codeIDs.
const (
	inQuality = iota
	inValidity
	inDisposition
)

func (ids *codeIDs) id(c *columnar.Strings, kind int, code uint8) uint32 {
	id := &ids[kind][code]
	if *id == 0 {
		*id = 1 + c.Intern([...]*codeNames{qualityCodes, validityCodes, dispositionCodes}[kind][code].name)
	}
	return *id - 1
}

func newColumns() columns {
	w := columnar.NewWriter(readingsSchema)
	return columns{
		w: w, equipment: w.Strings("equipment_id"), sensor: w.Strings("sensor"), gateway: w.Strings("gateway_id"),
		quality: w.Strings("quality"), validity: w.Strings("validity"), disposition: w.Strings("disposition"),
		ts: w.Ints("ts"), sequence: w.Ints("sequence"), sample: w.Ints("sample"),
		logTime: w.Ints("log_append_time"), partition: w.Ints("partition"), offset: w.Ints("offset"),
		late: w.Ints("late"), value: w.Floats("value"),
	}
}

// Of name.ids.
const (
	inEquipment = iota
	inGateway
	inSensor
)

// id is the number of a name in a column of this file.
func (b *batch) id(n uint32, column int, c *columnar.Strings) uint32 {
	known := &b.text[n].ids[column]
	if known.file != b.file {
		*known = columnID{b.file, c.Intern([]byte(b.text[n].s))}
	}
	return known.id
}

// codeNames are the names of codes.
type codeNames [256]struct {
	name []byte
	hash uint64
}

func makeCodes(names []string) *codeNames {
	var c codeNames
	for i := range c {
		n := codeName(names, uint8(i))
		c[i].hash, c[i].name = rowhash.Of(n), []byte(n)
	}
	return &c
}

var (
	qualityCodes     = makeCodes(qualityNames[:])
	validityCodes    = makeCodes(validityNames[:])
	dispositionCodes = makeCodes(dispositionNames[:])
)

// write puts all rows into the columns, in the file's order, and gives the sum of their hashes.
func (b *batch) write() (hash uint64) {
	b.file++
	b.columns.codes = codeIDs{}
	for _, m := range b.order {
		samples := b.text[m].samples
		b.touch(samples)
		for len(samples) > 0 {
			n := 1
			for n < len(samples) && samples[n].ts == samples[0].ts {
				n++
			}
			if n == 1 {
				hash += b.writeSample(samples[0])
			} else {
				hash += b.writeTied(samples[:n])
			}
			samples = samples[n:]
		}
	}
	return hash
}

// touch brings what a machine's samples point to into the cache: its frames lie apart, as the machines' frames interleave in the log, and
// here the processor waits for many of them at once.
func (b *batch) touch(samples []sampleRef) {
	var sum int
	for _, s := range samples {
		f := &b.frames[s.frame]
		sum += f.values + int(f.partition)
	}
	for _, s := range samples {
		if f := &b.frames[s.frame]; f.values < len(b.values) && b.values[f.values] == 0 {
			sum++
		}
	}
	b.touched = sum
}

// writeSample writes one instant of a machine.
func (b *batch) writeSample(s sampleRef) (hash uint64) {
	f := &b.frames[s.frame]
	list := b.listOf(f)
	n := len(list.sorted)
	b.gather = slices.Grow(b.gather[:0], n)[:n]
	all := true
	from, stride := b.values[f.values:], int(f.samples)
	for i, p := range list.sorted {
		v := from[int(p)*stride+int(s.sample)]
		b.gather[i] = v
		all = all && v == v
	}
	if !all || f.quals >= 0 || f.valids >= 0 {
		for _, p := range list.sorted {
			hash += b.writeRow(b.row(s, p))
		}
		return hash
	}
	disposition := b.disposition(f, s)
	c := &b.columns
	values, sensors := b.gather, list.ids
	for len(values) > 0 {
		n := min(len(values), c.w.Room())
		c.sensor.Append(sensors[:n])
		c.value.Append(values[:n])
		c.quality.Run(c.codes.id(c.quality, inQuality, 0), n)
		c.validity.Run(c.codes.id(c.validity, inValidity, 0), n)
		b.writeShared(f, s.ts, s.sample, disposition, n)
		values, sensors = values[n:], sensors[n:]
	}
	h := f.hash
	return hashValues(&h, list.hashes, b.gather, s.ts, s.sample, qualityCodes[0].hash, validityCodes[0].hash, dispositionCodes[disposition].hash)
}

// listOf is the frame's sensors with the numbers of this file.
func (b *batch) listOf(f *frameRef) *sensorList {
	l := f.list
	if l.file != b.file {
		l.file, l.ids = b.file, l.ids[:0]
		for _, p := range l.sorted {
			l.ids = append(l.ids, b.id(l.sensors[p], inSensor, b.columns.sensor))
		}
	}
	return l
}

// writeShared writes what n rows of a sample have in common.
func (b *batch) writeShared(f *frameRef, ts int64, sample int32, disposition uint8, n int) {
	c := &b.columns
	c.equipment.Run(b.id(f.machine, inEquipment, c.equipment), n)
	c.ts.Run(ts, n)
	c.disposition.Run(c.codes.id(c.disposition, inDisposition, disposition), n)
	late := int64(0)
	if isLate(disposition) {
		late = 1
	}
	c.late.Run(late, n)
	c.gateway.Run(b.id(f.gateway, inGateway, c.gateway), n)
	c.sequence.Run(f.sequence, n)
	c.sample.Run(int64(sample), n)
	c.logTime.Run(f.logUS, n)
	c.partition.Run(int64(f.partition), n)
	c.offset.Run(f.offset, n)
	c.w.Add(n)
}

// writeRow writes a row on its own.
func (b *batch) writeRow(r row) (hash uint64) {
	c := &b.columns
	c.sensor.Run(b.id(r.sensor, inSensor, c.sensor), 1)
	if r.present {
		c.value.Append([]float32{r.value})
	} else {
		c.value.Null(1)
	}
	c.quality.Run(c.codes.id(c.quality, inQuality, r.quality), 1)
	c.validity.Run(c.codes.id(c.validity, inValidity, r.validity), 1)
	b.writeShared(r.frame, r.ts, r.sample, r.disposition, 1)
	return valueHash(r.frame.hash, b.text[r.sensor].hash, r.ts, r.sample,
		qualityCodes[r.quality].hash, validityCodes[r.validity].hash, dispositionCodes[r.disposition].hash, r.value, r.present)
}

// writeTied writes several samples of one instant: their sensors interleave.
func (b *batch) writeTied(samples []sampleRef) (hash uint64) {
	b.tied = b.tied[:0]
	for _, s := range samples {
		for p := range b.frames[s.frame].list.sorted {
			b.tied = append(b.tied, b.row(s, int32(p)))
		}
	}
	slices.SortStableFunc(b.tied, func(x, y row) int {
		if c := strings.Compare(b.text[x.sensor].s, b.text[y.sensor].s); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(x.frame.offset, y.frame.offset), cmp.Compare(x.sample, y.sample))
	})
	for _, r := range b.tied {
		hash += b.writeRow(r)
	}
	return hash
}

// disposition of a sample.
func (b *batch) disposition(f *frameRef, s sampleRef) uint8 {
	if f.oneForAll {
		return b.disps[f.disps]
	}
	return codeAt(b.disps, f.disps, int(s.sample))
}

// row is one value with all that belongs to it.
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
		quality: codeAt(b.quals, f.quals, i), validity: codeAt(b.valids, f.valids, i), disposition: b.disposition(f, s),
	}
	if r.value != r.value {
		r.quality = frame.QualityMissing // NaN without a code means missing
	}
	r.present = r.quality != frame.QualityMissing
	return r
}
