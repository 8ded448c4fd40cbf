package topology

import (
	"context"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/tocsin-io/tocsin/pkg/telemetry"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

const scope = "github.com/tocsin-io/tocsin/services/stream-processor"

// newTracer is nil when tracing is off, so that judging then does nothing for it.
func newTracer(tp trace.TracerProvider) trace.Tracer {
	if _, off := tp.(noop.TracerProvider); off || tp == nil {
		return nil
	}
	return tp.Tracer(scope)
}

// traceparent is the record's header, or nil.
func traceparent(r *kgo.Record) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == topic.HeaderTraceParent {
			return r.Headers[i].Value
		}
	}
	return nil
}

// startSpan begins the span of a record's judgement and gives the traceparent that the record's outputs carry. Without a tracer, and for a
// record that its sender did not sample, there is no span (nil) and the outputs carry the record's own traceparent.
//
// A transaction that is aborted is judged again, under a span of its own: a trace tells what was tried. What is judged does not depend on it.
func (p *partition) startSpan(ctx context.Context, r *kgo.Record) (trace.Span, []byte) {
	parent := traceparent(r)
	if p.tracer == nil || !sampled(parent) {
		return nil, parent
	}
	ctx = telemetry.Extract(ctx, r)
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil, nil // what is no traceparent is not passed on
	}
	ctx, span := p.tracer.Start(ctx, "judge", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.operation.name", "judge"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", r.Topic),
		attribute.String("messaging.destination.partition.id", strconv.Itoa(int(r.Partition))),
		attribute.Int64("messaging.kafka.offset", r.Offset),
		attribute.String("tocsin.equipment_id", string(r.Key)),
	))
	var carrier kgo.Record
	telemetry.Inject(ctx, &carrier)
	return span, traceparent(&carrier)
}

// endSpan says what became of the record.
func endSpan(span trace.Span, dead, err error) {
	if span == nil {
		return
	}
	switch {
	case err != nil:
		span.SetStatus(codes.Error, err.Error())
	case dead != nil:
		span.SetStatus(codes.Error, "dead letter: "+dead.Error())
	}
	span.End()
}

// sampled reads the flag of a W3C traceparent, "00-<32 hex>-<16 hex>-<2 hex>", without parsing the rest: most frames are not sampled.
func sampled(traceparent []byte) bool {
	const flags = 53
	if len(traceparent) < flags+2 {
		return false
	}
	v, err := strconv.ParseUint(string(traceparent[flags:flags+2]), 16, 8)
	return err == nil && v&1 == 1
}
