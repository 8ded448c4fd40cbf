// Package routing is the only package that knows Prometheus Alertmanager. It runs that project's engine as a library:
// routing tree, grouping, inhibition, silences, time intervals, the notification log, receivers and API v2.
//
// Life of an Engine: New reads the configuration and what is on disk; alerts are Put; Start begins dispatching
// everything put so far as one picture (so that a restart does not announce half a group); Reload swaps
// the configuration; Close ends it. Before Start the API answers 503.
package routing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

const (
	// snapshotEvery is how often the notification log and the silences are written whole.
	snapshotEvery = 15 * time.Minute
	// groupMaintenance is how often groups without alerts are dropped.
	groupMaintenance = 30 * time.Second
	apiTimeout       = 30 * time.Second
	maxSilences      = 10_000
	maxSilenceBytes  = 64 << 10
	// forever is how long after now an open alert ends as far as the engine knows. It is closed by its own event only.
	forever = 10 * 365 * 24 * time.Hour
)

// Options of an Engine.
type Options struct {
	// File is an Alertmanager configuration; empty: the built-in one.
	File string
	// DataDir holds the notification log and the silences.
	DataDir string
	// ExternalURL is how people reach this service; it stands in notifications.
	ExternalURL *url.URL
	// Retention of the notification log and of expired silences.
	Retention time.Duration
	// LogNotifications adds a log line to every receiver.
	LogNotifications bool
	// Told is given each new entry of the notification log and each silence, under a key that names what the entry is about: the newest of a key says all. It is called
	// under the log's lock: it must not block, nor call the Engine. May be nil.
	Told func(key string, entry []byte)
	// Dial reaches receivers that are spoken to by HTTP; nil: the operating system's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Noted is told of every attempt to tell somebody. It must not block. May be nil.
	Noted func([]Notice)
	// Pages makes receivers that say more than Alertmanager's; it is called for each reading of the configuration. nil: there are none.
	Pages func() (Pages, error)
	// Dead is given each message that was given up for now, once for as long as its receiver fails; it may be asked again when it says that it could not keep it.
	// It must not block. May be nil.
	Dead func(Letter, func(kept bool))
	// Describe is what is known of an alert of that id beside its labels and annotations. nil, or false: nothing.
	Describe func(alertID string, now time.Time) (notification.Alert, bool)
	// Gate holds alerts back that the routing file would let through; nil: none does.
	Gate Gate
	// Duty says who is told now; nil: everybody.
	Duty    Duty
	Log     *zap.Logger
	Metrics *metrics.Set
}

// Alert is one alert as it is put: identified by its labels, open while EndsAt is zero.
type Alert struct {
	Labels      map[string]string
	Annotations map[string]string
	// Notes are annotations beside those: what people have decided since.
	Notes        []Note
	StartsAt     time.Time
	EndsAt       time.Time
	GeneratorURL string
	// Judged, where it is set, starts the clocks of the latency to notification of an alert that stands: from its anomaly, and from Measured, the event time that it is about (zero: not known).
	Judged, Measured time.Time
}

// Note is an annotation; of an empty Text there is none.
type Note struct{ Name, Text string }

// Engine routes alerts to receivers. Safe for concurrent use.
type Engine struct {
	opts Options
	log  *zap.Logger
	slog *slog.Logger

	registry   *prometheus.Registry
	nflog      *nflog.Log
	silences   *silence.Silences
	silencer   *silence.Silencer
	journals   []*journal
	alerts     *store
	marker     marker.GroupMarker
	dispatched *dispatch.DispatcherMetrics
	pipeline   *notify.PipelineBuilder
	api        *api.API
	mux        http.Handler
	watch      *latency
	ends       *ends
	others     *others
	failing    *failing
	reloads    *metrics.Counter
	refused    *metrics.Counter
	quiet      *metrics.Counter

	stop    chan struct{}
	running sync.WaitGroup
	closing sync.Once
	closed  error

	// putting keeps two updates of one alert apart: what was looked up must still be true when it is put. Taken under mu.
	putting sync.Mutex
	// mu: read to put alerts or to look at what runs, write to swap what runs.
	mu   sync.RWMutex
	plan *plan // the configuration in force
	live *live // nil before Start and after Close
	// started stays true after Close: there is no second life.
	started bool
}

