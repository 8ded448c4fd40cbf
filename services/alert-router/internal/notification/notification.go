// Package notification is what a receiver is given and what it answers: the seam between the routing engine, which decides whom to tell of what and when, and the
// receivers, which know how a message looks and how it gets there. It does no I/O and knows neither.
package notification

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/common/model"
)

// Receiver brings one notification to people, or to a program.
//
// Send makes one attempt: how often and when it is tried again is the engine's. It returns nil once the other side has taken the
// notification, else an *Error (anything else counts as Retryable and as maybe arrived). It is called concurrently and ends with ctx.
type Receiver interface {
	Send(ctx context.Context, n Notification) error
}

// Integration is a Receiver as the engine runs it. Name and Index name it in the notification log, in metrics and in the routing file ("slack", 0: the
// first of slack_configs); an Integration of a name and index that Alertmanager has too takes its place.
type Integration struct {
	Name         string
	Index        int
	SendResolved bool
	// Bare: labels, annotations and times of the alerts are all that the receiver tells. What else is known of them is not looked up then.
	Bare     bool
	Receiver Receiver
}

// MaxDescribed is how many alerts of a notification, the first ones, are given with their Key and what made them (Score, Evidence, State, Path and the machine's own times): no receiver tells that of more.
const MaxDescribed = 100

// Status of an alert, or of a notification: firing while any of its alerts is.
type Status string

// The two statuses, as in Alertmanager's payloads.
const (
	Firing   Status = "firing"
	Resolved Status = "resolved"
)

// Reason is why people are told now.
type Reason string

// Reasons.
const (
	First        Reason = "first_notification"
	NewAlerts    Reason = "new_alerts_added"
	SomeResolved Reason = "some_alerts_resolved"
	AllResolved  Reason = "all_alerts_resolved"
	Repeat       Reason = "repeat_interval_elapsed"
	Escalation   Reason = "not_acknowledged_in_time"
)

// Notification is all that there is to say of one group of alerts to one receiver. It is shared by receivers: nothing in it may be changed.
type Notification struct {
	// Key is the same for every attempt at saying the same, also after a restart and from another instance: the idempotency key. At most 64
	// characters of [0-9a-f].
	Key string
	// GroupKey is the same for all that is said of one group, from the first word to the last: what a PagerDuty incident, an Opsgenie alias or a mail thread
	// is named by. As Alertmanager makes it; it may be long and hold any character.
	GroupKey string
	// Receiver is the name in the routing file.
	Receiver string
	Status   Status
	Reason   Reason
	// At is when it was decided to send, by this process's clock.
	At       time.Time
	Incident Incident
	// Alerts are the group's: firing before resolved, more severe before less, then by start. Never empty.
	Alerts []Alert
	// As in Alertmanager's payloads.
	GroupLabels       map[string]string
	CommonLabels      map[string]string
	CommonAnnotations map[string]string
	// ExternalURL is how people reach this service, without a slash at the end.
	ExternalURL string
	Links       Links
}

// ScopeKey is what a record of n is keyed by, so that what is said of one machine stays in order: the machine, or of several what they share.
func (n *Notification) ScopeKey() string {
	if len(n.Alerts) == 1 {
		return n.Alerts[0].EquipmentID
	}
	return n.Incident.ScopeID
}

// Incident is what the alerts have in common. Where one alert is the whole incident, its ID is that alert's.
type Incident struct {
	ID string
	// Title is one line for a subject or a headline, without the status.
	Title    string
	Cause    string
	Severity string // the highest of what stands, else of what stood: "info", "warning", "critical"
	// Scope is what the alerts share: "machine", "gateway", "line", "site", "group" (one of the configuration: ScopeID is its name); ScopeID is which. Empty: several causes or places.
	Scope   string
	ScopeID string
	// Machines are how many machines it is about, of which Alerts may show only some (a storm's summary).
	Machines int
	Since    time.Time
}

