package routing

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/alert"
	amconfig "github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/egress"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// annotationMachines says how many machines an alert stands for.
const annotationMachines = "incident_machines"

// annotationGroup names the group of machines, a line or a site, that it stands for.
const annotationGroup = "incident_group"

// Pages makes the integrations that say more than Alertmanager's.
type Pages interface {
	// Build makes those of one receiver of the routing file. One of a name and index that Alertmanager has too takes its place.
	Build(rc *amconfig.Receiver) ([]notification.Integration, error)
	// Policy is how often a message is tried again.
	Policy() receiver.Policy
	// Names are the receivers that Pages adds to: they must be in the routing file.
	Names() []string
}

// pages reads what makes pages anew; nil when there is nothing that does.
func (e *Engine) pages(conf *amconfig.Config) (Pages, error) {
	if e.opts.Pages == nil {
		return nil, nil
	}
	p, err := e.opts.Pages()
	if err != nil {
		return nil, err
	}
	for _, name := range p.Names() {
		if !slices.ContainsFunc(conf.Receivers, func(r amconfig.Receiver) bool { return r.Name == name }) {
			return nil, &unknownReceiver{name}
		}
	}
	return p, nil
}

type unknownReceiver struct{ name string }

func (e *unknownReceiver) Error() string {
	return "receivers file: the routing file has no receiver " + e.name
}

// withPages puts the integrations of Pages in the places of Alertmanager's, and the others after them. All are tried again, and given up, alike.
func (e *Engine) withPages(rc *amconfig.Receiver, built []notify.Integration, pages Pages) ([]notify.Integration, error) {
	policy := receiver.DefaultPolicy()
	var ours []notification.Integration
	if pages != nil {
		var err error
		if ours, err = pages.Build(rc); err != nil {
			return nil, err
		}
		policy = pages.Policy()
	}
	wrap := func(name string, index int, bare bool, r notify.ResolvedSender, send sender) notify.Integration {
		to := &nflogpb.Receiver{GroupName: rc.Name, Integration: name, Idx: uint32(index)}
		p := &paged{engine: e, ResolvedSender: r, send: send, destination: destination{rc.Name, name, index}, to: to, policy: policy, bare: bare}
		return notify.NewIntegration(p, p, name, index, rc.Name)
	}
	for i := range built {
		in := built[i]
		built[i] = wrap(in.Name(), in.Index(), true, &in, native(&in))
	}
	for _, in := range ours {
		one := wrap(in.Name, in.Index, in.Bare, resolves(in.SendResolved), func(ctx context.Context, n notification.Notification, _ []*alert.Alert) error {
			return in.Receiver.Send(ctx, n)
		})
		at := slices.IndexFunc(built, func(b notify.Integration) bool { return b.Name() == in.Name && b.Index() == in.Index })
		if at < 0 {
			built = append(built, one)
		} else {
			built[at] = one
		}
	}
	return built, nil
}

// sender makes one attempt: with the notification, or with the alerts that it was made of.
type sender func(ctx context.Context, n notification.Notification, alerts []*alert.Alert) error

type sendFunc func(ctx context.Context, n notification.Notification) error

func (f sendFunc) Send(ctx context.Context, n notification.Notification) error { return f(ctx, n) }

type resolves bool

func (r resolves) SendResolved() bool { return bool(r) }

// native is one attempt by an integration of Alertmanager's own.
func native(next notify.Notifier) sender {
	return func(ctx context.Context, _ notification.Notification, alerts []*alert.Alert) error {
		var a attempt
		retry, err := next.Notify(a.watch(ctx), alerts...)
		if err == nil {
			return nil
		}
		e := &notification.Error{Class: notification.Permanent, Reason: "other", MayHaveArrived: a.arrived(retry, err), Err: err}
		if retry {
			e.Class = notification.Retryable
		}
		var r *notify.ErrorWithReason
		switch {
		case errors.As(err, &r):
			e.Reason = ourReason(r.Reason)
		case errors.Is(err, egress.ErrForbidden):
			e.Class, e.Reason = notification.Permanent, "bad_address"
		case errors.Is(err, context.DeadlineExceeded):
			e.Reason = "timeout"
		case errors.Is(err, context.Canceled):
			e.Reason = "canceled"
		}
		return e
	}
}

