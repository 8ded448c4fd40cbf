package detect

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// The conformance suite trains every detector on clean data of three shapes, measures how often it raises a false alarm on more of it, and plants anomalies of the
// kinds that it is meant for. Surprises are calibrated as the machine does, so the stated chance of a false alarm is one in a thousand windows.

const (
	halfHourUS = 1800 * 1_000_000
	perDay     = dayUS / halfHourUS
	alarmFrom  = 6.9 // -ln(1/1000)
	suiteSize  = 6   // sensors
	plants     = 20

	cleanWindows = 1000 // on which false alarms are counted
)

// noises are processes of mean 0 and variance 1.
var noises = []struct {
	name string
	make func(r *rand.Rand) func() float64
}{
	{"gaussian", func(r *rand.Rand) func() float64 { return r.NormFloat64 }},
	{"heavy tails", func(r *rand.Rand) func() float64 { // Student's t with 5 degrees of freedom
		return func() float64 {
			var chi float64
			for range 5 {
				x := r.NormFloat64()
				chi += x * x
			}
			return r.NormFloat64() / math.Sqrt(chi/5) / math.Sqrt(5./3)
		}
	}},
	{"autocorrelated", func(r *rand.Rand) func() float64 {
		x := r.NormFloat64()
		return func() float64 {
			x = 0.8*x + 0.6*r.NormFloat64()
			return x
		}
	}},
}

// site is a machine of which clean windows are drawn.
type site struct {
	r         *rand.Rand
	own       [suiteSize]func() float64
	a, b      func() float64
	kind      string
	i         int64
	departure func(at int64, z *[suiteSize]float64, spread *[suiteSize]float64) // nil: clean
}

func newSite(kind, noise string, seed uint64) *site {
	s := &site{r: rand.New(rand.NewPCG(seed, 77)), kind: kind}
	for _, n := range noises {
		if n.name == noise {
			for i := range s.own {
				s.own[i] = n.make(s.r)
			}
			s.a, s.b = n.make(s.r), n.make(s.r)
		}
	}
	return s
}

// course is what the clock makes of a sensor: a day shift, on weekdays only.
func course(at int64) float64 {
	hour := float64(at%dayUS) / hourUS
	return 6*math.Sin(2*math.Pi*(hour-6)/24) + 3*math.Sin(4*math.Pi*hour/24)
}

func (s *site) window() *Window {
	at := s.i * halfHourUS
	s.i++
	var z, spread [suiteSize]float64
	a, b := s.a(), s.b()
	mode := float64(2*s.r.IntN(2) - 1)
	for i := range z {
		z[i] = s.own[i]()
		spread[i] = 2 * math.Exp(0.1*s.r.NormFloat64())
		switch s.kind {
		case "together":
			z[i] = 0.95*(a*math.Cos(float64(i))+b*math.Sin(float64(i))) + 0.3*z[i]
		case "modes":
			z[i] = 4*mode + 0.5*z[i]
		case "clock":
			z[i] += course(at)
		}
	}
	if s.departure != nil {
		s.departure(at, &z, &spread)
	}
	w := &Window{StartUS: at, EndUS: at + 5e6, Values: make([]Value, suiteSize)}
	for i := range z {
		m := 50 + z[i]
		w.Values[i] = Value{Mean: m, Stddev: spread[i], Min: m - spread[i], Max: m + spread[i], Count: 5, Resolution: 1e-6}
	}
	return w
}

// kinds are the departures that are planted, each on a site of some kind, for so many windows.
var kinds = map[string]struct {
	site  string
	lasts int
	do    func(k int, at int64, z, spread *[suiteSize]float64)
}{
	"beyond":      {"alone", 1, func(_ int, _ int64, z, _ *[suiteSize]float64) { z[1] += 60 }}, // a limit
	"spike":       {"alone", 1, func(_ int, _ int64, z, _ *[suiteSize]float64) { z[1] += 12 }},
	"shift":       {"alone", 24, func(_ int, _ int64, z, _ *[suiteSize]float64) { z[1] += 3 }},
	"small shift": {"alone", 48, func(_ int, _ int64, z, _ *[suiteSize]float64) { z[1] += 1.5 }},
	"drift":       {"alone", 60, func(k int, _ int64, z, _ *[suiteSize]float64) { z[1] += 0.1 * float64(k) }},
	"burst":       {"alone", 4, func(_ int, _ int64, _, spread *[suiteSize]float64) { spread[1] *= 3 }},
	"quiet":       {"alone", 4, func(_ int, _ int64, _, spread *[suiteSize]float64) { spread[1] /= 4 }},
	"crowd": {"alone", 4, func(_ int, _ int64, z, _ *[suiteSize]float64) {
		for i := range z {
			z[i] += 4
		}
	}},
	"break": {"together", 12, func(_ int, _ int64, z, _ *[suiteSize]float64) { z[1] = -z[1] + 1.5 }},
	"between": {"modes", 4, func(_ int, _ int64, z, _ *[suiteSize]float64) {
		for i := range z {
			z[i] = 0.1 * z[i]
		}
	}},
	"phase": {"clock", 24, func(_ int, at int64, z, _ *[suiteSize]float64) { z[1] += course(at+6*hourUS) - course(at) }},
	"shape": {"clock", perDay, func(_ int, at int64, z, _ *[suiteSize]float64) { z[1] -= course(at) }},
}

