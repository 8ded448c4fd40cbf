package regime

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const second = 5 * time.Second // a window

func names(n int) []string { return strings.Split("abcdefghijklmnop", "")[:n] }

// walk drives a tracker as a machine would, and tells where it is after each window.
type walk struct {
	t *Tracker
	r *rand.Rand
	v []detect.Value
}

func newWalk(cfg *Config, sensors int, seed uint64) *walk {
	t := New(cfg, "pump-1", second)
	if t == nil {
		t = Seek(cfg, second)
	}
	w := &walk{t: t, r: rand.New(rand.NewPCG(seed, 1)), v: make([]detect.Value, sensors)}
	w.t.Grow(names(sensors))
	return w
}

func (w *walk) step(levels ...float64) Place {
	refs := make([]Reference, len(w.v))
	for i := range w.v {
		x := levels[i%len(levels)] + w.r.NormFloat64()
		w.v[i] = detect.Value{Mean: x, Min: x - 1, Max: x + 1, Stddev: 1, Count: 5, Resolution: 0.1}
		refs[i] = Reference{Level: 100, SD: 1}
	}
	next := w.t.Next(w.t.At(), w.v)
	w.t.Pass(next, w.v, refs)
	p := w.t.Place(w.t.At())
	w.t.Learn(p, w.v)
	return p
}

func (w *walk) stay(windows int, levels ...float64) (p Place) {
	for range windows {
		p = w.step(levels...)
	}
	return p
}

func TestALevelIsARegimeAfterAFewVisits(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Find, cfg.Visits = true, 3
	w := newWalk(&cfg, 4, 1)
	for visit := range 5 {
		w.stay(60, 100)
		p := w.stay(60, 200)
		if got, want := w.t.Several(), visit >= 2; got != want {
			t.Fatalf("visit %d: believed: %t, want %t", visit+1, got, want)
		}
		if want := map[bool]string{true: "mode 2"}[visit >= 2]; w.t.Name(p) != want {
			t.Fatalf("visit %d: %q, want %q", visit+1, w.t.Name(p), want)
		}
	}
}

// However it moves, what does not come back to where the machine is known to be is no second visit.
func TestWhatDoesNotEndIsNoRegime(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Find = true
	w := newWalk(&cfg, 4, 2)
	w.stay(60, 100)
	for i := range 5000 {
		w.stay(25, 200+40*float64(i%7), 150+70*float64(i%3))
	}
	if w.t.Several() {
		t.Fatal("it was believed")
	}
	if len(w.t.modes) > mostFound || len(w.t.segs) > maxSegments {
		t.Fatalf("%d candidates, %d ways", len(w.t.modes), len(w.t.segs))
	}
}

func TestInTransitionNothingIsJudged(t *testing.T) {
	x, y := 150.0, 150.0
	cfg := DefaultConfig()
	cfg.Given = []Rule{{Machine: "pump-*", Name: "low", Sensor: "b", Below: &x}, {Machine: "*", Name: "high", Sensor: "b", From: &y}}
	w := newWalk(&cfg, 3, 3)
	w.stay(60, 100)
	for range 4 {
		for _, level := range []float64{200, 100} {
			out := make([]detect.Value, 3)
			p := w.step(level)
			if !p.Held() || w.t.Level(p, w.v, out, false) || out[0].Count != 0 {
				t.Fatal("not held back right after a change")
			}
			w.stay(80, level)
		}
	}
	p, out := w.step(100), make([]detect.Value, 3)
	if p.Held() || !w.t.Level(p, w.v, out, false) {
		t.Fatal("held back for ever")
	}
	w.stay(40, 200)
	p = w.step(200)
	if !w.t.Level(p, w.v, out, false) || math.Abs(out[0].Mean-100) > 8 || math.Abs(w.t.Raise(p, 0)-100) > 5 {
		t.Fatalf("%v of high is %v of low", w.v[0].Mean, out[0].Mean)
	}
	if w.t.Name(p) != "high" || w.t.Several() == false {
		t.Fatalf("it is called %q", w.t.Name(p))
	}
}

func TestPlaceHoldsAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := &Tracker{modes: make([]mode, 7), segs: make([]segment, maxSegments)}
		for i := range tr.segs {
			tr.segs[i].turn = rapid.Uint8().Draw(t, "turn")
		}
		w := Where{
			Regime: int8(rapid.IntRange(0, 6).Draw(t, "regime")), Seg: int8(rapid.IntRange(newSegment, maxSegments-1).Draw(t, "seg")),
			held: rapid.Bool().Draw(t, "held"), age: rapid.Uint32().Draw(t, "age"),
		}
		p := tr.Place(w)
		turn := uint8(0)
		if w.Seg >= 0 {
			turn = tr.segs[w.Seg].turn
		}
		if p.regime() != int(w.Regime) || p.seg() != int(w.Seg) || p.Held() != w.held || p.age() != min(w.age, oldest) || p.turn() != turn || !p.Aside() {
			t.Fatalf("%+v became %x", w, p)
		}
	})
}

// Whatever stands in a snapshot, restoring ends, without a panic, and the tracker can be used.
func TestRestoreTrustsNothing(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Find = true
	w := newWalk(&cfg, 4, 5)
	for range 4 {
		w.stay(60, 100)
		w.stay(45, 200)
	}
	w.stay(60, 100)
	w.stay(9, 300)
	if w.t.visit == nil {
		t.Fatal("no visit under way")
	}
	good := w.t.AppendState(nil)
	restore := func(b []byte) (*Tracker, error) {
		tr := Seek(&cfg, second)
		tr.Grow(names(4))
		r := codec.NewReader(b)
		tr.RestoreState(r)
		return tr, r.Err()
	}
	tr, err := restore(good)
	if err != nil || string(tr.AppendState(nil)) != string(good) {
		t.Fatalf("there and back: %v", err)
	}
	r := rand.New(rand.NewPCG(6, 6))
	for range 3000 {
		b := append([]byte(nil), good...)
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		tr, err := restore(b[:len(b)-r.IntN(2)*r.IntN(len(b))])
		if err != nil {
			continue
		}
		x := &walk{t: tr, r: r, v: make([]detect.Value, 4)}
		x.stay(30, 100)
		x.stay(30, 250)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	x, y := 1.0, 2.0
	for want, edit := range map[string]func(*Config){
		"visits":           func(c *Config) { c.Visits = 1 },
		"settle":           func(c *Config) { c.Settle = -1 },
		"given[0].machine": func(c *Config) { c.Given = []Rule{{Machine: "[", Name: "off", Sensor: "s", Below: &x}} },
		"given[0].name":    func(c *Config) { c.Given = []Rule{{Machine: "*", Sensor: "s", Below: &x}} },
		"given[0].sensor":  func(c *Config) { c.Given = []Rule{{Machine: "*", Name: "off", Below: &x}} },
		"given[0].below":   func(c *Config) { c.Given = []Rule{{Machine: "*", Name: "off", Sensor: "s", Below: &x, From: &y}} },
	} {
		c := DefaultConfig()
		edit(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
