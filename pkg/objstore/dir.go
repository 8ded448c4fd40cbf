package objstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// The store's own files lie under this folder of the root. No key reaches it (no segment begins with a dot), and readers
// of `**/*.parquet`, Spark and Arrow data sets pass it over.
const (
	ownDir  = ".objstore"
	tempDir = ownDir + "/tmp"
	metaDir = ownDir + "/meta"
	lockOf  = ownDir + "/lock"
)

// tempMaxAge: an upload that old has no writer any more; its temporary file is removed when the directory is opened.
const tempMaxAge = 24 * time.Hour

// Dir is a Bucket in a directory of a local file system. Objects are plain files at their keys; metadata
// lies beside them under .objstore/meta. All access goes through an os.Root, so that neither a key nor a symbolic
// link leads out of the directory.
//
// A write goes to a temporary file which is synced, then, under a lock that all processes share, its
// metadata and a hard link at the key are made and their folders synced. The link is the moment the object exists;
// what a crash leaves before it is never seen, and overwritten or swept later.
type Dir struct {
	root *os.Root
	mu   sync.Mutex // flock excludes processes, mu the goroutines of this one
	lock *os.File
	// step is called before each step of a write; an error stands for a crash there. For tests.
	step func(string) error
}

// OpenDir opens dir as a bucket and makes it when missing.
func OpenDir(dir string) (*Dir, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	d := &Dir{root: root, step: func(string) error { return nil }}
	for _, own := range []string{tempDir, metaDir} {
		if err := root.MkdirAll(own, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("open store: %w", err), root.Close())
		}
	}
	if d.lock, err = root.OpenFile(lockOf, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), root.Close())
	}
	d.sweep(time.Now().Add(-tempMaxAge))
	return d, nil
}

// sweep removes temporary files last written before the given time. Best effort: they are only a waste of space.
func (d *Dir) sweep(before time.Time) {
	names, err := d.readDir(tempDir)
	if err != nil {
		return
	}
	for _, e := range names {
		if info, err := e.Info(); err == nil && info.ModTime().Before(before) {
			_ = d.root.Remove(path.Join(tempDir, e.Name()))
		}
	}
}

