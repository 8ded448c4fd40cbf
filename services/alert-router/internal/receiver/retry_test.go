package receiver

import (
	"context"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

type scripted struct {
	errs []error
	n    int
}

func (s *scripted) Send(context.Context, notification.Notification) error {
	s.n++
	return s.errs[min(s.n, len(s.errs))-1]
}

func retryable(reason string, after time.Duration) error {
	return &notification.Error{Class: notification.Retryable, Reason: reason, RetryAfter: after}
}

func TestRetrying(t *testing.T) {
	permanent := &notification.Error{Class: notification.Permanent, Reason: "gone"}
	for name, tc := range map[string]struct {
		errs  []error
		sent  int
		dead  string
		waits []time.Duration
	}{
		"taken at once":       {[]error{nil}, 1, "", nil},
		"taken the third":     {[]error{retryable("a", 0), retryable("a", 0), nil}, 3, "", []time.Duration{time.Second, 2 * time.Second}},
		"asked to wait":       {[]error{retryable("rate_limited", time.Minute), nil}, 2, "", []time.Duration{time.Minute}},
		"asked to wait long":  {[]error{retryable("rate_limited", 24*time.Hour), nil}, 2, "", []time.Duration{MaxRetryAfter}},
		"permanent":           {[]error{permanent}, 1, "gone", nil},
		"permanent later":     {[]error{retryable("a", 0), permanent}, 2, "gone", []time.Duration{time.Second}},
		"given up":            {[]error{retryable("down", 0)}, 6, "down", []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second}},
		"no notification.Err": {[]error{errors.New("x")}, 6, "other", []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second}},
	} {
		next := &scripted{errs: tc.errs}
		var waits []time.Duration
		dead := ""
		r := &Retrying{
			Next: next, Policy: Policy{Attempts: 6, Base: time.Second, Max: 15 * time.Second}, Chance: func() float64 { return 0.5 },
			After: func(d time.Duration) <-chan time.Time {
				waits = append(waits, d)
				c := make(chan time.Time, 1)
				c <- time.Time{}
				return c
			},
			OnDead: func(_ context.Context, d Dead) { dead = d.Err.Reason },
		}
		err := r.Send(t.Context(), notification.Notification{})
		if next.n != tc.sent || dead != tc.dead || (err != nil) != (tc.dead != "") || len(waits) != len(tc.waits) {
			t.Errorf("%s: sent %d times, dead %q, waits %v, %v", name, next.n, dead, waits, err)
			continue
		}
		for i := range waits {
			if waits[i] != tc.waits[i] {
				t.Errorf("%s: waits %v, want %v", name, waits, tc.waits)
			}
		}
	}
}

// What ends because we stop is no dead letter: it is told by whoever starts next.
func TestRetryingEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &Retrying{
		Next: &scripted{errs: []error{&notification.Error{Reason: "timeout", MayHaveArrived: true}, retryable("down", 0)}}, Policy: DefaultPolicy(),
		After:  func(time.Duration) <-chan time.Time { cancel(); return nil },
		OnDead: func(context.Context, Dead) { t.Error("dead letter") },
	}
	var e *notification.Error
	if err := r.Send(ctx, notification.Notification{}); !errors.As(err, &e) || !e.MayHaveArrived {
		t.Error(err)
	}
}

func TestWaitIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := DefaultPolicy()
		failures, chance := rapid.IntRange(1, 1000).Draw(t, "failures"), rapid.Float64Range(0, 0.999).Draw(t, "chance")
		w := p.Wait(failures, 0, chance)
		if w < p.Base/2 || w > p.Max*3/2 {
			t.Fatalf("%s after %d failures", w, failures)
		}
	})
}

func TestOnceForgetsTheOldest(t *testing.T) {
	var o Once
	for i := range maxRemembered + 10 {
		o.Mark("k", string(rune(i+1)))
		o.Mark("k", string(rune(i+1)))
	}
	if o.Done("k", string(rune(10))) || !o.Done("k", string(rune(11))) || !o.Done("k", string(rune(maxRemembered+10))) || len(o.done) != maxRemembered {
		t.Errorf("%d remembered", len(o.done))
	}
}

func TestWorst(t *testing.T) {
	permanent := &notification.Error{Class: notification.Permanent, Reason: "gone", MayHaveArrived: true}
	var e *notification.Error
	if !errors.As(Worst([]error{permanent, retryable("a", time.Second), retryable("b", time.Minute)}), &e) || e.Reason != "b" || !e.MayHaveArrived || Worst(nil) != nil {
		t.Errorf("%+v", e)
	}
}
