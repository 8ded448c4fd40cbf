package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// ewma is the exponentially weighted moving average control chart (Roberts 1959, "Control chart tests based on geometric moving averages"):
// a running mean of each sensor, held against a slow baseline. It finds small shifts that last, and drift. 56 bytes per sensor.
//
// The chart follows the signal always; the baseline learns only when it may. With weight lambda the running mean of independent values
// has lambda/(2-lambda) of their variance. Temperatures and the like wander, and their running mean with them: the variance it really
// shows is learned as well, and the larger one counts (the idea of Zhang's 1998 EWMAST chart for autocorrelated processes).
type ewma struct {
	lambda  float64
	memory  int
	sensors []ewmaSensor
}

type ewmaSensor struct {
	base   baseline
	chart  double
	last   [2]float32 // means of the last two windows, newest first; NaN: none yet
	usual  float32    // the chart of the windows learned from
	wander float32    // mean square of its distance from the baseline
}

func newEWMA(c *Config) Detector { return &ewma{lambda: c.EWMA.Lambda, memory: c.EWMA.Memory} }

func (d *ewma) Grow(sensors []string) {
	from := len(d.sensors)
	d.sensors = grow(d.sensors, len(sensors))
	for i := from; i < len(d.sensors); i++ {
		d.sensors[i].last[0] = float32(math.NaN())
	}
}

// next is the chart one window on. It takes in the median of the last three windows (Tukey 1977), so that a spike of one window never
// lingers in it. When that median is back in the expected band, so is the chart: the end of a large fault must not take longer to see than
// that of a small one.
func (e *ewmaSensor) next(lambda float64, v *Value) float64 {
	older, newer := float64(e.last[1]), float64(e.last[0])
	median := max(min(newer, older), min(max(newer, older), v.Mean))
	chart := e.chart.value()
	if b := &e.base; b.n >= minLearned {
		band := bandWidth * math.Sqrt(square(b.deviation(v.Resolution, 1))+v.Drift)
		if math.Abs(median-b.mean()) <= band {
			chart = max(b.mean()-band, min(chart, b.mean()+band))
		}
	}
	return chart + lambda*(median-chart)
}

func (d *ewma) Score(w *Window, s *Scores) {
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		b := &e.base
		if v.Count == 0 || b.n < minLearned {
			continue
		}
		thin := b.thinness(v.Count)
		band := bandWidth * math.Sqrt(square(b.deviation(v.Resolution, thin))+v.Drift)
		s.Low[i], s.High[i] = float32(b.mean()-band), float32(b.mean()+band)
		chart := e.next(d.lambda, v)
		share := d.lambda/(2-d.lambda) + d.lambda*d.lambda*(thin-1) + 1/max(b.effective(), 1)
		sd := b.deviation(v.Resolution, share)
		if sd = math.Sqrt(max(sd*sd, float64(e.wander)) + v.Drift); sd > 0 { // else it never varied
			s.Surprise[i] = float32(studentSurprise((chart-b.mean())/sd, b.freedom()))
		}
	}
}

func (d *ewma) Follow(w *Window) {
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		if v.Count == 0 {
			continue
		}
		if e.last[0] != e.last[0] {
			e.chart, e.last = doubled(v.Mean), [2]float32{float32(v.Mean), float32(v.Mean)}
		}
		e.chart = doubled(e.next(d.lambda, v))
		e.last = [2]float32{float32(v.Mean), e.last[0]}
	}
}

func (d *ewma) Learn(w *Window) {
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		if v.Count == 0 {
			continue
		}
		if e.base.n == 0 {
			e.usual = float32(v.Mean)
		}
		e.base.learn(v.Mean, v.Resolution, v.Count, d.memory)
		usual, wander := float64(e.usual), float64(e.wander)
		usual += d.lambda * (v.Mean - usual)
		off := usual - e.base.mean()
		e.usual, e.wander = float32(usual), float32(min(wander+(off*off-wander)/float64(e.base.n), math.MaxFloat32))
	}
}

func (d *ewma) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		e := &d.sensors[i]
		dst = e.base.appendState(dst)
		dst = e.chart.appendState(dst)
		for _, x := range [...]float32{e.last[0], e.last[1], e.usual, e.wander} {
			dst = codec.AppendF32(dst, x)
		}
	}
	return dst
}

func (d *ewma) RestoreState(r *codec.Reader) {
	for i := range r.Len(len(d.sensors), baselineSize+24) {
		e := &d.sensors[i]
		e.base.restoreState(r)
		e.chart.restoreState(r)
		e.last, e.usual, e.wander = [2]float32{r.F32(), r.F32()}, r.F32(), r.F32()
	}
}

func square(x float64) float64 { return x * x }

// grow lengthens s to n with zero values, without spare room: machines of 25,000 sensors are many bytes.
func grow[T any](s []T, n int) []T {
	if n <= len(s) {
		return s
	}
	out := make([]T, n)
	copy(out, s)
	return out
}
