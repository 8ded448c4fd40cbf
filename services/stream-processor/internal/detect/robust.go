package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	maxHistory = 64
	minHistory = 16     // windows before it has an opinion
	madToSigma = 1.4826 // for normal values (Rousseeuw and Croux 1993)
	mnaToSigma = 1.2533 // the same for the mean absolute deviation
)

// robustZ is the modified z-score (Iglewicz and Hoaglin 1993, "How to detect and handle outliers"; Hampel 1974): the distance
// from the median of the last windows in units of their median absolute deviation. Up to half of the history may be wild without moving
// it. It finds jumps against the recent past, and follows slow changes. The history is kept exactly, in order of time and of size: at
// 5 bytes per window and 8 per sensor.
type robustZ struct {
	history int
	sensors []robustState
	values  []float32 // history of them per sensor: a ring in order of time
	order   []uint8   // the same: indices into the sensor's values, by size
}

type robustState struct {
	count  float32 // mean number of values per window
	n, pos uint8
}

// robustSensor is a view of one sensor.
type robustSensor struct {
	*robustState
	values []float32
	order  []uint8
}

func (d *robustZ) at(i int) robustSensor {
	from, to := i*d.history, (i+1)*d.history
	return robustSensor{&d.sensors[i], d.values[from:to], d.order[from:to]}
}

func newRobustZ(c *Config) Detector { return &robustZ{history: c.RobustZ.History} }

func (d *robustZ) Grow(sensors []string) {
	d.sensors = grow(d.sensors, len(sensors))
	d.values, d.order = grow(d.values, d.history*len(d.sensors)), grow(d.order, d.history*len(d.sensors))
}

// location is the median and a robust standard deviation of the history.
func (e robustSensor) location() (median, sigma float64) {
	n := int(e.n)
	at := func(i int) float64 { return float64(e.values[e.order[i]]) }
	median = (at((n-1)/2) + at(n/2)) / 2
	// Deviations grow to both sides of the median: merge the two sorted sides up to the middle one.
	lo, hi := (n-1)/2, n/2
	if lo == hi {
		lo--
	}
	var mad float64
	if n%2 == 1 {
		hi = n / 2
	}
	for range n/2 + 1 {
		left, right := math.Inf(1), math.Inf(1)
		if lo >= 0 {
			left = median - at(lo)
		}
		if hi < n {
			right = at(hi) - median
		}
		if left < right {
			mad, lo = left, lo-1
		} else {
			mad, hi = right, hi+1
		}
	}
	var sum float64
	for i := range n {
		sum += math.Abs(at(i) - median)
	}
	// A signal that rests most of the time has no median deviation; half of its mean one keeps its usual excursions usual.
	return median, max(madToSigma*mad, mnaToSigma*sum/float64(n)/2)
}

// independence is the share of the history that is worth independent windows, (1-r)/(1+r) for its first-order autocorrelation r.
func (e robustSensor) independence(median float64, history int) float64 {
	var square, lagged, before float64
	at := int(e.pos) - int(e.n) // oldest first
	if at < 0 {
		at += history
	}
	for range int(e.n) {
		x := float64(e.values[at]) - median
		if at++; at == history {
			at = 0
		}
		square += x * x
		lagged += x * before
		before = x
	}
	if square == 0 {
		return 1
	}
	r := max(0, min(lagged/square, 0.98))
	return (1 - r) / (1 + r)
}

func (d *robustZ) Score(w *Window, s *Scores) {
	for i := range w.Values {
		v, e := &w.Values[i], d.at(i)
		if v.Count == 0 || int(e.n) < min(minHistory, d.history) {
			continue
		}
		median, sigma := e.location()
		n := float64(e.n)
		thin := max(1, float64(e.count)/float64(v.Count))
		floor := max(v.Resolution/2, math.Abs(median)*relativeEps)
		// The median itself has variance pi/(2n), and the deviation the precision of 0.37 n values (its efficiency).
		sd := math.Sqrt(sigma*sigma*(thin+math.Pi/(2*n)) + floor*floor + v.Drift)
		s.Low[i], s.High[i] = float32(median-bandWidth*sd), float32(median+bandWidth*sd)
		if sd > 0 { // else it never varied
			s.Surprise[i] = float32(studentSurprise((v.Mean-median)/sd, max(minFreedom, 0.37*n*e.independence(median, d.history))))
		}
	}
}

// Follow does nothing: there is no running state.
func (d *robustZ) Follow(*Window) {}

func (d *robustZ) Learn(w *Window) {
	for i := range w.Values {
		v, e := &w.Values[i], d.at(i)
		if v.Count == 0 {
			continue
		}
		e.push(float32(v.Mean), d.history)
		e.count += (float32(v.Count) - e.count) / float32(e.n)
	}
}

// push replaces the oldest value by x.
func (e robustSensor) push(x float32, history int) {
	n := int(e.n)
	if n == history { // take the oldest out of the order
		i := 0
		for e.order[i] != e.pos {
			i++
		}
		copy(e.order[i:n-1], e.order[i+1:n])
		n--
	}
	i := n
	for i > 0 && e.values[e.order[i-1]] > x {
		e.order[i] = e.order[i-1]
		i--
	}
	e.order[i] = e.pos
	e.values[e.pos] = x
	e.n = uint8(n + 1)
	e.pos = uint8((int(e.pos) + 1) % history)
}

func (d *robustZ) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		e := d.at(i)
		dst = append(dst, e.n)
		dst = codec.AppendF32(dst, e.count)
		for j := range int(e.n) { // oldest first: the ring's position is then no state
			k := (int(e.pos) - int(e.n) + j + 2*d.history) % d.history
			dst = codec.AppendF32(dst, e.values[k])
		}
	}
	return dst
}

func (d *robustZ) RestoreState(r *codec.Reader) {
	for i := range r.Len(len(d.sensors), 5) {
		e := d.at(i)
		n, count := int(r.U8()), r.F32()
		if n > d.history {
			r.Fail("history of %d windows", n)
		}
		for range n {
			x := r.F32()
			if x-x != 0 {
				r.Fail("history holds no number")
			}
			if r.Err() != nil {
				return
			}
			e.push(x, d.history)
		}
		e.count = count
	}
}
