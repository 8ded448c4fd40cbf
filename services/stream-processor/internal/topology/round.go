package topology

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/cohort"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// A machine is a function of its own records and must stay one, or a replay, which starts from snapshots of different offsets, would come to something else. What its sisters
// do reaches it all the same, through the log: the owner of a partition looks at its machines after a commit, writes where each cohort is into the partition's input, and at
// that offset each machine is held against it. Like ticks, rounds may be written by any owner, twice, late or not at all: only where they stand counts.

// fresh is how far behind the log's newest record the judge may be for rounds to be of use: machines still hold the windows they are about.
const fresh = 20 * time.Second

// mostRoundBytes bounds one record; what is beyond goes into another.
const mostRoundBytes = 256 << 10

// compare holds the machines of the partition against their sisters. dead says why the record cannot be read.
func (p *partition) compare(r *kgo.Record, ms int64) (dead error) {
	var m eventv1.CohortRound
	if err := proto.Unmarshal(r.Value, &m); err != nil {
		return fmt.Errorf("not a CohortRound: %w", err)
	}
	round, err := cohort.RoundOf(&m)
	if err != nil {
		return err
	}
	p.count.rounds++
	if !slices.Contains(p.in.Judge.Detect.Detectors, detect.CohortName) {
		return nil
	}
	for _, id := range sortedKeys(p.machines) {
		e := p.machines[id]
		if r.Offset <= e.applied {
			continue // replaying, and the snapshot holds this already
		}
		p.out.Reset()
		if e.machine.Compare(round, e.classNow(), &p.out) {
			p.count.compared++
			p.touch(e, r.Offset, ms)
		}
	}
	return nil
}

// gather is the newest round of the partition's machines, if it is newer than the one gathered last; nil if there is nothing to say.
func (p *partition) gather() *cohort.Round {
	cfg := p.in.Judge
	if !slices.Contains(cfg.Detect.Detectors, detect.CohortName) {
		return nil
	}
	due := cfg.RoundDue(p.logTimeMS)
	if due <= p.gatheredUS {
		return nil
	}
	p.gatheredUS = due
	list := make([]machine.Member, 0, len(p.machines))
	for _, e := range p.machines { // in any order: medians have none
		list = append(list, machine.Member{Machine: e.machine, Class: e.classNow()})
	}
	if r := machine.Gather(cfg, list, due); len(r.Classes) > 0 {
		return r
	}
	return nil
}

// roundRecords are the round as it is written into partition id.
func roundRecords(id int32, round *cohort.Round) []*kgo.Record {
	var out []*kgo.Record
	whole := round.Message()
	part := &eventv1.CohortRound{StartUs: whole.StartUs, LengthUs: whole.LengthUs}
	size := 0
	flush := func() {
		value, _ := proto.MarshalOptions{Deterministic: true}.Marshal(part)
		out = append(out, &kgo.Record{Topic: topic.Frames, Partition: id, Value: value, Headers: []kgo.RecordHeader{
			{Key: topic.HeaderType, Value: []byte(topic.TypeCohort)},
			{Key: topic.HeaderID, Value: []byte("cohort/" + strconv.FormatInt(whole.StartUs, 10) + "/" + strconv.Itoa(len(out)))},
		}})
		part.Classes, size = nil, 0
	}
	for _, c := range whole.Classes {
		n := proto.Size(c)
		if size > 0 && size+n > mostRoundBytes {
			flush()
		}
		part.Classes, size = append(part.Classes, c), size+n
	}
	flush()
	return out
}

// tellRound writes where the partition's cohorts are, once for each round. It waits for nothing.
func (t *Topology) tellRound(ctx context.Context, p *partition) {
	if time.Since(time.UnixMilli(p.logTimeMS)) > fresh {
		return
	}
	round := p.gather()
	if round == nil {
		return
	}
	for _, r := range roundRecords(p.id, round) {
		t.plain.TryProduce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil && ctx.Err() == nil {
				t.log.Debug("round of cohorts not written", zap.Int32("partition", r.Partition), zap.Error(err))
			}
		})
	}
}
