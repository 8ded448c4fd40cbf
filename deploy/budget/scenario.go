package main

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	fleetsimulator "github.com/tocsin-io/tocsin/services/fleet-simulator"
)

// scenario is how five machines, one of each kind, are run.
type scenario struct {
	Name  string        `json:"name"`
	What  string        `json:"what"`
	Cycle time.Duration `json:"cycle_ns"`
	heavy bool
	seed  uint64
	// sisters is how many machines there are of each kind; the first of each gets the faults.
	sisters int
}

// machines of the scenario: kinds take turns.
func (s *scenario) machines() int { return kinds * s.sisters }

// kinds is the number of machines of a scenario: one of each kind.
const kinds = 5

// scenarios cover what makes false alarms: weather by day (in all of them), load that comes in regimes, and noise with outliers.
func scenarios(seed uint64, sisters int) []scenario {
	list := []scenario{
		{Name: "steady", What: "continuous operation; ambient temperature swings by day", seed: seed},
		{Name: "shifts", What: "off, warm-up, steady and load in each shift of 8 h", Cycle: 8 * time.Hour, seed: seed + 1},
		{Name: "daily", What: "off, warm-up, steady and load once a day", Cycle: 24 * time.Hour, seed: seed + 2},
		{Name: "heavy tails", What: "continuous operation; Student's t noise of 3 degrees of freedom on every sensor", heavy: true, seed: seed + 3},
	}
	for i := range list {
		list[i].sisters = sisters
	}
	return list
}

// start of every simulation: a Monday, UTC.
var start = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// sample is what one machine of a scenario gave at one instant.
type sample struct {
	machine int
	at      time.Time // when it was due: the broker's time
	claims  time.Time // what its clock says
	values  []float32 // nil: the machine is silent. Valid until the next sample
	sensors []string
	truths  []fleetsimulator.Truth
}

// samples plays the scenario's machines. faults is the content of a faults file, or empty.
func (s scenario) samples(dir, faults string, rate float64, d time.Duration) (iter.Seq[sample], error) {
	cfg := fleetsimulator.DefaultConfig()
	cfg.Machines, cfg.Gateways, cfg.Rate, cfg.Seed, cfg.Cycle = s.machines(), 1, rate, s.seed, s.Cycle
	if faults != "" {
		cfg.Faults = filepath.Join(dir, strings.ReplaceAll(s.Name, " ", "-")+".yaml")
		if err := os.WriteFile(cfg.Faults, []byte(faults), 0o600); err != nil {
			return nil, fmt.Errorf("faults: %w", err)
		}
	}
	frames, err := fleetsimulator.Frames(cfg, start, d)
	if err != nil {
		return nil, err
	}
	period := time.Duration(float64(time.Second) / rate)
	var noise []tails
	if s.heavy {
		if noise, err = newTails(cfg, s.seed, period); err != nil {
			return nil, err
		}
	}
	return func(yield func(sample) bool) {
		all, n := s.machines(), 0
		for f := range frames {
			i, round := n%all, n/all
			out := sample{machine: i, at: start.Add(time.Duration(round)*period + time.Duration(float64(period)*float64(i)/float64(all))), truths: f.Truths}
			n++
			if f.Frame != nil {
				out.claims, out.sensors, out.values = time.UnixMicro(f.Frame.GetBaseTimeUs()), f.Frame.GetSensors(), f.Frame.GetValues()
				if s.heavy {
					noise[i].add(out.values)
				}
			}
			if !yield(out) {
				return
			}
		}
	}, nil
}

// tails adds noise with outliers to a machine's sensors: Student's t of 3 degrees of freedom, in units of each sensor's own difference from sample to
// sample. It is there from the first sample on: noise that set in later would be a change of the machine.
type tails struct {
	r    *rand.Rand
	last []float32
	unit []float64 // by sensor
}

// unitSamples is how many differences the unit is the median of.
const unitSamples = 600

// newTails measures the units of all machines on samples of the same simulation.
func newTails(cfg fleetsimulator.Config, seed uint64, period time.Duration) (all []tails, err error) {
	all = make([]tails, cfg.Machines)
	frames, err := fleetsimulator.Frames(cfg, start, (unitSamples+1)*period)
	if err != nil {
		return all, err
	}
	diffs := make([][][]float32, len(all))
	n := 0
	for f := range frames {
		t, d := &all[n%len(all)], &diffs[n%len(all)]
		n++
		if f.Frame == nil {
			continue
		}
		values := f.Frame.GetValues()
		for i, v := range values {
			if len(*d) <= i {
				*d = append(*d, nil)
				t.last = append(t.last, v)
				continue
			}
			(*d)[i] = append((*d)[i], float32(math.Abs(float64(v-t.last[i]))))
			t.last[i] = v
		}
	}
	for m := range all {
		t := &all[m]
		t.r = rand.New(rand.NewPCG(seed+uint64(m), 77))
		for i, d := range diffs[m] {
			t.unit = append(t.unit, median(d))
			t.last[i] = float32(math.NaN())
		}
	}
	return all, nil
}

func (t *tails) add(values []float32) {
	for i := range values {
		stuck := values[i] == t.last[i]
		if t.last[i] = values[i]; stuck { // a stuck transmitter has no noise
			continue
		}
		z := t.r.NormFloat64()
		a, b, c := t.r.NormFloat64(), t.r.NormFloat64(), t.r.NormFloat64()
		values[i] += float32(t.unit[i] * z / math.Sqrt((a*a+b*b+c*c)/3))
	}
}
