package machine

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/regime"
)

// plant is a machine that is switched on and off: in each cycle it is off, warms up, runs steadily, under load, and steadily again. Five sensors follow at once, a
// temperature within minutes; and the hall is warmer by day.
type plant struct {
	r           *rand.Rand
	cycle       int
	temperature float64
	i           int // seconds, for the place in the cycle
	clock       int // seconds since the start
	fault       func(v []float64, i int)
}

func newPlant(seed uint64, cycle int) *plant {
	return &plant{r: rand.New(rand.NewPCG(seed, 3)), cycle: cycle, temperature: 60}
}

// phases of a cycle: what of it has passed by the end, speed and load.
var phases = [...]struct{ until, speed, load float64 }{{0.35, 1, 0.7}, {0.6, 1, 0.95}, {0.7, 1, 0.7}, {0.88, 0, 0}, {1, 0.6, 0.3}}

func (p *plant) at() (phase int, speed, load float64) {
	x := float64(p.i%p.cycle) / float64(p.cycle)
	for i, f := range phases {
		if x < f.until {
			return i, f.speed, f.load
		}
	}
	return 0, 1, 0.7
}

func (p *plant) next() []float32 {
	_, speed, load := p.at()
	hall := 20 + 3*math.Sin(2*math.Pi*float64(p.clock)/86_400)
	p.temperature += (hall + 50*speed*load - p.temperature) / 90
	v := []float64{
		1500 * speed, 20 * math.Hypot(0.3*speed, load*speed), 15 * speed * load, 900 * speed * (0.5 + 0.5*load), 2 * speed * speed * (0.6 + 0.4*load), p.temperature,
	}
	for k, scale := range []float64{3, 0.12, 0.1, 5, 0.05, 0.1} {
		if speed > 0 || k == 5 {
			v[k] += scale * p.r.NormFloat64()
		}
	}
	if p.fault != nil {
		p.fault(v, p.i)
	}
	p.i++
	p.clock++
	out := make([]float32, len(v))
	for k, step := range []float64{1, 0.01, 0.01, 1, 0.01, 0.1} {
		out[k] = float32(math.Round(v[k]/step) * step)
	}
	return out
}

// drive feeds a rig with the plant's next samples, one a second.
func (p *plant) drive(r *rig, seconds int) {
	for range seconds {
		at := epoch0 + int64(p.clock)*second
		r.sample(at, p.next()...)
		r.windows = r.windows[:0]
	}
}

func finds(c *Config) { c.Regimes.Find = true }

func findsNot(c *Config) { c.Regimes.Find = false }

const cycle = 2400 // seconds

func TestRegimesAreFoundAndFaultsInThem(t *testing.T) {
	const (
		learned = 10 * cycle
		seeds   = uint64(5)
	)
	pages, found := map[bool]int{}, map[bool]int{}
	for _, find := range []bool{false, true} {
		for seed := range seeds {
			r, p := newRig(t, func(c *Config) { c.Regimes.Find, c.Calibrate.Budget = find, 30 }), newPlant(seed, cycle) // a page a day, and days are short
			p.drive(r, learned)
			before := r.starts()
			p.drive(r, 6*cycle)
			pages[find] += r.starts() - before
			r.anomalies = r.anomalies[:0]
			// Under load the bearing begins to shake: by a quarter, which is less than from steady to load.
			begin := p.i + cycle*4/10
			p.fault = func(v []float64, i int) {
				if i >= begin {
					v[4] *= 1.25
				}
			}
			p.drive(r, cycle/2)
			for _, a := range r.anomalies {
				if a.Phase == started && a.StartedUs >= epoch0+int64(begin-5)*second {
					if find && (a.Regime != "mode 2" && a.Regime != "mode 3" && a.Regime != "mode 4" || !strings.Contains(a.Summary, "; in regime ")) {
						t.Errorf("seed %d: %q in regime %q", seed, a.Summary, a.Regime)
					}
					found[find]++
					break
				}
			}
		}
	}
	t.Logf("false pages in %d cycles and faults found of %d: without regimes %d, %d; with regimes %d, %d", 6*seeds, seeds, pages[false], found[false], pages[true], found[true])
	if found[true] < 4 || pages[true] > 1 || found[true] < found[false] {
		t.Errorf("with regimes %d of 5 faults found and %d false pages", found[true], pages[true])
	}
}

