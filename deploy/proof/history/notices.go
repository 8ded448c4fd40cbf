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
	id                              string
	openedMS, escalatedMS, closedMS int64 // first event of its kind; 0: none
	severities                      []severityFrom
	alarm                           alarm
	gateway                         string // empty unless the judge says that the machine fell silent with its gateway
}

// alarm is one cause of one machine.
type alarm struct{ equipment, cause string }

// severityFrom is the severity that an alert has from a time on.
type severityFrom struct {
	ms       int64
	severity eventv1.Severity
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
		a = &alertLife{id: ev.GetAlertId(), alarm: alarm{ev.GetEquipmentId(), ev.GetCause()}}
		if ev.GetOrigin() == eventv1.Origin_ORIGIN_GATEWAY {
			a.gateway = ev.GetLabels()["gateway_id"]
		}
		l.alerts[ev.GetAlertId()] = a
	}
	at := max(r.Timestamp.UnixMilli(), 1)
	switch ev.GetTransition() {
	case eventv1.AlertTransition_ALERT_TRANSITION_OPENED:
		a.openedMS = cmp.Or(a.openedMS, at)
		a.severities = append(a.severities, severityFrom{at, ev.GetSeverity()})
	case eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED:
		a.escalatedMS = cmp.Or(a.escalatedMS, at)
		a.severities = append(a.severities, severityFrom{at, ev.GetSeverity()})
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

// chance is how long people could be told in [fromMS, toMS): all of it but the outages, which may overlap.
func chance(fromMS, toMS int64, outages ...Outage) (ms int64) {
	ms = toMS - fromMS
	reach := fromMS
	for _, o := range slices.SortedFunc(slices.Values(outages), func(a, b Outage) int { return a.From.Compare(b.From) }) {
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
	const where = "notifications"
	told, resolved := map[string]int64{}, map[string]int64{} // when first; of a notification without a time, when it could be
	for _, n := range w.Notifications {
		a := l.alerts[n.AlertID]
		switch {
		case a == nil || a.openedMS == 0:
			rep.add(Invented, where, "alert %q was notified and does not exist", n.AlertID)
		case a.early(n, w.ClockTolerance) > 0:
			rep.add(Invented, where, "alert %q (resolved: %t) was notified %s before its event stood", n.AlertID, n.Resolved, a.early(n, 0))
		case !n.Resolved:
			if _, ok := told[n.AlertID]; ok {
				rep.Counts["notifications_repeated"]++
			} else {
				told[n.AlertID] = n.at(a.openedMS)
			}
		case a.stands(true) == 0:
			rep.add(Wrong, where, "alert %q was notified as resolved and stands", n.AlertID)
		default:
			if _, ok := resolved[n.AlertID]; !ok {
				resolved[n.AlertID] = n.at(a.stands(true))
			}
		}
	}
	one := newTogether(l, w.Incidents, told, w.ClockTolerance)
	for _, id := range slices.Sorted(maps.Keys(l.alerts)) {
		a := l.alerts[id]
		_, wasTold := told[id]
		_, wasResolved := resolved[id]
		switch {
		case a.openedMS == 0:
		case !wasTold:
			// Told or not is open while it is new, and for good when it ended before its time.
			excuses := one.excuses(a)
			end := cmp.Or(a.closedMS, l.newestMS)
			if chance(a.openedMS, end, slices.Concat(w.Outages, excuses)...) > within {
				rep.add(Unnotified, where, "alert %q opened and nobody was told, of it or of an incident that it is part of", id)
			} else if chance(a.openedMS, end, w.Outages...) > within {
				rep.Counts["alerts_told_with_others"]++
			}
		case w.SendResolved && a.closedMS != 0 && !wasResolved && chance(a.closedMS, l.newestMS, slices.Concat(w.Outages, one.awaited(a))...) > within:
			rep.add(Unnotified, where, "alert %q ended and nobody was told of that", id)
		}
		if wasTold && one.another(a) {
			rep.Counts["incident_members_told"]++
		}
		if at, ok := resolved[id]; ok && a.escalatedMS == 0 {
			if other := one.forsaken(a, at); other != "" {
				rep.add(Wrong, where, "alert %q was notified as resolved while %q, which it stood for, had not come back and nobody had been told of it", id, other)
			}
		}
	}
}

// at is when a notification came, or otherwise.
func (n Notification) at(otherwiseMS int64) int64 {
	if n.At.IsZero() {
		return otherwiseMS
	}
	return n.At.UnixMilli()
}
