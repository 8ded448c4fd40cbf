package colmerge

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/parquet-go/parquet-go"
)

// File is where a Parquet file can be read.
type File struct {
	Name string // for errors
	Size int64
	// Read gives the bytes [off, off+n).
	Read func(off, n int64) ([]byte, error)
}

// Bytes is a file in memory.
func Bytes(data []byte) File {
	return File{Name: "file", Size: int64(len(data)), Read: func(off, n int64) ([]byte, error) {
		if off < 0 || n < 0 || off > int64(len(data))-n {
			return nil, io.ErrUnexpectedEOF
		}
		return data[off : off+n], nil
	}}
}

const (
	// wholeBytes: files up to that size are read at once.
	wholeBytes = 1 << 20
	// tailBytes of a larger file are read for its footer.
	tailBytes = 256 << 10
	// maxGroup is the most rows that a row group is believed to have.
	maxGroup = 1 << 20
	// maxGroupBytes is the most bytes that a row group is believed to have.
	maxGroupBytes = 512 << 20
)

// window is a part of a file in memory, as an io.ReaderAt of all of it.
type window struct {
	File
	off  int64
	data []byte
}

func (w *window) move(off, n int64) (err error) {
	w.off = off
	w.data, err = w.Read(off, n)
	return err
}

// ReadAt implements io.ReaderAt.
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	var from []byte
	if off >= w.off && off-w.off <= int64(len(w.data)) {
		from = w.data[off-w.off:]
	}
	if len(from) >= len(p) {
		return copy(p, from), nil
	}
	n := min(int64(len(p)), w.Size-off)
	if n <= 0 {
		return 0, io.EOF
	}
	data, err := w.Read(off, n)
	if err != nil {
		return 0, err
	}
	if copy(p, data) < len(p) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// reader gives the row groups of one file.
type reader struct {
	schema *Schema
	dict   *Dict
	want   []bool
	w      *window
	f      *parquet.File
	group  int
}

func openFile(s *Schema, d *Dict, want []bool, file File) (*reader, error) {
	w := &window{File: file}
	n := min(file.Size, tailBytes)
	if file.Size <= wholeBytes {
		n = file.Size
	}
	if n < 12 {
		return nil, fmt.Errorf("decode parquet: %s: %d bytes", file.Name, file.Size)
	}
	if err := w.move(file.Size-n, n); err != nil {
		return nil, err
	}
	f, err := parquet.OpenFile(w, file.Size, parquet.SkipMagicBytes(true), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(32<<10))
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %s: %w", file.Name, err)
	}
	if !parquet.EqualNodes(s.parquet, f.Schema()) {
		return nil, fmt.Errorf("decode parquet: %s: the file's columns are not this table's", file.Name)
	}
	return &reader{schema: s, dict: d, want: want, w: w, f: f}, nil
}

// next reads the next row group into b; false: there is none. It reads the group's bytes at once.
func (r *reader) next(b *Batch) (bool, error) {
	b.Reset()
	groups := r.f.RowGroups()
	for r.group < len(groups) && groups[r.group].NumRows() == 0 {
		r.group++
	}
	if r.group == len(groups) {
		return false, nil
	}
	g := groups[r.group]
	rows := g.NumRows()
	if rows < 0 || rows > maxGroup {
		return false, fmt.Errorf("decode parquet: %s: row group of %d rows", r.w.Name, rows)
	}
	if int64(len(r.w.data)) < r.w.Size {
		if err := r.load(); err != nil {
			return false, err
		}
	}
	r.group++
	for i, spec := range r.schema.Columns {
		if !r.want[i] {
			continue
		}
		if err := r.column(g.ColumnChunks()[i], spec, &b.Columns[i], int(rows)); err != nil {
			return false, fmt.Errorf("decode parquet: %s: column %s: %w", r.w.Name, spec.Name, err)
		}
	}
	b.Rows = int(rows)
	return true, nil
}

// load takes the group's columns that are wanted into the window.
func (r *reader) load() error {
	from, to := int64(math.MaxInt64), int64(0)
	columns := r.f.Metadata().RowGroups[r.group].Columns
	for i := range r.schema.Columns {
		if !r.want[i] {
			continue
		}
		m := &columns[i].MetaData
		begin := m.DataPageOffset
		if m.DictionaryPageOffset > 0 {
			begin = min(begin, m.DictionaryPageOffset)
		}
		from, to = min(from, begin), max(to, begin+m.TotalCompressedSize)
	}
	if from < 0 || to > r.w.Size || from >= to || to-from > maxGroupBytes {
		return fmt.Errorf("decode parquet: %s: row group from %d to %d of %d bytes", r.w.Name, from, to, r.w.Size)
	}
	return r.w.move(from, to-from)
}

func (r *reader) column(chunk parquet.ColumnChunk, spec Spec, c *Column, rows int) (err error) {
	pages := chunk.Pages()
	defer func() { err = errors.Join(err, pages.Close()) }()
	d := decoder{dict: r.dict, spec: spec, column: c}
	n := 0
	for n <= rows {
		p, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		got, err := d.page(p)
		parquet.Release(p)
		if err != nil {
			return err
		}
		n += got
	}
	if n != rows {
		return fmt.Errorf("%d values in a group of %d rows", n, rows)
	}
	return nil
}