// live is the part that a reload replaces.
type live struct {
	inhibitor  *inhibit.Inhibitor
	dispatcher *dispatch.Dispatcher
	done       sync.WaitGroup
}

// New reads configuration, notification log and silences. A bad routing file is a *ConfigError.
func New(opts Options) (*Engine, error) {
	e := &Engine{
		opts:     opts,
		log:      opts.Log,
		slog:     slog.New(zapslog.NewHandler(opts.Log.Core(), zapslog.WithName("alertmanager"))),
		registry: prometheus.NewRegistry(),
		marker:   marker.NewGroupMarker(),
		watch:    newLatency(opts.Metrics),
		ends:     newEnds(),
		others:   newOthers(),
		reloads:  opts.Metrics.GetOrCreateCounter(`tocsin_alert_routing_reloads_total{outcome="applied"}`),
		refused:  opts.Metrics.GetOrCreateCounter(`tocsin_alert_routing_reloads_total{outcome="refused"}`),
		quiet:    opts.Metrics.GetOrCreateCounter(`tocsin_alert_kept_quiet_total`),
		stop:     make(chan struct{}),
	}
	e.failing = newFailing(e.Put, opts.Dead, opts.Log, opts.Metrics)
	if err := e.setup(); err != nil {
		_ = e.Close()
		return nil, err
	}
	opts.Metrics.RegisterMetricsWriter(e.writeMetrics)
	return e, nil
}

func (e *Engine) setup() error {
	// Configuration first: a bad file must not touch the disk.
	p, err := e.newPlan()
	if err != nil {
		return err
	}
	e.plan = p
	if err := os.MkdirAll(e.opts.DataDir, 0o750); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := e.openStates(); err != nil {
		return err
	}
	e.silencer = silence.NewSilencer(e.silences, e.slog, eventrecorder.Recorder{})
	if e.alerts, err = newStore(e.silencer, e.slog); err != nil {
		return fmt.Errorf("alert store: %w", err)
	}
	e.dispatched = dispatch.NewDispatcherMetrics(false, e.registry, featurecontrol.NoopFlags{})
	e.pipeline = notify.NewPipelineBuilder(e.registry, featurecontrol.NoopFlags{}, eventrecorder.Recorder{})
	return e.setupAPI()
}

func (e *Engine) openStates() error {
	nf := filepath.Join(e.opts.DataDir, "nflog")
	open := func() (err error) {
		e.nflog, err = nflog.New(nflog.Options{SnapshotFile: nf, Retention: e.opts.Retention, Logger: e.slog, Metrics: prometheus.NewRegistry()})
		return err
	}
	if err := e.orSetAside(nf, open); err != nil {
		return fmt.Errorf("notification log: %w", err)
	}
	sil := filepath.Join(e.opts.DataDir, "silences")
	open = func() (err error) {
		e.silences, err = silence.New(silence.Options{
			SnapshotFile: sil, Retention: e.opts.Retention, Logger: e.slog, Metrics: prometheus.NewRegistry(),
			Limits: silence.Limits{MaxSilences: func() int { return maxSilences }, MaxSilenceSizeBytes: func() int { return maxSilenceBytes }},
		})
		return err
	}
	if err := e.orSetAside(sil, open); err != nil {
		return fmt.Errorf("silences: %w", err)
	}
	for _, s := range []struct {
		path  string
		state journaled
		sync  bool
	}{{nf, e.nflog, false}, {sil, silences{e.silences}, true}} {
		j, err := openJournal(s.path, s.state, s.sync, e.log)
		if err != nil {
			return err
		}
		e.journals = append(e.journals, j)
		if s.path == nf && e.opts.Told != nil {
			e.nflog.SetBroadcast(func(entry []byte) {
				j.append(entry)
				e.tell(entry)
			})
		}
		if s.path == sil && e.opts.Told != nil {
			e.silences.SetBroadcast(func(entry []byte) {
				j.append(entry)
				e.tellSilence(entry)
			})
		}
		e.running.Go(func() { j.run(e.stop, snapshotEvery) })
	}
	return nil
}

