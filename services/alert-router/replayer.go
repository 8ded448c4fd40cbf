package alertrouter

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/stream"
)

// Replayer decides on one partition's anomalies as production does, without Kafka and without faults: what it says of a log is what must
// stand in alert.events.v1. Memory: the alerts that are open, or closed within the last hour of broker time. Not safe for concurrent use.
type Replayer struct{ r *stream.Replayer }

// NewReplayer knows no alert yet.
func NewReplayer(partition int32) *Replayer { return &Replayer{stream.NewReplayer(partition)} }

// Apply takes the next record of detect.anomalies.v1 and returns what it puts out: alert events, forwarded ticks and dead letters, in order.
func (r *Replayer) Apply(rec *kgo.Record) []*kgo.Record { return r.r.Apply(rec) }
