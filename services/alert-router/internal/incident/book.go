// Package incident decides when an alert opens, escalates and closes. It does no I/O and reads no clock:
// its time is the broker's, given with each record.
//
// An alert is one episode of one cause on one machine; alert_id is the episode's id. A Book holds the alerts of
// one partition. It is rebuilt, bit for bit, from the events it has emitted (Restore), so the log of transitions
// is its only durable state.
//
//	          STARTED | ONGOING               severity rises
//	(unknown) -----------------> open ------------------------> open, escalated
//	                              |  ENDED, or a newer episode of the same cause
//	                              v
//	                            closed   (remembered for Hold, then forgotten)
//
// Everything else changes nothing: repeats, a lower severity, the end of an unknown episode, the late report of an
// episode that a newer one has replaced. A cause touches only its own alerts: lost contact ("silence")
// resolves nothing else.
package incident

import (
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Hold is how long (broker time) a closed alert is remembered: a repeated report of it must not open it anew,
// and its resolved notification may still be owed after a restart.
const Hold = time.Hour

// View is one alert as the routing engine sees it. An escalation ends one view and begins another, because
// the severity is one of the labels that routes match on.
type View struct {
	Labels      map[string]string
	Annotations map[string]string
	// Broker time, ms since 1970 UTC; EndsMS is 0 while the alert stands.
	StartsMS int64
	EndsMS   int64
}

// Transition is one change: the event to record, and the views it changes, newest first.
type Transition struct {
	Event *eventv1.AlertEvent
	Views []View
}

type machineCause struct{ equipment, cause string }

type entry struct {
	id       string
	key      machineCause
	severity eventv1.Severity
	started  int64 // event time, us
	openedMS int64
	closedMS int64 // 0 while open
	view     View
	past     []View // ended by escalation
	offset   int64  // of the first event in alert.events.v1, -1 until known
}

// Book is the alerts of one partition. Memory: the open alerts, and those closed within Hold.
// Not safe for concurrent use.
type Book struct {
	byID   map[string]*entry
	open   map[machineCause]*entry
	closed []*entry // in the order of closing
}

// NewBook is a Book that knows no alert.
func NewBook() *Book {
	return &Book{byID: make(map[string]*entry), open: make(map[machineCause]*entry)}
}

// Open is the number of open alerts.
func (b *Book) Open() int { return len(b.open) }

// Apply takes one valid report (see Validate) into account and returns what it changes, in order: at most two
// transitions. The caller records them; until then they are not true.
func (b *Book) Apply(a *eventv1.Anomaly) []Transition {
	sev := severity(a)
	if e, known := b.byID[a.GetEpisodeId()]; known {
		switch {
		case e.closedMS != 0:
			return nil
		case a.GetPhase() == eventv1.Phase_PHASE_ENDED:
			return []Transition{b.close(e, a, endedText(a))}
		case sev > e.severity:
			return []Transition{b.escalate(e, a, sev)}
		}
		return nil
	}
	if a.GetPhase() == eventv1.Phase_PHASE_ENDED {
		return nil
	}
	key := machineCause{a.GetEquipmentId(), a.GetCause()}
	var out []Transition
	if old, stands := b.open[key]; stands {
		if old.started >= a.GetStartedUs() {
			return nil
		}
		out = append(out, b.close(old, a, "A newer episode has begun."))
	}
	return append(out, b.start(a, sev))
}

func (b *Book) start(a *eventv1.Anomaly, sev eventv1.Severity) Transition {
	ev := openedEvent(a, sev)
	e := b.opened(ev, -1)
	return Transition{Event: ev, Views: []View{e.view}}
}

func (b *Book) escalate(e *entry, a *eventv1.Anomaly, sev eventv1.Severity) Transition {
	ev := escalatedEvent(a, e, sev)
	b.escalated(e, ev)
	return Transition{Event: ev, Views: []View{e.view, e.past[len(e.past)-1]}}
}

func (b *Book) close(e *entry, a *eventv1.Anomaly, why string) Transition {
	ev := closedEvent(a, e, why)
	b.ended(e, ev)
	return Transition{Event: ev, Views: []View{e.view}}
}

// opened, escalated and ended are the only places where state changes; live decisions and Restore share them.

func (b *Book) opened(ev *eventv1.AlertEvent, offset int64) *entry {
	e := &entry{
		id:       ev.GetAlertId(),
		key:      machineCause{ev.GetEquipmentId(), ev.GetCause()},
		severity: ev.GetSeverity(),
		started:  ev.GetStartedUs(),
		openedMS: ev.GetAtMs(),
		view:     View{Labels: ev.GetLabels(), Annotations: ev.GetAnnotations(), StartsMS: ev.GetAtMs()},
		offset:   offset,
	}
	b.byID[e.id] = e
	b.open[e.key] = e
	return e
}

func (b *Book) escalated(e *entry, ev *eventv1.AlertEvent) {
	old := e.view
	old.EndsMS = endsAt(ev, old.StartsMS)
	old.Annotations = with(old.Annotations, AnnotationResolution, "Escalated to "+SeverityName(ev.GetSeverity())+".")
	e.past = append(e.past, old)
	e.severity = ev.GetSeverity()
	e.view = View{Labels: ev.GetLabels(), Annotations: ev.GetAnnotations(), StartsMS: e.openedMS}
}

func (b *Book) ended(e *entry, ev *eventv1.AlertEvent) {
	e.closedMS = max(ev.GetAtMs(), 1)
	e.view.EndsMS = endsAt(ev, e.view.StartsMS)
	e.view.Annotations = ev.GetAnnotations()
	if b.open[e.key] == e {
		delete(b.open, e.key)
	}
	b.closed = append(b.closed, e)
}

// endsAt keeps an end from standing before its start when two records' broker times run backwards (a change of leader).
func endsAt(ev *eventv1.AlertEvent, startsMS int64) int64 { return max(ev.GetAtMs(), startsMS, 1) }

// Restore takes one recorded event into account, as it stood at the given offset. Events of one partition are
// given in their order. An event that does not fit (its beginning lies before the first one given) is
// read for what it says: an escalation without its opening is an open alert.
func (b *Book) Restore(ev *eventv1.AlertEvent, offset int64) {
	e, known := b.byID[ev.GetAlertId()]
	switch ev.GetTransition() {
	case eventv1.AlertTransition_ALERT_TRANSITION_OPENED:
		if !known {
			b.opened(ev, offset)
		}
	case eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED:
		switch {
		case !known:
			b.opened(ev, offset)
		case e.closedMS == 0 && ev.GetSeverity() > e.severity:
			b.escalated(e, ev)
		}
	case eventv1.AlertTransition_ALERT_TRANSITION_CLOSED:
		if !known {
			e = b.opened(ev, offset)
		}
		if e.closedMS == 0 {
			b.ended(e, ev)
		}
	}
}

// Recorded tells where the first event of an alert has come to stand in alert.events.v1.
func (b *Book) Recorded(alertID string, offset int64) {
	if e, ok := b.byID[alertID]; ok && e.offset < 0 {
		e.offset = offset
	}
}

// RestoreFrom is the smallest offset that must be read again to rebuild this Book: that of the oldest alert it
// holds, or next when it holds none. Cost: one pass over the alerts held.
func (b *Book) RestoreFrom(next int64) int64 {
	for _, e := range b.byID {
		if e.offset >= 0 {
			next = min(next, e.offset)
		}
	}
	return next
}

// Advance forgets alerts closed more than Hold before the given broker time (ms since 1970 UTC).
func (b *Book) Advance(logMS int64) {
	n := 0
	for n < len(b.closed) && b.closed[n].closedMS < logMS-Hold.Milliseconds() {
		delete(b.byID, b.closed[n].id)
		n++
	}
	if n > 0 {
		b.closed = append([]*entry(nil), b.closed[n:]...)
	}
}

// Views is every view that the Book holds: standing, closed within Hold, and ended by escalation; in no order.
func (b *Book) Views() []View {
	out := make([]View, 0, len(b.byID))
	for _, e := range b.byID {
		out = append(out, e.view)
		out = append(out, e.past...)
	}
	return out
}

// severity of a report; one that names none is a warning: it must reach somebody.
func severity(a *eventv1.Anomaly) eventv1.Severity {
	if a.GetSeverity() == eventv1.Severity_SEVERITY_UNSPECIFIED {
		return eventv1.Severity_SEVERITY_WARNING
	}
	return a.GetSeverity()
}
