package detect

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const roundUS = 300_000_000

// flock is a cohort of machines of two sensors, each held against the others by rounds that are made as the partition makes them.
type flock struct {
	r      *rand.Rand
	d      []*sisters
	level  [][2]float64
	common float64
	at     int64
	s      *Scores
	absent func(member, sensor int) bool
}

func newFlock(seed uint64, n int, apart float64) *flock {
	f := &flock{r: rand.New(rand.NewPCG(seed, 5)), s: scoresFor(2)}
	c := DefaultConfig()
	c.Cohort.Memory = 1000
	for range n {
		d := newSisters(&c).(*sisters)
		d.Grow([]string{"a", "b"})
		f.d = append(f.d, d)
		f.level = append(f.level, [2]float64{apart * f.r.NormFloat64(), 100 + apart*f.r.NormFloat64()})
	}
	return f
}

func value(x float64) Value { return Value{Mean: x, Count: 3, Resolution: 1e-6} }

// round has all members go through one round; off is added to what they show.
func (f *flock) round(off func(member, sensor int) float64) {
	f.at += roundUS
	f.common = 0.95*f.common + f.r.NormFloat64()
	n := len(f.d)
	windows := make([]Window, n)
	for k := range windows {
		w := Window{StartUS: f.at, EndUS: f.at + roundUS, Values: make([]Value, 2)}
		for i := range w.Values {
			x := f.level[k][i] + f.common + 0.1*f.r.NormFloat64()
			if off != nil {
				x += off(k, i)
			}
			if w.Values[i] = value(x); f.absent != nil && f.absent(k, i) {
				w.Values[i] = Value{Mean: math.NaN()}
			}
		}
		windows[k] = w
	}
	_, known := f.d[0].Distance(0)
	var middles [2]Middle
	for i := range middles {
		var v []float64
		for k := range windows {
			if x := windows[k].Values[i]; x.Count > 0 {
				usual, _ := f.d[k].Distance(i)
				v = append(v, x.Mean-usual)
			}
		}
		slices.Sort(v)
		h := len(v) / 2
		m := Middle{N: uint32(len(v)), Low: v[max(0, h-1)], Mid: v[h], High: v[min(len(v)-1, h+1)]}
		if len(v)%2 == 0 {
			m = Middle{N: uint32(len(v)), Low: v[h-1], Mid: (v[h-1] + v[h]) / 2, High: v[h]}
		}
		middles[i] = m
	}
	for k, d := range f.d {
		d.Compare(&windows[k], &Peers{Middles: middles[:], Sisters: n - 1, Least: 4, Anew: !known}, true)
	}
}

// surprise is what a member says of a window that follows.
func (f *flock) surprise(member int) float64 {
	s := scoresFor(2)
	w := Window{StartUS: f.at + roundUS, EndUS: f.at + roundUS + 5_000_000, Values: []Value{value(0), value(0)}}
	f.d[member].Score(&w, s)
	return float64(s.Joint)
}

func (f *flock) most() (member int, most float64) {
	for k := range f.d {
		if t := f.surprise(k); t > most {
			member, most = k, t
		}
	}
	return member, most
}

func TestTheMedianOfTheOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 4, 12).Draw(t, "values")
		me := rapid.IntRange(0, len(v)-1).Draw(t, "member")
		others := slices.Delete(slices.Clone(v), me, me+1)
		slices.Sort(others)
		h := len(others) / 2
		want := others[h]
		if len(others)%2 == 0 {
			want = (others[h-1] + others[h]) / 2
		}
		x := v[me]
		slices.Sort(v)
		h = len(v) / 2
		m := Middle{N: uint32(len(v)), Low: v[h-1], Mid: v[h], High: v[min(h+1, len(v)-1)]}
		if len(v)%2 == 0 {
			m.Mid, m.High = (v[h-1]+v[h])/2, v[h]
		}
		if got := m.Without(x); math.Abs(got-want) > 1e-9*(1+math.Abs(want)) {
			t.Fatalf("%v without %v: %v, want %v", v, x, got, want)
		}
	})
}

