package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Groups of components.
const (
	GroupKafka    = "kafka"    // the brokers
	GroupInfra    = "infra"    // everything that is not ours, brokers included
	GroupServices = "services" // Tocsin's services
)

// Stack is one folder's processes. Safe for concurrent use.
type Stack struct {
	opts       Options
	set        settings
	components []*component // in start order

	mu       sync.Mutex
	children map[string]chan struct{} // closed when the process that this program started is reaped
}

// New opens the stack in opts.Dir, making the folder if need be. It starts nothing.
func New(opts Options) (*Stack, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Stack{opts: opts, children: map[string]chan struct{}{}}
	if err := s.loadSettings(); err != nil {
		return nil, err
	}
	s.components = s.topology()
	for _, name := range opts.Only {
		if len(s.named(name)) == 0 {
			return nil, s.unknown(name)
		}
	}
	return s, nil
}

// Names lists the components in start order.
func (s *Stack) Names() []string {
	names := make([]string, len(s.components))
	for i, c := range s.components {
		names[i] = c.name
	}
	return names
}

// Addr is where a component listens, host:port; "" for an unknown name. "kafka" is the first broker;
// "ingest-gateway-grpc" and "kafka-1-controller" are ports of their own.
func (s *Stack) Addr(name string) string {
	if name == GroupKafka {
		name = "kafka-1"
	}
	port, ok := s.set.Ports[name]
	if !ok {
		return ""
	}
	return loopback(port)
}

// Brokers lists the addresses of all Kafka brokers.
func (s *Stack) Brokers() []string {
	var addrs []string
	for i := range s.set.Brokers {
		addrs = append(addrs, s.Addr(brokerName(i+1)))
	}
	return addrs
}

// Up starts what is not running and waits until all that was asked for is healthy: the stores together, then the services
// together. Idempotent. Nothing is stopped when one component fails; the error names each that did, with its last log lines.
func (s *Stack) Up(ctx context.Context) error {
	wanted := s.wanted()
	var missing []error
	for _, c := range wanted {
		if err := c.missing(); err != nil {
			missing = append(missing, err)
		}
	}
	if len(missing) > 0 {
		return errors.Join(missing...)
	}
	for _, infra := range []bool{true, false} {
		var batch []*component
		for _, c := range wanted {
			if c.in(GroupInfra) == infra {
				batch = append(batch, c)
			}
		}
		if err := s.each(batch, func(c *component) error { return s.start(ctx, c) }); err != nil {
			return err
		}
	}
	return nil
}

// Start starts one component, or each of a group, unless it runs already, and waits until it is healthy.
func (s *Stack) Start(ctx context.Context, name string) error {
	cs := s.named(name)
	if len(cs) == 0 {
		return s.unknown(name)
	}
	return s.each(cs, func(c *component) error {
		if err := c.missing(); err != nil {
			if c.optional && c.name != name {
				return nil
			}
			return err
		}
		return s.start(ctx, c)
	})
}

// Kill sends a signal to one component, or to each of a group. SIGKILL, SIGSTOP and SIGCONT reach its children too. It
// returns when the process is gone after SIGKILL, when it stands still after SIGSTOP, at once after any other. An error wrapping os.ErrProcessDone: it was not running.
func (s *Stack) Kill(name string, sig syscall.Signal) error {
	cs := s.named(name)
	if len(cs) == 0 {
		return s.unknown(name)
	}
	return s.each(cs, func(c *component) error {
		child := s.child(c.name) // first: what is started after this is not what is killed
		r, err := s.lookup(c.name)
		if err != nil {
			return err
		}
		if err := r.signal(sig); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		switch sig {
		case syscall.SIGKILL:
			if err := r.gone(ctx); err != nil {
				return err
			}
			s.reap(c.name, child)
		case syscall.SIGSTOP:
			return poll(ctx, func() error {
				if !frozen(r.PID) {
					return fmt.Errorf("process %d is not stopped yet", r.PID)
				}
				return nil
			})
		}
		return nil
	})
}

// Wait returns nil when the component's process has ended, at once if there is none, or ctx's error.
func (s *Stack) Wait(ctx context.Context, name string) error {
	cs := s.named(name)
	if len(cs) != 1 {
		return s.unknown(name)
	}
	r, err := s.lookup(cs[0].name)
	if err != nil {
		return err
	}
	return r.gone(ctx)
}

// Stop ends one component, or each of a group, gracefully; what outlives its time for that is killed, which is an error.
// A component that does not run is no error.
func (s *Stack) Stop(ctx context.Context, name string) error {
	cs := s.named(name)
	if len(cs) == 0 {
		return s.unknown(name)
	}
	return s.each(cs, func(c *component) error { return s.stop(ctx, c) })
}

