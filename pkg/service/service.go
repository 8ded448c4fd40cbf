// Package service is what a Tocsin service and whoever runs it agree on.
//
// A service's module root offers New(cfg, deps) and a type that satisfies Runner. New takes what must be had
// (listeners, files) and rolls back on error; Run works until its context ends and then drains. The same service
// runs alone in its process or beside the others in the all-in-one: it cannot tell.
package service

import (
	"context"

	"github.com/VictoriaMetrics/metrics"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/network"
)

// Deps is what a service is given.
type Deps struct {
	Log     *zap.Logger
	Metrics *metrics.Set
	Tracer  trace.TracerProvider
	Kafka   kafka.Config
	// Network is what the service listens on and dials through, but for Kafka, which has its own Dial; nil: the operating system's.
	Network network.Network
	// Status is shown by GET /status/config; nil shows the service's own configuration, secrets masked.
	Status any
}

// Net is Network, or the operating system's.
func (d Deps) Net() network.Network {
	if d.Network == nil {
		return network.OS{}
	}
	return d.Network
}

// Nop is Deps for tests: silent, separate from every other, without brokers.
func Nop() Deps {
	return Deps{Log: zap.NewNop(), Metrics: metrics.NewSet(), Tracer: noop.NewTracerProvider()}
}

// Runner is a running service.
type Runner interface {
	// Run works until ctx is cancelled, drains, and returns nil; any other return is a failure the process should end with.
	Run(ctx context.Context) error
	// Ready is nil when the service does its job now, else the reason it does not.
	Ready() error
	// Close releases what New took when Run is never called. Idempotent.
	Close() error
}
