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
	o.metrics.GetOrCreateCounter(fmt.Sprintf("tocsin_alert_notifications_total{receiver=%s,integration=%s,outcome=%q,reason=%q}",
		strconv.Quote(o.receiver), strconv.Quote(o.integration), outcome, reason)).Inc()
	if err == nil {
		o.watch.sent(o.integration, o.receiver, alerts, time.Now())
	}
	return retry, err
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

// latency measures from the judgement of an anomaly to its first notification through each integration. It knows
// only alerts that were announced while this process ran; memory is bounded by the alerts that stand.
type latency struct {
	metrics *metrics.Set
	mu      sync.Mutex
	since   map[model.Fingerprint]*announced
}

type announced struct {
	at   time.Time
	sent map[string]bool // by integration/receiver
}

func newLatency(set *metrics.Set) *latency {
	return &latency{metrics: set, since: make(map[model.Fingerprint]*announced)}
}

func (l *latency) announce(fp model.Fingerprint, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since[fp] = &announced{at: at, sent: make(map[string]bool)}
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
		l.metrics.GetOrCreateHistogram(fmt.Sprintf("tocsin_alert_notification_latency_seconds{integration=%s}",
			strconv.Quote(integration))).Update(max(now.Sub(s.at), 0).Seconds())
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
