package machine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

const (
	second = int64(1_000_000) // microseconds
	epoch0 = int64(1_700_000_000) * second
)

// rig feeds one machine and keeps all that it says.
type rig struct {
	tb        testing.TB
	cfg       *Config
	m         *Machine
	out       Output
	seq       uint64
	logMS     int64
	windows   []Window
	anomalies []*eventv1.Anomaly
}

func newRig(tb testing.TB, edit func(*Config)) *rig {
	cfg := DefaultConfig()
	if edit != nil {
		edit(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		tb.Fatal(err)
	}
	return &rig{tb: tb, cfg: &cfg, m: New(&cfg, "pump-1"), logMS: epoch0 / 1000}
}

func names(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "s%d", i)
	}
	return out
}

// frameOf makes a frame of samples at the given times; columns[s][t].
func frameOf(seq uint64, sensors [][]byte, at []int64, columns [][]float32) *frame.Frame {
	f := &frame.Frame{
		EquipmentID: []byte("pump-1"), GatewayID: []byte("gw-1"), Sequence: seq, BaseTimeUS: at[0], Sensors: sensors,
	}
	if len(at) > 1 {
		for _, t := range at {
			f.OffsetsUS = append(f.OffsetsUS, uint64(t-at[0]))
		}
	}
	for _, c := range columns {
		f.Values = append(f.Values, c...)
	}
	return f
}

// collect copies what is in the output.
func (r *rig) collect() {
	for _, w := range r.out.Windows {
		w.Sensors = append([]SensorWindow(nil), w.Sensors...)
		r.windows = append(r.windows, w)
	}
	r.anomalies = append(r.anomalies, r.out.Anomalies...)
}

func (r *rig) apply(f *frame.Frame) *Output {
	r.out.Reset()
	r.m.Apply(f, f.Sensors, Meta{LogTimeMS: r.logMS}, &r.out)
	r.collect()
	return &r.out
}

// sample sends one sample of the values at an event time; log time follows it.
func (r *rig) sample(atUS int64, values ...float32) *Output {
	r.seq++
	r.logMS = max(r.logMS, atUS/1000)
	columns := make([][]float32, len(values))
	for i, v := range values {
		columns[i] = []float32{v}
	}
	return r.apply(frameOf(r.seq, names(len(values)), []int64{atUS}, columns))
}

func (r *rig) tick(logMS int64) *Output {
	r.logMS = max(r.logMS, logMS)
	r.out.Reset()
	r.m.Tick(logMS, &r.out)
	r.collect()
	return &r.out
}

// count is the number of anomalies of a cause in a phase.
func (r *rig) count(cause string, phase eventv1.Phase) int {
	n := 0
	for _, a := range r.anomalies {
		if a.Cause == cause && a.Phase == phase {
			n++
		}
	}
	return n
}

func (r *rig) starts() int {
	n := 0
	for _, a := range r.anomalies {
		if a.Phase == eventv1.Phase_PHASE_STARTED {
			n++
		}
	}
	return n
}

// show writes what was said as text, without log times if timeless.
func show(windows []Window, anomalies []*eventv1.Anomaly, timeless bool) string {
	var b strings.Builder
	for i := range windows {
		w := windows[i]
		if timeless {
			w.ClosedAtMS = 0
		}
		fmt.Fprintf(&b, "%+v\n", w)
	}
	for _, a := range anomalies {
		at := a.JudgedAtMs
		if timeless {
			at = 0
		}
		fmt.Fprintf(&b, "%s %s %s %v %v started %d observed %d judged %d %q", a.AnomalyId, a.EpisodeId, a.Severity, a.Score, a.Confidence,
			a.StartedUs, a.ObservedUs, at, a.Summary)
		for _, c := range a.Contributions {
			fmt.Fprintf(&b, " [%s %v %v %v %v %s]", c.Sensor, c.Share, c.Observed, c.ExpectedLow, c.ExpectedHigh, c.Detector)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// signal makes believable values of three sensors: noise about a level, a wandering one, a quantised one.
type signal struct {
	r      *rand.Rand
	wander float64
}

func newSignal(seed uint64) *signal { return &signal{r: rand.New(rand.NewPCG(seed, 1))} }

func (s *signal) next() []float32 {
	s.wander = 0.9*s.wander + s.r.NormFloat64()
	return []float32{
		float32(50 + s.r.NormFloat64()),
		float32(20 + s.wander),
		float32(math.Round(8*(3+0.2*s.r.NormFloat64())) / 8),
	}
}
