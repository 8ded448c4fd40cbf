package alertrouter

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/service"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/desk"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/incident"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/routing"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/stream"
)

// announcer carries what the log says to the routing engine. It is the consumer's sink.
type announcer struct {
	engine     *routing.Engine
	told       *stream.Told
	desk       *desk.Desk
	machineURL string
	log        *zap.Logger
	metrics    *metrics.Set

	mu sync.Mutex
	// waiting are ends that people are not told of yet, by alert: see desk.Deferred.
	waiting map[string]routing.Alert
}

func newAnnouncer(engine *routing.Engine, told *stream.Told, d *desk.Desk, machineURL string, deps service.Deps) *announcer {
	return &announcer{engine: engine, told: told, desk: d, machineURL: machineURL, waiting: make(map[string]routing.Alert), log: deps.Log, metrics: deps.Metrics}
}

// Restored puts what stands, and of what has ended only what some receiver still takes for firing: so a restart neither
// pages twice nor forgets a resolution. Nor does a partition that another instance has had: what that one told is known here.
func (a *announcer) Restored(ctx context.Context, views []incident.View) error {
	if err := a.told.CatchUp(ctx); err != nil {
		return err
	}
	a.states(ctx, stateWaitAtStart, a.desk.CatchUp)
	var put, ended []routing.Alert
	for _, v := range views {
		switch al := a.alert(v); {
		case v.EndsMS == 0:
			put = append(put, al)
		case a.defers(al):
			al.EndsAt = time.Time{} // it stands for what has not come back
			put = append(put, al)
		default:
			ended = append(ended, al)
		}
	}
	if err := a.engine.Adopt(slices.Concat(put, ended)); err != nil {
		return err
	}
	owed, err := a.engine.Owed(ended)
	if err != nil {
		return err
	}
	// One call: what stands and what has ended may share a group.
	return a.engine.PutOwed(ctx, append(put, owed...)...)
}

// Live starts dispatching.
func (a *announcer) Live() { a.engine.Start() }

// Committed puts the views that transitions change.
func (a *announcer) Committed(ctx context.Context, list []stream.Committed) error {
	next := map[int32]int64{}
	for _, c := range list {
		a.count(c)
		next[c.Partition] = max(next[c.Partition], c.Offset+1)
	}
	if len(next) > 0 {
		a.states(ctx, stateWait, func(ctx context.Context) error { return a.desk.Await(ctx, next) })
	}
	alerts := make([]routing.Alert, 0, len(list))
	for _, c := range list {
		for _, v := range c.Views { // with their states, which are known only now
			al := a.alert(v)
			if v.EndsMS == 0 {
				al.Judged = time.UnixMilli(c.Event.GetAtMs())
				if us := c.Event.GetObservedUs(); us != 0 {
					al.Measured = time.UnixMicro(us)
				}
			}
			alerts = append(alerts, al)
		}
	}
	return a.engine.Put(ctx, slices.DeleteFunc(alerts, a.defers)...)
}

// defers keeps the end of an alert back as long as it stands for others, and says so.
func (a *announcer) defers(al routing.Alert) bool {
	id := al.Labels[incident.LabelAlertID]
	a.mu.Lock()
	defer a.mu.Unlock()
	if al.EndsAt.IsZero() || !a.desk.Deferred(id) || a.escalatedFrom(al) {
		return false
	}
	a.waiting[id] = al
	return true
}

// escalatedFrom tells the end of a lower severity, by an escalation, from the end of the alert.
func (a *announcer) escalatedFrom(al routing.Alert) bool {
	known, ok := a.desk.Alert(al.Labels[incident.LabelAlertID])
	return ok && al.Labels[incident.LabelSeverity] != incident.SeverityName(known.Severity)
}

// settle tells the ends that need not wait any more.
func (a *announcer) settle(ctx context.Context) error {
	a.mu.Lock()
	var due []routing.Alert
	for id, al := range a.waiting {
		if !a.desk.Deferred(id) {
			due = append(due, al)
			delete(a.waiting, id)
		}
	}
	a.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	return a.engine.Put(ctx, due...)
}

const (
	// stateWaitAtStart is how long dispatching waits for the states of the alerts that stand.
	stateWaitAtStart = 10 * time.Second
	// stateWait is how long an alert waits for its own state: whether it was acknowledged before, say. It is there within milliseconds.
	stateWait = 5 * time.Second
)

// states waits until it is known what people have decided; not for ever, because to be told of what was shelved is better than not to be told.
func (a *announcer) states(ctx context.Context, limit time.Duration, wait func(context.Context) error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := wait(limited); err != nil && ctx.Err() == nil {
		a.log.Warn("going on without the newest acknowledgements and shelves", zap.Error(err))
	}
}

// Lost forgets the alerts of a partition that another instance has now.
func (a *announcer) Lost(views []incident.View) error {
	alerts := make([]routing.Alert, len(views))
	for i, v := range views {
		alerts[i] = a.alert(v)
		a.mu.Lock()
		delete(a.waiting, v.Labels[incident.LabelAlertID])
		a.mu.Unlock()
	}
	return a.engine.Drop(alerts...)
}

func (a *announcer) count(c stream.Committed) {
	ev := c.Event
	a.metrics.GetOrCreateCounter(fmt.Sprintf("tocsin_alert_transitions_total{transition=%q,cause=%q}",
		stream.TransitionName(ev.GetTransition()), causeLabel(ev.GetCause()))).Inc()
	fields := []zap.Field{
		zap.String("alert_id", ev.GetAlertId()), zap.String("equipment_id", ev.GetEquipmentId()), zap.String("cause", ev.GetCause()),
		zap.String("severity", incident.SeverityName(ev.GetSeverity())), zap.Float64("score", ev.GetScore()),
		zap.String("summary", ev.GetSummary()), zap.Int32("partition", c.Partition),
	}
	if c.TraceID != "" {
		fields = append(fields, zap.String("trace_id", c.TraceID))
	}
	level := zap.InfoLevel
	if ev.GetSeverity() == eventv1.Severity_SEVERITY_CRITICAL && ev.GetTransition() != eventv1.AlertTransition_ALERT_TRANSITION_CLOSED {
		level = zap.WarnLevel
	}
	a.log.Log(level, "alert "+stream.TransitionName(ev.GetTransition()), fields...)
}

// causeLabel keeps a metric's label to the causes that there are.
func causeLabel(cause string) string {
	switch cause {
	case "limit", "behaviour", "flatline", "bad_quality", "silence", "clock", "blind", "model":
		return cause
	default:
		return "other"
	}
}

func (a *announcer) alert(v incident.View) routing.Alert {
	out := routing.Alert{Labels: v.Labels, Annotations: v.Annotations, StartsAt: time.UnixMilli(v.StartsMS)}
	if v.EndsMS != 0 {
		out.EndsAt = time.UnixMilli(v.EndsMS)
	} else if al, ok := a.desk.Alert(v.Labels[incident.LabelAlertID]); ok {
		out.Notes = stateNotes(a.desk, al)
	}
	if a.machineURL != "" {
		out.GeneratorURL = strings.ReplaceAll(a.machineURL, "{equipment_id}", url.PathEscape(v.Labels[incident.LabelEquipment]))
	}
	return out
}
