package history

import (
	"maps"
	"slices"

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

// alertLife in broker time, ms since 1970 UTC.
type alertLife struct {
	openedMS, closedMS int64 // 0: not
	escalated          bool
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
	switch ev.GetTransition() {
	case eventv1.AlertTransition_ALERT_TRANSITION_OPENED:
		a.openedMS = max(ev.GetAtMs(), 1)
	case eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED:
		a.escalated = true
	case eventv1.AlertTransition_ALERT_TRANSITION_CLOSED:
		a.closedMS = max(ev.GetAtMs(), 1)
	}
}

// notices compares the alerts with what people were told.
func (c *checker) notices() {
	c.rep.Counts["alerts"] = len(c.alerts.alerts)
	if c.w.Notifications == nil {
		return
	}
	c.rep.Counts["notifications"] = len(c.w.Notifications)
	c.alerts.compare(c.rep, c.w.Notifications, c.w.NotifyWithin.Milliseconds(), c.w.SendResolved)
}

func (l *alertLog) compare(rep *Report, told []Notification, withinMS int64, sendResolved bool) {
	const where = "notifications"
	firing, resolved := map[string]int{}, map[string]bool{}
	for _, n := range told {
		a := l.alerts[n.AlertID]
		switch {
		case a == nil:
			rep.add(Invented, where, "alert %q was notified and does not exist", n.AlertID)
		case !n.Resolved:
			if firing[n.AlertID]++; firing[n.AlertID] > 1 {
				rep.Counts["notifications_repeated"]++
			}
		case a.closedMS == 0 && !a.escalated:
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
			if a.openedMS+withinMS <= l.newestMS && (a.closedMS == 0 || a.closedMS-a.openedMS > withinMS) {
				rep.add(Unnotified, where, "alert %q opened and nobody was told", id)
			}
		case sendResolved && a.closedMS != 0 && !resolved[id] && a.closedMS+withinMS <= l.newestMS:
			rep.add(Unnotified, where, "alert %q ended and nobody was told of that", id)
		}
	}
}
