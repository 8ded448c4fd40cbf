package detect

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const sensors = 5

func sensorNames(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("s", i)
	}
	return out
}

func config() *Config {
	c := DefaultConfig()
	low, high := 10.0, 90.0
	c.Limits = []Limit{{Sensor: "s[13]", LowWarning: &low, HighCritical: &high}}
	return &c
}

// draw makes a window of noise; some sensors are missing, one is constant.
func draw(r *rand.Rand, n int, start int64) *Window {
	w := &Window{StartUS: start, EndUS: start + 5e6, Values: make([]Value, n)}
	for i := range w.Values {
		m := 50 + r.NormFloat64()
		if i == 2 {
			m = 7
		}
		w.Values[i] = Value{Mean: m, Stddev: math.Exp(0.2 * r.NormFloat64()), Min: m - 2, Max: m + 2, Count: 5, Resolution: 0.001}
		if i == 2 {
			w.Values[i].Stddev, w.Values[i].Resolution = 0, 0
		}
		if r.IntN(20) == 0 {
			nan := math.NaN()
			w.Values[i] = Value{Mean: nan, Stddev: nan, Min: nan, Max: nan}
		}
	}
	return w
}

func scoresFor(n int) *Scores {
	s := &Scores{Surprise: make([]float32, n), Low: make([]float32, n), High: make([]float32, n), Level: make([]Level, n), Share: make([]float32, n)}
	s.preset()
	return s
}

func (s *Scores) preset() {
	nan := float32(math.NaN())
	s.Joint = nan
	clear(s.Share)
	for i := range s.Surprise {
		s.Surprise[i], s.Low[i], s.High[i], s.Level[i] = nan, nan, nan, Within
	}
}

// The rules that every detector is held to, whoever adds one.
func TestEveryDetectorKeepsTheRules(t *testing.T) {
	for _, spec := range Builtin() {
		t.Run(spec.Name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 9))
			d := spec.New(config())
			d.Grow(sensorNames(3))
			s := scoresFor(3)
			for i := range int64(40) {
				w := draw(r, 3, i*5e6)
				d.Score(w, s)
				d.Follow(w)
				d.Learn(w)
			}
			d.Grow(sensorNames(sensors))
			s = scoresFor(sensors)
			for i := range int64(300) {
				w := draw(r, sensors, (40+i)*5e6)
				before := d.AppendState(nil)
				s.preset()
				d.Score(w, s)
				if !bytes.Equal(before, d.AppendState(nil)) {
					t.Fatal("Score changed the detector")
				}
				for k := range w.Values {
					if x := s.Surprise[k]; x < 0 || math.IsInf(float64(x), 0) || x == x && w.Values[k].Count == 0 {
						t.Fatalf("window %d: surprise %v of %+v", i, x, w.Values[k])
					}
					if s.Low[k] > s.High[k] {
						t.Fatalf("band %v to %v", s.Low[k], s.High[k])
					}
				}
				d.Follow(w)
				if i%3 > 0 {
					d.Learn(w)
				}

				snap := d.AppendState(nil)
				again := spec.New(config())
				again.Grow(sensorNames(sensors))
				in := codec.NewReader(snap)
				again.RestoreState(in)
				if in.Err() != nil || in.Remaining() > 0 || !bytes.Equal(snap, again.AppendState(nil)) {
					t.Fatalf("window %d: restored otherwise (%v, %d bytes left)", i, in.Err(), in.Remaining())
				}
				d = again
			}
			w := draw(r, sensors, 5e9)
			if n := testing.AllocsPerRun(100, func() { d.Score(w, s); d.Follow(w); d.Learn(w) }); n > 0 {
				t.Errorf("%v allocations per window", n)
			}
			state := d.AppendState(nil)
			for n := 0; n < len(state); n += 1 + len(state)/300 {
				in := codec.NewReader(state[:n])
				other := spec.New(config())
				other.Grow(sensorNames(sensors))
				other.RestoreState(in)
				if in.Err() == nil {
					t.Fatalf("cut to %d bytes without complaint", n)
				}
			}
		})
	}
}

// everyLearner runs a test for each detector that learns.
func everyLearner(t *testing.T, test func(t *testing.T, spec Spec)) {
	for _, spec := range Builtin() {
		if !spec.Fixed {
			t.Run(spec.Name, func(t *testing.T) { test(t, spec) })
		}
	}
}