// Close implements Bucket.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(ignoreClosed(d.lock.Close()), ignoreClosed(d.root.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// PutIfAbsent implements Bucket.
func (d *Dir) PutIfAbsent(ctx context.Context, key string, data []byte, metadata map[string]string) error {
	if err := errors.Join(ValidateKey(key), validateMetadata(metadata)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Spare the writing of what is there already; the link below decides.
	if _, err := d.root.Lstat(key); err == nil {
		return fmt.Errorf("%w: %s", ErrExists, key)
	}
	temp, err := d.writeTemp(data)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	defer func() { _ = d.root.Remove(temp) }()
	if err := d.publish(temp, key, metadata); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: %s", ErrExists, key)
		}
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// writeTemp writes data to a new temporary file and syncs it.
func (d *Dir) writeTemp(data []byte) (string, error) {
	name := path.Join(tempDir, rand.Text())
	if err := d.step("create"); err != nil {
		return "", err
	}
	if err := d.writeFile(name, os.O_EXCL, data); err != nil {
		_ = d.root.Remove(name)
		return "", err
	}
	return name, nil
}

// writeFile writes and syncs a file.
func (d *Dir) writeFile(name string, flag int, data []byte) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|flag, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// publish makes the synced file temp the object at key, with its metadata.
func (d *Dir) publish(temp, key string, metadata map[string]string) error {
	if err := d.mkdirs(path.Dir(key)); err != nil {
		return err
	}
	meta := path.Join(metaDir, key+".json")
	if err := d.mkdirs(path.Dir(meta)); err != nil {
		return err
	}
	encoded, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := lockFile(d.lock); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer func() { _ = unlockFile(d.lock) }()
	// Only the holder of the lock that finds no object may write the metadata, or a loser would
	// replace the winner's. It comes first: an object without its metadata must never be seen.
	if _, err := d.root.Lstat(key); err == nil {
		return fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.step("metadata"); err != nil {
		return err
	}
	if err := d.writeFile(meta, os.O_TRUNC, encoded); err != nil {
		return err
	}
	if err := d.syncDir(path.Dir(meta)); err != nil {
		return err
	}
	if err := d.step("link"); err != nil {
		return err
	}
	if err := d.link(temp, key); err != nil {
		return err
	}
	if err := d.step("sync"); err != nil {
		return err
	}
	return d.syncDir(path.Dir(key))
}

// link gives temp its final name. File systems without hard links rename instead: under the lock, and
// after publish has seen that the name is free, that overwrites nothing of ours.
func (d *Dir) link(temp, key string) error {
	err := d.root.Link(temp, key)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.root.Rename(temp, key)
}

// mkdirs makes dir and all above it, and syncs each folder that got a new entry.
func (d *Dir) mkdirs(dir string) error {
	if dir == "." {
		return nil
	}
	if _, err := d.root.Stat(dir); err == nil {
		return nil
	}
	if err := d.mkdirs(path.Dir(dir)); err != nil {
		return err
	}
	if err := d.root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.syncDir(path.Dir(dir))
}

func (d *Dir) syncDir(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Get implements Bucket.
func (d *Dir) Get(ctx context.Context, key string, limit int64) ([]byte, Info, error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return nil, Info{}, err
	}
	f, err := d.root.Open(key)
	if err != nil {
		return nil, Info{}, notFound("get", key, err)
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	st, err := f.Stat()
	if err != nil {
		return nil, Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	if !st.Mode().IsRegular() {
		return nil, Info{}, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	if limit > 0 && st.Size() > limit {
		return nil, Info{}, tooLarge(key, st.Size(), limit)
	}
	data := make([]byte, st.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	info, err := d.info(key, st)
	return data, info, err
}

// GetRange implements Bucket.
func (d *Dir) GetRange(ctx context.Context, key string, off, length int64) ([]byte, error) {
	if err := errors.Join(ValidateKey(key), validateRange(off, length), ctx.Err()); err != nil {
		return nil, err
	}
	f, err := d.root.Open(key)
	if err != nil {
		return nil, notFound("get", key, err)
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("get %s: %w", key, err)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("get %s: %w", key, ErrNotFound)
	case off > st.Size()-length:
		return nil, tooShort(key, off, length, st.Size())
	}
	data := make([]byte, length)
	if _, err := f.ReadAt(data, off); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return data, nil
}

func validateRange(off, length int64) error {
	if off < 0 || length < 1 || off > math.MaxInt64-length {
		return fmt.Errorf("get: no range: %d bytes from %d on", length, off)
	}
	return nil
}

func tooShort(key string, off, length, size int64) error {
	return fmt.Errorf("get %s: %w: it has %d bytes, %d from %d on were asked for", key, io.ErrUnexpectedEOF, size, length, off)
}

// Head implements Bucket.
func (d *Dir) Head(ctx context.Context, key string) (Info, error) {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return Info{}, err
	}
	st, err := d.root.Stat(key)
	if err != nil {
		return Info{}, notFound("head", key, err)
	}
	if !st.Mode().IsRegular() {
		return Info{}, fmt.Errorf("head %s: %w", key, ErrNotFound)
	}
	return d.info(key, st)
}

// info adds the metadata. A file without any was put there by hand: it has none, and that is no error.
func (d *Dir) info(key string, st fs.FileInfo) (Info, error) {
	info := Info{Key: key, Size: st.Size(), Modified: st.ModTime(), Metadata: map[string]string{}}
	b, err := d.root.ReadFile(path.Join(metaDir, key+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return info, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &info.Metadata)
	}
	if err != nil {
		return Info{}, fmt.Errorf("metadata of %s: %w", key, err)
	}
	return info, nil
}

func notFound(op, key string, err error) error {
	// ENOTDIR: part of the key is a file, so there is nothing below it.
	if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
		return fmt.Errorf("%s %s: %w", op, key, ErrNotFound)
	}
	return fmt.Errorf("%s %s: %w", op, key, err)
}

func tooLarge(key string, size, limit int64) error {
	return fmt.Errorf("get %s: %d bytes, more than the %d allowed", key, size, limit)
}

// List implements Bucket.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) { d.walk(ctx, "", prefix, yield) }
}

// walk yields the objects under dir whose keys begin with prefix; false when the consumer has had enough.
func (d *Dir) walk(ctx context.Context, dir, prefix string, yield func(Info, error) bool) bool {
	name := dir
	if name == "" {
		name = "."
	}
	entries, err := d.readDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true // removed since its parent was read
	}
	if err != nil {
		return yield(Info{}, fmt.Errorf("list %s: %w", name, err))
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			yield(Info{}, err)
			return false
		}
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		key := path.Join(dir, e.Name())
		if e.IsDir() {
			folder := key + "/"
			if strings.HasPrefix(folder, prefix) || strings.HasPrefix(prefix, folder) {
				if !d.walk(ctx, key, prefix, yield) {
					return false
				}
			}
			continue
		}
		if !strings.HasPrefix(key, prefix) || !e.Type().IsRegular() {
			continue
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			yield(Info{}, fmt.Errorf("list %s: %w", key, err))
			return false
		}
		if !yield(Info{Key: key, Size: st.Size(), Modified: st.ModTime()}, nil) {
			return false
		}
	}
	return true
}

// readDir reads a folder in the order of keys: a folder's keys go on with "/", so "a.b" stands before "a/".
func (d *Dir) readDir(name string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	return entries, nil
}

func sortName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

// Delete implements Bucket.
func (d *Dir) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ValidateKey(key), ctx.Err()); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := lockFile(d.lock); err != nil {
		return fmt.Errorf("delete %s: lock: %w", key, err)
	}
	defer func() { _ = unlockFile(d.lock) }()
	if st, err := d.root.Lstat(key); err != nil || st.IsDir() {
		if err == nil || errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
			return nil
		}
		return fmt.Errorf("delete %s: %w", key, err)
	}
	// The object goes first: metadata alone is nothing.
	if err := d.root.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	if err := d.syncDir(path.Dir(key)); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	if err := d.root.Remove(path.Join(metaDir, key+".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}
