package machine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// sister is one of a fleet: six sensors that differ from machine to machine by some percent.
type sister struct {
	r      *rand.Rand
	level  [6]float64
	wander float64
	at     int64
	rig    *rig
}

func newSister(t *testing.T, seed uint64, edit func(*Config)) *sister {
	s := &sister{r: rand.New(rand.NewPCG(seed, 7)), at: epoch0, rig: newRig(t, edit)}
	s.rig.m = New(s.rig.cfg, fmt.Sprintf("pump-%d", seed))
	for i, x := range []float64{1500, 20, 15, 900, 2, 60} {
		s.level[i] = x * (1 + 0.04*s.r.NormFloat64())
	}
	return s
}

func (s *sister) run(windows int, fault func(v []float32)) {
	for range windows * 5 {
		s.wander = 0.98*s.wander + 0.2*s.r.NormFloat64()
		v := make([]float32, 6)
		for i := range v {
			v[i] = float32(s.level[i] * (1 + 0.004*s.wander*float64(i%2) + 0.006*s.r.NormFloat64()))
		}
		if fault != nil {
			fault(v)
		}
		s.rig.sample(s.at, v...)
		s.at += second
	}
}

// judgedAfter is the number of the first window that was judged.
func (s *sister) judgedAfter() int {
	for i := range s.rig.windows {
		if !s.rig.windows[i].Learning {
			return i + 1
		}
	}
	return math.MaxInt
}

func TestNewMachineIsJudgedByItsCohort(t *testing.T) {
	var sisters []*Machine
	for seed := range uint64(14) {
		s := newSister(t, seed, nil)
		s.run(740, nil)
		if !s.rig.m.Lends() {
			t.Fatal("a sister does not lend")
		}
		sisters = append(sisters, s.rig.m)
	}
	before := sisters[3].AppendSnapshot(nil)
	shake := func(v []float32) { v[4] *= 1.8 }
	var first [2]int
	pages, found, own := [2]int{}, [2]int{}, 0
	for seed := uint64(100); seed < 104; seed++ {
		for lent := range 2 {
			newborn := func() *sister {
				s := newSister(t, seed, nil)
				if lent == 1 && !s.rig.m.Borrow(nil, names(6), sisters) {
					t.Fatal("no loan")
				}
				return s
			}
			s := newborn()
			s.run(700, nil)
			first[lent] = max(first[lent], s.judgedAfter())
			pages[lent] += s.rig.starts()
			if s.rig.m.sisters != 0 {
				t.Fatal("it was never handed over")
			}
			s = newborn() // delivered with a broken bearing
			s.run(150, shake)
			if s.rig.starts() > 0 {
				found[lent]++
				a := s.rig.anomalies[0]
				if lent == 1 && (a.Cohort != 14 || !strings.Contains(a.Summary, "judged by its cohort of 14 sister machines") || a.Contributions[0].Sensor != "s4" || a.Confidence > 0.5) {
					t.Errorf("%v", a)
				}
			}
			if lent == 1 {
				s = newborn() // breaks when it is known itself
				s.run(300, nil)
				s.run(20, shake)
				for _, a := range s.rig.anomalies {
					if a.Phase == started && a.Cohort == 0 {
						own++
						break
					}
				}
			}
		}
	}
	t.Logf("first judged window: %d without, %d with a cohort; false pages of 4 machines in an hour: %d, %d; broken from the start, found: %d, %d of 4; later: %d of 4",
		first[0], first[1], pages[0], pages[1], found[0], found[1], own)
	if first[0] < 60 || first[1] > 1 || found[1] < 4 || own < 4 || pages[1] > pages[0]+1 {
		t.Error("a cohort does not serve")
	}
	if string(before) != string(sisters[3].AppendSnapshot(nil)) {
		t.Error("lending changed the lender")
	}
}

func TestOrderOfSistersDoesNotMatter(t *testing.T) {
	var sisters []*Machine
	for seed := range uint64(7) {
		s := newSister(t, seed, nil)
		s.run(760, nil)
		sisters = append(sisters, s.rig.m)
	}
	var snaps [2]string
	for i := range snaps {
		s := newSister(t, 50, nil)
		s.rig.m.Borrow(nil, names(6), sisters)
		s.run(30, nil)
		snaps[i] = string(s.rig.m.AppendSnapshot(nil))
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(sisters), func(i, j int) { sisters[i], sisters[j] = sisters[j], sisters[i] })
	}
	if snaps[0] != snaps[1] {
		t.Error("the order of sisters matters")
	}
}

// A loan is part of the state.
func TestRestoredBorrowerGoesOn(t *testing.T) {
	var sisters []*Machine
	for seed := range uint64(3) {
		s := newSister(t, seed, nil)
		s.run(760, nil)
		sisters = append(sisters, s.rig.m)
	}
	a, b := newSister(t, 60, nil), newSister(t, 60, nil)
	for _, s := range []*sister{a, b} {
		if !s.rig.m.Borrow(nil, names(6), sisters) {
			t.Fatal("no loan")
		}
	}
	for range 100 {
		a.run(1, nil)
		b.run(1, nil)
		snap := b.rig.m.AppendSnapshot(nil)
		m, err := Restore(b.rig.cfg, "pump-60", snap)
		if err != nil {
			t.Fatal(err)
		}
		b.rig.m = m
	}
	if string(a.rig.m.AppendSnapshot(nil)) != string(b.rig.m.AppendSnapshot(nil)) || show(a.rig.windows, a.rig.anomalies, false) != show(b.rig.windows, b.rig.anomalies, false) {
		t.Error("restored machines are not the same")
	}
}

func TestNobodyLendsInTrouble(t *testing.T) {
	s := newSister(t, 1, nil)
	s.run(800, nil)
	s.run(10, func(v []float32) { v[0] *= 2 })
	if s.rig.m.Lends() {
		t.Error("a machine with an open alert lends")
	}
	s = newSister(t, 2, func(c *Config) { c.Cohort.Lend = false })
	s.run(800, nil)
	if s.rig.m.Lends() {
		t.Error("it lends though it must not")
	}
}
