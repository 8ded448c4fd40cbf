package receiver

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

// Policy says how often and when a message is tried again.
type Policy struct {
	// Attempts in all, 1 to 6: the first and up to five more.
	Attempts int
	// Base is the wait after the first failure, on average; it doubles each time up to Max.
	Base, Max time.Duration
}

// DefaultPolicy gives up after five retries, some 25 s on average.
func DefaultPolicy() Policy {
	return Policy{Attempts: 6, Base: 500 * time.Millisecond, Max: 15 * time.Second}
}

// Wait is how long to wait after so many failures (1, 2, ...): exponential with full jitter around its mean, so that receivers that failed together do not
// come back together, but never less than what the other side asked for. chance is in [0, 1).
func (p Policy) Wait(failures int, asked time.Duration, chance float64) time.Duration {
	wait := p.Base
	for range failures - 1 {
		if wait >= p.Max {
			break
		}
		wait *= 2
	}
	wait = min(wait, p.Max)
	return max(time.Duration((0.5+chance)*float64(wait)), asked)
}

// Dead is a message that was given up.
type Dead struct {
	Notification notification.Notification
	Attempts     int
	Err          *notification.Error
}

// Retrying sends through Next until it is taken, the error is permanent, the attempts are used up or the context ends. Safe for concurrent use.
type Retrying struct {
	Next   notification.Receiver
	Policy Policy
	// OnDead is told of each message that was given up, other than because the context was cancelled. May be nil.
	OnDead func(ctx context.Context, d Dead)
	// OnAttempt is told of each failure and how long is waited then (0: given up). May be nil.
	OnAttempt func(n notification.Notification, attempt int, err *notification.Error, wait time.Duration)
	// After is time.After, and Chance rand.Float64, unless a test sets them.
	After  func(time.Duration) <-chan time.Time
	Chance func() float64
}

// Send implements notification.Receiver. The error that it returns is the last one, marked MayHaveArrived if any of the attempts may have.
func (r *Retrying) Send(ctx context.Context, n notification.Notification) error {
	arrived := false
	for attempt := 1; ; attempt++ {
		err := r.Next.Send(ctx, n)
		if err == nil {
			return nil
		}
		e := classified(err)
		arrived = arrived || e.MayHaveArrived
		last := *e
		last.MayHaveArrived = arrived
		switch {
		case ctx.Err() != nil:
			r.expired(ctx, n, attempt, &last)
			return &last
		case e.Class == notification.Permanent || attempt >= r.Policy.Attempts:
			r.tell(n, attempt, &last, 0)
			if r.OnDead != nil {
				r.OnDead(ctx, Dead{Notification: n, Attempts: attempt, Err: &last})
			}
			return &last
		}
		wait := r.Policy.Wait(attempt, min(e.RetryAfter, MaxRetryAfter), r.chance())
		r.tell(n, attempt, &last, wait)
		select {
		case <-r.after(wait):
		case <-ctx.Done():
			r.expired(ctx, n, attempt, &last)
			return &last
		}
	}
}

// expired: time that ran out gives a message up; being stopped does not, since whoever starts next tells it.
func (r *Retrying) expired(ctx context.Context, n notification.Notification, attempt int, err *notification.Error) {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return
	}
	r.tell(n, attempt, err, 0)
	if r.OnDead != nil {
		r.OnDead(context.WithoutCancel(ctx), Dead{Notification: n, Attempts: attempt, Err: err})
	}
}

func (r *Retrying) tell(n notification.Notification, attempt int, err *notification.Error, wait time.Duration) {
	if r.OnAttempt != nil {
		r.OnAttempt(n, attempt, err, wait)
	}
}

func (r *Retrying) chance() float64 {
	if r.Chance != nil {
		return r.Chance()
	}
	return rand.Float64()
}

func (r *Retrying) after(d time.Duration) <-chan time.Time {
	if r.After != nil {
		return r.After(d)
	}
	return time.After(d)
}

func classified(err error) *notification.Error {
	var e *notification.Error
	if errors.As(err, &e) {
		return e
	}
	return &notification.Error{Class: notification.Retryable, Reason: "other", MayHaveArrived: true, Err: err}
}