// ourReason is the other way of amReason.
func ourReason(r notify.Reason) string {
	switch r {
	case notify.ServerErrorReason:
		return "server_error"
	case notify.AuthErrorReason:
		return "unauthorized"
	case notify.RateLimitedReason:
		return "rate_limited"
	case notify.ClientErrorReason:
		return "client_error"
	case notify.ContextDeadlineExceededReason:
		return "timeout"
	case notify.ContextCanceledReason:
		return "canceled"
	}
	return "other"
}

// paged brings the engine's notifications to a receiver, ours or Alertmanager's.
type paged struct {
	notify.ResolvedSender
	destination
	engine *Engine
	send   sender
	to     *nflogpb.Receiver
	policy receiver.Policy
	bare   bool // see notification.Integration
}

// Notify implements notify.Notifier. It makes one round of attempts. After it the message is given up as far as people are warned of it; the engine goes on with another round, ever
// more slowly, until the group is due again, so that a receiver that comes back is not left waiting for that.
func (p *paged) Notify(ctx context.Context, alerts ...*alert.Alert) (bool, error) {
	r := receiver.Retrying{
		Next: sendFunc(func(ctx context.Context, n notification.Notification) error { return p.send(ctx, n, alerts) }), Policy: p.policy,
		OnAttempt: func(_ notification.Notification, _ int, err *notification.Error, wait time.Duration) {
			if err.MayHaveArrived {
				p.engine.doubt(ctx, p.to) // now: we may be stopped while we wait
			}
			if wait > 0 {
				p.engine.opts.Metrics.GetOrCreateCounter(attempts(p.receiver, p.integration, "retry", amReason(err).String())).Inc()
			}
		},
		OnDead: func(_ context.Context, d receiver.Dead) {
			if p.bare {
				p.engine.describe(&d.Notification)
			}
			p.engine.log.Error("a message was given up for now: its receiver cannot be reached, or refuses it", zap.String("receiver", p.receiver), zap.String("integration", p.integration),
				zap.String("key", d.Notification.Key), zap.Int("attempts", d.Attempts), zap.String("reason", d.Err.Reason), zap.Error(d.Err))
			p.engine.failing.failed(p.destination, d, alerts)
		},
	}
	n := p.engine.notification(ctx, p.receiver, p.to, alerts)
	if !p.bare {
		p.engine.describe(&n)
	}
	err := r.Send(ctx, n)
	if err == nil {
		p.engine.failing.sent(p.destination)
		return false, nil
	}
	var e *notification.Error
	if !errors.As(err, &e) {
		return true, err
	}
	return e.Class == notification.Retryable, notify.NewErrorWithReason(amReason(e), e)
}

// amReason is an error's reason in the engine's words. An answer is believed, also one that refuses; see attempt.arrived.
func amReason(e *notification.Error) notify.Reason {
	switch e.Reason {
	case "server_error":
		return notify.ServerErrorReason
	case "unauthorized":
		return notify.AuthErrorReason
	case "rate_limited":
		return notify.RateLimitedReason
	case "client_error", "gone", "redirect", "bad_address", "encode", "bad_configuration", "no_secret":
		return notify.ClientErrorReason
	case "timeout":
		return notify.ContextDeadlineExceededReason
	case "canceled":
		return notify.ContextCanceledReason
	}
	return notify.DefaultReason
}

// notification is what the engine is about to say, bare: labels, annotations and times of the alerts, which it shares with the engine. See describe for the rest.
func (e *Engine) notification(ctx context.Context, receiverName string, to *nflogpb.Receiver, alerts []*alert.Alert) notification.Notification {
	group, _ := notify.GroupKey(ctx)
	labels, _ := notify.GroupLabels(ctx)
	n := notification.Notification{
		Key: e.messageKey(ctx, to), GroupKey: group, Receiver: receiverName, Status: notification.Resolved, Reason: notification.Reason(why(ctx)), At: time.Now(),
		GroupLabels: plain(labels), ExternalURL: strings.TrimRight(e.externalURL().String(), "/"), Alerts: make([]notification.Alert, 0, len(alerts)),
	}
	for _, one := range inOrder(alerts, n.At) {
		if one.status == notification.Firing {
			n.Status = notification.Firing
		}
		n.Alerts = append(n.Alerts, bare(one.alert, one.status))
	}
	n.CommonLabels, n.CommonAnnotations = common(n.Alerts)
	n.Incident = incidentOf(&n)
	return n
}

type ordered struct {
	alert  *alert.Alert
	status notification.Status
	weight int
}

