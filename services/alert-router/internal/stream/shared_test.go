package stream

import (
	"fmt"
	"testing"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// What is read again is the event that was made, once, and only where the bytes are the same.
func TestShared(t *testing.T) {
	ev := &eventv1.AlertEvent{EventId: "a/opened"}
	s := NewShared()
	s.offer([]byte("bytes"), ev)
	if got := s.take("a/opened", []byte("others")); got != nil {
		t.Error("other bytes gave the event")
	}
	s.offer([]byte("bytes"), ev)
	if got := s.take("a/opened", []byte("bytes")); got != ev {
		t.Errorf("got %v", got)
	}
	if got := s.take("a/opened", []byte("bytes")); got != nil {
		t.Error("it was given twice")
	}
	s.offer([]byte("bytes"), ev)
	s.forget()
	if got := s.take("a/opened", []byte("bytes")); got != nil {
		t.Error("it was forgotten")
	}
	for i := range 3*maxShared + 1 {
		s.offer(nil, &eventv1.AlertEvent{EventId: fmt.Sprint(i)})
		if len(s.byID) > maxShared {
			t.Fatalf("%d events wait", len(s.byID))
		}
	}
	var none *Shared
	none.offer(nil, ev)
	none.forget()
	if none.take("a/opened", nil) != nil {
		t.Error("nothing is shared")
	}
}
