// Package icebergcommitter is the service that keeps Iceberg tables over the lake's files: docs/LAKE.md.
//
// It is a process of its own: the writer goes on without it, it reads the lake and nothing else, and what Iceberg needs is linked into no other binary.
package icebergcommitter

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/icebergconfig"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/iceberg-committer/internal/icebergtable"
)

const name = "iceberg-committer"

// Config of the iceberg-committer.
type Config = icebergconfig.Config

// DefaultConfig keeps the catalog beside the lake of the working directory.
func DefaultConfig() Config { return icebergconfig.Default() }

// Service is the running committer.
type Service struct {
	http   *httpserver.Server
	bucket objstore.Bucket
	tables *icebergtable.Committer
	once   sync.Once
}

// New takes the port and opens the lake. It does not wait for the catalog or S3.
func New(cfg Config, deps service.Deps) (_ *Service, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s := &Service{}
	if s.bucket, err = objstore.Open(context.Background(), cfg.Lake); err != nil {
		return nil, fmt.Errorf("%s: lake: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.tables, err = icebergtable.New(cfg.Iceberg, cfg.Lake, s.bucket, cfg.Tables, deps.Log, meter{deps.Metrics}); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	deps.Metrics.GetOrCreateGauge("tocsin_iceberg_synced_timestamp_seconds", func() float64 { return float64(s.tables.Synced().UnixMilli()) / 1000 })
	if s.http, err = httpserver.New(cfg.HTTP, name, s.Ready, cfg, deps); err != nil {
		return nil, err
	}
	return s, nil
}

// Addr is where the HTTP side listens.
func (s *Service) Addr() string { return s.http.Addr() }

// Ready implements service.Runner.
func (s *Service) Ready() error { return s.tables.Ready() }

// Run implements service.Runner. A commit that is under way is finished or given up; the next process goes on from what stands.
func (s *Service) Run(ctx context.Context) error {
	defer func() { _ = s.Close() }()
	outer, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.http.Run(outer); err != nil {
			cancel(err)
		}
	})
	s.tables.Run(inner)
	stop()
	wg.Wait()
	if err := context.Cause(inner); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
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
	if s.tables != nil {
		errs = append(errs, s.tables.Close())
	}
	return errors.Join(append(errs, s.bucket.Close())...)
}

// meter counts what the committer does. It implements icebergtable.Observer.
type meter struct{ set *metrics.Set }

// IcebergTable implements icebergtable.Observer.
func (m meter) IcebergTable(table string) {
	for _, metric := range []string{"commits", "files_added", "files_removed", "failures", "races"} {
		m.count(metric, table, 0) // so that they are there before the first event
	}
}

func (m meter) count(metric, table string, n int) {
	m.set.GetOrCreateCounter(fmt.Sprintf("tocsin_iceberg_%s_total{table=%q}", metric, table)).Add(n)
}

// IcebergCommitted implements icebergtable.Observer.
func (m meter) IcebergCommitted(table string, added, removed int) {
	m.count("commits", table, 1)
	m.count("files_added", table, added)
	m.count("files_removed", table, removed)
}

// IcebergFailed implements icebergtable.Observer.
func (m meter) IcebergFailed(table string) { m.count("failures", table, 1) }

// IcebergRaced implements icebergtable.Observer.
func (m meter) IcebergRaced(table string) { m.count("races", table, 1) }
