// Package lifecycle says in which state each alert is, after ISA-18.2 (management of alarm systems): a fold over alert.events.v1. It does no I/O and reads no clock: time is
// the broker's, given with each record.
//
//	                opened                       acknowledged
//	(unknown) ------------------> unacknowledged ------------> acknowledged
//	                                |  closed  ^ escalated        |  closed
//	                                v          +-------------+    v
//	                              returned ---------------->  closed
//	                                         acknowledged
//
// Beside that an alarm (one cause of one machine) can be shelved until some time, out of service, or suppressed by design: then nobody is told of its alerts, and they go on
// changing underneath.
//
// An acknowledged alert does not re-arm when it clears: should the same alarm come back within Policy.Rearm and be no graver, the new alert is acknowledged
// as the last one was.
//
// The judge's transitions and people's stand in the same log, so every process that reads it has the same states and the same journal, row by row.
package lifecycle

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// State of an alert. Where several hold, the first of: out of service, shelved, suppressed, then the rest.
type State string

// The states of ISA-18.2. Returned is "return to normal, unacknowledged".
const (
	Unacknowledged State = "unacknowledged"
	Acknowledged   State = "acknowledged"
	Returned       State = "returned"
	Closed         State = "closed"
	Shelved        State = "shelved"
	OutOfService   State = "out_of_service"
	Suppressed     State = "suppressed"
)

// States in the order in which a list is best read.
func States() []State {
	return []State{Unacknowledged, Acknowledged, Suppressed, Shelved, OutOfService, Returned, Closed}
}

// Nobody is the actor of transitions that no person has made: the judge's, and expiries.
const Nobody = "tocsin"

// Policy of a Ledger.
type Policy struct {
	// Rearm is how long after its end an acknowledged alert stands for the next one of the same machine and cause.
	Rearm time.Duration
	// Keep is how long a closed alert is kept in memory; the journal keeps it longer.
	Keep time.Duration
	// Holds keeps people from being told one by one of what is one.
	Holds Holds
}

// Key is an alarm: one cause of one machine.
type Key struct{ EquipmentID, Cause string }

func (k Key) String() string { return k.EquipmentID + "/" + k.Cause }

// Mark is a decision of somebody.
type Mark struct {
	ID      string `json:"id"` // of the event that made it
	By      string `json:"by"`
	Why     string `json:"why,omitempty"`
	AtMS    int64  `json:"at_ms"`
	UntilMS int64  `json:"until_ms,omitempty"` // 0: open-ended
}

// Alert is what is known of one alert. One that a Ledger has given out does not change any more.
type Alert struct {
	ID          string
	Key         Key
	GatewayID   string
	Severity    eventv1.Severity
	StartedUS   int64 // event time
	EndedUS     int64 // event time, 0 while open
	OpenedMS    int64 // broker time
	EventMS     int64 // broker time of the record of Event; 0: not known
	ClosedMS    int64 // broker time, 0 while open
	Ack         *Mark // who has seen it
	AckedBefore bool  // Ack was given to an earlier alert of the same alarm: nobody is told of this one
	Verdict     eventv1.AlertVerdict
	VerdictMark *Mark
	State       State
	Held        string // why nobody is told though nobody decided so; "" when people are
	Lead        string // the alert that stands for the incident that this one is part of; its own id when it does; "" when it is none
	Note        string // something to be told with it
	Event       *eventv1.AlertEvent
	Acts        []string // ids of people's events, the last few
	Partition   int32
	Offset      int64 // of the last event about it
}

// Open tells whether the alert stands.
func (a *Alert) Open() bool { return a.ClosedMS == 0 }

// Alarm is what people have decided of a machine and cause.
type Alarm struct {
	Key          Key   `json:"key"`
	Shelf        *Mark `json:"shelf,omitempty"`
	OutOfService *Mark `json:"out_of_service,omitempty"`
	// LastAck stands for the next alert: see Policy.Rearm.
	LastAck *LastAck `json:"last_ack,omitempty"`
	// Lifted are the last few decisions that hold no longer, with the time of their end.
	Lifted    []Lifted `json:"lifted,omitempty"`
	AlertID   string   `json:"alert_id"` // the alert that the last decision was said of
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
}

