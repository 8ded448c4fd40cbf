// Package onset tells how unusual it is that something begins: that a machine's sensors move away from where they were of late, or vary as they did not.
//
// It is the counterpart of the detectors. They hold a window against what is usual, which is not learned while something is wrong; so they know that a fault
// lasts, and are blind for what else begins meanwhile. Here everything is learned, faults included: what lasts is soon no news, what begins is.
//
// For each sensor two running means are held against slow ones: of the windows' means, over some five windows, and of the differences of neighbouring windows, over some
// fifty (a moving range chart, Shewhart 1931). The unit is the distance that was usual while the sensor was young. The largest distance over all sensors is held against every one there
// ever was on this machine: the share of windows that went as far is the p-value (conformal: Vovk, Gammerman and Shafer 2005), and beyond the last
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
	heap    = 50 // windows over which the next notable one is taken to belong to the last,
	beyond  = 2  // unless it is so much more surprising: seven times as rare
)

// Running means, each with a history of its own.
const (
	quick   = iota // of the means
	ranging        // of the differences of neighbouring means
	charts
)

func weight(c int) float64 { return [charts]float64{quick: 0.2, ranging: 0.02}[c] }

// Watch is the state of one machine. The zero value knows nothing. 32 bytes per sensor and 180 of its own. A window of ten sensors costs some
// microsecond, judged and pushed (BenchmarkWindow). Not safe for concurrent use.
type Watch struct {
	sensors []sensor
	past    [charts]history
	since   uint32  // windows since the last notable one
	highest float32 // surprise shown in the heap of that one
}

// sensor holds values relative to its first one, so that float32 suffices.
type sensor struct {
	first, last float32
	level       [2]float32 // slow means: of the values, and of their differences
	chart       [charts]float32
	usual       [charts]int16 // mean logarithm of the distance while it settled, in 1/256; never: it has not moved yet
	n           uint16        // windows, up to levelMemory
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
	return w.shown(w.raw(&far))
}

func (w *Watch) shown(t float64) float64 {
	if t > float64(w.highest)+beyond {
		return t
	}
	return -math.Expm1(-(float64(w.since)+1)/heap) * t
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
			if s.usual[c] != never {
				far[c] = max(far[c], math.Abs(s.next(c, x)-s.against(c))*math.Exp(-float64(s.usual[c])/perUsual))
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
	if t := w.raw(&far); t > Notable {
		w.since, w.highest = 0, max(w.highest, float32(w.shown(t)))
	} else if w.since++; w.since >= heap {
		w.since, w.highest = min(w.since, math.MaxUint32-1), 0
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
		*s = sensor{first: float32(x), usual: [charts]int16{never, never}}
	}
	x = s.relative(x)
	for c := range s.chart {
		s.chart[c] = float32(s.next(c, x))
		if s.n >= burnIn && (s.n < settling || s.usual[c] == never) {
			s.settle(c)
		}
	}
	if s.n < levelMemory {
		s.n++
	}
	s.level[0] += float32((x - float64(s.level[0])) / float64(s.n+1))
	s.level[1] += float32((math.Abs(x-float64(s.last)) - float64(s.level[1])) / float64(s.n+1))
	s.last = float32(x)
}

// settle takes chart c's distance into what is usual. While the sensor settles, usual is the sum of the logarithms in quarters, which fits: 70 of them, each between -104 and 89. Then
// it is their mean. A distance of 0 has no logarithm and counts as the mean before it. What first moves later has that first distance as its usual one.
func (s *sensor) settle(c int) {
	r := math.Abs(float64(s.chart[c]) - s.against(c))
	seen := float64(s.n - burnIn)
	switch {
	case s.n >= settling:
		if r > 0 {
			s.usual[c] = int16(math.RoundToEven(math.Log(r) * perUsual))
		}
		return
	case r > 0 && s.usual[c] == never:
		s.usual[c] = int16(math.RoundToEven(4*math.Log(r)) * (seen + 1))
	case r > 0:
		s.usual[c] += int16(math.RoundToEven(4 * math.Log(r)))
	case s.usual[c] != never:
		s.usual[c] += int16(math.RoundToEven(float64(s.usual[c]) / seen))
	}
	if s.n == settling-1 && s.usual[c] != never {
		s.usual[c] = int16(math.RoundToEven(float64(s.usual[c]) * perUsual / 4 / (seen + 1)))
	}
}

const (
	// perUsual is the resolution of a usual distance: 1/256 of its logarithm, which is between -104 and 89 for float32.
	perUsual = 256
	never    = math.MinInt16
)

// AppendState appends the whole state.
func (w *Watch) AppendState(dst []byte) []byte {
	dst = codec.AppendF32(codec.AppendU32(dst, w.since), w.highest)
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
			dst = codec.AppendF32(dst, s.chart[c])
			dst = append(dst, byte(s.usual[c]), byte(uint16(s.usual[c])>>8))
		}
		dst = append(dst, byte(s.n), byte(s.n>>8))
	}
	return dst
}

// sensorSize is the least number of bytes that AppendState appends for a sensor.
const sensorSize = 4*4 + charts*6 + 2

// RestoreState is the inverse of AppendState, for a Watch that has been grown. It leaves errors in r.
func (w *Watch) RestoreState(r *codec.Reader) {
	w.since, w.highest = min(r.U32(), math.MaxUint32-1), r.F32()
	if !(w.highest >= 0) {
		r.Fail("onset out of range")
	}
	for c := range w.past {
		w.past[c].restoreState(r)
	}
	for i := range r.Len(len(w.sensors), sensorSize) {
		s := &w.sensors[i]
		s.first, s.last, s.level[0], s.level[1] = r.F32(), r.F32(), r.F32(), r.F32()
		for c := range s.chart {
			s.chart[c], s.usual[c] = r.F32(), int16(u16(r))
		}
		s.n = min(u16(r), levelMemory)
	}
}
