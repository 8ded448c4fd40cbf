package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// Folder is a lake in a directory: its files are read where they are.
type Folder string

// Root implements Files.
func (f Folder) Root() string { return string(f) }

// Hold implements Files.
func (f Folder) Hold(context.Context, []lake.Entry) (func(), error) { return func() {}, nil }

// Cache keeps copies of a distant store's objects in a folder that is its own. Objects never change, so a copy is good for ever; the longest unused go first. Safe for
// concurrent use; one process a folder.
type Cache struct {
	dir    string
	bucket objstore.Bucket
	limit  int64

	mu     sync.Mutex
	copies map[string]*copied
	bytes  int64
	clock  int64
}

type copied struct {
	size  int64
	holds int
	used  int64
	ready chan struct{} // closed once the copy is whole, or has failed
	err   error
}

const downloads = 8 // at once for one query

// NewCache takes over what an earlier process has left in dir.
func NewCache(dir string, bucket objstore.Bucket, limit int64) (*Cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	c := &Cache{dir: dir, bucket: bucket, limit: limit, copies: map[string]*copied{}}
	ready := make(chan struct{})
	close(ready)
	var torn []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasSuffix(path, partial) || !whole(path) {
			torn = append(torn, path)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		key, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		c.copies[filepath.ToSlash(key)] = &copied{size: info.Size(), ready: ready}
		c.bytes += info.Size()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	for _, path := range torn {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
	}
	return c, nil
}

const partial = ".partial"

// whole tells whether a file that an earlier process has left begins and ends as a Parquet file does: what a power cut has cut off or emptied does not.
func whole(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head, tail [4]byte
	info, err := f.Stat()
	if err != nil || info.Size() < 12 {
		return false
	}
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return false
	}
	if _, err := f.ReadAt(tail[:], info.Size()-4); err != nil {
		return false
	}
	return string(head[:]) == "PAR1" && string(tail[:]) == "PAR1"
}

// Root implements Files.
func (c *Cache) Root() string { return c.dir }

// Hold implements Files.
func (c *Cache) Hold(ctx context.Context, entries []lake.Entry) (func(), error) {
	var sum int64
	for _, e := range entries {
		sum += e.Size
	}
	if sum > c.limit {
		return func() {}, fmt.Errorf("%w: %d bytes in %d files, %d bytes may be kept; narrow from and to", ErrTooLarge, sum, len(entries), c.limit)
	}
	var mu sync.Mutex
	var held []*copied
	release := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, h := range held {
			h.holds--
		}
		held = nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(downloads)
	for _, e := range entries {
		g.Go(func() error {
			h, err := c.hold(ctx, e)
			if h != nil {
				mu.Lock()
				held = append(held, h)
				mu.Unlock()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		release()
		return func() {}, err
	}
	return release, nil
}

// hold waits for the copy, or makes it. What it returns is held also when there is an error.
func (c *Cache) hold(ctx context.Context, e lake.Entry) (*copied, error) {
	for {
		h, err := c.try(ctx, e)
		// Whoever was making it has given up; that is not this query's end.
		if ctx.Err() == nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) && !errors.Is(err, errOwn) {
			c.mu.Lock()
			h.holds--
			c.mu.Unlock()
			continue
		}
		return h, err
	}
}

// errOwn marks the error of a download that the caller has made itself: a request's time limit, for one.
var errOwn = errors.New("download")

func (c *Cache) try(ctx context.Context, e lake.Entry) (*copied, error) {
	c.mu.Lock()
	c.clock++
	h, ok := c.copies[e.Key]
	if ok && h.size != e.Size && h.holds == 0 { // damaged, or another store
		c.drop(e.Key, h)
		ok = false
	}
	if ok {
		h.holds++
		h.used = c.clock
		c.mu.Unlock()
		select {
		case <-h.ready:
			return h, h.err
		case <-ctx.Done():
			return h, ctx.Err()
		}
	}
	h = &copied{size: e.Size, holds: 1, used: c.clock, ready: make(chan struct{})}
	c.copies[e.Key] = h
	c.bytes += e.Size
	c.makeRoom()
	c.mu.Unlock()
	h.err = c.download(ctx, e)
	close(h.ready)
	if h.err != nil {
		c.mu.Lock()
		if c.copies[e.Key] == h {
			c.drop(e.Key, h)
		}
		c.mu.Unlock()
		return h, fmt.Errorf("%w: %w", errOwn, h.err)
	}
	return h, nil
}

// makeRoom removes copies that nobody holds until the rest is within the limit.
func (c *Cache) makeRoom() {
	if c.bytes <= c.limit {
		return
	}
	var keys []string
	for key, h := range c.copies {
		if h.holds == 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int { return int(c.copies[a].used - c.copies[b].used) })
	for _, key := range keys {
		if c.bytes <= c.limit*9/10 {
			return
		}
		c.drop(key, c.copies[key])
	}
}

func (c *Cache) drop(key string, h *copied) {
	delete(c.copies, key)
	c.bytes -= h.size
	_ = os.Remove(c.path(key)) // what stays is found again at the next start
}

func (c *Cache) path(key string) string { return filepath.Join(c.dir, filepath.FromSlash(key)) }

func (c *Cache) download(ctx context.Context, e lake.Entry) error {
	if err := objstore.ValidateKey(e.Key); err != nil {
		return err
	}
	data, _, err := c.bucket.Get(ctx, e.Key, e.Size)
	if err != nil {
		return fmt.Errorf("lake: %w", err)
	}
	if int64(len(data)) != e.Size {
		return fmt.Errorf("lake: %s has %d bytes, not %d", e.Key, len(data), e.Size)
	}
	path := c.path(e.Key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	temp := fmt.Sprintf("%s.%d%s", path, time.Now().UnixNano(), partial)
	if err := write(temp, data); err != nil {
		return errors.Join(fmt.Errorf("cache: %w", err), os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(fmt.Errorf("cache: %w", err), os.Remove(temp))
	}
	return nil
}

// write makes a file that outlasts a power cut once it has its name.
func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Used is the bytes of the copies kept.
func (c *Cache) Used() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
