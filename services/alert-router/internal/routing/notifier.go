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
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
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
	news        newsOf         // may be nil: all is
	noted       func([]Notice) // may be nil
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
	news := alerts
	if o.news != nil {
		news = o.news(ctx, alerts)
	}
	now := time.Now()
	if err == nil {
		o.watch.sent(o.integration, o.receiver, news, now)
	}
	o.note(ctx, news, outcome, err, now)
	return retry, err
}

// attempts is the counter of what became of attempts to tell.
func attempts(receiver, integration, outcome, reason string) string {
	return fmt.Sprintf("tocsin_alert_notifications_total{receiver=%s,integration=%s,outcome=%q,reason=%q}", strconv.Quote(receiver), strconv.Quote(integration), outcome, reason)
}

// maxNoticed bounds how many alerts of one message are noted one by one.
const maxNoticed = 1000

// note tells of the attempt, alert by alert.
func (o *observed) note(ctx context.Context, news []*alert.Alert, outcome string, err error, now time.Time) {
	if o.noted == nil {
		return
	}
	news = news[:min(len(news), maxNoticed)]
	list := make([]Notice, 0, len(news))
	key, reason := o.key(ctx), why(ctx)
	for _, a := range news {
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

// newsOf are the alerts that a message is sent for. A message names all alerts of its group: those that it repeats only because others are news are neither noted nor logged again, or a group of a
// hundred alerts that come one after the other would be thousands of rows. A reminder is of all. There is always one, so that each message leaves a trace.
type newsOf func(ctx context.Context, alerts []*alert.Alert) []*alert.Alert

// news is newsOf for one integration: what its entry in the notification log does not say yet.
func (e *Engine) news(to *nflogpb.Receiver) newsOf {
	return func(ctx context.Context, alerts []*alert.Alert) []*alert.Alert {
		if r, ok := notify.NotificationReason(ctx); len(alerts) < 2 || ok && r == notify.ReasonRepeatIntervalElapsed {
			return alerts
		}
		group, _ := notify.GroupKey(ctx)
		entries, err := e.nflog.Query(nflog.QGroupKey(group), nflog.QReceiver(to))
		if err != nil || len(entries) != 1 {
			return alerts
		}
		return unsaid(entries[0], hashes(ctx, alerts), alerts)
	}
}

// unsaid are the alerts of which an entry says something else; the first one, when there is none. The hashes are in the order of the alerts.
func unsaid(entry *nflogpb.Entry, hashes []uint64, alerts []*alert.Alert) []*alert.Alert {
	said := make(map[uint64]bool, len(entry.GetFiringAlerts())+len(entry.GetResolvedAlerts())) // that it fires
	for _, h := range entry.GetResolvedAlerts() {
		said[h] = false
	}
	for _, h := range entry.GetFiringAlerts() {
		said[h] = true
	}
	var out []*alert.Alert
	for i, a := range alerts {
		if fires, known := said[hashes[i]]; !known || fires == a.Resolved() {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return alerts[:1]
	}
	return out
}

// hashes are the alerts' names in the notification log. The engine has made them already, those that fire and those that have ended apart, each in the order of the alerts.
func hashes(ctx context.Context, alerts []*alert.Alert) []uint64 {
	firing, _ := notify.FiringAlerts(ctx)
	resolved, _ := notify.ResolvedAlerts(ctx)
	out := make([]uint64, 0, len(alerts))
	if len(firing)+len(resolved) == len(alerts) {
		for _, a := range alerts {
			from := &firing
			if a.Resolved() {
				from = &resolved
			}
			if len(*from) == 0 {
				break
			}
			out = append(out, (*from)[0])
			*from = (*from)[1:]
		}
		if len(out) == len(alerts) {
			return out
		}
	}
	out = out[:0]
	for _, a := range alerts {
		out = append(out, hashOf(a.Labels))
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
	since   map[model.Fingerprint]announced
	to      map[string]int // integrations, counted as they come
}

// announced takes a few bytes: there is one for each alert that stands.
type announced struct {
	atUS       int64
	measuredUS int64  // event time of what it is about; 0: not known
	sent       uint64 // a bit for each integration; those beyond maxTimed share the last
}

const (
	// maxTotal bounds the time from the machine to the receiver: what took longer was history that is replayed, or a clock that is wrong.
	maxTotal = time.Hour
	// maxTimed is how many integrations are timed apart.
	maxTimed = 64
)

func newLatency(set *metrics.Set) *latency {
	return &latency{metrics: set, since: make(map[model.Fingerprint]announced), to: make(map[string]int)}
}

func (l *latency) announce(fp model.Fingerprint, at, measured time.Time) {
	one := announced{atUS: at.UnixMicro()}
	if !measured.IsZero() {
		one.measuredUS = measured.UnixMicro()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since[fp] = one
}

func (l *latency) judged(fp model.Fingerprint) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.since[fp]
	return time.UnixMicro(s.atUS), ok
}

func (l *latency) forget(fp model.Fingerprint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.since, fp)
}

func (l *latency) sent(integration, receiver string, alerts []*alert.Alert, now time.Time) {
	label := strconv.Quote(integration)
	judged := l.metrics.GetOrCreateHistogram(fmt.Sprintf("tocsin_alert_notification_latency_seconds{integration=%s}", label))
	all := l.metrics.GetOrCreateHistogram(fmt.Sprintf("tocsin_alert_total_latency_seconds{integration=%s}", label))
	l.mu.Lock()
	defer l.mu.Unlock()
	bit := l.bit(integration + "/" + receiver)
	for _, a := range alerts {
		fp := a.Fingerprint()
		s, ok := l.since[fp]
		if !ok || s.sent&bit != 0 {
			continue
		}
		s.sent |= bit
		l.since[fp] = s
		judged.Update(max(now.Sub(time.UnixMicro(s.atUS)), 0).Seconds())
		if total := now.Sub(time.UnixMicro(s.measuredUS)); total <= maxTotal {
			all.Update(max(total, 0).Seconds())
		}
	}
}

func (l *latency) bit(integration string) uint64 {
	n, known := l.to[integration]
	if !known {
		n = len(l.to)
		l.to[integration] = n
	}
	return 1 << min(n, maxTimed-1)
}

// logReceiver writes each notification as one structured line: the alerts that it is sent for, and how many its group has.
type logReceiver struct {
	receiver string
	news     newsOf
	log      *zap.Logger
}

// maxLogged bounds one line; the counts tell how many there are.
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
	news := r.news(ctx, alerts)
	r.log.Info("notification",
		zap.String("receiver", r.receiver), zap.String("status", status), zap.String("reason", why(ctx)),
		zap.String("group_key", key), zap.Int("alerts_total", len(alerts)), zap.Int("alerts_new", len(news)),
		zap.Array("alerts", loggedAlerts(news[:min(len(news), maxLogged)])))
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
