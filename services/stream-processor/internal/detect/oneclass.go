package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	rffCosines  = 64  // random features, each a cosine
	rffWarmUp   = 64  // windows from which the first width of the kernel is taken
	rffRenew    = 512 // windows after which the width is looked at again
	rffMismatch = 1.3 // factor by which it must be off to be changed
	rffAverage  = 1. / 32
)

// oneClass is a one-class support vector machine with a Gaussian kernel (Schoelkopf, Platt, Shawe-Taylor, Smola and Williamson 2001), learned online
// by stochastic subgradient steps (Kivinen, Smola and Williamson 2004, "Online learning with kernels") on 64 random Fourier features of the kernel
// (Rahimi and Recht 2007), so that neither memory nor time grow with what was seen.
//
// The kernel adapts: its width is the usual distance between windows that are not neighbours (the median heuristic, by a running mean). When that has
// changed by a third, the machine is learned anew, and has no opinion meanwhile.
//
// Machines of more than 256 sensors get no opinion. 1 KiB per machine and 308 bytes per sensor, 256 of them for the random directions; 64*d operations to score.
type oneClass struct {
	vector
	nu        float64
	direction []float32 // rffCosines vectors of normal values: a function of the number of sensors
	weight    [rffCosines]float32
	rho       float32 // margin
	width     float32 // of the kernel; 0: not known yet
	usual     float32 // running mean of squared distances
	n         uint32  // windows learned with this width
	score     rarity
	other     []float32 // a window learned some time ago
	seen      uint32

	phi, slope [rffCosines]float64 // scratch
}

func newOneClass(c *Config) Detector {
	return &oneClass{vector: vector{memory: c.OneClass.Memory, most: 256}, nu: c.OneClass.Nu}
}

func (d *oneClass) Grow(sensors []string) {
	if !d.grow(len(sensors)) {
		return
	}
	*d = oneClass{vector: d.vector, nu: d.nu}
	n := len(d.z)
	d.other, d.direction = make([]float32, n), make([]float32, rffCosines*n)
	for i := range d.direction { // Box and Muller 1958
		u, v := 1-uniform(uint64(2*i)), uniform(uint64(2*i+1))
		d.direction[i] = float32(math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v))
	}
}

// project puts z's features into phi and returns their product with the weights.
func (d *oneClass) project() (inside float64) {
	n := len(d.z)
	scale := math.Sqrt(2. / rffCosines)
	for k := range d.phi {
		a := 2 * math.Pi * uniform(uint64(k)|1<<61)
		for j, z := range d.z {
			a += float64(d.direction[k*n+j]) * z / float64(d.width)
		}
		sin, cos := math.Sincos(a)
		d.phi[k], d.slope[k] = scale*cos, -scale*sin
		inside += d.phi[k] * float64(d.weight[k])
	}
	return inside
}

func (d *oneClass) ready() bool { return d.width > 0 && d.n >= rffWarmUp }

func (d *oneClass) Score(w *Window, s *Scores) {
	if !d.ready() || d.score.n < minRarity || d.take(w, mostDeviates) == 0 {
		return
	}
	s.Joint = float32(d.score.surprise(float64(d.rho) - d.project()))
	n := len(d.z)
	for i := range s.Share { // how much farther inside z would be with this sensor as usual, to first order
		var g float64
		for k := range d.phi {
			g += float64(d.weight[k]) * d.slope[k] * float64(d.direction[k*n+i])
		}
		s.Share[i] = float32(max(0, -g*d.z[i]))
	}
	portion(s.Share)
}

// Follow does nothing: there is no running state.
func (d *oneClass) Follow(*Window) {}

func (d *oneClass) Learn(w *Window) {
	if len(d.z) == 0 {
		return
	}
	if d.take(w, clipAt) > 0 {
		d.adapt()
		if d.width > 0 {
			d.step()
		}
	}
	d.learn(w)
}

// adapt follows the distance between windows, and chooses the width of the kernel.
func (d *oneClass) adapt() {
	var sum float32
	for i, z := range d.z {
		e := float32(z) - d.other[i]
		sum += e * e
	}
	d.usual += (sum - d.usual) * max(rffAverage/4, 1/float32(d.seen+1))
	if d.seen%16 == 0 {
		for i, z := range d.z {
			d.other[i] = float32(z)
		}
	}
	if d.seen < math.MaxUint32 {
		d.seen++
	}
	width := float32(math.Sqrt(max(float64(d.usual), 1e-6)))
	off := width / max(d.width, 1e-9)
	if d.width == 0 && d.seen >= rffWarmUp || d.width > 0 && d.n >= rffRenew && d.n%rffRenew == 0 && (off > rffMismatch || off < 1/rffMismatch) {
		d.width, d.n, d.rho, d.score = width, 0, 0, rarity{}
		clear(d.weight[:])
	}
}

// step is one subgradient step on (|w|^2)/2 - rho + max(0, rho - w*phi)/nu.
func (d *oneClass) step() {
	inside := d.project()
	if d.ready() {
		d.score.learn(float64(d.rho)-inside, d.memory)
	}
	d.n = min(d.n+1, math.MaxUint32-1)
	rate := 1 / float64(min(d.n, uint32(d.memory)))
	outside := inside < float64(d.rho) || d.n == 1
	for k := range d.weight {
		x := float64(d.weight[k]) * (1 - rate)
		if outside {
			x += rate / d.nu * d.phi[k]
		}
		d.weight[k] = float32(x)
	}
	if outside {
		d.rho -= float32(rate * (1/d.nu - 1))
	} else {
		d.rho += float32(rate)
	}
	d.rho = max(d.rho, -100)
}

func (d *oneClass) AppendState(dst []byte) []byte {
	dst = d.appendState(dst)
	for _, x := range d.weight {
		dst = codec.AppendF32(dst, x)
	}
	for _, x := range [...]float32{d.rho, d.width, d.usual} {
		dst = codec.AppendF32(dst, x)
	}
	dst = codec.AppendU32(dst, d.n)
	dst = codec.AppendU32(dst, d.seen)
	for _, x := range d.other {
		dst = codec.AppendF32(dst, x)
	}
	return d.score.appendState(dst)
}

func (d *oneClass) RestoreState(r *codec.Reader) {
	if !d.vector.restoreState(r) {
		r.Fail("machine of other sensors")
		return
	}
	for i := range d.weight {
		d.weight[i] = r.F32()
	}
	d.rho, d.width, d.usual = r.F32(), r.F32(), r.F32()
	if !(d.width >= 0 && d.usual >= 0) {
		r.Fail("width below 0")
	}
	d.n, d.seen = r.U32(), r.U32()
	for i := range d.other {
		d.other[i] = r.F32()
	}
	d.score.restoreState(r)
}
