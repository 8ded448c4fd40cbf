// Command budget measures what the false-alarm budget is worth: it plays simulated machines without faults through the production judge, at several
// budgets, and holds the pages given against those asked for; and with faults, how many of each kind are found and how soon.
//
// Nothing is sped up but the computer: each machine's samples are made and judged one by one on virtual time, 30 days of them. A first stretch, in which
// the judge gets to know the machine, is shown apart: nobody can promise one page in ten months of a machine that is known for minutes.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
	"golang.org/x/sync/errgroup"
)

func main() {
	o := options{month: 30 * 24 * time.Hour}
	budgets := flag.String("budgets", "0.1,1,10", "budgets to play, in pages per machine and month")
	flag.Float64Var(&o.rate, "rate", 1, "samples a second")
	flag.DurationVar(&o.window, "window", 5*time.Second, "window length; longer ones are judged with the shipped settings otherwise")
	flag.DurationVar(&o.commission, "commission", 5*24*time.Hour, "time in which a machine is got to know; its pages are counted apart")
	flag.DurationVar(&o.known, "known", 2*24*time.Hour, "time for which a machine is known before its first fault")
	days := flag.Float64("days", 30, "days that count, of each of the 20 machines")
	seed := flag.Uint64("seed", 1, "of the simulated fleet")
	flag.BoolVar(&o.find, "find-regimes", streamprocessor.DefaultDetection().Regimes.Find, "whether regimes are found from the data")
	flag.IntVar(&o.sisters, "sisters", 1, "machines of each kind in a scenario, held against each other")
	flag.BoolVar(&o.alone, "alone", false, "machines are not held against their sisters")
	only := flag.String("scenario", "", "only scenarios whose name contains this")
	faults := flag.Bool("faults", true, "also play faults")
	sound := flag.Bool("sound", true, "play machines without faults")
	verbose := flag.Bool("v", false, "print every page")
	out := flag.String("out", "", "JSON file to write")
	flag.Parse()
	o.month = time.Duration(*days * 24 * float64(time.Hour))
	if err := run(&o, *budgets, *only, *out, *seed, *sound, *faults, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "budget:", err)
		os.Exit(1)
	}
}

func run(o *options, budgets, only, out string, seed uint64, sound, faults, verbose bool) error {
	for _, b := range strings.Split(budgets, ",") {
		v, err := strconv.ParseFloat(b, 64)
		if err != nil || !(v > 0) {
			return fmt.Errorf("budget %q is no positive number", b)
		}
		o.budgets = append(o.budgets, v)
	}
	began := time.Now()
	var list []scenario
	for _, s := range scenarios(seed, o.sisters) {
		if strings.Contains(s.Name, only) {
			list = append(list, s)
		}
	}
	dir, err := os.MkdirTemp("", "tocsin-budget")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pages := make([][][]page, len(list))
	outcomes := make([][]outcome, len(list))
	g, _ := errgroup.WithContext(context.Background())
	for i, s := range list {
		if sound {
			g.Go(func() (err error) {
				pages[i], err = o.playSound(s)
				return err
			})
		}
		if faults {
			g.Go(func() (err error) {
				outcomes[i], err = o.playFaults(s, dir, 1)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	r := newReport(o, list, seed)
	if sound {
		r.sound(o, list, pages)
	}
	if faults {
		r.faults(list, outcomes)
	}
	r.Seconds = time.Since(began).Seconds()
	r.print(os.Stdout, verbose)
	if out == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}
