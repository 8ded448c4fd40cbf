// Package table turns the records of each topic into the rows of its table in the lake.
package table

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/parquetfile"
)

// Record is what of a Kafka record becomes rows.
type Record struct {
	Offset int64
	TimeMS int64 // broker's time, ms since 1970 UTC
	Value  []byte
}

// File is an encoded Parquet file that has been read back and found to hold Rows rows that hash to Hash.
type File struct {
	Data []byte
	Rows int64
	Hash uint64
	// Within is known of files that a merge by columns made.
	Within Bounds
}

// Table is one table of the lake. Safe for concurrent use.
type Table interface {
	Name() string
	Topic() string
	// Type is the ce_type of the topic's records.
	Type() string
	// Rows tells how many rows rec gives, or why it gives none: ErrPoison when it never will (its caller puts it aside),
	// any other error when that cannot be told now.
	Rows(ctx context.Context, rec Record) (int64, error)
	// Encode makes the file of records that Rows has passed. describe gives the metadata that goes into the footer.
	// Equal records give equal bytes.
	Encode(ctx context.Context, recs []Record, describe func(rows int64, hash uint64) map[string]string) (File, error)
	// Inspect reads a file and tells what it holds.
	Inspect(data []byte) (rows int64, hash uint64, err error)
}

// ErrPoison marks a record that no retry will make readable.
var ErrPoison = errors.New("unreadable record")

func poison(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrPoison, fmt.Errorf(format, args...))
}

// Schemas resolves the ids of wide frames' sensor lists.
type Schemas interface {
	// Sensors returns the names behind id in order; nil, nil when there is no such schema: the gateway registers one before it
	// writes the first frame with it, so an implementation looks at the registry's present end before it says so.
	Sensors(ctx context.Context, id string) ([]string, error)
}

// All are the tables of this version.
func All(schemas Schemas) []Table {
	return []Table{newReadings(schemas), newWindows(), newAnomalies(), newAlerts(), newFindings()}
}

// rowTable is a Table whose rows are structs.
type rowTable[T any] struct {
	name, topic, typ string
	sortedBy         []string
	compare          func(a, b *T) int
	hash             func(*T) uint64
	// decode appends the rows of rec to rows.
	decode func(ctx context.Context, rows []T, rec Record) ([]T, error)
}

func (t *rowTable[T]) Name() string  { return t.name }
func (t *rowTable[T]) Topic() string { return t.topic }
func (t *rowTable[T]) Type() string  { return t.typ }

func (t *rowTable[T]) Rows(ctx context.Context, rec Record) (int64, error) {
	rows, err := t.decode(ctx, nil, rec)
	return int64(len(rows)), err
}

func (t *rowTable[T]) Encode(ctx context.Context, recs []Record, describe func(int64, uint64) map[string]string) (File, error) {
	var rows []T
	var err error
	for _, rec := range recs {
		if rows, err = t.decode(ctx, rows, rec); err != nil {
			return File{}, fmt.Errorf("table %s: offset %d: %w", t.name, rec.Offset, err)
		}
	}
	slices.SortStableFunc(rows, func(a, b T) int { return t.compare(&a, &b) })
	f := File{Rows: int64(len(rows))}
	for i := range rows {
		f.Hash += t.hash(&rows[i])
	}
	if f.Data, err = parquetfile.Write(rows, t.sortedBy, describe(f.Rows, f.Hash)); err != nil {
		return File{}, fmt.Errorf("table %s: %w", t.name, err)
	}
	return f, verify(t, f)
}

// verify reads the file back: what cannot be read, or reads differently, must not become the only copy.
func verify(t interface {
	Name() string
	Inspect(data []byte) (rows int64, hash uint64, err error)
}, f File,
) error {
	rows, hash, err := t.Inspect(f.Data)
	if err != nil {
		return fmt.Errorf("table %s: read back: %w", t.Name(), err)
	}
	if rows != f.Rows || hash != f.Hash {
		return fmt.Errorf("table %s: read back %d rows with hash %s, wrote %d with %s",
			t.Name(), rows, lake.FormatHash(hash), f.Rows, lake.FormatHash(f.Hash))
	}
	return nil
}

func (t *rowTable[T]) Inspect(data []byte) (rows int64, hash uint64, err error) {
	err = parquetfile.Read(data, func(batch []T) error {
		rows += int64(len(batch))
		for i := range batch {
			hash += t.hash(&batch[i])
		}
		return nil
	})
	return rows, hash, err
}
