package machine

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// faulty is a detector that goes wrong in windows that start in [from, to).
type faulty struct {
	detect.Detector
	how      string
	from, to int64 // us; both 0 for what has no window
	at       int64 // start of the newest window
}

func (f *faulty) wrong(how string, w *detect.Window) bool {
	if w != nil {
		f.at = w.StartUS
	}
	return f.how == how && f.at >= f.from && f.at < f.to
}

func (f *faulty) Grow(names []string) {
	if f.how == "grow" {
		panic("no room")
	}
	f.Detector.Grow(names)
}

func (f *faulty) Score(w *detect.Window, s *detect.Scores) {
	f.Detector.Score(w, s)
	nan := float32(math.NaN())
	switch {
	case f.wrong("score", w):
		s.Surprise[0] = 400 // half written, then:
		s.Level[len(s.Level)] = detect.Critical
	case f.wrong("infinite", w):
		s.Joint = float32(math.Inf(1))
	case f.wrong("mute", w):
		s.Joint = nan
		for i := range s.Surprise {
			s.Surprise[i] = nan
		}
	case f.wrong("cries", w) && w.StartUS/(5*second)%40 == 0:
		s.Joint = 400
	case f.how == "cries":
		s.Joint = 0.5
	}
}

func (f *faulty) Follow(w *detect.Window) {
	if f.wrong("follow", w) {
		panic(fmt.Errorf("follow %d", len(w.Values)))
	}
	f.Detector.Follow(w)
}

func (f *faulty) Learn(w *detect.Window) {
	if f.wrong("learn", w) {
		panic("learn")
	}
	f.Detector.Learn(w)
}

func (f *faulty) AppendState(dst []byte) []byte {
	if f.wrong("append", nil) {
		panic("append")
	}
	return f.Detector.AppendState(codec.AppendI64(dst, f.at))
}

func (f *faulty) RestoreState(r *codec.Reader) {
	f.at = r.I64()
	f.Detector.RestoreState(r)
}

// breaking makes a detector go wrong from one second to another.
func breaking(name, how string, from, to int64) func(*Config) {
	return func(c *Config) {
		c.Breaker.Wait, c.Breaker.Trial, c.Breaker.MuteWindows = 60, 30, 24
		c.faulty = func(s detect.Spec) detect.Spec {
			if s.Name == name {
				inner := s.New
				s.New = func(c *detect.Config) detect.Detector {
					if how == "new" {
						panic("new")
					}
					return &faulty{Detector: inner(c), how: how, from: epoch0 + from*second, to: epoch0 + to*second}
				}
			}
			return s
		}
	}
}

func TestFailedDetectorIsSetAsideAndComesBack(t *testing.T) {
	for how, reason := range map[string]string{"score": "panic", "infinite": "not_finite", "mute": "mute", "follow": "panic", "learn": "panic"} {
		r, s := newRig(t, breaking("pca", how, 1500, 1900)), newSignal(3)
		at := r.steady(s, 0, 1500, nil)
		r.want(how+", before", "judged: s0 s1 s2")
		if r.m.breakers != nil || r.m.Health() != eventv1.Health_HEALTH_HEALTHY {
			t.Fatalf("%s: %+v before anything failed", how, r.m.breakers)
		}
		at = r.steady(s, at, 200, nil)
		r.want(how, "judged statistics_only: s0 s1 s2")
		c := r.m.Coverage()
		if c.Health != eventv1.Health_HEALTH_DEGRADED || len(c.Detectors) != 1 || c.Detectors[0].Detector != "pca" || c.Detectors[0].Reason != reason || c.Detectors[0].Health != eventv1.Health_HEALTH_FAILED {
			t.Fatalf("%s: %v", how, c)
		}
		if len(r.anomalies) != 1 {
			t.Fatalf("%s: %v", how, r.anomalies)
		}
		a := r.anomalies[0]
		if a.Cause != "model" || a.Severity != eventv1.Severity_SEVERITY_INFO || a.Origin != eventv1.Origin_ORIGIN_MODEL || !strings.HasPrefix(a.Summary, "pca ") || !strings.Contains(a.Summary, ": judged by ewma, spread, seasonal since 2023-11-14T22:") {
			t.Errorf("%s: %v", how, a)
		}
		at = r.steady(s, at, 300, func(i int64, v []float32) {
			if i > 1800 {
				v[0] += 30
			}
		})
		if r.count("behaviour", eventv1.Phase_PHASE_STARTED) == 0 {
			t.Errorf("%s: nobody finds a fault", how)
		}
		r.steady(s, at, 2500, nil)
		r.want(how+", after", "judged: s0 s1 s2")
		if r.count("model", eventv1.Phase_PHASE_STARTED) == 0 || r.count("model", eventv1.Phase_PHASE_STARTED) != r.count("model", eventv1.Phase_PHASE_ENDED) || r.m.Health() != eventv1.Health_HEALTH_HEALTHY || r.m.breakers != nil {
			t.Errorf("%s: %d began, %d ended; %+v", how, r.count("model", eventv1.Phase_PHASE_STARTED), r.count("model", eventv1.Phase_PHASE_ENDED), r.m.breakers)
		}
	}
}

