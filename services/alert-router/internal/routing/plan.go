package routing

import (
	"context"
	"fmt"
	"net/url"
	"time"

	amconfig "github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/config/receiver"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/alertmanager/timeinterval"
	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"
)

// logIntegration is the name of our own integration in the notification log and in metrics.
const logIntegration = "log"

// plan is a configuration that has been checked and built: nothing about it can fail any more.
type plan struct {
	conf      *amconfig.Config
	tmpl      *template.Template
	routes    *dispatch.Route
	receivers map[string][]notify.Integration
	intervals map[string][]timeinterval.TimeInterval
}

// newPlan reads and builds the configuration without touching what runs.
func (e *Engine) newPlan() (*plan, error) {
	conf, src, err := load(e.opts.File)
	if err != nil {
		return nil, err
	}
	p := &plan{conf: conf, intervals: make(map[string][]timeinterval.TimeInterval)}
	if p.tmpl, err = template.FromGlobs(conf.Templates); err != nil {
		return nil, src.wrap(fmt.Errorf("templates: %w", err))
	}
	p.tmpl.ExternalURL = e.externalURL()
	p.routes = dispatch.NewRoute(conf.Route, nil)
	used := make(map[string]bool)
	p.routes.Walk(func(r *dispatch.Route) { used[r.RouteOpts.Receiver] = true })
	p.receivers = make(map[string][]notify.Integration, len(used))
	pages, err := e.pages(conf)
	if err != nil {
		return nil, err
	}
	for _, rc := range conf.Receivers {
		if !used[rc.Name] {
			continue
		}
		built, err := receiver.BuildReceiverIntegrations(rc, p.tmpl, e.slog, e.transport()...)
		if err != nil {
			return nil, src.wrap(fmt.Errorf("receiver %q: %w", rc.Name, err))
		}
		if built, err = e.withPages(&rc, built, pages); err != nil {
			return nil, src.wrap(fmt.Errorf("receiver %q: %w", rc.Name, err))
		}
		if e.opts.LogNotifications {
			l := &logReceiver{receiver: rc.Name, news: e.news(&nflogpb.Receiver{GroupName: rc.Name, Integration: logIntegration}), log: e.log}
			built = append(built, notify.NewIntegration(l, l, logIntegration, 0, rc.Name))
		}
		for _, in := range built {
			noted := e.opts.Noted
			if in.Name() == logIntegration && len(built) > 1 {
				noted = nil // nobody is told by the line that is written beside a message
			}
			p.receivers[rc.Name] = append(p.receivers[rc.Name], e.observe(rc.Name, in, noted))
		}
	}
	for _, ti := range conf.MuteTimeIntervals {
		p.intervals[ti.Name] = ti.TimeIntervals
	}
	for _, ti := range conf.TimeIntervals {
		p.intervals[ti.Name] = ti.TimeIntervals
	}
	e.warn(p)
	return p, nil
}

func (e *Engine) externalURL() *url.URL {
	if e.opts.ExternalURL != nil {
		return e.opts.ExternalURL
	}
	return &url.URL{Scheme: "http", Host: "127.0.0.1:8083"}
}

func (e *Engine) observe(receiverName string, in notify.Integration, noted func([]Notice)) notify.Integration {
	to := &nflogpb.Receiver{GroupName: receiverName, Integration: in.Name(), Idx: uint32(in.Index())} // as the engine names it in its notification log
	o := &observed{
		next: in, receiver: receiverName, integration: in.Name(), watch: e.watch, metrics: e.opts.Metrics, doubt: func(ctx context.Context) { e.doubt(ctx, to) },
		key: func(ctx context.Context) string { return e.messageKey(ctx, to) }, noted: noted, news: e.news(to),
	}
	return notify.NewIntegration(o, &in, in.Name(), in.Index(), receiverName)
}

// warn tells of settings that are allowed and yet do not do what they seem to.
func (e *Engine) warn(p *plan) {
	p.routes.Walk(func(r *dispatch.Route) {
		o := r.RouteOpts
		if o.RepeatInterval > e.opts.Retention {
			e.log.Warn("repeat_interval is longer than the notification log is kept: notifications repeat earlier",
				zap.String("route", r.Key()), zap.Duration("repeat_interval", o.RepeatInterval), zap.Duration("retention", e.opts.Retention))
		}
		if o.RepeatInterval < o.GroupInterval {
			e.log.Warn("repeat_interval is shorter than group_interval: notifications repeat at group_interval",
				zap.String("route", r.Key()), zap.Duration("repeat_interval", o.RepeatInterval), zap.Duration("group_interval", o.GroupInterval))
		}
	})
	if e.opts.Duty != nil {
		for _, r := range e.opts.Duty.Receivers() {
			if _, ok := p.receivers[r]; !ok {
				e.log.Warn("somebody on call is not a receiver that the routing file sends to: nobody is told while they are on duty", zap.String("receiver", r))
			}
		}
	}
	if len(p.conf.TracingConfig.Endpoint) > 0 {
		e.log.Warn("tracing in the routing file is not used: see the tracing section of the service")
	}
}

// run starts inhibition, waits until it knows every alert, then starts dispatching: no alert may be sent that is to
// be inhibited. Callers hold mu.
func (e *Engine) run(p *plan) {
	l := &live{inhibitor: inhibit.NewInhibitor(e.alerts, p.conf.InhibitRules, e.slog, eventrecorder.Recorder{})}
	// nil: alone. (An interface with a nil pointer in it would be taken for a cluster.)
	stages := e.pipeline.New(p.receivers, func() time.Duration { return 0 }, l.inhibitor, e.silencer,
		timeinterval.NewIntervener(p.intervals), e.marker, e.nflog, nil)
	for name, st := range stages {
		stages[name] = e.gated(name, p.receivers[name], st)
	}
	timeout := func(d time.Duration) time.Duration { return max(d, notify.MinTimeout) }
	l.dispatcher = dispatch.NewDispatcher(e.alerts, p.routes, stages, e.marker, timeout, groupMaintenance, nil,
		e.slog, eventrecorder.Recorder{}, e.dispatched, p.tmpl)
	l.done.Go(l.inhibitor.Run)
	l.inhibitor.WaitForLoading()
	e.api.Update(p.conf, func(ctx context.Context, labels model.LabelSet) {
		l.inhibitor.Mutes(ctx, labels)
		e.silencer.Mutes(ctx, labels)
	})
	l.done.Go(func() { l.dispatcher.Run(time.Now()) })
	l.dispatcher.WaitForLoading()
	e.live = l
}

// halt stops what run started and waits for it. Callers hold mu.
func (e *Engine) halt() {
	if e.live == nil {
		return
	}
	e.live.dispatcher.Stop()
	e.live.inhibitor.Stop()
	e.live.done.Wait()
	e.live = nil
}

// transport is what the receivers that speak HTTP connect through.
func (e *Engine) transport() []commoncfg.HTTPClientOption {
	if e.opts.Dial == nil {
		return nil
	}
	return []commoncfg.HTTPClientOption{commoncfg.WithDialContextFunc(e.opts.Dial)}
}
