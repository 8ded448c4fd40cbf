package columnar

import (
	"bytes"
	"hash/crc32"
	"slices"

	"github.com/parquet-go/parquet-go/bloom"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// pageRows is the most rows of a page of the columns that the file is sorted by: what an engine that reads the column index can skip.
const pageRows = 32 << 10

// pageRows is that for the column. Other columns have larger pages, which compress better: of split floats each byte's plane then has zstd's block for itself. So
// have all in a wide row group, where a page should hold some frames and not a part of one.
func (c *chunk) pageRows() int {
	switch {
	case c.group > c.w.sizes.group:
		return 8 * c.w.sizes.page
	case slices.Contains(c.w.schema.SortedBy, c.column.Name):
		return c.w.sizes.page
	default:
		return 4 * c.w.sizes.page
	}
}

// physical is the type that is stored.
func (k Kind) physical() format.Type {
	switch k {
	case String:
		return format.ByteArray
	case Bool:
		return format.Boolean
	case Int32:
		return format.Int32
	case Float32:
		return format.Float
	case Float64:
		return format.Double
	default:
		return format.Int64
	}
}

// annotate adds the logical type, as parquet-go does, and the older form of it for older readers.
func (k Kind) annotate(e *format.SchemaElement) {
	switch k {
	case String:
		e.ConvertedType = thrift.New(deprecated.UTF8)
		e.LogicalType.Value = &format.StringType{}
	case Int32:
		e.ConvertedType = thrift.New(deprecated.Int32)
		e.LogicalType.Value = &format.IntType{BitWidth: 32, IsSigned: true}
	case Int64:
		e.ConvertedType = thrift.New(deprecated.Int64)
		e.LogicalType.Value = &format.IntType{BitWidth: 64, IsSigned: true}
	case Timestamp:
		e.ConvertedType = thrift.New(deprecated.TimestampMicros)
		e.LogicalType.Value = &format.TimestampType{IsAdjustedToUTC: true, Unit: format.TimeUnit{Value: &format.MicroSeconds{}}}
	}
}

// scratch is memory that the pages of all columns use in turn.
type scratch struct {
	body, packed []byte
	ids          []uint32
	ints         []int64
}

// chunkIndex is what is written about a chunk behind the data.
type chunkIndex struct {
	bloom   bloom.SplitBlockFilter
	columns format.ColumnIndex
	offsets format.OffsetIndex
}

// chunk is a column's part of a row group that is being written.
type chunk struct {
	w      *Writer
	column *Column
	group  int // rows of the row group
	start  int // in the file

	dictionaryAt, dataAt int // in the file; 0: none
	encodings            []format.PageEncodingStats
	uncompressed         int64
	nulls                int64
	rows                 int64
	bounds               bounds // of all pages
	noBounds             bool   // of some page with values there are none
	index                chunkIndex
}

// bounds are the smallest and the largest value, in plain encoding. nil: not known, or there are no values.
type bounds struct{ min, max []byte }

// page is a data page.
type page struct {
	rows, nulls int
	encoding    format.Encoding
	levels      []byte // definition levels, without length
	body        []byte
	bounds
}

// dictionary writes the dictionary page. It comes first.
func (c *chunk) dictionary(n int, plain []byte) {
	c.dictionaryAt = len(c.w.out)
	h := format.PageHeader{
		Type:                 format.DictionaryPage,
		DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: int32(n), Encoding: format.Plain}),
	}
	c.w.scratch.packed = c.w.zstd.EncodeAll(plain, c.w.scratch.packed[:0])
	c.put(&h, nil, c.w.scratch.packed, len(plain))
	c.encodings = append(c.encodings, format.PageEncodingStats{PageType: format.DictionaryPage, Encoding: format.Plain, Count: 1})
}