// One that cannot be made, cannot grow, or needs too much memory never judges, and the others do.
func TestDetectorThatCannotBegin(t *testing.T) {
	for how, reason := range map[string]string{"new": "panic", "grow": "panic", "memory": "memory"} {
		edit := breaking("pca", how, 0, 0)
		r, s := newRig(t, func(c *Config) {
			edit(c)
			if how == "memory" {
				c.Breaker.MaxBytes = 20_000
				c.Detect.Detectors = []string{"ewma", "spread", "iforest"}
				c.faulty = nil
			}
		}), newSignal(3)
		r.steady(s, 0, 1500, nil)
		found := false
		for _, d := range r.m.Coverage().Detectors {
			found = found || d.Reason == reason
		}
		if !found || r.m.Health() != eventv1.Health_HEALTH_DEGRADED || r.count("model", eventv1.Phase_PHASE_STARTED) != 1 {
			t.Errorf("%s: %v, %v", how, r.m.Coverage(), r.anomalies)
		}
		r.want(how, "judged statistics_only: s0 s1 s2")
	}
}

// Where models only are configured, a statistic stands by and takes over.
func TestStatisticsTakeOver(t *testing.T) {
	r, s := newRig(t, func(c *Config) {
		breaking("iforest", "score", 3000, 1<<40)(c)
		c.Detect.Detectors = []string{"limits", "iforest"}
	}), newSignal(3)
	at := r.steady(s, 0, 3000, nil)
	r.want("before", "judged: s0 s1 s2")
	for _, a := range r.anomalies {
		if a.Cause == "model" || strings.Contains(fmt.Sprint(a.Detectors), "ewma") {
			t.Fatalf("the stand-in counts already: %v", a)
		}
	}
	at = r.steady(s, at, 100, nil)
	r.want("failed", "judged statistics_only: s0 s1 s2")
	if a := r.anomalies[len(r.anomalies)-1]; a.Cause != "model" || !strings.Contains(a.Summary, "iforest has failed (it panicked): judged by statistics only (ewma) since 20") {
		t.Fatalf("%v", a)
	}
	r.steady(s, at, 60, func(_ int64, v []float32) { v[0] += 30 })
	a := r.anomalies[len(r.anomalies)-1]
	if a.Cause != "behaviour" || len(a.Detectors) != 1 || a.Detectors[0] != "ewma" {
		t.Fatalf("%v", a)
	}
}