// Set is labels or annotations by name.
type Set = model.LabelSet

// Label is the label of that name; "" when there is none.
func (a *Alert) Label(name string) string { return string(a.Labels[model.LabelName(name)]) }

// Annotation is the annotation of that name; "" when there is none.
func (a *Alert) Annotation(name string) string { return string(a.Annotations[model.LabelName(name)]) }

// Alert is one alert of one machine and cause, with what made it.
type Alert struct {
	ID string // alert_id
	// Key is an idempotency key for receivers that keep alerts apart: the same for every telling of this alert, severity and status.
	Key         string
	Status      Status
	Severity    string
	EquipmentID string
	GatewayID   string
	Cause       string
	Summary     string
	// Labels and Annotations are the engine's own, not copies.
	Labels, Annotations Set
	// StartsAt and EndsAt are the broker's times; EndsAt is zero while it fires.
	StartsAt, EndsAt time.Time
	// Started and Ended are the machine's own times.
	Started, Ended time.Time
	// Score in [0, 1) and how far it can be trusted in [0, 1].
	Score, Confidence float64
	// Evidence is what is odd, the heaviest first. Empty when the process does not know it any more (labels and annotations are all that is kept of an alert
	// that was posted through the API).
	Evidence  []Evidence
	Detectors []string
	// State after ISA-18.2 and, when acknowledged, by whom: "unacknowledged", "acknowledged", "returned", "shelved", ...
	State          string
	AcknowledgedBy string
	// Path is how long each step took from the machine to here, in order.
	Path  []Hop
	Links Links
}

// Evidence is what one sensor did and what was expected of it.
type Evidence struct {
	Sensor string
	// Share in [0, 1] of the whole anomaly.
	Share    float64
	Observed float64
	// Expected band; both NaN when nothing is known.
	ExpectedLow, ExpectedHigh float64
	Detector                  string
	// Statistic of the window that the numbers are of: "mean" or "stddev"; empty: the value itself.
	Statistic string
	Unit      string // empty when unknown
	// Series is what the sensor did lately, oldest first, for a picture; may be empty. NaN where there was nothing.
	Series []Point
}

// Point is one value of a sensor.
type Point struct {
	At    time.Time
	Value float64
}

// Hop is one step on the way from the machine to people: "judged", "recorded", "sent". At is when it was done, Took how long after the step before;
// of clocks that differ Took may be negative.
type Hop struct {
	Name string
	At   time.Time
	Took time.Duration
}

// Links are URLs that people follow. An empty one is not shown.
type Links struct {
	Machine     string // the live chart
	Runbook     string
	Acknowledge string
	Shelve      string
	Silence     string
	// Verdict by its name: "real", "false", "known", "sensor". Signed, expiring.
	Verdict map[string]string
}

// Class says what to do about an error.
type Class int

const (
	// Retryable: the same may go well later (time-out, 5xx, 429, connection refused).
	Retryable Class = iota
	// Permanent: it will go wrong each time (400, 401, 404, an address that is not allowed). It is not tried again.
	Permanent
)

// String is the class as a metric's label.
func (c Class) String() string {
	if c == Permanent {
		return "permanent"
	}
	return "retryable"
}

// Error is why a Send came to nothing. Its text must hold no secret: it is logged and journaled.
type Error struct {
	Class Class
	// Reason is short and of few values, for a metric's label: "timeout", "refused", "rate_limited", "unauthorized", "bad_address", "server_error", ...
	Reason string
	// RetryAfter is how long the other side asks to be left alone; 0: it does not say.
	RetryAfter time.Duration
	// MayHaveArrived: the message was sent and no answer came, so somebody may have been told. An answer is believed, also one that refuses.
	MayHaveArrived bool
	Err            error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s (%s)", e.Reason, e.Class)
	}
	return fmt.Sprintf("%s (%s): %v", e.Reason, e.Class, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }
