// Command load runs the scenarios of package load at full size, each on a stack of its own, and writes a report of each: make load.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/proof/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

type scenario struct {
	name string
	only []string
	run  func(context.Context, *load.World) (*load.Report, error)
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	out := flags.String("out", "out", "folder for load-<scenario>.json")
	bin := flags.String("bin", "", "folder of the built binaries; empty: the repository's bin")
	dir := flags.String("dir", "", "folder for the stacks' data; empty: a temporary one, removed at the end")
	restore, poison, hot := load.DefaultRestore(), load.DefaultPoison(), load.DefaultHot()
	flags.IntVar(&restore.Repeats, "repeat", restore.Repeats, "restore: how often the processor is killed")
	flags.Int64Var(&restore.StateMB, "state", restore.StateMB, "restore: megabytes of state")
	flags.StringVar(&restore.Profile, "profile", "", "restore: file for a CPU profile of the last restore")
	flags.IntVar(&poison.Records, "records", poison.Records, "poison: records")
	flags.IntVar(&poison.Huge, "huge", poison.Huge, "poison: records of megabytes among the poison")
	flags.BoolVar(&poison.Retry, "retry", poison.Retry, "poison: repair, and retry the dead letters")
	flags.DurationVar(&hot.Phase, "phase", hot.Phase, "hot: length of each phase")
	flags.IntVar(&hot.PerS, "rate", hot.PerS, "hot: frames a second of all other machines")
	flags.DurationVar(&hot.Slow, "slow", hot.Slow, "hot: how long the writer is frozen; 0: not")
	flags.BoolVar(&hot.Overload, "overload", hot.Overload, "hot: the phase through the gateway")
	if err := flags.Parse(args); err != nil {
		return err
	}
	scenarios := []scenario{
		{"restore", load.RestoreNeeds(), func(ctx context.Context, w *load.World) (*load.Report, error) { return load.Restore(ctx, w, restore) }},
		{"poison", nil, func(ctx context.Context, w *load.World) (*load.Report, error) { return load.Poison(ctx, w, poison) }},
		{"hot", nil, func(ctx context.Context, w *load.World) (*load.Report, error) { return load.Hot(ctx, w, hot) }},
	}
	names := flags.Args()
	if len(names) == 0 {
		names = []string{"restore", "poison", "hot"}
	}
	var broken []error
	for _, name := range names {
		at := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if at < 0 {
			return fmt.Errorf("no scenario %q; there are restore, poison, hot", name)
		}
		if err := one(ctx, scenarios[at], *bin, *dir, *out); err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(broken...)
}

// one runs a scenario on a new stack.
func one(ctx context.Context, sc scenario, bin, dir, out string) (err error) {
	temporary := dir == ""
	if temporary {
		if dir, err = os.MkdirTemp("", "tocsin-load-"); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else {
		dir = filepath.Join(dir, sc.name)
	}
	began := time.Now()
	progress := func(s string) { fmt.Printf("%7.1f s  %s\n", time.Since(began).Seconds(), s) }
	s, err := stack.New(stack.Options{Dir: dir, Bin: bin, PortOffset: stack.AutoPorts, Only: sc.only, Ephemeral: true, Progress: lines(progress)})
	if err != nil {
		return err
	}
	defer func() {
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, s.Down(down))
	}()
	w, err := load.NewWorld(s, bin, progress)
	if err != nil {
		return err
	}
	r, err := sc.run(ctx, w)
	if err != nil {
		return err
	}
	r.Print(os.Stdout)
	if err := r.Write(out); err != nil {
		return err
	}
	if !r.OK {
		return fmt.Errorf("%d promises were broken", len(r.Broken))
	}
	return nil
}

// lines passes a writer's text on.
type lines func(string)

func (l lines) Write(b []byte) (int, error) {
	l(string(b[:max(0, len(b)-1)]))
	return len(b), nil
}