// data writes a data page. less compares two plain values.
func (c *chunk) data(p page, less func(a, b []byte) bool) {
	if c.dataAt == 0 {
		c.dataAt = len(c.w.out)
	}
	at := len(c.w.out)
	s := &c.w.scratch
	s.packed = c.w.zstd.EncodeAll(p.body, s.packed[:0])
	body, compressed := s.packed, true
	if len(body) >= len(p.body)-len(p.body)/32 {
		body, compressed = p.body, false // not worth a reader's time
	}
	h := format.PageHeader{
		Type: format.DataPageV2,
		DataPageHeaderV2: thrift.New(format.DataPageHeaderV2{
			NumValues: int32(p.rows), NumNulls: int32(p.nulls), NumRows: int32(p.rows), Encoding: p.encoding,
			DefinitionLevelsByteLength: int32(len(p.levels)), IsCompressed: thrift.New(compressed),
		}),
	}
	c.put(&h, p.levels, body, len(p.levels)+len(p.body))
	c.index.offsets.PageLocations = append(c.index.offsets.PageLocations,
		format.PageLocation{Offset: int64(at), CompressedPageSize: int32(len(c.w.out) - at), FirstRowIndex: c.rows})
	c.rows += int64(p.rows)
	c.nulls += int64(p.nulls)
	if n := len(c.encodings); n == 0 || c.encodings[n-1].PageType == format.DictionaryPage {
		c.encodings = append(c.encodings, format.PageEncodingStats{PageType: format.DataPageV2, Encoding: p.encoding})
	}
	c.encodings[len(c.encodings)-1].Count++
	c.note(p, less)
}

// put writes header and body of a page.
func (c *chunk) put(h *format.PageHeader, levels, body []byte, uncompressed int) {
	h.UncompressedPageSize, h.CompressedPageSize = int32(uncompressed), int32(len(levels)+len(body))
	h.CRC = int32(crc32.Update(crc32.ChecksumIEEE(levels), crc32.IEEETable, body))
	n := c.w.marshal(h)
	c.w.out = append(append(c.w.out, levels...), body...)
	c.uncompressed += int64(n + uncompressed)
}

// note keeps a page's statistics.
func (c *chunk) note(p page, less func(a, b []byte) bool) {
	x := &c.index.columns
	x.NullPages = append(x.NullPages, p.nulls == p.rows)
	x.NullCounts = append(x.NullCounts, int64(p.nulls))
	if p.nulls == p.rows {
		x.MinValues, x.MaxValues = append(x.MinValues, []byte{}), append(x.MaxValues, []byte{})
		return
	}
	if p.min == nil || len(p.min) > maxBound || len(p.max) > maxBound {
		c.noBounds = true
		return
	}
	x.MinValues, x.MaxValues = append(x.MinValues, p.min), append(x.MaxValues, p.max)
	if c.bounds.min == nil || less(p.min, c.bounds.min) {
		c.bounds.min = p.min
	}
	if c.bounds.max == nil || less(c.bounds.max, p.max) {
		c.bounds.max = p.max
	}
}

// maxBound is the longest string that statistics repeat, in bytes.
const maxBound = 256

// finish gives the chunk's place in the footer.
func (c *chunk) finish() format.ColumnChunk {
	m := format.ColumnMetaData{
		Type: c.column.Kind.physical(), PathInSchema: []string{c.column.Name}, Codec: format.Zstd, NumValues: int64(c.group),
		TotalUncompressedSize: c.uncompressed, TotalCompressedSize: int64(len(c.w.out) - c.start),
		DataPageOffset: int64(c.dataAt), DictionaryPageOffset: int64(c.dictionaryAt), EncodingStats: c.encodings,
	}
	for _, e := range c.encodings {
		m.Encoding = append(m.Encoding, e.Encoding)
	}
	if c.column.Optional {
		m.Encoding = append(m.Encoding, format.RLE) // of the levels
	}
	m.Statistics.NullCount = c.nulls
	if c.noBounds {
		c.index.columns = format.ColumnIndex{}
	} else {
		m.Statistics.MinValue, m.Statistics.MaxValue = c.bounds.min, c.bounds.max
		c.index.columns.BoundaryOrder = format.Unordered
		if c.w.schema.SortedBy != nil && c.column.Name == c.w.schema.SortedBy[0] {
			c.index.columns.BoundaryOrder = format.Ascending
		}
	}
	return format.ColumnChunk{MetaData: m}
}

func lessBytes(a, b []byte) bool { return bytes.Compare(a, b) < 0 }
