package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/wide"
)

// WideName is the name of the judge of wide machines.
const WideName = "wide"

// Wide judges all sensors of a machine that has thousands of them: a linear one-class SVM for each, over the means of its five newest windows, with false discoveries
// controlled over all of them (package wide has the sources). It takes the place of the detectors above for machines from Config.Wide.From sensors on; it is
// not in Builtin because nobody chooses it for others. Its surprises need no further calibration: each SVM has a tail of its own. 150 bytes per sensor.
type Wide struct {
	model *wide.Model
	jury  wide.Jury
	count []float32 // usual number of values in a window, by sensor

	row, resolution, surprise []float32 // scratch
	named                     float32
}

// wideSpec is constant.
var wideSpec = Spec{Name: WideName, Feature: Mean, Fixed: true, New: func(c *Config) Detector { return NewWide(c) }}

// WideSpec describes the judge of wide machines, which NewWide makes. It is shared and must not be changed.
func WideSpec() *Spec { return &wideSpec }

// NewWide makes a judge that knows nothing. c must be valid.
func NewWide(c *Config) *Wide { return &Wide{model: wide.New(c.Wide)} }

// Grow is Detector's.
func (d *Wide) Grow(sensors []string) {
	n := len(sensors)
	d.model.Grow(n)
	d.count, d.row, d.resolution, d.surprise = grow(d.count, n), grow(d.row, n), grow(d.resolution, n), grow(d.surprise, n)
}

// Score is Detector's.
func (d *Wide) Score(w *Window, s *Scores) {
	d.observe(w, true)
	d.model.Surprises(d.surprise, d.row)
	for i, t := range d.surprise {
		if v := d.row[i]; v == v {
			if s.Low[i], s.High[i] = d.model.Band(i); s.Low[i] == s.Low[i] {
				s.Surprise[i] = t
			}
		}
	}
	verdict := d.jury.Judge(d.model, d.surprise, d.row)
	s.Joint, d.named = float32(verdict.Surprise), float32(math.Inf(1))
	if n := len(verdict.Found); n > 0 {
		d.named = verdict.Found[n-1].Surprise
	}
}

// NamedFrom is the surprise from which the window scored last names a sensor at the false discovery rate; infinite when it names none.
func (d *Wide) NamedFrom() float32 { return d.named }

// Follow is Detector's.
func (d *Wide) Follow(w *Window) {
	d.observe(w, true)
	d.model.Surprises(d.surprise, d.row)
	d.model.Push(d.row, d.surprise, w.StartUS)
}

// Learn is Detector's.
func (d *Wide) Learn(w *Window) {
	d.observe(w, false)
	for i := range w.Values {
		if c := float32(w.Values[i].Count); c > 0 {
			d.resolution[i] = float32(w.Values[i].Resolution)
			if d.count[i] == 0 {
				d.count[i] = c
			}
			d.count[i] += (c - d.count[i]) / 32
		}
	}
	d.model.Learn(d.row, d.resolution, w.StartUS)
}

// observe fills the row: the sensors' means, NaN where there is none. Tempered ones count for no more than their number of values and the sensor's resolution allow.
func (d *Wide) observe(w *Window, temper bool) {
	for i := range w.Values {
		v := &w.Values[i]
		if v.Count == 0 {
			d.row[i] = float32(math.NaN())
			continue
		}
		x := float32(v.Mean)
		if temper {
			x = d.model.Temper(i, x, float32(v.Resolution), d.count[i]/float32(v.Count))
		}
		d.row[i] = x
	}
}

// AppendState is Detector's.
func (d *Wide) AppendState(dst []byte) []byte {
	dst = d.model.AppendState(dst)
	dst = codec.AppendU32(dst, uint32(len(d.count)))
	for _, c := range d.count {
		dst = codec.AppendF32(dst, c)
	}
	return dst
}

// RestoreState is Detector's.
func (d *Wide) RestoreState(r *codec.Reader) {
	d.model.RestoreState(r)
	for i := range r.Len(len(d.count), 4) {
		if d.count[i] = r.F32(); !(d.count[i] >= 0 && d.count[i] <= math.MaxUint32) {
			r.Fail("count out of range")
			return
		}
	}
}
