package main

import (
	"fmt"
	"slices"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// options of a run.
type options struct {
	rate       float64
	window     time.Duration
	commission time.Duration // what is known of a machine before its pages count
	known      time.Duration // and before its first fault
	month      time.Duration
	budgets    []float64
	find       bool // regimes from the data
	sisters    int  // machines of each kind
	alone      bool // machines are not held against their sisters
}

// detection is the shipped configuration with another budget, and another window length if that was asked for.
func (o *options) detection(budget float64) *streamprocessor.DetectionConfig {
	cfg := streamprocessor.DefaultDetection()
	cfg.Calibrate.Budget = budget
	cfg.Regimes.Find = o.find
	if o.alone {
		cfg.Detect.Detectors = slices.DeleteFunc(cfg.Detect.Detectors, func(n string) bool { return n == "cohort" })
	} else if o.sisters > 1 && !slices.Contains(cfg.Detect.Detectors, "cohort") {
		cfg.Detect.Detectors = append(slices.Clone(cfg.Detect.Detectors), "cohort")
	}
	if o.window != cfg.WindowLength {
		cfg.WindowLength = o.window
		cfg.Lateness = max(cfg.Lateness, time.Duration(2/o.rate*float64(time.Second)))
	}
	return &cfg
}

// page is an episode that began.
type page struct {
	Scenario string    `json:"scenario"`
	Machine  string    `json:"machine"`
	At       time.Time `json:"at"`
	Cause    string    `json:"cause"`
	Summary  string    `json:"summary"`
	Score    float64   `json:"score"`
	early    bool      // while the machine was being got to know
	machine  int
}

// watcher judges a scenario's machines at one budget.
type watcher struct {
	cfg     *streamprocessor.DetectionConfig
	judges  []*streamprocessor.Judge
	sisters *streamprocessor.Sisters
}

func newWatcher(cfg *streamprocessor.DetectionConfig, machines int) watcher {
	return watcher{cfg: cfg, judges: make([]*streamprocessor.Judge, machines), sisters: streamprocessor.NewSisters(cfg)}
}

func (w *watcher) take(s *sample) []*eventv1.Anomaly {
	if s.machine == 0 {
		w.sisters.Compare(s.at.UnixMilli())
	}
	j := w.judges[s.machine]
	switch {
	case s.values == nil && j == nil:
		return nil
	case s.values == nil:
		return j.Tick(s.at)
	case j == nil:
		j = streamprocessor.NewJudge(w.cfg, nameOf(s.machine), s.sensors)
		w.sisters.Add(j)
		w.judges[s.machine] = j
	}
	return j.Observe(s.claims, s.at, s.values)
}

// names of a scenario's machines, as the simulator gives them.
var names = [kinds]string{"pump-0001", "compressor-0001", "fan-0001", "spindle-0001", "conveyor-0001"}

func nameOf(machine int) string {
	name := names[machine%kinds]
	return name[:len(name)-4] + fmt.Sprintf("%04d", machine/kinds+1)
}

// playSound plays a scenario without faults and returns each budget's pages.
func (o *options) playSound(s scenario) ([][]page, error) {
	samples, err := s.samples("", "", o.rate, o.commission+o.month)
	if err != nil {
		return nil, err
	}
	watchers := make([]watcher, len(o.budgets))
	for i, b := range o.budgets {
		watchers[i] = newWatcher(o.detection(b), s.machines())
	}
	pages := make([][]page, len(o.budgets))
	counts := start.Add(o.commission)
	for x := range samples {
		for b := range watchers {
			for _, a := range watchers[b].take(&x) {
				if a.GetPhase() == eventv1.Phase_PHASE_STARTED {
					pages[b] = append(pages[b], page{
						Scenario: s.Name, Machine: nameOf(x.machine), At: x.at, Cause: a.GetCause(), Summary: a.GetSummary(), Score: a.GetScore(),
						early: x.at.Before(counts), machine: x.machine,
					})
				}
			}
		}
	}
	return pages, nil
}