// When nobody is left, that is a warning, and sensors without limits are blind.
func TestNobodyLeft(t *testing.T) {
	limit := 1000.0
	r, s := newRig(t, func(c *Config) {
		breaking("ewma", "score", 1000, 1<<40)(c)
		c.Detect.Detectors = []string{"limits", "ewma"}
		c.Detect.Limits = []detect.Limit{limitFor("s0", nil, &limit)}
	}), newSignal(3)
	at := r.steady(s, 0, 1100, nil)
	r.want("failed", "judged statistics_only: s0; model_failed: s1 s2")
	a := r.anomalies[len(r.anomalies)-1]
	if a.Cause != "model" || a.Severity != eventv1.Severity_SEVERITY_WARNING || !strings.Contains(a.Summary, "judged by fixed limits only") || r.m.Health() != eventv1.Health_HEALTH_FAILED {
		t.Fatalf("%v", a)
	}
	at = r.steady(s, at, 60, nil)
	if r.count("blind", eventv1.Phase_PHASE_STARTED) != 0 {
		t.Error("two alerts for one failure")
	}
	r.steady(s, at, 20, func(_ int64, v []float32) { v[0] = 2000 })
	if r.count("limit", eventv1.Phase_PHASE_STARTED) != 1 {
		t.Error("limits are not judged any more")
	}
}

// A model that keeps crying wolf by itself is set aside; then there are no more pages.
func TestModelThatPagesAlone(t *testing.T) {
	r, s := newRig(t, func(c *Config) {
		breaking("pca", "cries", 0, 1<<40)(c)
		c.Breaker.Wait, c.Breaker.DriftPages, c.Calibrate.Budget = 2000, 8, 1000
	}), newSignal(3)
	at := r.steady(s, 0, 4000, nil)
	c := r.m.Coverage()
	if len(c.Detectors) != 1 || c.Detectors[0].Reason != "drift" || c.Detectors[0].Detector != "pca" {
		t.Fatalf("%v after %d pages", c, r.count("behaviour", eventv1.Phase_PHASE_STARTED))
	}
	pages := r.count("behaviour", eventv1.Phase_PHASE_STARTED)
	r.steady(s, at, 4000, nil)
	if n := r.count("behaviour", eventv1.Phase_PHASE_STARTED) - pages; pages == 0 || n > 0 {
		t.Errorf("%d pages, and %d after it was set aside", pages, n)
	}
}

// A detector that fails in one machine changes nothing in others that the same goroutine judges with the same memory.
func TestFailureStaysInItsMachine(t *testing.T) {
	for _, how := range []string{"score", "infinite", "follow", "learn", "append", "mute"} {
		alone, beside := newRig(t, nil), newRig(t, nil)
		sick := newRig(t, breaking("pca", how, 300, 900))
		s := newSignal(11)
		for i := range int64(1100) {
			v := s.next()
			alone.sample(epoch0+i*second, v...)
			sick.out, beside.out = beside.out, sick.out // one memory for both
			sick.sample(epoch0+i*second, v...)
			if i%100 == 50 {
				sick.m.AppendSnapshot(nil)
			}
			sick.out, beside.out = beside.out, sick.out
			beside.sample(epoch0+i*second, v...)
		}
		if a, b := show(alone.windows, alone.anomalies, false), show(beside.windows, beside.anomalies, false); a != b || !bytes.Equal(alone.m.AppendSnapshot(nil), beside.m.AppendSnapshot(nil)) {
			t.Fatalf("%s: a machine was changed by another's detector", how)
		}
		if sick.count("model", eventv1.Phase_PHASE_STARTED) == 0 {
			t.Errorf("%s: nobody says that a detector failed", how)
		}
	}
}

func TestFailuresAreToldWithWhatWasSaid(t *testing.T) {
	r, s := newRig(t, breaking("ewma", "follow", 100, 200)), newSignal(1)
	r.steady(s, 0, 100, nil)
	var told []Failure
	for i := int64(100); i < 120; i++ {
		told = append(told, r.sample(epoch0+i*second, s.next()...).Failures()...)
	}
	if len(told) != 1 || told[0] != (Failure{"ewma", "panic", "follow 3"}) {
		t.Errorf("%+v", told)
	}
}

