package stream

import (
	"bytes"
	"sync"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// maxShared bounds the events that wait to be read again. Beyond it all are forgotten: then the reader makes copies of its own.
const maxShared = 20_000

// Shared lets one process hold one copy of an event. The Consumer, which makes it, keeps its labels and texts in the books and gives them to the routing engine; the Log, which reads all events for
// the desk, meets the same bytes again moments later. Where a hundred thousand alerts stand, a second copy of each would be a quarter of the memory.
//
// An event that is shared is never changed. Safe for concurrent use; a nil *Shared shares nothing.
type Shared struct {
	mu   sync.Mutex
	byID map[string]shared
}

type shared struct {
	value []byte
	event *eventv1.AlertEvent
}

// NewShared is one that has nothing yet.
func NewShared() *Shared { return &Shared{byID: make(map[string]shared)} }

// offer has an event ready for whoever reads its record.
func (s *Shared) offer(value []byte, ev *eventv1.AlertEvent) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byID) >= maxShared {
		clear(s.byID)
	}
	s.byID[ev.GetEventId()] = shared{value, ev}
}

// take gives the event of that id if it stands in these very bytes; once.
func (s *Shared) take(id string, value []byte) *eventv1.AlertEvent {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byID[id]
	if !ok {
		return nil
	}
	delete(s.byID, id)
	if !bytes.Equal(e.value, value) {
		return nil
	}
	return e.event
}

// forget drops what has been offered: the transaction was aborted, and its events are made anew.
func (s *Shared) forget() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.byID)
}