// Lifted is a decision that holds no longer.
type Lifted struct {
	ID   string `json:"id"`
	AtMS int64  `json:"at_ms"`
}

// maxLifted bounds Alarm.Lifted.
const maxLifted = 4

// lift ends a decision, which may be nil.
func (p *Alarm) lift(m *Mark, atMS int64) {
	if m != nil {
		p.Lifted = append(slices.Clone(p.Lifted[max(0, len(p.Lifted)-maxLifted+1):]), Lifted{m.ID, atMS})
	}
}

// LastAck is the acknowledgement of an alert that has ended.
type LastAck struct {
	Mark     Mark             `json:"mark"`
	AlertID  string           `json:"alert_id"`
	Severity eventv1.Severity `json:"severity"`
	ClosedMS int64            `json:"closed_ms"`
}

// Row is one transition as the journal keeps it.
type Row struct {
	ID          string
	AlertID     string
	EquipmentID string
	Cause       string
	GatewayID   string
	Transition  string
	Severity    eventv1.Severity
	State       State // after it
	AtMS        int64 // broker time
	Actor       string
	Comment     string
	UntilMS     int64
	Verdict     eventv1.AlertVerdict
	Score       float64
	Summary     string
	Partition   int32
	Offset      int64
	// Seq orders the rows of a partition: by offset, then as they came about.
	Seq int64
}

// rowsPerOffset bounds how many rows of one record Seq tells apart.
const rowsPerOffset = 1024

// Why an act of somebody changes nothing.
var (
	ErrUnknown      = errors.New("no such alert")
	ErrAcknowledged = errors.New("acknowledged already")
	ErrNotShelved   = errors.New("not shelved")
	ErrInService    = errors.New("in service already")
	ErrOutOfService = errors.New("out of service already")
	ErrInvalid      = errors.New("not a transition that people make")
)

// Ledger is the fold. Memory: alerts that stand or have ended within Policy.Keep, and alarms that somebody has decided of. Not safe for concurrent use.
type Ledger struct {
	policy  Policy
	alerts  map[string]*Alert
	alarms  map[Key]*Alarm
	open    map[Key][]*Alert    // those that stand, by their ids; mostly one
	closed  map[int32][]closing // by partition, in the order of closing
	expiry  map[int32]int64     // the first time at which something of a partition expires; none: nothing does
	holds   *holding
	changed changes
}

type closing struct {
	id string
	ms int64
}

type changes struct {
	rows   []Row
	alerts map[string]*Alert // as they are now; one that is forgotten already has changed all the same
	alarms map[Key]bool
}

// New is a Ledger that knows nothing.
func New(p Policy) *Ledger {
	l := &Ledger{
		policy: p, alerts: map[string]*Alert{}, alarms: map[Key]*Alarm{}, open: map[Key][]*Alert{},
		closed: map[int32][]closing{}, expiry: map[int32]int64{}, holds: newHolding(p.Holds),
	}
	l.reset()
	return l
}

func (l *Ledger) reset() { l.changed = changes{alerts: map[string]*Alert{}, alarms: map[Key]bool{}} }

// Changes is what has come about since it was last asked for: the new rows, and the alerts and alarms as they are now.
type Changes struct {
	Rows   []Row
	Alerts []*Alert
	Alarms []Alarm
}

// Take gives the changes and forgets them.
func (l *Ledger) Take() Changes {
	c := Changes{Rows: l.changed.rows}
	for _, id := range slices.Sorted(maps.Keys(l.changed.alerts)) {
		c.Alerts = append(c.Alerts, l.changed.alerts[id])
	}
	keys := slices.SortedFunc(maps.Keys(l.changed.alarms), func(a, b Key) int { return cmp.Compare(a.String(), b.String()) })
	for _, k := range keys {
		if p, ok := l.alarms[k]; ok {
			c.Alarms = append(c.Alarms, *p)
		}
	}
	l.reset()
	return c
}

