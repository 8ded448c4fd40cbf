package lifecycle

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// maxActs bounds how many of people's events are remembered of an alert, to know a repeated one.
const maxActs = 16

// TransitionName is the word for a transition in journal, API and CLI; "unspecified" for one that is not known here.
func TransitionName(t eventv1.AlertTransition) string {
	switch t {
	case eventv1.AlertTransition_ALERT_TRANSITION_OPENED:
		return "opened"
	case eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED:
		return "escalated"
	case eventv1.AlertTransition_ALERT_TRANSITION_CLOSED:
		return "closed"
	case eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED:
		return "acknowledged"
	case eventv1.AlertTransition_ALERT_TRANSITION_SHELVED:
		return "shelved"
	case eventv1.AlertTransition_ALERT_TRANSITION_UNSHELVED:
		return "unshelved"
	case eventv1.AlertTransition_ALERT_TRANSITION_OUT_OF_SERVICE:
		return "out_of_service"
	case eventv1.AlertTransition_ALERT_TRANSITION_IN_SERVICE:
		return "in_service"
	case eventv1.AlertTransition_ALERT_TRANSITION_VERDICT:
		return "verdict"
	default:
		return "unspecified"
	}
}

// ByPeople tells whether a transition is made by people, not by the judge.
func ByPeople(t eventv1.AlertTransition) bool {
	return t >= eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED && t <= eventv1.AlertTransition_ALERT_TRANSITION_VERDICT
}

// At is where an event stands in the log and the broker's time of its record.
type At struct {
	Partition int32
	Offset    int64
	MS        int64
}

// Apply takes the next event of a partition into account. The error says why somebody's act changes nothing; it is nobody's fault but the loser's of a race, and every
// reader of the log comes to the same.
func (l *Ledger) Apply(at At, ev *eventv1.AlertEvent) error {
	l.Advance(at.Partition, at.Offset, at.MS)
	a, known := l.alerts[ev.GetAlertId()]
	if known && a.Offset >= at.Offset && a.Partition == at.Partition {
		return nil // in the journal already when it was loaded
	}
	switch ev.GetTransition() {
	case eventv1.AlertTransition_ALERT_TRANSITION_OPENED:
		if !known {
			l.opened(at, ev)
		}
		return nil
	case eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED:
		l.escalated(at, ev, a)
		return nil
	case eventv1.AlertTransition_ALERT_TRANSITION_CLOSED:
		l.ended(at, ev, a)
		return nil
	}
	if !ByPeople(ev.GetTransition()) {
		return ErrInvalid
	}
	if !known {
		a = l.recalled(at, ev)
		if !a.Open() {
			l.closed[at.Partition] = append(l.closed[at.Partition], closing{a.ID, at.MS})
		}
	}
	if slices.Contains(a.Acts, ev.GetEventId()) {
		return nil // sent twice
	}
	a = change(a)
	a.Acts = append(slices.Clone(a.Acts[max(0, len(a.Acts)-maxActs+1):]), ev.GetEventId())
	a.Offset = at.Offset
	return l.act(at, ev, a)
}

func newAlert(at At, ev *eventv1.AlertEvent) *Alert {
	return &Alert{
		ID: ev.GetAlertId(), Key: Key{ev.GetEquipmentId(), ev.GetCause()}, GatewayID: ev.GetLabels()["gateway_id"], Severity: ev.GetSeverity(),
		StartedUS: ev.GetStartedUs(), OpenedMS: ev.GetAtMs(), Event: ev, EventMS: at.MS, Partition: at.Partition, Offset: at.Offset,
	}
}

func (l *Ledger) opened(at At, ev *eventv1.AlertEvent) {
	a := newAlert(at, ev)
	inherited := l.inherit(a)
	l.come(a)
	l.settle(a)
	l.row(a, ev.GetEventId(), "opened", ev.GetAtMs(), nil)
	if inherited != nil {
		l.row(a, a.ID+"/acknowledged/inherited", "acknowledged", ev.GetAtMs(), func(r *Row) {
			r.Actor, r.Comment = inherited.Mark.By, "came back; acknowledged as "+inherited.AlertID
		})
	}
	l.suppressed(a, ev.GetAtMs())
}

// inherit acknowledges an alert that comes back soon after an acknowledged one has ended and is no graver.
func (l *Ledger) inherit(a *Alert) *LastAck {
	p, ok := l.alarms[a.Key]
	if !ok || p.LastAck == nil {
		return nil
	}
	last := p.LastAck
	if a.OpenedMS-last.ClosedMS > l.policy.Rearm.Milliseconds() || a.Severity > last.Severity {
		return nil
	}
	ack := last.Mark
	a.Ack, a.AckedBefore = &ack, true
	return last
}

// escalated: a graver alert has to be seen anew.
func (l *Ledger) escalated(at At, ev *eventv1.AlertEvent, was *Alert) {
	var a *Alert
	switch {
	case was == nil: // its opening has left the log
		a = newAlert(at, ev)
	case !was.Open() || ev.GetSeverity() <= was.Severity:
		return
	default:
		a = change(was)
		a.Offset, a.Severity, a.Event, a.EventMS = at.Offset, ev.GetSeverity(), ofOrigin(ev, was.Event), at.MS
		a.Ack, a.AckedBefore = nil, false
	}
	l.graver(a, ev.GetAtMs())
	l.settle(a)
	l.row(a, ev.GetEventId(), "escalated", ev.GetAtMs(), nil)
	if was == nil || was.Held == "" {
		l.suppressed(a, ev.GetAtMs())
	}
}

