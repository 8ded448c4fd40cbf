// Package accuracy judges the detection of Tocsin on public data sets: it runs `tocsin backtest`, the production path, over their files, and scores the
// verdicts by each set's published protocol, beside two controls and what others reached.
package accuracy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/deploy/accuracy/learning"
	"github.com/tocsin-io/tocsin/deploy/accuracy/report"
	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// Options of a run.
type Options struct {
	Data     string   // root of the data sets
	Only     []string // names of sets; empty: all
	Files    int      // the first so many of each set; 0: all
	Runner   trial.Runner
	Parallel int // files judged side by side; 0: GOMAXPROCS
	// Progress is told of each file once it is judged, one call at a time; nil: nobody is.
	Progress func(done, total int, name string, took time.Duration)
}

// ErrNoData means that no set could be found.
var ErrNoData = errors.New("none of the data sets is there")

// Run judges the sets. A set whose files are not there is reported as missing, and is an error only if it was asked for by name or if there is no other.
func Run(ctx context.Context, opt Options) (*report.Report, error) {
	chosen, learned, err := choose(opt.Only)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	r := &report.Report{Made: began.UTC().Truncate(time.Second), Config: "shipped default", Data: opt.Data, Controls: report.ControlsAre}
	if opt.Runner.Config != "" {
		r.Config = opt.Runner.Config
	}
	var work []*setRun
	for _, s := range chosen {
		trials, err := load(s, filepath.Join(opt.Data, s.Name))
		if err != nil {
			if len(opt.Only) > 0 {
				return nil, fmt.Errorf("%s: %w\nit needs %s below the data root", s.Name, err, s.Layout)
			}
			r.Missing = append(r.Missing, report.Missing{Name: s.Name, Reason: err.Error(), Layout: s.Layout})
			continue
		}
		if opt.Files > 0 && len(trials) > opt.Files {
			trials, r.Partial = trials[:opt.Files], true
		}
		work = append(work, &setRun{set: s, trials: trials, verdicts: make([]*trial.Verdicts, len(trials)), signals: make([][]trial.Signal, len(trials)), took: make([]time.Duration, len(trials))})
	}
	if err := judge(ctx, work, opt); err != nil {
		return nil, err
	}
	for _, w := range work {
		s, err := w.report()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.set.Name, err)
		}
		r.Sets = append(r.Sets, s)
	}
	for _, l := range learned {
		s, err := l.Judge(ctx, opt.Runner.Binary, opt.Data)
		switch {
		case errors.Is(err, learning.ErrMissing) && len(opt.Only) == 0:
			r.Missing = append(r.Missing, report.Missing{Name: l.Name, Reason: err.Error(), Layout: l.Layout})
		case err != nil:
			return nil, fmt.Errorf("%w\nit needs %s below the data root", err, l.Layout)
		default:
			r.Sets = append(r.Sets, s)
			if opt.Progress != nil {
				opt.Progress(1, 1, l.Name, time.Duration(s.Seconds*float64(time.Second)))
			}
		}
	}
	if len(r.Sets) == 0 {
		return nil, ErrNoData
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

// choose finds sets by name: those that streams are judged in, and those that models learn from.
func choose(only []string) (streams []*sets.Set, learned []*learning.Set, err error) {
	all, others := sets.All(), learning.All()
	if len(only) == 0 {
		return all, others, nil
	}
	names := ""
	for _, s := range all {
		names += " " + s.Name
	}
	for _, s := range others {
		names += " " + s.Name
	}
	for _, name := range only {
		before := len(streams) + len(learned)
		for _, s := range all {
			if s.Name == name {
				streams = append(streams, s)
			}
		}
		for _, s := range others {
			if s.Name == name {
				learned = append(learned, s)
			}
		}
		if len(streams)+len(learned) == before {
			return nil, nil, fmt.Errorf("no set %q; there are%s", name, names)
		}
	}
	return streams, learned, nil
}

func load(s *sets.Set, dir string) ([]*trial.Trial, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	trials, err := s.Load(dir)
	if err != nil {
		return nil, err
	}
	if len(trials) == 0 {
		return nil, fmt.Errorf("%s has no files of it", dir)
	}
	for _, t := range trials {
		if err := t.Check(); err != nil {
			return nil, err
		}
	}
	return trials, nil
}

// plotted is how many sensors of a file the page shows.
const plotted = 3

// setRun is a set on its way.
type setRun struct {
	set      *sets.Set
	trials   []*trial.Trial
	verdicts []*trial.Verdicts
	signals  [][]trial.Signal
	took     []time.Duration
}

// judge runs all files of all sets side by side. The first failure stops the rest.
func judge(ctx context.Context, work []*setRun, opt Options) error {
	type job struct {
		set *setRun
		i   int
	}
	var jobs []job
	for _, w := range work {
		for i := range w.trials {
			jobs = append(jobs, job{w, i})
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu   sync.Mutex // guards next and done, and lets one report progress at a time
		next int
		done int
		wg   sync.WaitGroup
	)
	parallel := opt.Parallel
	if parallel <= 0 {
		parallel = runtime.GOMAXPROCS(0)
	}
	for range min(parallel, len(jobs)) {
		wg.Go(func() {
			for {
				mu.Lock()
				at := next
				next++
				mu.Unlock()
				if at >= len(jobs) || ctx.Err() != nil {
					return
				}
				j := jobs[at]
				began := time.Now()
				v, err := opt.Runner.Run(ctx, j.set.trials[j.i])
				if err == nil {
					j.set.signals[j.i], err = trial.Moved(j.set.trials[j.i], plotted)
				}
				if err != nil {
					cancel(fmt.Errorf("%s: %w", j.set.set.Name, err))
					return
				}
				took := time.Since(began)
				j.set.verdicts[j.i], j.set.took[j.i] = v, took
				mu.Lock()
				done++
				if opt.Progress != nil {
					opt.Progress(done, len(jobs), j.set.set.Name+"/"+j.set.trials[j.i].Name, took)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// report scores the verdicts and the controls.
func (w *setRun) report() (*report.Set, error) {
	ours := make([]*trial.Judged, len(w.trials))
	for i, t := range w.trials {
		ours[i] = &trial.Judged{Trial: t, Verdicts: w.verdicts[i]}
	}
	fig, err := w.set.Score(ours)
	if err != nil {
		return nil, err
	}
	s := &report.Set{
		Name: w.set.Name, Title: w.set.Title, Protocol: w.set.Protocol, Files: len(ours), Metrics: w.set.Metrics, Anchors: w.set.Anchors,
		Ours: fig.Values, Threshold: fig.Threshold,
	}
	for _, c := range fig.Cases {
		s.Cases = append(s.Cases, report.Case{Name: c.Name, Note: c.Note, Values: c.Values})
	}
	for i, j := range ours {
		s.Rows += j.Rows()
		s.Seconds += w.took[i].Seconds()
		s.Plots = append(s.Plots, report.Plot{Name: j.Name, SVG: report.Draw(j, fig.Threshold, w.signals[i])})
	}
	for _, c := range []struct {
		name   string
		judged []*trial.Judged
	}{{"flag everything", trial.FlagEverything(w.trials)}, {"random", trial.Random(ours)}} {
		fig, err := w.set.Score(c.judged)
		if err != nil {
			return nil, err
		}
		s.Controls = append(s.Controls, report.System{Name: c.name, Values: fig.Values})
	}
	return s, nil
}

// Layouts says which files the data root holds, a line for each set.
func Layouts() string {
	var b strings.Builder
	for _, s := range sets.All() {
		fmt.Fprintf(&b, "  %s\n", s.Layout)
	}
	for _, s := range learning.All() {
		fmt.Fprintf(&b, "  %s\n", s.Layout)
	}
	return strings.TrimRight(b.String(), "\n")
}
