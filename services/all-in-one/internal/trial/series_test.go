package trial

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// However long time is, a course holds every window once, its highest score, and no more points than are drawn.
func TestACourseKeepsTheHighest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Series
		var e Envelope
		at, n, highest, low, high := time.Unix(1_700_000_000, 0), 0, 0.0, math.Inf(1), math.Inf(-1)
		for _, step := range rapid.SliceOfN(rapid.Int64Range(-5, 100_000), 1, 300).Draw(t, "seconds") {
			at = at.Add(time.Duration(step) * time.Second)
			v := float64(rapid.Float32Range(0, 100).Draw(t, "surprise"))
			s.add(at, v, 50, false)
			e.add(at, v)
			e.add(at, math.NaN())
			n, highest, low, high = n+1, max(highest, v), min(low, v), max(high, v)
		}
		windows, flagged, most := 0, 0, 0.0
		for _, p := range s.Points {
			windows, flagged, most = windows+p.Windows, flagged+p.Flagged, max(most, p.Surprise)
		}
		if windows != n || most != highest || (flagged > 0) != (highest >= 50) || len(s.Points) > buckets {
			t.Fatalf("%d of %d windows, highest %g of %g, %d points", windows, n, most, highest, len(s.Points))
		}
		samples, l, h := 0, math.Inf(1), math.Inf(-1)
		for _, r := range e.Ranges {
			if r.N > 0 {
				samples, l, h = samples+int(r.N), min(l, float64(r.Low)), max(h, float64(r.High))
			}
		}
		if samples != n || l != low || h != high {
			t.Fatalf("%d of %d samples, %g to %g", samples, n, l, h)
		}
		if last := s.Time(len(s.Points)); !at.Before(last) && len(s.Points) > 1 {
			t.Fatalf("%s is beyond the end %s", at, last)
		}
	})
}

// Byar's limits hold the exact Poisson ones within some percent, or some hundredths: 10 events are 4.80 to 18.39, none is up to 3.69.
func TestRateLimits(t *testing.T) {
	for _, c := range []struct {
		n         int
		low, high float64
	}{{0, 0, 3.69}, {1, 0.0253, 5.57}, {10, 4.80, 18.39}, {100, 81.4, 121.6}} {
		r := rate(c.n, Month)
		if math.Abs(r.Low-c.low) > 0.02*c.low+0.02 || math.Abs(r.High-c.high) > 0.02*c.high {
			t.Errorf("%d: %g to %g, want %g to %g", c.n, r.Low, r.High, c.low, c.high)
		}
	}
}
