// Package realtimeapi is Tocsin's live side: it follows the windows, anomalies and alerts topics, and the frames of machines that somebody looks at, and serves what
// is live now over REST, gRPC, a WebSocket and a web page.
//
// States: listening after New (health says not ready, requests wait in the backlog), following and serving in
// Run, drained when Run returns. It holds no state beyond memory: any number of instances may run, each sees everything.
package realtimeapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/backlog"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/follow"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/forward"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/grpcapi"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hops"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/live"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/page"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/pipeline"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/query"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/rest"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/stream"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

// Service is one instance. Make it with New, call Run once or Close.
type Service struct {
	http    *httpserver.Server
	grpc    *grpcapi.Server
	follow  *follow.Follower
	live    *live.Follower
	stream  *stream.Server
	gate    *gate.Gate
	forward *forward.Forwarder

	pipeline *pipeline.Desk
	waits    *backlog.Watcher
}

// New opens the listeners; nothing is read or served before Run.
func New(cfg Config, deps service.Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("realtime-api: %w", err)
	}
	pageHandler, build, err := page.Handler()
	if err != nil {
		return nil, err
	}
	where, err := cfg.Places.compile()
	if err != nil {
		return nil, fmt.Errorf("realtime-api: places.%w", err)
	}
	roots, err := cfg.Backends.roots()
	if err != nil {
		return nil, fmt.Errorf("realtime-api: backends.%w", err)
	}
	door, err := gate.New(cfg.gate(), deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("realtime-api: auth.%w", err)
	}
	h := hub.New(cfg.Keep.limits())
	h.Locate(where)
	flow := follow.NewFlow(deps.Metrics)
	now := func() wire.Flow { return flow.Summary(time.Now()) }
	board := live.NewBoard()
	s := &Service{
		gate:    door,
		forward: forward.New(cfg.Backends.bases(), roots, deps.Net(), deps.Log, deps.Metrics),
		follow:  follow.New(follow.Config{Kafka: deps.Kafka, LookBack: cfg.LookBack}, h, flow, deps.Log, deps.Metrics),
		live:    live.New(deps.Kafka, board, deps.Log, deps.Metrics),
		stream: stream.New(stream.Config{
			Interval: cfg.Stream.Interval, WriteTimeout: cfg.Stream.WriteTimeout, PingInterval: cfg.Stream.PingInterval,
			MaxClients: cfg.Stream.MaxClients, AllowedOrigins: cfg.Stream.AllowedOrigins, Build: build, Hops: &flow.Hops, Live: board,
		}, h, now, deps.Log, deps.Metrics),
		waits: backlog.New(deps.Kafka, deps.Log, deps.Metrics),
	}
	expose(deps, h)
	s.http, err = httpserver.New(cfg.HTTP, "realtime-api", s.Ready, cfg, deps)
	if err != nil {
		return nil, err
	}
	desk := query.New(h)
	if s.grpc, err = grpcapi.New(cfg.GRPC, deps.Net(), desk, door, s.Ready, deps.Log, deps.Metrics); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.pipeline = pipeline.New(pipeline.Sources{
		Hops:    func(now time.Time) []hops.Figures { f := flow.Hops.Read(now); return f[:] },
		Backlog: s.waits.Report, Flow: now, Services: s.forward.Ready, Ready: s.Ready,
	})
	s.routes(rest.New(desk, now, deps.Metrics), pageHandler, gate.About{Features: s.forward.Features(), Build: build, Version: launch.Version(), Instance: s.stream.Instance()})
	return s, nil
}

// routes says what is served, and for whom. All under /v1 is for people whom the gate knows, but for signing in; the page and its contract hold nothing of any machine.
func (s *Service) routes(api *rest.API, pageHandler http.Handler, about gate.About) {
	for _, r := range api.Routes() {
		s.http.Handle(r.Method+" "+r.Path, s.gate.Guard(r.Handler))
	}
	for _, r := range forward.Table() {
		s.http.Handle(r.Method+" "+r.Path, s.gate.Guard(s.forward.Handler(r)))
	}
	s.http.Handle("GET /v1/health/pipeline", s.gate.Guard(s.pipeline.Serve))
	s.http.Handle("GET /v1/stream", s.gate.Guard(s.stream.Serve))
	s.http.Handle("GET /v1/session", s.gate.Show(about))
	s.http.Handle("POST /v1/session", s.gate.Begin(about))
	s.http.Handle("DELETE /v1/session", s.gate.End())
	s.http.Handle("/v1/", s.gate.Guard(func(w http.ResponseWriter, r *http.Request, _ *gate.Identity) { api.NotFound(w, r) }))
	s.http.Handle("GET /openapi.yaml", http.HandlerFunc(rest.Contract))
	s.http.Handle("/", pageHandler)
}

// expose publishes the hub's sizes.
func expose(deps service.Deps, h *hub.Hub) {
	for name, read := range map[string]func(hub.Counts) int{
		`tocsin_api_machines`:                      func(c hub.Counts) int { return c.Machines },
		`tocsin_api_window_cells`:                  func(c hub.Counts) int { return c.Cells },
		`tocsin_api_anomalies`:                     func(c hub.Counts) int { return c.Anomalies },
		`tocsin_api_alerts{state="open"}`:          func(c hub.Counts) int { return c.OpenAlerts },
		`tocsin_api_alerts{state="closed"}`:        func(c hub.Counts) int { return c.ClosedAlerts },
		`tocsin_api_evicted_total{what="machine"}`: func(c hub.Counts) int { return int(c.Stats.EvictedMachines) },
		`tocsin_api_evicted_total{what="alert"}`:   func(c hub.Counts) int { return int(c.Stats.EvictedAlerts) },
		`tocsin_api_stale_window_revisions_total`:  func(c hub.Counts) int { return int(c.Stats.StaleRevisions) },
	} {
		deps.Metrics.GetOrCreateGauge(name, func() float64 { return float64(read(h.Counts(nil))) })
	}
}

// Addr is the HTTP address bound.
func (s *Service) Addr() string { return s.http.Addr() }

// GRPCAddr is the address that the gRPC listener is bound to.
func (s *Service) GRPCAddr() string { return s.grpc.Addr() }

// Ready is nil once everything that stood in the log at the start has been read.
func (s *Service) Ready() error { return s.follow.Ready() }

// Run serves until ctx ends, then says goodbye to the stream's clients, lets requests finish, and returns nil.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	runs := []func(context.Context) error{s.follow.Run, s.live.Run, s.stream.Run, s.waits.Run, s.http.Run, s.grpc.Run}
	errs := make([]error, len(runs))
	var wg sync.WaitGroup
	for i, run := range runs {
		wg.Go(func() {
			defer cancel() // one that ends, ends all
			errs[i] = run(ctx)
		})
	}
	wg.Wait()
	s.gate.Close()
	s.forward.Close()
	return errors.Join(errs...)
}

// Close releases the listeners when Run was never called. Idempotent.
func (s *Service) Close() error {
	s.gate.Close()
	s.forward.Close()
	err := s.http.Close()
	if s.grpc != nil {
		err = errors.Join(err, s.grpc.Close())
	}
	return err
}
