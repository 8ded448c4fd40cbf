package desk

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
)

// Publisher writes what people do.
type Publisher interface {
	Publish(ctx context.Context, partition int32, ev *eventv1.AlertEvent) (int64, error)
}

// Limits of what people write.
const (
	maxActor   = 128
	maxComment = 2048
)

// Act is what somebody does about an alert.
type Act struct {
	AlertID    string
	Transition eventv1.AlertTransition // one of people's
	By         string
	Why        string
	// For is how long, of shelving (needed) and of taking out of service (0: until somebody puts it back).
	For     time.Duration
	Verdict eventv1.AlertVerdict
	// Key makes an act that is sent twice one; empty: it is one of its own.
	Key string
}

// FieldError names what is wrong with an act.
type FieldError struct{ Field, Reason string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

func (d *Desk) check(a Act) error {
	switch {
	case !lifecycle.ByPeople(a.Transition):
		return &FieldError{"action", "not one that people take"}
	case a.By == "":
		return &FieldError{"by", "missing: who does it"}
	case !line(a.By, maxActor):
		return &FieldError{"by", fmt.Sprintf("longer than %d bytes, or with control characters", maxActor)}
	case len(a.Why) > maxComment || !utf8.ValidString(a.Why):
		return &FieldError{"comment", fmt.Sprintf("longer than %d bytes, or not UTF-8", maxComment)}
	case a.For < 0:
		return &FieldError{"duration", "negative"}
	case a.Transition == eventv1.AlertTransition_ALERT_TRANSITION_SHELVED && a.For == 0:
		return &FieldError{"duration", "missing: a shelf needs an end"}
	case a.Transition == eventv1.AlertTransition_ALERT_TRANSITION_SHELVED && a.For > d.cfg.MaxShelf:
		return &FieldError{"duration", fmt.Sprintf("longer than %s; take the alarm out of service instead", d.cfg.MaxShelf)}
	case a.Transition == eventv1.AlertTransition_ALERT_TRANSITION_OUT_OF_SERVICE && a.Why == "":
		return &FieldError{"comment", "missing: why it is out of service"}
	case a.Transition == eventv1.AlertTransition_ALERT_TRANSITION_VERDICT && (a.Verdict < eventv1.AlertVerdict_ALERT_VERDICT_REAL || a.Verdict > eventv1.AlertVerdict_ALERT_VERDICT_SENSOR):
		return &FieldError{"verdict", "none of real, false, known, sensor"}
	}
	return nil
}

// line tells whether s is one line of text.
func line(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// Do writes an act to the log and waits until it is in force, and in the journal if that is there. The error is a *FieldError, one of lifecycle's, or a passing one of
// Kafka's: then it may or may not come to be, and doing it again with the same Key is safe.
func (d *Desk) Do(ctx context.Context, act Act) (*lifecycle.Alert, error) {
	if err := d.check(act); err != nil {
		return nil, err
	}
	if err := d.Ready(); err != nil {
		return nil, err
	}
	a, err := d.Find(ctx, act.AlertID)
	if err != nil {
		return nil, err
	}
	ev := event(a, act, time.Now())
	d.mu.Lock()
	d.awaited[ev.GetEventId()] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.awaited, ev.GetEventId())
		delete(d.outcomes, ev.GetEventId())
	}()
	offset, err := d.events.Publish(ctx, a.Partition, ev)
	if err != nil {
		return nil, err
	}
	next := map[int32]int64{a.Partition: offset + 1}
	if err := d.Await(ctx, next); err != nil {
		return nil, err
	}
	d.mu.Lock()
	outcome := d.outcomes[ev.GetEventId()]
	now, known := d.ledger.Alert(a.ID)
	d.mu.Unlock()
	if outcome != nil {
		return nil, outcome
	}
	if !known {
		now = a
	}
	// Who asks next is to see it; a journal that is away holds nobody up.
	brief, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = d.until(brief, func() bool { return d.overflow || d.saved[a.Partition] >= offset+1 })
	return now, nil
}

// Find is an alert in memory or else in the journal.
func (d *Desk) Find(ctx context.Context, id string) (*lifecycle.Alert, error) {
	d.mu.Lock()
	a, ok := d.ledger.Alert(id)
	store := d.store
	d.mu.Unlock()
	if ok {
		return a, nil
	}
	if store == nil {
		return nil, ErrNotReady
	}
	list, _, err := store.Alerts(ctx, journal.Filter{AlertID: id, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, lifecycle.ErrUnknown
	}
	return list[0], nil
}

// Journal is the open journal.
func (d *Desk) Journal() (*journal.Store, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.store == nil {
		return nil, ErrNotReady
	}
	return d.store, nil
}

// event is the act as it stands in the log: the alert as it is now, and what is done. Readers that know an alert by its last event keep its labels and its end.
func event(a *lifecycle.Alert, act Act, now time.Time) *eventv1.AlertEvent {
	ev := proto.CloneOf(a.Event)
	ev.EventId = EventID(a.ID, act)
	ev.AlertId, ev.EquipmentId, ev.Cause, ev.Severity = a.ID, a.Key.EquipmentID, a.Key.Cause, a.Severity
	ev.Transition, ev.AtMs, ev.StartedUs, ev.EndedUs = act.Transition, now.UnixMilli(), a.StartedUS, a.EndedUS
	ev.Actor, ev.Comment, ev.Verdict = act.By, act.Why, act.Verdict
	if act.For > 0 {
		ev.UntilMs = now.Add(act.For).UnixMilli()
	}
	return ev
}

// EventID names the event of an act; of one with a Key it is the same each time.
func EventID(alertID string, act Act) string {
	return fmt.Sprintf("%s/%s/%s", alertID, lifecycle.TransitionName(act.Transition), unique(act))
}

// unique names one act among those of its kind on one alert.
func unique(act Act) string {
	if act.Key != "" {
		sum := sha256.Sum256([]byte(act.By + "\x00" + act.Key))
		return hex.EncodeToString(sum[:8])
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Conflict tells an act that came too late, or twice, from one that is wrong.
func Conflict(err error) bool {
	for _, c := range []error{lifecycle.ErrAcknowledged, lifecycle.ErrNotShelved, lifecycle.ErrInService, lifecycle.ErrOutOfService} {
		if errors.Is(err, c) {
			return true
		}
	}
	return false
}
