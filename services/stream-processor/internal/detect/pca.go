package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	pcaBurnIn    = 10   // windows from which the first scale of each sensor is taken
	pcaInertia   = 4    // windows that the assumption of independent sensors is worth at first
	pcaDoubt     = 20   // windows after which the running means' own spread counts half
	pcaTolerance = 0.05 // share of a sensor's variance that no other sensor is trusted to explain
	// Whatever the others say, a sensor is known no worse than by its own variance, rounding included: only one at rest seems to be.
	leastPrecision = 0.4
	mostDeviates   = 1e6 // keeps squares finite
)

// pca judges all sensors of a machine together: Hotelling's T2 of the whitened vector of window means (Hotelling 1947), at once and as an
// exponentially weighted average (MEWMA: Lowry, Woodall, Champ and Rigdon 1992). Whitening divides every principal component by its own
// deviation, down to a floor (pcaTolerance, as in ridge regression), so the small components, whose sum of squares is Q or SPE (Jackson and
// Mudholkar 1979), count as much as the large ones: both statistics in one, with no number of components to choose.
//
// What is kept is the Cholesky factor of the covariance, learned with forgetting by rank-one updates (Gill, Golub, Murray and
// Saunders 1974): positive definite whatever comes, collinear sensors included. The ridge is put in one sensor at a time.
// Sensors are told apart by reconstruction-based contributions (Alcala and Qin 2009), which do not smear: a sensor's surprise is how far it is
// from what all the others make of it.
//
// The statistics' own distribution is learned on their cube root, near to normal (Wilson and Hilferty 1931), from windows that were not yet in the model.
//
// Machines of one sensor, or of more than max_sensors, get no opinion. Memory: 52 + 2d bytes per sensor of d. Cost: 2*d*d multiplications to score, 3*d*d to learn.
type pca struct {
	lambda  float64
	memory  int
	most    int
	sensors []pcaSensor
	factor  []float32 // lower triangle by rows: factor*factorT is the covariance of standardised means
	n       uint32    // windows in the factor
	turn    uint32    // sensor whose ridge is next
	now     baseline  // cube root of T2 per sensor
	chart   baseline  // the same of the running means

	z, y []float64 // lent by the window while it is worked on: standardised, whitened
}

// work takes scratch memory from the window, and rest gives it back.
func (d *pca) work(w *Window) {
	n := len(d.sensors)
	b := w.floats(2 * n)
	d.z, d.y = b[:n:n], b[n:]
}

func (d *pca) rest() { d.z, d.y = nil, nil }

type pcaSensor struct {
	base    baseline
	chart   running // of standardised deviations
	learned running // the same over windows learned from
	alone   float32 // mean square of what the others leave unexplained
	slow    float32 // the same of the running mean
}

func newPCA(c *Config) Detector {
	return &pca{lambda: c.PCA.Lambda, memory: c.PCA.Memory, most: c.PCA.MaxSensors}
}

func (d *pca) Grow(sensors []string) {
	n := len(sensors)
	if n > d.most {
		*d = pca{lambda: d.lambda, memory: d.memory, most: d.most}
		return
	}
	from := len(d.sensors)
	d.sensors, d.factor = grow(d.sensors, n), grow(d.factor, triangle(n))
	for i := from; i < n; i++ {
		d.factor[triangle(i)+i] = 1
	}
}

// triangle is the number of entries in the first n rows.
func triangle(n int) int { return n * (n + 1) / 2 }

func (d *pca) row(i int) []float32 { return d.factor[triangle(i) : triangle(i)+i+1] }

// ready tells whether the factor holds enough for its statistics to be learned; speaks, whether they may be believed. A machine that
// pages on a young model learns no more, and keeps it.
func (d *pca) ready() bool  { return len(d.sensors) > 1 && int(d.n) >= minLearned+len(d.sensors) }
func (d *pca) speaks() bool { return d.ready() && int(d.n) >= 20+len(d.sensors) && d.now.n >= 20 }

// standard puts the deviations of w's means, at most limit, into z; NaN where there is none. It returns how many there are.
func (d *pca) standard(w *Window, limit float64) int {
	n := 0
	for i := range d.z {
		v, b := &w.Values[i], &d.sensors[i].base
		d.z[i] = math.NaN()
		if v.Count == 0 || b.n < pcaBurnIn {
			continue
		}
		if sd := d.deviation(v, &d.sensors[i]); sd > 0 {
			d.z[i] = max(-limit, min((v.Mean-b.mean())/sd, limit))
			n++
		}
	}
	return n
}

// deviation is that of one window's mean. The baseline's own mean is not known better than its effective number of windows allows.
func (d *pca) deviation(v *Value, e *pcaSensor) float64 {
	b := &e.base
	return math.Sqrt(square(b.deviation(v.Resolution, b.thinness(v.Count)+1/max(b.effective(), 1))) + v.Drift)
}