// Sensors that never change surprise nobody, however long; nor does a machine that sends nothing.
func TestConstantAndMissingInput(t *testing.T) {
	everyLearner(t, func(t *testing.T, spec Spec) {
		d, s := spec.New(config()), scoresFor(sensors)
		d.Grow(sensorNames(sensors))
		nan := math.NaN()
		for i := range int64(600) {
			w := &Window{StartUS: i * 600e6, EndUS: i*600e6 + 5e6, Values: make([]Value, sensors)}
			for k := range w.Values {
				w.Values[k] = Value{Mean: float64(k) - 2, Min: float64(k) - 2, Max: float64(k) - 2, Count: 5}
				if i%50 == 7 || i < 20 && i%2 == 1 {
					w.Values[k] = Value{Mean: nan, Stddev: nan, Min: nan, Max: nan}
				}
			}
			s.preset()
			d.Score(w, s)
			if s.Joint > 3 || s.Joint < 0 {
				t.Fatalf("window %d: joint surprise %v", i, s.Joint)
			}
			for k, x := range s.Surprise {
				if x > 3 || x < 0 || x == x && w.Values[k].Count == 0 {
					t.Fatalf("window %d: surprise %v of %+v", i, x, w.Values[k])
				}
			}
			d.Follow(w)
			d.Learn(w)
		}
	})
}

// The unit of measurement makes no difference. Powers of two change no digit.
func TestUnitsMakeNoDifference(t *testing.T) {
	everyLearner(t, func(t *testing.T, spec Spec) {
		a, b := spec.New(config()), spec.New(config())
		sa, sb := scoresFor(sensors), scoresFor(sensors)
		a.Grow(sensorNames(sensors))
		b.Grow(sensorNames(sensors))
		r := rand.New(rand.NewPCG(3, 1))
		for i := range int64(700) {
			w := draw(r, sensors, i*600e6)
			scaled := &Window{StartUS: w.StartUS, EndUS: w.EndUS, Values: slices.Clone(w.Values)}
			for k := range scaled.Values {
				v, f := &scaled.Values[k], math.Ldexp(1, 4*k-8)
				v.Mean, v.Stddev, v.Min, v.Max, v.Resolution = v.Mean*f, v.Stddev*f, v.Min*f, v.Max*f, v.Resolution*f
			}
			sa.preset()
			sb.preset()
			a.Score(w, sa)
			b.Score(scaled, sb)
			if !near(sa.Joint, sb.Joint) {
				t.Fatalf("window %d: joint surprise %v and %v", i, sa.Joint, sb.Joint)
			}
			for k := range sa.Surprise {
				if !near(sa.Surprise[k], sb.Surprise[k]) {
					t.Fatalf("window %d, sensor %d: %v and %v", i, k, sa.Surprise[k], sb.Surprise[k])
				}
			}
			a.Follow(w)
			b.Follow(scaled)
			a.Learn(w)
			b.Learn(scaled)
		}
	})
}

func near(a, b float32) bool {
	return a != a && b != b || math.Abs(float64(a-b)) <= 0.01+0.01*math.Abs(float64(a))
}

// What is not learned from changes no opinion for good: a window of nonsense that is only followed leaves the state of what is usual alone, so that
// after it has passed from the charts the opinion is as it was.
func TestNonsenseThatIsNotLearnedPasses(t *testing.T) {
	everyLearner(t, func(t *testing.T, spec Spec) {
		a, b := spec.New(config()), spec.New(config())
		a.Grow(sensorNames(sensors))
		b.Grow(sensorNames(sensors))
		sa, sb := scoresFor(sensors), scoresFor(sensors)
		r := rand.New(rand.NewPCG(3, 2))
		at := int64(0)
		usual := func() *Window { at += 600e6; return draw(r, sensors, at) }
		for range 500 {
			w := usual()
			for _, d := range []Detector{a, b} {
				d.Follow(w)
				d.Learn(w)
			}
		}
		odd := usual()
		for k := range odd.Values {
			odd.Values[k].Mean *= -1e12
		}
		for range 3 {
			a.Score(odd, sa)
			a.Follow(odd)
		}
		for range 300 {
			w := usual()
			a.Follow(w)
			b.Follow(w)
		}
		w := usual()
		sa.preset()
		sb.preset()
		a.Score(w, sa)
		b.Score(w, sb)
		for k := range sa.Surprise {
			if !near(sa.Surprise[k], sb.Surprise[k]) || !near(sa.Joint, sb.Joint) {
				t.Errorf("sensor %d: %v and %v, joint %v and %v", k, sa.Surprise[k], sb.Surprise[k], sa.Joint, sb.Joint)
			}
		}
	})
}

