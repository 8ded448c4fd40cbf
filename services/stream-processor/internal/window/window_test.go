package window

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestStart(t *testing.T) {
	for _, c := range []struct{ at, want int64 }{{0, 0}, {4, 0}, {5, 5}, {-1, -5}, {-5, -5}, {-6, -10}, {12, 10}} {
		if got := Start(c.at, 5); got != c.want {
			t.Errorf("Start(%d) = %d, want %d", c.at, got, c.want)
		}
	}
}

func TestAccumAgainstTheTextbook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offset := rapid.Float32Range(-1e6, 1e6).Draw(t, "offset")
		values := rapid.SliceOfN(rapid.Float32Range(-100, 100), 1, 200).Draw(t, "values")
		var a Accum
		var sum float64
		for i := range values {
			values[i] += offset
			a.Add(values[i], uint32(i))
			sum += float64(values[i])
		}
		mean, square := sum/float64(len(values)), 0.0
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, v := range values {
			square += (float64(v) - mean) * (float64(v) - mean)
			lo, hi = min(lo, float64(v)), max(hi, float64(v))
		}
		s := a.Stats()
		if int(s.Count) != len(values) || math.Abs(s.Mean-mean) > 1e-6 || math.Abs(s.Stddev-math.Sqrt(square/float64(len(values)))) > 1e-6 ||
			s.Min != lo || s.Max != hi || s.Last != float64(values[len(values)-1]) {
			t.Fatalf("%+v of %v", s, values)
		}
	})
}

func TestLastIsByEventTime(t *testing.T) {
	var a Accum
	a.Add(1, 10)
	a.Add(2, 30)
	a.Add(3, 20)
	a.Add(4, 30)
	if got := a.Stats().Last; got != 4 {
		t.Fatalf("last is %v, want 4", got)
	}
	a.Reject()
	if s := a.Stats(); s.Unusable != 1 || s.Count != 4 {
		t.Fatalf("%+v", s)
	}
}

func TestPanesStayInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Panes
		var pool Pool
		have := map[int64]bool{}
		for range rapid.IntRange(0, 40).Draw(t, "panes") {
			at := rapid.Int64Range(-20, 20).Draw(t, "start")
			if p := s.Find(at); (p != nil) != have[at] {
				t.Fatalf("Find(%d) = %v", at, p)
			}
			if !have[at] {
				p := s.Insert(&pool, at, 3)
				p.Accums[2].Add(1, 0)
				p.SetStuck(70)
				have[at] = true
			}
			if s.Len() > 10 {
				delete(have, s.All()[0].StartUS)
				s.DropOldest(&pool)
			}
		}
		for i, p := range s.All() {
			if i > 0 && p.StartUS <= s.All()[i-1].StartUS || len(p.Accums) != 3 || p.Accums[2].Count != 1 || p.StuckCount() != 1 || !p.Stuck(70) || p.Stuck(6) {
				t.Fatalf("pane %d of %d: %+v", i, s.Len(), p)
			}
		}
	})
}
