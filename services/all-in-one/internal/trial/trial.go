// Package trial judges recorded history under one or two detection configurations and says what each would have cost and found: pages, faults missed, how
// soon.
//
// Every row goes through the judge of the stream-processor as a frame in a log of its own, with ticks while nothing arrives, so what is said here
// is what production would have said of it. The same history and configurations give the same result.
package trial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

const (
	// maxMachines bounds the machines of one history: some 100 KB each, with their judges.
	maxMachines = 50_000
	// maxDetailed is of how many machines the course of scores and sensors is kept.
	maxDetailed = 100
	// maxPages bounds the memory for pages of one configuration.
	maxPages = 200_000
	// maxFaults bounds that for faults.
	maxFaults = 200_000
)

// Options of a trial.
type Options struct {
	// Inputs are CSV files, or one kafka://broker:port,broker:port/topic of frames.
	Inputs []string
	CSV    csvfile.Options
	// Source is read instead of Inputs where it is given. Samples from before From are only learned from.
	Source Source
	From   time.Time
	// Plain leaves the courses of scores and sensors out: nobody draws them.
	Plain bool
	// Train is a CSV file whose rows are learned from before those of the only input; TrainRows are the first of each machine that are only learned from.
	Train     string
	TrainRows int
	// Configs are one or two, the current one first.
	Configs []Config
	// Faults is a file of true faults, as tocsin simulate writes it. Labels are in CSV.LabelColumn.
	Faults string
	// Lead and Grace: a page counts for a fault that is said at most Lead before it begins and at most Grace after it ends.
	Lead, Grace time.Duration
	// Kafka is how a kafka:// input is reached, but for its brokers; Schemas names the sensors of a schema.
	Kafka   kafka.Config
	Schemas func(ctx context.Context, id string) ([]string, error)

	Progress func(what string, done, total int64)
}

// Config is a detection configuration under trial.
type Config struct {
	Name      string
	Detection streamprocessor.DetectionConfig
}

// Result is what a trial found.
type Result struct {
	Inputs   []string
	From, To time.Time
	Rows     int64
	// Observed is how long machines were watched, all together; stretches without data beyond an hour do not count.
	Observed time.Duration
	Labelled bool
	Machines []*Machine
	Faults   []*Fault
	// Outside is the number of faults that lie outside of the history, or where it is only learned from.
	Outside int
	Trials  []*Trial
	// Changes between the configurations, by key.
	Changes []Change
}

// Trial is one configuration's part of the result.
type Trial struct {
	Name  string
	Pages []*Page
	Totals
}

// Machine is one machine's history.
type Machine struct {
	ID       string
	From, To time.Time // the first row that is not only learned from, and the end: of a machine that fell silent, the last tick
	Rows     int64
	Observed time.Duration
	// Scores by trial, and sensors; nil beyond the first machines.
	Scores  []*Series
	Sensors []*Envelope
}

// Page is one alert that would have opened.
type Page struct {
	Machine  string
	Episode  string
	Cause    string
	Severity string // the highest
	Said     time.Time
	Ended    time.Time // zero: it stands at the end
	Score    float64
	Summary  string
	// Contributions and Detectors are those of the first report.
	Contributions []Contribution
	Detectors     []string
	// Fault that it is about; nil: none that is known.
	Fault *Fault
	// Same is the page of the other trial that is about the same; nil: there is none.
	Same *Page
}

// Contribution of one sensor. Low and High are NaN when nothing in particular was expected.
type Contribution struct {
	Sensor              string
	Share               float64
	Observed, Low, High float64
	Detector, Statistic string
}

// Fault is one true fault.
type Fault struct {
	Machine    string
	Kind       string
	Start, End time.Time
	// Found by trial: the first page about it; nil: missed.
	Found []*Page
}

// Delay of a trial's page about the fault, negative when it came before; false: missed.
func (f *Fault) Delay(trial int) (time.Duration, bool) {
	p := f.Found[trial]
	if p == nil {
		return 0, false
	}
	return p.Said.Sub(f.Start), true
}

