package regime

import (
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

const (
	maxSegments = 8
	knots       = 8
	// By sensor, a segment holds at each knot how far the level lies from the base's and the mean square about that, and then the usual standard deviation inside
	// a window.
	perSensor = 2*knots + 1

	mostWeight   = 20_000 // windows over which a knot forgets
	levelMemory  = 400    // windows over which the base's level follows the machine
	spreadMemory = 1000
	// Levels are known but for a constant common to all, unless the way back to the base leads to where the base was: what is left of a difference there
	// is forgotten over so many windows.
	arrivedMemory = 400
	clipFrom      = 30 // windows from which what is learned is clipped, to so many deviations:
	clipAt        = 4.0
	// A way is known when it was gone twice, or for so many windows. A second time tells little of how much the third may differ: by
	// this share of the widest difference there is, over the number of visits.
	knownVisits = 2
	knownWeight = 60
	doubt       = 0.1
	// What varies more than so many times as the base does teaches nothing about it.
	unsteady = 4
)

// knotAt are the ages, in windows, of the knots: close together when temperatures have just begun to move, hours apart when they have arrived.
func knotAt(k int) float64 { return [knots]float64{2, 5, 12, 30, 78, 195, 488, 1220}[k] }

// segment is one way into a regime from another.
type segment struct {
	from, to int8  // below 0: free
	turn     uint8 // how often the place was given to another way, so that windows of the one before are not taken for its own
	visits   uint16
	weight   [knots]float32 // windows learned from, near each knot
	data     []float32      // perSensor for each sensor
}

// spot is where an age lies between two knots.
type spot struct {
	left, right int
	share       float64 // of the right one
}

func spotOf(age uint32) spot {
	a := float64(age)
	if a <= knotAt(0) {
		return spot{}
	}
	for k := 1; k < knots; k++ {
		if hi := knotAt(k); a < hi {
			lo := knotAt(k - 1)
			return spot{left: k - 1, right: k, share: math.Log(a/lo) / math.Log(hi/lo)}
		}
	}
	return spot{left: knots - 1, right: knots - 1}
}

// segmentOf finds the way from one regime to another, or newSegment.
func (t *Tracker) segmentOf(from, to int) int8 {
	for i := range t.segs {
		if int(t.segs[i].from) == from && int(t.segs[i].to) == to {
			return int8(i)
		}
	}
	return newSegment
}

// makeSegment makes a way; the one that was gone least gives up its place if there are too many, the oldest of equal ones.
func (t *Tracker) makeSegment(from, to int8) int8 {
	at := slices.IndexFunc(t.segs, func(g segment) bool { return g.from < 0 })
	if at < 0 && len(t.segs) < maxSegments {
		at = len(t.segs)
		t.segs = append(t.segs, segment{})
	}
	if at < 0 {
		at = 0
		for i := range t.segs {
			if t.segs[i].visits < t.segs[at].visits {
				at = i
			}
		}
	}
	t.segs[at] = segment{from: from, to: to, turn: t.segs[at].turn + 1, data: make([]float32, t.n*perSensor)}
	return int8(at)
}

// segmentAt is the segment of a place; nil for the base, and for a way that nobody went yet.
func (t *Tracker) segmentAt(p Place) *segment {
	if i := p.seg(); i >= 0 && i < len(t.segs) && t.segs[i].from >= 0 && t.segs[i].turn == p.turn() {
		return &t.segs[i]
	}
	return nil
}

// knows says whether enough was seen of a way at a spot, or next to it: what lies beyond the longest stay is taken to be as it was at its end.
func (g *segment) knows(s spot) bool { return g.knowsAt(s.left) || g.knowsAt(s.right) }

func (g *segment) knowsAt(knot int) bool {
	w := g.weight[knot]
	return w >= knownWeight || g.visits > knownVisits && w >= knownVisits
}

// arrived is the knot by which the machine is where it was going, as far as is known: the last that it is mostly seen at.
func (g *segment) arrived() int {
	for k := knots - 1; k > 0; k-- {
		if g.weight[k] >= knownWeight {
			return k
		}
	}
	return 0
}

// at reads one of the curves of a sensor; first is 0 for the level, knots for the mean square.
func (g *segment) at(sensor, first int, s spot) float64 {
	d := g.data[sensor*perSensor+first:]
	switch {
	case g.weight[s.left] == 0, !g.knowsAt(s.left) && g.knowsAt(s.right):
		return float64(d[s.right])
	case g.weight[s.right] == 0, !g.knowsAt(s.right) && g.knowsAt(s.left):
		return float64(d[s.left])
	}
	return float64(d[s.left])*(1-s.share) + float64(d[s.right])*s.share
}

// Level puts the values of a window, judged at a place, to where they would be in the base. It is true when they can be judged: else out holds no values. teach: they
// are to be learned from, and sensors that are not steady enough are left out.
func (t *Tracker) Level(p Place, v, out []detect.Value, teach bool) (known bool) {
	copy(out, v)
	if len(v) < t.n || t.n > MaxSensors || p.Aside() && !p.Held() {
		return true
	}
	g := t.segmentAt(p)
	if g == nil && p.seg() != newSegment && !p.Held() {
		return true
	}
	s := spotOf(p.age())
	if p.Held() || g == nil || !g.knows(s) {
		for i := range out {
			out[i] = detect.Value{Mean: math.NaN(), Stddev: math.NaN(), Min: math.NaN(), Max: math.NaN(), Resolution: v[i].Resolution}
		}
		return false
	}
	for i := range t.n {
		if out[i].Count == 0 {
			continue
		}
		m, extra := g.at(i, 0, s), t.excess(g, i, s)
		if teach && t.noise[i] > 0 && g.at(i, knots, s) > unsteady*float64(t.noise[i]) {
			out[i].Count = 0
			continue
		}
		out[i].Mean -= m
		out[i].Min -= m
		out[i].Max -= m
		out[i].Drift += extra
		if base, here := float64(t.spread[i]), float64(g.data[i*perSensor+2*knots]); base > 0 && here > 0 {
			out[i].Stddev *= base / here
		} else {
			out[i].Stddev = 0 // as if it was at rest: its spread cannot be compared
		}
	}
	return true
}

// excess is the variance by which a sensor's level is less known than in the base.
func (t *Tracker) excess(g *segment, sensor int, s spot) float64 {
	var widest float32
	for i := range t.segs {
		if d := t.segs[i].data; d != nil {
			for _, x := range d[sensor*perSensor : sensor*perSensor+knots] {
				widest = max(widest, x, -x)
			}
		}
	}
	m := doubt * float64(widest) / math.Pow(float64(max(g.visits, 2)-1), 1.5)
	return max(0, g.at(sensor, knots, s)-float64(t.noise[sensor])) + m*m
}

// Raise is what to add to a value of Level's to have that of the sensor.
func (t *Tracker) Raise(p Place, sensor int) float64 {
	g := t.segmentAt(p)
	if g == nil || p.Aside() || p.Held() || sensor >= t.n {
		return 0
	}
	return g.at(sensor, 0, spotOf(p.age()))
}

// Inflate is the factor from a standard deviation of Level's to that of the sensor.
func (t *Tracker) Inflate(p Place, sensor int) float64 {
	g := t.segmentAt(p)
	if g == nil || p.Aside() || p.Held() || sensor >= t.n {
		return 1
	}
	if base, here := float64(t.spread[sensor]), float64(g.data[sensor*perSensor+2*knots]); base > 0 && here > 0 {
		return here / base
	}
	return 1
}

// Learn takes a window into what is usual at its place.
func (t *Tracker) Learn(p Place, v []detect.Value) {
	if t.level == nil || p.Held() || len(v) < t.n {
		return
	}
	if r := p.regime(); r > 0 && r < len(t.modes) && !p.Aside() {
		for i, x := range t.modes[r].level {
			if v[i].Count > 0 && x == x {
				t.modes[r].level[i] = bounded(float64(x) + (v[i].Mean-float64(x))/levelMemory)
			}
		}
	}
	g := t.segmentAt(p)
	if g == nil {
		if p.seg() == noSegment {
			t.learnBase(v)
		}
		return
	}
	s := spotOf(p.age())
	normal := (1-s.share)*(1-s.share) + s.share*s.share
	before := g.weight
	for i, k := range [2]int{s.left, s.right} {
		if share := [2]float64{1 - s.share, s.share}[i]; share > 0.05 {
			g.weight[k] = min(g.weight[k]+float32(share), mostWeight)
		}
	}
	follow := !p.Aside() && g.knows(s)
	arrived := g.arrived()
	for i := range t.n {
		if v[i].Count > 0 {
			t.learnSensor(g, i, &v[i], s, before, normal, follow)
			if g.to == 0 && s.right >= arrived {
				g.data[i*perSensor+arrived] -= g.data[i*perSensor+arrived] / arrivedMemory
			}
		}
	}
}

func (t *Tracker) learnSensor(g *segment, sensor int, v *detect.Value, s spot, before [knots]float32, normal float64, follow bool) {
	d := g.data[sensor*perSensor : (sensor+1)*perSensor]
	x := v.Mean - float64(t.level[sensor])
	after := g.weight
	g.weight = before // what was known before this window
	known := before[s.left] > 0 || before[s.right] > 0
	off := 0.0
	if known {
		off = x - g.at(sensor, 0, s)
		if limit := clipAt * math.Sqrt(g.at(sensor, knots, s)+float64(t.noise[sensor])); min(before[s.left], before[s.right]) > clipFrom && limit > 0 {
			off = max(-limit, min(off, limit))
		}
	}
	g.weight = after
	for i, k := range [2]int{s.left, s.right} {
		share := [2]float64{1 - s.share, s.share}[i]
		switch {
		case share <= 0.05:
		case before[k] == 0:
			d[k], d[knots+k] = bounded(x), bounded(off*off)
			if known { // the neighbour's curve goes on, half way
				d[k] = bounded(x - off/2)
			}
		default:
			a := share / float64(after[k])
			d[k] = bounded(float64(d[k]) + a*off/normal)
			d[knots+k] = bounded(float64(d[knots+k]) + a*(off*off-float64(d[knots+k])))
		}
		if s.left == s.right {
			break
		}
	}
	if v.Count > 2 {
		d[2*knots] += (bounded(v.Stddev) - d[2*knots]) / float32(min(float64(sum(&after)), spreadMemory)+1)
	}
	if follow {
		t.level[sensor] = bounded(float64(t.level[sensor]) + off/levelMemory)
	}
}

// bounded keeps sums of squares finite.
func bounded(x float64) float32 { return float32(max(-1e30, min(x, 1e30))) }

func sum(w *[knots]float32) (total float32) {
	for _, x := range w {
		total += x
	}
	return total
}

func (t *Tracker) learnBase(v []detect.Value) {
	for i := range t.n {
		if v[i].Count == 0 {
			continue
		}
		off := v[i].Mean - float64(t.level[i])
		if limit := clipAt * math.Sqrt(float64(t.noise[i])); limit > 0 {
			off = max(-limit, min(off, limit))
		}
		t.level[i] = bounded(float64(t.level[i]) + off/levelMemory)
		t.noise[i] = bounded(float64(t.noise[i]) + (off*off-float64(t.noise[i]))/spreadMemory)
		if v[i].Count > 2 {
			if t.spread[i] == 0 {
				t.spread[i] = bounded(v[i].Stddev)
			}
			t.spread[i] += (bounded(v[i].Stddev) - t.spread[i]) / spreadMemory
		}
	}
}
