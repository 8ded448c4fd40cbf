package routing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
)

// journaled is a state of the engine (notification log, silences) that can be written whole and fed entries.
type journaled interface {
	MarshalBinary() ([]byte, error)
	Merge([]byte) error
	SetBroadcast(func([]byte))
	GC() (int, error)
}

// journal keeps a state on disk so that kill -9 forgets nothing that had been said: a snapshot of the whole, and beside
// it every entry since, as the engine would gossip it (length-delimited protobuf).
//
// Files: NAME (snapshot, replaced by rename), NAME.journal (entries since), NAME.journal.old (only between
// the two steps of a snapshot). Reading all three in any order gives the state, because entries carry their own
// time and the newest wins. A torn last entry is dropped. An entry is in the kernel before append returns and on
// the disk within a second (fsync each, when sync is set).
type journal struct {
	path  string
	state journaled
	sync  bool
	log   *zap.Logger

	mu     sync.Mutex // append is called under the state's own lock: nothing here may call the state under mu
	file   *os.File
	dirty  bool
	closed bool
	failed bool // the last write failed and has been logged
}

const maxEntry = 16 << 20

// openJournal feeds the entries on disk to state and records its new ones from then on.
func openJournal(path string, state journaled, sync bool, log *zap.Logger) (*journal, error) {
	j := &journal{path: path, state: state, sync: sync, log: log}
	for _, p := range []string{j.oldPath(), j.journalPath()} {
		if err := j.replay(p); err != nil {
			return nil, err
		}
	}
	if err := j.open(); err != nil {
		return nil, err
	}
	state.SetBroadcast(j.append)
	// Start from a clean pair of files; this also cuts a torn tail.
	if err := j.snapshot(); err != nil {
		_ = j.file.Close()
		return nil, err
	}
	return j, nil
}

func (j *journal) journalPath() string { return j.path + ".journal" }
func (j *journal) oldPath() string     { return j.path + ".journal.old" }

func (j *journal) open() error {
	f, err := os.OpenFile(j.journalPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	j.file = f
	return nil
}

func (j *journal) replay(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	for len(data) > 0 {
		size, n := binary.Uvarint(data)
		if n <= 0 || size > maxEntry || uint64(len(data)-n) < size {
			j.log.Warn("journal ends in a torn entry, dropped", zap.String("file", path), zap.Int("bytes", len(data)))
			return nil
		}
		end := n + int(size)
		if err := j.state.Merge(data[:end]); err != nil {
			j.log.Warn("journal entry unreadable, dropped", zap.String("file", path), zap.Error(err))
		}
		data = data[end:]
	}
	return nil
}

// append records one entry. It cannot fail the notification that it is about: a failed write is logged, and the next
// snapshot holds the entry anyway.
func (j *journal) append(entry []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	_, err := j.file.Write(entry)
	if err == nil && j.sync {
		err = j.file.Sync()
	}
	j.dirty = true
	j.report(err)
}

func (j *journal) report(err error) {
	if err != nil && !j.failed {
		j.log.Error("journal not written: after a crash notifications may repeat", zap.String("file", j.path), zap.Error(err))
	}
	j.failed = err != nil
}

// flush puts on the disk what the kernel holds.
func (j *journal) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.dirty || j.closed {
		return
	}
	j.report(j.file.Sync())
	j.dirty = false
}

// snapshot writes the whole state and starts an empty journal. Entries that come meanwhile go to the new journal,
// so each is in at least one file at every moment.
func (j *journal) snapshot() error {
	if err := j.rotate(); err != nil {
		return err
	}
	if _, err := j.state.GC(); err != nil {
		return fmt.Errorf("expire entries of %s: %w", j.path, err)
	}
	data, err := j.state.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode %s: %w", j.path, err)
	}
	if err := writeFile(j.path, data); err != nil {
		return err
	}
	if err := os.Remove(j.oldPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old journal: %w", err)
	}
	return nil
}

func (j *journal) rotate() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return fs.ErrClosed
	}
	if _, err := os.Stat(j.oldPath()); err == nil {
		// The last snapshot failed half-way: its old journal is still needed. Keep appending to the current one.
		return nil
	}
	if err := os.Rename(j.journalPath(), j.oldPath()); err != nil {
		return fmt.Errorf("rotate journal: %w", err)
	}
	old := j.file
	if err := j.open(); err != nil {
		return err // appends still reach the old file, which is still read at start
	}
	_ = old.Close()
	return nil
}

// close writes a last snapshot.
func (j *journal) close() error {
	err := j.snapshot()
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if e := j.file.Close(); err == nil {
		err = e
	}
	return err
}

// run flushes and takes snapshots until stop is closed.
func (j *journal) run(stop <-chan struct{}, every time.Duration) {
	flush, snap := time.NewTicker(time.Second), time.NewTicker(every)
	defer flush.Stop()
	defer snap.Stop()
	for {
		select {
		case <-stop:
			return
		case <-flush.C:
			j.flush()
		case <-snap.C:
			if err := j.snapshot(); err != nil {
				j.log.Error("snapshot failed; the journal still has everything", zap.Error(err))
			}
		}
	}
}

// writeFile replaces path by data so that a crash leaves the old or the new one, whole.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".tmp*")
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, err = f.Write(data)
	if e := f.Sync(); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", path, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// setAside moves an unreadable snapshot out of the way, keeping it for whoever wants to look.
func setAside(path string, now time.Time) (string, error) {
	to := fmt.Sprintf("%s.corrupt-%d", path, now.Unix())
	return to, os.Rename(path, to)
}
