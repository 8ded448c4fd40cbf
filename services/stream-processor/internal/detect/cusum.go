package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	cusumDoubt = 10.0 // a sum beyond this is beyond doubt, and need not be remembered for long
	mostCusum  = 60.0
	cusumCalm  = 1.5 // deviations within which a window is as usual
	cusumEbb   = 0.7 // what one such window leaves of a sum beyond doubt
)

// cusum is the two-sided cumulative sum chart (Page 1954, "Continuous inspection schemes") of each sensor: what deviations exceed an
// allowance by, added up. It is the quickest way to a shift of twice the allowance (Moustakides 1986). 40 bytes per sensor.
//
// Deviations are innovations: neighbouring windows are alike, so only what the one before did not foretell is added (Alwan and Roberts
// 1988, "Time-series modeling for statistical process control"). The reference adapts: it is the baseline, learned with
// forgetting while it may. In steady state a sum of normal deviations exceeds h with a chance near exp(-2*allowance*h) (Siegmund 1985, Sequential Analysis).
type cusum struct {
	allowance float64
	memory    int
	sensors   []cusumSensor
}

type cusumSensor struct {
	base     baseline
	up, down float32
	last     float32 // deviation of the window before
}

func newCUSUM(c *Config) Detector {
	return &cusum{allowance: c.CUSUM.Allowance, memory: c.CUSUM.Memory}
}

func (d *cusum) Grow(sensors []string) { d.sensors = grow(d.sensors, len(sensors)) }

// next is the sums and the deviation one window on.
func (d *cusum) next(e *cusumSensor, v *Value) (up, down, z float64) {
	b := &e.base
	sd := math.Sqrt(square(b.deviation(v.Resolution, b.thinness(v.Count)+1/max(b.effective(), 1))) + v.Drift)
	if sd == 0 {
		return float64(e.up), float64(e.down), 0
	}
	r := b.correlation()
	x := b.apart(v.Mean, v.Resolution)
	z = max(-strange, min(x/sd, strange))
	x = (z - r*float64(e.last)) / math.Sqrt(1-r*r)
	step := func(sum, x float64) float64 {
		sum = max(0, min(sum+x-d.allowance, mostCusum))
		if sum > cusumDoubt && math.Abs(z) < cusumCalm {
			sum = max(cusumDoubt, sum*cusumEbb)
		}
		return sum
	}
	return step(float64(e.up), x), step(float64(e.down), -x), z
}

func (d *cusum) Score(w *Window, s *Scores) {
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		if v.Count == 0 || e.base.n < minLearned {
			continue
		}
		b := &e.base
		band := bandWidth * math.Sqrt(square(b.deviation(v.Resolution, b.thinness(v.Count)))+v.Drift)
		s.Low[i], s.High[i] = float32(b.mean()-band), float32(b.mean()+band)
		up, down, _ := d.next(e, v)
		s.Surprise[i] = float32(max(0, 2*d.allowance*max(up, down)-math.Ln2)) // two sides
	}
}

func (d *cusum) Follow(w *Window) {
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		if v.Count == 0 || e.base.n < minLearned {
			continue
		}
		up, down, z := d.next(e, v)
		e.up, e.down, e.last = float32(up), float32(down), float32(z)
	}
}

func (d *cusum) Learn(w *Window) {
	for i := range w.Values {
		if v := &w.Values[i]; v.Count > 0 {
			d.sensors[i].base.learn(v.Mean, v.Resolution, v.Count, d.memory)
		}
	}
}

func (d *cusum) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		e := &d.sensors[i]
		dst = e.base.appendState(dst)
		dst = codec.AppendF32(dst, e.up)
		dst = codec.AppendF32(dst, e.down)
		dst = codec.AppendF32(dst, e.last)
	}
	return dst
}

func (d *cusum) RestoreState(r *codec.Reader) {
	for i := range r.Len(len(d.sensors), baselineSize+12) {
		e := &d.sensors[i]
		e.base.restoreState(r)
		e.up, e.down, e.last = r.F32(), r.F32(), r.F32()
		if !(e.up >= 0 && e.down >= 0 && e.up <= mostCusum && e.down <= mostCusum && e.last-e.last == 0) {
			r.Fail("cumulative sum out of range")
			*e = cusumSensor{}
		}
	}
}
