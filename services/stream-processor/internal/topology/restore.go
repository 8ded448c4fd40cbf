package topology

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// anew is what can be done for a partition whose state is lost.
const anew = "restore " + topic.State + " from a copy, or delete the partition's records there and the group's offset of it: then the log is judged from its beginning"

// restore rebuilds partition id as it stood at offset committed, in three steps: read its state topic, prove the
// state against its meta record, replay the input from the oldest effect that no snapshot holds. It runs beside the poll
// loop. fresh says that the group has no committed offset: then there must be no state either.
//
// The state topic is read read_committed but up to the end that read_uncommitted shows now. Stopping at the last stable
// offset instead would silently miss what a transaction committed that is still being closed.
func (t *Topology) restore(ctx context.Context, id int32, committed int64, fresh bool, progress func(string)) (*partition, error) {
	began := time.Now()
	p := newPartition(id, t.detections.Current(), t.cfg.MaxMachines, t.schemas, t.export, t.tracer)
	progress("reading state")
	s, err := t.readState(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("state of partition %d: %w", id, err)
	}
	read := time.Since(began)
	switch {
	case s.meta == nil && !fresh:
		return nil, fmt.Errorf("partition %d: the group %q has committed offset %d but %s holds no state: refusing to judge without memory; %s", id, t.cfg.Group, committed, topic.State, anew)
	case s.meta == nil:
		p.next = committed
		return p, nil
	case fresh:
		return nil, fmt.Errorf("partition %d: %s holds state up to offset %d but the group %q has no committed offset: it expired or was deleted; set it to %d", id, topic.State, s.meta.NextOffset, t.cfg.Group, s.meta.NextOffset)
	case s.meta.NextOffset != committed:
		return nil, fmt.Errorf("partition %d: state ends at offset %d, the group %q committed %d: they were written in one transaction and must agree; "+
			"set the group's offset to %d (records between the two are then judged again, or not at all)", id, s.meta.NextOffset, t.cfg.Group, committed, s.meta.NextOffset)
	}
	if err := p.load(s); err != nil {
		return nil, fmt.Errorf("state of partition %d: %w; %s", id, err, anew)
	}
	if s.config == nil {
		t.log.Warn("the state does not hold the configuration it was judged under; it goes on under the present one", zap.Int32("partition", id),
			zap.String("was", s.meta.ConfigVersion), zap.String("is", p.in.Fingerprint))
	}
	from := p.next
	progress(fmt.Sprintf("replaying %d records", committed-from))
	err = t.replay(ctx, p, committed, progress)
	if err == nil {
		err = p.replayed(s)
	}
	if err != nil {
		return nil, fmt.Errorf("replay of partition %d from %d to %d: %w", id, from, committed, err)
	}
	t.log.Info("partition restored", zap.Int32("partition", id), zap.Int("machines", len(p.machines)), zap.Int("state_bytes", s.bytes),
		zap.Int64("replayed", committed-from), zap.Int64("live_at", committed), zap.Duration("read", read), zap.Duration("total", time.Since(began)))
	t.metrics.restoreSeconds.UpdateDuration(began)
	return p, nil
}

func (t *Topology) readState(ctx context.Context, id int32) (*saved, error) {
	s := &saved{machines: map[string][]byte{}}
	ends, err := t.adm.ListEndOffsets(ctx, topic.State)
	if err != nil {
		return nil, fmt.Errorf("end of %s: %w", topic.State, err)
	}
	end, ok := ends.Lookup(topic.State, id)
	if !ok || end.Err != nil {
		return nil, errors.Join(fmt.Errorf("end of %s[%d]", topic.State, id), end.Err)
	}
	starts, err := t.adm.ListStartOffsets(ctx, topic.State)
	if err != nil {
		return nil, fmt.Errorf("start of %s: %w", topic.State, err)
	}
	start, ok := starts.Lookup(topic.State, id)
	if !ok || start.Err != nil {
		return nil, errors.Join(fmt.Errorf("start of %s[%d]", topic.State, id), start.Err)
	}
	// Control records are kept because a transaction's end may be the last thing before the end.
	err = t.readRange(ctx, topic.State, id, start.Offset, end.Offset, func(r *kgo.Record) error {
		if r.Attrs.IsControl() {
			return nil
		}
		return s.add(r)
	}, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	return s, err
}

// schemaRetry is how long a replay waits before it asks again for a schema that was known once.
const schemaRetry = 500 * time.Millisecond

// replay applies [p.next, committed) with outputs suppressed: they stand already. A schema that is unknown was known when the record was judged, so
// it is waited for until ctx ends: a registry that is behind, or was emptied by mistake, must not make a dead letter of what stands.
func (t *Topology) replay(ctx context.Context, p *partition, committed int64, progress func(string)) error {
	return t.readRange(ctx, topic.Frames, p.id, p.next, committed, func(r *kgo.Record) error {
		err := p.apply(ctx, r, nil)
		for logged := false; errors.Is(err, ErrUnknownSchema); err = p.apply(ctx, r, nil) {
			if !logged {
				t.log.Error("a replay needs a schema that the registry does not hold any more, waiting for it", zap.Int32("partition", p.id), zap.Error(err))
				progress("replaying, waiting for a schema: " + err.Error())
				logged = true
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w (register it again: the gateway does when it is sent once more): %w", err, ctx.Err())
			case <-time.After(schemaRetry):
			}
		}
		return err
	})
}

// readRange reads [from, to) of a partition with a client of its own and calls each for every record in it.
func (t *Topology) readRange(ctx context.Context, name string, id int32, from, to int64, each func(*kgo.Record) error, opts ...kgo.Opt) error {
	if from >= to {
		return nil
	}
	cl, err := kgo.NewClient(append(append(append([]kgo.Opt{}, t.base...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: {id: kgo.NewOffset().At(from)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(100*time.Millisecond),
	), opts...)...)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	defer cl.Close()
	for at := from; at < to; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return err
		}
		for _, e := range fs.Errors() {
			return fmt.Errorf("%s[%d] at %d: %w", e.Topic, e.Partition, at, e.Err)
		}
		var failed error
		fs.EachRecord(func(r *kgo.Record) {
			if failed != nil || r.Offset >= to {
				at = max(at, r.Offset+1)
				return
			}
			if name == topic.Frames && r.Offset != at {
				failed = fmt.Errorf("offsets %d to %d are gone: retention passed while they were still needed", at, r.Offset-1)
				return
			}
			failed = each(r)
			at = r.Offset + 1
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

// startOf is the first offset that the partition still has.
func startOf(ctx context.Context, adm *kadm.Client, name string, id int32) (int64, error) {
	starts, err := adm.ListStartOffsets(ctx, name)
	if err != nil {
		return 0, err
	}
	o, ok := starts.Lookup(name, id)
	if !ok {
		return 0, fmt.Errorf("%s[%d] does not exist", name, id)
	}
	return o.Offset, o.Err
}
