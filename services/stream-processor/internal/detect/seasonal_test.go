package detect

import (
	"math"
	"math/rand/v2"
	"testing"
)

// weeks trains the seasonal detector with a sensor that follows the clock and one that does not, a window every ten minutes.
func weeks(t *testing.T, n int, learn func(i int, at int64) bool) (*seasonal, func(at int64, a, b float64) *Scores) {
	t.Helper()
	c := config()
	d := newSeasonal(c).(*seasonal)
	d.Grow(sensorNames(2))
	r := rand.New(rand.NewPCG(9, 9))
	window := func(at int64, a, b float64) *Window {
		v := Value{Mean: a, Count: 5, Resolution: 1e-3}
		u := Value{Mean: b, Count: 5, Resolution: 1e-3}
		return &Window{StartUS: at, EndUS: at + 5e6, Values: []Value{v, u}}
	}
	for i := range n * 144 {
		at := int64(i) * 600e6
		w := window(at, clockwise(at)+0.3*r.NormFloat64(), r.NormFloat64())
		if learn(i, at) {
			d.Learn(w)
		}
	}
	s := scoresFor(2)
	return d, func(at int64, a, b float64) *Scores {
		s.preset()
		d.Score(window(at, a, b), s)
		return s
	}
}

// clockwise is a day's course of 10 to either side of 100, 4 higher on two days of the week.
func clockwise(at int64) float64 {
	x := 100 + 10*math.Sin(2*math.Pi*float64(at%dayUS)/dayUS)
	if day := at / dayUS % 7; day == 2 || day == 3 { // 1970 began on a Thursday
		x += 4
	}
	return x
}

func always(int, int64) bool { return true }

func TestSeasonalKnowsTheHour(t *testing.T) {
	d, score := weeks(t, 28, always)
	at := int64(28)*dayUS + 6*hourUS // a Thursday's peak
	if s := score(at, clockwise(at), 0); s.Surprise[0] > 3 || !(s.Low[0] > 105 && s.High[0] < 115) {
		t.Errorf("usual: surprise %v, band %v to %v", s.Surprise[0], s.Low[0], s.High[0])
	}
	if s := score(at, 100, 0); s.Surprise[0] < 10 {
		t.Errorf("the right value at the wrong hour: %v", s.Surprise[0])
	}
	saturday := 30*int64(dayUS) + 6*hourUS
	if s := score(saturday, clockwise(saturday), 0); s.Surprise[0] > 4 {
		t.Errorf("a usual Saturday: %v", s.Surprise[0])
	}
	if s := score(saturday, clockwise(saturday)-4, 0); s.Surprise[0] < 7 {
		t.Errorf("a Saturday like a Friday: %v", s.Surprise[0])
	}
	if s := score(at, 100, 50); s.Surprise[1] == s.Surprise[1] {
		t.Errorf("it has an opinion of a sensor that knows no hours: %v", s.Surprise[1])
	}
	if d.sensors[1].cyclic {
		t.Error("noise taken for a cycle")
	}
}

func TestSeasonalWaitsForTwoDays(t *testing.T) {
	_, score := weeks(t, 2, always)
	if s := score(2*dayUS, 500, 0); s.Surprise[0] == s.Surprise[0] {
		t.Errorf("an opinion after less than two days: %v", s.Surprise[0])
	}
	_, score = weeks(t, 5, always)
	if s := score(5*dayUS, 500, 0); !(s.Surprise[0] > 10) {
		t.Errorf("after five days: %v", s.Surprise[0])
	}
}

// A random walk has no hours, however much it moves.
func TestSeasonalIsSilentAboutWalks(t *testing.T) {
	c := config()
	d := newSeasonal(c).(*seasonal)
	d.Grow(sensorNames(1))
	r := rand.New(rand.NewPCG(1, 2))
	x, cyclic := 0.0, 0
	for i := range 60 * 144 {
		x += r.NormFloat64()
		at := int64(i) * 600e6
		d.Learn(&Window{StartUS: at, EndUS: at + 5e6, Values: []Value{{Mean: x, Count: 5, Resolution: 1e-3}}})
		if d.sensors[0].cyclic {
			cyclic++
		}
	}
	if share := float64(cyclic) / (60 * 144); share > 0.25 {
		t.Errorf("a walk was taken for a cycle %.0f %% of the time", 100*share)
	}
}
