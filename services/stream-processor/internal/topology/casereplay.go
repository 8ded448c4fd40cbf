package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// ErrNoCase says that an episode cannot be judged again, because what was known of the machine before it was not kept.
var ErrNoCase = errors.New("the state before the episode was not kept")

// CaseReplay judges one machine again, from what was known of it before an episode, with the code that runs in production. Records of other machines are
// passed over. Memory: one machine. Not safe for concurrent use.
type CaseReplay struct {
	r     Replayer
	id    string
	dead  map[int64]bool
	first int64
}

// Machine's state and the configuration it was judged under, from which a CaseReplay begins.
type beginning struct {
	partition int32
	machine   string
	from      int64 // first offset that is applied
	in        *detection.Config
	state     []byte // nil: nothing was known
	format    uint32
	build     string
}

// NewCaseReplay begins where the case does. records are those of detect.cases.v1 that are about one episode, in any order; a case that was kept twice counts once. dead are the
// offsets from the case's beginning on that became dead letters: whether a record could be judged is no function of the log.
func NewCaseReplay(records []*eventv1.Case, dead map[int64]bool, resolve func(context.Context, string) ([]string, error)) (*CaseReplay, error) {
	b, err := beginningOf(records)
	if err != nil {
		return nil, err
	}
	p := newPartition(b.partition, b.in, 1, resolve, silent{}, nil)
	p.out.Explain = true
	if b.state != nil {
		if b.format != stateFormat {
			return nil, fmt.Errorf("%w: its state is of format %d, this build reads %d (it was written by %s)", ErrNoCase, b.format, stateFormat, b.build)
		}
		m, err := machine.Restore(b.in.Judge, b.machine, b.state)
		if err != nil {
			return nil, fmt.Errorf("state before the episode (written by %s): %w", b.build, err)
		}
		e := &entry{id: b.machine, machine: m, applied: b.from - 1, firstDirty: -1, heapAt: -1, stateAt: -1}
		p.machines[b.machine] = e
		p.due.set(e)
	}
	p.next = b.from
	return &CaseReplay{r: Replayer{p: p}, id: b.machine, dead: dead, first: b.from}, nil
}

// CaseBounds are the partition and the first offset that a replay of these records of a case begins with.
func CaseBounds(records []*eventv1.Case) (partition int32, from int64, err error) {
	b, err := beginningOf(records)
	return b.partition, b.from, err
}

func beginningOf(records []*eventv1.Case) (beginning, error) {
	whole, err := wholeCase(records)
	if err != nil {
		return beginning{}, err
	}
	c := whole[0]
	b := beginning{partition: c.GetPartition(), machine: c.GetEquipmentId(), from: c.GetReplayFrom(), build: c.GetBuild()}
	if b.in, err = detection.Of(c.GetConfig()); err != nil {
		return b, fmt.Errorf("%w: %w (it was written by %s)", ErrNoCase, err, b.build)
	}
	if c.GetState() == nil {
		return b, nil
	}
	b.format = c.GetState().GetFormat()
	for _, part := range whole {
		b.state = append(b.state, part.GetState().GetState()...)
	}
	return b, nil
}

// wholeCase picks the parts of one complete case, the one that begins last: it is the shortest to replay.
func wholeCase(records []*eventv1.Case) ([]*eventv1.Case, error) {
	why := fmt.Errorf("%w: nothing stands in %s", ErrNoCase, topic.Cases)
	byState := map[int64][]*eventv1.Case{}
	for _, c := range records {
		switch {
		case c.GetFormat() != CaseFormat:
			why = fmt.Errorf("%w: the case is of format %d, this build reads %d", ErrNoCase, c.GetFormat(), CaseFormat)
		case c.GetMissing() != "":
			why = fmt.Errorf("%w: %s", ErrNoCase, c.GetMissing())
		default:
			parts := byState[c.GetStateOffset()]
			if !slices.ContainsFunc(parts, func(o *eventv1.Case) bool { return o.GetPart() == c.GetPart() }) {
				byState[c.GetStateOffset()] = append(parts, c)
			}
		}
	}
	offsets := sortedKeys(byState)
	slices.Reverse(offsets)
	for _, at := range offsets {
		parts := byState[at]
		slices.SortFunc(parts, func(a, b *eventv1.Case) int { return cmp.Compare(a.GetPart(), b.GetPart()) })
		if n := 1 + int(parts[0].GetState().GetMoreParts()); parts[0].GetPart() == 0 && len(parts) == n {
			return parts, nil
		}
		why = fmt.Errorf("%w: parts of the case are missing", ErrNoCase)
	}
	return nil, why
}

// Takes tells whether the record can move the machine: its frames, ticks, configurations, and where its sisters are.
func (c *CaseReplay) Takes(rec *kgo.Record) bool {
	return rec.Offset >= c.first && !rec.Attrs.IsControl() && (!c.dead[rec.Offset] || string(rec.Key) == c.id) &&
		(topic.IsTick(rec) || topic.IsControl(rec) || string(rec.Key) == c.id)
}

// Judged is what one record led to. It is the caller's.
type Judged struct {
	Anomalies    []Report
	Explanations []machine.Explanation
}

// Report is one anomaly as it is written to detect.anomalies.v1.
type Report struct {
	Value   []byte
	Anomaly *eventv1.Anomaly
}

// Apply judges the next record of telemetry.frames.v1 for which Takes is true.
func (c *CaseReplay) Apply(ctx context.Context, rec *kgo.Record) (Judged, error) {
	if c.dead[rec.Offset] {
		c.r.p.refused(rec, rec.Timestamp.UnixMilli())
		return Judged{}, nil
	}
	out, err := c.r.Apply(ctx, rec)
	if err != nil {
		return Judged{}, err
	}
	j := Judged{Explanations: c.r.p.out.Explanations}
	for _, r := range out {
		switch {
		case topic.Is(r, topic.TypeAnomaly):
			a := new(eventv1.Anomaly)
			if err := proto.Unmarshal(r.Value, a); err != nil {
				return j, fmt.Errorf("anomaly at offset %d: %w", rec.Offset, err)
			}
			j.Anomalies = append(j.Anomalies, Report{Value: slices.Clone(r.Value), Anomaly: a})
		case r.Topic != topic.Readings && r.Topic != topic.Windows && r.Topic != topic.Anomalies && r.Topic != topic.Coverage:
			return j, fmt.Errorf("offset %d was judged then and cannot be now: %s", rec.Offset, topic.Header(r, "dlq_reason"))
		}
	}
	return j, nil
}

// Config is the configuration in force now.
func (c *CaseReplay) Config() (revision uint32, fingerprint string) {
	return c.r.p.in.Revision, c.r.p.in.Fingerprint
}
