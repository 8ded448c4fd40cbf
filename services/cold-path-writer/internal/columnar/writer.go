package columnar

import (
	"fmt"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/bloom"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// column is what the Writer knows of each column.
type column interface {
	// rows since the last flush.
	rows() int
	// flush encodes them into pages and forgets them.
	flush(*chunk)
	// reset forgets everything.
	reset()
}

// sizes are the constants of the same names; tests take smaller ones.
type sizes struct{ group, wide, page, dictionary int }

// Writer makes one file after another. Not safe for concurrent use. It holds one row group's columns (about 12 bytes per value that does
// not come in runs) and the encoded file.
type Writer struct {
	schema  Schema
	index   map[string]int
	columns []column
	zstd    *zstd.Encoder
	scratch scratch

	out    []byte
	err    error
	rows   int // of the open row group
	full   int // rows that end it
	sizes  sizes
	total  int64
	groups []format.RowGroup
	// Of all chunks, in order; they go between the data and the footer.
	indexes []chunkIndex
}

// NewWriter panics if the schema is not one that can be written: schemas are constants.
func NewWriter(schema Schema) *Writer {
	if err := schema.validate(); err != nil {
		panic(err)
	}
	// EncodeAll gives the same bytes whatever it encoded before.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(1<<20), zstd.WithZeroFrames(true))
	if err != nil {
		panic(fmt.Errorf("columnar: zstd: %w", err)) // only wrong options are refused
	}
	w := &Writer{schema: schema, index: map[string]int{}, zstd: enc, sizes: sizes{RowGroup, WideRowGroup, pageRows, wideDictionary}}
	for i, c := range schema.Columns {
		w.index[c.Name] = i
		switch c.Kind {
		case String:
			w.columns = append(w.columns, newStrings())
		case Float32:
			w.columns = append(w.columns, &Floats[float32]{})
		case Float64:
			w.columns = append(w.columns, &Floats[float64]{})
		default:
			w.columns = append(w.columns, &Ints{kind: c.Kind})
		}
	}
	w.begin()
	return w
}

const magic = "PAR1"

func (w *Writer) begin() {
	w.full = w.sizes.group
	w.out = append(w.out, magic...)
}

// Strings is the column of that name; it panics when there is none of that kind, as do Ints, Floats and Doubles.
func (w *Writer) Strings(name string) *Strings { return w.columns[w.at(name)].(*Strings) }

// Ints is a column of integers, times or flags.
func (w *Writer) Ints(name string) *Ints { return w.columns[w.at(name)].(*Ints) }

// Floats is a column of 32 bit floats.
func (w *Writer) Floats(name string) *Floats[float32] {
	return w.columns[w.at(name)].(*Floats[float32])
}

// Doubles is a column of 64 bit floats.
func (w *Writer) Doubles(name string) *Floats[float64] {
	return w.columns[w.at(name)].(*Floats[float64])
}

func (w *Writer) at(name string) int {
	i, ok := w.index[name]
	if !ok {
		panic("columnar: no column " + name)
	}
	return i
}

// Room is how many rows may be added before the next Add, 1 at least.
func (w *Writer) Room() int { return w.full - w.rows }

// Rows is how many have been added.
func (w *Writer) Rows() int64 { return w.total }

// Add tells that n rows stand in each column now that did not before, at most Room. A full row group is encoded. Mistakes are reported by Close.
func (w *Writer) Add(n int) {
	w.rows += n
	w.total += int64(n)
	if w.rows < w.full {
		return
	}
	if w.rows < w.sizes.wide && w.wide() {
		w.full = w.sizes.wide
		return
	}
	w.flush()
}

// wide tells whether a dictionary of the open row group is so large that it should serve more rows.
func (w *Writer) wide() bool {
	for _, c := range w.columns {
		if s, ok := c.(*Strings); ok && s.distinct(w.sizes.dictionary) > w.sizes.dictionary {
			return true
		}
	}
	return false
}

func (w *Writer) flush() {
	if w.rows == 0 || w.err != nil {
		return
	}
	g := format.RowGroup{NumRows: int64(w.rows), FileOffset: int64(len(w.out)), Ordinal: int16(len(w.groups)), SortingColumns: w.sorting()}
	for i, c := range w.columns {
		if c.rows() != w.rows {
			w.err = fmt.Errorf("%w: %s has %d rows, want %d", errRows, w.schema.Columns[i].Name, c.rows(), w.rows)
			return
		}
		p := chunk{w: w, column: &w.schema.Columns[i], group: w.rows, start: len(w.out)}
		c.flush(&p)
		g.Columns = append(g.Columns, p.finish())
		g.TotalByteSize += p.uncompressed
		g.TotalCompressedSize += int64(len(w.out) - p.start)
		w.indexes = append(w.indexes, p.index)
	}
	w.groups = append(w.groups, g)
	w.rows, w.full = 0, w.sizes.group
}

func (w *Writer) sorting() []format.SortingColumn {
	out := make([]format.SortingColumn, len(w.schema.SortedBy))
	for i, name := range w.schema.SortedBy {
		out[i].ColumnIdx = int32(w.at(name))
	}
	return out
}

// Close ends the file, returns it and makes the Writer ready for the next one. The file is the caller's.
func (w *Writer) Close(metadata map[string]string) ([]byte, error) {
	defer w.Reset()
	w.flush()
	if w.err == nil {
		w.writeIndexes()
	}
	if w.err == nil {
		w.writeFooter(metadata)
	}
	return w.out, w.err
}

// Reset drops what has been added, and begins a new file.
func (w *Writer) Reset() {
	for _, c := range w.columns {
		c.reset()
	}
	w.out = make([]byte, 0, cap(w.out)) // the next file is about as large
	w.err, w.rows, w.total = nil, 0, 0
	w.groups, w.indexes = nil, nil
	w.begin()
}

// marshal appends a thrift structure to the file and returns its length.
func (w *Writer) marshal(v any) int {
	b, err := thrift.Marshal(new(thrift.CompactProtocol), v)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("columnar: %w", err)
	}
	w.out = append(w.out, b...)
	return len(b)
}

