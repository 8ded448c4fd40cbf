package routing

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// observed counts and times what one integration of one receiver is asked to send.
type observed struct {
	next        notify.Integration
	receiver    string
	integration string
	watch       *latency
	metrics     *metrics.Set
	doubt       func(context.Context) // told of what may have arrived though it came to an error
	key         func(context.Context) string
	known       func(context.Context) (firing, resolved []uint64) // what the receiver has been told of the group's alerts before; may be nil
	noted       func([]Notice)                                    // may be nil
}

// Notify implements notify.Notifier.
func (o *observed) Notify(ctx context.Context, alerts ...*alert.Alert) (bool, error) {
	var a attempt
	retry, err := o.next.Notify(a.watch(ctx), alerts...)
	if err != nil && a.arrived(retry, err) {
		o.doubt(ctx)
	}
	outcome, reason := "sent", why(ctx)
	if err != nil {
		outcome, reason = "failed", failure(ctx, err)
		if retry {
			outcome = "retry"
		}
	}
	o.metrics.GetOrCreateCounter(attempts(o.receiver, o.integration, outcome, reason)).Inc()
	now := time.Now()
	if err == nil {
		o.watch.sent(o.integration, o.receiver, alerts, now)
	}
	o.note(ctx, alerts, outcome, err, now)
	return retry, err
}

// attempts is the counter of what became of attempts to tell.
func attempts(receiver, integration, outcome, reason string) string {
	return fmt.Sprintf("tocsin_alert_notifications_total{receiver=%s,integration=%s,outcome=%q,reason=%q}", strconv.Quote(receiver), strconv.Quote(integration), outcome, reason)
}

// maxNoticed bounds how many alerts of one message are noted one by one.
const maxNoticed = 1000

// note tells of the attempt, alert by alert. A message names all alerts of its group: those that it repeats only because others are news are not noted again, or a group of
// a hundred alerts that come one after the other would be thousands of rows. A reminder is of all.
func (o *observed) note(ctx context.Context, alerts []*alert.Alert, outcome string, err error, now time.Time) {
	if o.noted == nil {
		return
	}
	list := make([]Notice, 0, min(len(alerts), maxNoticed))
	key, reason := o.key(ctx), why(ctx)
	for _, a := range o.news(ctx, alerts) {
		n := Notice{
			Key: key, AlertID: string(a.Labels[labelAlertID]), EquipmentID: string(a.Labels["equipment_id"]), Receiver: o.receiver, Integration: o.integration,
			Status: string(a.Status()), Reason: reason, Outcome: outcome, At: now,
		}
		if err != nil {
			n.Error = failure(ctx, err)
		} else if at, ok := o.watch.judged(a.Fingerprint()); ok && !a.Resolved() {
			n.Latency = max(now.Sub(at), 0)
		}
		list = append(list, n)
	}
	o.noted(list)
}

// news are the alerts that a message is sent for.
func (o *observed) news(ctx context.Context, alerts []*alert.Alert) []*alert.Alert {
	first := alerts[:min(len(alerts), maxNoticed)]
	if r, ok := notify.NotificationReason(ctx); o.known == nil || len(alerts) < 2 || ok && r == notify.ReasonRepeatIntervalElapsed {
		return first
	}
	firing, resolved := o.known(ctx)
	if len(firing)+len(resolved) == 0 {
		return first
	}
	was := make(map[uint64]bool, len(firing)) // and fires
	for _, h := range firing {
		was[h] = true
	}
	ended := make(map[uint64]bool, len(resolved))
	for _, h := range resolved {
		ended[h] = true
	}
	var out []*alert.Alert
	for _, a := range alerts {
		h := hashOf(a.Labels)
		if over := a.Resolved(); over && ended[h] || !over && was[h] {
			continue
		}
		if out = append(out, a); len(out) == maxNoticed {
			break
		}
	}
	if len(out) == 0 {
		return first[:1] // so that the message leaves a trace
	}
	return out
}

// Notice is one attempt to tell one receiver of one alert.
type Notice struct {
	// Key is the message's idempotency key.
	Key                            string
	AlertID, EquipmentID           string
	Receiver, Integration          string
	Status, Reason, Outcome, Error string
	At                             time.Time
	// Latency is from the judgement to now; 0 when that is not known, or of an end.
	Latency time.Duration
}