func TestGivenRegimes(t *testing.T) {
	f := func(x float64) *float64 { return &x }
	r, p := newRig(t, func(c *Config) {
		c.Regimes.Given = append(c.Regimes.Given,
			rule("off", "s0", nil, f(100)), rule("warm-up", "s0", nil, f(1200)), rule("load", "s2", f(12.3), nil), rule("steady", "s2", nil, f(12.3)))
	}), newPlant(4, cycle)
	p.drive(r, 6*cycle)
	before := r.starts()
	names := map[string]int{}
	for range 2 * cycle {
		r.sample(epoch0+int64(p.i)*second, p.next()...)
	}
	for _, w := range r.windows {
		names[w.Regime]++
	}
	for i, want := range map[string]float64{"off": 0.18, "warm-up": 0.12, "steady": 0.45, "load": 0.25} {
		if got := float64(names[i]) / float64(len(r.windows)); math.Abs(got-want) > 0.02 {
			t.Errorf("%s for %.2f of the time, want %.2f", i, got, want)
		}
	}
	if n := r.starts() - before; n > 0 {
		t.Errorf("%d false pages: %s", n, r.anomalies[len(r.anomalies)-1].Summary)
	}
	begin := p.i + cycle*4/10
	p.fault = func(v []float64, i int) {
		if i >= begin {
			v[4] *= 1.25
		}
	}
	r.anomalies = r.anomalies[:0]
	p.drive(r, cycle/2)
	if r.starts() == 0 || r.anomalies[0].Regime != "load" || !strings.Contains(r.anomalies[0].Summary, `in regime "load"`) {
		t.Fatalf("fault under load: %v", r.anomalies)
	}
	for _, c := range r.anomalies[0].Contributions {
		if c.Sensor == "s4" && !(c.ExpectedLow > 1.7 && c.ExpectedHigh < 2.2) {
			t.Errorf("expected %v to %v under load", c.ExpectedLow, c.ExpectedHigh)
		}
	}
}

// A fault of a week wanders, is switched on and off with the machine, and stays a fault: no regime comes of it, and what was usual is usual after it.
func TestFaultOfAWeekIsNoRegime(t *testing.T) {
	for name, onoff := range map[string]bool{"one regime": false, "switched on and off": true} {
		t.Run(name, func(t *testing.T) {
			r, p := newRig(t, func(c *Config) { finds(c); c.WindowLength *= 6; c.Lateness *= 6 }), newPlant(5, 6*cycle)
			run := func(hours int, fault func(v []float64, i int)) {
				p.fault = fault
				for range hours * 600 {
					at := epoch0 + int64(p.clock)*second
					v := p.next()
					p.clock += 5
					if p.i += 5; !onoff {
						p.i = 1000 // a steady place of the cycle
					}
					r.sample(at, v...)
					r.windows = r.windows[:0]
				}
			}
			run(60, nil)
			quiet := r.starts()
			n := 0
			run(168, func(v []float64, _ int) {
				n++
				by := 1 + 0.1*math.Sin(float64(n)/3000)
				for k, f := range []float64{1, 1.3, 1.3, 0.7, 1.8} {
					v[k] *= 1 + (f-1)*by
				}
				v[5] += 15
			})
			if e := &r.m.episodes[behaviour]; !e.open {
				t.Error("after a week the fault is none any more")
			}
			run(12, nil)
			if r.m.episodes[behaviour].open {
				t.Error("the end of the fault was not seen")
			}
			after := r.starts()
			run(48, nil)
			if n := r.starts() - after; n > 1 {
				t.Errorf("%d pages in two days after it", n)
			}
			r.anomalies = r.anomalies[:0]
			run(6, func(v []float64, _ int) { v[1], v[2], v[4] = v[1]*1.3, v[2]*1.3, v[4]*1.8 })
			if r.starts() == 0 {
				t.Error("the like of it is not found again")
			}
			t.Logf("%d pages before, %d by the end of the week", quiet, after)
		})
	}
}

