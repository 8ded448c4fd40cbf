package consume

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/chunk"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/commit"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Why a partition is paused; it is fetched when no cause is left.
const (
	causeQueue = 1 << iota
	causeMemory
)

// queueHigh bytes in the queue pause the partition until its owner has taken them.
const queueHigh = 8 << 20

// recordOverhead is what a record costs beyond its value.
const recordOverhead = 64

// worker owns one partition. Its goroutine (run) alone touches what stands below "owner"; the poll goroutine talks to it
// through the queue.
type worker struct {
	g     *Group
	src   lake.Source
	table table.Table

	ctx      context.Context
	cancel   context.CancelFunc
	stopping chan struct{} // closed: take no more records
	stopOnce sync.Once
	done     chan struct{}
	wake     chan struct{}

	mu       sync.Mutex
	queue    []*kgo.Record
	paused   int   // causes
	fetching bool  // what the client was told last
	seek     int64 // offset to rewind to, or -1; while set, offered records are of the time before and dropped
	giveUp   bool  // memory is asked back

	// owner
	cut    *chunk.Cutter
	recs   []table.Record
	poison []poisoned
	openAt int64 // offset of the chunk's first record that is no tick
	idleMS int64 // broker time of the last commit made for ticks only

	// Read by others at any time.
	queued   atomic.Int64 // bytes in queue
	bytes    atomic.Int64 // bytes of recs and poison
	flushing atomic.Bool
	seenMS   atomic.Int64 // newest broker time seen
	sinceMS  atomic.Int64 // broker time of the oldest record not in the lake; 0: none
}

type poisoned struct {
	rec *kgo.Record
	why error
}

func newWorker(g *Group, src lake.Source, t table.Table, from position) *worker {
	w := &worker{
		g: g, src: src, table: t,
		stopping: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
		seek: -1, fetching: true, cut: chunk.New(g.cfg.Rules, from.first, from.next),
	}
	w.ctx, w.cancel = context.WithCancel(g.ctx)
	return w
}

// offer queues records; it never blocks. For the poll goroutine.
func (w *worker) offer(recs []*kgo.Record) {
	w.mu.Lock()
	if w.seek < 0 {
		w.queue = append(w.queue, recs...)
		for _, r := range recs {
			w.queued.Add(int64(len(r.Value)) + recordOverhead)
		}
		if w.queued.Load() > queueHigh {
			w.pauseLocked(causeQueue, true)
		}
	}
	w.mu.Unlock()
	w.g.memory.update(w)
	w.nudge()
}

// holds is how many bytes of records are in memory. The batch being gone through counts once it is in the chunk.
func (w *worker) holds() int64 { return w.queued.Load() + w.bytes.Load() }

func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// pauseFor adds or removes a cause to pause.
func (w *worker) pauseFor(cause int, pause bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pauseLocked(cause, pause)
}

func (w *worker) pauseLocked(cause int, pause bool) {
	if pause {
		w.paused |= cause
	} else {
		w.paused &^= cause
	}
	fetch := w.paused == 0
	if fetch == w.fetching {
		return
	}
	w.fetching = fetch
	tp := map[string][]int32{w.src.Topic: {w.src.Partition}}
	if fetch {
		w.g.cl.ResumeFetchPartitions(tp)
	} else {
		w.g.cl.PauseFetchPartitions(tp)
	}
}

// rewind carries out what the owner asked for by setting seek. For the poll goroutine, between polls, while
// rebalances are held off: so the client drops what it has fetched of the time before, and so does offer.
func (w *worker) rewind() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seek < 0 || w.ctx.Err() != nil {
		return
	}
	w.g.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{w.src.Topic: {w.src.Partition: {Epoch: -1, Offset: w.seek}}})
	w.seek = -1
}

// busy tells whether a file is on its way.
func (w *worker) busy() bool { return w.flushing.Load() }

// giveBack asks the owner to drop its chunk and read it again later.
func (w *worker) giveBack() {
	w.mu.Lock()
	w.giveUp = true
	w.mu.Unlock()
	w.nudge()
}

// stop lets the owner end after the file that is on its way.
func (w *worker) stop() { w.stopOnce.Do(func() { close(w.stopping) }) }

// abandon ends the owner now and waits for it. Idempotent.
func (w *worker) abandon() {
	w.cancel()
	<-w.done
	w.g.memory.forget(w)
}