// Load puts in what was known when a journal was last written.
func (l *Ledger) Load(alerts []*Alert, alarms []Alarm) {
	for i := range alarms {
		p := alarms[i]
		l.alarms[p.Key] = &p
		l.noteExpiry(&p)
	}
	slices.SortFunc(alerts, func(a, b *Alert) int { return cmp.Compare(a.ClosedMS, b.ClosedMS) })
	for _, a := range alerts {
		l.keep(a)
		if !a.Open() {
			l.closed[a.Partition] = append(l.closed[a.Partition], closing{a.ID, a.ClosedMS})
		}
	}
	slices.SortFunc(alerts, func(a, b *Alert) int { return cmp.Or(cmp.Compare(a.OpenedMS, b.OpenedMS), cmp.Compare(a.ID, b.ID)) })
	for _, a := range alerts {
		l.recall(a)
	}
	l.reset()
}

// Alert is the alert of that id.
func (l *Ledger) Alert(id string) (*Alert, bool) {
	a, ok := l.alerts[id]
	return a, ok
}

// Alarm is what was decided of a machine and cause.
func (l *Ledger) Alarm(k Key) (Alarm, bool) {
	p, ok := l.alarms[k]
	if !ok {
		return Alarm{}, false
	}
	return *p, true
}

// Standing is an alert of that machine and cause that stands.
func (l *Ledger) Standing(k Key) (*Alert, bool) {
	if of := l.open[k]; len(of) > 0 {
		return of[0], true
	}
	return nil, false
}

// Alerts is every alert that is kept, in no order.
func (l *Ledger) Alerts() []*Alert {
	return slices.AppendSeq(make([]*Alert, 0, len(l.alerts)), maps.Values(l.alerts))
}

// Count is how many alerts are in a state.
func (l *Ledger) Count(s State) (n int) {
	for _, a := range l.alerts {
		if a.State == s {
			n++
		}
	}
	return n
}

// Alarms is every alarm that somebody has decided of, in no order.
func (l *Ledger) Alarms() []Alarm {
	out := make([]Alarm, 0, len(l.alarms))
	for _, p := range l.alarms {
		out = append(out, *p)
	}
	return out
}

// keep puts an alert in place of what was known of it.
func (l *Ledger) keep(a *Alert) {
	l.alerts[a.ID] = a
	of := l.open[a.Key]
	at, known := slices.BinarySearchFunc(of, a.ID, func(b *Alert, id string) int { return cmp.Compare(b.ID, id) })
	switch {
	case known && a.Open():
		of[at] = a
	case known && len(of) == 1:
		delete(l.open, a.Key)
	case known:
		l.open[a.Key] = slices.Delete(of, at, at+1)
	case a.Open():
		l.open[a.Key] = slices.Insert(of, at, a)
	}
	l.changed.alerts[a.ID] = a
}

// change is a copy of an alert to be changed and kept.
func change(a *Alert) *Alert {
	b := *a
	return &b
}

func (l *Ledger) alarm(k Key, partition int32) *Alarm {
	p, ok := l.alarms[k]
	if !ok {
		p = &Alarm{Key: k, Partition: partition}
		l.alarms[k] = p
	}
	return p
}

// state says which state an alert is in.
func (l *Ledger) state(a *Alert) State {
	if p, ok := l.alarms[a.Key]; ok && a.Open() {
		switch {
		case p.OutOfService != nil:
			return OutOfService
		case p.Shelf != nil:
			return Shelved
		}
	}
	switch {
	case a.Open() && a.Held != "":
		return Suppressed
	case a.Open() && a.Ack != nil:
		return Acknowledged
	case a.Open():
		return Unacknowledged
	case a.Ack != nil:
		return Closed
	default:
		return Returned
	}
}

// settle keeps a changed alert with the state that it is in now.
func (l *Ledger) settle(a *Alert) *Alert {
	a.State = l.state(a)
	l.keep(a)
	return a
}