// orSetAside opens a state; an unreadable file must not keep the alarms from starting, so it is put aside, loudly.
func (e *Engine) orSetAside(path string, open func() error) error {
	err := open()
	if err == nil || errors.Is(err, os.ErrPermission) {
		return err
	}
	kept, moveErr := setAside(path, time.Now())
	if moveErr != nil {
		return errors.Join(err, moveErr)
	}
	e.log.Error("unreadable state set aside: notifications may repeat and silences may be gone",
		zap.String("file", path), zap.String("kept_as", kept), zap.Error(err))
	return open()
}

// silences gives the silences the shape of a journaled state.
type silences struct{ *silence.Silences }

// building lets one API be built at a time: go-openapi expands the specification of all of them in place.
var building sync.Mutex

func (e *Engine) setupAPI() error {
	var err error
	building.Lock()
	defer building.Unlock()
	e.api, err = api.New(api.Options{
		Alerts:         e.alerts,
		Silences:       e.silences,
		GroupMutedFunc: e.marker.Muted,
		Timeout:        apiTimeout,
		Logger:         e.slog,
		Registry:       e.registry,
		RequestDuration: promauto.With(e.registry).NewHistogramVec(prometheus.HistogramOpts{
			Name: "alertmanager_http_request_duration_seconds", Help: "Latency of API requests.", Buckets: prometheus.DefBuckets,
		}, []string{"handler", "method", "code"}),
		GroupFunc: e.groups,
	})
	if err != nil {
		return fmt.Errorf("API: %w", err)
	}
	e.mux = e.api.Register(route.New(), "/")
	return nil
}

func (e *Engine) groups(ctx context.Context, routes func(*dispatch.Route) bool, alerts func(*alert.Alert, time.Time) bool) (dispatch.AlertGroups, map[model.Fingerprint][]string, error) {
	e.mu.RLock()
	l := e.live
	e.mu.RUnlock()
	if l == nil {
		return nil, nil, errors.New("not dispatching yet")
	}
	return l.dispatcher.Groups(ctx, routes, alerts)
}

// Handler serves Alertmanager's API v2 under /api/v2/. It answers 503 before Start.
func (e *Engine) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.RLock()
		started := e.live != nil
		e.mu.RUnlock()
		if !started {
			w.Header().Set("Retry-After", "1")
			httpserver.Problem(w, http.StatusServiceUnavailable, "not dispatching yet", "open alerts are being restored", nil)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 8<<20)
		e.mux.ServeHTTP(w, r)
	})
}

// Start begins dispatching with every alert put so far. Once.
func (e *Engine) Start() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started {
		return
	}
	e.started = true
	e.resumeFailing(e.plan)
	e.run(e.plan)
	e.running.Go(e.confirmEnds)
	e.running.Go(func() { e.failing.run(e.stop) })
}

// Put adds alerts that stand and ends those that have ended. Of several with the same labels the last one stands. What is
// known already changes nothing, and neither does the end of an alert that was never put: nobody has been told of it.
func (e *Engine) Put(ctx context.Context, alerts ...Alert) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.put(ctx, alerts, false)
}

// PutOwed is Put for ends that are owed to a receiver (see Owed) though the alerts were put by an earlier process.
func (e *Engine) PutOwed(ctx context.Context, alerts ...Alert) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.put(ctx, alerts, true)
}

