package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/colmerge"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// RollupRow is a row of readings_1m and readings_1h: what the good values of one sensor in one minute or hour of event time come to. Of a minute there may be several rows: add up.
type RollupRow struct {
	EquipmentID string  `parquet:"equipment_id,dict"`
	Sensor      string  `parquet:"sensor,dict"`
	TS          int64   `parquet:"ts,timestamp(microsecond),delta"` // where the minute or hour begins
	Count       int64   `parquet:"count,delta"`
	Sum         float64 `parquet:"sum,split"`
	Min         float32 `parquet:"min,split"`
	Max         float32 `parquet:"max,split"`
}

// Rollup is a table that is made of another's files.
type Rollup struct {
	name   string
	source string
	width  int64 // microseconds
	from   func() (flat, func(*colmerge.Schema) adder)
}

// Rollups are all there are; each may be the source of the next.
func Rollups() []Rollup {
	return []Rollup{
		{"readings_1m", "readings", time.Minute.Microseconds(), func() (flat, func(*colmerge.Schema) adder) { return *flatReadings(), addReadings }},
		{"readings_1h", "readings_1m", time.Hour.Microseconds(), func() (flat, func(*colmerge.Schema) adder) { return *flatRollup(), addRollup }},
	}
}

// RollupOf is the rollup of a source.
func RollupOf(source string) (Rollup, bool) {
	all := Rollups()
	i := slices.IndexFunc(all, func(r Rollup) bool { return r.source == source })
	if i < 0 {
		return Rollup{}, false
	}
	return all[i], true
}

// Kept are all tables that maintenance looks after, a rollup behind its source.
func Kept() []Merger {
	var out []Merger
	for _, t := range All(nil) {
		out = append(out, t.(Merger))
		for r, ok := RollupOf(t.Name()); ok; r, ok = RollupOf(r.name) {
			out = append(out, r)
		}
	}
	return out
}

func flatRollup() *flat {
	return &flat{schema: colmerge.SchemaOf[RollupRow]([]string{"equipment_id", "ts", "sensor"}, nil, nil), time: "ts", hasher: rollupHash}
}

func rollupHash(s *colmerge.Schema, d *colmerge.Dict) func(b *colmerge.Batch, i int) uint64 {
	equipment, sensor, ts, count := s.Index("equipment_id"), s.Index("sensor"), s.Index("ts"), s.Index("count")
	sum, least, most := s.Index("sum"), s.Index("min"), s.Index("max")
	return func(b *colmerge.Batch, i int) uint64 {
		c := b.Columns
		var h rowhash.Hash
		h.Uint(d.Hash(c[equipment].Codes[i]))
		h.Uint(d.Hash(c[sensor].Codes[i]))
		h.Int(c[ts].Ints[i])
		h.Int(c[count].Ints[i])
		h.Float(c[sum].Doubles[i])
		h.Float(float64(c[least].Floats[i]))
		h.Float(float64(c[most].Floats[i]))
		return h.Sum()
	}
}

// Name implements Table.
func (r Rollup) Name() string { return r.name }

// Source is the table that it is made of.
func (r Rollup) Source() string { return r.source }

// Inspect implements Table.
func (r Rollup) Inspect(data []byte) (rows int64, hash uint64, err error) {
	return flatRollup().inspect(data)
}

// Memory implements Merger.
func (r Rollup) Memory(rows, bytes int64) int64 { return flatMemory(rows, bytes) }

// Merge implements Merger. Rows of the same minute stay apart.
func (r Rollup) Merge(ctx context.Context, runs []colmerge.Run, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error) error {
	return flatRollup().merge(ctx, r, runs, maxRows, describe, done)
}

// adder adds the rows [from, to) of a batch, all of one machine and one minute, to what the sensors come to.
type adder struct {
	columns []string // that it reads
	add     func(b *colmerge.Batch, from, to int, sensors *sums)
}

func addReadings(s *colmerge.Schema) adder {
	sensor, value, validity := s.Index("sensor"), s.Index("value"), s.Index("validity")
	return adder{[]string{"equipment_id", "ts", "sensor", "value", "validity"}, func(b *colmerge.Batch, from, to int, t *sums) {
		sensors, values, valid := b.Columns[sensor].Codes, b.Columns[value], b.Columns[validity].Codes
		for i := from; i < to; i++ {
			v := values.Floats[i]
			if valid[i] != t.good || !values.Present[i] || v != v {
				continue
			}
			t.add(sensors[i], 1, float64(v), v, v)
		}
	}}
}