func (w *worker) lag() time.Duration {
	since := w.sinceMS.Load()
	if since == 0 {
		return 0
	}
	return time.Duration(max(0, w.seenMS.Load()-since)) * time.Millisecond
}

// run is the owner.
func (w *worker) run() {
	defer close(w.done)
	for {
		batch, giveUp, ok := w.take()
		if !ok {
			return
		}
		if giveUp {
			w.g.watch.Retry("memory")
			w.restart(w.cut.Fixed())
			w.g.memory.update(w)
			continue
		}
		for _, rec := range batch {
			rewinding, err := w.record(rec)
			if err != nil {
				if w.ctx.Err() == nil {
					w.g.fail(fmt.Errorf("%s[%d] at offset %d: %w", w.src.Topic, w.src.Partition, rec.Offset, err))
				}
				return
			}
			if rewinding {
				break
			}
		}
		w.g.memory.update(w)
	}
}

// take waits for records; ok is false when the owner shall end.
func (w *worker) take() (batch []*kgo.Record, giveUp, ok bool) {
	for {
		select {
		case <-w.ctx.Done():
			return nil, false, false
		case <-w.stopping:
			return nil, false, false
		default:
		}
		w.mu.Lock()
		batch, giveUp = w.queue, w.giveUp
		w.queue, w.giveUp = nil, false
		w.queued.Store(0)
		w.pauseLocked(causeQueue, false)
		w.mu.Unlock()
		if giveUp {
			return nil, true, true
		}
		if len(batch) > 0 {
			return batch, false, true
		}
		select {
		case <-w.ctx.Done():
		case <-w.stopping:
		case <-w.wake:
		}
	}
}

// record takes one record. rewinding means that what else was polled is of no use.
func (w *worker) record(rec *kgo.Record) (rewinding bool, err error) {
	if rec.Offset < w.cut.Next() {
		return false, nil // seen before a rewind
	}
	// What was given back to another consumer stands in the lake already: it tells the time, as a tick does.
	idle := topic.IsTick(rec) || !dlq.IsFor(rec, dlq.Writer)
	c := chunk.Record{Offset: rec.Offset, TimeMS: rec.Timestamp.UnixMilli(), Tick: idle}
	w.seenMS.Store(max(w.seenMS.Load(), c.TimeMS))
	if w.cut.EndsBefore(c) {
		if rewinding, err = w.finish(rec.Offset); rewinding || err != nil {
			return rewinding, err
		}
	}
	if !c.Tick {
		if _, open := w.cut.Open(); !open {
			w.openAt = rec.Offset
		}
		if c.Rows, err = w.keep(rec); err != nil {
			return false, err
		}
		c.Bytes = int64(len(rec.Value))
	}
	full := w.cut.Add(c)
	if since, open := w.cut.Open(); open {
		w.sinceMS.Store(since)
	}
	if full {
		return w.finish(w.cut.Next())
	}
	if c.Tick {
		return false, w.idle(c.TimeMS)
	}
	return false, nil
}

// keep puts the record into the chunk, as rows or as a dead letter, and tells how many rows it gives.
func (w *worker) keep(rec *kgo.Record) (int64, error) {
	r := table.Record{Offset: rec.Offset, TimeMS: rec.Timestamp.UnixMilli(), Value: rec.Value}
	w.bytes.Add(int64(len(rec.Value)) + recordOverhead)
	if t := topic.Type(rec); t != "" && t != w.table.Type() {
		w.poison = append(w.poison, poisoned{rec, fmt.Errorf("%w: ce_type %q is not %q", table.ErrPoison, t, w.table.Type())})
		return 0, nil
	}
	var n int64
	err := w.persist("schema", func(ctx context.Context) (err error) {
		n, err = w.table.Rows(ctx, r)
		if errors.Is(err, table.ErrPoison) {
			w.poison = append(w.poison, poisoned{rec, err})
			n, err = 0, nil
		}
		return err
	})
	if err == nil && n > 0 {
		w.recs = append(w.recs, r)
	}
	return n, err
}

// idle commits the position now and then while there are only ticks, so that it does not fall behind the log's start.
func (w *worker) idle(nowMS int64) error {
	if _, open := w.cut.Open(); open {
		return nil
	}
	if w.idleMS == 0 {
		w.idleMS = nowMS
	}
	if nowMS-w.idleMS < w.g.cfg.Rules.Interval.Milliseconds() {
		return nil
	}
	w.idleMS = nowMS
	return w.commit(w.cut.Next())
}

