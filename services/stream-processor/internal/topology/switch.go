package topology

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// change is a configuration that came into force at an offset of the log.
type change struct {
	offset int64
	to     *detection.Config
}

// history is the configurations of one partition that a replay may need: the one in force at the replay's first record, and what changed since.
type history struct {
	base    *detection.Config
	changes []change // by offset, none before replay_from
	// stored is the encoded state record that says this; nil when it has to be written.
	stored []byte
	// hash is what that record adds to the partition's.
	hash uint64
}

// at is the configuration in force once the record at offset was applied.
func (h *history) at(offset int64) *detection.Config {
	in := h.base
	for _, c := range h.changes {
		if c.offset > offset {
			break
		}
		in = c.to
	}
	return in
}

// advance forgets what a replay from offset on does not need.
func (h *history) advance(offset int64) {
	for len(h.changes) > 0 && h.changes[0].offset < offset {
		h.base, h.stored = h.changes[0].to, nil
		h.changes = slices.Delete(h.changes, 0, 1)
	}
}

func (h *history) append(c change) {
	h.changes = append(h.changes, c)
	h.stored = nil
}

func (h *history) encode() []byte {
	m := &eventv1.PartitionConfig{Config: h.base.Message()}
	for _, c := range h.changes {
		m.Switches = append(m.Switches, &eventv1.ConfigSwitch{Offset: c.offset, Config: c.to.Message()})
	}
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return b
}

func decodeHistory(value []byte) (*history, error) {
	var m eventv1.PartitionConfig
	if err := proto.Unmarshal(value, &m); err != nil {
		return nil, fmt.Errorf("partition's configuration: %w", err)
	}
	base, err := detection.Of(m.Config)
	if err != nil {
		return nil, fmt.Errorf("partition's configuration: %w", err)
	}
	h := &history{base: base, stored: value, hash: hashSnapshot([]byte(configKey), value)}
	for _, s := range m.Switches {
		to, err := detection.Of(s.Config)
		if err != nil {
			return nil, fmt.Errorf("partition's configuration from offset %d on: %w", s.Offset, err)
		}
		if n := len(h.changes); n > 0 && s.Offset <= h.changes[n-1].offset {
			return nil, fmt.Errorf("partition's configuration: changes at %d and %d are out of order", h.changes[n-1].offset, s.Offset)
		}
		h.changes = append(h.changes, change{s.Offset, to})
	}
	return h, nil
}

// reconfigure takes the configuration that stands in the log at this offset into force. dead says why it cannot be.
//
// A machine's state goes on under the new configuration as it would after a restart. Nothing is emitted. One that is the same before and after,
// byte for byte, needs no new snapshot: its old one gives the same machine. Cost: some microseconds for each sensor of the partition, once.
func (p *partition) reconfigure(r *kgo.Record, ms int64) (dead error) {
	to, err := detection.Parse(r.Value)
	if err != nil {
		return err
	}
	if !to.Replaces(p.in) {
		return nil // a repeat, or late word of an old one
	}
	same := to.Fingerprint == p.in.Fingerprint
	p.in = to
	if n := len(p.past.changes); n == 0 || p.past.changes[n-1].offset < r.Offset { // a replay knows it already
		p.past.append(change{r.Offset, to})
	}
	p.count.switches++
	if same {
		return nil
	}
	for _, id := range sortedKeys(p.machines) {
		e := p.machines[id]
		if r.Offset <= e.applied {
			continue // replaying, and the snapshot was made under it already
		}
		next, kept, fresh, scratch, err := e.machine.Under(to.Judge, p.scratch)
		p.scratch = scratch
		if err != nil { // its own snapshot: not expected. It starts anew rather than hold up the partition for good.
			next, kept = machine.New(to.Judge, id), false
			p.count.unfit++
		}
		e.machine = next
		p.count.fresh += fresh
		if kept {
			p.due.set(e)
		} else {
			p.touch(e, r.Offset, ms)
		}
	}
	return nil
}