// How long detectors take is measured, of each in turn, and changes nothing.
func TestWatchedDetectors(t *testing.T) {
	watched, plain := newRig(t, nil), newRig(t, nil)
	ticks := time.Duration(0)
	watched.out.Watch(func() time.Duration { ticks++; return ticks })
	took := map[string]int{}
	a, b := newSignal(1), newSignal(1)
	for i := range int64(2500) {
		for _, k := range watched.sample(epoch0+i*second, a.next()...).Took() {
			took[k.Detector]++
			if k.For != 1 {
				t.Fatalf("%+v", k)
			}
		}
		plain.sample(epoch0+i*second, b.next()...)
	}
	if len(took) != len(watched.m.detectors) || !bytes.Equal(watched.m.AppendSnapshot(nil), plain.m.AppendSnapshot(nil)) {
		t.Errorf("measured: %v", took)
	}
}

// Whatever fails and whenever, a machine restored on its way goes on as one that was not.
func TestRestoredAmidFailures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"limits", "ewma", "spread", "pca", "iforest", "seasonal"}).Draw(t, "detector")
		how := rapid.SampledFrom([]string{"score", "infinite", "mute", "cries", "follow", "learn", "grow", "new"}).Draw(t, "how")
		from := rapid.Int64Range(0, 150).Draw(t, "from")
		edit := breaking(name, how, from, from+rapid.Int64Range(1, 150).Draw(t, "for"))
		setup := func(c *Config) {
			edit(c)
			c.Breaker.Wait, c.Breaker.Trial, c.Breaker.DriftPages, c.Calibrate.WarmUp = 8, 4, 2, 20
			if name == "iforest" {
				c.Detect.Detectors = []string{"limits", "iforest"}
			}
		}
		every := rapid.Int64Range(1, 200).Draw(t, "restore every")
		straight, broken := newRig(tbOf(t), setup), newRig(tbOf(t), setup)
		s := newSignal(rapid.Uint64().Draw(t, "seed"))
		for i := range int64(300) {
			v := s.next()
			straight.sample(epoch0+i*second, v...)
			broken.sample(epoch0+i*second, v...)
			if i%every == 0 {
				snap := broken.m.AppendSnapshot(nil)
				m, err := Restore(broken.cfg, "pump-1", snap)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(m.AppendSnapshot(nil), snap) {
					t.Fatal("the restored machine's snapshot differs")
				}
				broken.m = m
			}
		}
		if a, b := show(straight.windows, straight.anomalies, false), show(broken.windows, broken.anomalies, false); a != b {
			t.Fatalf("straight:\n%s\nrestored:\n%s", a, b)
		}
		if !bytes.Equal(straight.m.AppendSnapshot(nil), broken.m.AppendSnapshot(nil)) {
			t.Fatal("final snapshots differ")
		}
	})
}

func TestMachineThatMayHoldLittle(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Breaker.MachineMax = 16 << 10 })
	values := make([]float32, 100)
	r.sample(epoch0, values...)
	n := r.m.SensorCount()
	if n < 5 || n > 20 || r.cfg.bytesOf(n) > 16<<10 || r.cfg.bytesOf(n+1) <= 16<<10 {
		t.Errorf("%d sensors, %d bytes", n, r.cfg.bytesOf(n))
	}
	c := r.m.Coverage()
	if g := c.Groups[len(c.Groups)-1]; g.State != eventv1.CoverageState_COVERAGE_STATE_REFUSED || int(g.Count) != 100-n || g.Reason != "memory" {
		t.Errorf("%v", c)
	}
	cfg := DefaultConfig()
	if cfg.sensorCap() != cfg.MaxSensors {
		t.Errorf("by default a machine may have %d sensors of %d", cfg.sensorCap(), cfg.MaxSensors)
	}
}

// What a machine is said to hold is about what it holds.
func TestBytesAreAboutRight(t *testing.T) {
	for _, n := range []int{10, 100} {
		cfg := DefaultConfig()
		said, held := float64(cfg.bytesOf(n))/float64(n), heapPerSensor(2000/n, n)
		if said < 0.5*held || said > 1.5*held {
			t.Errorf("%d sensors: said to take %.0f bytes each, take %.0f", n, said, held)
		}
	}
}
