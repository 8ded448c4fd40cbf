// Package ingestgateway is the ingest-gateway: it takes sensor frames over gRPC and HTTP, checks them, and writes
// them to telemetry.frames.v1. A frame is acknowledged only after Kafka has it on all in-sync replicas.
//
// It keeps nothing: what is not acknowledged is the sender's to send again, under the same gateway, machine and sequence,
// and is then counted once. Memory is bounded by the budget of what waits for Kafka and by the limits of requests.
package ingestgateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/grpcreceiver"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/httpreceiver"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/producer"
)

// Service runs the gateway. States: listening (after New), connecting to Kafka (Run; every frame is answered "not
// now"), ready, draining, closed.
type Service struct {
	log      *zap.Logger
	producer *producer.Producer
	schemas  *schema.Registry
	http     *httpserver.Server
	grpc     *grpcreceiver.Receiver
	draining atomic.Bool
	close    sync.Once
}

var _ service.Runner = (*Service)(nil)

// New opens the listeners; it does not wait for Kafka.
func New(cfg Config, deps service.Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	auth, err := cfg.authenticator()
	if err != nil {
		return nil, err
	}
	s := &Service{log: deps.Log}
	if s.producer, err = producer.New(cfg.Producer, deps.Kafka, deps.Log); err != nil {
		return nil, err
	}
	if s.schemas, err = schema.New(deps.Kafka, cfg.Schemas, deps.Log); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	deps.Metrics.GetOrCreateGauge("tocsin_schemas_refused_total", func() float64 { return float64(s.schemas.Refused()) })
	in := intake.New(cfg.Frames, cfg.Producer.Timeout, admission.NewLimiter(cfg.RateLimit), s.schemas, s.producer, deps.Tracer,
		intake.NewMetrics(deps.Metrics, s.producer.InFlight), deps.Log)
	if s.http, err = httpserver.New(cfg.HTTP, "ingest-gateway", s.Ready, cfg, deps); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	httpreceiver.New(cfg.Requests, in, auth, deps.Log).Register(s.http)
	if s.grpc, err = grpcreceiver.New(cfg.GRPC, deps.Net(), in, auth, s.Ready, deps.Log); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if cfg.anonymous() {
		deps.Log.Warn("frames are taken from anybody who reaches the listeners", zap.String("http", s.HTTPAddr()), zap.String("grpc", s.GRPCAddr()))
	}
	return s, nil
}

// HTTPAddr and GRPCAddr are the addresses bound.
func (s *Service) HTTPAddr() string { return s.http.Addr() }

// GRPCAddr is the address that the gRPC listener is bound to.
func (s *Service) GRPCAddr() string { return s.grpc.Addr() }

// Ready is nil while frames can be acknowledged, else the reason why not.
func (s *Service) Ready() error {
	if s.draining.Load() {
		return errDraining
	}
	if err := s.producer.Ready(); err != nil {
		return err
	}
	return s.schemas.Ready()
}

// Run serves until ctx ends, then drains: no new requests, the frames under way get their answers, Kafka gets what it was given.
func (s *Service) Run(ctx context.Context) error {
	defer s.Close()
	// Kafka's side outlives the receivers' side: answers depend on it to the last.
	kafka, stopKafka := context.WithCancel(context.WithoutCancel(ctx))
	defer stopKafka()
	receive, stopReceive := context.WithCancel(ctx)
	defer stopReceive()

	var kafkaSide, receivers sync.WaitGroup
	var mu sync.Mutex
	var failed error
	run := func(wg *sync.WaitGroup, ctx context.Context, name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				mu.Lock()
				failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
				mu.Unlock()
				stopReceive() // one side without the other is no service
			}
		})
	}
	run(&kafkaSide, kafka, "producer", s.producer.Run)
	run(&kafkaSide, kafka, "schema registry", s.schemas.Run)
	run(&receivers, receive, "http", s.http.Run)
	run(&receivers, receive, "grpc", s.grpc.Run)

	<-receive.Done()
	s.draining.Store(true)
	receivers.Wait()
	if err := s.producer.Drain(kafka); err != nil {
		s.log.Warn("drain", zap.Error(err))
	}
	stopKafka()
	kafkaSide.Wait()
	return failed
}

// Close releases what New took. Idempotent, and harmless after Run.
func (s *Service) Close() error {
	var err error
	s.close.Do(func() {
		if s.grpc != nil {
			err = errors.Join(err, s.grpc.Close())
		}
		if s.http != nil {
			err = errors.Join(err, s.http.Close())
		}
		if s.schemas != nil {
			s.schemas.Close()
		}
		if s.producer != nil {
			s.producer.Close()
		}
	})
	return err
}
