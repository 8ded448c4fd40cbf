package lakeday

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/maintain"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Options of a run.
type Options struct {
	Scale   Scale
	Dir     string // of the lake; made, and removed again unless Keep
	Keep    bool
	Reuse   bool   // the lake in Dir is that of an earlier run, however far it came: go on
	Program string // historical-api
	Times   int    // that each question is asked
	Out     string // JSON
	Say     io.Writer
}

// Stage is what the lake consists of at some time.
type Stage struct {
	Stage   string  `json:"stage"`
	Table   string  `json:"table"`
	Files   int     `json:"files"`
	Bytes   int64   `json:"bytes"`
	Median  int64   `json:"median_bytes"`
	Largest int64   `json:"largest_bytes"`
	Seconds float64 `json:"seconds"` // that it took to get there from the stage before, as loaded as the machine was
}

// Result of a run.
type Result struct {
	At      time.Time `json:"at"`
	CPUs    int       `json:"cpus"`
	Load    string    `json:"load"` // /proc/loadavg when the questions about the day began
	Scale   Scale     `json:"scale"`
	Rows    int64     `json:"rows"`
	Cold    string    `json:"cold"`
	Stages  []Stage   `json:"stages"`
	Asked   []Asked   `json:"asked"`
	Values  int64     `json:"values_in_readings_1h"` // counted there: must be rows
	Machine bool      `json:"machine_day_below_100ms"`
	Fleet   bool      `json:"fleet_hours_below_5s"`
}

// Run makes the day, has it maintained, and asks. What it finds stands in Out and on Say.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.Scale.Validate(); err != nil {
		return err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if _, err := os.Stat(o.Dir); (err == nil) != o.Reuse {
		return fmt.Errorf("%s: must not be there, unless it is reused", o.Dir)
	}
	if !o.Keep && !o.Reuse {
		defer func() { err = errors.Join(err, os.RemoveAll(o.Dir)) }()
	}
	scratch, err := os.MkdirTemp("", "lake-day-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	b, err := objstore.OpenDir(o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	r := &run{Options: o, b: b, scratch: scratch, res: Result{
		At: time.Now().UTC(), CPUs: runtime.NumCPU(), Scale: o.Scale, Rows: o.Scale.Rows(),
		Cold: "before each cold question posix_fadvise(DONTNEED) on every file of the lake, checked by mincore (kept_bytes); the program that answers was running, as it does",
	}}
	fmt.Fprintf(o.Say, "%d machines, %d sensors, a sample every %s, %d h: %d rows, %d partitions\n", o.Scale.Machines, o.Scale.Sensors, o.Scale.Every, o.Scale.Hours, r.res.Rows, o.Scale.Partitions)
	if o.Reuse {
		if err := r.recall(); err != nil {
			return err
		}
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	if err := r.questions(ctx, "day", true, o.Times); err != nil {
		return err
	}
	return r.judge(ctx)
}

type run struct {
	Options
	b       objstore.Bucket
	scratch string
	res     Result
}

// recall takes over what an earlier run found on its way; the questions about the day are asked anew.
func (r *run) recall() error {
	data, err := os.ReadFile(r.Out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var was Result
	if err == nil {
		err = json.Unmarshal(data, &was)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Out, err)
	}
	r.res.Stages = was.Stages
	r.res.Asked = slices.DeleteFunc(was.Asked, func(q Asked) bool { return q.Stage == "day" })
	return nil
}

// build goes from nothing to a day's files.
func (r *run) build(ctx context.Context) error {
	end := Day().Add(24 * time.Hour)
	m, err := lake.LoadManifest(ctx, r.b, "readings")
	if err != nil {
		return err
	}
	if m.Version == 0 { // nothing has been merged
		if err := r.stage(ctx, "raw", func() error {
			if r.Reuse {
				return nil
			}
			return Make(ctx, r.b, r.Scale)
		}); err != nil {
			return err
		}
		if err := r.questions(ctx, "raw", false, 2); err != nil {
			return err
		}
	}
	// As the writer's own maintenance would see it late in the day's last hours, and then when the day is over. The hours that come too late for the first become part of the second.
	if err := r.stage(ctx, "hours", func() error { return r.maintain(ctx, end.Add(time.Hour)) }); err != nil {
		return err
	}
	return r.stage(ctx, "day", func() error { return r.maintain(ctx, end.Add(3*time.Hour)) })
}

