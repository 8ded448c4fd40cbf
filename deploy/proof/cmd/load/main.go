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

// scenario runs on one stack of its own, or makes a stack for each of its runs.
type scenario struct {
	name  string
	only  []string
	run   func(context.Context, *load.World) (*load.Report, error)
	fresh func(context.Context, load.Fresh) (*load.Report, error)
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	out := flags.String("out", "out", "folder for load-<scenario>.json")
	var at place
	flags.StringVar(&at.bin, "bin", "", "folder of the built binaries; empty: the repository's bin")
	flags.StringVar(&at.dir, "dir", "", "folder for the stacks' data; empty: a temporary one, removed at the end")
	scenarios := scenarios(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	names := flags.Args()
	if len(names) == 0 {
		names = []string{"restore", "poison", "hot"}
	}
	var broken []error
	for _, name := range names {
		i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return fmt.Errorf("no scenario %q; there are restore, poison, hot, pages, burst, outage", name)
		}
		if err := one(ctx, scenarios[i], at, *out); err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(broken...)
}

// scenarios are all of them; their sizes are set by flags.
func scenarios(flags *flag.FlagSet) []scenario {
	restore, poison, hot := load.DefaultRestore(), load.DefaultPoison(), load.DefaultHot()
	pages, burst, outage := load.DefaultPages(), load.DefaultBurst(), load.DefaultOutage()
	flags.IntVar(&restore.Repeats, "repeat", restore.Repeats, "restore: how often the processor is killed")
	flags.Int64Var(&restore.StateMB, "state", restore.StateMB, "restore: megabytes of state")
	flags.StringVar(&restore.Profile, "profile", "", "restore: file for a CPU profile of the last restore; pages, burst: folder for profiles of each run")
	flags.IntVar(&poison.Records, "records", poison.Records, "poison: records")
	flags.IntVar(&poison.Huge, "huge", poison.Huge, "poison: records of megabytes among the poison")
	flags.BoolVar(&poison.Retry, "retry", poison.Retry, "poison: repair, and retry the dead letters")
	flags.DurationVar(&hot.Phase, "phase", hot.Phase, "hot: length of each phase")
	flags.IntVar(&hot.PerS, "rate", hot.PerS, "hot: frames a second of all other machines")
	flags.DurationVar(&hot.Slow, "slow", hot.Slow, "hot: how long the writer is frozen; 0: not")
	flags.BoolVar(&hot.Overload, "overload", hot.Overload, "hot: the phase through the gateway")
	flags.IntVar(&pages.PerS, "pages", pages.PerS, "pages: alerts a second")
	length := flags.Duration("length", 0, "pages: length of each run; 0: 3 minutes the first, 1 minute the others")
	runs := flags.Int("runs", len(pages.Runs), "pages, burst: only so many of the router's settings")
	flags.IntVar(&burst.Alerts, "burst", burst.Alerts, "burst: alerts")
	flags.IntVar(&burst.Groups, "groups", burst.Groups, "burst: groups")
	flags.StringVar(&burst.Peer, "alertmanager", "", "burst: Alertmanager's program; empty: the one that is installed")
	flags.BoolVar(&burst.PeerNeeded, "beside", burst.PeerNeeded, "burst: fail where Alertmanager is not installed")
	flags.DurationVar(&outage.Away, "away", outage.Away, "outage: how long the receiver is away")
	flags.IntVar(&outage.Kills, "kills", outage.Kills, "outage: how often the router is killed meanwhile")
	flags.Float64Var(&outage.Rate, "alerts", outage.Rate, "outage: alerts a second")
	flags.StringVar(&outage.Journal, "journal", outage.Journal, "outage: the router's journal, sqlite or postgresql")
	return []scenario{
		{name: "restore", only: load.RestoreNeeds(), run: func(ctx context.Context, w *load.World) (*load.Report, error) { return load.Restore(ctx, w, restore) }},
		{name: "poison", run: func(ctx context.Context, w *load.World) (*load.Report, error) { return load.Poison(ctx, w, poison) }},
		{name: "hot", run: func(ctx context.Context, w *load.World) (*load.Report, error) { return load.Hot(ctx, w, hot) }},
		{name: "pages", fresh: func(ctx context.Context, fresh load.Fresh) (*load.Report, error) {
			pages.Profile, pages.Runs = restore.Profile, pages.Runs[:min(*runs, len(pages.Runs))]
			for i := range pages.Runs {
				if *length > 0 {
					pages.Runs[i].Length = *length
				}
			}
			return load.Pages(ctx, fresh, pages)
		}},
		{name: "burst", fresh: func(ctx context.Context, fresh load.Fresh) (*load.Report, error) {
			burst.Profile, burst.Routers = restore.Profile, burst.Routers[:min(*runs, len(burst.Routers))]
			return load.Burst(ctx, fresh, burst)
		}},
		{name: "outage", fresh: func(ctx context.Context, fresh load.Fresh) (r *load.Report, err error) {
			w, down, err := fresh(ctx, load.RouterNeeds(outage.Journal))
			if err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, down()) }()
			return load.Outage(ctx, w, outage)
		}},
	}
}

// place is where the binaries are and where stacks keep their data.
type place struct{ bin, dir string }

// stack is a new one, not started yet. down stops it and removes what it kept, unless that is kept on purpose.
func (p place) stack(name string, only []string, progress func(string)) (w *load.World, down func() error, err error) {
	dir := p.dir
	remove := func() error { return nil }
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tocsin-load-"); err != nil {
			return nil, nil, err
		}
		remove = func() error { return os.RemoveAll(dir) }
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, nil, errors.Join(err, remove())
		}
	} else {
		dir = filepath.Join(dir, name)
	}
	s, err := stack.New(stack.Options{Dir: dir, Bin: p.bin, PortOffset: stack.AutoPorts, Only: only, Ephemeral: true, Progress: lines(progress)})
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	down = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return errors.Join(s.Down(ctx), remove())
	}
	if w, err = load.NewWorld(s, p.bin, progress); err != nil {
		return nil, nil, errors.Join(err, down())
	}
	return w, down, nil
}

// one runs a scenario on a new stack, or on several.
func one(ctx context.Context, sc scenario, at place, out string) (err error) {
	began := time.Now()
	progress := func(s string) { fmt.Printf("%7.1f s  %s\n", time.Since(began).Seconds(), s) }
	var r *load.Report
	if sc.fresh != nil {
		n := 0
		r, err = sc.fresh(ctx, func(_ context.Context, only []string) (*load.World, func() error, error) {
			n++
			return at.stack(fmt.Sprintf("%s-%d", sc.name, n), only, progress)
		})
	} else {
		var w *load.World
		var down func() error
		if w, down, err = at.stack(sc.name, sc.only, progress); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, down()) }()
		r, err = sc.run(ctx, w)
	}
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
