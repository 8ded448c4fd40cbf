// Package coldpathwriter is the service that writes readings, windows, anomalies, alerts and findings from Kafka into Parquet
// files in the lake, each row exactly once.
//
// States: created (New: port and directory taken), preparing (store probed, topics looked for), consuming, draining. It is
// ready only while consuming with a store that answers. DESIGN.md tells the protocol.
package coldpathwriter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/commit"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/consume"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

const name = "cold-path-writer"

// Service is the running writer.
type Service struct {
	cfg     Config
	deps    service.Deps
	http    *httpserver.Server
	bucket  objstore.Bucket
	schemas *schema.Registry
	store   *commit.Committer
	group   *consume.Group
	// phase is why it is not ready, nil once it consumes.
	phase atomic.Pointer[error]
	once  sync.Once
}

// New takes the port and opens the lake. It does not wait for Kafka or S3.
func New(cfg Config, deps service.Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	bucket, err := objstore.Open(context.Background(), cfg.Lake)
	if err != nil {
		return nil, fmt.Errorf("%s: lake: %w", name, err)
	}
	return NewOver(cfg, deps, bucket)
}

// NewOver is New over a bucket that the caller has opened and the service then owns, whatever cfg.Lake says.
func NewOver(cfg Config, deps service.Deps, bucket objstore.Bucket) (_ *Service, err error) {
	s := &Service{cfg: cfg, deps: deps, bucket: bucket}
	s.enter(errors.New("not started"))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.schemas, err = schema.New(deps.Kafka, cfg.Schemas, deps.Log); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	deps.Metrics.GetOrCreateGauge("tocsin_schemas_refused_total", func() float64 { return float64(s.schemas.Refused()) })
	watch := newMeter(deps.Metrics)
	s.store = commit.New(bucket, cfg.Retry, deps.Log, watch)
	s.group = consume.New(consume.Config{
		Group: cfg.Group, InstanceID: cfg.InstanceID, Rules: cfg.Chunk, SkipLost: cfg.SkipLost, MemoryLimit: cfg.MemoryLimit,
		Encoders: cfg.Encoders, DrainTimeout: cfg.DrainTimeout, SessionTimeout: cfg.SessionTimeout, Backoff: cfg.Retry, StallTimeout: cfg.StallTimeout,
	}, table.All(registry{s.schemas}), bucket, s.store, deps.Log, watch)
	watch.gauges(s.group)
	if s.http, err = httpserver.New(cfg.HTTP, name, s.Ready, cfg, deps); err != nil {
		return nil, err
	}
	return s, nil
}

// Addr is where the HTTP side listens.
func (s *Service) Addr() string { return s.http.Addr() }

func (s *Service) enter(why error) { s.phase.Store(&why) }

// Ready implements service.Runner.
func (s *Service) Ready() error {
	if err := *s.phase.Load(); err != nil {
		if trouble := s.store.Trouble(); trouble != nil {
			return fmt.Errorf("%w: %w", err, trouble)
		}
		return err
	}
	return s.group.Ready()
}

// Run implements service.Runner.
func (s *Service) Run(ctx context.Context) error {
	defer func() { _ = s.Close() }() // everything has been drained: nothing to lose
	// What serves the consumer outlives it.
	outer, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	side := func(run func(context.Context) error) {
		wg.Go(func() {
			if err := run(outer); err != nil {
				cancel(err)
			}
		})
	}
	side(s.http.Run)
	side(s.schemas.Run)
	side(func(ctx context.Context) error { return s.cfg.Maintenance.run(ctx, s.bucket, s.deps.Log) })
	err := s.consume(inner)
	s.enter(errors.New("stopped"))
	stop(nil)
	wg.Wait()
	if err == nil && ctx.Err() == nil {
		err = context.Cause(inner) // a side's failure ended it
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// consume prepares and then reads until ctx ends; nil then.
func (s *Service) consume(ctx context.Context) error {
	s.enter(errors.New("probing the lake"))
	err := s.store.Retry(ctx, "probe", func(ctx context.Context) error { return objstore.Probe(ctx, s.bucket) })
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lake refused: %w", err)
	}
	s.enter(errors.New("waiting for Kafka"))
	opts, err := s.deps.Kafka.Options(s.deps.Log)
	if err != nil {
		return err
	}
	if err := s.topics(ctx, opts); err != nil || ctx.Err() != nil {
		return err
	}
	s.enter(nil)
	return s.group.Run(ctx, opts)
}

// topics makes sure that what is read and written exists, waiting for Kafka as long as ctx lasts.
func (s *Service) topics(ctx context.Context, opts []kgo.Opt) error {
	want := []string{topic.Registry}
	for _, t := range []string{topic.Readings, topic.Windows, topic.Anomalies, topic.Alerts, topic.Findings} {
		want = append(want, t, topic.DLQ(t))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	err = kafka.AwaitTopics(ctx, cl, s.deps.Kafka, func(err error) {
		s.enter(fmt.Errorf("waiting for Kafka: %w", err))
		s.deps.Log.Warn("waiting for Kafka", zap.Error(err))
	}, topic.Specs(want...)...)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Close implements service.Runner.
func (s *Service) Close() error {
	var err error
	s.once.Do(func() { err = s.release() })
	return err
}

func (s *Service) release() error {
	var errs []error
	if s.http != nil {
		errs = append(errs, s.http.Close())
	}
	if s.schemas != nil {
		s.schemas.Close()
	}
	return errors.Join(append(errs, s.bucket.Close())...)
}

// registry is the schema registry as tables ask it.
type registry struct{ r *schema.Registry }

func (r registry) Sensors(ctx context.Context, id string) ([]string, error) {
	names, err := r.r.Resolve(ctx, id)
	if errors.Is(err, schema.ErrUnknown) {
		return nil, nil
	}
	return names, err
}
