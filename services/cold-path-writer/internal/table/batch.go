package table

import (
	"cmp"
	"context"
	"slices"
	"strings"

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
	values []float32
	quals  []uint8
	valids []uint8
	disps  []uint8
	order  []uint32 // machines with samples, by name once sorted

	file    uint32    // counts files
	columns columns   // of the file
	gather  []float32 // one sample's values
	tied    []row
	touched int
}

type name struct {
	s    string
	hash uint64
	ids  [3]columnID // in the columns equipment_id, gateway_id and sensor
	// Of machines:
	list    *sensorList // of its last frame
	samples []sampleRef // in log order, then by time
}

// columnID is the number of a string in a column of the file of that count.
type columnID struct{ file, id uint32 }

// sensorList is a list of sensors that many frames share.
type sensorList struct {
	schema  string   // id, if they are named by one
	sensors []uint32 // names
	sorted  []int32  // positions in the order of the names
	hashes  []uint64 // of the names, in their order
	file    uint32   // that ids are of
	ids     []uint32 // in the column sensor, in the order of the names
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
	values           int
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
	return &batch{names: map[string]uint32{}, lists: map[string]*sensorList{}, columns: newColumns()}
}

// maxKept bounds what a batch keeps for the next file.
const maxKept = 4 << 20

// reset empties the batch and keeps its memory, unless that is unusually much.
func (b *batch) reset() {
	if cap(b.values) > maxKept || len(b.text) > maxKept/64 || len(b.lists) > 1024 {
		*b = *newBatch()
		return
	}
	for _, m := range b.order {
		b.text[m].samples = b.text[m].samples[:0]
	}
	b.rows, b.order = 0, b.order[:0]
	b.frames, b.values = b.frames[:0], b.values[:0]
	b.quals, b.valids, b.disps = b.quals[:0], b.valids[:0], b.disps[:0]
}

func (b *batch) intern(s []byte) uint32 {
	if i, ok := b.names[string(s)]; ok {
		return i
	}
	own := string(s)
	i := uint32(len(b.text))
	b.names[own] = i
	b.text = append(b.text, name{s: own, hash: rowhash.Of(own)})
	return i
}

// list is the frame's sensors; mostly they are those of the machine's last frame.
func (b *batch) list(machine uint32, j *judged) *sensorList {
	if l := b.text[machine].list; l != nil && b.same(l, j) {
		return l
	}
	l := b.findList(j)
	b.text[machine].list = l
	return l
}

// same tells whether l is the list of the frame.
func (b *batch) same(l *sensorList, j *judged) bool {
	if j.names != nil {
		return l.schema == string(j.frame.SchemaID) && l.schema != ""
	}
	if len(l.sensors) != len(j.frame.Sensors) {
		return false
	}
	for i, s := range j.frame.Sensors {
		if b.text[l.sensors[i]].s != string(s) {
			return false
		}
	}
	return true
}

// findList interns the frame's sensors.
func (b *batch) findList(j *judged) *sensorList {
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
	l := &sensorList{sensors: make([]uint32, j.sensors()), sorted: make([]int32, j.sensors()), schema: string(j.frame.SchemaID)}
	for i := range l.sensors {
		l.sensors[i], l.sorted[i] = b.intern([]byte(j.sensor(i))), int32(i)
	}
	slices.SortStableFunc(l.sorted, func(x, y int32) int {
		return strings.Compare(b.text[l.sensors[x]].s, b.text[l.sensors[y]].s)
	})
	for _, p := range l.sorted {
		l.hashes = append(l.hashes, b.text[l.sensors[p]].hash)
	}
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
	machine := b.intern(f.EquipmentID)
	ref := frameRef{
		machine: machine, gateway: b.intern(f.GatewayID), list: b.list(machine, j),
		sequence: int64(f.Sequence), logUS: micros(j.timeMS), offset: j.offset, partition: j.partition,
		samples: int32(f.Samples()), values: len(b.values), quals: -1, valids: -1, disps: -1,
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
	m := &b.text[machine]
	if len(m.samples) == 0 {
		b.order = append(b.order, machine)
	}
	for t := range ref.samples {
		m.samples = append(m.samples, sampleRef{f.TimeUS(int(t)), at, t})
	}
	b.rows += int64(len(f.Values))
	return nil
}

// sort puts machines and their samples in order. Samples of one machine come nearly sorted.
func (b *batch) sort() {
	byTime := func(x, y sampleRef) int { return cmp.Compare(x.ts, y.ts) }
	for _, m := range b.order {
		if s := b.text[m].samples; !slices.IsSortedFunc(s, byTime) {
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
