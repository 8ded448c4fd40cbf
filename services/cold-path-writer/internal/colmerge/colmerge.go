// Package colmerge reads sorted Parquet files of flat columns by columns, and merges them, without making rows of them.
package colmerge

import (
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/columnar"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// Kind says which slice of a Column holds its values.
type Kind uint8

// Kinds of columns.
const (
	Code   Kind = iota // text with few distinct values: Codes, in the Dict
	Text               // other text: Texts
	Int32              // Ints
	Int64              // Ints
	Float              // Floats
	Double             // Doubles
	Bool               // Bools
)

// Spec is a column of a Schema.
type Spec struct {
	Name     string
	Kind     Kind
	Optional bool
}

// Schema is the columns of a table and the order of its rows.
type Schema struct {
	Columns  []Spec
	SortedBy []string
	parquet  *parquet.Schema
	file     columnar.Schema
	key      []int
}

// SchemaOf makes the schema of the row type T, which has no nested columns. Rows are ordered by sortedBy, then by ties. Of the columns unique, text is not kept in a Dict.
func SchemaOf[T any](sortedBy, ties, unique []string) *Schema {
	s := &Schema{SortedBy: sortedBy, parquet: parquet.SchemaOf(new(T))}
	for _, f := range s.parquet.Fields() {
		c := Spec{Name: f.Name(), Optional: f.Optional()}
		switch kind := f.Type().Kind(); kind {
		case parquet.ByteArray:
			if c.Kind = Code; slices.Contains(unique, c.Name) {
				c.Kind = Text
			}
		case parquet.Int32:
			c.Kind = Int32
		case parquet.Int64:
			c.Kind = Int64
		case parquet.Float:
			c.Kind = Float
		case parquet.Double:
			c.Kind = Double
		case parquet.Boolean:
			c.Kind = Bool
		default:
			panic(fmt.Sprintf("colmerge: column %s of kind %s", c.Name, kind)) // of the program's own types, at its start
		}
		s.Columns = append(s.Columns, c)
		s.file.Columns = append(s.file.Columns, columnar.Column{Name: c.Name, Kind: fileKind(f, c.Kind), Optional: c.Optional, Bloom: c.Name == "equipment_id"})
	}
	s.file.SortedBy = sortedBy
	for _, name := range slices.Concat(sortedBy, ties) {
		s.key = append(s.key, s.Index(name))
	}
	return s
}

func fileKind(f parquet.Field, k Kind) columnar.Kind {
	switch k {
	case Int32:
		return columnar.Int32
	case Int64:
		if lt := f.Type().LogicalType(); lt != nil {
			if _, ok := lt.Value.(*format.TimestampType); ok {
				return columnar.Timestamp
			}
		}
		return columnar.Int64
	case Float:
		return columnar.Float32
	case Double:
		return columnar.Float64
	case Bool:
		return columnar.Bool
	default:
		return columnar.String
	}
}

// Index is the position of a column.
func (s *Schema) Index(name string) int {
	i := slices.IndexFunc(s.Columns, func(c Spec) bool { return c.Name == name })
	if i < 0 {
		panic("colmerge: no column " + name) // of the program's own types
	}
	return i
}

// Dict numbers the texts that come again and again.
type Dict struct {
	index map[string]uint32
	text  []string
	hash  []uint64
}

// NewDict makes an empty one.
func NewDict() *Dict { return &Dict{index: map[string]uint32{}} }

// Code is the number of b.
func (d *Dict) Code(b []byte) uint32 {
	if i, ok := d.index[string(b)]; ok {
		return i
	}
	i, own := uint32(len(d.text)), string(b)
	d.index[own] = i
	d.text = append(d.text, own)
	d.hash = append(d.hash, rowhash.Of(own))
	return i
}

// Text of a code.
func (d *Dict) Text(code uint32) string { return d.text[code] }

// Hash of a code's text, as rowhash.Of has it.
func (d *Dict) Hash(code uint32) uint64 { return d.hash[code] }

// Column holds the values of one column of a Batch in the slice that its kind names; a null's value is zero.
type Column struct {
	Codes   []uint32
	Texts   []string
	Ints    []int64
	Floats  []float32
	Doubles []float64
	Bools   []bool
	// Present tells nulls; of optional columns only.
	Present []bool
}

// Batch is rows, a column at a time. Columns that were not asked for are empty.
type Batch struct {
	Columns []Column
	Rows    int
}

// Reset empties it.
func (b *Batch) Reset() {
	for i := range b.Columns {
		c := &b.Columns[i]
		c.Codes, c.Texts, c.Ints, c.Floats, c.Doubles, c.Bools, c.Present = c.Codes[:0], c.Texts[:0], c.Ints[:0], c.Floats[:0], c.Doubles[:0], c.Bools[:0], c.Present[:0]
	}
	b.Rows = 0
}

// add appends the rows [from, to) of o.
func (b *Batch) add(s *Schema, o *Batch, from, to int) {
	for i := range s.Columns {
		c, oc := &b.Columns[i], &o.Columns[i]
		switch s.Columns[i].Kind {
		case Code:
			c.Codes = append(c.Codes, oc.Codes[from:to]...)
		case Text:
			c.Texts = append(c.Texts, oc.Texts[from:to]...)
		case Int32, Int64:
			c.Ints = append(c.Ints, oc.Ints[from:to]...)
		case Float:
			c.Floats = append(c.Floats, oc.Floats[from:to]...)
		case Double:
			c.Doubles = append(c.Doubles, oc.Doubles[from:to]...)
		case Bool:
			c.Bools = append(c.Bools, oc.Bools[from:to]...)
		}
		if s.Columns[i].Optional {
			c.Present = append(c.Present, oc.Present[from:to]...)
		}
	}
	b.Rows += to - from
}
