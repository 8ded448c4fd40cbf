// Package tuning prices a change of the detection configuration before it is made: a stretch of history from the lake goes through the production judge under the configuration that
// holds and under the proposed one, and it says what each would have paged for.
//
// It decides and changes nothing. One trial runs at a time, on one processor; what is asked for and answered is kept in memory.
package tuning

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/service"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// Service is the tuning bench. Make it with New, call Run once or Close.
type Service struct {
	published *streamprocessor.Published // nil: there are no brokers
	bench     *bench
	http      *httpserver.Server

	mu    sync.Mutex
	ready error
}

// New opens lake and listener; nothing is served before Run. current is the stream-processor's section: what trials are held against until it is known what the fleet is judged under.
func New(cfg Config, current streamprocessor.Config, deps service.Deps) (_ *Service, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("tuning-bench: %w", err)
	}
	s := &Service{ready: errors.New("starting")}
	tokens, err := cfg.Auth.tokens(cfg.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("auth.%w", err)
	}
	bucket, err := objstore.Open(context.Background(), cfg.Lake)
	if err != nil {
		return nil, fmt.Errorf("lake: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, bucket.Close())
			s.forget()
		}
	}()
	if len(deps.Kafka.Brokers) > 0 {
		if s.published, err = streamprocessor.FollowPublished(deps.Kafka, deps.Log); err != nil {
			return nil, err
		}
	}
	s.bench = newBench(cfg, bucket, current, s.published, deps.Log)
	if s.http, err = httpserver.New(cfg.HTTP, "tuning-bench", s.Ready, cfg, deps); err != nil {
		return nil, err
	}
	if cfg.Auth.anonymous(cfg.HTTP.Listen) {
		deps.Log.Warn("anybody who reaches the listener may try settings on every machine's history", zap.String("http", s.http.Addr()))
	}
	(&api{bench: s.bench, tokens: tokens, log: deps.Log}).register(func(pattern string, h http.Handler) { s.http.Handle(pattern, h) })
	return s, nil
}

// Addr is the address bound.
func (s *Service) Addr() string { return s.http.Addr() }

// Ready is nil while it serves.
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

// Reconfigure takes the stream-processor's section anew: trials that begin later are held against it, as long as nothing is published.
func (s *Service) Reconfigure(current streamprocessor.Config) error {
	s.bench.reconfigure(current)
	return nil
}

// Run serves until ctx ends; a trial under way is given up.
func (s *Service) Run(ctx context.Context) error {
	s.setReady(nil)
	following, stop := context.WithCancel(ctx)
	var follower sync.WaitGroup
	if s.published != nil {
		follower.Go(func() { s.published.Run(following) })
	}
	err := s.http.Run(ctx)
	stop()
	follower.Wait()
	s.forget()
	s.setReady(errors.New("stopped"))
	return errors.Join(err, s.bench.close())
}

// Close releases what New took when Run was never called. Idempotent.
func (s *Service) Close() error {
	s.forget()
	return errors.Join(s.http.Close(), s.bench.close())
}

// forget ends the client of what is published.
func (s *Service) forget() {
	if s.published != nil {
		s.published.Close()
	}
}
