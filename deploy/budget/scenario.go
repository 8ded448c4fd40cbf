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
}

// kinds is the number of machines of a scenario: one of each kind.
const kinds = 5

// scenarios cover what makes false alarms: weather by day (in all of them), load that comes in regimes, and noise with outliers.
func scenarios(seed uint64) []scenario {
	return []scenario{
		{Name: "steady", What: "continuous operation; ambient temperature swings by day", seed: seed},
		{Name: "shifts", What: "off, warm-up, steady and load in each shift of 8 h", Cycle: 8 * time.Hour, seed: seed + 1},
		{Name: "daily", What: "off, warm-up, steady and load once a day", Cycle: 24 * time.Hour, seed: seed + 2},
		{Name: "heavy tails", What: "continuous operation; Student's t noise of 3 degrees of freedom on every sensor", heavy: true, seed: seed + 3},
	}
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
	cfg.Machines, cfg.Gateways, cfg.Rate, cfg.Seed, cfg.Cycle = kinds, 1, rate, s.seed, s.Cycle
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
	return func(yield func(sample) bool) {
		var noise [kinds]tails
		n := 0
		for f := range frames {
			i, round := n%kinds, n/kinds
			out := sample{machine: i, at: start.Add(time.Duration(round)*period + time.Duration(float64(period)*float64(i)/kinds)), truths: f.Truths}
			n++
			if f.Frame != nil {
				out.claims, out.sensors, out.values = time.UnixMicro(f.Frame.GetBaseTimeUs()), f.Frame.GetSensors(), f.Frame.GetValues()
				if s.heavy {
					noise[i].add(out.values, s.seed+uint64(i))
				}
			}
			if !yield(out) {
				return
			}
		}
	}, nil
}

// tails adds noise with outliers to a machine's sensors: Student's t of 3 degrees of freedom, in units of each sensor's own difference from sample to
// sample. The unit is the median of the first 600 differences, so that neither faults nor outliers change it.
type tails struct {
	r     *rand.Rand
	last  []float32
	diffs [][]float32
	unit  []float64
}

const unitSamples = 600

func (t *tails) add(values []float32, seed uint64) {
	if t.r == nil {
		t.r = rand.New(rand.NewPCG(seed, 77))
		t.last, t.diffs = append(t.last, values...), make([][]float32, len(values))
		return
	}
	if t.unit == nil {
		for i, v := range values {
			t.diffs[i] = append(t.diffs[i], float32(math.Abs(float64(v-t.last[i]))))
			t.last[i] = v
		}
		if len(t.diffs[0]) < unitSamples {
			return
		}
		for _, d := range t.diffs {
			t.unit = append(t.unit, median(d))
		}
		t.diffs = nil
	}
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
