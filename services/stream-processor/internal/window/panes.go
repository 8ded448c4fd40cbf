package window

import (
	"math"
	"math/bits"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// State of a pane.
type State uint8

// A pane is open until it is judged. Flushed panes were judged while the watermark had not passed their end (the machine was idle):
// they still take rows in time. Closed ones take late rows only.
const (
	Open State = iota
	Flushed
	Closed
)

// Mark is the verdict on one sensor, kept so that a corrected window can be written again with it.
type Mark struct {
	Surprise  float32 // calibrated -ln(p)
	Low, High float32 // expected band of the mean; NaN: none
}

// Pane is one tumbling window of one machine.
type Pane struct {
	StartUS  int64
	Revision uint32
	State    State
	Changed  bool    // rows came since it was last written
	Teaches  bool    // closed, and may be learned from when it is dropped
	Learning bool    // as it was judged
	Surprise float32 // of the machine, calibrated, as it was judged
	Accums   []Accum // by sensor slot
	Marks    []Mark  // by sensor slot; shorter than Accums until judged
	Nominal  float32 // the machine's surprise before calibration; NaN: none
	Opinions []uint8 // the detectors' nominal surprises, coarsely; for the machine to fill and to read

	stuck []uint64 // bit set of sensor slots; nil while none is
}

// Start is the start of the pane of the given length that holds the instant: a multiple of the length, rounded down, also
// before 1970.
func Start(atUS, lengthUS int64) int64 {
	r := atUS % lengthUS
	if r < 0 {
		r += lengthUS
	}
	return atUS - r
}

// Grow makes room for n sensors.
func (p *Pane) Grow(n int) {
	if n <= len(p.Accums) {
		return
	}
	if n > cap(p.Accums) {
		grown := make([]Accum, n)
		copy(grown, p.Accums)
		p.Accums = grown
		return
	}
	old := len(p.Accums)
	p.Accums = p.Accums[:n]
	clear(p.Accums[old:])
}

// SetStuck notes that the sensor was stuck in this pane.
func (p *Pane) SetStuck(slot int) {
	for slot/64 >= len(p.stuck) {
		p.stuck = append(p.stuck, 0)
	}
	p.stuck[slot/64] |= 1 << (slot % 64)
}

// Stuck tells whether the sensor was stuck in this pane.
func (p *Pane) Stuck(slot int) bool {
	return slot/64 < len(p.stuck) && p.stuck[slot/64]&(1<<(slot%64)) != 0
}

// StuckCount is the number of stuck sensors.
func (p *Pane) StuckCount() int {
	n := 0
	for _, w := range p.stuck {
		n += bits.OnesCount64(w)
	}
	return n
}

func (p *Pane) reset(startUS int64, sensors int) {
	*p = Pane{StartUS: startUS, Accums: p.Accums[:0], Marks: p.Marks[:0], Opinions: p.Opinions[:0], stuck: p.stuck[:0]}
	p.Grow(sensors)
}

// Panes are the panes of one machine in order of time: closed ones that are still kept, then those not closed yet. The zero value is empty.
type Panes struct {
	list []*Pane
	free []*Pane
}

// All is every pane in order of time. It is valid until the next call.
func (s *Panes) All() []*Pane { return s.list }

// Len is the number of panes.
func (s *Panes) Len() int { return len(s.list) }

// Find returns the pane that starts there, or nil. Rows mostly belong to the newest panes: the search starts there.
func (s *Panes) Find(startUS int64) *Pane {
	for i := len(s.list) - 1; i >= 0; i-- {
		switch p := s.list[i]; {
		case p.StartUS == startUS:
			return p
		case p.StartUS < startUS:
			return nil
		}
	}
	return nil
}

// Insert adds a pane, which must not be there yet, and returns it.
func (s *Panes) Insert(startUS int64, sensors int) *Pane {
	var p *Pane
	if n := len(s.free); n > 0 {
		p, s.free = s.free[n-1], s.free[:n-1]
	} else {
		p = new(Pane)
	}
	p.reset(startUS, sensors)
	i := len(s.list)
	s.list = append(s.list, nil)
	for i > 0 && s.list[i-1].StartUS > startUS {
		s.list[i] = s.list[i-1]
		i--
	}
	s.list[i] = p
	return p
}

// FirstNotClosed is the oldest pane that is open or flushed, or nil.
func (s *Panes) FirstNotClosed() *Pane {
	// Few are not closed, and they are the newest.
	var found *Pane
	for i := len(s.list) - 1; i >= 0 && s.list[i].State != Closed; i-- {
		found = s.list[i]
	}
	return found
}

// ClosedCount is the number of closed panes.
func (s *Panes) ClosedCount() int {
	n := len(s.list)
	for n > 0 && s.list[n-1].State != Closed {
		n--
	}
	return n
}

// DropOldest forgets the oldest pane and keeps its memory for the next.
func (s *Panes) DropOldest() {
	p := s.list[0]
	s.list = s.list[:copy(s.list, s.list[1:])]
	if len(s.free) == 0 {
		s.free = append(s.free, p)
	}
}

// AppendState appends all panes.
func (s *Panes) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(s.list)))
	for _, p := range s.list {
		dst = codec.AppendI64(dst, p.StartUS)
		dst = codec.AppendU32(dst, p.Revision)
		dst = append(dst, byte(p.State))
		dst = codec.AppendBool(dst, p.Changed)
		dst = codec.AppendBool(dst, p.Teaches)
		dst = codec.AppendBool(dst, p.Learning)
		dst = codec.AppendF32(dst, p.Surprise)
		dst = codec.AppendU32(dst, uint32(len(p.Accums)))
		for i := range p.Accums {
			dst = p.Accums[i].AppendState(dst)
		}
		dst = codec.AppendU32(dst, uint32(len(p.Marks)))
		for _, m := range p.Marks {
			dst = codec.AppendF32(dst, m.Surprise)
			dst = codec.AppendF32(dst, m.Low)
			dst = codec.AppendF32(dst, m.High)
		}
		dst = codec.AppendF32(dst, p.Nominal)
		dst = codec.AppendU32(dst, uint32(len(p.Opinions)))
		dst = append(dst, p.Opinions...)
		dst = codec.AppendU32(dst, uint32(len(p.stuck)))
		for _, w := range p.stuck {
			dst = codec.AppendU64(dst, w)
		}
	}
	return dst
}

