package desk

import (
	"context"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
)

const (
	// writeTimeout bounds one write to the journal.
	writeTimeout = 30 * time.Second
	// drainTimeout bounds the last one.
	drainTimeout = 3 * time.Second
)

// Note hands a notification to the journal. It never blocks; what is too much is dropped and counted.
func (d *Desk) Note(list ...journal.Told) {
	d.mu.Lock()
	room := max(MaxWaiting-len(d.told), 0)
	n := min(room, len(list))
	d.told = append(d.told, list[:n]...)
	d.lag.Add(len(list) - n)
	d.mu.Unlock()
	d.wake()
}

// write writes what waits until stop is closed.
func (d *Desk) write(stop <-chan struct{}) {
	tick := time.NewTicker(positionEvery)
	defer tick.Stop()
	for wait := retryFirst; ; {
		again := (<-chan time.Time)(nil)
		if err := d.flush(writeTimeout); err != nil {
			d.failures.Inc()
			d.log.Warn("journal not written, will be tried again", zap.Error(err), zap.Duration("in", wait))
			again = time.After(wait)
			wait = min(2*wait, retryLast)
		} else {
			wait = retryFirst
		}
		kick := d.kick
		if again != nil {
			kick = nil
		}
		select {
		case <-stop:
			if err := d.drain(); err != nil {
				d.log.Warn("journal not written; it is after the next start, from the log", zap.Error(err))
			}
			return
		case <-again:
		case <-kick:
		case <-tick.C:
		}
	}
}

// drain writes what waits, as far as that goes within moments.
func (d *Desk) drain() error {
	for end := time.Now().Add(drainTimeout); ; {
		if err := d.flush(max(time.Until(end), 0)); err != nil {
			return err
		}
		d.mu.Lock()
		done := len(d.waiting)+len(d.told) == 0
		d.mu.Unlock()
		if done {
			return nil
		}
	}
}

// flush writes some of what waits now, in one transaction for the transitions and one for who was told; where there is more it is called again at once.
func (d *Desk) flush(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	d.mu.Lock()
	var b journal.Batch
	if len(d.waiting) > 0 {
		b = d.waiting[0]
		d.waiting[0] = journal.Batch{} // for the garbage collector
		d.waiting = d.waiting[1:]
		d.rows -= len(b.Rows)
	}
	n := min(len(d.told), writeAtOnce)
	told, store := d.told[:n:n], d.store
	d.told = d.told[n:]
	d.mu.Unlock()
	if len(b.Next) > 0 {
		if err := store.Save(ctx, b); err != nil {
			d.restore(b, told)
			return err
		}
		d.mu.Lock()
		maps.Copy(d.saved, b.Next)
		d.move()
		d.mu.Unlock()
	}
	if len(told) > 0 {
		if err := store.SaveTold(ctx, told); err != nil {
			d.restore(journal.Batch{}, told)
			return err
		}
	}
	d.mu.Lock()
	more := len(d.waiting) > 0 || len(d.told) > 0
	d.mu.Unlock()
	if more {
		d.wake()
	}
	return nil
}

// restore puts back, in front, what could not be written.
func (d *Desk) restore(b journal.Batch, told []journal.Told) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keep := min(len(d.told), max(0, MaxWaiting-len(told)))
	d.lag.Add(len(d.told) - keep)
	d.told = slices.Concat(told, d.told[:keep])
	if d.overflow || len(b.Next) == 0 {
		return
	}
	d.waiting = slices.Insert(d.waiting, 0, b)
	d.rows += len(b.Rows)
}

// prune deletes what is older than the retention.
func (d *Desk) prune(ctx context.Context) {
	for {
		d.mu.Lock()
		store := d.store
		d.mu.Unlock()
		n, err := store.Prune(ctx, time.Now().Add(-d.cfg.Retention).UnixMilli())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			d.failures.Inc()
			d.log.Warn("journal not pruned, will be tried again", zap.Error(err))
		case n > 0:
			d.log.Info("journal pruned", zap.Int64("rows", n))
		}
		if sleep(ctx, pruneEvery) != nil {
			return
		}
	}
}
