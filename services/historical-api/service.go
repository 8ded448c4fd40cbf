// Package historicalapi answers questions about the lake: SQL, and ready-made ones; and asks some itself, on a schedule (docs/CHECKS.md).
//
// States: listening after New (health says not ready), serving in Run once the lake could be listed, drained when Run returns. It writes nothing to the lake; any number of
// instances may run, each with a data_dir of its own.
package historicalapi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/api"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/catalog"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/checks"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/query"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

// Service is one instance. Make it with New, call Run once or Close.
type Service struct {
	deps    service.Deps
	bucket  objstore.Bucket
	catalog *catalog.Catalog
	pool    *worker.Pool
	checks  *checks.Runner
	http    *httpserver.Server

	mu    sync.Mutex
	ready error
}

// New opens lake and listener; nothing is served before Run.
func New(cfg Config, deps service.Deps) (_ *Service, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("historical-api: %w", err)
	}
	s := &Service{deps: deps, ready: errors.New("starting")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.bucket, err = objstore.Open(context.Background(), cfg.Lake); err != nil {
		return nil, fmt.Errorf("lake: %w", err)
	}
	files, err := s.files(cfg)
	if err != nil {
		return nil, err
	}
	s.catalog = catalog.New(s.bucket, files, cfg.Refresh, time.Now)
	// Nothing of this process's environment, least of all its secrets.
	s.pool = worker.NewPool([]string{workerProgram(cfg.Queries.Worker)}, []string{"TZ=UTC", "HOME=/nonexistent", "GOMAXPROCS=2"}, cfg.Queries.Concurrent, cfg.Queries.Wait)
	q := cfg.Queries
	desk := query.New(s.catalog, s.pool, query.Limits{
		Limits: worker.Limits{Rows: q.MaxRows, Bytes: q.MaxBytes, Memory: q.MemoryBytes, Threads: q.Threads, Timeout: q.Timeout}, CacheBytes: q.CacheBytes,
	}, time.Now, deps.Metrics)
	tokens, err := cfg.Auth.tokens(cfg.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("auth.%w", err)
	}
	if s.http, err = httpserver.New(cfg.HTTP, "historical-api", s.Ready, cfg, deps); err != nil {
		return nil, err
	}
	if cfg.Auth.anonymous(cfg.HTTP.Listen) {
		deps.Log.Warn("anybody who reaches the listener may read the whole lake", zap.String("http", s.http.Addr()))
	}
	jobs, err := cfg.Checks.jobs()
	if err != nil {
		return nil, fmt.Errorf("checks.%w", err)
	}
	s.checks = checks.New(checks.Config{
		Jobs: jobs, Instance: cfg.Checks.instance(), URL: cfg.Checks.URL, Dir: cfg.DataDir, Lease: cfg.Checks.Lease, Stand: cfg.Checks.Stand, Retention: cfg.Checks.Retention,
		Build: launch.Version(),
	}, desk, deps, time.Now)
	h := api.New(desk, s.catalog, s.checks, tokens, q.MaxQueryBytes, time.Now, deps.Log).Handler()
	s.http.Handle("/v1/", h)
	s.http.Handle("/openapi.yaml", h)
	return s, nil
}

// files says where the lake's objects can be read by path.
func (s *Service) files(cfg Config) (catalog.Files, error) {
	if dir, ok := strings.CutPrefix(cfg.Lake.URL, "file://"); ok {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("lake.url: %w", err)
		}
		return catalog.Folder(dir), nil
	}
	c, err := catalog.NewCache(filepath.Join(cfg.DataDir, "copies"), s.bucket, cfg.Queries.CopyBytes)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	s.deps.Metrics.NewGauge("tocsin_history_copies_bytes", func() float64 { return float64(c.Used()) })
	return c, nil
}

// workerProgram finds sql-worker. Where there is none the first query says so.
func workerProgram(configured string) string {
	const name = "sql-worker"
	if configured != "" {
		return configured
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	if onPath, err := exec.LookPath(name); err == nil {
		return onPath
	}
	return name
}

// Addr is the address bound.
func (s *Service) Addr() string { return s.http.Addr() }

// Ready is nil once the lake could be listed.
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

// retryEvery is the time between two looks at a lake that does not answer.
const retryEvery = time.Second

// Run serves until ctx ends, then drains.
func (s *Service) Run(ctx context.Context) error {
	defer func() { _ = s.Close() }()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { s.awaitLake(ctx) })
	wg.Go(func() { s.checks.Run(ctx) })
	return s.http.Run(ctx)
}

// awaitLake waits until the lake can be listed. It is only read, so whether it overwrites is for those who write to find out.
func (s *Service) awaitLake(ctx context.Context) {
	err := objstore.Await(ctx, retryEvery, func(ctx context.Context) error {
		_, err := s.catalog.Sizes(ctx)
		return err
	}, func(err error) {
		s.setReady(err)
		s.deps.Log.Warn("the lake does not answer", zap.Error(err))
	})
	if err == nil {
		s.setReady(nil)
	}
}

// Close releases what New took. Idempotent.
func (s *Service) Close() error {
	var errs []error
	if s.http != nil {
		errs = append(errs, s.http.Close())
	}
	if s.pool != nil {
		errs = append(errs, s.pool.Close())
	}
	if s.bucket != nil {
		errs = append(errs, s.bucket.Close())
	}
	return errors.Join(errs...)
}