// Down stops everything that this folder started, services first. Idempotent. Data stays.
func (s *Stack) Down(ctx context.Context) error {
	var errs []error
	for _, infra := range []bool{false, true} {
		var batch []*component
		for _, c := range s.components {
			if c.in(GroupInfra) == infra {
				batch = append(batch, c)
			}
		}
		errs = append(errs, s.each(batch, func(c *component) error { return s.stop(ctx, c) }))
	}
	return errors.Join(errs...)
}

// Purge deletes what a stopped stack keeps: data, logs, settings. Shared jars stay. The Stack must not be used afterwards.
func (s *Stack) Purge() error {
	for _, c := range s.components {
		r, err := s.lookup(c.name)
		if err != nil {
			return err
		}
		if r.alive() {
			return fmt.Errorf("stack: %s still runs: bring the stack down first", c.name)
		}
	}
	var errs []error
	for _, kept := range []string{"run", "logs", "data", "conf", "tocsin.yaml", "stack.json"} {
		errs = append(errs, os.RemoveAll(filepath.Join(s.opts.Dir, kept)))
	}
	return errors.Join(errs...)
}

// start brings c to health.
func (s *Stack) start(ctx context.Context, c *component) error {
	release, err := s.lock(ctx, c.name)
	if err != nil {
		return err
	}
	defer release()
	r, err := s.lookup(c.name)
	if err != nil {
		return err
	}
	begin := time.Now()
	running := r.alive()
	if !running {
		s.reaped(c.name)
		if err := s.portsFree(ctx, c); err != nil {
			return err
		}
		cmd, err := c.prepare(ctx)
		if err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		if r, err = s.launch(c.name, cmd); err != nil {
			return err
		}
	}
	if err := s.awaitHealth(ctx, c, r); err != nil {
		return err
	}
	if c.after != nil {
		if err := c.after(ctx); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
	}
	if running {
		s.say("%-18s already running, pid %d, %s", c.name, r.PID, s.Addr(c.name))
	} else {
		s.say("%-18s healthy after %.1f s, pid %d, %s", c.name, time.Since(begin).Seconds(), r.PID, s.Addr(c.name))
	}
	return nil
}

// portsFree waits a moment for the ports of a process that has just been killed.
func (s *Stack) portsFree(ctx context.Context, c *component) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, p := range c.ports {
		port := s.set.Ports[p]
		if err := poll(ctx, func() error { return portFree(port) }); err != nil {
			return fmt.Errorf("port %d is taken by something that this stack did not start (%w); choose others with --port-offset", port, err)
		}
	}
	return nil
}

func (s *Stack) awaitHealth(ctx context.Context, c *component, r record) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.HealthTimeout)
	defer cancel()
	var died bool
	err := poll(ctx, func() error {
		if died = !r.alive(); died {
			return nil
		}
		probe, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return c.healthy(probe)
	})
	switch {
	case died:
		s.reaped(c.name)
		return fmt.Errorf("it ended before it was healthy; the end of %s:\n%s", s.LogFile(c.name), s.tailFrom(c.name, r.LogFrom, 20))
	case err != nil:
		return fmt.Errorf("not healthy (it still runs, pid %d): %w; the end of %s:\n%s",
			r.PID, err, s.LogFile(c.name), s.tailFrom(c.name, r.LogFrom, 20))
	}
	return nil
}

// each runs f for all components at once and joins the errors, prefixed with the component's name.
func (s *Stack) each(cs []*component, f func(*component) error) error {
	errs := make([]error, len(cs))
	var wg sync.WaitGroup
	for i, c := range cs {
		wg.Go(func() {
			if err := f(c); err != nil {
				errs[i] = fmt.Errorf("%s: %w", c.name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// wanted lists what Up starts: Options.Only and all that it needs.
func (s *Stack) wanted() []*component {
	absent := func(c *component) bool {
		return c.optional && !slices.Contains(s.opts.Only, c.name) && c.missing() != nil
	}
	if len(s.opts.Only) == 0 {
		return slices.DeleteFunc(slices.Clone(s.components), absent)
	}
	want := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		for _, c := range s.named(name) {
			if !want[c.name] {
				want[c.name] = true
				for _, n := range c.needs {
					add(n)
				}
			}
		}
	}
	for _, name := range s.opts.Only {
		add(name)
	}
	return slices.DeleteFunc(slices.Clone(s.components), func(c *component) bool { return !want[c.name] || absent(c) })
}

// named lists the component called name, or the members of the group so called.
func (s *Stack) named(name string) []*component {
	var cs []*component
	for _, c := range s.components {
		if c.name == name || c.in(name) {
			cs = append(cs, c)
		}
	}
	return cs
}

func (s *Stack) unknown(name string) error {
	return fmt.Errorf("stack: no component is called %q; there are: %s; and the groups %s, %s, %s",
		name, strings.Join(s.Names(), ", "), GroupKafka, GroupInfra, GroupServices)
}

func (s *Stack) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.opts.Progress, format+"\n", args...)
}
