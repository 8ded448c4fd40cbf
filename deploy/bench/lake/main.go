// Command lake measures how fast and how small readings become Parquet: the writer of the lake beside parquet-go's generic writer, arrow-go and pyarrow, on the same
// telemetry, in turns of one run. See docs/LAKE.md.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

type config struct {
	ours, python, peer, dir, out, only string
	rounds, rows                       int
}

func main() {
	var c config
	flag.StringVar(&c.ours, "ours", "bin/benchlake", "the writer's side")
	flag.StringVar(&c.python, "python", "out/venv/bin/python", "Python with pyarrow")
	flag.StringVar(&c.peer, "peer", "deploy/bench/lake/peer.py", "pyarrow's side")
	flag.StringVar(&c.dir, "dir", "out/lake", "where files are kept")
	flag.StringVar(&c.out, "out", "out/lake.json", "where the result is written")
	flag.StringVar(&c.only, "only", "", "only shapes whose name contains this")
	flag.IntVar(&c.rounds, "rounds", 7, "turns of each side; the smallest counts")
	flag.IntVar(&c.rows, "rows", 1_000_000, "rows of a file, about")
	arrow := flag.String("arrow", "", "for itself: be arrow-go's side, with the file named")
	value := flag.String("value", "", "for itself: encoding of values")
	output := flag.String("output", "", "for itself: where the first file is kept")
	flag.Parse()
	var err error
	if *arrow != "" {
		err = serveArrow(os.Stdin, os.Stdout, *arrow, *output, *value)
	} else {
		err = c.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-lake:", err)
		os.Exit(1)
	}
}

// measured is one side's cost on one shape.
type measured struct {
	Side      string             `json:"side"`
	NSPerRow  float64            `json:"cpu_ns_per_row"`
	BPerRow   float64            `json:"bytes_per_row"`
	Parts     map[string]float64 `json:"other_parts_cpu_ns_per_row,omitempty"`
	TimesOurs float64            `json:"times_ours"`
}

type outcome struct {
	Shape shape      `json:"shape"`
	Rows  int64      `json:"rows"`
	Value string     `json:"value_encoding"`
	Sides []measured `json:"sides"`
}

func (c config) run() (err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	var all []outcome
	for _, s := range shapes(c.rows) {
		if !strings.Contains(s.Name, c.only) {
			continue
		}
		o, err := c.measure(s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		all = append(all, o)
		o.print()
	}
	report := map[string]any{
		"command": "make bench-lake", "rounds": c.rounds, "cpu": runtime.GOARCH, "go": runtime.Version(), "goal": map[string]float64{"cpu_ns_per_row": 30, "bytes_per_row": 2.3}, "shapes": all,
		"what": "CPU time of a process that makes one file in memory, the smallest of all rounds, sides in turn. tocsin: from decoded frames, sort runs and row hash included; decode and verify (reading the file back) are its other parts. " +
			"The others: from sorted columns (or rows) in memory.",
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.out, append(data, '\n'), 0o644)
}

func (c config) measure(s shape) (o outcome, err error) {
	records := filepath.Join(c.dir, s.Name+".records")
	if err := s.record(records); err != nil {
		return o, err
	}
	path := func(side string) string { return filepath.Join(c.dir, s.Name+"."+side+".parquet") }
	var sides []*worker
	defer func() {
		for _, w := range sides {
			err = errors.Join(err, w.end())
		}
	}()
	add := func(side string, command ...string) error {
		w, err := begin(side, path(side), command...)
		if err != nil {
			return err
		}
		sides = append(sides, w)
		return w.turn()
	}
	if err := add("tocsin", c.ours, "-in", records, "-out", path("tocsin")); err != nil {
		return o, err
	}
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	from := path("tocsin")
	o.Value = valueEncoding(from)
	if err := errors.Join(
		add("parquet-go", c.ours, "-generic", "-in", from, "-out", path("parquet-go")),
		add("arrow-go", self, "-arrow", from, "-output", path("arrow-go"), "-value", o.Value),
		add("pyarrow", c.python, c.peer, from, path("pyarrow"), o.Value),
	); err != nil {
		return o, err
	}
	for range c.rounds {
		for _, w := range sides {
			if err := w.turn(); err != nil {
				return o, err
			}
		}
	}
	r, err := sides[3].ask("compare " + path("tocsin") + " " + path("parquet-go") + " " + path("arrow-go") + " " + path("pyarrow"))
	if err != nil {
		return o, err
	}
	if !r.Equal {
		return o, errors.New("pyarrow finds other rows in one of the files")
	}
	o.Shape, o.Rows = s, sides[0].least.Rows
	for _, w := range sides {
		rows := float64(w.least.Rows)
		m := measured{Side: w.name, NSPerRow: float64(w.least.CPUNS) / rows, BPerRow: float64(w.least.Bytes) / rows, TimesOurs: float64(w.least.CPUNS) / float64(sides[0].least.CPUNS)}
		for k, v := range w.least.Parts {
			if m.Parts == nil {
				m.Parts = map[string]float64{}
			}
			m.Parts[k] = float64(v) / rows
		}
		o.Sides = append(o.Sides, m)
	}
	return o, nil
}

func (o outcome) print() {
	fmt.Fprintf(os.Stdout, "\n%s, %d rows: %s\n", o.Shape.Name, o.Rows, o.Shape.What)
	fmt.Fprintf(os.Stdout, "%-12s %12s %8s %10s\n", "", "CPU ns/row", "B/row", "times ours")
	for _, m := range o.Sides {
		fmt.Fprintf(os.Stdout, "%-12s %12.1f %8.2f %10.1f", m.Side, m.NSPerRow, m.BPerRow, m.TimesOurs)
		if m.Parts != nil {
			fmt.Fprintf(os.Stdout, "   and decode %.1f, verify %.1f", m.Parts["decode"], m.Parts["verify"])
		}
		fmt.Fprintln(os.Stdout)
	}
}