// ofOrigin is an event with the origin that the alert had before: it says which incident the alert is part of, and a later report may know better or less.
func ofOrigin(ev, was *eventv1.AlertEvent) *eventv1.AlertEvent {
	if ev.GetOrigin() == was.GetOrigin() {
		return ev
	}
	ev = proto.CloneOf(ev)
	ev.Origin, ev.Machines = was.GetOrigin(), was.GetMachines()
	return ev
}

// suppressed records that people are not told of an alert, and why.
func (l *Ledger) suppressed(a *Alert, atMS int64) {
	if a.Held != "" {
		l.row(a, fmt.Sprintf("%s/suppressed/%d", a.ID, a.Offset), "suppressed", atMS, func(r *Row) { r.Comment = a.Held })
	}
}

func (l *Ledger) ended(at At, ev *eventv1.AlertEvent, was *Alert) {
	var a *Alert
	switch {
	case was == nil:
		a = newAlert(at, ev)
	case !was.Open():
		return
	default:
		a = change(was)
	}
	a.Offset, a.EndedUS, a.ClosedMS = at.Offset, ev.GetEndedUs(), max(ev.GetAtMs(), 1)
	l.leave(a)
	l.settle(a)
	l.closed[at.Partition] = append(l.closed[at.Partition], closing{a.ID, a.ClosedMS})
	l.remember(a)
	l.row(a, ev.GetEventId(), "closed", ev.GetAtMs(), func(r *Row) {
		if s := ev.GetAnnotations()["resolution"]; s != "" {
			r.Comment = s
		}
	})
}

// remember lets the acknowledgement of an alert that has ended stand for the next one.
func (l *Ledger) remember(a *Alert) {
	if a.Ack == nil || a.Open() {
		return
	}
	p := l.alarm(a.Key, a.Partition)
	p.LastAck = &LastAck{Mark: *a.Ack, AlertID: a.ID, Severity: a.Severity, ClosedMS: a.ClosedMS}
	if p.AlertID == "" {
		p.AlertID = a.ID
	}
	p.Offset = a.Offset
	l.changed.alarms[p.Key] = true
}

// recalled is an alert that is only known to the journal any more, as the event of somebody's act describes it.
func (l *Ledger) recalled(at At, ev *eventv1.AlertEvent) *Alert {
	a := newAlert(at, ev)
	a.OpenedMS = ev.GetStartedUs() / 1000
	if ev.GetEndedUs() != 0 {
		a.EndedUS, a.ClosedMS = ev.GetEndedUs(), max(ev.GetEndedUs()/1000, 1)
	}
	return a
}

// act does what somebody asks for.
func (l *Ledger) act(at At, ev *eventv1.AlertEvent, a *Alert) error {
	mark := &Mark{ID: ev.GetEventId(), By: ev.GetActor(), Why: ev.GetComment(), AtMS: at.MS, UntilMS: ev.GetUntilMs()}
	record := func(a *Alert) {
		l.row(a, ev.GetEventId(), TransitionName(ev.GetTransition()), at.MS, func(r *Row) {
			r.Actor, r.Comment, r.UntilMS, r.Verdict = mark.By, mark.Why, mark.UntilMS, ev.GetVerdict()
		})
	}
	switch ev.GetTransition() {
	case eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED:
		if a.Ack != nil {
			return ErrAcknowledged
		}
		a.Ack = mark
		if a.Held != "" { // nobody was told, and somebody has seen it
			l.holds.release(a)
			a.AckedBefore = true
		}
		l.settle(a)
		l.remember(a)
		record(a)
		l.share(a, at.MS)
		return nil
	case eventv1.AlertTransition_ALERT_TRANSITION_VERDICT:
		a.Verdict, a.VerdictMark = ev.GetVerdict(), mark
		record(l.settle(a))
		return nil
	}
	p := l.alarm(a.Key, at.Partition)
	switch ev.GetTransition() {
	case eventv1.AlertTransition_ALERT_TRANSITION_SHELVED:
		p.lift(p.Shelf, at.MS)
		p.Shelf = mark
	case eventv1.AlertTransition_ALERT_TRANSITION_UNSHELVED:
		if p.Shelf == nil {
			return ErrNotShelved
		}
		p.lift(p.Shelf, at.MS)
		p.Shelf = nil
	case eventv1.AlertTransition_ALERT_TRANSITION_OUT_OF_SERVICE:
		if p.OutOfService != nil {
			return ErrOutOfService
		}
		p.OutOfService = mark
	case eventv1.AlertTransition_ALERT_TRANSITION_IN_SERVICE:
		if p.OutOfService == nil {
			return ErrInService
		}
		p.lift(p.OutOfService, at.MS)
		p.OutOfService = nil
	}
	p.AlertID, p.Offset = a.ID, at.Offset
	l.noteExpiry(p)
	l.settle(a)
	l.refresh(p, at.Offset)
	record(l.alerts[a.ID])
	return nil
}
