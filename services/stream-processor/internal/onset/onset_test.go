package onset

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// play pushes windows of independent noise, moved by shift(window) standard deviations on sensor 0, and returns each window's surprise.
func play(w *Watch, r *rand.Rand, windows, sensors int, shift func(i int) float64) []float64 {
	w.Grow(sensors)
	out := make([]float64, windows)
	x := make([]float64, sensors)
	for i := range out {
		for s := range x {
			x[s] = 20 + r.NormFloat64()
		}
		x[0] += shift(i)
		at := func(s int) float64 { return x[s] }
		out[i] = w.Surprise(at)
		w.Push(at)
	}
	return out
}

func highest(t []float64) (m float64) {
	for _, x := range t {
		m = max(m, x)
	}
	return m
}

func TestAShiftIsNotableOnceAndThenNoNews(t *testing.T) {
	var w Watch
	got := play(&w, rand.New(rand.NewPCG(1, 2)), 3000, 3, func(i int) float64 {
		if i >= 2000 {
			return 6
		}
		return 0
	})
	if x := highest(got[2000:2010]); x < Notable+1 {
		t.Errorf("a lasting shift of six deviations has a surprise of %v at most", x)
	}
	news := 0
	for _, x := range got[2100:] {
		if x > Notable {
			news++
		}
	}
	if news > 9 { // one in a hundred; one in 250 is expected of windows in which nothing begins
		t.Errorf("%d of 900 windows are notable while nothing begins", news)
	}
}

func TestAnotherShiftDuringTheFirstIsNotable(t *testing.T) {
	var w Watch
	got := play(&w, rand.New(rand.NewPCG(3, 4)), 4000, 2, func(i int) float64 {
		switch {
		case i >= 3000:
			return 26
		case i >= 2000:
			return 8
		}
		return 0
	})
	if x := highest(got[3000:3010]); x < Notable {
		t.Errorf("what begins while something lasts has a surprise of %v", x)
	}
}

func TestAChangeOfVarianceIsNotable(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var w Watch
	got := play(&w, r, 2300, 1, func(i int) float64 {
		if i >= 2000 {
			return 4 * r.NormFloat64()
		}
		return 0
	})
	if x := highest(got[2000:2100]); x < Notable {
		t.Errorf("four times the deviation has a surprise of %v at most", x)
	}
}

// The p-value is what it says, within a factor of two: that often is it passed on signals of which nothing is wrong.
func TestItIsAsRareAsItSays(t *testing.T) {
	const windows, learned = 20_000, 1000
	for name, noise := range map[string]func(r *rand.Rand, before float64) float64{
		"independent":    func(r *rand.Rand, _ float64) float64 { return r.NormFloat64() },
		"heavy tails":    func(r *rand.Rand, _ float64) float64 { return r.NormFloat64() / math.Sqrt(r.ExpFloat64()) },
		"autocorrelated": func(r *rand.Rand, before float64) float64 { return 0.9*before + r.NormFloat64() },
	} {
		r := rand.New(rand.NewPCG(7, 8))
		var w Watch
		w.Grow(1)
		above, x := 0, 0.0
		for i := range windows {
			x = noise(r, x)
			at := func(int) float64 { return x }
			far := w.farthest(at)
			if t := w.past[quick].surprise(far[quick]); i >= learned && t > math.Log(100) {
				above++
			}
			w.Push(at)
		}
		if share := float64(above) / (windows - learned); share < 0.005 || share > 0.02 {
			t.Errorf("%s: %.4f of the windows are among one in a hundred", name, share)
		}
	}
}