// RestoreState is the inverse of AppendState for a machine of that many sensors.
func (s *Panes) RestoreState(r *codec.Reader, sensors int) {
	const header = 8 + 4 + 1 + 1 + 1 + 1 + 4 + 4 + 4 + 4 + 4 + 4
	n := r.Len(math.MaxInt32, header)
	s.list = make([]*Pane, 0, n)
	open := false
	for i := range n {
		p := &Pane{StartUS: r.I64(), Revision: r.U32(), State: State(r.U8())}
		p.Changed, p.Teaches, p.Learning, p.Surprise = r.Bool(), r.Bool(), r.Bool(), r.F32()
		switch {
		case p.State > Closed:
			r.Fail("pane state %d", p.State)
		case open && p.State == Closed:
			r.Fail("closed pane after an open one")
		case i > 0 && p.StartUS <= s.list[i-1].StartUS:
			r.Fail("panes out of order")
		}
		open = p.State != Closed
		p.Accums = make([]Accum, r.Len(sensors, AccumSize))
		for j := range p.Accums {
			p.Accums[j].RestoreState(r)
		}
		p.Marks = make([]Mark, r.Len(len(p.Accums), 12))
		for j := range p.Marks {
			p.Marks[j] = Mark{Surprise: r.F32(), Low: r.F32(), High: r.F32()}
		}
		p.Nominal = r.F32()
		p.Opinions = append(p.Opinions, r.Bytes(math.MaxInt32)...)
		if words := r.Len((sensors+63)/64, 8); words > 0 {
			p.stuck = make([]uint64, words)
			for j := range p.stuck {
				p.stuck[j] = r.U64()
			}
		}
		if r.Err() != nil {
			return
		}
		s.list = append(s.list, p)
	}
}