func (e *Engine) put(ctx context.Context, alerts []Alert, owed bool) error {
	e.putting.Lock()
	defer e.putting.Unlock()
	now := time.Now()
	last := make(map[model.Fingerprint]int, len(alerts))
	converted, names := make([]*alert.Alert, len(alerts)), make([]model.Fingerprint, len(alerts))
	for i := range alerts {
		converted[i] = convert(&alerts[i], now)
		names[i] = converted[i].Fingerprint()
		last[names[i]] = i
	}
	var open, ended []*alert.Alert
	for i, a := range converted {
		fp := names[i]
		// The engine routes with several workers: two states of one alert put at once could overtake each other.
		if last[fp] != i {
			continue
		}
		if a.Resolved() {
			e.watch.forget(fp)
		} else if !alerts[i].Judged.IsZero() {
			e.watch.announce(fp, alerts[i].Judged, alerts[i].Measured)
		}
		known, err := e.alerts.Get(fp)
		stands := err == nil && !known.Resolved()
		switch {
		case !a.Resolved() && !stands:
			open = append(open, a)
		case a.Resolved() && (stands || owed && err != nil):
			ended = append(ended, a)
		}
	}
	e.ends.add(ended, now)
	// What stands first: a group whose last alert ends before its next one begins would be announced as resolved.
	if err := e.alerts.Put(ctx, append(open, ended...)...); err != nil {
		return fmt.Errorf("put alerts: %w", err)
	}
	return nil
}

// convert clamps times to the clock that the engine goes by: a broker ahead of us must not make an alert that
// begins, or an end that comes to pass, only later.
func convert(a *Alert, now time.Time) *alert.Alert {
	out := &alert.Alert{UpdatedAt: now}
	out.Labels = labelSet(a.Labels)
	out.Annotations = labelSet(a.Annotations)
	for _, n := range a.Notes {
		if n.Text != "" {
			out.Annotations[model.LabelName(n.Name)] = model.LabelValue(n.Text)
		}
	}
	out.GeneratorURL = a.GeneratorURL
	out.StartsAt = earlier(a.StartsAt, now)
	if a.EndsAt.IsZero() {
		out.EndsAt = now.Add(forever)
		return out
	}
	out.EndsAt = earlier(a.EndsAt, now)
	if out.EndsAt.Before(out.StartsAt) {
		out.EndsAt = out.StartsAt
	}
	return out
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func labelSet(m map[string]string) model.LabelSet {
	out := make(model.LabelSet, len(m))
	for k, v := range m {
		if v != "" {
			out[model.LabelName(k)] = model.LabelValue(v)
		}
	}
	return out
}

func fingerprint(labels map[string]string) model.Fingerprint { return labelSet(labels).Fingerprint() }

// Drop forgets alerts without a word to anyone: another instance has them now. Dispatching restarts with what is left;
// a notification under way is broken off and made again if it was for an alert that stays.
func (e *Engine) Drop(alerts ...Alert) error {
	if len(alerts) == 0 {
		return nil
	}
	gone := make(map[model.Fingerprint]bool, len(alerts))
	for i := range alerts {
		fp := fingerprint(alerts[i].Labels)
		gone[fp] = true
		e.watch.forget(fp)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.live
	e.halt()
	if err := e.alerts.replace(func(a *alert.Alert) bool { return !gone[a.Fingerprint()] }); err != nil {
		return fmt.Errorf("drop alerts: %w", err)
	}
	if was != nil {
		e.run(e.plan)
	}
	return nil
}

// Reload reads the routing file again. A bad one is refused with its line and the old one stays in force.
func (e *Engine) Reload() error {
	p, err := e.newPlan()
	if err != nil {
		e.refused.Inc()
		e.log.Error("routing file refused, the old one stays in force", zap.Error(err))
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plan = p
	if e.live != nil {
		e.halt()
		e.run(p)
	}
	e.reloads.Inc()
	e.log.Info("routing file applied", zap.String("file", e.opts.File), zap.Int("receivers", len(p.receivers)))
	return nil
}

// Close stops dispatching and writes notification log and silences. Idempotent.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		e.mu.Lock()
		e.started = true
		e.halt()
		e.mu.Unlock()
		close(e.stop)
		e.running.Wait()
		for _, j := range e.journals {
			e.closed = errors.Join(e.closed, j.close())
		}
		if e.alerts != nil {
			e.alerts.close()
		}
	})
	return e.closed
}

// writeMetrics adds the engine's own metrics (alertmanager_...) to the service's.
func (e *Engine) writeMetrics(w io.Writer) {
	families, err := e.registry.Gather()
	if err != nil {
		e.log.Warn("engine metrics", zap.Error(err))
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return // the client is gone
		}
	}
}
