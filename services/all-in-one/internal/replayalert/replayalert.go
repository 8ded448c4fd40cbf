// Package replayalert judges an alert again, from the raw frames and what was known of the machine before it, with the code that runs in production, and holds what
// comes out against what was said then, bit by bit.
package replayalert

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

const (
	// keptAfter is how long after an alert its case may still be written: a processor that crashed has to come back first.
	keptAfter = 15 * time.Minute
	// beyond is how far past the last report, in broker time, it is looked for reports that come at another time now.
	beyond = time.Minute
	// maxReports bounds the memory for one episode's reports: one a minute for two months.
	maxReports = 100_000
	maxDead    = 1_000_000
)

// ErrCannot says that the alert cannot be judged again, which says nothing about whether it would come out the same.
var ErrCannot = errors.New("cannot be replayed")

// Options of a replay.
type Options struct {
	Log Log
	// Schemas names the sensors of a schema; schema.ErrUnknown when it is not registered.
	Schemas func(ctx context.Context, id string) ([]string, error)
	// Episode to judge again.
	Episode Episode
	// Progress is told how many offsets of how many were read.
	Progress func(done, total int64)
}

// Run judges the episode again. An error that wraps ErrCannot says what is missing.
func Run(ctx context.Context, opt Options) (*Result, error) {
	r := &run{Options: opt, id: opt.Episode}
	for _, step := range []func(context.Context) error{r.findReports, r.findCase, r.findDead, r.judge} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return r.result, nil
}

type run struct {
	Options
	id        Episode
	partition int32
	recorded  []*kgo.Record
	cases     []*eventv1.Case
	found     string
	from      int64
	dead      map[int64]bool
	result    *Result
}

