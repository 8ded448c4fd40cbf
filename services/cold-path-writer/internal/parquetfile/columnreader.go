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
// they return is valid until the same method is called again for the same column.
type Group struct {
	group   parquet.RowGroup
	columns map[string]int
	rows    int
	ints    map[string][]Run[int64]
	hashes  map[string][]Run[uint64]
	each    []uint64
	bools   []Run[bool]
	present []Run[bool]
	floats  []float32
}

// Run is rows of the same value, up to row End of the row group.
type Run[T comparable] struct {
	Value T
	End   int
}

// extend adds n rows of v to runs, that end at row at now.
func extend[T comparable](runs []Run[T], v T, at, n int) []Run[T] {
	if last := len(runs) - 1; last >= 0 && runs[last].Value == v {
		runs[last].End = at + n
		return runs
	}
	return append(runs, Run[T]{v, at + n})
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
	g := &Group{columns: map[string]int{}, ints: map[string][]Run[int64]{}, hashes: map[string][]Run[uint64]{}}
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

// numbers calls each for every run of dictionary numbers.
func numbers(page parquet.Page, each func(number int32, n int)) (rows int) {
	data := page.Data()
	ids := data.Int32()
	for at := 0; at < len(ids); {
		end := at + 1
		for end < len(ids) && ids[end] == ids[at] {
			end++
		}
		each(ids[at], end-at)
		at = end
	}
	return len(ids)
}

// Ints is a column of 32 or 64 bit integers.
func (g *Group) Ints(column string) ([]Run[int64], error) {
	out := g.ints[column][:0]
	var known, plain []int64
	var from parquet.Dictionary
	row := 0
	err := g.pages(column, func(p parquet.Page) int {
		begin := row
		if dict := p.Dictionary(); dict != nil {
			if dict != from {
				known, from = appendInts(known[:0], dict.Page()), dict
			}
			return numbers(p, func(i int32, n int) {
				out = extend(out, known[i], row, n)
				row += n
			})
		}
		plain = appendInts(plain[:0], p)
		for at := 0; at < len(plain); {
			end := at + 1
			for end < len(plain) && plain[end] == plain[at] {
				end++
			}
			out = extend(out, plain[at], row, end-at)
			row, at = row+end-at, end
		}
		return row - begin
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

// dictionaryHashes makes numbers of a dictionary's strings.
func dictionaryHashes(dst []uint64, dict parquet.Dictionary, of func([]byte) uint64) []uint64 {
	for i := range dict.Len() {
		dst = append(dst, of(dict.Index(int32(i)).ByteArray()))
	}
	return dst
}

// Hashes is a column of strings, each as of makes it a number; of is called once per distinct string where the column has a dictionary.
func (g *Group) Hashes(column string, of func([]byte) uint64) ([]Run[uint64], error) {
	out := g.hashes[column][:0]
	var known []uint64
	var from parquet.Dictionary
	row := 0
	err := g.pages(column, func(p parquet.Page) int {
		if dict := p.Dictionary(); dict != nil {
			if dict != from {
				known, from = dictionaryHashes(known[:0], dict, of), dict
			}
			return numbers(p, func(i int32, n int) {
				out = extend(out, known[i], row, n)
				row += n
			})
		}
		data := p.Data()
		values, offsets := data.ByteArray()
		for i := range len(offsets) - 1 {
			out = extend(out, of(values[offsets[i]:offsets[i+1]]), row, 1)
			row++
		}
		return max(0, len(offsets)-1)
	})
	g.hashes[column] = out
	return out, err
}

// HashOfEach is Hashes with a number for each row, for one column whose values do not come in runs.
func (g *Group) HashOfEach(column string, of func([]byte) uint64) ([]uint64, error) {
	out := slices.Grow(g.each[:0], g.rows)
	var known []uint64
	var from parquet.Dictionary
	err := g.pages(column, func(p parquet.Page) int {
		before := len(out)
		data := p.Data()
		if dict := p.Dictionary(); dict != nil {
			if dict != from {
				known, from = dictionaryHashes(known[:0], dict, of), dict
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
	g.each = out
	return out, err
}

// Bools is a column of flags; only one can be held at a time.
func (g *Group) Bools(column string) ([]Run[bool], error) {
	g.bools = g.bools[:0]
	row := 0
	err := g.pages(column, func(p parquet.Page) int {
		data := p.Data()
		bits := data.Boolean()
		n := int(p.NumValues())
		for i := 0; i < n; {
			if b := bits[i/8]; i%8 == 0 && i+8 <= n && (b == 0 || b == 0xff) {
				g.bools = extend(g.bools, b != 0, row+i, 8)
				i += 8
				continue
			}
			g.bools = extend(g.bools, bits[i/8]>>(i%8)&1 == 1, row+i, 1)
			i++
		}
		row += n
		return n
	})
	return g.bools, err
}

// Floats is an optional column: which of its values are there, and those that are; only one can be held at a time.
func (g *Group) Floats(column string) (values []float32, present []Run[bool], err error) {
	g.floats, g.present = slices.Grow(g.floats[:0], g.rows), g.present[:0]
	var known []float32
	var from parquet.Dictionary
	row := 0
	err = g.pages(column, func(p parquet.Page) int {
		levels := p.DefinitionLevels()
		for at := 0; at < len(levels); {
			end := at + 1
			for end < len(levels) && levels[end] == levels[at] {
				end++
			}
			g.present = extend(g.present, levels[at] != 0, row+at, end-at)
			at = end
		}
		row += len(levels)
		data := p.Data()
		if dict := p.Dictionary(); dict != nil {
			if dict != from {
				values := dict.Page().Data()
				known, from = values.Float(), dict
			}
			for _, i := range data.Int32() {
				g.floats = append(g.floats, known[i])
			}
		} else {
			g.floats = append(g.floats, data.Float()...)
		}
		return len(levels)
	})
	there, last := 0, 0
	for _, r := range g.present {
		if r.Value {
			there += r.End - last
		}
		last = r.End
	}
	if err == nil && there != len(g.floats) {
		err = fmt.Errorf("decode parquet: column %s has %d values, its levels tell of %d", column, len(g.floats), there)
	}
	return g.floats, g.present, err
}
