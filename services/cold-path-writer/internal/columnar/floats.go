package columnar

import (
	"encoding/binary"
	"math"

	"github.com/parquet-go/parquet-go/format"
)

// Floats is a column of floats, with nulls if the schema says so. NaN is a value.
type Floats[T float32 | float64] struct {
	n       int
	values  []T   // those that are there
	present []run // 1: there, 0: null
	dict    valueDictionary[T]
}

// Append adds a row for each of vs.
func (c *Floats[T]) Append(vs []T) {
	c.values = append(c.values, vs...)
	c.level(1, len(vs))
}

// Null adds n rows without a value.
func (c *Floats[T]) Null(n int) { c.level(0, n) }

func (c *Floats[T]) level(v uint32, n int) {
	if n <= 0 {
		return
	}
	c.n += n
	if last := len(c.present) - 1; last >= 0 && c.present[last].value == v {
		c.present[last].n += uint32(n)
		return
	}
	c.present = append(c.present, run{v, uint32(n)})
}

func (c *Floats[T]) rows() int { return c.n }

func (c *Floats[T]) reset() { c.n, c.values, c.present = 0, c.values[:0], c.present[:0] }

func (c *Floats[T]) flush(k *chunk) {
	defer c.reset()
	s := &k.w.scratch
	s.ids = s.ids[:0]
	dictionary := c.dict.take(c.values, s) && c.dict.smaller(c.values, k.w)
	if dictionary {
		c.dict.rank(s)
		s.body = s.body[:0]
		for _, v := range c.dict.values {
			s.body = append(s.body, plainFloat(v)...)
		}
		k.dictionary(len(c.dict.values), s.body)
	}
	at := 0
	for p := range pagesOf(c.present, k.pageRows()) {
		n := 0
		for _, r := range p.runs {
			n += int(r.value * r.n)
		}
		out := page{rows: p.rows, nulls: p.rows - n, bounds: boundsOf(c.values[at : at+n])}
		if k.column.Optional {
			out.levels = appendRuns(nil, p.runs, 1)
		} else if out.nulls > 0 {
			k.w.err = errNull
			return
		}
		if dictionary {
			width := c.dict.width()
			s.body = appendPacked(append(s.body[:0], byte(width)), s.ids[at:at+n], width)
			out.encoding = format.RLEDictionary
		} else {
			s.body = appendSplit(s.body[:0], c.values[at:at+n])
			out.encoding = format.ByteStreamSplit
		}
		out.body = s.body
		k.data(out, lessFloat[T])
		at += n
	}
}

// appendSplit appends BYTE_STREAM_SPLIT: the first bytes of all values, then the second ones, and so on.
func appendSplit[T float32 | float64](dst []byte, values []T) []byte {
	n := len(values)
	at := len(dst)
	switch vs := any(values).(type) {
	case []float32:
		dst = append(dst, make([]byte, 4*n)...)
		a, b, c, d := dst[at:at+n], dst[at+n:at+2*n], dst[at+2*n:at+3*n], dst[at+3*n:at+4*n]
		for i, v := range vs {
			x := math.Float32bits(v)
			a[i], b[i], c[i], d[i] = byte(x), byte(x>>8), byte(x>>16), byte(x>>24)
		}
	case []float64:
		dst = append(dst, make([]byte, 8*n)...)
		for i, v := range vs {
			x := math.Float64bits(v)
			for j := range 8 {
				dst[at+j*n+i] = byte(x >> (8 * j))
			}
		}
	}
	return dst
}

// boundsOf leaves NaN out, and takes both zeros for both: readers do not order them alike.
func boundsOf[T float32 | float64](values []T) bounds {
	least, most := T(math.Inf(1)), T(math.Inf(-1))
	found := false
	for _, v := range values {
		if v < least {
			least = v
		}
		if v > most {
			most = v
		}
		found = found || v == v
	}
	if !found {
		return bounds{}
	}
	if least == 0 {
		least = T(math.Copysign(0, -1))
	}
	if most == 0 {
		most = 0
	}
	return bounds{plainFloat(least), plainFloat(most)}
}

func plainFloat[T float32 | float64](v T) []byte {
	switch v := any(v).(type) {
	case float32:
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))
	case float64:
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))
	}
	return nil
}

func lessFloat[T float32 | float64](a, b []byte) bool {
	if len(a) == 4 {
		return math.Float32frombits(binary.LittleEndian.Uint32(a)) < math.Float32frombits(binary.LittleEndian.Uint32(b))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(a)) < math.Float64frombits(binary.LittleEndian.Uint64(b))
}
