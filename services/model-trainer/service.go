// Package modeltrainer trains models from files, keeps them by name and version, and scores rows with them over HTTP: the champion's word counts, a challenger
// is asked beside it.
//
// States: listening after New (health says not ready), serving in Run once the models' store has kept its promises, drained when Run returns. All state is in
// the store: any number of instances may share one.
package modeltrainer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/access"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/api"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/comparison"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/registry"
)

// Service is one instance. Make it with New, call Run once or Close.
type Service struct {
	deps   service.Deps
	bucket objstore.Bucket
	lake   objstore.Bucket // nil: none is configured
	data   *os.Root
	follow *comparison.Follower
	api    *api.API
	http   *httpserver.Server

	mu    sync.Mutex
	ready error
}

// New opens store, data folder and listener; nothing is served before Run.
func New(cfg Config, deps service.Deps) (_ *Service, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("model-trainer: %w", err)
	}
	s := &Service{deps: deps, ready: errors.New("starting")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if s.data, err = os.OpenRoot(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if s.bucket, err = objstore.Open(context.Background(), cfg.Models); err != nil {
		return nil, fmt.Errorf("models: %w", err)
	}
	if cfg.Lake.URL != "" {
		if s.lake, err = objstore.Open(context.Background(), cfg.Lake); err != nil {
			return nil, fmt.Errorf("lake: %w", err)
		}
	}
	if s.http, err = httpserver.New(cfg.HTTP, "model-trainer", s.Ready, cfg, deps); err != nil {
		return nil, err
	}
	keeper, err := access.New(cfg.Auth.Clients, cfg.Auth.anonymous())
	if err != nil {
		return nil, fmt.Errorf("auth.%w", err)
	}
	if cfg.Auth.anonymous() {
		deps.Log.Warn("anybody who reaches the listener may train and score", zap.String("http", s.http.Addr()))
	}
	if s.follow, err = comparison.NewFollower(deps.Kafka, deps.Log); err != nil {
		return nil, fmt.Errorf("kafka.%w", err)
	}
	s.api = api.New(registry.New(s.bucket, cfg.MaxModelBytes, cfg.CacheBytes), s.data, s.lake, api.Limits{
		MaxBodyBytes: cfg.MaxBodyBytes, MaxRows: cfg.MaxRows, MaxTrainRows: cfg.MaxTrainRows, MaxTrainValues: cfg.MaxTrainCells,
	}, cfg.Trainings, deps.Log, deps.Metrics)
	s.api.Compares(s.follow.Book, s.follow.Ready, cfg.MachineURL)
	s.api.Watches(s.follow.Inputs, s.follow.Ready, deps.Metrics)
	s.http.Handle("/v1/", s.api.Handler(keeper))
	return s, nil
}

// Addr is the address bound.
func (s *Service) Addr() string { return s.http.Addr() }

// Ready is nil once the store has shown that it keeps models.
func (s *Service) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

func (s *Service) setReady(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = err
}

const (
	probeEvery = 2 * time.Second
	// driftEvery is the time between two looks at the drift of models, for the metrics: counts come once a minute.
	driftEvery = 15 * time.Second
	// trainingDrain is how long a training in the background may take to its end when the service stops.
	trainingDrain = 5 * time.Second
)

// Run serves until ctx ends, lets requests finish, and returns nil.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var probed error
	wg.Go(func() {
		if probed = s.probe(ctx); probed != nil {
			cancel()
		}
	})
	wg.Go(func() { s.follow.Run(ctx) })
	wg.Go(func() { s.api.Watch(ctx, driftEvery) })
	err := s.http.Run(ctx)
	cancel()
	wg.Wait()
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), trainingDrain)
	defer stop()
	s.api.Close(drain)
	s.setReady(errors.New("stopped"))
	return errors.Join(probed, err, s.release())
}

// probe waits for the store. One that overwrites, or loses what is said of objects, is refused: versions would not be what they were.
func (s *Service) probe(ctx context.Context) error {
	err := objstore.Await(ctx, probeEvery, func(ctx context.Context) error { return objstore.Probe(ctx, s.bucket) }, func(err error) {
		s.setReady(fmt.Errorf("waiting for the models' store: %s", objstore.Reason(err)))
		s.deps.Log.Warn("the models' store does not answer", zap.Error(err))
	})
	switch {
	case err == nil:
		s.setReady(nil)
		return nil
	case ctx.Err() != nil:
		return nil
	}
	return fmt.Errorf("models: %w", err)
}

func (s *Service) release() error {
	var errs []error
	if s.bucket != nil {
		errs = append(errs, s.bucket.Close())
	}
	if s.lake != nil {
		errs = append(errs, s.lake.Close())
	}
	if s.data != nil {
		errs = append(errs, s.data.Close())
	}
	return errors.Join(errs...)
}

// Close releases what New took when Run was never called. Idempotent.
func (s *Service) Close() error {
	err := s.release()
	if s.http != nil {
		err = errors.Join(err, s.http.Close())
	}
	return err
}
