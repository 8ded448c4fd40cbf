package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// spread watches how much a sensor varies inside a window: an S chart on the logarithm of the standard deviation (Montgomery, Introduction to
// Statistical Quality Control, ch. 6; Crowder and Hamilton 1992 for the logarithm, which makes it near to normal). It finds bursts of
// variance, and a signal gone quiet, where the mean stays as it was. 28 bytes per sensor.
type spread struct {
	memory   int
	minCount uint32
	sensors  []baseline
}

func newSpread(c *Config) Detector {
	return &spread{memory: c.Spread.Memory, minCount: uint32(c.Spread.MinCount)}
}

func (d *spread) Grow(sensors []string) { d.sensors = grow(d.sensors, len(sensors)) }

// logSpread is ln of the standard deviation, which is never below what the resolution can show. It is NaN with too few values, and when they are all
// equal: whether a sensor is stuck is for the judge of quality to say, who knows its habits.
func (d *spread) logSpread(v *Value) float64 {
	if v.Count < d.minCount || v.Stddev == 0 {
		return math.NaN()
	}
	floor := 0.29 * v.Resolution // the standard deviation of the rounding, 1/sqrt(12)
	return math.Cbrt(v.Stddev*v.Stddev + floor*floor)
}

func (d *spread) Score(w *Window, s *Scores) {
	for i := range w.Values {
		v, b := &w.Values[i], &d.sensors[i]
		x := d.logSpread(v)
		if x != x || b.n < minLearned {
			continue
		}
		// The logarithm of a sample's deviation has variance of about 1/(2(n-1)): fewer values than usual, less sure.
		fewer := max(0, 2/(9*float64(v.Count-1))-2/(9*max(float64(b.count)-1, 1)))
		sd := math.Sqrt(b.variance() + (fewer+1e-4)*b.mean()*b.mean())
		s.Low[i], s.High[i] = float32(math.Pow(max(0, b.mean()-bandWidth*sd), 1.5)), float32(math.Pow(b.mean()+bandWidth*sd, 1.5))
		s.Surprise[i] = float32(studentSurprise((x-b.mean())/(sd*math.Sqrt(1+1/max(b.effective(), 1))), b.freedom()))
	}
}

// Follow does nothing: there is no running state.
func (d *spread) Follow(*Window) {}

func (d *spread) Learn(w *Window) {
	for i := range w.Values {
		v := &w.Values[i]
		if x := d.logSpread(v); x == x {
			d.sensors[i].learn(x, 0, v.Count, d.memory)
		}
	}
}

func (d *spread) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		dst = d.sensors[i].appendState(dst)
	}
	return dst
}

func (d *spread) RestoreState(r *codec.Reader) {
	for i := range r.Len(len(d.sensors), baselineSize) {
		d.sensors[i].restoreState(r)
	}
}