// findReports reads the partition of anomalies, which is small, from its start: event time says nothing about when they were written.
func (r *run) findReports(ctx context.Context) (err error) {
	if r.id.Fingerprint != "" {
		if r.id, err = byFingerprint(ctx, r.Log, r.id.Fingerprint); err != nil {
			return err
		}
	}
	if r.partition, err = r.Log.Partition(ctx, topic.Anomalies, r.id.Equipment); err != nil {
		return err
	}
	start, end, err := r.Log.Bounds(ctx, topic.Anomalies, r.partition)
	if err != nil {
		return err
	}
	err = r.Log.Read(ctx, topic.Anomalies, r.partition, start, end, func(rec *kgo.Record) error {
		if string(rec.Key) != r.id.Equipment || !topic.Is(rec, topic.TypeAnomaly) {
			return nil
		}
		var a eventv1.Anomaly
		if err := proto.Unmarshal(rec.Value, &a); err != nil {
			return fmt.Errorf("%s[%d] at %d: %w", topic.Anomalies, r.partition, rec.Offset, err)
		}
		if a.GetEpisodeId() != r.id.ID {
			return nil
		}
		if len(r.recorded) == maxReports {
			return fmt.Errorf("%w: more than %d reports", ErrCannot, maxReports)
		}
		r.recorded = append(r.recorded, rec)
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(r.recorded) == 0:
		return fmt.Errorf("%w: %s[%d] holds no report of %s; it is kept for %d days", ErrCannot, topic.Anomalies, r.partition, r.id.ID, int(topic.Retention.Hours()/24))
	}
	first := anomaly(r.recorded[0])
	if first.GetPhase() != eventv1.Phase_PHASE_STARTED {
		return fmt.Errorf("%w: its beginning is gone from %s, which is kept for %d days", ErrCannot, topic.Anomalies, int(topic.Retention.Hours()/24))
	}
	return nil
}

func anomaly(rec *kgo.Record) *eventv1.Anomaly {
	a := new(eventv1.Anomaly)
	_ = proto.Unmarshal(rec.Value, a) // it was decoded once
	return a
}

// findCase looks where cases are kept, and else in what the state's topic still holds.
func (r *run) findCase(ctx context.Context) error {
	opened := r.recorded[0].Timestamp
	start, err := r.Log.After(ctx, topic.Cases, r.partition, opened.Add(-time.Minute).UnixMilli())
	if err != nil {
		return err
	}
	_, end, err := r.Log.Bounds(ctx, topic.Cases, r.partition)
	if err != nil {
		return err
	}
	done := errors.New("found")
	err = r.Log.Read(ctx, topic.Cases, r.partition, start, end, func(rec *kgo.Record) error {
		if rec.Timestamp.After(opened.Add(keptAfter)) {
			return done
		}
		if topic.Header(rec, topic.HeaderID) != r.id.ID {
			return nil
		}
		c := new(eventv1.Case)
		if err := proto.Unmarshal(rec.Value, c); err != nil {
			return fmt.Errorf("%s[%d] at %d: %w", topic.Cases, r.partition, rec.Offset, err)
		}
		r.cases = append(r.cases, c)
		if _, _, err := streamprocessor.CaseBounds(r.cases); err == nil {
			return done
		}
		return nil
	})
	if err != nil && !errors.Is(err, done) {
		return err
	}
	r.found = topic.Cases
	_, r.from, err = streamprocessor.CaseBounds(r.cases)
	if err != nil {
		found, other := r.searchState(ctx)
		if other != nil {
			return other
		}
		if found == nil {
			return fmt.Errorf("%w: %w, and %s holds nothing of %s any more that is older than the alert", ErrCannot, err, topic.State, r.id.Equipment)
		}
		r.cases, r.found = found, topic.State
		if _, r.from, err = streamprocessor.CaseBounds(r.cases); err != nil {
			return fmt.Errorf("%w: %w", ErrCannot, err)
		}
	}
	first, _, err := r.Log.Bounds(ctx, topic.Frames, r.partition)
	if err != nil {
		return err
	}
	if first > r.from {
		return fmt.Errorf("%w: its frames begin at offset %d of %s[%d], which is kept for %d days and begins at %d now", ErrCannot, r.from, topic.Frames, r.partition,
			int(topic.Retention.Hours()/24), first)
	}
	return nil
}

// searchState looks for a snapshot that compaction has left.
func (r *run) searchState(ctx context.Context) ([]*eventv1.Case, error) {
	before, err := r.Log.After(ctx, topic.Frames, r.partition, anomaly(r.recorded[0]).GetJudgedAtMs())
	if err != nil {
		return nil, err
	}
	start, end, err := r.Log.Bounds(ctx, topic.State, r.partition)
	if err != nil {
		return nil, err
	}
	f := streamprocessor.NewCaseFinder(r.id.Equipment, before)
	err = r.Log.Read(ctx, topic.State, r.partition, start, end, func(rec *kgo.Record) error {
		if rec.Attrs.IsControl() {
			return nil
		}
		return f.Add(rec)
	})
	return f.Case(r.partition, r.id.ID), err
}

// findDead reads which of the machine's frames became dead letters. What was refused then must not be judged now.
func (r *run) findDead(ctx context.Context) error {
	r.dead = map[int64]bool{}
	var since time.Time
	stop := errors.New("enough")
	_, end, err := r.Log.Bounds(ctx, topic.Frames, r.partition)
	if err != nil {
		return err
	}
	if err := r.Log.Read(ctx, topic.Frames, r.partition, r.from, end, func(rec *kgo.Record) error {
		since = rec.Timestamp
		return stop
	}); err != nil && !errors.Is(err, stop) {
		return err
	}
	letters := topic.DLQ(topic.Frames)
	start, err := r.Log.After(ctx, letters, 0, since.Add(-time.Minute).UnixMilli())
	if err != nil {
		return err
	}
	if _, end, err = r.Log.Bounds(ctx, letters, 0); err != nil {
		return err
	}
	partition := strconv.Itoa(int(r.partition))
	return r.Log.Read(ctx, letters, 0, start, end, func(rec *kgo.Record) error {
		if topic.Header(rec, dlq.HeaderTopic) != topic.Frames || topic.Header(rec, dlq.HeaderPartition) != partition || topic.Header(rec, dlq.HeaderConsumer) != dlq.Processor {
			return nil
		}
		at, err := strconv.ParseInt(topic.Header(rec, dlq.HeaderOffset), 10, 64)
		if err != nil || at < r.from {
			return nil //nolint:nilerr // not a letter
		}
		if len(r.dead) == maxDead {
			return fmt.Errorf("%w: more than %d dead letters since", ErrCannot, maxDead)
		}
		r.dead[at] = true
		return nil
	})
}

// judge reads the partition's frames and judges those of the machine.
func (r *run) judge(ctx context.Context) error {
	replay, err := streamprocessor.NewCaseReplay(r.cases, r.dead, r.Schemas)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannot, err)
	}
	_, end, err := r.Log.Bounds(ctx, topic.Frames, r.partition)
	if err != nil {
		return err
	}
	last := time.UnixMilli(anomaly(r.recorded[len(r.recorded)-1]).GetJudgedAtMs())
	to, err := r.Log.After(ctx, topic.Frames, r.partition, last.Add(beyond).UnixMilli())
	if err != nil {
		return err
	}
	c := newCollector(r)
	stop := errors.New("enough")
	err = r.Log.Read(ctx, topic.Frames, r.partition, r.from, end, func(rec *kgo.Record) error {
		if r.Progress != nil && rec.Offset%1024 == 0 {
			r.Progress(rec.Offset-r.from, max(to, rec.Offset+1)-r.from)
		}
		if rec.Timestamp.After(last.Add(beyond)) || c.complete() && rec.Timestamp.After(last) {
			return stop
		}
		if !replay.Takes(rec) {
			return nil
		}
		out, err := replay.Apply(ctx, rec)
		if err != nil {
			return fmt.Errorf("%w: %s[%d] at %d: %w", ErrCannot, topic.Frames, r.partition, rec.Offset, err)
		}
		return c.take(rec, out)
	})
	if err != nil && !errors.Is(err, stop) {
		return err
	}
	r.result = c.result(replay)
	return nil
}
