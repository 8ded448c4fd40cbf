package query

import (
	"strings"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
)

// Alerts is a question for alerts.
type Alerts struct {
	Page
	Where
	// EquipmentID is the machine; empty: all.
	EquipmentID   string
	IncludeClosed bool
	// Search is part of an alert's machine, its place, cause or summary, in whatever case.
	Search string
	// Least is how grave they are at least.
	Least eventv1.Severity
}

// AlertList is a page of alerts in the order of hub.AlertKey.
type AlertList struct {
	Events []*eventv1.AlertEvent
	Next   string
	Total  int
}

// Alerts lists the latest event of each alert.
func (d *Desk) Alerts(who *gate.Identity, q Alerts) (AlertList, *Fault) {
	size, f := q.size()
	if f != nil {
		return AlertList{}, f
	}
	after, f := q.afterAlert()
	if f != nil {
		return AlertList{}, f
	}
	search := strings.ToLower(q.Search)
	var out AlertList
	out.Events, out.Total = d.hub.Alerts(hub.AlertQuery{
		In: q.scope(who), EquipmentID: q.EquipmentID, IncludeClosed: q.IncludeClosed, After: after, Limit: size + 1,
		Match: func(e *eventv1.AlertEvent, at places.Place) bool {
			return e.Severity >= q.Least && (found(search, e.EquipmentId, at) || strings.Contains(strings.ToLower(e.Summary), search) || strings.Contains(strings.ToLower(e.Cause), search))
		},
	})
	if len(out.Events) > size {
		out.Events = out.Events[:size]
		out.Next = alertToken(out.Events[size-1])
	}
	return out, nil
}
