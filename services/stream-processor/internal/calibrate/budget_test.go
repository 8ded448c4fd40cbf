package calibrate

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Whatever the tail, and however windows hang together, excursions go beyond a calibrated level about as often as it says.
func TestPeaksCountExcursions(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	state := 0.0
	for name, draw := range map[string]func() float64{
		"model is right": func() float64 { return r.ExpFloat64() },
		"too light":      func() float64 { return 4 * r.ExpFloat64() },
		"power law":      func() float64 { return math.Pow(r.Float64(), -0.4) },
		"long excursions": func() float64 {
			state = 0.98*state + r.NormFloat64()*math.Sqrt(1-0.98*0.98)
			return state * state * 2
		},
	} {
		var p Peaks
		for range 200_000 {
			p.Learn(draw())
		}
		asked := math.Log(4000) // one in 4,000 windows
		level := p.Nominal(asked)
		if back := p.Correct(level); math.Abs(back-asked) > 1e-9 {
			t.Errorf("%s: there and back: %v, want %v", name, back, asked)
		}
		got, calm := 0, calmWindows
		for range 400_000 {
			if draw() > level {
				if calm >= calmWindows {
					got++
				}
				calm = 0
			} else {
				calm++
			}
		}
		if got < 50 || got > 200 {
			t.Errorf("%s: %d excursions, want about 100", name, got)
		}
	}
}

// Outliers are over at once, and a few of them say how far the next one may go.
func TestOutliersAreLearned(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var p, q Peaks
	for range 20_000 {
		x := r.ExpFloat64()
		p.Learn(x)
		q.Learn(x)
	}
	for range 20 {
		p.Outlier(60)
		q.Paged()
	}
	if a, b := p.Correct(60), q.Correct(60); a > 10 || a > b/2 {
		t.Errorf("after twenty of them in 20,000 windows an outlier of 60 has a surprise of %v; after twenty faults %v", a, b)
	}
}

// A page says little of how far the next one goes: it moves the level by less than what one fault in a hundred would need.
func TestPagesDoNotMakeFaultsUsual(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	var p Peaks
	for range 20_000 {
		p.Learn(r.ExpFloat64())
	}
	before := p.Nominal(13)
	for range 3 {
		p.Paged()
	}
	if after := p.Nominal(13); after < before || after > before*1.3 {
		t.Errorf("three pages move the level from %v to %v", before, after)
	}
}

func TestPeaksAreMonotoneAndRestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Peaks
		for range rapid.IntRange(0, 400).Draw(t, "n") {
			p.Learn(rapid.Float64Range(0, 600).Draw(t, "t"))
			if rapid.IntRange(0, 50).Draw(t, "page") == 0 {
				p.Paged()
			}
		}
		a, b := rapid.Float64Range(0, 500).Draw(t, "a"), rapid.Float64Range(0, 500).Draw(t, "b")
		x, y := p.Correct(a), p.Correct(b)
		if a < b && x > y || x < 0 || math.IsNaN(x) || math.IsInf(x, 0) {
			t.Fatalf("%v to %v, %v to %v", a, x, b, y)
		}
		state := p.AppendState(nil)
		if len(state) != PeaksSize {
			t.Fatalf("%d bytes, want %d", len(state), PeaksSize)
		}
		var q Peaks
		rd := codec.NewReader(state)
		q.RestoreState(rd)
		if rd.Err() != nil || !bytes.Equal(q.AppendState(nil), state) || q.Correct(a) != x {
			t.Fatalf("restored: %v, %v and %v", rd.Err(), q.Correct(a), x)
		}
	})
}

// A machine that would page every day is held to its budget.
func TestDebtHoldsTheBudget(t *testing.T) {
	for _, budget := range []float64{1, 10} {
		var d Debt
		pages := 0
		for range 360 { // a year of days, each with an excursion of 100 where 13 is asked
			if 100 >= d.Demand(13) {
				pages++
				d.Paged(100, 13)
			}
			d.Passed(1.0/30, budget)
		}
		if want := 12 * budget; float64(pages) > 2*want || float64(pages) < want/4 {
			t.Errorf("%d pages in a year at %v a month", pages, budget)
		}
	}
	var d Debt
	if got := d.Demand(13); got != 13 {
		t.Errorf("without debt: %v", got)
	}
	d.Paged(20, 13)
	if got := d.Demand(13); got > 13*1.1 {
		t.Errorf("the first page costs too much: %v", got)
	}
	for range 5 {
		d.Paged(20, 13)
	}
	before := d.Demand(13)
	d.Explained()
	if got := d.Demand(13); got > before*0.6 {
		t.Errorf("explained, and still %v of %v", got, before)
	}
}

func TestHabits(t *testing.T) {
	const day, hour = int64(dayUS), int64(hourUS)
	night := func(d int64) (int64, int64) { return d*day + 2*hour, d*day + 4*hour }
	var h Habits
	for d := range int64(5) {
		from, to := night(100 + d)
		want := d >= 3
		if got := h.Level(from, 3) > 0; got != want {
			t.Errorf("day %d: a habit: %t", d, got)
		}
		if acquired := h.Ended(from, to, 50, 3); acquired != (d == 2) {
			t.Errorf("day %d: acquired: %t", d, acquired)
		}
	}
	from, _ := night(105)
	if x := h.Level(from, 3); x < 50 || x > 70 {
		t.Errorf("what was 50 asks for %v", x)
	}
	if h.Level(from+10*hour, 3) != 0 {
		t.Error("a habit at an hour in which nothing happened")
	}
	if from, _ := night(100 + 5 + habitGap + 1); h.Level(from, 3) != 0 {
		t.Error("a habit that did not recur holds")
	}
	var lasting Habits
	for d := range int64(10) {
		lasting.Ended(d*7*day, d*7*day+6*day, 2, 1)
	}
	if lasting != (Habits{}) {
		t.Error("what lasts for days is taken for a habit")
	}
	state := h.AppendState(nil)
	var again Habits
	r := codec.NewReader(state)
	again.RestoreState(r)
	if len(state) != HabitsSize || r.Err() != nil || again != h {
		t.Errorf("%d bytes, %v", len(state), r.Err())
	}
}