// What is common to all says nothing, however large; what differs from member to member for good says nothing either.
func TestWhatAllDoIsNotOdd(t *testing.T) {
	worst := 0.0
	for seed := range uint64(5) {
		f := newFlock(seed, 7, 50)
		for range 400 {
			f.round(nil)
		}
		for i := range 200 {
			f.round(func(int, int) float64 { return float64(i) }) // 1000 of their own deviations, in the end
			_, most := f.most()
			worst = max(worst, most)
		}
	}
	if worst > 9 {
		t.Errorf("a surprise of %.1f in 1000 rounds of 7 machines", worst)
	}
}

func TestOneThatDriftsAloneIsOdd(t *testing.T) {
	for seed := range uint64(5) {
		f := newFlock(seed, 7, 50)
		for range 400 {
			f.round(nil)
		}
		// A tenth of the common course's own deviation over 100 rounds: no baseline of the machine alone sees that.
		for i := range 100 {
			f.round(func(k, s int) float64 {
				if k == 3 && s == 1 {
					return 0.005 * float64(i)
				}
				return 0
			})
		}
		member, most := f.most()
		if member != 3 || most < 14 {
			t.Errorf("seed %d: %d is the odd one, surprise %.1f", seed, member, most)
		}
		if f.surprise(2) > 7 {
			t.Errorf("seed %d: a sister of it is odd too, surprise %.1f", seed, f.surprise(2))
		}
		s := scoresFor(2)
		w := Window{StartUS: f.at + roundUS, EndUS: f.at + 2*roundUS, Values: []Value{value(0), value(0)}}
		f.d[3].Score(&w, s)
		if !(s.Share[1] > 0.9) || math.Abs(float64(s.Share[0]+s.Share[1])-1) > 1e-6 {
			t.Errorf("seed %d: shares %v", seed, s.Share)
		}
		if off := float64(f.d[3].sensors[1].at) - (f.level[3][1] + f.common); math.Abs(off) > 0.3 {
			t.Errorf("seed %d: its sisters would have it %.2f from where it was before", seed, off)
		}
	}
}

// A member's constant distance from the others changes nothing of what anyone says.
func TestDistancesForGoodDoNotCount(t *testing.T) {
	one, other := newFlock(1, 6, 0), newFlock(1, 6, 0)
	for k := range other.level {
		other.level[k][0] += 1000 * float64(k)
	}
	for i := range 420 {
		for _, f := range []*flock{one, other} {
			f.round(func(k, _ int) float64 {
				if k == 0 && i > 400 {
					return 2
				}
				return 0
			})
		}
	}
	for k := range one.d {
		if a, b := one.surprise(k), other.surprise(k); math.Abs(a-b) > 0.02*(1+a) {
			t.Errorf("member %d: %v and, elsewhere, %v", k, a, b)
		}
	}
}

func TestWithoutSistersNothingIsSaid(t *testing.T) {
	f := newFlock(3, 6, 1)
	if t1 := f.surprise(0); t1 == t1 {
		t.Error("an opinion before there was a round")
	}
	for range 250 {
		f.round(nil)
	}
	if t1 := f.surprise(0); t1 == t1 {
		t.Error("an opinion of what is hardly known")
	}
	for range 100 {
		f.round(nil)
	}
	if t1 := f.surprise(0); t1 != t1 {
		t.Error("no opinion")
	}
	f.at += 10 * roundUS
	if t1 := f.surprise(0); t1 == t1 {
		t.Error("an opinion long after the last round")
	}
	f.at -= 10 * roundUS
	// Sensors that are absent, and those that too few have.
	f.absent = func(member, sensor int) bool { return sensor == 0 && member > 1 }
	before := f.d[0].sensors[0]
	f.round(nil)
	if f.d[0].sensors[0] != before {
		t.Error("a sensor that two have was compared")
	}
	if f.surprise(0) != f.surprise(0) {
		t.Error("no opinion of the other sensor")
	}
}

