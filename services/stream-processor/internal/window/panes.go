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

// Pane is one tumbling window of one machine. Its columns are there while rows are added, and gone while it is packed.
type Pane struct {
	StartUS  int64
	Revision uint32
	State    State
	Changed  bool    // rows came since it was last written
	Teaches  bool    // closed, and may be learned from when it is dropped
	Learning bool    // as it was judged
	Surprise float32 // of the machine, calibrated, as it was judged
	Regime   uint32  // where in its regimes the machine was; for it to fill and to read
	Nominal  float32 // the machine's surprise before calibration; NaN: none

	*Columns
	packed []byte // empty while it was never packed
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

// Grow makes room for n sensors, unless it is packed.
func (p *Pane) Grow(n int) {
	if p.Columns != nil {
		p.grow(n)
	}
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

// Panes are the panes of one machine in order of time: closed ones that are still kept, then those not closed yet. The zero value is empty.
type Panes struct {
	list []*Pane
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
func (s *Panes) Insert(pool *Pool, startUS int64, sensors int) *Pane {
	p := pool.pane()
	p.StartUS, p.Columns = startUS, pool.columnsFor(sensors)
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

// DropOldest forgets the oldest pane and leaves its memory to others.
func (s *Panes) DropOldest(pool *Pool) {
	p, last := s.list[0], len(s.list)-1
	copy(s.list, s.list[1:])
	s.list[last] = nil
	s.list = s.list[:last]
	pool.givePane(p)
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
		dst = codec.AppendF32(dst, p.Nominal)
		dst = codec.AppendU32(dst, p.Regime)
		if dst = codec.AppendBool(dst, p.Columns == nil); p.Columns == nil {
			dst = append(codec.AppendU32(dst, uint32(len(p.packed))), p.packed...)
		} else {
			dst = p.appendState(dst)
		}
	}
	return dst
}

// RestoreState is the inverse of AppendState for a machine of that many sensors.
func (s *Panes) RestoreState(r *codec.Reader, sensors int) {
	const header = 8 + 4 + 1 + 1 + 1 + 1 + 4 + 4 + 4 + 1 + packedHead
	n := r.Len(math.MaxInt32, header)
	s.list = make([]*Pane, 0, n)
	open := false
	for i := range n {
		p := &Pane{StartUS: r.I64(), Revision: r.U32(), State: State(r.U8())}
		p.Changed, p.Teaches, p.Learning, p.Surprise = r.Bool(), r.Bool(), r.Bool(), r.F32()
		p.Nominal, p.Regime = r.F32(), r.U32()
		packed := r.Bool()
		switch {
		case packed != (p.State == Closed):
			r.Fail("only closed panes are packed, and all of them")
		case p.State > Closed:
			r.Fail("pane state %d", p.State)
		case open && p.State == Closed:
			r.Fail("closed pane after an open one")
		case i > 0 && p.StartUS <= s.list[i-1].StartUS:
			r.Fail("panes out of order")
		}
		open = p.State != Closed
		if packed {
			p.restorePacked(r, sensors)
		} else {
			p.Columns = new(Columns)
			p.restoreState(r, sensors)
		}
		if r.Err() != nil {
			return
		}
		s.list = append(s.list, p)
	}
}