// suite is a detector with its calibration, as a machine holds it.
type suite struct {
	spec  *Spec
	d     Detector
	s     *Scores
	tails [suiteSize]calibrate.Tail
	joint calibrate.Tail
}

func newSuite(spec *Spec) *suite {
	u := &suite{spec: spec, d: spec.New(config()), s: scoresFor(suiteSize)}
	u.d.Grow(sensorNames(suiteSize))
	return u
}

// step judges a window, learns it if it may, and returns its surprise and the sensor that is blamed most, -1 if none.
func (u *suite) step(w *Window, learn bool) (surprise float64, blamed int) {
	u.s.preset()
	u.d.Score(w, u.s)
	u.d.Follow(w)
	var all calibrate.Cauchy
	most := 0.0
	blamed = -1
	for i, t := range u.s.Surprise {
		if u.s.Level[i] > Within { // by convention
			t = 2 * alarmFrom
		}
		if t == t {
			c := u.tails[i].Correct(&calibrate.SensorPrior, float64(t))
			if all.Add(c); c > most {
				most, blamed = c, i
			}
		}
	}
	if j := float64(u.s.Joint); j == j {
		c := u.joint.Correct(&calibrate.SensorPrior, j)
		if all.Add(c); c > most {
			for i, x := range u.s.Share {
				if blamed < 0 || x > u.s.Share[blamed] {
					blamed = i
				}
			}
		}
	}
	if learn {
		for i, t := range u.s.Surprise {
			if t == t {
				u.tails[i].Learn(5000, float64(t))
			}
		}
		if j := float64(u.s.Joint); j == j {
			u.joint.Learn(5000, j)
		}
		u.d.Learn(w)
	}
	if all.Count() == 0 {
		return 0, blamed
	}
	return all.Surprise(), blamed
}

func (u *suite) copy(t testing.TB) *suite {
	v := newSuite(u.spec)
	r := codec.NewReader(u.d.AppendState(nil))
	if v.d.RestoreState(r); r.Err() != nil {
		t.Fatal(r.Err())
	}
	v.tails, v.joint = u.tails, u.joint
	return v
}

// purposes are what each detector is there to find, and the least share of the planted ones that it must find in Gaussian, heavy-tailed and autocorrelated noise. What else it
// finds is written down in DESIGN.md.
var purposes = map[string]map[string][3]float64{
	"limits":    {"beyond": {1, 1, 1}},
	"ewma":      {"drift": {1, 1, 1}, "shift": {1, 1, 0.5}},
	"robust_z":  {"spike": {1, 1, 1}},
	"spread":    {"burst": {1, 1, 1}, "quiet": {1, 1, 1}},
	"pca":       {"break": {1, 1, 0.8}, "spike": {1, 1, 1}, "drift": {1, 1, 1}, "shift": {1, 1, 0.4}},
	"cusum":     {"shift": {1, 1, 0.8}, "drift": {1, 1, 1}},
	"seasonal":  {"phase": {1, 1, 1}, "shape": {1, 1, 1}},
	"iforest":   {"crowd": {0.9, 0.9, 0.9}},
	"knn":       {"spike": {1, 1, 1}, "between": {0.9, 0.9, 0.9}},
	"lof":       {"spike": {1, 1, 1}, "between": {0.9, 0.9, 0.9}},
	"halfspace": {"crowd": {0.9, 0.9, 0.9}, "between": {0.9, 0.9, 0.9}},
	"one_class": {"break": {1, 0.9, 0.8}, "between": {0.9, 0.9, 0.9}, "drift": {1, 1, 1}},
	"rrcf":      {"spike": {0.9, 0, 0.9}, "between": {0.9, 0, 0.9}}, // among heavy tails 64 windows are too few to tell
	"day_shape": {"shape": {1, 1, 1}, "phase": {1, 1, 0.7}},
}

