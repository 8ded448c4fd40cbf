package routing

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// instance is an engine whose entries others may hear.
type instance struct {
	*Engine
	mu   sync.Mutex
	said [][]byte
}

func newInstance(t *testing.T, s *sink, groupBy string) *instance {
	t.Helper()
	i := new(instance)
	o := options(t, hooked(t, s, groupBy))
	o.LogNotifications = false // one receiver, one entry
	o.Told = func(_ string, entry []byte) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.said = append(i.said, slices.Clone(entry))
	}
	i.Engine = engine(t, o)
	return i
}

// takesOver brings alerts from another instance here, as a partition that moves does.
func (i *instance) takesOver(t *testing.T, from *instance, alerts ...Alert) {
	t.Helper()
	from.mu.Lock()
	said := slices.Clone(from.said)
	from.mu.Unlock()
	for _, entry := range said {
		if err := i.Hear("other", "", entry); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Adopt(alerts); err != nil {
		t.Fatal(err)
	}
	var stand, ended []Alert
	for _, a := range alerts {
		if a.EndsAt.IsZero() {
			stand = append(stand, a)
		} else {
			ended = append(ended, a)
		}
	}
	owed, err := i.Owed(ended)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.PutOwed(t.Context(), append(stand, owed...)...); err != nil {
		t.Fatal(err)
	}
	i.Start()
}

func (i *instance) hasSaid(n int) func() error {
	return func() error {
		i.mu.Lock()
		defer i.mu.Unlock()
		if len(i.said) < n {
			return fmt.Errorf("%d entries, want %d", len(i.said), n)
		}
		return nil
	}
}

func (s *sink) count(what string) (n int) {
	for _, got := range s.all() {
		if got == what {
			n++
		}
	}
	return n
}

// What one instance has told is known to the next: nobody is paged twice, and everybody learns of the end.
func TestTheNextInstanceKnowsWhatWasTold(t *testing.T) {
	s := newSink(t)
	first, second := newInstance(t, s, "alert_id"), newInstance(t, s, "alert_id")
	first.Start()
	put(t, first.Engine, open("stands"), open("ends on the way"), open("has ended"))
	for _, id := range []string{"stands", "ends on the way", "has ended"} {
		eventually(t, s.has("firing "+id))
	}
	put(t, first.Engine, closed("has ended"))
	eventually(t, s.has("resolved has ended"))
	eventually(t, first.hasSaid(4))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second.takesOver(t, first, open("stands"), closed("ends on the way"), closed("has ended"), open("nobody knows"))
	eventually(t, s.has("resolved ends on the way"))
	eventually(t, s.has("firing nobody knows"))
	put(t, second.Engine, closed("stands"))
	eventually(t, s.has("resolved stands"))
	for _, once := range []string{"firing stands", "firing ends on the way", "firing has ended", "resolved has ended"} {
		if n := s.count(once); n != 1 {
			t.Errorf("%q was told %d times", once, n)
		}
	}
}

// An alert that goes to another instance, ends there and comes back: the newest word counts, not our own.
func TestTheNewestWordCounts(t *testing.T) {
	s := newSink(t)
	first, second := newInstance(t, s, "alert_id"), newInstance(t, s, "alert_id")
	first.Start()
	put(t, first.Engine, open("a"))
	eventually(t, s.has("firing a"))
	eventually(t, first.hasSaid(1))
	second.takesOver(t, first, open("a"))
	put(t, second.Engine, closed("a"))
	eventually(t, s.has("resolved a"))
	eventually(t, second.hasSaid(2)) // taken over, and the end
	for _, entry := range second.said {
		if err := first.Hear("second", "", entry); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Adopt([]Alert{closed("a")}); err != nil {
		t.Fatal(err)
	}
	if owed, err := first.Owed([]Alert{closed("a")}); err != nil || len(owed) != 0 {
		t.Errorf("owed %+v, %v", owed, err)
	}
}

// Two instances have different alerts in groups of one key: what one tells is no news about the other's.
func TestEntriesOfOthersAreNoNewsAboutOurGroups(t *testing.T) {
	s := newSink(t)
	first, second := newInstance(t, s, "machine"), newInstance(t, s, "machine")
	first.Start()
	put(t, first.Engine, open("a"))
	eventually(t, first.hasSaid(1))
	second.takesOver(t, first, open("b"))
	eventually(t, s.has("firing b"))
	eventually(t, second.hasSaid(1))
	entries, err := second.entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if slices.Contains(e.GetFiringAlerts(), alertHash(open("a").Labels)) {
			t.Error("another instance's alert has come into our notification log")
		}
	}
}

func TestNonsenseFromOthers(t *testing.T) {
	e := newInstance(t, newSink(t), "alert_id")
	for _, bad := range [][]byte{nil, {0}, {200, 1, 1}, []byte("not an entry"), {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		if err := e.Hear("x", "", bad); err == nil {
			t.Errorf("%x was heard", bad)
		}
	}
	if err := e.Adopt([]Alert{open("a")}); err != nil {
		t.Error(err)
	}
}