// The unit does not matter: in another one each distance is the same multiple of what it was, by less than the rounding of its usual one.
func TestInAnotherUnitDistancesAreTheSameMultiple(t *testing.T) {
	// The logarithms whose mean is the usual distance are rounded to quarters, which may be all up in one unit and all down in the other; a third leaves room for the mean's own rounding.
	const rounding = 1.0 / 3
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		scale := math.Exp2(float64(rapid.IntRange(-20, 20).Draw(t, "scale"))) // a power of two: float32 rounds alike
		var a, b Watch
		a.Grow(1)
		b.Grow(1)
		var factor [charts]float64
		for i := range 500 {
			x := r.NormFloat64()
			one, other := func(int) float64 { return x }, func(int) float64 { return scale * x }
			far, away := a.farthest(one), b.farthest(other)
			for c := range far {
				if factor[c] == 0 && far[c] > 0 {
					factor[c] = away[c] / far[c]
				}
				if math.Abs(math.Log(max(factor[c], 1e-9))) > rounding && far[c] > 0 {
					t.Fatalf("window %d, chart %d: %v times as far in another unit", i, c, factor[c])
				}
				if math.Abs(away[c]-factor[c]*far[c]) > 1e-9*away[c] {
					t.Fatalf("window %d, chart %d: %v, and %v in another unit, of which %v times as much was expected", i, c, far[c], away[c], factor[c])
				}
			}
			a.Push(one)
			b.Push(other)
		}
	})
}

// Distances that are all some whole bins farther are as rare as they were, seen or not.
func TestFartherByWholeBinsIsAsRare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const fine = 64 // steps in a bin: each distance lies amid one, clear of the bins' edges
		step := rapid.IntRange(5*fine, (bins-10)*fine)
		at := func(step, farther int) float64 {
			return math.Exp(lowest + ((float64(step)+0.5)/fine+float64(farther))/perE)
		}
		farther := rapid.IntRange(-4, 9).Draw(t, "bins") // the lowest and the highest bin hold what is beyond them too
		var a, b history
		for _, s := range rapid.SliceOfN(step, burnIn, 400).Draw(t, "distances") {
			a.add(at(s, 0))
			b.add(at(s, farther))
		}
		x := step.Draw(t, "distance")
		if s, u := a.surprise(at(x, 0)), b.surprise(at(x, farther)); math.Abs(s-u) > 1e-9 {
			t.Fatalf("%v, and %v for what is %d bins farther", s, u, farther)
		}
	})
}

// What has been seen as often as the tail wants is as rare as it was, but for what is less than a bin away: that much may the rounding of the unit change.
func TestWhatWasSeenIsAsRareAsItWasWithinABin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		near := rapid.Float64Range(-0.9, 5)
		seen := rapid.SliceOfN(near, 3*burnIn, 400).Draw(t, "logarithms")
		x := near.Draw(t, "logarithm")
		var h history
		for _, l := range seen {
			h.add(math.Exp(l))
		}
		var surely, perhaps float64
		for _, l := range seen {
			if l > x+1.0001/perE {
				surely++
			}
			if l > x-1.0001/perE {
				perhaps++
			}
		}
		n := float64(len(seen))
		if surely < max(fewest, inTail*n) {
			return
		}
		if share := math.Exp(-h.surprise(math.Exp(x))) * (n + 1); share < surely || share > perhaps+1 {
			t.Fatalf("%v of %v are said to be as far; it is between %v and %v", share, n, surely, perhaps)
		}
	})
}

// All together: in each of many units nearly the same windows are notable, and the others are about as surprising.
func TestTheUnitDoesNotMatter(t *testing.T) {
	const windows, learned = 3000, 1000
	for k := -20; k <= 20; k += 4 {
		r := rand.New(rand.NewPCG(11, 12)) // one machine, so that nothing here is by chance
		scale := math.Exp2(float64(k)) * math.Exp(float64(k)/37)
		var a, b Watch
		a.Grow(1)
		b.Grow(1)
		var differ, sum float64
		for i := range windows {
			x := r.NormFloat64()
			if i%500 > 480 {
				x *= 8
			}
			one, other := func(int) float64 { return x }, func(int) float64 { return scale * x }
			s, u := a.Surprise(one), b.Surprise(other)
			if i >= learned {
				sum += math.Abs(s - u)
				if (s > Notable) != (u > Notable) {
					differ++
				}
			}
			a.Push(one)
			b.Push(other)
		}
		if mean := sum / (windows - learned); mean > 0.1 || differ > 4 {
			t.Errorf("times %.3g: the surprise differs by %.3f on average, and %v windows are notable in one unit only", scale, mean, differ)
		}
	}
}