// whiten solves factor*y = z and returns the square of y. A missing value is what those before it make of it.
func (d *pca) whiten() (t2 float64) {
	for i, x := range d.z {
		row := d.row(i)
		if x != x {
			d.y[i] = 0
			continue
		}
		for j, y := range d.y[:i] {
			x -= float64(row[j]) * y
		}
		x /= float64(row[i])
		d.y[i] = x
		t2 += x * x
	}
	return t2
}

// explain solves factorT*u = y, in place of y: u is the inverse covariance times z. u[i] in units of its deviation is how far sensor i is from what the others
// make of it, in units of what they leave open.
func (d *pca) explain() {
	for i := len(d.y) - 1; i >= 0; i-- {
		row := d.row(i)
		x := d.y[i] / float64(row[i])
		d.y[i] = x
		for j := range d.y[:i] {
			d.y[j] -= float64(row[j]) * x
		}
	}
}

// running is a mean that forgets.
type running struct {
	mean float32
	last [2]int16 // the two windows before, newest first, in steps of 1/runningSteps
}

const runningSteps = 2048 // strange of them fit

// next is the running mean one window on. Like the chart of ewma it takes in the median of three windows, so that one spike does not linger in it, and it comes back
// at once from far out when that median is as usual.
func (d *pca) next(m *running, z float64) float64 {
	x := float64(m.mean)
	if z != z {
		return x
	}
	older, newer := float64(m.last[1])/runningSteps, float64(m.last[0])/runningSteps
	median := max(min(older, newer), min(max(older, newer), max(-strange, min(z, strange))))
	if math.Abs(median) <= bandWidth {
		x = max(-bandWidth, min(x, bandWidth))
	}
	return x + d.lambda*(median-x)
}

func (d *pca) follow(m *running, z float64) {
	m.mean = float32(d.next(m, z))
	if z == z {
		m.last = [2]int16{int16(math.RoundToEven(runningSteps * max(-strange, min(z, strange)))), m.last[0]}
	}
}

// root makes T2 near to normal.
func root(t2 float64, n int) float64 { return math.Cbrt(t2 / float64(max(n, 1))) }

// tooHigh is the one-sided surprise of a T2 of n values, by how it was distributed, but never by less than share of what it would be were they normal and
// scale times a single window's: a machine whose sensors rest has no experience.
func tooHigh(b *baseline, t2 float64, n int, scale, share float64) float64 {
	spread, scale := 2/(9*float64(max(n, 1))), math.Cbrt(scale)
	variance := max(b.variance()*(1+1/max(b.effective(), 1)), share*spread*scale*scale)
	return aboveSurprise(root(t2, n), max(b.mean(), share*scale*(1-spread)), variance, b.freedom())
}

// aboveSurprise is the one-sided surprise of x.
func aboveSurprise(x, mean, variance, freedom float64) float64 {
	t := (x - mean) / math.Sqrt(variance)
	s := studentSurprise(t, freedom)
	if t < 0 {
		return -math.Log1p(-math.Exp(-s) / 2)
	}
	return s + math.Ln2
}

func (d *pca) Score(w *Window, s *Scores) {
	if !d.speaks() {
		return
	}
	d.work(w)
	defer d.rest()
	n := d.standard(w, mostDeviates)
	if n < 2 {
		return
	}
	now := tooHigh(&d.now, d.whiten(), n, 1, 0.6)
	d.explain()
	for i, u := range d.y {
		e := &d.sensors[i]
		if z := d.z[i]; z == z && e.alone > 0 {
			precision := max(float64(e.alone), leastPrecision)
			open := math.Sqrt(precision)
			s.Surprise[i] = float32(studentSurprise(u/open, e.base.freedom()))
			// u is the precision times the distance from what the others make of it, and its mean square is the precision.
			sd := d.deviation(&w.Values[i], e)
			mid, half := e.base.mean()+(z-u/precision)*sd, bandWidth*sd/open
			if math.Abs(z) < mostDeviates {
				s.Low[i], s.High[i] = float32(mid-half), float32(mid+half)
			}
		}
		d.z[i] = d.next(&e.chart, d.z[i])
	}
	slow := tooHigh(&d.chart, d.whiten(), len(d.z), d.lambda/(2-d.lambda), 1)
	d.explain()
	// At first the running mean is taken to vary as much as a single window: for all that is known, they are all alike.
	share := 1 / (1 + float64(d.now.n)/pcaDoubt)
	for i, u := range d.y {
		e := &d.sensors[i]
		if first := s.Surprise[i]; first == first {
			least := leastPrecision * max(d.lambda/(2-d.lambda), e.base.rounding(w.Values[i].Resolution))
			sd := math.Sqrt(max(float64(e.slow), least)*(1-share) + max(float64(e.alone), leastPrecision)*share)
			s.Surprise[i] = max(first, float32(studentSurprise(u/sd, e.base.freedom())))
		}
	}
	s.Joint = float32(max(0, max(now, slow)-math.Ln2)) // the larger of two
}

func (d *pca) Follow(w *Window) {
	if !d.ready() {
		return
	}
	d.work(w)
	defer d.rest()
	d.standard(w, mostDeviates)
	for i := range d.sensors {
		d.follow(&d.sensors[i].chart, d.z[i])
	}
}

