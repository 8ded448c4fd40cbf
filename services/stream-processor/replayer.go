package streamprocessor

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/topology"
)

// Replayer judges one partition's log as production does, without Kafka and without faults: what it says of a log is what must
// stand in the outputs. Memory: the machines' states. Not safe for concurrent use.
type Replayer struct{ r *topology.Replayer }

// SavedState is what processor.state.v1 holds of one partition, made of its records in order. See Replayer.Load.
type SavedState = topology.Saved

// NewSavedState holds nothing.
func NewSavedState() *SavedState { return topology.NewSaved() }

// NewReplayer is a judge that knows nothing yet. Of cfg only Detection, Revision and MaxMachines count. schemas names the sensors of a schema; an id that is not
// registered is schema.ErrUnknown, any other error ends the call that needed it.
func NewReplayer(cfg Config, partition int32, schemas func(ctx context.Context, id string) ([]string, error)) *Replayer {
	return &Replayer{topology.NewReplayer(partition, &cfg.Detection, cfg.Revision, cfg.MaxMachines, resolver(schemas))}
}

// resolver speaks of schemas as the topology does.
func resolver(schemas func(context.Context, string) ([]string, error)) func(context.Context, string) ([]string, error) {
	return func(ctx context.Context, id string) ([]string, error) {
		names, err := schemas(ctx, id)
		if errors.Is(err, schema.ErrUnknown) {
			return nil, topology.ErrUnknownSchema
		}
		return names, err
	}
}

// Load makes an empty Replayer know what was saved, which it uses up, once the hash of the snapshots is proven. Then Replay takes the records from the saved state's
// replay offset on.
func (r *Replayer) Load(s *SavedState) error { return r.r.Load(s) }

// Loaded ends the replay: the error says that it came to something else than what was saved.
func (r *Replayer) Loaded() error { return r.r.Loaded() }

// Apply judges the next record of telemetry.frames.v1 and returns what it puts out: readings, windows, anomalies, dead letters and forwarded
// ticks, in order, valid until the next call. The error says that the record could not be judged now.
func (r *Replayer) Apply(ctx context.Context, rec *kgo.Record) ([]*kgo.Record, error) {
	return r.r.Apply(ctx, rec)
}

// Replay applies the next record as a restore does: without outputs, and passing over what the snapshots hold already.
func (r *Replayer) Replay(ctx context.Context, rec *kgo.Record) error { return r.r.Replay(ctx, rec) }

// Explain asks for Explanations from the next record on. It costs, and changes nothing.
func (r *Replayer) Explain(on bool) { r.r.Explain(on) }

// Explanations say how the scores of the windows came about that the last record closed. They are the caller's.
func (r *Replayer) Explanations() []Explanation { return r.r.Explanations() }

// Next is the first offset not applied.
func (r *Replayer) Next() int64 { return r.r.Next() }

// Machines is how many machines are known.
func (r *Replayer) Machines() int { return r.r.Machines() }

// Differences names the machines whose states are not the same bytes in both, and how; none: the two would judge alike for ever.
func (r *Replayer) Differences(other *Replayer) []string { return r.r.Differences(other.r) }
