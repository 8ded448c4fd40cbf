package detect

import (
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// ewma is the exponentially weighted moving average control chart (Roberts 1959, "Control chart tests based on geometric moving averages"):
// a running mean of each sensor, held against a slow baseline. It finds small shifts that last, and drift. 40 bytes per sensor.
//
// The chart follows the signal always; the baseline learns only when it may. With weight lambda the running mean of independent values
// has lambda/(2-lambda) of their variance; dependence between windows is left to the calibration.
type ewma struct {
	lambda  float64
	memory  int
	sensors []ewmaSensor
}

type ewmaSensor struct {
	base  baseline
	chart float64
	seen  bool
}

func newEWMA(c *Config) Detector { return &ewma{lambda: c.EWMA.Lambda, memory: c.EWMA.Memory} }

func (d *ewma) Grow(sensors []string) { d.sensors = grow(d.sensors, len(sensors)) }

func (d *ewma) Score(w *Window, s *Scores) {
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		b := &e.base
		if v.Count == 0 || b.n < minLearned {
			continue
		}
		thin := b.thinness(v.Count)
		band := bandWidth * b.deviation(v.Resolution, thin)
		s.Low[i], s.High[i] = float32(b.mean-band), float32(b.mean+band)
		chart := e.chart + d.lambda*(v.Mean-e.chart)
		share := d.lambda/(2-d.lambda) + d.lambda*d.lambda*(thin-1) + 1/float64(b.n)
		if sd := b.deviation(v.Resolution, share); sd > 0 { // else it never varied
			s.Surprise[i] = float32(studentSurprise((chart-b.mean)/sd, b.freedom()))
		}
	}
}

func (d *ewma) Advance(w *Window, learn bool) {
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		if v.Count == 0 {
			continue
		}
		if !e.seen {
			e.chart, e.seen = v.Mean, true
		}
		e.chart += d.lambda * (v.Mean - e.chart)
		if learn {
			e.base.learn(v.Mean, v.Resolution, v.Count, d.memory)
		}
	}
}

func (d *ewma) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		e := &d.sensors[i]
		dst = e.base.appendState(dst)
		dst = codec.AppendF64(dst, e.chart)
		dst = codec.AppendBool(dst, e.seen)
	}
	return dst
}

func (d *ewma) RestoreState(r *codec.Reader) {
	n := r.Len(len(d.sensors), baselineSize+9)
	for i := range n {
		d.sensors[i].base.restoreState(r)
		d.sensors[i].chart, d.sensors[i].seen = r.F64(), r.Bool()
	}
}

// grow lengthens s to n with zero values, without spare room: machines of 25,000 sensors are many bytes.
func grow[T any](s []T, n int) []T {
	if n <= len(s) {
		return s
	}
	out := make([]T, n)
	copy(out, s)
	return out
}
