package chaos

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// fault is one thing that goes wrong, once.
type fault struct {
	row  string // of the scoreboard
	what string // which of its kind, for the log
	// break does it. heal, if there is one, undoes it after hold.
	inject func(context.Context) error
	hold   time.Duration
	heal   func(context.Context) error
	// recovered lists what must hold afterwards; it is called at the moment from which recovery counts: that of the fault, or of its healing.
	recovered func() []condition
	// times says how many faults of the row this is; 0: one.
	times int
	// fromInjected: recovery counts from the end of inject, which takes its time.
	fromInjected bool
	// pause before it, so that faults of several lanes meet in ever new ways.
	pause time.Duration
	// target is the promised time; patience is how long is waited before it counts as a stall.
	target time.Duration
	// during must hold before the fault is healed: a clear refusal, say.
	during func() []condition
}

// patience is how long recovery may take before the fault counts as a stall.
const patience = 90 * time.Second

// outcome of one fault.
type outcome struct {
	row      string
	times    int
	took     time.Duration
	target   time.Duration
	stalled  error // it did not recover within patience
	breaking error // it could not be done
}

// run does the fault and waits until the world has recovered.
func (f fault) run(ctx context.Context) outcome {
	out := outcome{row: f.row, times: max(f.times, 1), target: f.target}
	rest(ctx, f.pause)
	since := time.Now()
	if err := f.inject(ctx); err != nil {
		out.breaking = fmt.Errorf("%s: %w", f.what, err)
		return out
	}
	if f.fromInjected {
		since = time.Now()
	}
	if f.heal != nil {
		rest(ctx, f.hold)
		var missing error
		if f.during != nil {
			_, missing = await(ctx, since, patience, f.during()...)
		}
		since = time.Now()
		if err := f.heal(context.WithoutCancel(ctx)); err != nil {
			out.breaking = fmt.Errorf("heal %s: %w", f.what, err)
			return out
		}
		if missing != nil {
			out.breaking = fmt.Errorf("%s: while it lasted: %w", f.what, missing)
			return out
		}
	}
	took, err := await(ctx, since, patience, f.recovered()...)
	out.took = took
	if err != nil {
		out.stalled = fmt.Errorf("%s: %w", f.what, err)
	}
	return out
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// kill is kill -9 of one instance; the supervisor starts it again at once.
func (w *world) kill(instance, service string) fault {
	f := fault{row: "kill -9 " + service, what: "kill -9 " + instance, target: killTargets[service]}
	f.inject = func(context.Context) error { return w.super.signal(instance, syscall.SIGKILL) }
	f.recovered = func() []condition {
		return append(w.serves(service), w.watch.isReady(instance, w.stack.Addr(instance)))
	}
	return f
}

var killTargets = map[string]time.Duration{ //nolint:gochecknoglobals // a constant table
	processor: 20 * time.Second, gateway: 5 * time.Second, writer: 10 * time.Second, router: 10 * time.Second, live: 10 * time.Second,
}

// serves holds when the service's part of the way is passed by what came after now: for the gateway an acknowledgement of a frame sent
// since, for the others that all instances together have committed what has come since.
func (w *world) serves(service string) []condition {
	switch service {
	case gateway:
		return []condition{w.acks(time.Now())}
	case processor:
		return []condition{w.watch.passes(processor, topic.Frames)}
	case router:
		return []condition{w.watch.passes(router, topic.Anomalies)}
	case writer:
		return []condition{w.watch.passes(writer, topic.Readings)}
	default:
		return nil
	}
}

// freeze is SIGSTOP of one instance beyond its session, so that the other takes over its partitions, then SIGCONT: a zombie that does not know.
func (w *world) freeze(instance, service string) fault {
	f := fault{row: "zombie " + service, what: "SIGSTOP " + instance, target: 20 * time.Second, hold: sessionTimeout * 3 / 2}
	f.inject = func(context.Context) error { return w.stack.Kill(instance, syscall.SIGSTOP) }
	f.heal = func(context.Context) error { return w.stack.Kill(instance, syscall.SIGCONT) }
	// While it is frozen the other instance must have taken over.
	f.during = func() []condition { return w.serves(service) }
	f.recovered = func() []condition {
		return append(w.serves(service), w.watch.isReady(instance, w.stack.Addr(instance)))
	}
	return f
}
