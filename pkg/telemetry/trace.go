package telemetry

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// TraceConfig of a process.
type TraceConfig struct {
	Endpoint string  `mapstructure:"endpoint" doc:"OTLP/gRPC endpoint, host:port. Empty: no traces are kept, but trace ids still travel."`
	Insecure bool    `mapstructure:"insecure" doc:"Talk to the endpoint without TLS."`
	Ratio    float64 `mapstructure:"ratio" doc:"Share of frames traced, 0 to 1, where the sender has not decided."`
}

// DefaultTraceConfig keeps no traces.
func DefaultTraceConfig() TraceConfig { return TraceConfig{Ratio: 0.01} }

// Validate names the first field that is wrong.
func (c TraceConfig) Validate() error {
	if !(c.Ratio >= 0 && c.Ratio <= 1) {
		return fmt.Errorf("ratio: %v is not in 0..1", c.Ratio)
	}
	return nil
}

// NewTracer gives a provider and the function that flushes and ends it.
func NewTracer(ctx context.Context, c TraceConfig, name, version string) (trace.TracerProvider, func(context.Context) error, error) {
	if c.Endpoint == "" {
		return noop.NewTracerProvider(), func(context.Context) error { return nil }, nil
	}
	opts := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.Endpoint)}
	if c.Insecure {
		opts = append(opts, otlptracegrpc.WithInsecure())
	}
	exp, err := otlptracegrpc.New(ctx, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("tracing to %s: %w", c.Endpoint, err)
	}
	tp := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exp),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", name), attribute.String("service.version", version))),
	)
	return tp, tp.Shutdown, nil
}

// carrier reads and writes a record's headers.
type carrier struct{ r *kgo.Record }

func (c carrier) Get(key string) string { return topic.Header(c.r, key) }

func (c carrier) Set(key, value string) {
	for i := range c.r.Headers {
		if c.r.Headers[i].Key == key {
			c.r.Headers[i].Value = []byte(value)
			return
		}
	}
	c.r.Headers = append(c.r.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
}

func (c carrier) Keys() []string {
	out := make([]string, len(c.r.Headers))
	for i := range c.r.Headers {
		out[i] = c.r.Headers[i].Key
	}
	return out
}

// Inject writes the span of ctx into the record's headers, or nothing when there is none.
func Inject(ctx context.Context, r *kgo.Record) {
	propagation.TraceContext{}.Inject(ctx, carrier{r})
}

// Extract is ctx with the record's span as the remote parent.
func Extract(ctx context.Context, r *kgo.Record) context.Context {
	return propagation.TraceContext{}.Extract(ctx, carrier{r})
}
