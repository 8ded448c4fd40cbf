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

const (
	// anew is what can be done for a partition whose state is lost.
	anew = "restore " + topic.State + " from a copy, or delete the partition's records there and the group's offset of it: then the log is judged from its beginning"

	// restoreFetch is the most compressed bytes that a restore asks for at once. Two of them are held: one is read while the other comes.
	restoreFetch = 8 << 20
	// schemaRetry is how long a replay waits before it asks again for a schema that was known once.
	schemaRetry = 500 * time.Millisecond
	// sayEvery is how often a restore that takes long says how far it is.
	sayEvery = 5 * time.Second
)

// restore rebuilds partition id as it stood at offset committed, in three steps: read its state topic, prove the
// state against its meta record, replay the input from the oldest effect that no snapshot holds. It runs beside the poll
// loop. fresh says that the group has no committed offset: then there must be no state either.
//
// The state topic is read read_committed but up to the end that read_uncommitted shows now. Stopping at the last stable
// offset instead would silently miss what a transaction committed that is still being closed.
//
// Memory: the state, what is saved of it until each machine is made of it, and some fetches.
func (t *Topology) restore(ctx context.Context, id int32, committed int64, fresh bool, prog *progress) (*partition, error) {
	began := time.Now()
	r := &reader{base: t.base, fetch: restoreFetch}
	defer r.close()
	stop := t.sayProgress(id, prog)
	defer stop()
	p := newPartition(id, t.detections.Current(), t.cfg.MaxMachines, t.schemas, t.export, t.tracer)
	p.out.Watch(func() time.Duration { return time.Since(began) })
	s, err := t.readState(ctx, r, id, prog)
	if err != nil {
		return nil, fmt.Errorf("state of partition %d: %w", id, err)
	}
	if s.meta != nil && (fresh || s.meta.NextOffset != committed) {
		if err := t.overtaken(ctx, id, committed, fresh); err != nil {
			return nil, err
		}
	}
	switch {
	case s.meta == nil && !fresh:
		return nil, fmt.Errorf("partition %d: the group %q has committed offset %d but %s holds no state: refusing to judge without memory; %s", id, t.cfg.Group, committed, topic.State, anew)
	case s.meta == nil:
		p.next = committed
		prog.enter(live, 0, 0)
		return p, nil
	case fresh:
		return nil, fmt.Errorf("partition %d: %s holds state up to offset %d but the group %q has no committed offset: it expired or was deleted; set it to %d", id, topic.State, s.meta.NextOffset, t.cfg.Group, s.meta.NextOffset)
	case s.meta.NextOffset != committed:
		return nil, fmt.Errorf("partition %d: state ends at offset %d, the group %q committed %d: they were written in one transaction and must agree; "+
			"set the group's offset to %d (records between the two are then judged again, or not at all)", id, s.meta.NextOffset, t.cfg.Group, committed, s.meta.NextOffset)
	}
	stateBytes := s.bytes
	prog.enter(loading, 0, int64(len(s.machines)))
	if err := p.load(s); err != nil {
		return nil, fmt.Errorf("state of partition %d: %w; %s", id, err, anew)
	}
	if s.config == nil {
		t.log.Warn("the state does not hold the configuration it was judged under; it goes on under the present one", zap.Int32("partition", id),
			zap.String("was", s.meta.ConfigVersion), zap.String("is", p.in.Fingerprint))
	}
	from := p.next
	prog.enter(replaying, from, committed)
	err = t.replay(ctx, r, p, committed, prog)
	if err == nil {
		err = p.replayed(s)
	}
	if err != nil {
		return nil, fmt.Errorf("replay of partition %d from %d to %d: %w", id, from, committed, err)
	}
	prog.enter(live, 0, 0)
	t.log.Info("partition restored", zap.Int32("partition", id), zap.Int("machines", len(p.machines)), zap.Int("state_bytes", stateBytes),
		zap.Int64("records_read", prog.records.Load()), zap.Int64("bytes_read", prog.bytes.Load()), zap.Int64("replayed", committed-from),
		zap.Int64("live_at", committed), zap.Stringer("detection", p.in), zap.Float64("list_seconds", prog.seconds(listing)),
		zap.Float64("read_seconds", prog.seconds(reading)), zap.Float64("load_seconds", prog.seconds(loading)),
		zap.Float64("replay_seconds", prog.seconds(replaying)), zap.Duration("total", time.Since(began)))
	t.metrics.restoreSeconds.UpdateDuration(began)
	return p, nil
}

// errOvertaken: the partition is no longer ours, and the group's word of it is still under way. What is saved is as it should be.
var errOvertaken = errors.New("another process has judged it since it was given to this one")

// overtaken is errOvertaken when the group's offset is not what it was when the partition was given to this process: only another owner can have moved it.
func (t *Topology) overtaken(ctx context.Context, id int32, committed int64, fresh bool) error {
	now, err := t.adm.FetchOffsets(kadm.RequireStable(ctx), t.cfg.Group)
	if err != nil {
		return fmt.Errorf("partition %d: the offset of group %q: %w", id, t.cfg.Group, err)
	}
	o, ok := now.Lookup(topic.Frames, id)
	if o.Err != nil {
		return fmt.Errorf("partition %d: the offset of group %q: %w", id, t.cfg.Group, o.Err)
	}
	if ok && (fresh || o.At != committed) {
		return fmt.Errorf("partition %d: %w, from %d up to %d", id, errOvertaken, committed, o.At)
	}
	return nil
}

