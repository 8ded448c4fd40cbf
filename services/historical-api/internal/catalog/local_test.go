package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

const size = 100 // of each object

// counted counts reads; before, if any, is called with each.
type counted struct {
	objstore.Bucket
	gets   atomic.Int32
	before func(ctx context.Context) error
}

func (c *counted) Get(ctx context.Context, key string, limit int64) ([]byte, objstore.Info, error) {
	c.gets.Add(1)
	if c.before != nil {
		if err := c.before(ctx); err != nil {
			return nil, objstore.Info{}, err
		}
	}
	return c.Bucket.Get(ctx, key, limit)
}

func content() []byte {
	b := make([]byte, size)
	copy(b, "PAR1")
	copy(b[size-4:], "PAR1")
	return b
}

func entry(n int) lake.Entry {
	return lake.Entry{Key: fmt.Sprintf("tocsin/readings/f%d.parquet", n), Size: size}
}

// stored is a bucket of n objects.
func stored(t *testing.T, n int) *counted {
	t.Helper()
	b, err := objstore.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	for i := range n {
		if err := b.PutIfAbsent(t.Context(), entry(i).Key, content(), nil); err != nil {
			t.Fatal(err)
		}
	}
	return &counted{Bucket: b}
}

func open(t *testing.T, dir string, b objstore.Bucket, limit int64) *Cache {
	t.Helper()
	c, err := NewCache(dir, b, limit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func hold(t *testing.T, c *Cache, ns ...int) (release func()) {
	t.Helper()
	var entries []lake.Entry
	for _, n := range ns {
		entries = append(entries, entry(n))
	}
	release, err := c.Hold(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(c.Root(), filepath.FromSlash(e.Key))); err != nil || info.Size() != e.Size {
			t.Fatal(e.Key, err)
		}
	}
	return release
}

func TestCopiesAreBounded(t *testing.T) {
	b := stored(t, 10)
	c := open(t, t.TempDir(), b, 5*size)
	for n := range 10 {
		hold(t, c, n)()
		if c.Used() > 5*size {
			t.Fatalf("%d bytes after %d", c.Used(), n)
		}
	}
	if hold(t, c, 9)(); b.gets.Load() != 10 {
		t.Errorf("the latest was read again: %d reads", b.gets.Load())
	}
	if hold(t, c, 0)(); b.gets.Load() != 11 {
		t.Errorf("the longest unused was kept: %d reads", b.gets.Load())
	}
	// What a query reads is not removed under it.
	release := hold(t, c, 1, 2, 3, 4)
	hold(t, c, 5, 6, 7)()
	for n := 1; n <= 4; n++ {
		if _, err := os.Stat(filepath.Join(c.Root(), filepath.FromSlash(entry(n).Key))); err != nil {
			t.Error(err)
		}
	}
	release()
	hold(t, c, 8)()
	if c.Used() > 5*size {
		t.Errorf("%d bytes once all are released", c.Used())
	}
	if _, err := c.Hold(t.Context(), []lake.Entry{entry(0), entry(1), entry(2), entry(3), entry(4), entry(5)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestCopiesAreMadeOnce(t *testing.T) {
	b := stored(t, 4)
	c := open(t, t.TempDir(), b, 10*size)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			release, err := c.Hold(t.Context(), []lake.Entry{entry(0), entry(1), entry(2), entry(3)})
			if err != nil {
				t.Error(err)
			}
			release()
		})
	}
	wg.Wait()
	if b.gets.Load() != 4 || c.Used() != 4*size {
		t.Errorf("%d reads, %d bytes", b.gets.Load(), c.Used())
	}
}

// A query that waits for another's copy does not end with that query.
func TestCopyOfAQueryThatWasCancelled(t *testing.T) {
	b := stored(t, 1)
	c := open(t, t.TempDir(), b, 10*size)
	first, cancel := context.WithCancel(t.Context())
	reading := make(chan struct{})
	b.before = func(ctx context.Context) error {
		if b.gets.Load() > 1 {
			return nil
		}
		close(reading)
		<-ctx.Done()
		return ctx.Err()
	}
	given := make(chan error, 1)
	go func() {
		_, err := c.Hold(first, []lake.Entry{entry(0)})
		given <- err
	}()
	<-reading
	second := make(chan error, 1)
	go func() {
		release, err := c.Hold(t.Context(), []lake.Entry{entry(0)})
		release()
		second <- err
	}()
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	// A store that fails is an error, and is asked again the next time.
	b.before = func(context.Context) error { return errors.New("down") }
	c2 := open(t, t.TempDir(), b, 10*size)
	if _, err := c2.Hold(t.Context(), []lake.Entry{entry(0)}); err == nil || c2.Used() != 0 {
		t.Error(err, c2.Used())
	}
	b.before = nil
	hold(t, c2, 0)()
}

// TestDamagedCopies: what an earlier process has left half, cut off or emptied is not read.
func TestDamagedCopies(t *testing.T) {
	b := stored(t, 4)
	dir := t.TempDir()
	c := open(t, dir, b, 10*size)
	hold(t, c, 0, 1, 2, 3)()
	path := func(n int) string { return filepath.Join(c.Root(), filepath.FromSlash(entry(n).Key)) }
	for n, damaged := range [][]byte{0: make([]byte, size), 1: content()[:50]} {
		if err := os.WriteFile(path(n), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path(3)+".17.partial", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, b, 10*size)
	if again.Used() != 2*size {
		t.Errorf("%d bytes taken over", again.Used())
	}
	hold(t, again, 0, 1, 2, 3)()
	if b.gets.Load() != 6 {
		t.Errorf("%d reads, want 4 and those of the 2 damaged ones", b.gets.Load())
	}
	for n := range 4 {
		if got, err := os.ReadFile(path(n)); err != nil || string(got) != string(content()) {
			t.Error(n, err)
		}
	}
	if _, err := os.Stat(path(3) + ".17.partial"); err == nil {
		t.Error("a half copy is still there")
	}
}