// FuzzRestore: whatever bytes come, there is no panic, and what was taken in can be used.
func FuzzRestore(f *testing.F) {
	for i, spec := range Builtin() {
		d := spec.New(config())
		d.Grow(sensorNames(sensors))
		r := rand.New(rand.NewPCG(5, 5))
		for k := range int64(120) {
			w := draw(r, sensors, k*600e6)
			d.Follow(w)
			d.Learn(w)
		}
		f.Add(uint8(i), d.AppendState(nil))
	}
	f.Fuzz(func(t *testing.T, which uint8, state []byte) {
		specs := Builtin()
		d := specs[int(which)%len(specs)].New(config())
		d.Grow(sensorNames(sensors))
		in := codec.NewReader(state)
		d.RestoreState(in)
		if in.Err() != nil {
			return // the machine refuses the snapshot
		}
		s := scoresFor(sensors)
		r := rand.New(rand.NewPCG(6, 6))
		for k := range int64(20) {
			w := draw(r, sensors, k*600e6)
			s.preset()
			d.Score(w, s)
			d.Follow(w)
			d.Learn(w)
		}
		d.AppendState(nil)
	})
}

// BenchmarkScore and the two after it are of a machine of 8 sensors and one of 64, per window.
func BenchmarkScore(b *testing.B) {
	benchmark(b, func(d Detector, w *Window, s *Scores) { d.Score(w, s) })
}

func BenchmarkFollowLearn(b *testing.B) {
	benchmark(b, func(d Detector, w *Window, _ *Scores) { d.Follow(w); d.Learn(w) })
}

func benchmark(b *testing.B, do func(d Detector, w *Window, s *Scores)) {
	for _, spec := range Builtin() {
		for _, n := range []int{8, 64} {
			b.Run(fmt.Sprintf("%s/%d", spec.Name, n), func(b *testing.B) {
				d, s := spec.New(config()), scoresFor(n)
				d.Grow(sensorNames(n))
				r := rand.New(rand.NewPCG(2, 2))
				var ws []*Window
				for i := range int64(1000) {
					w := draw(r, n, i*600e6)
					d.Follow(w)
					d.Learn(w)
					ws = append(ws, w)
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					w := ws[i%len(ws)]
					do(d, w, s)
					i++
				}
				b.ReportMetric(float64(len(d.AppendState(nil)))/float64(n), "state-B/sensor")
			})
		}
	}
}

// surpriseOf trains a detector with usual windows and asks it about another.
func surpriseOf(name string, n int, usual func(r *rand.Rand) Value, odd Value, times int) float32 {
	spec, _ := specOf(name)
	d := spec.New(config())
	d.Grow(sensorNames(1))
	r := rand.New(rand.NewPCG(4, 4))
	w := &Window{Values: make([]Value, 1)}
	for range n {
		w.Values[0] = usual(r)
		d.Follow(w)
		d.Learn(w)
	}
	s := scoresFor(1)
	w.Values[0] = odd
	for range times - 1 {
		d.Follow(w)
	}
	d.Score(w, s)
	return s.Surprise[0]
}

func TestWhatDetectorsFind(t *testing.T) {
	noise := func(r *rand.Rand) Value {
		return Value{Mean: 50 + r.NormFloat64(), Stddev: 2 * math.Exp(0.1*r.NormFloat64()), Count: 5, Resolution: 1e-6}
	}
	mean := func(m float64) Value { return Value{Mean: m, Stddev: 2, Count: 5, Resolution: 1e-6} }
	sd := func(x float64) Value { return Value{Mean: 50, Stddev: x, Count: 5, Resolution: 1e-6} }
	for _, c := range []struct {
		what     string
		detector string
		odd      Value
		times    int
		from, to float32
	}{
		{"usual", "ewma", mean(50), 1, 0, 2},
		{"small shift, at once", "ewma", mean(51.5), 1, 0, 4},
		{"small shift that lasts", "ewma", mean(51.5), 12, 5, 40},
		{"large shift that lasts", "ewma", mean(60), 8, 20, 200},
		{"spike in the chart", "ewma", mean(500), 1, 0, 3},
		{"usual", "robust_z", mean(50), 1, 0, 2},
		{"jump", "robust_z", mean(56), 1, 5, 60},
		{"jump down", "robust_z", mean(44), 1, 5, 60},
		{"usual", "cusum", mean(50), 1, 0, 2},
		{"small shift, at once", "cusum", mean(51.2), 1, 0, 4},
		{"small shift that lasts", "cusum", mean(51.2), 16, 5, 40},
		{"usual", "spread", sd(2), 1, 0, 2},
		{"burst", "spread", sd(6), 1, 15, 100},
		{"quiet", "spread", sd(0.5), 1, 15, 100},
	} {
		if got := surpriseOf(c.detector, 300, noise, c.odd, c.times); !(got >= c.from && got <= c.to) {
			t.Errorf("%s, %s: surprise %v, want %v to %v", c.detector, c.what, got, c.from, c.to)
		}
	}
	// A sensor that never changed: its first step is no proof of anything.
	still := func(*rand.Rand) Value { return Value{Mean: 20, Count: 5} }
	for _, name := range []string{"ewma", "robust_z", "cusum"} {
		if got := surpriseOf(name, 300, still, Value{Mean: 25, Count: 5, Resolution: 5}, 20); !(got < 5) {
			t.Errorf("%s: a setpoint's first step surprises by %v", name, got)
		}
	}
}

