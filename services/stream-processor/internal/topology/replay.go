package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// Saved is what processor.state.v1 holds of one partition. Not safe for concurrent use.
type Saved struct{ s saved }

// NewSaved holds nothing.
func NewSaved() *Saved { return &Saved{s: saved{machines: map[string][]byte{}, disposable: true}} }

// Add takes one record of the state topic, in order.
func (s *Saved) Add(r *kgo.Record) error { return s.s.add(r) }

// Bounds are the first offset not applied and the first one to replay; false when nothing was ever committed.
func (s *Saved) Bounds() (next, replayFrom int64, ok bool) {
	if s.s.meta == nil {
		return 0, 0, false
	}
	return s.s.meta.GetNextOffset(), s.s.meta.GetReplayFrom(), true
}

// Replayer is one partition's judge without Kafka: the very code that runs in production, fed with records by hand. Not safe for
// concurrent use.
type Replayer struct {
	p     *partition
	saved *saved
	out   []*kgo.Record
}

// NewReplayer is a judge that knows nothing yet and judges by cfg until the log says otherwise.
func NewReplayer(id int32, cfg *machine.Config, revision uint32, maxMachines int, resolve func(context.Context, string) ([]string, error)) *Replayer {
	return &Replayer{p: newPartition(id, detection.New(cfg, revision), maxMachines, resolve, silent{}, nil)}
}

// Load makes an empty Replayer know what was saved, which it uses up, once its hash is proven. Replay goes on from Next.
func (r *Replayer) Load(s *Saved) error {
	if s.s.meta == nil {
		return errors.New("no meta record")
	}
	r.saved = &s.s
	return r.p.load(&s.s)
}

// Loaded ends the replay that follows Load: what it came to must be what was saved.
func (r *Replayer) Loaded() error { return r.p.replayed(r.saved) }

// Apply judges the next record of the input. The outputs are valid until the next call, in the order in which a transaction holds them.
func (r *Replayer) Apply(ctx context.Context, rec *kgo.Record) ([]*kgo.Record, error) {
	r.p.arena.reset()
	r.out = r.out[:0]
	r.p.out.Explanations = nil
	err := r.p.apply(ctx, rec, func(o *kgo.Record) { r.out = append(r.out, o) })
	r.p.settleReplay()
	return r.out, err
}

// Replay applies the next record as a restore does: without outputs, and passing over what the snapshots hold.
func (r *Replayer) Replay(ctx context.Context, rec *kgo.Record) error {
	err := r.p.apply(ctx, rec, nil)
	r.p.settleReplay()
	return err
}

// Explain asks for Explanations from the next record on.
func (r *Replayer) Explain(on bool) { r.p.out.Explain = on }

// Explanations are of the windows that the last record closed. They are the caller's.
func (r *Replayer) Explanations() []machine.Explanation { return r.p.out.Explanations }

// Next is the first offset not applied.
func (r *Replayer) Next() int64 { return r.p.next }

// Machines is how many machines are known.
func (r *Replayer) Machines() int { return len(r.p.machines) }

// Differences names the machines whose states in the two are not the same bytes, and how.
func (r *Replayer) Differences(other *Replayer) []string {
	var out []string
	if !detection.Same(r.p.in, other.p.in) {
		out = append(out, fmt.Sprintf("detection configuration: %s against %s", r.p.in, other.p.in))
	}
	var mine, its []byte
	for id, e := range r.p.machines {
		o := other.p.machines[id]
		if o == nil {
			out = append(out, fmt.Sprintf("machine %q: unknown to the second", id))
			continue
		}
		mine, its = e.machine.AppendSnapshot(mine[:0]), o.machine.AppendSnapshot(its[:0])
		if string(mine) != string(its) {
			out = append(out, fmt.Sprintf("machine %q: %d bytes against %d, different from byte %d on", id, len(mine), len(its), commonPrefix(mine, its)))
		}
	}
	for id := range other.p.machines {
		if r.p.machines[id] == nil {
			out = append(out, fmt.Sprintf("machine %q: unknown to the first", id))
		}
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// settleReplay keeps what only a transaction would use up from growing: nothing is ever saved here.
func (p *partition) settleReplay() {
	p.committing, p.failures, p.took = p.committing[:0], p.failures[:0], p.took[:0]
	clear(p.models)
	p.cases.forget()
	p.dead.dropBefore(p.next)
	p.past.advance(p.next)
	p.past.advance(p.next)
	p.dead.dropBefore(p.next)
	for e := p.dirty.head(); e != nil; e = p.dirty.head() {
		e.firstDirty = -1
		p.dirty.pop()
	}
	p.lent = p.lent[:0]
}

// silent exports nothing.
type silent struct{}

func (silent) Append(dst []byte, _ *machine.Window) []byte { return dst }
func (silent) Export([]byte)                               {}
