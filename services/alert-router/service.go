package alertrouter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/alertapi"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/desk"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/oncall"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/push"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/routing"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/stream"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/verdict"
)

// keepClosed is how long a closed alert is kept in memory for who acknowledges it late; beyond that it is looked up in the journal.
const keepClosed = time.Hour

// Service is one alert-router. States: made (New), waiting for Kafka, restoring, following, draining, closed; Ready tells
// which of them keeps it from its job.
type Service struct {
	http     *httpserver.Server
	engine   *routing.Engine
	consumer *stream.Consumer
	told     *stream.Told
	desk     *desk.Desk
	pager    *pager
	log      *zap.Logger

	announcer *announcer
}

// New opens the listener and reads the routing file, the notification log and the silences. A routing file that cannot be used is an
// error that names its line.
func New(cfg Config, deps service.Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("alert_router.%w", err)
	}
	s := &Service{log: deps.Log}
	srv, err := httpserver.New(cfg.HTTP, "alert-router", s.Ready, cfg, deps)
	if err != nil {
		return nil, err
	}
	s.http = srv
	external := &url.URL{Scheme: "http", Host: srv.Addr()}
	if cfg.ExternalURL != "" {
		external, _ = url.Parse(cfg.ExternalURL) // Validate has parsed it
	}
	people, err := cfg.people()
	if err != nil {
		_ = srv.Close()
		return nil, fmt.Errorf("alert_router.auth.%w", err)
	}
	duty, err := oncall.New(cfg.OnCall)
	if err != nil {
		_ = srv.Close()
		return nil, fmt.Errorf("alert_router.on_call.%w", err)
	}
	if s.pager, err = newPager(cfg, external, deps); err != nil {
		_ = srv.Close()
		return nil, err
	}
	s.pager.book = &push.Book{
		Journal: func() (*journal.Store, error) { return s.desk.Journal() }, Person: cfg.person, Log: deps.Log.Named("push"),
	}
	shared := stream.NewShared()
	s.desk = desk.New(desk.Config{
		URL: cfg.Journal.URL, DataDir: cfg.DataDir, Retention: cfg.Journal.Retention, MaxShelf: cfg.MaxShelf, Instance: cfg.InstanceID,
		Policy: lifecycle.Policy{Rearm: cfg.RearmAfter, Keep: keepClosed, Holds: cfg.Incidents.holds()},
	}, stream.NewLog(deps, shared), func(c lifecycle.Changes) { s.mirror(c) }, deps.Log.Named("journal"), deps.Metrics)
	s.told = stream.NewTold(cfg.InstanceID, deps, func(source, about string, entry []byte) error { return s.engine.Hear(source, about, entry) })
	s.engine, err = routing.New(routing.Options{
		File: cfg.RoutingFile, DataDir: cfg.DataDir, ExternalURL: external, Retention: cfg.Retention,
		LogNotifications: cfg.LogNotifications, Dial: s.pager.dialer.DialContext, Told: s.told.Publish,
		Pages: s.pager.pages, Dead: s.pager.dead, Describe: s.describe,
		Gate: s.desk, Duty: duty, Noted: s.noted(cfg.InstanceID), Log: deps.Log, Metrics: deps.Metrics,
	})
	if err != nil {
		_ = srv.Close()
		s.pager.close()
		return nil, err
	}
	s.announcer = newAnnouncer(s.engine, s.told, s.desk, cfg.MachineURL, deps)
	s.consumer = stream.New(stream.Config{
		GroupID: cfg.GroupID, InstanceID: cfg.InstanceID, SessionTimeout: cfg.SessionTimeout,
		TransactionTimeout: cfg.TransactionTimeout, MaxPollRecords: cfg.MaxPollRecords,
	}, deps, s.announcer, shared)
	s.handle(alertapi.New(s.desk, s.engine, duty, people, deps.Log.Named("api")))
	return s, nil
}

func (s *Service) handle(api *alertapi.API) {
	api.Register(s.http.Handle)
	api.RegisterPush(s.http.Handle, s.pager.book, s.pager.pushes)
	s.http.Handle(verdict.Path, s.links())
	s.http.Handle("/api/v2/", api.Whole(s.shelves(s.engine.Handler())))
	s.http.Handle("POST /-/reload", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Reload(); err != nil {
			httpserver.Problem(w, http.StatusInternalServerError, "routing file refused",
				"failed to reload config: "+err.Error()+"; the old one stays in force", nil)
			return
		}
		w.WriteHeader(http.StatusOK)
	}))
	// What probes made for Alertmanager ask.
	s.http.Handle("GET /-/healthy", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) }))
	s.http.Handle("GET /-/ready", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("OK"))
	}))
}

// Addr is the address of the HTTP listener.
func (s *Service) Addr() string { return s.http.Addr() }

// Ready is nil while every partition of this instance is being followed and alerts are being dispatched.
func (s *Service) Ready() error {
	if s.consumer == nil {
		return errors.New("starting")
	}
	return s.consumer.Ready()
}

// Reload reads the routing file again. A bad one is refused, with its line, and the old one stays in force.
func (s *Service) Reload() error { return s.engine.Reload() }

// Run consumes and serves until ctx is cancelled, then finishes the transaction under way, stops dispatching, and
// writes notification log and silences.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.http.Run(ctx) })
	// The journal ends after the consumer, so that it has what that has written last.
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var following errgroup.Group
	following.Go(func() error { return s.desk.Run(follow) })
	g.Go(func() error { return s.consumer.Run(ctx) })
	err := g.Wait()
	stop()
	err = errors.Join(err, following.Wait())
	return errors.Join(err, s.Close())
}

// Close releases what New took. Idempotent.
func (s *Service) Close() error {
	err := errors.Join(s.http.Close(), s.engine.Close())
	s.pager.close()
	s.told.Close() // after the engine, which may have told somebody until now
	return err
}