// decoder appends the values of one column.
type decoder struct {
	dict   *Dict
	spec   Spec
	column *Column
	from   parquet.Dictionary // that codes and texts are of
	// What the dictionary holds; one of these.
	codes   []uint32
	texts   []string
	ints    []int64
	floats  []float32
	doubles []float64
}

var errKind = errors.New("values of another kind")

// page appends the values of p.
func (d *decoder) page(p parquet.Page) (int, error) {
	c, n := d.column, int(p.NumValues())
	var levels []byte
	if d.spec.Optional {
		if levels = p.DefinitionLevels(); len(levels) != n {
			return 0, fmt.Errorf("%d definition levels of %d values", len(levels), n)
		}
		for _, l := range levels {
			c.Present = append(c.Present, l != 0)
		}
	}
	data, dict := p.Data(), p.Dictionary()
	switch {
	case d.spec.Kind == Code && dict != nil:
		d.learn(dict)
		return n, spread(&c.Codes, levels, n, pick(data.Int32(), d.codes))
	case d.spec.Kind == Text && dict != nil:
		d.learn(dict)
		return n, spread(&c.Texts, levels, n, pick(data.Int32(), d.texts))
	case d.spec.Kind == Code:
		values, offsets := data.ByteArray()
		return n, spread(&c.Codes, levels, n, each(len(offsets)-1, func(i int) uint32 { return d.dict.Code(values[offsets[i]:offsets[i+1]]) }))
	case d.spec.Kind == Text:
		values, offsets := data.ByteArray()
		return n, spread(&c.Texts, levels, n, each(len(offsets)-1, func(i int) string { return string(values[offsets[i]:offsets[i+1]]) }))
	case d.spec.Kind == Bool && dict == nil:
		bits := data.Boolean()
		if len(bits)*8 < n || levels != nil {
			return 0, errKind
		}
		for i := range n {
			c.Bools = append(c.Bools, bits[i/8]>>(i%8)&1 == 1)
		}
		return n, nil
	case dict != nil && (d.spec.Kind == Int32 || d.spec.Kind == Int64):
		d.learn(dict)
		return n, spread(&c.Ints, levels, n, pick(data.Int32(), d.ints))
	case dict != nil && d.spec.Kind == Float:
		d.learn(dict)
		return n, spread(&c.Floats, levels, n, pick(data.Int32(), d.floats))
	case dict != nil && d.spec.Kind == Double:
		d.learn(dict)
		return n, spread(&c.Doubles, levels, n, pick(data.Int32(), d.doubles))
	case dict != nil:
		return 0, errKind
	case d.spec.Kind == Int64:
		return n, spread(&c.Ints, levels, n, data.Int64())
	case d.spec.Kind == Int32:
		values := data.Int32()
		return n, spread(&c.Ints, levels, n, each(len(values), func(i int) int64 { return int64(values[i]) }))
	case d.spec.Kind == Float:
		return n, spread(&c.Floats, levels, n, data.Float())
	default:
		return n, spread(&c.Doubles, levels, n, data.Double())
	}
}

// learn reads a dictionary once.
func (d *decoder) learn(dict parquet.Dictionary) {
	if dict == d.from {
		return
	}
	d.from, d.codes, d.texts, d.ints = dict, d.codes[:0], d.texts[:0], d.ints[:0]
	values := dict.Page().Data()
	switch d.spec.Kind {
	case Int64:
		d.ints = append(d.ints, values.Int64()...)
	case Int32:
		for _, v := range values.Int32() {
			d.ints = append(d.ints, int64(v))
		}
	case Float:
		d.floats = values.Float()
	case Double:
		d.doubles = values.Double()
	default:
		for i := range dict.Len() {
			b := dict.Index(int32(i)).ByteArray()
			if d.spec.Kind == Code {
				d.codes = append(d.codes, d.dict.Code(b))
			} else {
				d.texts = append(d.texts, string(b))
			}
		}
	}
}

func pick[T any](index []int32, from []T) []T {
	return each(len(index), func(i int) T { return from[index[i]] })
}

func each[T any](n int, value func(int) T) []T {
	if n < 0 {
		return nil
	}
	out := make([]T, n)
	for i := range out {
		out[i] = value(i)
	}
	return out
}

// spread appends n values, of which a null's level is 0 and dense has none.
func spread[T any](to *[]T, levels []byte, n int, dense []T) error {
	if levels == nil {
		if len(dense) != n {
			return errKind
		}
		*to = append(*to, dense...)
		return nil
	}
	var zero T
	for _, l := range levels {
		if l == 0 {
			*to = append(*to, zero)
			continue
		}
		if len(dense) == 0 {
			return errKind
		}
		*to = append(*to, dense[0])
		dense = dense[1:]
	}
	return nil
}
