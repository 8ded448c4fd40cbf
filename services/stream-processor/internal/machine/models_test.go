package machine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect/detecttest"
)

// modelled is judged by a champion, and a shadow that was trained on other values.
func modelled(tb testing.TB) func(*Config) {
	level := func(at float64) func(*rand.Rand, int) float64 {
		return func(r *rand.Rand, feature int) float64 { return []float64{at, 20}[feature] + r.NormFloat64() }
	}
	champion, _ := detecttest.Model(tb, "pump", 1, level(50), "s0", "s1")
	shadow, _ := detecttest.Model(tb, "pump", 2, level(90), "s0", "s1")
	return func(c *Config) {
		c.Detect.Detectors = []string{"limits", "ewma", "champion", "shadow"}
		c.Detect.Models.Champions, c.Detect.Models.Shadows = []detect.Model{champion}, []detect.Model{shadow}
		c.Detect.Prepare()
	}
}

// Champion and shadow are both calibrated by the machine's own windows, and compared; what is odd to the champion pages, what the shadow says does not count.
func TestChampionAndShadowAreCompared(t *testing.T) {
	r := newRig(t, modelled(t))
	s := newSignal(7)
	var neither, other int
	for i := range int64(1500) {
		v := s.next()
		if i >= 1400 {
			v[0] += 60
		}
		for _, c := range r.sample(epoch0+i*second, v...).Models() {
			if c.Champion == "" || c.Shadow == "" || c.Champion == c.Shadow || c.SpanUS <= 0 {
				t.Fatalf("%+v", c)
			}
			if c.Unusual || c.UnusualToShadow() {
				other++
			} else {
				neither++
			}
		}
	}
	if neither < 50 || other == 0 {
		t.Error(neither, other)
	}
	shadow := false
	for _, a := range r.anomalies {
		for _, e := range a.Contributions {
			shadow = shadow || strings.HasPrefix(e.Detector, "shadow")
		}
	}
	if r.starts() == 0 || shadow {
		t.Errorf("%d episodes, shadow named: %v", r.starts(), shadow)
	}
}

// Where the champion is what makes a machine page, the evidence names it, by its version, and the sensor that it was for.
func TestEvidenceNamesTheModel(t *testing.T) {
	r := newRig(t, func(c *Config) {
		modelled(t)(c)
		c.Detect.Detectors, c.Calibrate.Budget = []string{"champion"}, 100_000
	})
	s := newSignal(7)
	for i := range int64(1500) {
		v := s.next()
		if i >= 1400 {
			v[1] += 60
		}
		r.sample(epoch0+i*second, v...)
	}
	want := "champion pump@" + r.cfg.Detect.Models.Champions[0].Version
	for _, a := range r.anomalies {
		if a.StartedUs >= epoch0+1400*second && len(a.Contributions) > 0 && a.Contributions[0].Sensor == "s1" && a.Contributions[0].Detector == want && a.Contributions[0].Share > 0.6 {
			return
		}
	}
	t.Errorf("%v", r.anomalies)
}

// BenchmarkInputs is what a frame costs of a machine that a champion and a shadow judge, when what they are given is counted and when it is not: a window of ten sensors closes with each frame.
func BenchmarkInputs(b *testing.B) {
	usual := func(r *rand.Rand, _ int) float64 { return 50 + r.NormFloat64() }
	for _, c := range []struct {
		name  string
		train func(detecttest.TB, string, uint64, func(*rand.Rand, int) float64, ...string) (detect.Model, []byte)
	}{{"counted", detecttest.Model}, {"not", detecttest.Unwatched}} {
		b.Run(c.name, func(b *testing.B) {
			var features []string
			for i := range 10 {
				features = append(features, fmt.Sprintf("s%d", i))
			}
			champion, _ := c.train(b, "pump", 1, usual, features...)
			shadow, _ := c.train(b, "pump", 2, usual, features...)
			cfg := DefaultConfig()
			cfg.Detect.Detectors = append(cfg.Detect.Detectors, detect.Champion, detect.Shadow)
			cfg.Detect.Models.Champions, cfg.Detect.Models.Shadows = []detect.Model{champion}, []detect.Model{shadow}
			cfg.Detect.Prepare()
			fd := &feeder{r: rand.New(rand.NewPCG(3, 4)), f: benchFrame(10, 1), step: 5 * second, m: New(&cfg, "pump-1")}
			fd.f.Sensors = nil
			for _, f := range features {
				fd.f.Sensors = append(fd.f.Sensors, []byte(f))
			}
			tallies := map[string]*modelfile.Tally{}
			send := func() {
				fd.send()
				for _, in := range fd.out.Inputs() {
					if in.Reference == nil {
						continue
					}
					t := tallies[in.Model]
					if t == nil {
						one := in.Reference.NewTally()
						t = &one
						tallies[in.Model] = t
					}
					in.Counter.Count(t, in.Score, in.Row)
				}
			}
			for range 500 {
				send()
			}
			if c.name == "counted" && len(tallies) != 2 {
				b.Fatal(len(tallies))
			}
			b.ReportAllocs()
			for b.Loop() {
				send()
			}
		})
	}
}