// mostFalse is the share of clean windows that may raise an alarm at a surprise of alarmFrom, a nominal 0.1 %.
const mostFalse = 0.01

// outcome is what came of one detector on one kind of noise.
type outcome struct {
	clean, alarms int
	found, named  map[string]int
}

func (o *outcome) String() string {
	text := fmt.Sprintf("false alarms %4.1f per mille", 1000*float64(o.alarms)/float64(o.clean))
	for _, k := range slices.Sorted(maps.Keys(o.found)) {
		text += fmt.Sprintf("  %s %d", k, o.found[k])
		if o.named[k] > 0 {
			text += fmt.Sprintf(" (named %d)", o.named[k])
		}
	}
	return text
}

// trial trains a detector on the sites that the kinds need, counts its false alarms there, and plants.
func trial(t testing.TB, spec *Spec, noise string, names []string) *outcome {
	o := &outcome{found: map[string]int{}, named: map[string]int{}}
	type trained struct {
		*suite
		at int64
	}
	at := map[string]trained{}
	for _, name := range names {
		k := kinds[name]
		if _, ok := at[k.site]; !ok {
			windows := 600
			if k.site == "clock" {
				windows = 42 * perDay
			}
			u, s := newSuite(spec), newSite(k.site, noise, 1)
			for range windows {
				u.step(s.window(), true)
			}
			for range cleanWindows {
				if x, _ := u.step(s.window(), true); x >= alarmFrom {
					o.alarms++
				}
			}
			o.clean += cleanWindows
			at[k.site] = trained{u, s.i}
		}
		for p := range plants {
			u, s := at[k.site].copy(t), newSite(k.site, noise, uint64(p+100))
			s.i = at[k.site].at + int64(7*p)
			for range 10 {
				u.step(s.window(), false)
			}
			step, hits, blames := 0, 0, 0
			s.departure = func(at int64, z, spread *[suiteSize]float64) { k.do(step, at, z, spread); step++ }
			for range k.lasts {
				if x, blamed := u.step(s.window(), false); x >= alarmFrom {
					if hits++; blamed == 1 {
						blames++
					}
				}
			}
			if hits > 0 {
				o.found[name]++
			}
			if 2*blames > hits {
				o.named[name]++
			}
		}
	}
	return o
}

func TestEveryDetectorFindsWhatItIsFor(t *testing.T) {
	for _, spec := range Builtin() {
		if spec.Narrow || spec.Shadow {
			continue // it judges by a model that it is given: TestReleasedModelJudges
		}
		t.Run(spec.Name, func(t *testing.T) {
			least := purposes[spec.Name]
			if len(least) == 0 {
				t.Fatal("nobody says what it is for")
			}
			for i, n := range noises {
				o := trial(t, &spec, n.name, slices.Sorted(maps.Keys(least)))
				t.Logf("%-14s %s", n.name, o)
				if float64(o.alarms) > mostFalse*float64(o.clean) {
					t.Errorf("%s: %d alarms in %d clean windows", n.name, o.alarms, o.clean)
				}
				for name, share := range least {
					if float64(o.found[name]) < share[i]*plants {
						t.Errorf("%s: %s found %d times of %d", n.name, name, o.found[name], plants)
					}
				}
			}
		})
	}
}

// BenchmarkMatrix writes the whole matrix for DESIGN.md, in percent of the planted: go test ./internal/detect -run '^$' -bench Matrix -benchtime 1x
func BenchmarkMatrix(b *testing.B) {
	names := slices.Sorted(maps.Keys(kinds))
	b.Logf("| detector | noise | false alarms, per mille | %s |", strings.Join(names, " | "))
	for _, spec := range Builtin() {
		b.Run(spec.Name, func(b *testing.B) {
			for b.Loop() {
				for _, n := range noises {
					o := trial(b, &spec, n.name, names)
					line := fmt.Sprintf("| %s | %s | %.1f |", spec.Name, n.name, 1000*float64(o.alarms)/float64(o.clean))
					for _, k := range names {
						line += fmt.Sprintf(" %d |", 100*o.found[k]/plants)
					}
					b.Log(line)
				}
			}
		})
	}
}