// row records one transition of an alert that has been settled.
func (l *Ledger) row(a *Alert, id, transition string, at int64, fill func(*Row)) {
	r := Row{
		ID: id, AlertID: a.ID, EquipmentID: a.Key.EquipmentID, Cause: a.Key.Cause, GatewayID: a.GatewayID, Transition: transition, Severity: a.Severity,
		State: a.State, AtMS: at, Actor: Nobody, Score: a.Event.GetScore(), Summary: a.Event.GetSummary(), Partition: a.Partition, Offset: a.Offset,
	}
	if fill != nil {
		fill(&r)
	}
	r.Seq = r.Offset * rowsPerOffset
	if n := len(l.changed.rows); n > 0 {
		// Rows of one record follow one another; another partition's offset is another's.
		if last := l.changed.rows[n-1]; last.Partition == r.Partition && last.Offset == r.Offset {
			r.Seq = last.Seq + 1
		}
	}
	l.changed.rows = append(l.changed.rows, r)
}

// Advance moves a partition's time to the given broker time (ms since 1970 UTC) as of a record: shelves whose time is over end, and alerts closed long ago are forgotten.
func (l *Ledger) Advance(partition int32, offset, logMS int64) {
	if at, ok := l.expiry[partition]; ok && at <= logMS {
		l.expire(partition, offset, logMS)
	}
	l.review(At{partition, offset, logMS})
	l.holds.sweep(logMS)
	list := l.closed[partition]
	n := 0
	for n < len(list) && list[n].ms < logMS-l.policy.Keep.Milliseconds() {
		if a, ok := l.alerts[list[n].id]; ok && !a.Open() {
			delete(l.alerts, a.ID)
		}
		n++
	}
	if n > 0 {
		l.closed[partition] = append([]closing(nil), list[n:]...)
	}
}

func (l *Ledger) noteExpiry(p *Alarm) {
	for _, m := range []*Mark{p.Shelf, p.OutOfService} {
		if m == nil || m.UntilMS == 0 {
			continue
		}
		if at, ok := l.expiry[p.Partition]; !ok || m.UntilMS < at {
			l.expiry[p.Partition] = m.UntilMS
		}
	}
}

func (l *Ledger) expire(partition int32, offset, logMS int64) {
	delete(l.expiry, partition)
	over := func(m *Mark) bool { return m != nil && m.UntilMS != 0 && m.UntilMS <= logMS }
	var due []*Alarm
	for _, p := range l.alarms {
		if p.Partition == partition && (over(p.Shelf) || over(p.OutOfService)) {
			due = append(due, p)
		}
	}
	slices.SortFunc(due, func(a, b *Alarm) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	for _, p := range due {
		p.Offset = offset
		if m := p.Shelf; over(m) {
			p.Shelf = nil
			p.lift(m, m.UntilMS)
			l.lifted(p, m, "unshelved", offset)
		}
		if m := p.OutOfService; over(m) {
			p.OutOfService = nil
			p.lift(m, m.UntilMS)
			l.lifted(p, m, "in_service", offset)
		}
	}
	for _, p := range l.alarms {
		if p.Partition == partition {
			l.noteExpiry(p)
		}
	}
}

// lifted records that a mark's time is over.
func (l *Ledger) lifted(p *Alarm, m *Mark, transition string, offset int64) {
	a := l.refresh(p, offset)
	l.row(a, fmt.Sprintf("%s/%s/expired", m.ID, transition), transition, m.UntilMS, func(r *Row) { r.Comment = "its time was over" })
}

// refresh settles the open alerts of an alarm of which something was decided, and gives one of them to put in the row: the one that it was said of, where it is known.
func (l *Ledger) refresh(p *Alarm, offset int64) *Alert {
	l.changed.alarms[p.Key] = true
	said := l.alerts[p.AlertID]
	for _, was := range slices.Clone(l.open[p.Key]) {
		a := change(was)
		a.Offset = offset
		l.settle(a)
		if said == nil || said.ID == a.ID || !said.Open() {
			said = a
		}
	}
	if said == nil { // forgotten long since
		said = &Alert{ID: p.AlertID, Key: p.Key, Partition: p.Partition, Offset: offset, ClosedMS: 1}
		said.State = l.state(said)
	}
	return said
}

// Rewind lets a partition's events count again from the start of its log, which was made anew.
func (l *Ledger) Rewind(partition int32) {
	for _, a := range l.Alerts() {
		if a.Partition == partition {
			a = change(a)
			a.Offset = -1
			l.keep(a)
		}
	}
	l.reset()
}
