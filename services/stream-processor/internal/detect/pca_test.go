package detect

import (
	"math"
	"math/rand/v2"
	"testing"
)

// plant is a machine of n sensors, driven by two hidden causes and a little noise of their own.
func plant(r *rand.Rand, n int) *Window {
	w := &Window{EndUS: 5e6, Values: make([]Value, n)}
	a, b := r.NormFloat64(), r.NormFloat64()
	for i := range w.Values {
		x := 50 + 3*a*math.Cos(float64(i)) + 3*b*math.Sin(float64(i)) + 0.3*r.NormFloat64()
		w.Values[i] = Value{Mean: x, Stddev: 1, Min: x, Max: x, Count: 5, Resolution: 1e-6}
	}
	return w
}

func trained(name string, n, windows int, r *rand.Rand, draw func(*rand.Rand, int) *Window) (Detector, *Scores) {
	spec, _ := specOf(name)
	d := spec.New(config())
	d.Grow(sensorNames(n))
	for i := range int64(windows) {
		w := draw(r, n)
		w.StartUS, w.EndUS = i*5e6, (i+1)*5e6
		d.Follow(w)
		d.Learn(w)
	}
	return d, scoresFor(n)
}

// A sensor well inside its own range that breaks with the others is found, and named.
func TestPCASeesBrokenRelations(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	d, s := trained("pca", 12, 400, r, plant)
	usual := 0.0
	for range 200 {
		w := plant(r, 12)
		s.preset()
		d.Score(w, s)
		usual += float64(s.Joint)
		d.Follow(w)
	}
	if usual /= 200; !(usual > 0.1 && usual < 2) {
		t.Errorf("usual windows surprise by %v, want about 1", usual)
	}
	w := plant(r, 12)
	w.Values[4].Mean += 3 // one standard deviation of the sensor, ten of what the others leave open
	s.preset()
	d.Score(w, s)
	loudest := 0
	for i, x := range s.Surprise {
		if x > s.Surprise[loudest] {
			loudest = i
		}
	}
	if s.Joint < 2 || loudest != 4 || s.Surprise[4] < 10 {
		t.Errorf("broken relation: joint %v, sensor %d with %v", s.Joint, loudest, s.Surprise)
	}
	// A small lasting one is found by the running mean.
	for range 15 {
		w = plant(r, 12)
		w.Values[4].Mean += 0.7
		s.preset()
		d.Score(w, s)
		d.Follow(w)
	}
	if s.Surprise[4] < 4 {
		t.Errorf("small lasting break: %v", s.Surprise)
	}
}

// Sensors that are copies of each other, sums of others or constant leave it sound.
func TestPCAStandsCollinearity(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	copies := func(r *rand.Rand, n int) *Window {
		w := plant(r, n)
		w.Values[1].Mean = w.Values[0].Mean
		w.Values[2].Mean = 2*w.Values[0].Mean + w.Values[3].Mean
		w.Values[5] = Value{Mean: 7, Count: 5}
		return w
	}
	d, s := trained("pca", 8, 5000, r, copies)
	for range 500 {
		w := copies(r, 8)
		s.preset()
		d.Score(w, s)
		if !(s.Joint >= 0 && s.Joint < 15) {
			t.Fatalf("joint surprise %v", s.Joint)
		}
		d.Follow(w)
	}
	w := copies(r, 8)
	w.Values[1].Mean += 4
	s.preset()
	d.Score(w, s)
	if s.Joint < 5 || s.Surprise[1] < 7 {
		t.Errorf("a copy that is none any more: %v, %v", s.Joint, s.Surprise)
	}
	// A constant sensor's first step is no proof.
	w = copies(r, 8)
	w.Values[5] = Value{Mean: 12, Count: 5, Resolution: 5}
	s.preset()
	d.Score(w, s)
	if s.Surprise[5] > 5 || s.Joint > 10 {
		t.Errorf("a setpoint's first step: %v, %v", s.Joint, s.Surprise)
	}
}

func TestPCAOfTooManySensors(t *testing.T) {
	c := config()
	c.PCA.MaxSensors = 4
	d := newPCA(c)
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{4, 5} {
		d.Grow(sensorNames(n))
		s := scoresFor(n)
		for i := range int64(100) {
			w := plant(r, n)
			w.StartUS = i * 5e6
			s.preset()
			d.Score(w, s)
			d.Follow(w)
			d.Learn(w)
		}
		if opinion := s.Joint == s.Joint; opinion != (n == 4) {
			t.Errorf("%d sensors: joint %v", n, s.Joint)
		}
	}
	if len(d.AppendState(nil)) > 100 {
		t.Error("keeps what it has no use for")
	}
}
