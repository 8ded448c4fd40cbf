package stream

import (
	"context"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/incident"
)

// Replayer decides on one partition's anomalies as a Consumer does, without Kafka. Not safe for concurrent use.
type Replayer struct {
	c    *Consumer
	part *partition
}

// NewReplayer knows no alert yet.
func NewReplayer(id int32) *Replayer {
	c := &Consumer{log: zap.NewNop(), tracer: noop.NewTracerProvider().Tracer(""), count: newCounters(metrics.NewSet())}
	return &Replayer{c: c, part: &partition{id: id, book: incident.NewBook()}}
}

// Apply takes the next record of detect.anomalies.v1 and returns the records of the transaction, in order.
func (r *Replayer) Apply(rec *kgo.Record) []*kgo.Record {
	w := &work{touched: map[int32]bool{}}
	r.c.apply(context.Background(), w, r.part, rec)
	return w.out
}
