package ingestclient

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
)

// lane is a queue and the goroutine that empties it. Fields below wakeup belong to that goroutine.
type lane struct {
	c *Client

	mu sync.Mutex
	q  *queue

	wakeup chan struct{} // something was pushed

	limit    int // frames in flight; shrinks when a request is refused as a whole, to find the frame that spoils it
	attempts int // tries in a row that failed as a whole
}

// verdict says what a failed request means for the frames in it.
type verdict uint8

const (
	again  verdict = iota // not now: the same frames again
	shrink                // the request as such is wrong: fewer frames, until the wrong one is alone
	stop                  // no request will do
)

// failure is a request, or a stream, that ended without an answer for each frame.
type failure struct {
	err     error
	verdict verdict
	after   time.Duration // the server's Retry-After
	field   string
}

func newLane(c *Client) *lane {
	return &lane{
		c:      c,
		q:      newQueue(c.cfg.MaxInFlightPerMachine, newBackoff(c.cfg.MinBackoff, c.cfg.MaxBackoff)),
		wakeup: make(chan struct{}, 1),
		limit:  c.cfg.MaxBatchFrames,
	}
}

func (l *lane) push(it *item) {
	l.mu.Lock()
	l.q.push(it)
	l.mu.Unlock()
	select {
	case l.wakeup <- struct{}{}:
	default:
	}
}

// poll takes what may go now. With nothing to go, next is when a delayed machine is due; zero means: when something is pushed.
func (l *lane) poll(maxFrames, maxBytes int) (batch []*item, next time.Time) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	batch = l.q.take(now, nil, maxFrames, maxBytes)
	for _, it := range batch {
		it.sentAt = now
		if it.sent {
			l.c.retried.Add(1)
		}
	}
	return batch, l.q.wakeDelayed(now)
}

// waiting says whether anything is ready, and how many frames are queued.
func (l *lane) waiting() (ready bool, frames int, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next = l.q.wakeDelayed(time.Now())
	return l.q.ready.len() > 0, l.q.frames, next
}

// next blocks until frames may go, and lets company join them for a moment. It returns nil when ctx ends.
func (l *lane) next(ctx context.Context) []*item {
	for ctx.Err() == nil {
		ready, frames, due := l.waiting()
		if !ready {
			if !l.wait(ctx, due, nil) {
				return nil
			}
			continue
		}
		if linger := l.c.cfg.Linger; linger > 0 && frames < l.limit && !sleep(ctx, linger) {
			return nil
		}
		if batch, _ := l.poll(l.limit, l.c.cfg.MaxBatchBytes); len(batch) > 0 {
			return batch
		}
	}
	return nil
}

// wait blocks until a push, due (when not zero) or other; false when ctx ended.
func (l *lane) wait(ctx context.Context, due time.Time, other <-chan struct{}) bool {
	var timer <-chan time.Time
	if !due.IsZero() {
		t := time.NewTimer(time.Until(due))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-l.wakeup:
	case <-timer:
	case <-other:
	case <-ctx.Done():
		return false
	}
	return true
}

// answered applies the gateway's word on one frame.
func (l *lane) answered(it *item, r *ingestv1.FrameResult) {
	now := time.Now()
	switch r.GetStatus() {
	case ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED:
		l.settle(it, now)
		l.c.acked(it)
	case ingestv1.FrameStatus_FRAME_STATUS_INVALID, ingestv1.FrameStatus_FRAME_STATUS_FORBIDDEN:
		l.settle(it, now)
		l.c.reject(it, Rejection{
			Field:     r.GetField(),
			Reason:    r.GetReason(),
			Forbidden: r.GetStatus() == ingestv1.FrameStatus_FRAME_STATUS_FORBIDDEN,
		})
	default: // RETRY, and what a newer server may say that this client does not know
		l.mu.Lock()
		l.q.giveBack(it, now, true, time.Duration(r.GetRetryAfterMs())*time.Millisecond)
		l.mu.Unlock()
	}
}

func (l *lane) settle(it *item, now time.Time) {
	l.mu.Lock()
	l.q.settle(it, now)
	l.mu.Unlock()
}

// worked runs after a request that the gateway understood.
func (l *lane) worked(frames int) {
	if l.attempts > 0 {
		l.c.log.Info("gateway takes frames again", zap.Int("failed_tries", l.attempts))
	}
	l.attempts = 0
	l.limit = min(l.c.cfg.MaxBatchFrames, l.limit+frames)
}

// failed puts the frames of a failed request back in order and waits as long as it must. An error means: stop for good.
func (l *lane) failed(ctx context.Context, batch []*item, f failure) error {
	if f.verdict == shrink && len(batch) == 1 {
		l.settle(batch[0], time.Now())
		l.c.reject(batch[0], Rejection{Field: f.field, Reason: f.err.Error()})
		l.attempts = 0
		return nil
	}
	now := time.Now()
	l.mu.Lock()
	for _, it := range batch {
		l.q.giveBack(it, now, false, 0)
	}
	l.mu.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	switch f.verdict {
	case stop:
		return f.err
	case shrink:
		l.limit = max(1, min(l.limit, len(batch))/2)
	}
	if l.attempts == 0 {
		l.c.log.Warn("gateway does not take frames; trying again", zap.Error(f.err), zap.Int("frames", len(batch)))
	}
	l.mu.Lock()
	d := l.q.backoff.delay(l.attempts, f.after)
	l.mu.Unlock()
	l.attempts++
	sleep(ctx, d)
	return nil
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
