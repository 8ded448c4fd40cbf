package history

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// Ledger notes what senders did. Safe for concurrent use. Memory: about 17 bytes per frame whose sequence is one more than the last
// of its gateway and machine; some 70 bytes otherwise.
type Ledger struct {
	mu      sync.Mutex
	streams map[streamKey]*stream
}

type streamKey struct{ gateway, equipment string }

const (
	acked uint8 = 1 << iota
	rejected
)

// never is later than any frame.
const never = ^uint32(0)

// stream is the frames of one machine through one gateway, by the order of their first sending.
type stream struct {
	sequences []uint64
	status    []uint8
	// before says, for each frame, how many frames of the stream had been started when it was acknowledged, or else when it was last sent: those
	// started later must stand behind it.
	before []uint32
	index  map[uint64]uint32 // nil while sequences are consecutive
}

// NewLedger is empty.
func NewLedger() *Ledger { return &Ledger{streams: map[streamKey]*stream{}} }

// Sent notes that a frame is about to be sent; call it again before each repeat, so that the checker knows that the frame may
// have come late.
func (l *Ledger) Sent(r FrameRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := streamKey{r.Gateway, r.Equipment}
	s := l.streams[k]
	if s == nil {
		s = &stream{}
		l.streams[k] = s
	}
	i, known := s.find(r.Sequence)
	if !known {
		i = s.start(r.Sequence)
	}
	if s.status[i]&acked == 0 {
		s.before[i] = uint32(len(s.sequences))
	}
}

// Acked notes that a frame was acknowledged.
func (l *Ledger) Acked(r FrameRef) { l.mark(r, acked) }

// Rejected notes that a frame was refused for good: for what it holds, not because something was away. It must never be seen.
func (l *Ledger) Rejected(r FrameRef) { l.mark(r, rejected) }

func (l *Ledger) mark(r FrameRef, status uint8) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.streams[streamKey{r.Gateway, r.Equipment}]
	if s == nil {
		s = &stream{}
		l.streams[streamKey{r.Gateway, r.Equipment}] = s
	}
	i, known := s.find(r.Sequence)
	if !known { // a sender that forgot to say so
		i = s.start(r.Sequence)
	}
	if status == acked && s.status[i]&acked == 0 {
		s.before[i] = min(s.before[i], uint32(len(s.sequences)))
	}
	s.status[i] |= status
}

// Counts are the frames sent, acknowledged and rejected so far.
func (l *Ledger) Counts() (sent, ackedFrames, rejectedFrames int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.streams {
		sent += len(s.sequences)
		for _, st := range s.status {
			if st&acked != 0 {
				ackedFrames++
			}
			if st&rejected != 0 {
				rejectedFrames++
			}
		}
	}
	return sent, ackedFrames, rejectedFrames
}

func (s *stream) find(sequence uint64) (uint32, bool) {
	if s.index != nil {
		i, ok := s.index[sequence]
		return i, ok
	}
	if len(s.sequences) == 0 || sequence < s.sequences[0] {
		return 0, false
	}
	i := sequence - s.sequences[0]
	return uint32(i), i < uint64(len(s.sequences))
}

func (s *stream) start(sequence uint64) uint32 {
	n := len(s.sequences)
	if s.index == nil && n > 0 && sequence != s.sequences[n-1]+1 {
		s.index = make(map[uint64]uint32, 2*n)
		for i, q := range s.sequences {
			s.index[q] = uint32(i)
		}
	}
	if s.index != nil {
		s.index[sequence] = uint32(n)
	}
	s.sequences = append(s.sequences, sequence)
	s.status = append(s.status, 0)
	s.before = append(s.before, never)
	return uint32(n)
}

// sighting is what a log holds of the ledger's frames, seen in the log's order.
type sighting struct {
	ledger  *Ledger
	streams map[streamKey]*seenStream
}

type seenStream struct {
	*stream
	inLog, judged, dead []uint8 // how often, at most 255
	newest              int     // the frame started last among those judged, -1
}

// look begins to compare with what the ledger holds now.
func (l *Ledger) look() *sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &sighting{ledger: l, streams: make(map[streamKey]*seenStream, len(l.streams))}
	for k, st := range l.streams {
		n := len(st.sequences)
		s.streams[k] = &seenStream{stream: st, inLog: make([]uint8, n), judged: make([]uint8, n), dead: make([]uint8, n), newest: -1}
	}
	return s
}

func (s *sighting) find(r FrameRef) (*seenStream, uint32, bool) {
	st := s.streams[streamKey{r.Gateway, r.Equipment}]
	if st == nil {
		return nil, 0, false
	}
	i, ok := st.find(r.Sequence)
	return st, i, ok && int(i) < len(st.inLog)
}

func inc(n *uint8) {
	if *n < 255 {
		*n++
	}
}

// frame takes notice of a frame in telemetry.frames.v1. It reports whether the frame is a repeat.
func (s *sighting) frame(rep *Report, where string, r FrameRef) (repeat bool) {
	st, i, ok := s.find(r)
	switch {
	case !ok:
		rep.add(Invented, where, "frame %s was never sent", r)
		return false
	case st.status[i]&rejected != 0:
		rep.add(Invented, where, "frame %s was rejected, and stands there", r)
	}
	inc(&st.inLog[i])
	return st.inLog[i] > 1
}

// judge takes notice of a frame in the readings.
func (s *sighting) judge(rep *Report, where string, r FrameRef) {
	st, i, ok := s.find(r)
	if !ok {
		rep.add(Invented, where, "reading of %s, which was never sent", r)
		return
	}
	if inc(&st.judged[i]); st.judged[i] > 1 {
		rep.add(Duplicated, where, "frame %s was judged %d times", r, st.judged[i])
		return
	}
	if st.newest >= 0 && uint32(st.newest) >= st.before[i] {
		rep.add(Reordered, where, "frame %s stands behind %d, which was sent after it was acknowledged, or sent for the last time", r, st.sequences[st.newest])
	}
	st.newest = max(st.newest, int(i))
}

// letter takes notice of a frame among the dead letters.
func (s *sighting) letter(r FrameRef) {
	if st, i, ok := s.find(r); ok {
		inc(&st.dead[i])
	}
}

// acked says whether the frame was acknowledged.
func (s *sighting) acked(r FrameRef) bool {
	st, i, ok := s.find(r)
	return ok && st.status[i]&acked != 0
}

// missing tells of the frames that were acknowledged and are not there. judged says that the processor ran.
func (s *sighting) missing(rep *Report, judged bool) {
	keys := slices.SortedFunc(maps.Keys(s.streams), func(a, b streamKey) int {
		return cmp.Or(cmp.Compare(a.gateway, b.gateway), cmp.Compare(a.equipment, b.equipment))
	})
	for _, k := range keys {
		st := s.streams[k]
		for i := range st.inLog {
			if st.status[i]&acked == 0 {
				continue
			}
			r := FrameRef{k.gateway, k.equipment, st.sequences[i]}
			switch {
			case st.inLog[i] == 0:
				rep.add(Lost, "ledger", "frame %s was acknowledged and is not in the log", r)
			case judged && st.judged[i] == 0 && st.dead[i] == 0:
				rep.add(Lost, "ledger", "frame %s was acknowledged, is in the log, and has no reading", r)
			}
		}
	}
}