// A machine of one regime is judged as if regimes were not sought.
func TestOneRegimeIsNone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		var said [2]string
		for i, edit := range []func(*Config){findsNot, finds} {
			r := newRig(tbOf(t), edit)
			r.logMS = max(epoch0, l.at[len(l.at)-1]) / 1000
			for _, f := range l.frames([]int{5}) {
				r.apply(f)
			}
			said[i] = show(r.windows, r.anomalies, false)
		}
		if said[0] != said[1] {
			t.Fatalf("without regimes:\n%s\nwith:\n%s", said[0], said[1])
		}
	})
}

func TestRestoredInAnyRegime(t *testing.T) {
	for name, edit := range map[string]func(*Config){"found": finds, "given": func(c *Config) {
		x := 800.0
		c.Regimes.Given = append(c.Regimes.Given, rule("slow", "s0", nil, &x))
	}} {
		straight, broken, p := newRig(t, edit), newRig(t, edit), newPlant(8, cycle)
		for i := range 5 * cycle {
			at, v := epoch0+int64(i)*second, p.next()
			straight.sample(at, v...)
			broken.sample(at, v...)
			if i%37 != 0 {
				continue
			}
			snap := broken.m.AppendSnapshot(nil)
			m, err := Restore(broken.cfg, "pump-1", snap)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.AppendSnapshot(nil), snap) {
				t.Fatalf("%s: snapshot of the restored machine differs after sample %d", name, i)
			}
			broken.m = m
		}
		if show(straight.windows, straight.anomalies, false) != show(broken.windows, broken.anomalies, false) {
			t.Errorf("%s: restored machines say something else", name)
		}
		if !straight.m.regimes.Several() {
			t.Errorf("%s: one regime only", name)
		}
		// Another configuration passes over the regimes.
		cfg := *straight.cfg
		cfg.Regimes.Find, cfg.Regimes.Given = false, nil
		if _, err := Restore(&cfg, "pump-1", straight.m.AppendSnapshot(nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// People's word makes a regime of what the machine does now, at once, and what was known before stays known.
func TestNewNormalAcceptsARegime(t *testing.T) {
	r, p := newRig(t, finds), newPlant(9, 40*cycle)
	p.drive(r, 14*cycle) // steady
	p.i = 16 * cycle     // load
	p.drive(r, 300)
	if !r.m.episodes[behaviour].open {
		t.Fatal("the first time, load is an anomaly")
	}
	r.m.Correct(&Correction{Machine: "pump-1", Kind: NewNormal, From: rfc3339(epoch0 + int64(p.clock)*second)})
	p.drive(r, 60)
	if r.m.episodes[behaviour].open || !r.m.regimes.Several() || r.m.learning() {
		t.Fatal("it is no regime")
	}
	before := r.starts()
	p.drive(r, 600)
	p.i = 25 * cycle // steady
	p.drive(r, 1200)
	if n := r.starts() - before; n > 1 { // it is young
		t.Errorf("%d pages: %s", n, r.anomalies[len(r.anomalies)-1].Summary)
	}
}

func TestRegimesDoNotAllocate(t *testing.T) {
	r, p := newRig(t, finds), newPlant(10, cycle)
	p.drive(r, 8*cycle)
	if !r.m.regimes.Several() {
		t.Fatal("one regime only")
	}
	f := frameOf(1, names(6), []int64{epoch0}, make([][]float32, 6))
	own := testing.AllocsPerRun(100, func() { p.next() })
	n := testing.AllocsPerRun(500, func() {
		r.seq++
		f.Sequence, f.BaseTimeUS = r.seq, epoch0+int64(p.i)*second
		f.Values = append(f.Values[:0], p.next()...)
		r.out.Reset()
		r.m.Apply(f, f.Sensors, Meta{LogTimeMS: f.BaseTimeUS / 1000}, &r.out)
	})
	if n > own {
		t.Errorf("%v allocations per sample", n-own)
	}
}

func rule(name, sensor string, from, below *float64) regime.Rule {
	return regime.Rule{Machine: "pump-*", Name: name, Sensor: sensor, From: from, Below: below}
}

func rfc3339(us int64) string { return time.UnixMicro(us).UTC().Format(time.RFC3339Nano) }
