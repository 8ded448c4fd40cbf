package routing

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// quieting is a gate that keeps some alerts quiet.
type quieting struct {
	mu    sync.Mutex
	quiet map[string]bool
}

func (q *quieting) Stands(id string) (quiet string, acknowledged bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.quiet[id] {
		return "part of another", false
	}
	return "", false
}

func (q *quieting) keep(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.quiet[id] = true
}

// Who was told of an alert hears of its end, also when it has become part of another alert's page meanwhile; who was not does not.
func TestEndOfWhatBecameQuiet(t *testing.T) {
	for _, groupBy := range []string{"alert_id", "machine"} {
		t.Run(groupBy, func(t *testing.T) {
			s, gate := newSink(t), &quieting{quiet: map[string]bool{"never told": true}}
			o := options(t, hooked(t, s, groupBy))
			o.Gate = gate
			e := engine(t, o)
			e.Start()
			put(t, e, open("lead"), open("told"), open("never told"))
			eventually(t, s.has("firing lead"))
			eventually(t, s.has("firing told"))
			owed := func(id string, want int) {
				eventually(t, func() error { // noted, or its end
					list, err := e.Owed([]Alert{closed(id)})
					if err == nil && len(list) != want {
						err = fmt.Errorf("%d owed of %s", len(list), id)
					}
					return err
				})
			}
			owed("told", 1)
			gate.keep("told")
			put(t, e, closed("told"), closed("never told"))
			eventually(t, s.has("resolved told"))
			owed("told", 0)
			put(t, e, closed("lead"))
			eventually(t, s.has("resolved lead"))
			if got := s.all(); slices.Contains(got, "resolved never told") {
				t.Errorf("the end of what nobody was told of: %q", got)
			}
		})
	}
}
