package topology

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

// transact judges what was polled, and what comes within the commit interval, in one transaction.
func (t *Topology) transact(ctx context.Context, sess *kgo.GroupTransactSession, fetches kgo.Fetches) error {
	if err := t.start(ctx, sess); err != nil {
		return err
	}
	began := time.Now()
	abort := kgo.AbortingFirstErrPromise(sess.Client())
	// Judging must end even when the process is asked to stop: a transaction is finished or it is nothing.
	work, cancel := drain(ctx, t.cfg.RestoreTimeout)
	defer cancel()
	emit := func(r *kgo.Record) { sess.Produce(work, r, abort.Promise()) }

	touched := map[int32]*partition{}
	records := 0
	var judged error
	for {
		urgent, err := t.judgeAll(work, fetches, touched, emit)
		records += fetches.NumRecords()
		if err != nil {
			judged = err
			break
		}
		left := t.cfg.CommitInterval - time.Since(began)
		if urgent || left <= 0 || records >= t.cfg.CommitRecords || ctx.Err() != nil {
			break
		}
		if fetches, err = t.poll(ctx, sess, left); err != nil {
			judged = err
			break
		}
	}
	var windows []byte
	if judged == nil {
		for _, id := range sortedKeys(touched) {
			p := touched[id]
			p.snapshot(t.cfg.Snapshot, emit)
			windows = append(windows, p.committing...)
		}
	}
	// What was sent and not answered can be neither given up nor counted. A process that is asked to stop does not wait for it: the next one
	// claims the transactional id, and with that it is aborted.
	sent, cancelSent := drain(ctx, forEver)
	defer cancelSent()
	if err := sess.Client().Flush(sent); err != nil {
		return errors.Join(judged, fmt.Errorf("waiting for what was written: %w", err))
	}
	end, cancelEnd := drain(ctx, endTimeout)
	defer cancelEnd()
	committed, err := sess.End(kgo.PreTxnCommitFnContext(end, t.members.Check), kgo.TransactionEndTry(judged == nil && abort.Err() == nil))
	t.metrics.commitSeconds.UpdateDuration(began)
	t.pace.took(time.Since(began))
	for _, p := range touched {
		p.arena.reset()
		p.committing = p.committing[:0]
	}
	t.revoked.Store(false) // End forgets it, and aborts for it
	switch {
	case judged != nil:
		return judged
	case err != nil:
		return fmt.Errorf("end of transaction: %w", err)
	case !committed && permanent(abort.Err()):
		return fmt.Errorf("a transaction was aborted for a reason that stays: %w", abort.Err())
	case !committed:
		t.metrics.aborts.Inc()
		t.log.Warn("transaction aborted, restoring", zap.Int("records", records), zap.NamedError("produce", abort.Err()))
		t.rollback(sess.Client())
		return nil
	}
	t.metrics.commits.Inc()
	now := time.Now()
	for id, p := range touched {
		t.metrics.add(p.count)
		t.metrics.judged(p.count.oldestMS, now)
		t.tell(p)
		if p.count.switches > 0 {
			t.exposeModels(p.in)
			t.log.Info("detection configuration in force", zap.Int32("partition", id), zap.Stringer("is", p.in), zap.Int("machines", len(p.machines)),
				zap.Int("detectors_begun_anew", p.count.fresh), zap.Int("machines_begun_anew", p.count.unfit))
		}
		p.count = counts{}
		t.keeper.offer(p.takeOpenings())
		t.tellRound(ctx, p)
		t.set(func() {
			if s := t.slots[id]; s != nil && s.part == p {
				s.fresh, s.inForce, s.machines, s.census = false, p.in, len(p.machines), p.census
			}
		})
	}
	t.export.Export(windows)
	return nil
}

// start begins a transaction, once the one before has ended in every partition.
func (t *Topology) start(ctx context.Context, sess *kgo.GroupTransactSession) error {
	settled, cancel := drain(ctx, forEver)
	defer cancel()
	if err := t.outcomes.Settled(settled); err != nil {
		return err
	}
	if err := sess.Begin(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	return nil
}

// permanent says that producing the same again would fail again: to abort and restore for ever would look like work.
func permanent(err error) bool {
	for _, e := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTopicException, kerr.PolicyViolation, kerr.UnsupportedForMessageFormat,
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// pass begins and aborts a transaction that holds nothing: see loop.
func (t *Topology) pass(ctx context.Context, sess *kgo.GroupTransactSession) error {
	if err := t.start(ctx, sess); err != nil {
		return err
	}
	end, cancel := drain(ctx, endTimeout)
	defer cancel()
	t.revoked.Store(false)
	if _, err := sess.End(end, kgo.TryAbort); err != nil {
		return fmt.Errorf("end of transaction: %w", err)
	}
	return nil
}

// endTimeout is how long the end of a transaction may take. Then the process leaves. Beyond its time-out the broker has aborted it anyway; and a session whose heartbeat
// failed at that moment waits for ever (franz-go v1.22.2: the end waits for a heartbeat, the group for the end).
const endTimeout = transactionTimeout + 2*time.Second

// forEver is longer than any outage. While Kafka is away there is nothing better to do than to wait for it.
const forEver = 365 * 24 * time.Hour

// drainTimeout is how long a transaction may still take once the process is asked to stop. What is not committed by then is
// done again by the next owner.
const drainTimeout = 4 * time.Second

// drain is a context that outlives ctx by drainTimeout, and ends after limit in any case: by cancellation, not by a deadline, which the client meets
// with a loop that does not pause (see kafka.ProduceSync).
func drain(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	last := time.AfterFunc(limit, cancel)
	var timer *time.Timer
	var mu sync.Mutex
	unhook := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(drainTimeout, cancel)
	})
	return out, func() {
		unhook()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		last.Stop()
		cancel()
	}
}
