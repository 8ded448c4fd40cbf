package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// How often a process or its health is looked at.
const pollInterval = 50 * time.Millisecond

// A log larger than this is moved aside when its process starts again.
const maxLogBytes = 64 << 20

// command is what is executed for a component.
type command struct {
	path string
	args []string
	env  []string // added to this program's environment
	cred *syscall.Credential
}

// record is what run/<name>.json says about a started process.
type record struct {
	PID     int       `json:"pid"`
	Birth   string    `json:"birth"`
	Started time.Time `json:"started"`
	LogFrom int64     `json:"log_from"` // where this start's output begins in the log
}

func (r record) alive() bool {
	if r.PID <= 0 {
		return false
	}
	id, ok, err := birth(r.PID)
	return err == nil && ok && id == r.Birth
}

// signal sends sig. KILL, STOP and CONT go to the whole process group: the component as a whole dies or freezes.
func (r record) signal(sig syscall.Signal) error {
	if !r.alive() {
		return os.ErrProcessDone
	}
	pid := r.PID
	if sig == syscall.SIGKILL || sig == syscall.SIGSTOP || sig == syscall.SIGCONT {
		pid = -pid
	}
	err := syscall.Kill(pid, sig)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// gone waits until the process has ended.
func (r record) gone(ctx context.Context) error {
	return poll(ctx, func() error {
		if r.alive() {
			return fmt.Errorf("process %d still runs", r.PID)
		}
		return nil
	})
}

// poll calls f until it returns nil or ctx ends; then it returns f's last error with ctx's.
func poll(ctx context.Context, f func() error) error {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-t.C:
		}
	}
}

func (s *Stack) recordFile(name string) string { return filepath.Join(s.opts.Dir, "run", name+".json") }

// LogFile is where the component's output goes.
func (s *Stack) LogFile(name string) string { return filepath.Join(s.opts.Dir, "logs", name+".log") }

// lookup reads the component's record; the zero record when it was never started or was stopped.
func (s *Stack) lookup(name string) (record, error) {
	var r record
	b, err := os.ReadFile(s.recordFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", s.recordFile(name), err)
	}
	return r, nil
}

// launch starts cmd in a session of its own and records it.
func (s *Stack) launch(name string, c command) (record, error) {
	out, from, err := s.openLog(name)
	if err != nil {
		return record{}, err
	}
	defer out.Close()                      // the child has its own copy
	cmd := exec.Command(c.path, c.args...) //nolint:gosec,noctx // ours, and must outlive any context
	cmd.Dir = s.opts.Dir
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.cred}
	if s.opts.Ephemeral {
		dieWithParent(cmd.SysProcAttr)
	}
	if err := cmd.Start(); err != nil {
		return record{}, fmt.Errorf("start %s: %w", c.path, err)
	}
	id, _, err := birth(cmd.Process.Pid) // our unreaped child: its stat is there even if it has died already
	r := record{PID: cmd.Process.Pid, Birth: id, Started: time.Now(), LogFrom: from}
	if err == nil {
		err = s.writeRecord(name, r)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return record{}, err
	}
	done := make(chan struct{})
	go func() { // reap it, for as long as this program lives
		_ = cmd.Wait()
		close(done)
	}()
	s.mu.Lock()
	s.children[name] = done
	s.mu.Unlock()
	return r, nil
}

// reaped waits for the goroutine that launch left for the component's last process, which has ended.
func (s *Stack) reaped(name string) { s.reap(name, s.child(name)) }

// child is what launch left for the component's last process; nil: there is none, or it was reaped.
func (s *Stack) child(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.children[name]
}

// reap waits for that process, which may not be the component's last one any more: somebody who waited for its end may have started the next.
func (s *Stack) reap(name string, done chan struct{}) {
	if done == nil {
		return
	}
	<-done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.children[name] == done {
		delete(s.children, name)
	}
}

func (s *Stack) writeRecord(name string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(s.recordFile(name), append(b, '\n'), 0o644)
}

func (s *Stack) openLog(name string) (f *os.File, size int64, err error) {
	path := s.LogFile(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, 0, err
	}
	if st, err := os.Stat(path); err == nil && st.Size() > maxLogBytes {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, err
		}
	}
	f, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}

// writeFile replaces path in one step, making its folder. Several callers may write one path at once.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// lock holds the component for this call; another call or program waits until release or ctx's end.
func (s *Stack) lock(ctx context.Context, name string) (release func(), err error) {
	dir := filepath.Join(s.opts.Dir, "run")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = poll(ctx, func() error {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return fmt.Errorf("%s is being started or stopped elsewhere: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // closing gives the lock back
}