func TestLimitLevels(t *testing.T) {
	warn, crit, rate := 80.0, 90.0, 1.0
	c := DefaultConfig()
	c.Limits = []Limit{{Sensor: "s*", HighWarning: &warn, HighCritical: &crit}, {Sensor: "s0", RateCritical: &rate}}
	d := newLimits(&c)
	d.Grow([]string{"s0", "other", "s1"})
	s := scoresFor(3)
	level := func(start int64, mean, top float64) Level {
		v := Value{Mean: mean, Min: mean, Max: top, Count: 3}
		w := &Window{StartUS: start, Values: []Value{v, v, {Mean: math.NaN()}}}
		s.preset()
		d.Score(w, s)
		d.Follow(w)
		if s.Level[1] != Within || s.Level[2] != Within {
			t.Fatalf("levels %v", s.Level)
		}
		return s.Level[0]
	}
	for i, c := range []struct {
		mean, top float64
		want      Level
	}{{70, 79, Within}, {74, 81, Warning}, {78, 95, Warning}, {82.5, 85, Warning}, {87, 88, Warning}, {91, 91, Critical}, {88, 89, Warning}, {70, 71, Critical}} {
		if got := level(int64(i)*5e6, c.mean, c.top); got != c.want {
			t.Errorf("step %d: level %d, want %d", i, got, c.want)
		}
	}
}

// Values of Student's t and of the normal distribution from tables.
func TestSurpriseOfDeviates(t *testing.T) {
	for _, c := range []struct{ z, p float64 }{{1.959964, 0.05}, {3.290527, 0.001}, {6.109410, 1e-9}} {
		if got := normalSurprise(c.z); math.Abs(got+math.Log(c.p)) > 1e-4 {
			t.Errorf("normal %v: %v, want %v", c.z, got, -math.Log(c.p))
		}
	}
	for z := 0.0; z < 35; z += 0.01 {
		if got, want := normalSurprise(z), -math.Log(math.Erfc(z/math.Sqrt2)); math.Abs(got-want) > 2e-7 || got < 0 {
			t.Fatalf("normal %v: %v, want %v", z, got, want)
		}
	}
	for _, z := range []float64{40, 100, 1e8, 1e150} { // the asymptotic series
		if got, want := normalSurprise(z), z*z/2+math.Log(z*math.Sqrt(math.Pi/2))+1/(z*z); math.Abs(got-want) > 1e-6*want {
			t.Errorf("normal %v: %v, want %v", z, got, want)
		}
	}
	for _, c := range []struct{ t, nu, p float64 }{{3.182, 3, 0.05}, {2.228, 10, 0.05}, {4.587, 10, 0.001}, {2.042, 30, 0.05}, {3.646, 30, 0.001}} {
		if got := studentSurprise(c.t, c.nu); math.Abs(got+math.Log(c.p)) > 0.1 {
			t.Errorf("t %v of %v: %v, want %v", c.t, c.nu, got, -math.Log(c.p))
		}
	}
	for _, x := range []float64{0, 1e300, math.Inf(1)} {
		if s := studentSurprise(x, 3); math.IsNaN(s) || math.IsInf(s, 0) || s < 0 {
			t.Errorf("t %v: %v", x, s)
		}
	}
}

func TestRobustLocation(t *testing.T) {
	for _, c := range []struct {
		values        []float32
		median, sigma float64
	}{
		{[]float32{1, 2, 3, 4, 5, 6, 7}, 4, madToSigma * 2},
		{[]float32{1, 1, 1, 1, 1, 1, 1, 1}, 1, 0},
		{[]float32{5, 1, 3, 2, 4, 1000, 3}, 3, mnaToSigma * (2 + 2 + 0 + 1 + 1 + 997 + 0) / 7 / 2},
		{[]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, 4.5, madToSigma * 2.5}, // the ring of 8 holds 9, 1 ... 7
	} {
		e := robustSensor{new(robustState), make([]float32, 8), make([]uint8, 8)}
		for _, v := range c.values {
			e.push(v, 8)
		}
		m, s := e.location()
		if c.values[0] == 1 && len(c.values) == 16 {
			c.median = 4.5
		}
		if m != c.median || math.Abs(s-c.sigma) > 1e-9 {
			t.Errorf("%v: %v and %v, want %v and %v", c.values, m, s, c.median, c.sigma)
		}
	}
}