func addRollup(s *colmerge.Schema) adder {
	sensor, count, sum, least, most := s.Index("sensor"), s.Index("count"), s.Index("sum"), s.Index("min"), s.Index("max")
	return adder{nil, func(b *colmerge.Batch, from, to int, t *sums) {
		c := b.Columns
		for i := from; i < to; i++ {
			t.add(c[sensor].Codes[i], c[count].Ints[i], c[sum].Doubles[i], c[least].Floats[i], c[most].Floats[i])
		}
	}}
}

// sums are what the sensors of one machine come to in one minute.
type sums struct {
	dict *colmerge.Dict
	good uint32  // code of the validity that counts
	at   []int32 // by sensor's code: position in rows and 1
	rows []sensorSum
}

type sensorSum struct {
	sensor      uint32
	count       int64
	sum         float64
	least, most float32
}

func (t *sums) add(sensor uint32, count int64, sum float64, least, most float32) {
	for int(sensor) >= len(t.at) {
		t.at = append(t.at, 0)
	}
	i := t.at[sensor]
	if i == 0 {
		t.rows = append(t.rows, sensorSum{sensor, count, sum, least, most})
		t.at[sensor] = int32(len(t.rows))
		return
	}
	r := &t.rows[i-1]
	r.count, r.sum, r.least, r.most = r.count+count, r.sum+sum, min(r.least, least), max(r.most, most)
}

// take appends the sums to b in the order of the sensors' names, and begins anew.
func (t *sums) take(b *colmerge.Batch, machine uint32, ts int64) {
	slices.SortFunc(t.rows, func(x, y sensorSum) int { return strings.Compare(t.dict.Text(x.sensor), t.dict.Text(y.sensor)) })
	c := b.Columns
	for _, r := range t.rows {
		t.at[r.sensor] = 0
		c[0].Codes = append(c[0].Codes, machine)
		c[1].Codes = append(c[1].Codes, r.sensor)
		c[2].Ints = append(c[2].Ints, ts)
		c[3].Ints = append(c[3].Ints, r.count)
		c[4].Doubles = append(c[4].Doubles, r.sum)
		c[5].Floats = append(c[5].Floats, r.least)
		c[6].Floats = append(c[6].Floats, r.most)
	}
	b.Rows += len(t.rows)
	t.rows = t.rows[:0]
}

// Derive hands files of at most maxRows rows to done: what the rows of the source's runs come to. Each has been read back. Equal runs give equal files. It holds the sensors of one machine
// besides what a merge does.
func (r Rollup) Derive(ctx context.Context, runs []colmerge.Run, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error) error {
	source, adds := r.from()
	in, out, d := source.schema, flatRollup(), colmerge.NewDict()
	a := adds(in)
	w := out.writer(r, d, maxRows, describe, done)
	t := &sums{dict: d, good: d.Code([]byte(validityNames[0]))}
	machines, times := in.Index("equipment_id"), in.Index("ts")
	var wait colmerge.Batch
	wait.Columns = make([]colmerge.Column, len(out.schema.Columns))
	var machine uint32
	var slot int64
	began := false
	flush := func(all bool) error {
		if wait.Rows == 0 || wait.Rows < 4096 && !all {
			return nil
		}
		err := w.Add(&wait, 0, wait.Rows)
		wait.Reset()
		return err
	}
	err := colmerge.Stream(ctx, in, d, a.columns, runs, func(b *colmerge.Batch, from, to int) error {
		codes, ts := b.Columns[machines].Codes, b.Columns[times].Ints
		for from < to {
			begin := ts[from] - (ts[from]%r.width+r.width)%r.width
			if !began || codes[from] != machine || begin != slot {
				if began {
					t.take(&wait, machine, slot)
					if err := flush(false); err != nil {
						return err
					}
				}
				machine, slot, began = codes[from], begin, true
			}
			n := from + 1
			for n < to && codes[n] == machine && ts[n] < slot+r.width {
				n++
			}
			a.add(b, from, n, t)
			from = n
		}
		return nil
	})
	if err == nil && began {
		t.take(&wait, machine, slot)
	}
	if err == nil {
		err = errors.Join(flush(true), w.Close())
	}
	if err != nil {
		return fmt.Errorf("table %s: %w", r.name, err)
	}
	return nil
}

// RollupValues is how many values the rows of a rollup's file stand for.
func RollupValues(data []byte) (n int64, err error) {
	s := flatRollup().schema
	count := s.Index("count")
	err = colmerge.Stream(context.Background(), s, colmerge.NewDict(), []string{"count"}, []colmerge.Run{{colmerge.Bytes(data)}}, func(b *colmerge.Batch, from, to int) error {
		for _, c := range b.Columns[count].Ints[from:to] {
			n += c
		}
		return nil
	})
	return n, err
}
