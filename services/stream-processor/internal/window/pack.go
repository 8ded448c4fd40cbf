package window

import (
	"encoding/binary"
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Columns are what a pane that takes rows holds of its sensors, by slot. Closed panes are packed and have none until late rows come.
type Columns struct {
	Accums []Accum
	Marks  []Mark   // of a pane that was judged and takes rows again
	stuck  []uint64 // bit set of sensor slots; empty while none is
}

func (c *Columns) grow(n int) {
	if n <= len(c.Accums) {
		return
	}
	if n > cap(c.Accums) {
		grown := make([]Accum, n)
		copy(grown, c.Accums)
		c.Accums = grown
		return
	}
	old := len(c.Accums)
	c.Accums = c.Accums[:n]
	clear(c.Accums[old:])
}

// A packed pane of n sensors is, without gaps:
//
//	flags      1 byte
//	n          4
//	counts     12 for each sensor, 6 if all are small; once if they are all alike, as they are when sensors are sampled together
//	statistics 22 for each: mean (6 bytes of a float64), standard deviation, min, max, last (float32)
//	marks      8 for each, if it was judged: surprise (a binary16), middle of the band (float32), half its width (a bfloat16)
//	stuck      8 for each 64 sensors, if any is
//	opinions   the rest
//
// Means keep 36 bits of precision and standard deviations 24, that of a value. Mark.Round says what marks keep. All else comes back as it was.
type packing struct {
	flags                         uint8
	n                             int
	stats, marks, stuck, opinions int // offsets
}

const (
	packedAlike uint8 = 1 << iota
	packedSmall
	packedMarks
	packedStuck

	packedHead   = 5
	packedCounts = 12
	packedFew    = 6
	packedStats  = 22
	packedMark   = 8
)

func packingOf(flags uint8, n int) packing {
	p := packing{flags: flags, n: n}
	p.stats = p.counts(n)
	if flags&packedAlike != 0 {
		p.stats = packedHead + p.countSize()
	}
	p.marks = p.stats + n*packedStats
	p.stuck = p.marks
	if flags&packedMarks != 0 {
		p.stuck += n * packedMark
	}
	p.opinions = p.stuck
	if flags&packedStuck != 0 {
		p.opinions += 8 * words(n)
	}
	return p
}

func (p *packing) countSize() int {
	if p.flags&packedSmall != 0 {
		return packedFew
	}
	return packedCounts
}

// counts is where the counts of a sensor are.
func (p *packing) counts(i int) int {
	if p.flags&packedAlike != 0 {
		i = 0
	}
	return packedHead + i*p.countSize()
}

// words is the length of a bit set of n sensors.
func words(n int) int { return (n + 63) / 64 }

// readPacking is of what was packed.
func readPacking(b []byte) packing { return packingOf(b[0], int(binary.LittleEndian.Uint32(b[1:]))) }

// Round gives the mark the precision that it is kept with: 11 bits of surprise, 8 of the band's width.
func (m *Mark) Round() {
	var b [packedMark]byte
	m.put(b[:])
	*m = markAt(b[:])
}

// Bands that are open to one side have these instead of half a width.
const (
	openAbove = math.MaxUint16 - iota
	openBelow
)

func (m *Mark) put(to []byte) {
	middle, half := (m.Low+m.High)/2, uint16((math.Float32bits((m.High-m.Low)/2)+1<<15)>>16)
	switch {
	case m.High != m.High:
		middle, half = m.Low, openAbove
	case m.Low != m.Low:
		middle, half = m.High, openBelow
	}
	le := binary.LittleEndian
	le.PutUint16(to, toHalf(m.Surprise))
	le.PutUint32(to[2:], math.Float32bits(middle))
	le.PutUint16(to[6:], half)
}

func markAt(b []byte) Mark {
	le, nan := binary.LittleEndian, float32(math.NaN())
	m, middle := Mark{Surprise: fromHalf(le.Uint16(b))}, math.Float32frombits(le.Uint32(b[2:]))
	switch half := le.Uint16(b[6:]); half {
	case openAbove:
		m.Low, m.High = middle, nan
	case openBelow:
		m.Low, m.High = nan, middle
	default:
		width := math.Float32frombits(uint32(half) << 16)
		m.Low, m.High = middle-width, middle+width
	}
	return m
}

// Halves are IEEE 754 binary16 without sign: 11 bits of precision, at most 65504.
const halfScale = 1 << 112 // 2^(127-15)

func toHalf(x float32) uint16 {
	if !(x > 0) {
		return 0
	}
	return uint16((math.Float32bits(min(x, 65504)*(1.0/halfScale)) + 1<<12) >> 13)
}

func fromHalf(h uint16) float32 { return math.Float32frombits(uint32(h)<<13) * halfScale }

// Pack makes a closed pane small: its columns, its marks if it was judged, and what the detectors said.
func (p *Pane) Pack(pool *Pool, marks []Mark, opinions []uint8) {
	c, flags := p.Columns, packedAlike|packedSmall
	n := len(c.Accums)
	for i := range c.Accums {
		a, b := &c.Accums[0], &c.Accums[i]
		if a.Count != b.Count || a.Unusable != b.Unusable || a.lastAt != b.lastAt {
			flags &^= packedAlike
		}
		if b.Count > math.MaxUint8 || b.Unusable > math.MaxUint8 {
			flags &^= packedSmall
		}
	}
	if len(marks) > 0 {
		flags |= packedMarks
	}
	if len(c.stuck) > 0 {
		flags |= packedStuck
	}
	to := packingOf(flags, n)
	b := p.packed
	if size := to.opinions + len(opinions); size <= cap(b) {
		b = b[:size]
	} else {
		b = pool.buffer(size)
	}
	le := binary.LittleEndian
	b[0] = flags
	le.PutUint32(b[1:], uint32(n))
	for i := range c.Accums {
		a := &c.Accums[i]
		if k := b[to.counts(i):]; flags&packedSmall != 0 {
			k[0], k[1] = uint8(a.Count), uint8(a.Unusable)
			le.PutUint32(k[2:], a.lastAt)
		} else {
			le.PutUint32(k, a.Count)
			le.PutUint32(k[4:], a.Unusable)
			le.PutUint32(k[8:], a.lastAt)
		}
		v := b[to.stats+i*packedStats:][:packedStats]
		mean := math.Float64bits(a.mean) + 1<<15 // rounds
		le.PutUint16(v, uint16(mean>>16))
		le.PutUint32(v[2:], uint32(mean>>32))
		le.PutUint32(v[6:], math.Float32bits(float32(a.stddev())))
		le.PutUint32(v[10:], math.Float32bits(a.min))
		le.PutUint32(v[14:], math.Float32bits(a.max))
		le.PutUint32(v[18:], math.Float32bits(a.last))
	}
	if flags&packedMarks != 0 {
		for i := range n {
			m := Mark{Low: float32(math.NaN()), High: float32(math.NaN())} // of sensors that came after it was judged
			if i < len(marks) {
				m = marks[i]
			}
			m.put(b[to.marks+i*packedMark:])
		}
	}
	if flags&packedStuck != 0 {
		clear(b[to.stuck:to.opinions])
		for i, w := range c.stuck {
			le.PutUint64(b[to.stuck+8*i:], w)
		}
	}
	copy(b[to.opinions:], opinions)
	p.packed, p.Columns = b, nil
	pool.giveColumns(c)
}

// Statistics are those of a pane's sensors. They hold until it changes.
type Statistics struct {
	pane *Pane
	from packing
}

// Statistics of a pane, packed or not.
func (p *Pane) Statistics() Statistics {
	s := Statistics{pane: p}
	if p.Columns == nil {
		s.from = readPacking(p.packed)
	}
	return s
}

// Of is one sensor's so far.
func (s *Statistics) Of(slot int) Stats {
	var none Accum
	p := s.pane
	if p.Columns != nil {
		if slot >= len(p.Accums) {
			return none.Stats()
		}
		return p.Accums[slot].Stats()
	}
	if slot >= s.from.n {
		return none.Stats()
	}
	a, sd := s.from.accum(p.packed, slot)
	st := a.Stats()
	if a.Count > 0 {
		st.Stddev = sd
	}
	return st
}

// accum is a sensor's, but for m2, and its standard deviation.
func (p *packing) accum(b []byte, i int) (a Accum, sd float64) {
	le := binary.LittleEndian
	k, v := b[p.counts(i):], b[p.stats+i*packedStats:][:packedStats]
	a = Accum{
		mean: math.Float64frombits(uint64(le.Uint16(v))<<16 | uint64(le.Uint32(v[2:]))<<32),
		min:  math.Float32frombits(le.Uint32(v[10:])), max: math.Float32frombits(le.Uint32(v[14:])), last: math.Float32frombits(le.Uint32(v[18:])),
	}
	if p.flags&packedSmall != 0 {
		a.Count, a.Unusable, a.lastAt = uint32(k[0]), uint32(k[1]), le.Uint32(k[2:])
	} else {
		a.Count, a.Unusable, a.lastAt = le.Uint32(k), le.Uint32(k[4:]), le.Uint32(k[8:])
	}
	return a, float64(math.Float32frombits(le.Uint32(v[6:])))
}

// Unpack gives a packed pane of a machine of that many sensors its columns back. Others it leaves as they are.
func (p *Pane) Unpack(pool *Pool, sensors int) {
	if p.Columns != nil {
		return
	}
	b := p.packed
	from := readPacking(b)
	c := pool.columnsFor(max(from.n, sensors))
	for i := range from.n {
		a, sd := from.accum(b, i)
		a.m2 = sd * sd * float64(a.Count)
		c.Accums[i] = a
	}
	if from.flags&packedMarks != 0 {
		for i := range from.n {
			c.Marks = append(c.Marks, markAt(b[from.marks+i*packedMark:]))
		}
	}
	for at := from.stuck; at < from.opinions; at += 8 {
		c.stuck = append(c.stuck, binary.LittleEndian.Uint64(b[at:]))
	}
	p.Columns = c
}

// Opinions are those that a packed pane was packed with. They must not be changed.
func (p *Pane) Opinions() []uint8 {
	if len(p.packed) == 0 {
		return nil
	}
	return p.packed[readPacking(p.packed).opinions:]
}

// ForgetOpinions of a packed pane.
func (p *Pane) ForgetOpinions() {
	if len(p.packed) > 0 {
		p.packed = p.packed[:readPacking(p.packed).opinions]
	}
}

// restorePacked takes a packed pane from a snapshot of a machine of that many sensors.
func (p *Pane) restorePacked(r *codec.Reader, sensors int) {
	b := r.Bytes(math.MaxInt32)
	if r.Err() != nil {
		return
	}
	if len(b) < packedHead || b[0] >= packedStuck<<1 || int(binary.LittleEndian.Uint32(b[1:])) > sensors || readPacking(b).opinions > len(b) {
		r.Fail("packed pane does not fit")
		return
	}
	p.packed = append([]byte(nil), b...)
}

func (c *Columns) appendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(c.Accums)))
	for i := range c.Accums {
		dst = c.Accums[i].AppendState(dst)
	}
	dst = codec.AppendU32(dst, uint32(len(c.Marks)))
	for _, m := range c.Marks {
		dst = codec.AppendF32(dst, m.Surprise)
		dst = codec.AppendF32(dst, m.Low)
		dst = codec.AppendF32(dst, m.High)
	}
	dst = codec.AppendU32(dst, uint32(len(c.stuck)))
	for _, w := range c.stuck {
		dst = codec.AppendU64(dst, w)
	}
	return dst
}

func (c *Columns) restoreState(r *codec.Reader, sensors int) {
	c.Accums = make([]Accum, r.Len(sensors, AccumSize))
	for j := range c.Accums {
		c.Accums[j].RestoreState(r)
	}
	c.Marks = make([]Mark, r.Len(len(c.Accums), 12))
	for j := range c.Marks {
		c.Marks[j] = Mark{Surprise: r.F32(), Low: r.F32(), High: r.F32()}
	}
	c.stuck = make([]uint64, r.Len(words(sensors), 8))
	for j := range c.stuck {
		c.stuck[j] = r.U64()
	}
}
