package table

import (
	"context"
	"fmt"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/colmerge"
)

// flat is a table whose rows are merged by columns.
type flat struct {
	schema *colmerge.Schema
	time   string // column of event time
	// hasher gives the hash of row i of a batch.
	hasher func(s *colmerge.Schema, d *colmerge.Dict) func(b *colmerge.Batch, i int) uint64
}

// merge makes files of the rows of runs.
func (f *flat) merge(ctx context.Context, t Merger, runs []colmerge.Run, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error) error {
	d := colmerge.NewDict()
	w := f.writer(t, d, maxRows, describe, done)
	err := colmerge.Stream(ctx, f.schema, d, nil, runs, w.Add)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("table %s: merge: %w", t.Name(), err)
	}
	return nil
}

// writer makes files of sorted rows, each read back.
func (f *flat) writer(t Merger, d *colmerge.Dict, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error) *colmerge.Writer {
	hash := f.hasher(f.schema, d)
	at, when := f.schema.Index("equipment_id"), f.schema.Index(f.time)
	var within Bounds
	return &colmerge.Writer{
		Schema: f.schema, Dict: d, MaxRows: maxRows, Describe: describe,
		Hash: func(b *colmerge.Batch, from, to int) (sum uint64) {
			for i := from; i < to; i++ {
				sum += hash(b, i)
			}
			times := b.Columns[when].Ints[from:to]
			machines := b.Columns[at].Codes
			within.add(Bounds{Machines: [2]string{d.Text(machines[from]), d.Text(machines[to-1])}, TimesUS: extent(times)})
			return sum
		},
		Done: func(data []byte, rows int64, hash uint64) error {
			file := File{Data: data, Rows: rows, Hash: hash, Within: within}
			within = Bounds{}
			if err := verify(t, file); err != nil {
				return err
			}
			return done(file)
		},
	}
}

// inspect reads a file.
func (f *flat) inspect(data []byte) (rows int64, sum uint64, err error) {
	d := colmerge.NewDict()
	hash := f.hasher(f.schema, d)
	err = colmerge.Stream(context.Background(), f.schema, d, nil, []colmerge.Run{{colmerge.Bytes(data)}}, func(b *colmerge.Batch, from, to int) error {
		for i := from; i < to; i++ {
			sum += hash(b, i)
		}
		rows += int64(to - from)
		return nil
	})
	return rows, sum, err
}

// Bounds are what the rows of a file lie within, ends included; the zero value: not known.
type Bounds struct {
	Machines [2]string
	TimesUS  [2]int64 // event time
}

func (b *Bounds) add(o Bounds) {
	if *b == (Bounds{}) {
		*b = o
		return
	}
	b.Machines = [2]string{min(b.Machines[0], o.Machines[0]), max(b.Machines[1], o.Machines[1])}
	b.TimesUS = [2]int64{min(b.TimesUS[0], o.TimesUS[0]), max(b.TimesUS[1], o.TimesUS[1])}
}

func extent(v []int64) [2]int64 {
	low, high := v[0], v[0]
	for _, x := range v {
		low, high = min(low, x), max(high, x)
	}
	return [2]int64{low, high}
}
