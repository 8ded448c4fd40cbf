// Package onset tells how unusual it is that something begins: that a machine's sensors move away from where they were of late, or vary as they did not.
//
// It is the counterpart of the detectors. They hold a window against what is usual, which is not learned while something is wrong; so they know that a fault
// lasts, and are blind for what else begins meanwhile. Here everything is learned, faults included: what lasts is soon no news, what begins is.
//
// For each sensor three running means are held against slow ones: of the windows' means, over some five and some twenty windows, and of the differences of neighbouring windows,
// over some fifty (a moving range chart, Shewhart 1931). The unit is the distance that was usual while the sensor was young. The largest distance over all sensors is held against every
// one there ever was on this machine: the share of windows that went as far is the p-value (conformal: Vovk, Gammerman and Shafer 2005), and beyond the last
// fiftieth the excess of its logarithm is taken to be exponential (Hill 1975). No model of the signal, no threshold, no knob.
//
// Events come in heaps: a window is worth less while the last notable one is near.
package onset

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	levelMemory = 1000 // windows over which the slow means forget
	burnIn      = 30   // windows before a distance means anything
	settling    = 100  // windows until a sensor's usual distances are fixed

	// Notable is the surprise of what is worth a look: one window in 250.
	Notable = 5.5
	heap    = 50 // windows over which the next notable one is taken to belong to the last
)

// Running means, each with a history of its own.
const (
	quick   = iota // of the means
	steady         // of the means, longer
	ranging        // of the differences of neighbouring means
	charts
)

func weight(c int) float64 { return [charts]float64{0.2, 0.05, 0.02}[c] }

// Watch is the state of one machine. The zero value knows nothing. 48 bytes per sensor and 400 of its own. A window costs some 40 ns per sensor to
// judge and as much to push. Not safe for concurrent use.
type Watch struct {
	sensors []sensor
	past    [charts]history
	since   uint32 // windows since the last notable one
}

// sensor holds values relative to its first one, so that float32 suffices.
type sensor struct {
	first, last float32
	level       [2]float32 // slow means: of the values, and of their differences
	chart       [charts]float32
	usual       [charts]float32 // mean logarithm of the distance while it settled
	moved       [charts]uint8   // distances in usual
	n           uint16          // windows, up to levelMemory
}

// Grow makes room for n sensors.
func (w *Watch) Grow(n int) {
	if n > len(w.sensors) {
		s := make([]sensor, n)
		copy(s, w.sensors)
		w.sensors = s
	}
}

// Surprise is -ln p of a window of these means by sensor (NaN: none), less the nearer the last notable window is; 0 while nothing is known. Nothing changes.
func (w *Watch) Surprise(mean func(i int) float64) float64 {
	far := w.farthest(mean)
	return -math.Expm1(-(float64(w.since)+1)/heap) * w.raw(&far)
}

func (w *Watch) raw(far *[charts]float64) (t float64) {
	for c := range far {
		t = max(t, w.past[c].surprise(far[c]))
	}
	return t
}

// farthest is the largest distance of any sensor, by chart.
func (w *Watch) farthest(mean func(i int) float64) (far [charts]float64) {
	for i := range w.sensors {
		x, s := mean(i), &w.sensors[i]
		if x != x || s.n < settling {
			continue
		}
		x = s.relative(x)
		for c := range far {
			if s.moved[c] > 0 {
				far[c] = max(far[c], math.Abs(s.next(c, x)-s.against(c))*math.Exp(-float64(s.usual[c])))
			}
		}
	}
	return far
}

// relative keeps float32 from overflowing.
func (s *sensor) relative(x float64) float64 { return max(-1e37, min(x-float64(s.first), 1e37)) }

// next is chart c one window on, against what it is held against.
func (s *sensor) next(c int, x float64) float64 {
	if c == ranging {
		x = math.Abs(x - float64(s.last))
	}
	old := float64(s.chart[c])
	return old + weight(c)*(x-old)
}

func (s *sensor) against(c int) float64 {
	if c == ranging {
		return float64(s.level[1])
	}
	return float64(s.level[0])
}

// Push takes a window into the history: once each, in order.
func (w *Watch) Push(mean func(i int) float64) {
	far := w.farthest(mean)
	if w.raw(&far) > Notable {
		w.since = 0
	} else if w.since < math.MaxUint32 {
		w.since++
	}
	known := false
	for i := range w.sensors {
		if x, s := mean(i), &w.sensors[i]; x == x {
			known = known || s.n >= settling
			s.push(x)
		}
	}
	if known {
		for c := range far {
			w.past[c].add(far[c])
		}
	}
}

func (s *sensor) push(x float64) {
	if s.n == 0 {
		*s = sensor{first: float32(x)}
	}
	x = s.relative(x)
	for c := range s.chart {
		s.chart[c] = float32(s.next(c, x))
		if s.n >= burnIn && (s.n < settling || s.moved[c] == 0) {
			if r := math.Abs(float64(s.chart[c]) - s.against(c)); r > 0 && r < math.MaxFloat32 {
				s.moved[c]++
				s.usual[c] += float32((math.Log(r) - float64(s.usual[c])) / float64(s.moved[c]))
			}
		}
	}
	if s.n < levelMemory {
		s.n++
	}
	s.level[0] += float32((x - float64(s.level[0])) / float64(s.n+1))
	s.level[1] += float32((math.Abs(x-float64(s.last)) - float64(s.level[1])) / float64(s.n+1))
	s.last = float32(x)
}

// AppendState appends the whole state.
func (w *Watch) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, w.since)
	for c := range w.past {
		dst = w.past[c].appendState(dst)
	}
	dst = codec.AppendU32(dst, uint32(len(w.sensors)))
	for i := range w.sensors {
		s := &w.sensors[i]
		for _, x := range [...]float32{s.first, s.last, s.level[0], s.level[1]} {
			dst = codec.AppendF32(dst, x)
		}
		for c := range s.chart {
			dst = codec.AppendF32(codec.AppendF32(dst, s.chart[c]), s.usual[c])
			dst = append(dst, s.moved[c])
		}
		dst = codec.AppendU32(dst, uint32(s.n))
	}
	return dst
}

// sensorSize is the least number of bytes that AppendState appends for a sensor.
const sensorSize = 4*4 + charts*9 + 4

// RestoreState is the inverse of AppendState, for a Watch that has been grown. It leaves errors in r.
func (w *Watch) RestoreState(r *codec.Reader) {
	w.since = r.U32()
	for c := range w.past {
		w.past[c].restoreState(r)
	}
	for i := range r.Len(len(w.sensors), sensorSize) {
		s := &w.sensors[i]
		s.first, s.last, s.level[0], s.level[1] = r.F32(), r.F32(), r.F32(), r.F32()
		for c := range s.chart {
			s.chart[c], s.usual[c], s.moved[c] = r.F32(), r.F32(), r.U8()
		}
		s.n = uint16(min(r.U32(), levelMemory))
	}
}
