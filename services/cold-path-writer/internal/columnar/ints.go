package columnar

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"

	"github.com/parquet-go/parquet-go/format"
)

// Ints is a column of integers, times or flags.
type Ints struct {
	sequence[int64]
	kind Kind
	few  fewInts
}

func (c *Ints) reset() { c.forget() }

func (c *Ints) flush(k *chunk) {
	defer c.reset()
	if c.kind == Int32 {
		c.narrow()
	}
	if c.kind != Bool && !c.byRow && c.few.take(c.runs) {
		c.dictionary(k)
		return
	}
	s := &k.w.scratch
	for part := range c.pages(k) {
		if c.kind == Bool {
			c.bools(k, part)
			continue
		}
		s.body = appendDelta(s.body[:0], part, c.kind == Int32)
		least, most := part[0], part[0]
		for _, v := range part {
			least, most = min(least, v), max(most, v)
		}
		k.data(page{rows: len(part), encoding: format.DeltaBinaryPacked, body: s.body, bounds: bounds{c.plain(least), c.plain(most)}}, c.less)
	}
}

// pages are the rows of each page. They are valid until the next.
func (c *Ints) pages(k *chunk) iter.Seq[[]int64] {
	s, pageRows := &k.w.scratch, k.pageRows()
	return func(yield func([]int64) bool) {
		if c.byRow {
			for part := range slices.Chunk(c.flat, pageRows) {
				if !yield(part) {
					return
				}
			}
			return
		}
		s.ints = s.ints[:0]
		for _, r := range c.runs {
			for r.n > 0 {
				take := min(r.n, uint32(pageRows-len(s.ints)))
				r.n -= take
				for range take {
					s.ints = append(s.ints, r.value)
				}
				if len(s.ints) == pageRows {
					if !yield(s.ints) {
						return
					}
					s.ints = s.ints[:0]
				}
			}
		}
		if len(s.ints) > 0 {
			yield(s.ints)
		}
	}
}

// narrow keeps the low 32 bits.
func (c *Ints) narrow() {
	for i := range c.runs {
		c.runs[i].value = int64(int32(c.runs[i].value))
	}
	for i := range c.flat {
		c.flat[i] = int64(int32(c.flat[i]))
	}
}

func (c *Ints) plain(v int64) []byte {
	switch c.kind {
	case Bool:
		return []byte{byte(v)}
	case Int32:
		return binary.LittleEndian.AppendUint32(nil, uint32(v))
	default:
		return binary.LittleEndian.AppendUint64(nil, uint64(v))
	}
}

func (c *Ints) less(a, b []byte) bool {
	switch c.kind {
	case Bool:
		return a[0] < b[0]
	case Int32:
		return int32(binary.LittleEndian.Uint32(a)) < int32(binary.LittleEndian.Uint32(b))
	default:
		return int64(binary.LittleEndian.Uint64(a)) < int64(binary.LittleEndian.Uint64(b))
	}
}

// dictionary writes few distinct values as a dictionary.
func (c *Ints) dictionary(k *chunk) {
	s := &k.w.scratch
	s.body = s.body[:0]
	for _, v := range c.few.values {
		s.body = append(s.body, c.plain(v)...)
	}
	k.dictionary(len(c.few.values), s.body)
	width := uint(bits.Len(uint(len(c.few.values) - 1)))
	for p := range pagesOf(c.few.runs, k.pageRows()) {
		least, most := c.few.values[p.runs[0].value], c.few.values[p.runs[0].value]
		for _, r := range p.runs {
			v := c.few.values[r.value]
			least, most = min(least, v), max(most, v)
		}
		s.body = appendRuns(append(s.body[:0], byte(width)), p.runs, width)
		k.data(page{rows: p.rows, encoding: format.RLEDictionary, body: s.body, bounds: bounds{c.plain(least), c.plain(most)}}, c.less)
	}
}

// bools writes bits.
func (c *Ints) bools(k *chunk, part []int64) {
	s := &k.w.scratch
	s.body = append(s.body[:0], make([]byte, (len(part)+7)/8)...)
	ones := 0
	for i, v := range part {
		if v != 0 {
			s.body[i/8] |= 1 << (i % 8)
			ones++
		}
	}
	b := bounds{[]byte{0}, []byte{1}}
	if ones == 0 {
		b.max = b.min
	} else if ones == len(part) {
		b.min = b.max
	}
	k.data(page{rows: len(part), encoding: format.Plain, body: s.body, bounds: b}, c.less)
}

// maxFew distinct integers make a dictionary; more become differences.
const maxFew = 256

// fewInts numbers distinct values.
type fewInts struct {
	values []int64
	runs   []run
	table  [4 * maxFew]uint16 // number + 1
}

// take numbers the values of runs; false: there are too many.
func (f *fewInts) take(runs []runOf[int64]) bool {
	f.values, f.runs = f.values[:0], f.runs[:0]
	clear(f.table[:])
	for _, r := range runs {
		slot := uint64(r.value) * 0x9e3779b97f4a7c15 >> 54
		for f.table[slot] != 0 && f.values[f.table[slot]-1] != r.value {
			slot = (slot + 1) % uint64(len(f.table))
		}
		if f.table[slot] == 0 {
			if len(f.values) == maxFew {
				return false
			}
			f.values = append(f.values, r.value)
			f.table[slot] = uint16(len(f.values))
		}
		f.runs = append(f.runs, run{uint32(f.table[slot] - 1), r.n})
	}
	return true
}
