// Package columnar writes Parquet files from columns that stand in the file's order already.
//
// It is the lake's hot path: no row structs, no reflection per value. A caller adds the same number of rows to every column, a run of equal values at a time
// where there are runs, and tells the Writer with Add. Strings are interned once per distinct value. Each column of a row group gets
// the encoding that is smallest for what it holds, decided from the values alone: equal rows give equal bytes.
//
//	w := columnar.NewWriter(schema)
//	machine, at, value := w.Strings("equipment_id"), w.Ints("ts"), w.Floats("value")
//	id := machine.Intern([]byte("press-7"))
//	for rows := range batches {      // at most w.Room() rows each
//		machine.Run(id, len(rows))
//		at.Append(rows.times)
//		value.Append(rows.values)
//		w.Add(len(rows))
//	}
//	file, err := w.Close(metadata)
//
// What is written: version 2 data pages with checksums, ZSTD where it helps, statistics, column and offset index, bloom filters. Format:
// github.com/apache/parquet-format.
package columnar

import (
	"errors"
	"fmt"
)

// Kind is a column's type.
type Kind uint8

// Kinds of columns.
const (
	String    Kind = iota // UTF-8
	Bool                  // Ints: 0 or 1
	Int32                 // Ints; the low 32 bits count
	Int64                 // Ints
	Timestamp             // Ints: microseconds since 1970 UTC
	Float32               // Floats[float32]
	Float64               // Floats[float64]
)

// Column of a schema. Only floats may be Optional.
type Column struct {
	Name     string
	Kind     Kind
	Optional bool
	// Bloom adds a bloom filter to each row group. Strings only.
	Bloom bool
}

// Schema of a table without nesting.
type Schema struct {
	Columns  []Column
	SortedBy []string // ascending; the caller keeps the order
}

// RowGroup is the most rows of one row group: what engines read in parallel and skip by statistics.
const RowGroup = 128 << 10

// WideRowGroup is that of a row group with more than wideDictionary strings in a column that changes by row: wide frames, whose sensors' names would otherwise be stored
// every few frames.
const WideRowGroup = 512 << 10

const wideDictionary = 4096

// metaPrefix marks our keys in the footer.
const metaPrefix = "tocsin."

const createdBy = "tocsin cold-path-writer version 2"

// errNull: a null in a column that has none.
var errNull = errors.New("columnar: null in a required column")

// errRows: a column got another number of rows than Add said. It is the caller's mistake.
var errRows = errors.New("columnar: columns of different lengths")

func (s Schema) validate() error {
	for _, c := range s.Columns {
		if c.Optional && c.Kind != Float32 && c.Kind != Float64 {
			return fmt.Errorf("columnar: column %s: only floats may be optional", c.Name)
		}
		if c.Bloom && c.Kind != String {
			return fmt.Errorf("columnar: column %s: bloom filters are for strings", c.Name)
		}
	}
	return nil
}
