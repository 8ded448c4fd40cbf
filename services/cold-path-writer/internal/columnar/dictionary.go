package columnar

import (
	"math"
	"math/bits"
	"slices"
)

const (
	// maxDictionary is the most distinct values that are numbered.
	maxDictionary = 1 << 15
	// sampleRows are looked at to tell which encoding is smaller.
	sampleRows = 4096
	// dictionaryBytes is what zstd leaves of a distinct float32, about: its last two bytes, and half of the rest.
	dictionaryBytes = 3
)

// valueDictionary numbers the distinct values of a row group.
type valueDictionary[T float32 | float64] struct {
	table  []valueSlot
	shift  uint
	values []T // by number

	order   []uint64
	numbers []uint32
	sorted  []T
}

type valueSlot struct {
	bits   uint64
	number uint32 // + 1
}

const hashFactor = 0x9e3779b97f4a7c15 // 2^64 / golden ratio

func bitsOf[T float32 | float64](v T) uint64 {
	switch v := any(v).(type) {
	case float32:
		return uint64(math.Float32bits(v))
	case float64:
		return math.Float64bits(v)
	}
	return 0
}

// take numbers values into s.ids; false: there are too many, or none.
func (d *valueDictionary[T]) take(values []T, s *scratch) bool {
	d.values = d.values[:0]
	if d.table == nil {
		d.grow(1 << 12)
	}
	clear(d.table)
	ids := s.ids[:0]
	for i, v := range values {
		b := bitsOf(v)
		slot := b * hashFactor >> d.shift
		for d.table[slot].number != 0 && d.table[slot].bits != b {
			slot = (slot + 1) & uint64(len(d.table)-1)
		}
		if d.table[slot].number == 0 {
			if len(d.values) == maxDictionary || i == 2*sampleRows && len(d.values) > sampleRows {
				return false
			}
			d.values = append(d.values, v)
			d.table[slot] = valueSlot{b, uint32(len(d.values))}
			if len(d.values)*2 > len(d.table) {
				ids = append(ids, uint32(len(d.values)-1))
				d.grow(2 * len(d.table))
				continue
			}
		}
		ids = append(ids, d.table[slot].number-1)
	}
	s.ids = ids
	return len(ids) > 0
}

// grow gives the table n slots, a power of two.
func (d *valueDictionary[T]) grow(n int) {
	d.table = make([]valueSlot, n)
	d.shift = uint(64 - bits.Len(uint(n-1)))
	for i, v := range d.values {
		b := bitsOf(v)
		slot := b * hashFactor >> d.shift
		for d.table[slot].number != 0 {
			slot = (slot + 1) & uint64(n-1)
		}
		d.table[slot] = valueSlot{b, uint32(i + 1)}
	}
}

// smaller tells whether numbers and dictionary are likely smaller than the values: by a sample from the middle.
func (d *valueDictionary[T]) smaller(values []T, w *Writer) bool {
	n := min(len(values), sampleRows)
	at := (len(values) - n) / 2
	s := &w.scratch
	s.body = appendPacked(s.body[:0], s.ids[at:at+n], d.width())
	s.packed = w.zstd.EncodeAll(s.body, s.packed[:0])
	numbers := min(len(s.packed), len(s.body))
	s.body = appendSplit(s.body[:0], values[at:at+n])
	s.packed = w.zstd.EncodeAll(s.body, s.packed[:0])
	split := min(len(s.packed), len(s.body))
	return numbers*len(values)/n+dictionaryBytes*len(d.values) < split*len(values)/n
}

// rank numbers the values anew, the most frequent first: so most numbers have high bits of zero, which zstd makes use of.
func (d *valueDictionary[T]) rank(s *scratch) {
	n := len(d.values)
	d.order = d.order[:0] // in the upper half how often, from many to few; in the lower half the number
	for i := range uint64(n) {
		d.order = append(d.order, math.MaxUint32<<32|i)
	}
	for _, id := range s.ids {
		d.order[id] -= 1 << 32
	}
	slices.Sort(d.order)
	d.numbers, d.sorted = slices.Grow(d.numbers[:0], n)[:n], d.sorted[:0]
	for i, x := range d.order {
		d.numbers[uint32(x)] = uint32(i)
		d.sorted = append(d.sorted, d.values[uint32(x)])
	}
	d.values, d.sorted = d.sorted, d.values
	for i, id := range s.ids {
		s.ids[i] = d.numbers[id]
	}
}

func (d *valueDictionary[T]) width() uint { return uint(bits.Len(uint(len(d.values) - 1))) }