// writeIndexes puts bloom filters, column indexes and offset indexes behind the data.
func (w *Writer) writeIndexes() {
	each := func(do func(*chunkIndex, *format.ColumnChunk)) {
		n := len(w.columns)
		for i := range w.indexes {
			do(&w.indexes[i], &w.groups[i/n].Columns[i%n])
		}
	}
	each(func(x *chunkIndex, c *format.ColumnChunk) {
		if x.bloom == nil {
			return
		}
		at := len(w.out)
		header := format.BloomFilterHeader{
			NumBytes: int32(len(x.bloom.Bytes())), Algorithm: format.BloomFilterAlgorithm{Value: &format.SplitBlockAlgorithm{}},
			Hash: format.BloomFilterHash{Value: &format.XxHash{}}, Compression: format.BloomFilterCompression{Value: &format.BloomFilterUncompressed{}},
		}
		w.marshal(&header)
		w.out = append(w.out, x.bloom.Bytes()...)
		c.MetaData.BloomFilterOffset, c.MetaData.BloomFilterLength = int64(at), int32(len(w.out)-at)
	})
	each(func(x *chunkIndex, c *format.ColumnChunk) {
		if x.columns.MinValues == nil {
			return
		}
		c.ColumnIndexOffset = int64(len(w.out))
		c.ColumnIndexLength = int32(w.marshal(&x.columns))
	})
	each(func(x *chunkIndex, c *format.ColumnChunk) {
		c.OffsetIndexOffset = int64(len(w.out))
		c.OffsetIndexLength = int32(w.marshal(&x.offsets))
	})
}

func (w *Writer) writeFooter(metadata map[string]string) {
	meta := format.FileMetaData{Version: 2, Schema: w.elements(), NumRows: w.total, RowGroups: w.groups, CreatedBy: createdBy}
	if meta.RowGroups == nil {
		meta.RowGroups = []format.RowGroup{}
	}
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		meta.KeyValueMetadata = append(meta.KeyValueMetadata, format.KeyValue{Key: metaPrefix + k, Value: metadata[k]})
	}
	for range w.columns {
		meta.ColumnOrders = append(meta.ColumnOrders, format.ColumnOrder{Value: &format.TypeDefinedOrder{}})
	}
	n := w.marshal(&meta)
	w.out = append(w.out, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	w.out = append(w.out, magic...)
}

// elements is the schema as the footer has it.
func (w *Writer) elements() []format.SchemaElement {
	out := []format.SchemaElement{{Name: "Row", NumChildren: thrift.New(int32(len(w.columns)))}}
	for _, c := range w.schema.Columns {
		e := format.SchemaElement{Name: c.Name, RepetitionType: thrift.New(format.Required), Type: thrift.New(c.Kind.physical())}
		if c.Optional {
			e.RepetitionType = thrift.New(format.Optional)
		}
		c.Kind.annotate(&e)
		out = append(out, e)
	}
	return out
}

// bloomFilter of the distinct values of a row group.
func bloomFilter(n int) bloom.SplitBlockFilter {
	return make(bloom.SplitBlockFilter, bloom.NumSplitBlocksOf(int64(n), bloomBits))
}

// bloomBits per distinct value: about 1 % false positives.
const bloomBits = 10
