// Package streamprocessor is the fleet's one judge: it reads frames, keeps each machine's windowed state, decides what every
// reading is worth, scores anomalies, and writes readings, windows and anomalies exactly once. DESIGN.md tells how.
package streamprocessor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/export"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/revise"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/topology"
)

// publishTimeout is how long a reload waits for Kafka.
const publishTimeout = 10 * time.Second

// Service is one instance of the stream-processor.
type Service struct {
	http     *httpserver.Server
	topology *topology.Topology
	pusher   *export.Pusher
	registry *schema.Registry
	releases *releases
}

var _ service.Runner = (*Service)(nil)

// New opens the HTTP listener and makes the Kafka clients; nothing is consumed before Run.
func New(cfg Config, deps service.Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{pusher: export.New(cfg.Export, deps.Net(), deps.Log, deps.Metrics), releases: &releases{log: deps.Log.Named("models")}}
	began, unloaded := s.releases.begin(cfg)
	if unloaded != nil {
		deps.Metrics.GetOrCreateCounter("tocsin_processor_models_unloaded_total").Inc()
	}
	cfg = began.cfg
	var err error
	if s.registry, err = schema.New(deps.Kafka, schema.DefaultConfig(), deps.Log); err != nil {
		s.releases.close()
		return nil, err
	}
	s.topology, err = topology.New(topology.Config{
		Group: cfg.Group, InstanceID: cfg.InstanceID, SessionTimeout: cfg.SessionTimeout,
		CommitInterval: cfg.CommitInterval, CommitRecords: cfg.CommitRecords,
		RestoreTimeout: cfg.RestoreTimeout, RestoreParallel: cfg.RestoreParallel, MaxMachines: cfg.MaxMachines, Build: launch.Version(),
		Snapshot: topology.SnapshotConfig{MaxAgeMS: cfg.Snapshot.MaxAge.Milliseconds(), MaxRecords: cfg.Snapshot.MaxRecords, MaxBytes: cfg.Snapshot.MaxBytes},
	}, began.detection(), s.resolve, s.pusher, deps)
	if err != nil {
		s.releases.close()
		s.registry.Close()
		return nil, err
	}
	s.releases.publish = s.topology.Reconfigure
	if err = s.listen(cfg, deps); err != nil {
		s.topology.Close()
		s.registry.Close()
		s.releases.close()
		return nil, err
	}
	return s, nil
}

// listen opens the HTTP listener.
func (s *Service) listen(cfg Config, deps service.Deps) (err error) {
	if s.http, err = httpserver.New(cfg.HTTP, "stream-processor", s.Ready, cfg, deps); err != nil {
		return err
	}
	api, err := revise.New(cfg.Auth, cfg.HTTP.Listen, s.topology.Detections(), s.topology.Following, deps.Log, deps.Metrics)
	if err != nil {
		return errors.Join(fmt.Errorf("auth.%w", err), s.http.Close())
	}
	api.Register(func(pattern string, h http.Handler) { s.http.Handle(pattern, h) })
	return nil
}

// resolve names the sensors of a schema. An id that the registry does not hold although it has read to its end is unknown for good: the gateway
// lets a frame pass only after its schema was written.
func (s *Service) resolve(ctx context.Context, id string) ([]string, error) {
	names, err := s.registry.Resolve(ctx, id)
	if errors.Is(err, schema.ErrUnknown) {
		return nil, topology.ErrUnknownSchema
	}
	return names, err
}

// Run judges until ctx ends; then it finishes the transaction that is open and leaves.
func (s *Service) Run(ctx context.Context) error {
	defer s.topology.Close()
	defer s.registry.Close()
	defer s.releases.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.http.Run(ctx) })
	g.Go(func() error { return s.registry.Run(ctx) })
	g.Go(func() error { s.releases.follow(ctx); return nil })
	// The push ends after the judge: the last transaction's windows would be missing from every dashboard.
	pushing, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { s.pusher.Run(pushing); return nil })
	g.Go(func() error {
		defer stop()
		err := s.topology.Run(ctx)
		if err != nil && !errors.Is(err, kgo.ErrClientClosed) {
			return fmt.Errorf("topology: %w", err)
		}
		return err
	})
	return g.Wait()
}

// Reconfigure takes the detection section and its revision of a configuration that was read again: they are published, and come into force for each
// partition where that stands in its log. What else is in cfg holds from the next start on. A bad one is refused and changes nothing.
func (s *Service) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	return s.releases.reconfigure(ctx, cfg)
}

// Ready is nil when every partition that this instance owns is being judged.
func (s *Service) Ready() error { return s.topology.Ready() }

// Addr is the bound HTTP address.
func (s *Service) Addr() string { return s.http.Addr() }

// Close releases what New took when Run is never called.
func (s *Service) Close() error {
	s.topology.Close()
	s.registry.Close()
	s.releases.close()
	return s.http.Close()
}