func (r *run) maintain(ctx context.Context, now time.Time) error {
	k := &maintain.Keeper{Bucket: r.b, Policy: maintain.DefaultPolicy(), By: "lake-day", Now: func() time.Time { return now }, Log: zap.NewNop()}
	k.Policy.Grace = 0
	for _, t := range table.Kept() {
		if !strings.HasPrefix(t.Name(), "readings") {
			continue
		}
		if err := k.Rollup(ctx, t.Name()); err != nil {
			return err
		}
		if err := k.Compact(ctx, t); err != nil {
			return err
		}
	}
	clean := *k
	clean.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	for _, t := range table.Kept() {
		if err := clean.Clean(ctx, t.Name()); err != nil {
			return err
		}
	}
	return nil
}

// stage does the work, and counts the files that count then.
func (r *run) stage(ctx context.Context, name string, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := time.Since(began).Seconds()
	if slices.ContainsFunc(r.res.Stages, func(s Stage) bool { return s.Stage == name }) {
		return nil // told by an earlier run
	}
	for _, t := range []string{"readings", "readings_1m", "readings_1h"} {
		v, err := lake.Open(ctx, r.b, t)
		if err != nil {
			return err
		}
		var sizes []int64
		s := Stage{Stage: name, Table: t, Seconds: took}
		for e, err := range v.Files(ctx, time.Time{}, time.Time{}) {
			if err != nil {
				return err
			}
			sizes = append(sizes, e.Size)
			s.Bytes += e.Size
		}
		if s.Files = len(sizes); s.Files == 0 {
			continue
		}
		slices.Sort(sizes)
		s.Median, s.Largest = sizes[len(sizes)/2], sizes[len(sizes)-1]
		r.res.Stages = append(r.res.Stages, s)
		fmt.Fprintf(r.Say, "%-6s %-12s %5d files %8.1f MB, median %.2f MB, largest %.1f MB   (%.0f s)\n", name, t, s.Files, mb(s.Bytes), mb(s.Median), mb(s.Largest), took)
	}
	return nil
}

func mb(n int64) float64 { return float64(n) / 1e6 }

func (r *run) questions(ctx context.Context, stage string, rollups bool, times int) (err error) {
	a, err := startAPI(ctx, r.Program, r.Dir, r.scratch)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	r.res.Load = strings.TrimSpace(string(load))
	asked, err := a.ask(stage, r.Scale, rollups, times)
	if err != nil {
		return err
	}
	for _, q := range asked {
		if q.Failed != "" {
			fmt.Fprintf(r.Say, "%-6s %-72s %s\n", stage, q.Question, q.Failed)
			continue
		}
		fmt.Fprintf(r.Say, "%-6s %-72s cold median %8.1f ms, worst %8.1f ms (%d rows)\n", stage, q.Question, q.MedianMS, q.WorstMS, q.Rows)
	}
	r.res.Asked = append(r.res.Asked, asked...)
	return nil
}

// judge holds the result against the goals, and the rollup against the number of readings.
func (r *run) judge(ctx context.Context) error {
	if err := r.count(ctx); err != nil {
		return err
	}
	for _, q := range r.res.Asked {
		if q.Stage != "day" || q.Failed != "" {
			continue
		}
		r.res.Machine = r.res.Machine || strings.HasPrefix(q.Question, "one machine's day") && q.MedianMS < 100
		r.res.Fleet = r.res.Fleet || strings.HasPrefix(q.Question, "fleet-wide") && q.MedianMS < 5000
	}
	out, err := json.MarshalIndent(r.res, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.Out), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(r.Out, append(out, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(r.Say, "one machine's day below 100 ms: %t; fleet-wide hourly means below 5 s: %t; %d of %d values in readings_1h; load %s\n", r.res.Machine, r.res.Fleet, r.res.Values, r.res.Rows, r.res.Load)
	if r.res.Values != r.res.Rows {
		return errors.New("readings_1h does not hold each value once")
	}
	return nil
}

func (r *run) count(ctx context.Context) error {
	v, err := lake.Open(ctx, r.b, "readings_1h")
	if err != nil {
		return err
	}
	for e, err := range v.Files(ctx, time.Time{}, time.Time{}) {
		if err != nil {
			return err
		}
		data, _, err := r.b.Get(ctx, e.Key, 0)
		if err != nil {
			return err
		}
		n, err := table.RollupValues(data)
		if err != nil {
			return err
		}
		r.res.Values += n
	}
	return nil
}
