package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/proof/history"
)

// Options of a run.
type Options struct {
	// Repo is the repository's root.
	Repo string
	// Bin holds the services' binaries; empty: <Repo>/bin.
	Bin string
	// Dir is where worlds keep their data and logs; those of sections that failed stay. Empty: the system's folder for temporary files.
	Dir string
	// Plan says which faults; see Full and Slice.
	Plan []Section
	// Progress gets a line for each thing that happens.
	Progress io.Writer
	// Log gets what the harness itself has to say.
	Log *zap.Logger
	// Verbose shows the stack's own progress too.
	Verbose bool
}

func (o Options) stackProgress() io.Writer {
	if o.Verbose {
		return o.Progress
	}
	return nil
}

// keepBinaries links the services' binaries into a folder of the run's own: a build meanwhile must not change what is killed and started again.
func (o Options) keepBinaries() (dir string, err error) {
	from := cmp.Or(o.Bin, filepath.Join(o.Repo, "bin"))
	if dir, err = os.MkdirTemp(o.Dir, "tocsin-chaos-bin-"); err != nil {
		return "", err
	}
	for _, name := range []string{gateway, processor, router, writer, live} {
		err := os.Link(filepath.Join(from, name), filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = &stack.MissingError{Component: name, What: filepath.Join(from, name), Install: "make build"}
		case err != nil: // another disk
			var b []byte
			if b, err = os.ReadFile(filepath.Join(from, name)); err == nil {
				err = os.WriteFile(filepath.Join(dir, name), b, 0o755)
			}
		}
		if err != nil {
			return "", errors.Join(err, os.RemoveAll(dir))
		}
	}
	return dir, nil
}

// Section is one world, what is done to it, and one check.
type Section struct {
	Name  string
	World WorldConfig
	// Phases are what goes wrong in it.
	Phases func(*world) phases
}

// Run does all sections and returns the scoreboard. The error says that a section could not be run or checked; broken promises stand in the
// board.
func Run(ctx context.Context, o Options) (*Board, error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.Progress = &lines{w: o.Progress, begin: time.Now()}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o755); err != nil {
			return nil, err
		}
	}
	bin, err := o.keepBinaries()
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(bin) }()
	o.Bin = bin
	board := newBoard()
	var errs []error
	for _, s := range o.Plan {
		result, err := runSection(ctx, s, o)
		if result != nil {
			board.add(result)
		}
		if err != nil {
			err = fmt.Errorf("section %s: %w", s.Name, err)
			fmt.Fprintf(o.Progress, "FAILED %v\n", err)
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	board.finish()
	return board, errors.Join(errs...)
}

// sectionResult is what a section showed.
type sectionResult struct {
	name     string
	outcomes []outcome
	exits    []string // services that ended by themselves
	report   *history.Report
	sent     int64
	acked    int64
	told     int
	turned   int // notifications that the receiver turned away
	took     time.Duration
	logs     string // where the logs are, if something failed
}

func (r *sectionResult) failed() bool {
	if r.report == nil || !r.report.OK() {
		return true
	}
	for _, o := range r.outcomes {
		if o.stalled != nil || o.breaking != nil {
			return true
		}
	}
	return false
}

func runSection(ctx context.Context, s Section, o Options) (result *sectionResult, err error) {
	begin := time.Now()
	dir, err := os.MkdirTemp(o.Dir, "tocsin-chaos-"+s.Name+"-")
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Progress, "section %s: starting the stack in %s\n", s.Name, dir)
	w, err := startWorld(ctx, dir, s.World, o)
	if err != nil {
		return nil, fmt.Errorf("%w (logs: %s)", err, filepath.Join(dir, "logs"))
	}
	result = &sectionResult{name: s.Name}
	defer func() {
		result.took = time.Since(begin)
		err = errors.Join(err, w.close(context.WithoutCancel(ctx)))
		if err != nil || result.failed() {
			result.logs = filepath.Join(dir, "logs")
			return
		}
		err = os.RemoveAll(dir)
	}()
	fmt.Fprintf(o.Progress, "section %s: everything flows after %.1f s\n", s.Name, time.Since(begin).Seconds())
	for _, lanes := range s.Phases(w) {
		result.outcomes = append(result.outcomes, runLanes(ctx, lanes, o.Progress)...)
	}
	fmt.Fprintf(o.Progress, "section %s: %d faults done; letting it come to rest\n", s.Name, len(result.outcomes))
	resting := time.Now()
	result.report, err = w.check(ctx, 2*time.Minute)
	result.sent, result.acked = w.fleet.sent.Load(), w.fleet.acked.Load()
	told, turned := w.people.notifications()
	result.told, result.turned, result.exits = len(told), turned, w.super.exits()
	if err != nil {
		return result, fmt.Errorf("check: %w", err)
	}
	fmt.Fprintf(o.Progress, "section %s: %d frames acknowledged, %v found, checked in %.1f s\n",
		s.Name, result.acked, result.report.Found, time.Since(resting).Seconds())
	for i, f := range result.report.Findings {
		if i == 20 {
			fmt.Fprintf(o.Progress, "  ... and %d more\n", len(result.report.Findings)-i)
			break
		}
		fmt.Fprintf(o.Progress, "  %s: %s: %s\n", f.Kind, f.Where, f.Detail)
	}
	return result, nil
}

func runLanes(ctx context.Context, lanes [][]fault, progress io.Writer) []outcome {
	var mu sync.Mutex
	var all []outcome
	var wg sync.WaitGroup
	for _, lane := range lanes {
		wg.Go(func() {
			for i, f := range lane {
				if ctx.Err() != nil {
					return
				}
				out := f.run(ctx)
				mu.Lock()
				all = append(all, out)
				mu.Unlock()
				state := fmt.Sprintf("recovered in %.2f s", out.took.Seconds())
				switch {
				case out.breaking != nil:
					state = "FAILED: " + out.breaking.Error()
				case out.stalled != nil:
					state = "STALLED: " + out.stalled.Error()
				}
				fmt.Fprintf(progress, "  %3d/%-3d %-34s %s\n", i+1, len(lane), f.what, state)
			}
		})
	}
	wg.Wait()
	return all
}

// lines puts the time before each line; safe for concurrent use.
type lines struct {
	mu    sync.Mutex
	w     io.Writer
	begin time.Time
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := time.Since(l.begin).Truncate(time.Second)
	if _, err := fmt.Fprintf(l.w, "%02d:%02d %s", int(d.Minutes()), int(d.Seconds())%60, b); err != nil {
		return 0, err
	}
	return len(b), nil
}