// Run judges the history.
func Run(ctx context.Context, opt Options) (*Result, error) {
	if len(opt.Configs) == 0 || len(opt.Configs) > 2 {
		return nil, fmt.Errorf("%d configurations: one or two can be tried", len(opt.Configs))
	}
	r := &runner{opt: opt, machines: map[string]*machine{}, names: namesOf(opt.Inputs)}
	var err error
	switch {
	case opt.Source != nil:
		err = opt.Source.Each(ctx, func(s *Sample) error { return r.sample(ctx, s) })
	case !kafkaInput(opt.Inputs[0]):
		err = r.readFiles(ctx)
	case len(opt.Inputs) > 1:
		return nil, errors.New("a kafka:// input stands alone")
	default:
		err = r.readKafka(ctx, opt.Inputs[0])
	}
	if err != nil {
		return nil, err
	}
	if opt.Faults != "" {
		if r.faults, err = readTruth(opt.Faults); err != nil {
			return nil, fmt.Errorf("%s: %w", opt.Faults, err)
		}
	}
	return r.result(), nil
}

// runner collects.
type runner struct {
	opt      Options
	machines map[string]*machine
	names    map[string]string // of machines, by file
	order    []*machine
	pages    int
	faults   []*Fault
}

// machine gives the machine of that name, made when it is first seen.
func (r *runner) machine(id string) (*machine, error) {
	if m := r.machines[id]; m != nil {
		return m, nil
	}
	if len(r.machines) >= maxMachines {
		return nil, fmt.Errorf("more than %d machines: try some of them", maxMachines)
	}
	m := newMachine(r, id, !r.opt.Plain && len(r.order) < maxDetailed)
	r.machines[id] = m
	r.order = append(r.order, m)
	return m, nil
}

func (r *runner) result() *Result {
	out := &Result{Inputs: r.opt.Inputs, Labelled: r.opt.Faults != "" || r.opt.CSV.LabelColumn != ""}
	for i, c := range r.opt.Configs {
		out.Trials = append(out.Trials, &Trial{Name: c.Name})
		for _, m := range r.order {
			out.Trials[i].Pages = append(out.Trials[i].Pages, m.judges[i].pages...)
		}
		slices.SortStableFunc(out.Trials[i].Pages, func(a, b *Page) int { return a.Said.Compare(b.Said) })
	}
	faults := r.faults
	for _, m := range r.order {
		m.end()
		m.labels.close(m)
		faults = append(faults, m.labels.faults...)
		if m.Machine.From.IsZero() {
			continue // nothing but training
		}
		out.Machines = append(out.Machines, &m.Machine)
		out.Rows += m.Rows
		out.Observed += m.Observed
		if out.From.IsZero() || m.From.Before(out.From) {
			out.From = m.From
		}
		if m.To.After(out.To) {
			out.To = m.To
		}
	}
	for _, f := range faults {
		m := r.machines[f.Machine]
		if m == nil || m.Machine.From.IsZero() || f.Start.Before(m.Machine.From) || f.Start.After(m.To) {
			out.Outside++
			continue
		}
		if f.End.IsZero() || f.End.After(m.To) {
			f.End = m.To
		}
		f.Found = make([]*Page, len(out.Trials))
		out.Faults = append(out.Faults, f)
	}
	slices.SortStableFunc(out.Faults, func(a, b *Fault) int { return a.Start.Compare(b.Start) })
	match(out, r.opt.Lead, r.opt.Grace)
	if len(out.Trials) == 2 {
		pair(out.Trials[0].Pages, out.Trials[1].Pages)
		out.Changes = changes(&r.opt.Configs[0].Detection, &r.opt.Configs[1].Detection)
	}
	for i, t := range out.Trials {
		t.Totals = totals(out, i)
	}
	return out
}
