package chaos

import (
	"context"
	"time"
)

// deafPeople is a webhook that is out of order for a while. What must come afterwards is everything that opened meanwhile; the check
// at the section's end says whether it did. Recovery here is the first notification that gets through.
func (w *world) deafPeople(what brokenness, name string, hold time.Duration) fault {
	f := fault{row: "webhook outage", what: "webhook " + name, hold: hold}
	failed := 0
	f.inject = func(context.Context) error {
		_, failed = w.people.notifications()
		w.people.set(what)
		return nil
	}
	f.during = func() []condition {
		return []condition{func(context.Context) string {
			if _, now := w.people.notifications(); now == failed {
				return "no notification has met the outage"
			}
			return ""
		}}
	}
	f.heal = func(context.Context) error {
		w.people.set(works)
		return nil
	}
	f.recovered = func() []condition {
		told, _ := w.people.notifications()
		return []condition{func(context.Context) string {
			if now, _ := w.people.notifications(); len(now) == len(told) {
				return "no notification since the webhook works again"
			}
			return ""
		}}
	}
	return f
}

// wrongClock puts an edge's clock off for a while. Its rows are quarantined or too late, and stored; nobody else's may suffer.
func (w *world) wrongClock(edge int, skew time.Duration) fault {
	ed := w.fleet.edges[edge%len(w.fleet.edges)]
	f := fault{row: "clock of an edge off by " + skewName(skew), what: ed.id + " " + skew.String(), hold: 4 * time.Second}
	f.inject = func(context.Context) error {
		ed.skew.Store(int64(skew))
		return nil
	}
	f.during = func() []condition { return []condition{w.acks(time.Now())} }
	f.heal = func(context.Context) error {
		ed.skew.Store(0)
		return nil
	}
	f.recovered = func() []condition { return append([]condition{w.acks(time.Now())}, w.serves(processor)...) }
	return f
}

func skewName(d time.Duration) string {
	if d.Abs() >= 24*time.Hour {
		return "1 day"
	}
	return "1 h"
}