// inOrder puts firing before resolved, the more severe before the less, then the earlier before the later.
func inOrder(alerts []*alert.Alert, now time.Time) []ordered {
	out := make([]ordered, len(alerts))
	for i, a := range alerts {
		out[i] = ordered{a, notification.Status(a.StatusAt(now)), weight(string(a.Labels["severity"]))}
	}
	slices.SortStableFunc(out, func(a, b ordered) int {
		return cmp.Or(strings.Compare(string(a.status), string(b.status)), b.weight-a.weight, a.alert.StartsAt.Compare(b.alert.StartsAt))
	})
	return out
}

func bare(a *alert.Alert, status notification.Status) notification.Alert {
	out := notification.Alert{ID: string(a.Labels[labelAlertID]), Status: status, Labels: a.Labels, Annotations: a.Annotations, StartsAt: a.StartsAt}
	out.Severity, out.EquipmentID, out.GatewayID = out.Label("severity"), out.Label("equipment_id"), out.Label("gateway_id")
	out.Cause, out.Summary, out.Links.Machine = out.Label("cause"), out.Annotation("summary"), a.GeneratorURL
	if status == notification.Resolved {
		out.EndsAt = a.EndsAt
	}
	return out
}

// describe adds to the first MaxDescribed alerts their keys and what is known of them beside labels and annotations: evidence, states and times of the machine.
func (e *Engine) describe(n *notification.Notification) {
	for i := range n.Alerts[:min(len(n.Alerts), notification.MaxDescribed)] {
		a := &n.Alerts[i]
		a.Key = a.Labels.Fingerprint().String()
		if e.opts.Describe == nil {
			continue
		}
		if known, ok := e.opts.Describe(a.ID, n.At); ok {
			a.Score, a.Confidence, a.Started, a.Ended = known.Score, known.Confidence, known.Started, known.Ended
			a.State, a.AcknowledgedBy, a.Evidence, a.Detectors, a.Path = known.State, known.AcknowledgedBy, known.Evidence, known.Detectors, known.Path
		}
	}
	n.Incident = incidentOf(n)
}

// incidentOf is what the alerts of a group have in common.
func incidentOf(n *notification.Notification) notification.Incident {
	in := notification.Incident{Severity: n.Alerts[0].Severity, Cause: n.CommonLabels["cause"], Since: n.Alerts[0].StartsAt}
	machines := make(map[string]bool)
	for i := range n.Alerts {
		a := &n.Alerts[i]
		machines[a.EquipmentID] = true
		began := a.StartsAt
		if !a.Started.IsZero() {
			began = a.Started
		}
		if i == 0 || began.Before(in.Since) {
			in.Since = began
		}
		if a.Status == n.Status && weight(a.Severity) > weight(in.Severity) {
			in.Severity = a.Severity
		}
	}
	in.Machines = len(machines)
	for _, s := range [][2]string{{"machine", "equipment_id"}, {"gateway", "gateway_id"}, {"line", "line"}, {"site", "site"}} {
		if id := n.CommonLabels[s[1]]; id != "" {
			in.Scope, in.ScopeID = s[0], id
			break
		}
	}
	if len(n.Alerts) != 1 {
		return in
	}
	in.ID = n.Alerts[0].ID
	// The first alert of a gateway's incident stands for all.
	if many, err := strconv.Atoi(n.Alerts[0].Annotation(annotationMachines)); err == nil && many > 1 {
		if group := n.Alerts[0].Annotation(annotationGroup); group != "" {
			in.Machines, in.Scope, in.ScopeID = many, "group", group
		} else if n.Alerts[0].GatewayID != "" {
			in.Machines, in.Scope, in.ScopeID = many, "gateway", n.Alerts[0].GatewayID
		}
	}
	return in
}

func common(list []notification.Alert) (labels, annotations map[string]string) {
	labels, annotations = plain(list[0].Labels), plain(list[0].Annotations)
	for i := range list[1:] {
		keep(labels, list[i+1].Labels)
		keep(annotations, list[i+1].Annotations)
	}
	return labels, annotations
}

func keep(m map[string]string, other model.LabelSet) {
	for k, v := range m {
		if string(other[model.LabelName(k)]) != v {
			delete(m, k)
		}
	}
}

func plain(set model.LabelSet) map[string]string {
	out := make(map[string]string, len(set))
	for k, v := range set {
		out[string(k)] = string(v)
	}
	return out
}

func weight(severity string) int {
	switch severity {
	case "critical":
		return 3
	case "warning":
		return 2
	default:
		return 1
	}
}
