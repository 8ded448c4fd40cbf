package table

import (
	"context"
	"fmt"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/colmerge"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/columnar"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/parquetfile"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// Merger makes large files of a table out of small ones. Safe for concurrent use.
type Merger interface {
	Name() string
	// Inspect reads a file and tells what it holds.
	Inspect(data []byte) (rows int64, hash uint64, err error)
	// Memory is about what a run of so many rows and bytes needs while it is merged.
	Memory(rows, bytes int64) int64
	// Merge hands files of at most maxRows rows to done: all rows of the runs, in the table's order. Each has been read back. Equal runs
	// give equal files. Tables of readings, windows and rollups go by columns; anomalies, alerts and findings, which are few, row by row.
	Merge(ctx context.Context, runs []colmerge.Run, maxRows int64, describe func(rows int64, hash uint64) map[string]string, done func(File) error) error
}

// Merge implements Merger.
func (t *rowTable[T]) Merge(ctx context.Context, runs []colmerge.Run, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error) error {
	var inputs [][]byte
	for _, f := range concat(runs) {
		data, err := f.Read(0, f.Size)
		if err != nil {
			return err
		}
		inputs = append(inputs, data)
	}
	m := parquetfile.Merge[T]{
		SortedBy: t.sortedBy, Compare: t.compare, Hash: t.hash, MaxRows: maxRows, Describe: describe,
		Done: func(data []byte, rows int64, hash uint64) error {
			f := File{Data: data, Rows: rows, Hash: hash}
			if err := verify(t, f); err != nil {
				return err
			}
			return done(f)
		},
	}
	if err := m.Run(ctx, inputs); err != nil {
		return fmt.Errorf("table %s: merge: %w", t.Name(), err)
	}
	return nil
}

// Memory implements Merger: the files are held, and a batch of rows.
func (t *rowTable[T]) Memory(_, bytes int64) int64 { return bytes + 1<<20 }

// Memory implements Merger.
func (w windows) Memory(rows, bytes int64) int64 { return 2 * flatMemory(rows, bytes) }

// Memory implements Merger.
func (r *readings) Memory(rows, bytes int64) int64 { return flatMemory(rows, bytes) }

// flatMemory: one row group of a run is held, decoded and not.
func flatMemory(rows, bytes int64) int64 {
	return min(rows, columnar.RowGroup)*colmerge.RowBytes + min(bytes, 2<<20) + 64<<10
}

func concat(runs []colmerge.Run) (out colmerge.Run) {
	for _, r := range runs {
		out = append(out, r...)
	}
	return out
}

// Merge implements Merger.
func (r *readings) Merge(ctx context.Context, runs []colmerge.Run, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error) error {
	return flatReadings().merge(ctx, r, runs, maxRows, describe, done)
}

// flatReadings is the order that batch.each gives.
func flatReadings() *flat {
	return &flat{schema: colmerge.SchemaOf[Reading](readingsOrder, []string{"partition", "offset", "sample"}, nil), time: "ts", hasher: readingsHash}
}

// readingsHash is valueHash of a row of a batch.
func readingsHash(s *colmerge.Schema, d *colmerge.Dict) func(b *colmerge.Batch, i int) uint64 {
	equipment, ts, sensor, value := s.Index("equipment_id"), s.Index("ts"), s.Index("sensor"), s.Index("value")
	quality, validity, disposition, late := s.Index("quality"), s.Index("validity"), s.Index("disposition"), s.Index("late")
	gateway, sequence, sample := s.Index("gateway_id"), s.Index("sequence"), s.Index("sample")
	logTime, partition, offset := s.Index("log_append_time"), s.Index("partition"), s.Index("offset")
	lates := [...]uint64{rowhash.Of(dispositionNames[2]), rowhash.Of(dispositionNames[4])}
	return func(b *colmerge.Batch, i int) uint64 {
		c := b.Columns
		h := frameHash(d.Hash(c[equipment].Codes[i]), d.Hash(c[gateway].Codes[i]), c[sequence].Ints[i], c[logTime].Ints[i], int32(c[partition].Ints[i]), c[offset].Ints[i])
		disp := d.Hash(c[disposition].Codes[i])
		if c[late].Bools[i] != (disp == lates[0] || disp == lates[1]) {
			disp++ // never written so
		}
		return valueHash(h, d.Hash(c[sensor].Codes[i]), c[ts].Ints[i], int32(c[sample].Ints[i]), d.Hash(c[quality].Codes[i]), d.Hash(c[validity].Codes[i]), disp,
			c[value].Floats[i], c[value].Present[i])
	}
}

// flatWindows is the order and the hash of windows.
func flatWindows() *flat {
	return &flat{
		schema: colmerge.SchemaOf[Window](windowsOrder, []string{"revision", "offset"}, []string{"window_id"}), time: "window_start", hasher: windowsHash,
	}
}

// windowsHash is hashWindow of a row of a batch.
func windowsHash(s *colmerge.Schema, d *colmerge.Dict) func(b *colmerge.Batch, i int) uint64 {
	at := func(names ...string) (out []int) {
		for _, n := range names {
			out = append(out, s.Index(n))
		}
		return out
	}
	equipment, sensor, id := s.Index("equipment_id"), s.Index("sensor"), s.Index("window_id")
	ints := at("window_start", "window_end", "revision", "count", "unusable", "closed_at", "log_append_time", "offset")
	optional := at("mean", "stddev", "min", "max", "last", "expected_low", "expected_high")
	score, machine, learning := s.Index("score"), s.Index("machine_score"), s.Index("learning")
	return func(b *colmerge.Batch, i int) uint64 {
		c := b.Columns
		var h rowhash.Hash
		h.Uint(d.Hash(c[equipment].Codes[i]))
		h.Uint(d.Hash(c[sensor].Codes[i]))
		h.String(c[id].Texts[i])
		for _, k := range ints {
			h.Int(c[k].Ints[i])
		}
		for _, k := range optional {
			h.Bool(c[k].Present[i])
			if c[k].Present[i] {
				h.Float(c[k].Doubles[i])
			}
		}
		h.Float(c[score].Doubles[i])
		h.Float(c[machine].Doubles[i])
		h.Bool(c[learning].Bools[i])
		return h.Sum()
	}
}

// windows is the table of windows: made of structs, merged by columns.
type windows struct{ *rowTable[Window] }

// Merge implements Merger.
func (w windows) Merge(ctx context.Context, runs []colmerge.Run, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error) error {
	return flatWindows().merge(ctx, w, runs, maxRows, describe, done)
}

// Inspect implements Table.
func (w windows) Inspect(data []byte) (rows int64, hash uint64, err error) {
	return flatWindows().inspect(data)
}
