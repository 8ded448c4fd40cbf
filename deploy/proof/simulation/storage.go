package simulation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// storageFault is what becomes of one write to the object store.
type storageFault string

const (
	// faultUnavailable: an answer 503; nothing is written.
	faultUnavailable storageFault = "s3_503"
	// faultTimeout: no answer for 30 s; nothing is written.
	faultTimeout storageFault = "s3_timeout"
	// faultLost: written, but the answer is an error.
	faultLost storageFault = "s3_lost_response"
	// faultConflict: an answer 409; nothing is written.
	faultConflict storageFault = "s3_409"
	// faultOwnRetry: written, the client tries again by itself and gets 412.
	faultOwnRetry storageFault = "s3_412_own_retry"
	// faultLate: no answer to the caller, who tries again; the write arrives 40 s later all the same.
	faultLate storageFault = "s3_late_write"
)

var storageFaults = []storageFault{faultUnavailable, faultTimeout, faultLost, faultConflict, faultOwnRetry, faultLate}

var (
	errUnavailable = errors.New("simulated store: 503 Slow Down")
	errNoAnswer    = errors.New("simulated store: no answer")
)

// storage is the object store that all writers share.
type storage struct {
	w    *World
	real objstore.Bucket

	mu      sync.Mutex
	down    bool // an outage: every request fails
	planned []storageFault
	// hook, when set, decides about each write of a file to the lake before any planned fault; "" leaves it alone.
	hook func(writer, key string) storageFault
	// after is called when a file has been written.
	after func(writer, key string)
}

func newStorage(w *World, over objstore.Bucket) *storage { return &storage{w: w, real: over} }

func (s *storage) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// plan has the next writes fail, one each.
func (s *storage) plan(f ...storageFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.planned = append(s.planned, f...)
}

func (s *storage) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down, s.planned, s.hook, s.after = false, nil, nil, nil
}

func (s *storage) next(writer, key string) (f storageFault, down bool, after func(string, string)) {
	s.mu.Lock()
	hook := s.hook
	down, after = s.down, s.after
	if !down && hook == nil && len(s.planned) > 0 {
		f, s.planned = s.planned[0], s.planned[1:]
	}
	s.mu.Unlock()
	if !down && hook != nil {
		f = hook(writer, key)
	}
	if f != "" {
		s.w.injected(string(f))
	}
	return f, down, after
}

// isFile tells files of the lake from what a writer tries the store with.
func isFile(key string) bool { return strings.HasSuffix(key, ".parquet") }

// of is the store as one incarnation of a writer reaches it.
func (s *storage) of(inc *incarnation) *handle {
	h := &handle{s: s, inc: inc}
	inc.atKill(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.dead = true
	})
	return h
}

// handle implements objstore.Bucket.
type handle struct {
	s    *storage
	inc  *incarnation
	mu   sync.Mutex
	dead bool
}

func (h *handle) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		return errNoAnswer
	}
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.s.down {
		return errUnavailable
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PutIfAbsent implements objstore.Bucket.
func (h *handle) PutIfAbsent(ctx context.Context, key string, data []byte, metadata map[string]string) error {
	if err := wait(ctx, 20*time.Millisecond); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	f, down, after := h.s.next(h.inc.p.name, key)
	if down {
		return errUnavailable
	}
	put := func() error {
		// Under way when the process is killed: it may still arrive, as a request that has left does.
		err := h.s.real.PutIfAbsent(context.WithoutCancel(ctx), key, data, metadata)
		if err == nil && after != nil {
			after(h.inc.p.name, key)
		}
		return err
	}
	switch f {
	case faultUnavailable:
		return errUnavailable
	case faultConflict:
		return fmt.Errorf("simulated store: %w", objstore.ErrConflict)
	case faultTimeout:
		return errors.Join(wait(ctx, 30*time.Second), errNoAnswer)
	case faultLost:
		return errors.Join(put(), errNoAnswer)
	case faultOwnRetry:
		_ = put()
		return put()
	case faultLate:
		h.s.w.running.Go(func() {
			if h.s.w.pause(40 * time.Second) {
				_ = put()
			}
		})
		return errors.Join(wait(ctx, 30*time.Second), errNoAnswer)
	}
	err := put()
	if dead := h.check(); dead != nil {
		return dead
	}
	return err
}

// Get implements objstore.Bucket.
func (h *handle) Get(ctx context.Context, key string, limit int64) ([]byte, objstore.Info, error) {
	if err := h.check(); err != nil {
		return nil, objstore.Info{}, err
	}
	return h.s.real.Get(ctx, key, limit)
}

// GetRange implements objstore.Bucket.
func (h *handle) GetRange(ctx context.Context, key string, off, length int64) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	return h.s.real.GetRange(ctx, key, off, length)
}

// Head implements objstore.Bucket.
func (h *handle) Head(ctx context.Context, key string) (objstore.Info, error) {
	if err := h.check(); err != nil {
		return objstore.Info{}, err
	}
	return h.s.real.Head(ctx, key)
}

// List implements objstore.Bucket.
func (h *handle) List(ctx context.Context, prefix string) iter.Seq2[objstore.Info, error] {
	if err := h.check(); err != nil {
		return func(yield func(objstore.Info, error) bool) { yield(objstore.Info{}, err) }
	}
	return h.s.real.List(ctx, prefix)
}

// Delete implements objstore.Bucket.
func (h *handle) Delete(ctx context.Context, key string) error {
	if err := h.check(); err != nil {
		return err
	}
	return h.s.real.Delete(ctx, key)
}

// Close implements objstore.Bucket. The store itself is the world's.
func (h *handle) Close() error { return nil }