// finish ends the chunk before offset end: dead letters, file, offsets, in this order.
func (w *worker) finish(end int64) (rewinding bool, err error) {
	w.g.memory.update(w)
	w.flushing.Store(true)
	defer w.flushing.Store(false)
	fixed := w.cut.Fixed()
	span := w.cut.End(end)
	for _, p := range w.poison {
		err := w.persist("dead_letter", func(ctx context.Context) error { return w.g.dead.Send(ctx, p.rec, p.why) })
		if err != nil {
			return false, err
		}
		w.g.watch.DeadLetter(w.table.Name())
		w.g.log.Warn("record put aside", zap.String("topic", p.rec.Topic), zap.Int32("partition", p.rec.Partition),
			zap.Int64("offset", p.rec.Offset), zap.NamedError("reason", p.why))
	}
	if span.Rows > 0 {
		found, same, err := w.store(span)
		if err != nil {
			return false, err
		}
		if !same {
			if fixed >= 0 {
				return false, fmt.Errorf("%w: %s ended at %d and now at %d", commit.ErrDiverged, found.Key(), fixed, found.End)
			}
			w.g.log.Warn("the lake has a chunk that begins alike and was cut by other rules; adopting its end",
				zap.String("key", found.Key()), zap.Int64("end", found.End), zap.Int64("cut_here", span.End), zap.String("rules", found.Config))
			w.cut = chunk.New(w.g.cfg.Rules, span.First, span.First)
			w.restart(found.End)
			return true, nil
		}
	} else if fixed >= 0 {
		return false, fmt.Errorf("%w: the lake has a file for offsets [%d,%d), the log gives no rows", commit.ErrDiverged, span.First, fixed)
	}
	w.forget()
	w.idleMS = w.seenMS.Load()
	return false, w.commit(span.End)
}

// store encodes the chunk and puts it into the lake. same is false when another end was found there.
func (w *worker) store(span chunk.Span) (found lake.Object, same bool, err error) {
	o := lake.Object{Source: w.src, First: span.First, End: span.End, SinceMS: span.SinceMS, Config: w.g.cfg.Rules.Version()}
	select {
	case w.g.encoding <- struct{}{}:
	case <-w.ctx.Done():
		return o, false, w.ctx.Err()
	}
	file, err := w.table.Encode(w.ctx, w.recs, func(rows int64, hash uint64) map[string]string {
		o.Rows, o.Hash = rows, hash
		return o.Metadata()
	})
	<-w.g.encoding
	if err != nil {
		return o, false, err
	}
	if file.Rows != span.Rows {
		return o, false, fmt.Errorf("encoded %d rows, counted %d", file.Rows, span.Rows)
	}
	outcome, found, err := w.g.store.Put(w.ctx, o, file.Data)
	if err != nil {
		return o, false, err
	}
	if outcome == commit.OtherEnd {
		return found, false, nil
	}
	w.g.watch.File(w.table.Name(), file.Rows, int64(len(file.Data)), outcome == commit.Stored)
	return o, true, nil
}

// restart drops the chunk and reads it again, to end at fixed if that is not negative.
func (w *worker) restart(fixed int64) {
	first, from := w.cut.First(), w.cut.Next()
	if len(w.recs)+len(w.poison) > 0 {
		from = w.openAt
	}
	w.forget()
	w.cut = chunk.New(w.g.cfg.Rules, first, from)
	if fixed >= 0 {
		w.cut.Fix(fixed)
	}
	w.mu.Lock()
	w.queue, w.seek = nil, from
	w.queued.Store(0)
	w.mu.Unlock()
}

// forget drops what the chunk holds.
func (w *worker) forget() {
	w.recs, w.poison = nil, nil
	w.bytes.Store(0)
	w.sinceMS.Store(0)
}

// persist calls do until it succeeds, for things that only Kafka can refuse.
func (w *worker) persist(what string, do func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		err := do(w.ctx)
		if err == nil || w.ctx.Err() != nil || isFinal(err) {
			return err
		}
		w.g.watch.Retry(what)
		if attempt == 0 {
			w.g.log.Warn("trying again", zap.String("what", what), zap.String("topic", w.src.Topic), zap.Int32("partition", w.src.Partition), zap.Error(err))
		}
		wait := min(w.g.cfg.Backoff.Max, w.g.cfg.Backoff.Min*time.Duration(math.Pow(2, float64(min(attempt, 20)))))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-w.ctx.Done():
			timer.Stop()
			return w.ctx.Err()
		}
	}
}