func TestARoundCountsOnce(t *testing.T) {
	f := newFlock(4, 5, 1)
	for range 60 {
		f.round(nil)
	}
	d := f.d[1]
	before := d.AppendState(nil)
	for _, at := range []int64{f.at, f.at - roundUS} {
		w := Window{StartUS: at, EndUS: at + roundUS, Values: []Value{value(500), value(500)}}
		d.Compare(&w, &Peers{Middles: []Middle{{N: 5}, {N: 5}}, Sisters: 4, Least: 4}, true)
	}
	if !slices.Equal(before, d.AppendState(nil)) {
		t.Error("it changed what is known")
	}
}

func TestRestoredSistersGoOn(t *testing.T) {
	one, other := newFlock(2, 6, 10), newFlock(2, 6, 10)
	for i := range 420 {
		one.round(nil)
		other.round(nil)
		if i%37 == 5 {
			for k, d := range other.d {
				c := DefaultConfig()
				c.Cohort.Memory = 1000
				next := newSisters(&c).(*sisters)
				next.Grow([]string{"a", "b"})
				r := codec.NewReader(d.AppendState(nil))
				if next.RestoreState(r); r.Err() != nil || r.Remaining() > 0 {
					t.Fatal(r.Err(), r.Remaining())
				}
				other.d[k] = next
			}
		}
	}
	for k := range one.d {
		if !slices.Equal(one.d[k].AppendState(nil), other.d[k].AppendState(nil)) || one.surprise(k) != other.surprise(k) {
			t.Errorf("member %d differs", k)
		}
	}
}

// Whatever a round says, what is known stays finite, and memory is not asked for.
func TestNoRoundBreaksSisters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFlock(9, 5, 1)
		for range 300 {
			f.round(nil)
		}
		odd := rapid.SampledFrom([]float64{0, 1, -1, 1e30, -1e30, 1e300, math.MaxFloat64, math.SmallestNonzeroFloat64})
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			f.at += roundUS
			x := []float64{odd.Draw(t, "low"), odd.Draw(t, "mid"), odd.Draw(t, "high")}
			slices.Sort(x)
			w := Window{StartUS: f.at, EndUS: f.at + roundUS, Values: []Value{value(odd.Draw(t, "value")), value(1)}}
			f.d[0].Compare(&w, &Peers{Middles: []Middle{{N: 5, Low: x[0], Mid: x[1], High: x[2]}, {N: 5}}, Sisters: 4, Least: 4, Anew: rapid.IntRange(0, 9).Draw(t, "anew") == 0}, rapid.Bool().Draw(t, "learn"))
			s := scoresFor(2)
			next := Window{StartUS: f.at + roundUS, EndUS: f.at + 2*roundUS, Values: w.Values}
			f.d[0].Score(&next, s)
			if s.Joint > math.MaxFloat32 || s.Joint < 0 {
				t.Fatalf("a surprise of %v", s.Joint)
			}
			for i := range f.d[0].sensors {
				e := &f.d[0].sensors[i]
				if x := float64(e.sd) + float64(e.wander) + float64(e.chart) + e.distance.value(); math.IsNaN(x) || math.IsInf(x, 0) {
					t.Fatalf("%+v", e)
				}
			}
		}
	})
}

func BenchmarkCompare(b *testing.B) {
	c := DefaultConfig()
	d := newSisters(&c)
	names := make([]string, 10)
	d.Grow(names)
	w := Window{EndUS: roundUS, Values: make([]Value, 10)}
	m := make([]Middle, 10)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range m {
		w.Values[i] = value(r.NormFloat64())
		m[i] = Middle{N: 9, Low: -0.1, Mid: 0, High: 0.1}
	}
	s := scoresFor(10)
	b.ReportAllocs()
	for b.Loop() {
		w.StartUS, w.EndUS = w.StartUS+roundUS, w.EndUS+roundUS
		d.(Peered).Compare(&w, &Peers{Middles: m, Sisters: 8, Least: 4}, true)
		d.Score(&w, s)
	}
}
