package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// stop ends c and forgets it.
func (s *Stack) stop(ctx context.Context, c *component) error {
	release, err := s.lock(ctx, c.name)
	if err != nil {
		return err
	}
	defer release()
	r, err := s.lookup(c.name)
	if err != nil {
		return err
	}
	var killed error
	if r.alive() {
		how, err := terminate(ctx, c, r)
		if err != nil {
			if killed = err; r.alive() {
				return err
			}
		}
		s.say("%-18s %s", c.name, how)
	}
	s.reaped(c.name)
	if err := os.Remove(s.recordFile(c.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(killed, err)
	}
	return killed
}

// strandedFor is how long a process may still take that waits for what is gone: it may have had its answer just before.
const strandedFor = 5 * time.Second

var errStranded = errors.New("it waits for what is gone")

// terminate asks, wakes what a SIGSTOP froze so that it can hear, waits, and kills at last. It says how the process ended. That a stranded one had to be killed is no error.
func terminate(ctx context.Context, c *component, r record) (how string, err error) {
	for _, sig := range []syscall.Signal{c.stopSignal, syscall.SIGCONT} {
		if err := r.signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return "", err
		}
	}
	late := r.stops(ctx, c)
	if late == nil {
		return "stopped", nil
	}
	if err := r.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return "", err
	}
	dead, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := r.gone(dead); err != nil {
		return "", err
	}
	if errors.Is(late, errStranded) {
		return "killed, for " + late.Error(), nil
	}
	return "killed", fmt.Errorf("killed, for it did not stop in time: %w", late)
}

// stops waits until the process has ended, as long as the component may take.
func (r record) stops(ctx context.Context, c *component) error {
	ctx, cancel := context.WithTimeout(ctx, c.stopTimeout)
	defer cancel()
	var since time.Time
	stranded := false
	err := poll(ctx, func() error {
		switch {
		case !r.alive():
			return nil
		case c.stranded == nil || !c.stranded():
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > strandedFor:
			stranded = true
			return nil
		}
		return fmt.Errorf("process %d still runs", r.PID)
	})
	if stranded {
		return errStranded
	}
	return err
}
