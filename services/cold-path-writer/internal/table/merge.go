package table

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/parquetfile"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// Merger makes large files of a table out of small ones.
type Merger interface {
	Table
	// Merge hands files of at most maxRows rows to done: all rows of the inputs, in the table's order. Each has been read back. Equal inputs
	// give equal files. About 1 microsecond a row.
	Merge(ctx context.Context, inputs [][]byte, maxRows int64, describe func(rows int64, hash uint64) map[string]string, done func(File) error) error
}

// Merge implements Merger.
func (t *rowTable[T]) Merge(ctx context.Context, inputs [][]byte, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error) error {
	return merge(ctx, t, t.sortedBy, t.compare, t.hash, inputs, maxRows, describe, done)
}

// Merge implements Merger.
func (r *readings) Merge(ctx context.Context, inputs [][]byte, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error) error {
	return merge(ctx, r, readingsOrder, compareReadings, hashReading, inputs, maxRows, describe, done)
}

func merge[T any](ctx context.Context, t Table, sortedBy []string, compare func(a, b *T) int, hash func(*T) uint64,
	inputs [][]byte, maxRows int64, describe func(int64, uint64) map[string]string, done func(File) error,
) error {
	m := parquetfile.Merge[T]{
		SortedBy: sortedBy, Compare: compare, Hash: hash, MaxRows: maxRows, Describe: describe,
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

// compareReadings is the order that batch.each gives.
func compareReadings(a, b *Reading) int {
	return cmp.Or(strings.Compare(a.EquipmentID, b.EquipmentID), cmp.Compare(a.TS, b.TS), strings.Compare(a.Sensor, b.Sensor),
		cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Sample, b.Sample))
}

// hashReading is valueHash of a row that is a struct.
func hashReading(r *Reading) uint64 {
	d := rowhash.Of(r.Disposition)
	if r.Late != (r.Disposition == dispositionNames[2] || r.Disposition == dispositionNames[4]) {
		d++ // never written so
	}
	h := frameHash(rowhash.Of(r.EquipmentID), rowhash.Of(r.GatewayID), r.Sequence, r.LogAppendTime, r.Partition, r.Offset)
	v, present := float32(0), r.Value != nil
	if present {
		v = *r.Value
	}
	return valueHash(h, rowhash.Of(r.Sensor), r.TS, r.Sample, rowhash.Of(r.Quality), rowhash.Of(r.Validity), d, v, present)
}