// Nor does the zero point: sums that float32 holds exactly give the very same.
func TestTheOffsetDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		offset := float64(rapid.IntRange(-4000, 4000).Draw(t, "offset"))
		var a, b Watch
		a.Grow(1)
		b.Grow(1)
		for i := range 500 {
			x := math.Round(1024*max(-90, min(r.NormFloat64(), 90))) / 1024
			one, other := func(int) float64 { return x }, func(int) float64 { return offset + x }
			if s, u := a.Surprise(one), b.Surprise(other); s != u {
				t.Fatalf("window %d: %v, and %v from another zero point", i, s, u)
			}
			a.Push(one)
			b.Push(other)
		}
	})
}

func TestWhateverComesItStaysFinite(t *testing.T) {
	wild := []float64{0, 1, -1, math.NaN(), math.MaxFloat32, -math.MaxFloat32, 1e-45, 5}
	rapid.Check(t, func(t *rapid.T) {
		var w Watch
		w.Grow(2)
		for range rapid.IntRange(0, 400).Draw(t, "windows") {
			x := [2]float64{rapid.SampledFrom(wild).Draw(t, "x"), rapid.SampledFrom(wild).Draw(t, "y")}
			at := func(i int) float64 { return x[i] }
			if s := w.Surprise(at); !(s >= 0 && s < 1e6) {
				t.Fatalf("surprise %v", s)
			}
			w.Push(at)
		}
	})
}

func TestAConstantSensorIsNeverNews(t *testing.T) {
	var w Watch
	w.Grow(1)
	for range 2000 {
		if s := w.Surprise(func(int) float64 { return 3 }); s > 0.05 && w.sensors[0].n >= settling {
			t.Fatalf("a constant has a surprise of %v", s)
		}
		w.Push(func(int) float64 { return 3 })
	}
}

func TestRestoredItGoesOnAsBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var w Watch
		play(&w, r, rapid.IntRange(0, 500).Draw(t, "windows"), 3, func(int) float64 { return 0 })
		state := w.AppendState(nil)
		var again Watch
		again.Grow(3)
		rd := codec.NewReader(state)
		again.RestoreState(rd)
		if rd.Err() != nil || rd.Remaining() != 0 {
			t.Fatalf("restore: %v, %d bytes left", rd.Err(), rd.Remaining())
		}
		if !bytes.Equal(state, again.AppendState(nil)) {
			t.Fatal("restored and written again it is something else")
		}
		x := [3]float64{21, 19, 40}
		at := func(i int) float64 { return x[i] }
		if a, b := w.Surprise(at), again.Surprise(at); a != b {
			t.Fatalf("surprise %v, restored %v", a, b)
		}
	})
}

func FuzzRestore(f *testing.F) {
	var w Watch
	w.Grow(2)
	f.Add(w.AppendState(nil))
	f.Fuzz(func(t *testing.T, src []byte) {
		var w Watch
		w.Grow(2)
		w.RestoreState(codec.NewReader(src))
		at := func(int) float64 { return 1 }
		w.Surprise(at)
		w.Push(at)
	})
}

func TestNoAllocations(t *testing.T) {
	var w Watch
	play(&w, rand.New(rand.NewPCG(1, 1)), 500, 10, func(int) float64 { return 0 })
	at := func(i int) float64 { return float64(i) }
	if n := testing.AllocsPerRun(100, func() { w.Surprise(at); w.Push(at) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkWindow(b *testing.B) {
	var w Watch
	play(&w, rand.New(rand.NewPCG(1, 1)), 2000, 10, func(int) float64 { return 0 })
	at := func(i int) float64 { return 20 + float64(i) }
	b.ReportAllocs()
	for b.Loop() {
		w.Surprise(at)
		w.Push(at)
	}
}
