package history

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/topic"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// stateCheck restores a partition as a restart would, beside the oracle, and compares the two where the committed offset stands.
type stateCheck struct {
	where      string
	restored   *streamprocessor.Replayer // nil: there is nothing to compare
	from, next int64
	done       bool
}

// openState reads what was saved of the partition and proves it against the committed offset.
func (c *checker) openState(ctx context.Context, id int32, empty *streamprocessor.Replayer) (*stateCheck, error) {
	s := &stateCheck{where: fmt.Sprintf("%s[%d]", topic.State, id)}
	before, had := c.processor[topic.Frames][id]
	bounds, err := c.b.bounds(ctx, topic.State)
	if err != nil {
		return nil, err
	}
	saved := streamprocessor.NewSavedState()
	n, err := c.b.read(ctx, topic.State, id, bounds[id], saved.Add)
	if err != nil {
		return nil, err
	}
	c.rep.Counts[topic.State] += n.records
	next, from, ok := saved.Bounds()
	offsets, err := c.b.committed(ctx, c.w.Groups.Processor)
	if err != nil {
		return nil, err
	}
	after, has := offsets[topic.Frames][id]
	switch {
	case !ok && !has:
		return s, nil
	case !ok && had:
		c.rep.add(State, s.where, "offset %d is committed and no state is saved", before.at)
		return s, nil
	case !ok:
		return s, nil // the first transaction came between the two readings
	case !has:
		c.rep.add(State, s.where, "state up to offset %d is saved and no offset is committed", next)
		return s, nil
	case next < before.at || next > after.at:
		c.rep.add(State, s.where, "the state ends at offset %d, committed is %d", next, after.at)
	}
	if err := empty.Load(saved); err != nil {
		c.rep.add(State, s.where, "%v", err)
		return s, nil
	}
	s.restored, s.from, s.next = empty, from, next
	return s, nil
}

// before is called with each record of the input before the oracle judges it.
func (s *stateCheck) before(ctx context.Context, rep *Report, r *kgo.Record, oracle *streamprocessor.Replayer) error {
	if s.restored == nil || s.done {
		return nil
	}
	if r.Offset >= s.next {
		s.compare(rep, oracle)
		return nil
	}
	if r.Offset < s.from {
		return nil
	}
	if err := s.restored.Replay(ctx, r); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rep.add(State, s.where, "the replay from offset %d fails: %v", s.from, err)
		s.done = true
	}
	return nil
}

// end is called after the last record of the input.
func (s *stateCheck) end(rep *Report, oracle *streamprocessor.Replayer) {
	if s.restored == nil || s.done {
		return
	}
	if oracle.Next() != s.next {
		rep.add(State, s.where, "the state ends at offset %d, the log at %d", s.next, oracle.Next())
		return
	}
	s.compare(rep, oracle)
}

func (s *stateCheck) compare(rep *Report, oracle *streamprocessor.Replayer) {
	s.done = true
	if err := s.restored.Loaded(); err != nil {
		rep.add(State, s.where, "%v", err)
	}
	rep.Counts["machines"] += oracle.Machines()
	for _, d := range s.restored.Differences(oracle) {
		rep.add(State, s.where, "restored (the first) against a run without faults (the second): %s", d)
	}
}
