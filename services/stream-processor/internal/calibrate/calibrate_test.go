package calibrate

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestScoreAndPValue(t *testing.T) {
	for _, c := range []struct{ t, score float64 }{{0, 0}, {math.NaN(), 0}, {-1, 0}, {math.Log(2), 0.5}, {1e6, math.Nextafter(1, 0)}, {math.Inf(1), math.Nextafter(1, 0)}} {
		if got := Score(c.t); math.Abs(got-c.score) > 1e-15 || got >= 1 {
			t.Errorf("Score(%v) = %v, want %v", c.t, got, c.score)
		}
	}
	if p := PValue(Surprise(1e-9)); math.Abs(p-1e-9) > 1e-20 {
		t.Errorf("there and back: %v", p)
	}
}

// exceed is the share of n draws whose surprise is beyond the one of p.
func exceed(n int, p float64, draw func() float64) float64 {
	k := 0
	for range n {
		if draw() > Surprise(p) {
			k++
		}
	}
	return float64(k) / float64(n)
}

func within(t *testing.T, what string, got, want, factor float64) {
	t.Helper()
	if got > want*factor || got < want/factor {
		t.Errorf("%s: %v, want %v within a factor of %v", what, got, want, factor)
	}
}

// A detector whose model is wrong is right after the Tail has seen it: its surprises come as often as they say.
func TestTailCalibrates(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for name, draw := range map[string]func() float64{
		"model is right":      func() float64 { return r.ExpFloat64() },
		"tail far too light":  func() float64 { return 4 * r.ExpFloat64() },
		"surprised too often": func() float64 { return 2 + r.ExpFloat64() },
	} {
		var tail Tail
		for range 5000 {
			tail.Learn(5000, draw())
		}
		for _, p := range []float64{0.01, 0.001} {
			got := exceed(400_000, p, func() float64 { return tail.Correct(&SensorPrior, draw()) })
			within(t, name, got, p, 3)
		}
	}
}

func TestTailIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tail Tail
		for range rapid.IntRange(0, 300).Draw(t, "n") {
			tail.Learn(100, rapid.Float64Range(0, 1000).Draw(t, "t"))
		}
		a, b := rapid.Float64Range(0, 100).Draw(t, "a"), rapid.Float64Range(0, 100).Draw(t, "b")
		if x, y := tail.Correct(&SensorPrior, a), tail.Correct(&SensorPrior, b); a < b != (x < y) && a != b || x < 0 || math.IsNaN(x) {
			t.Fatalf("%v to %v, %v to %v", a, x, b, y)
		}
	})
}

func TestCauchyHoldsUnderDependence(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	surprise := func(z float64) float64 { return -math.Log(math.Erfc(math.Abs(z) / math.Sqrt2)) }
	for name, rho := range map[string]float64{"independent": 0, "dependent": 0.7, "the same": 1} {
		draw := func() float64 {
			var c Cauchy
			common := r.NormFloat64()
			for range 10 {
				c.Add(surprise(rho*common + math.Sqrt(1-rho*rho)*r.NormFloat64()))
			}
			return c.Surprise()
		}
		within(t, name, exceed(100_000, 0.01, draw), 0.01, 1.8)
	}
	var none Cauchy
	if s := none.Surprise(); s == s {
		t.Errorf("no opinion is %v", s)
	}
	for _, s := range []float64{0.1, 1, 14.9, 15.1, 400} {
		var one Cauchy
		one.Add(s)
		if got := one.Surprise(); math.Abs(got-s) > 1e-6*s {
			t.Errorf("one opinion of %v becomes %v", s, got)
		}
	}
	var huge Cauchy
	huge.Add(math.Inf(1))
	huge.Add(0)
	if s := huge.Surprise(); !(s > 400 && s < 510) {
		t.Errorf("certainty becomes %v", s)
	}
}

func TestScanHoldsItsLevel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	chart := 0.0
	for name, next := range map[string]func() float64{
		"independent": func() float64 { return r.ExpFloat64() },
		"a chart of weight 1/4": func() float64 {
			chart += (r.NormFloat64() - chart) / 4
			return -math.Log(math.Erfc(math.Abs(chart) / math.Sqrt(1.0/7) / math.Sqrt2))
		},
	} {
		var s Scan
		draw := func() float64 {
			x := next()
			out := s.Surprise(x)
			s.Push(x)
			return out
		}
		for _, p := range []float64{0.1, 0.01, 0.001} {
			if got := exceed(1_000_000, p, draw); got > p*1.3 || got < p/5 {
				t.Errorf("%s: %v at %v", name, got, p)
			}
		}
	}
	// Four windows of one in a thousand each say more than one of them.
	var s Scan
	for range 3 {
		s.Push(7)
	}
	if got := s.Surprise(7); got < 8 {
		t.Errorf("four windows of 7 make %v", got)
	}
	if got := s.Surprise(1e9); math.IsNaN(got) || math.IsInf(got, 0) {
		t.Errorf("overflow: %v", got)
	}
}

func TestPageSurprise(t *testing.T) {
	got := PageSurprise(1, 5e6)
	if want := math.Log(30 * 24 * 720); math.Abs(got-want) > 1e-12 {
		t.Errorf("%v, want %v", got, want)
	}
	if PageSurprise(2, 5e6) >= got || PageSurprise(1, 300e6) >= got {
		t.Error("more budget or fewer windows must ask for less")
	}
}
