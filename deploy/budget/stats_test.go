package main

import (
	"math"
	"testing"
	"time"
)

// The exact bounds of small counts, from the tables of Garwood (1936).
func TestPoissonBounds(t *testing.T) {
	for _, c := range []struct {
		count     int
		low, high float64
	}{{0, 0, 3.689}, {1, 0.0253, 5.572}, {2, 0.2422, 7.225}, {10, 4.795, 18.39}, {100, 81.36, 121.63}} {
		low, high := poissonBounds(c.count)
		if math.Abs(low-c.low) > 0.006*math.Max(c.low, 1) || math.Abs(high-c.high) > 0.006*c.high {
			t.Errorf("%d: %v to %v, want %v to %v", c.count, low, high, c.low, c.high)
		}
	}
}

// A short run of everything, in coarse steps: sound machines are judged at every budget, and every fault is injected into every machine.
func TestRunOfADay(t *testing.T) {
	o := options{rate: 1.0 / 30, window: 3 * time.Minute, commission: time.Hour, month: 24 * time.Hour, budgets: []float64{1, 10}}
	s := scenarios(1, 1)[0]
	pages, err := o.playSound(s)
	if err != nil || len(pages) != 2 {
		t.Fatalf("%d budgets, %v", len(pages), err)
	}
	outcomes, err := o.playFaults(s, t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	of := map[int]int{}
	for _, f := range outcomes {
		of[f.trial]++
		if f.detected && f.delay < 0 {
			t.Errorf("found %s before it began", f.delay)
		}
	}
	for k, trial := range trials() {
		if of[k] != kinds {
			t.Errorf("%s: injected into %d machines of %d", trial.name, of[k], kinds)
		}
	}
	r := newReport(&o, []scenario{s}, 1)
	r.sound(&o, []scenario{s}, [][][]page{pages})
	r.faults([]scenario{s}, [][]outcome{outcomes})
	if len(r.Budgets) != 2 || len(r.Faults) != len(trials()) || r.Budgets[0].Asked != 5.0/30 {
		t.Errorf("%+v", r.Budgets)
	}
}