func (d *pca) Learn(w *Window) {
	if len(d.sensors) < 2 {
		return
	}
	d.work(w)
	defer d.rest()
	if d.ready() {
		d.learnStatistics(w)
	}
	if d.standard(w, clipAt) > 0 {
		d.learnFactor(w)
	}
	for i := range d.sensors {
		if v := &w.Values[i]; v.Count > 0 {
			d.sensors[i].base.learn(v.Mean, v.Resolution, v.Count, d.memory)
		}
	}
}

func (d *pca) learnStatistics(w *Window) {
	n := d.standard(w, clipAt)
	if n == 0 {
		return
	}
	d.now.learn(root(d.whiten(), n), 0, 1, d.memory)
	a := 1 / float32(d.now.n)
	d.explain()
	for i, u := range d.y {
		e := &d.sensors[i]
		if z := d.z[i]; z == z {
			e.alone += a * (min(float32(u*u), clipAt*clipAt*max(e.alone, a*float32(u*u))) - e.alone)
		}
		d.follow(&e.learned, d.z[i])
		d.z[i] = float64(e.learned.mean)
	}
	d.chart.learn(root(d.whiten(), len(d.z)), 0, 1, d.memory)
	d.explain()
	for i, u := range d.y {
		e := &d.sensors[i]
		e.slow += a * (float32(u*u) - e.slow)
	}
}

// learnFactor takes z into the covariance.
func (d *pca) learnFactor(w *Window) {
	if int(d.n) < d.memory {
		d.n++
	}
	a := 1 / (float64(d.n) + pcaInertia)
	d.whiten()
	for i, z := range d.z {
		if z == z {
			continue
		}
		z = 0 // what the others make of it
		for j, l := range d.row(i)[:i] {
			z += float64(l) * d.y[j]
		}
		d.z[i] = z
	}
	keep := float32(math.Sqrt(1 - a))
	for i := range d.factor {
		d.factor[i] *= keep
	}
	d.update(0, a)

	k := int(d.turn) % len(d.sensors)
	d.turn = uint32(k + 1)
	b := &d.sensors[k].base
	rounding := b.rounding(w.Values[k].Resolution)
	clear(d.z)
	d.z[k] = math.Sqrt((pcaTolerance + rounding) * float64(len(d.sensors)))
	d.update(k, a)
}

// update adds a*z*zT to the covariance, by Givens rotations from row k on; before it z is zero. z is used up.
func (d *pca) update(k int, a float64) {
	for i := range d.z {
		d.z[i] *= math.Sqrt(a)
	}
	for ; k < len(d.z); k++ {
		x := d.z[k]
		if x == 0 {
			continue
		}
		at := triangle(k) + k
		l := float64(d.factor[at])
		r := math.Hypot(l, x)
		c, s := l/r, x/r
		d.factor[at] = float32(r)
		for i := k + 1; i < len(d.z); i++ {
			at += i
			f, z := float64(d.factor[at]), d.z[i]
			d.factor[at] = float32(c*f + s*z)
			d.z[i] = c*z - s*f
		}
	}
}

func (m *running) appendState(dst []byte) []byte {
	return codec.AppendU32(codec.AppendF32(dst, m.mean), uint32(uint16(m.last[0]))|uint32(uint16(m.last[1]))<<16)
}

func (m *running) restoreState(r *codec.Reader) {
	m.mean = r.F32()
	last := r.U32()
	m.last = [2]int16{int16(uint16(last)), int16(uint16(last >> 16))}
}

const pcaSensorSize = baselineSize + 24

func (d *pca) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		e := &d.sensors[i]
		dst = e.base.appendState(dst)
		dst = e.learned.appendState(e.chart.appendState(dst))
		dst = codec.AppendF32(codec.AppendF32(dst, e.alone), e.slow)
	}
	for _, x := range d.factor {
		dst = codec.AppendF32(dst, x)
	}
	dst = codec.AppendU32(dst, d.n)
	dst = codec.AppendU32(dst, d.turn)
	dst = d.now.appendState(dst)
	return d.chart.appendState(dst)
}

func (d *pca) RestoreState(r *codec.Reader) {
	n := r.Len(len(d.sensors), pcaSensorSize)
	for i := range n {
		e := &d.sensors[i]
		e.base.restoreState(r)
		e.chart.restoreState(r)
		e.learned.restoreState(r)
		e.alone, e.slow = r.F32(), r.F32()
		if !(e.alone >= 0 && e.slow >= 0) {
			r.Fail("mean square below 0")
		}
	}
	for i := range n {
		row := d.row(i)
		for j := range row {
			if row[j] = r.F32(); row[j]-row[j] != 0 || j == i && row[j] <= 0 {
				r.Fail("covariance is not positive definite")
				row[j] = 1
			}
		}
	}
	d.n, d.turn = r.U32(), r.U32()
	d.now.restoreState(r)
	d.chart.restoreState(r)
}
