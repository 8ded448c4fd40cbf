package history

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// alertLog is what alert.events.v1 says of each alert.
type alertLog struct {
	alerts   map[string]*alertLife
	newestMS int64 // broker time
}

// alertLife in the broker's time of the alert's events (ms since 1970 UTC): nobody can be told before an event stands.
type alertLife struct {
	openedMS, escalatedMS, closedMS int64 // first event of its kind; 0: none
}

func newAlertLog() *alertLog { return &alertLog{alerts: map[string]*alertLife{}} }

// add takes one record of alert.events.v1.
func (l *alertLog) add(r *kgo.Record) {
	l.newestMS = max(l.newestMS, r.Timestamp.UnixMilli())
	if topic.Type(r) != topic.TypeAlert {
		return
	}
	var ev eventv1.AlertEvent
	if proto.Unmarshal(r.Value, &ev) != nil {
		return // the comparison has told
	}
	a := l.alerts[ev.GetAlertId()]
	if a == nil {
		a = &alertLife{}
		l.alerts[ev.GetAlertId()] = a
	}
	switch at := max(r.Timestamp.UnixMilli(), 1); ev.GetTransition() {
	case eventv1.AlertTransition_ALERT_TRANSITION_OPENED:
		a.openedMS = cmp.Or(a.openedMS, at)
	case eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED:
		a.escalatedMS = cmp.Or(a.escalatedMS, at)
	case eventv1.AlertTransition_ALERT_TRANSITION_CLOSED:
		a.closedMS = cmp.Or(a.closedMS, at)
	}
}

// stands is from when on people can be told that the alert fires, or that it is resolved (at its end, or when a higher severity takes its place).
// 0: never.
func (a *alertLife) stands(resolved bool) int64 {
	switch {
	case !resolved:
		return a.openedMS
	case a.escalatedMS == 0:
		return a.closedMS
	case a.closedMS == 0:
		return a.escalatedMS
	}
	return min(a.escalatedMS, a.closedMS)
}

// early is how long before its event a notification came; not positive: it did not. Both times are whole milliseconds of the log's clock.
func (a *alertLife) early(n Notification, tolerance time.Duration) time.Duration {
	if n.At.IsZero() {
		return 0
	}
	return time.Duration(a.stands(n.Resolved)-n.At.UnixMilli())*time.Millisecond - tolerance
}

// notices compares the alerts with what people were told.
func (c *checker) notices() {
	c.rep.Counts["alerts"] = len(c.alerts.alerts)
	if c.w.Notifications == nil {
		return
	}
	c.rep.Counts["notifications"] = len(c.w.Notifications)
	c.alerts.compare(c.rep, c.w)
}

// chance is how long people could be told in [fromMS, toMS): all of it but the outages.
func chance(fromMS, toMS int64, outages []Outage) (ms int64) {
	ms = toMS - fromMS
	reach := fromMS
	for _, o := range outages {
		from, to := max(o.From.UnixMilli(), reach), min(o.To.UnixMilli(), toMS)
		if from < to {
			ms -= to - from
			reach = to
		}
	}
	return ms
}

func (l *alertLog) compare(rep *Report, w *World) {
	within := cmp.Or(w.NotifyWithin, 30*time.Second).Milliseconds()
	outages := slices.SortedFunc(slices.Values(w.Outages), func(a, b Outage) int { return a.From.Compare(b.From) })
	const where = "notifications"
	firing, resolved := map[string]int{}, map[string]bool{}
	for _, n := range w.Notifications {
		a := l.alerts[n.AlertID]
		switch {
		case a == nil:
			rep.add(Invented, where, "alert %q was notified and does not exist", n.AlertID)
		case a.early(n, w.ClockTolerance) > 0:
			rep.add(Invented, where, "alert %q (resolved: %t) was notified %s before its event stood", n.AlertID, n.Resolved, a.early(n, 0))
		case !n.Resolved:
			if firing[n.AlertID]++; firing[n.AlertID] > 1 {
				rep.Counts["notifications_repeated"]++
			}
		case a.stands(true) == 0:
			rep.add(Wrong, where, "alert %q was notified as resolved and stands", n.AlertID)
		default:
			resolved[n.AlertID] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.alerts)) {
		a := l.alerts[id]
		switch {
		case firing[id] == 0:
			// Told or not is open while it is new, and for good when it ended before its time.
			if a.openedMS != 0 && chance(a.openedMS, cmp.Or(a.closedMS, l.newestMS), outages) > within {
				rep.add(Unnotified, where, "alert %q opened and nobody was told", id)
			}
		case w.SendResolved && a.closedMS != 0 && !resolved[id] && chance(a.closedMS, l.newestMS, outages) > within:
			rep.add(Unnotified, where, "alert %q ended and nobody was told of that", id)
		}
	}
}