// why the engine sends: "first_notification", "new_alerts_added", "all_alerts_resolved", ...
func why(ctx context.Context) string {
	r, ok := notify.NotificationReason(ctx)
	if !ok {
		return "unknown"
	}
	return strings.ReplaceAll(r.String(), " ", "_")
}

func failure(ctx context.Context, err error) string {
	var r *notify.ErrorWithReason
	switch {
	case errors.As(err, &r):
		return r.Reason.String()
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "contextDeadlineExceeded"
	case errors.Is(ctx.Err(), context.Canceled):
		return "contextCanceled"
	default:
		return "other"
	}
}

// latency measures from the judgement of an anomaly, and from the event time that it is about, to its first notification through each integration. It knows
// only alerts that were announced while this process ran; memory is bounded by the alerts that stand.
type latency struct {
	metrics *metrics.Set
	mu      sync.Mutex
	since   map[model.Fingerprint]*announced
}

type announced struct {
	at       time.Time
	measured time.Time       // event time of what it is about; zero: not known
	sent     map[string]bool // by integration/receiver
}

// maxTotal bounds the time from the machine to the receiver: what took longer was history that is replayed, or a clock that is wrong.
const maxTotal = time.Hour

func newLatency(set *metrics.Set) *latency {
	return &latency{metrics: set, since: make(map[model.Fingerprint]*announced)}
}

func (l *latency) announce(fp model.Fingerprint, at, measured time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since[fp] = &announced{at: at, measured: measured, sent: make(map[string]bool)}
}

func (l *latency) judged(fp model.Fingerprint) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.since[fp]
	if !ok {
		return time.Time{}, false
	}
	return s.at, true
}

func (l *latency) forget(fp model.Fingerprint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.since, fp)
}

func (l *latency) sent(integration, receiver string, alerts []*alert.Alert, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range alerts {
		s, ok := l.since[a.Fingerprint()]
		key := integration + "/" + receiver
		if !ok || s.sent[key] {
			continue
		}
		s.sent[key] = true
		label := strconv.Quote(integration)
		l.metrics.GetOrCreateHistogram(fmt.Sprintf("tocsin_alert_notification_latency_seconds{integration=%s}", label)).Update(max(now.Sub(s.at), 0).Seconds())
		if total := now.Sub(s.measured); total <= maxTotal {
			l.metrics.GetOrCreateHistogram(fmt.Sprintf("tocsin_alert_total_latency_seconds{integration=%s}", label)).Update(max(total, 0).Seconds())
		}
	}
}

// logReceiver writes each notification as one structured line.
type logReceiver struct {
	receiver string
	log      *zap.Logger
}

// maxLogged bounds one line; the count tells how many there are.
const maxLogged = 32

// SendResolved implements notify.ResolvedSender.
func (r *logReceiver) SendResolved() bool { return true }

// Notify implements notify.Notifier.
func (r *logReceiver) Notify(ctx context.Context, alerts ...*alert.Alert) (bool, error) {
	status := "resolved"
	for _, a := range alerts {
		if !a.Resolved() {
			status = "firing"
			break
		}
	}
	key, _ := notify.GroupKey(ctx)
	r.log.Info("notification",
		zap.String("receiver", r.receiver), zap.String("status", status), zap.String("reason", why(ctx)),
		zap.String("group_key", key), zap.Int("alerts_total", len(alerts)),
		zap.Array("alerts", loggedAlerts(alerts[:min(len(alerts), maxLogged)])))
	return false, nil
}

type loggedAlerts []*alert.Alert

// MarshalLogArray implements zapcore.ArrayMarshaler.
func (as loggedAlerts) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for _, a := range as {
		if err := enc.AppendObject(loggedAlert{a}); err != nil {
			return err
		}
	}
	return nil
}

type loggedAlert struct{ a *alert.Alert }

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (l loggedAlert) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("status", string(l.a.Status()))
	for name, value := range l.a.Labels {
		enc.AddString(string(name), string(value))
	}
	enc.AddString("summary", string(l.a.Annotations["summary"]))
	enc.AddTime("starts_at", l.a.StartsAt)
	return nil
}
