package parquetfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
)

// maxGroup bounds the memory that a row group is believed to need.
const maxGroup = 16 << 20

// Group is one row group of a file that is read by columns. Its methods give a whole column each; what
// they return is valid until the same method is called again.
type Group struct {
	group   parquet.RowGroup
	columns map[string]int
	rows    int
	ints    map[string][]int64
	hashes  map[string][]uint64
	floats  []float32
	present []bool
}

// ReadGroups hands each row group of a file with the columns of T to each. A damaged file gives an error, never a panic.
func ReadGroups[T any](data []byte, each func(*Group) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode parquet: damaged file: %v", r)
		}
	}()
	f, err := open[T](data)
	if err != nil {
		return err
	}
	g := &Group{columns: map[string]int{}, ints: map[string][]int64{}, hashes: map[string][]uint64{}}
	for i, path := range f.Schema().Columns() {
		g.columns[path[0]] = i
	}
	for _, group := range f.RowGroups() {
		n := group.NumRows()
		if n < 0 || n > maxGroup {
			return fmt.Errorf("decode parquet: row group of %d rows", n)
		}
		g.group, g.rows = group, int(n)
		if err := each(g); err != nil {
			return err
		}
	}
	return nil
}

// open opens a file and checks that its columns are those of T.
func open[T any](data []byte) (*parquet.File, error) {
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	if !parquet.EqualNodes(parquet.SchemaOf(new(T)), f.Schema()) {
		return nil, errors.New("decode parquet: the file's columns are not this table's")
	}
	return f, nil
}

// Rows is the number of rows.
func (g *Group) Rows() int { return g.rows }

// pages hands the pages of a column to each and checks that they hold as many values as there are rows.
func (g *Group) pages(column string, each func(parquet.Page) (values int)) (err error) {
	pages := g.group.ColumnChunks()[g.columns[column]].Pages()
	defer func() { err = errors.Join(err, pages.Close()) }()
	n := 0
	for {
		p, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("decode parquet: column %s: %w", column, err)
		}
		n += each(p)
		parquet.Release(p)
		if n > g.rows {
			break
		}
	}
	if n != g.rows {
		return fmt.Errorf("decode parquet: column %s has %d values in a group of %d rows", column, n, g.rows)
	}
	return nil
}

// Ints is a column of 32 or 64 bit integers.
func (g *Group) Ints(column string) ([]int64, error) {
	out := slices.Grow(g.ints[column][:0], g.rows)
	var known []int64
	var from parquet.Dictionary
	err := g.pages(column, func(p parquet.Page) int {
		before := len(out)
		if dict := p.Dictionary(); dict != nil {
			if dict != from {
				known, from = appendInts(known[:0], dict.Page()), dict
			}
			data := p.Data()
			for _, i := range data.Int32() {
				out = append(out, known[i])
			}
		} else {
			out = appendInts(out, p)
		}
		return len(out) - before
	})
	g.ints[column] = out
	return out, err
}

// appendInts appends the values of a page without a dictionary.
func appendInts(dst []int64, p parquet.Page) []int64 {
	data := p.Data()
	if p.Type().Kind() == parquet.Int64 {
		return append(dst, data.Int64()...)
	}
	for _, v := range data.Int32() {
		dst = append(dst, int64(v))
	}
	return dst
}

// Hashes is a column of strings, each as of makes it a number; of is called once per distinct string where the column has a dictionary.
func (g *Group) Hashes(column string, of func([]byte) uint64) ([]uint64, error) {
	out := slices.Grow(g.hashes[column][:0], g.rows)
	var known []uint64
	var from parquet.Dictionary
	err := g.pages(column, func(p parquet.Page) int {
		before := len(out)
		data := p.Data()
		if dict := p.Dictionary(); dict != nil {
			if dict != from {
				known, from = known[:0], dict
				for i := range dict.Len() {
					known = append(known, of(dict.Index(int32(i)).ByteArray()))
				}
			}
			for _, i := range data.Int32() {
				out = append(out, known[i])
			}
			return len(out) - before
		}
		values, offsets := data.ByteArray()
		for i := range len(offsets) - 1 {
			out = append(out, of(values[offsets[i]:offsets[i+1]]))
		}
		return len(out) - before
	})
	g.hashes[column] = out
	return out, err
}

// Bools is a column of flags.
func (g *Group) Bools(column string) ([]bool, error) {
	out := make([]bool, 0, g.rows)
	err := g.pages(column, func(p parquet.Page) int {
		data := p.Data()
		bits := data.Boolean()
		n := int(p.NumValues())
		for i := range n {
			out = append(out, bits[i/8]>>(i%8)&1 == 1)
		}
		return n
	})
	return out, err
}

// Floats is an optional column: the values, and which of them are there.
func (g *Group) Floats(column string) (values []float32, present []bool, err error) {
	g.floats, g.present = slices.Grow(g.floats[:0], g.rows), slices.Grow(g.present[:0], g.rows)
	var known []float32
	var from parquet.Dictionary
	err = g.pages(column, func(p parquet.Page) int {
		typed := p.Data()
		levels := p.DefinitionLevels()
		if dict := p.Dictionary(); dict != nil {
			if dict != from {
				values := dict.Page().Data()
				known, from = values.Float(), dict
			}
			numbers := typed.Int32()
			for _, l := range levels {
				if l == 0 {
					g.floats, g.present = append(g.floats, 0), append(g.present, false)
					continue
				}
				g.floats, g.present = append(g.floats, known[numbers[0]]), append(g.present, true)
				numbers = numbers[1:]
			}
			return len(levels)
		}
		data := typed.Float()
		for _, l := range levels {
			if l == 0 {
				g.floats, g.present = append(g.floats, 0), append(g.present, false)
				continue
			}
			g.floats, g.present = append(g.floats, data[0]), append(g.present, true)
			data = data[1:]
		}
		return len(levels)
	})
	return g.floats, g.present, err
}
