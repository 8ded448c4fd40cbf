package stream

import (
	"context"
	"time"
)

// teller tells the sink of what has been committed while the next transaction is under way: one batch at a time, in their order. In a burst the way to the desk and back would else be waited for
// between any two transactions. Used by Run's goroutine alone.
type teller struct {
	sink  Sink
	limit time.Duration
	done  chan error // of the batch under way; nil: there is none
}

// tell begins with a batch once the one before is told; the error is that one's.
func (t *teller) tell(ctx context.Context, list []Committed) error {
	if err := t.settled(); err != nil {
		return err
	}
	done := make(chan error, 1)
	t.done = done
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.limit)
	go func() {
		defer cancel()
		done <- t.sink.Committed(ctx, list)
	}()
	return nil
}

// settled waits until everything has been told.
func (t *teller) settled() error {
	if t.done == nil {
		return nil
	}
	err := <-t.done
	t.done = nil
	return err
}

// failed is the error of a batch that has been told meanwhile; it does not wait.
func (t *teller) failed() error {
	select {
	case err := <-t.done: // never of nil
		t.done = nil
		return err
	default:
		return nil
	}
}