// sayProgress logs how far a restore is, now and then, until it is stopped.
func (t *Topology) sayProgress(id int32, prog *progress) (stop func()) {
	t.log.Info("restoring partition", zap.Int32("partition", id))
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		every := time.NewTicker(sayEvery)
		defer every.Stop()
		for {
			select {
			case <-done:
				return
			case <-every.C:
				t.log.Info("restoring partition", zap.Int32("partition", id), zap.Stringer("now", prog), zap.Int64("records_read", prog.records.Load()),
					zap.Int64("bytes_read", prog.bytes.Load()))
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (t *Topology) readState(ctx context.Context, r *reader, id int32, prog *progress) (*saved, error) {
	prog.enter(listing, 0, 0)
	s := &saved{machines: map[string][]byte{}, disposable: true}
	ends, err := t.adm.ListEndOffsets(ctx, topic.State)
	if err != nil {
		return nil, fmt.Errorf("end of %s: %w", topic.State, err)
	}
	end, ok := ends.Lookup(topic.State, id)
	if !ok || end.Err != nil {
		return nil, errors.Join(fmt.Errorf("end of %s[%d]", topic.State, id), end.Err)
	}
	start, err := startOf(ctx, t.adm, topic.State, id)
	if err != nil {
		return nil, fmt.Errorf("start of %s[%d]: %w", topic.State, id, err)
	}
	prog.enter(reading, start, end.Offset)
	err = r.read(ctx, topic.State, id, start, end.Offset, func(rec *kgo.Record) error {
		prog.at.Store(rec.Offset + 1)
		prog.records.Add(1)
		prog.bytes.Add(int64(len(rec.Key) + len(rec.Value)))
		if rec.Attrs.IsControl() {
			return nil
		}
		return s.add(rec)
	})
	return s, err
}

// replay applies [p.next, committed) with outputs suppressed: they stand already. A schema that is unknown was known when the record was judged, so
// it is waited for until ctx ends: a registry that is behind, or was emptied by mistake, must not make a dead letter of what stands.
func (t *Topology) replay(ctx context.Context, r *reader, p *partition, committed int64, prog *progress) error {
	return r.read(ctx, topic.Frames, p.id, p.next, committed, func(rec *kgo.Record) error {
		if rec.Offset != p.next {
			start, err := startOf(ctx, t.adm, topic.Frames, p.id)
			if err != nil {
				return err
			}
			if start > p.next {
				return fmt.Errorf("offsets %d to %d are gone: retention passed while they were still needed", p.next, start-1)
			}
			p.next = rec.Offset // of a transaction that was aborted: not read then either
		}
		prog.at.Store(rec.Offset)
		if rec.Attrs.IsControl() {
			p.next++
			return nil
		}
		err := p.apply(ctx, rec, nil)
		for waits := 0; errors.Is(err, ErrUnknownSchema); err = p.apply(ctx, rec, nil) {
			if waits++; waits == 1 {
				t.log.Error("a replay needs a schema that the registry does not hold any more, waiting for it", zap.Int32("partition", p.id), zap.Error(err))
				prog.enter(missingSchema, prog.from.Load(), committed)
				prog.at.Store(rec.Offset)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w: it was when the record was judged; register it again: %w", err, ctx.Err())
			case <-time.After(schemaRetry):
			}
		}
		if phase(prog.phase.Load()) == missingSchema {
			from := prog.from.Load()
			prog.enter(replaying, from, committed)
			prog.at.Store(rec.Offset + 1)
		}
		return err
	})
}

// reader reads ranges of partitions with one client. Not safe for concurrent use.
type reader struct {
	base  []kgo.Opt
	fetch int32 // most compressed bytes to ask for at once
	cl    *kgo.Client
}

func (r *reader) close() {
	if r.cl != nil {
		r.cl.Close()
	}
}

// read calls each for every record in [from, to) of a partition, committed ones only, control records too: a transaction's end may be the last thing
// before to.
func (r *reader) read(ctx context.Context, name string, id int32, from, to int64, each func(*kgo.Record) error) error {
	if from >= to {
		return nil
	}
	what := map[string]map[int32]kgo.Offset{name: {id: kgo.NewOffset().At(from)}}
	if r.cl == nil {
		cl, err := kgo.NewClient(append(append([]kgo.Opt{}, r.base...),
			kgo.ConsumePartitions(what),
			kgo.ConsumeResetOffset(kgo.NoResetOffset()),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.KeepControlRecords(),
			kgo.FetchMaxWait(100*time.Millisecond),
			kgo.FetchMaxBytes(r.fetch),
			kgo.FetchMaxPartitionBytes(r.fetch),
		)...)
		if err != nil {
			return fmt.Errorf("client: %w", err)
		}
		r.cl = cl
	} else {
		r.cl.AddConsumePartitions(what)
	}
	defer r.cl.RemoveConsumePartitions(map[string][]int32{name: {id}})
	for at := from; at < to; {
		fs := r.cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return err
		}
		for _, e := range fs.Errors() {
			return fmt.Errorf("%s[%d] at %d: %w", e.Topic, e.Partition, at, e.Err)
		}
		var failed error
		fs.EachRecord(func(rec *kgo.Record) {
			if rec.Topic != name || failed != nil {
				return
			}
			if rec.Offset < to {
				failed = each(rec)
			}
			at = max(at, rec.Offset+1)
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
