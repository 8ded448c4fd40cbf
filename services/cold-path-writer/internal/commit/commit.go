// Package commit puts a finished file into the lake exactly once.
//
// The key depends only on where the chunk begins, and the store lets one write of a key win. So when the store says that the
// object exists, it is this writer's own (a lost answer, a crash before the offsets were committed, a zombie that was
// faster), or one cut by other rules, or something that must not be. Which one, its metadata tells.
package commit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// ErrDiverged: the lake holds other rows than the log gives for the same offsets. No program can tell which are right.
var ErrDiverged = errors.New("lake and log differ")

// Outcome of a Put.
type Outcome int

const (
	// Stored: the object is there and was written now.
	Stored Outcome = iota
	// AlreadyStored: the same rows were there before.
	AlreadyStored
	// OtherEnd: a chunk that begins alike and ends elsewhere was there before. Its end must be adopted.
	OtherEnd
)

// Observer is told what happens, for metrics. Its methods may be called concurrently.
type Observer interface {
	// Put was tried: how long it took, and nil or why it failed.
	Put(table string, took time.Duration, err error)
}

// Backoff between attempts: it doubles from Min to Max, and each wait is a random part (half to all) of it.
type Backoff struct {
	Min time.Duration `mapstructure:"min" doc:"First wait before a failed request to the store is tried again; doubles each time."`
	Max time.Duration `mapstructure:"max" doc:"Longest wait between two tries."`
}

func (b Backoff) wait(attempt int) time.Duration {
	d := b.Max
	if attempt < 30 {
		d = min(b.Max, b.Min<<attempt)
	}
	return d/2 + rand.N(d/2+1)
}

// Committer puts objects into a bucket. Safe for concurrent use.
type Committer struct {
	bucket  objstore.Bucket
	backoff Backoff
	log     *zap.Logger
	watch   Observer
	// trouble is why the store cannot be used at present, or nil.
	trouble atomic.Pointer[error]
}

// New makes a Committer.
func New(bucket objstore.Bucket, backoff Backoff, log *zap.Logger, watch Observer) *Committer {
	return &Committer{bucket: bucket, backoff: backoff, log: log, watch: watch}
}

// Trouble is why the last request to the store failed, nil when it did not.
func (c *Committer) Trouble() error {
	if p := c.trouble.Load(); p != nil {
		return *p
	}
	return nil
}

// Put stores data as o. It tries until it knows how it ended or ctx does; with OtherEnd, found is the object that is there.
// ErrDiverged is final.
func (c *Committer) Put(ctx context.Context, o lake.Object, data []byte) (out Outcome, found lake.Object, err error) {
	err = c.Retry(ctx, "put", func(ctx context.Context) error {
		start := time.Now()
		err := c.bucket.PutIfAbsent(ctx, o.Key(), data, o.Metadata())
		c.watch.Put(o.Table, time.Since(start), err)
		if err == nil {
			out = Stored
			return nil
		}
		if !errors.Is(err, objstore.ErrExists) {
			return err
		}
		out, found, err = c.compare(ctx, o)
		return err
	})
	return out, found, err
}

// compare says what the object that stands in o's place is.
func (c *Committer) compare(ctx context.Context, o lake.Object) (Outcome, lake.Object, error) {
	info, err := c.bucket.Head(ctx, o.Key())
	if err != nil {
		return 0, lake.Object{}, err // not found: removed meanwhile, so the write may be tried again
	}
	found, err := o.WithMetadata(info.Metadata)
	if err != nil {
		return 0, found, fmt.Errorf("%w: %s: %w", ErrDiverged, o.Key(), err)
	}
	switch {
	case found.End != o.End:
		return OtherEnd, found, nil
	case found.Hash == o.Hash && found.Rows == o.Rows:
		return AlreadyStored, found, nil
	}
	return 0, found, fmt.Errorf("%w: %s: offsets [%d,%d): lake has %d rows with hash %s, log gives %d with %s", ErrDiverged, o.Key(),
		o.First, o.End, found.Rows, lake.FormatHash(found.Hash), o.Rows, lake.FormatHash(o.Hash))
}

// Retry calls do until it succeeds, ctx ends or no retry can help.
func (c *Committer) Retry(ctx context.Context, what string, do func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		err := do(ctx)
		if err == nil {
			if c.trouble.Swap(nil) != nil {
				c.log.Info("store answers again", zap.String("request", what))
			}
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		if final(err) {
			return err
		}
		if c.trouble.Swap(&err) == nil {
			// Once per outage; the metric counts the rest.
			c.log.Warn("store does not answer, trying again", zap.String("request", what), zap.String("reason", objstore.Reason(err)), zap.Error(err))
		}
		timer := time.NewTimer(c.backoff.wait(attempt))
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: %w (last error: %w)", what, context.Cause(ctx), err)
		case <-timer.C:
		}
	}
}

func final(err error) bool {
	for _, f := range []error{ErrDiverged, lake.ErrNoMetadata, objstore.ErrInvalidKey, objstore.ErrUnconditional, objstore.ErrMetadata} {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}
