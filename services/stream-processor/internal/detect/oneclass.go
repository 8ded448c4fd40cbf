package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	rffDirections = 64
	rffFeatures   = 2 * rffDirections // a cosine and a sine of each
	rffWarmUp     = 32                // windows from which the first width of the kernel is taken, and then the first weights
	rffSettled    = 16                // windows of those after which products say something
	rffRenew      = 512               // windows after which the width is looked at again
	rffMismatch   = 1.3               // factor by which it must be off to be changed
	rffQuantile   = 0.25              // of the distances between windows that is the width of the kernel
	rffLeast      = 0.01              // product below which a window is as far outside as can be told: the noise of so few features
)

// oneClass is a one-class support vector machine with a Gaussian kernel (Schoelkopf, Platt, Shawe-Taylor, Smola and Williamson 2001), learned online
// by stochastic subgradient steps (Kivinen, Smola and Williamson 2004, "Online learning with kernels") on 128 random Fourier features of the kernel
// (Rahimi and Recht 2007; cosine and sine of each direction, which Sutherland and Schneider 2015 found the better form), so that neither memory nor time grow with what
// was seen. It begins with the mean of what it sees, a Parzen window, which is the machine of nu = 1.
//
// The kernel adapts: its width is the first quartile of the distances between windows that are not neighbours (Caputo et al. 2002 take quantiles of them for it), so
// that a machine of several modes is seen as such. When that has changed by a third, the machine is learned anew, and has no opinion meanwhile.
//
// Machines of more than 256 sensors get no opinion. 1 KiB per machine and 296 bytes per sensor, 256 of them for the random directions; 64*d operations to score.
type oneClass struct {
	vector
	nu        float64
	direction []float32 // rffDirections vectors of normal values: a function of the number of sensors
	weight    [rffFeatures]float32
	rho       float32 // margin
	width     float32 // of the kernel; 0: not known yet
	usual     float32 // quantile of squared distances
	n         uint32  // windows learned with this width
	score     rarity
	other     []float32 // a window learned some time ago
	seen      uint32

	phi [rffFeatures]float64 // scratch: cosines, then sines
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
	d.other, d.direction = make([]float32, n), make([]float32, rffDirections*n)
	for i := range d.direction { // Box and Muller 1958
		u, v := 1-uniform(uint64(2*i)), uniform(uint64(2*i+1))
		d.direction[i] = float32(math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v))
	}
}

// project puts z's features into phi and returns their product with the weights.
func (d *oneClass) project() (inside float64) {
	const scale = 0.125 // 1/sqrt(rffDirections)
	n, inverse := len(d.z), 1/float64(d.width)
	for k := range rffDirections {
		var a float64
		for j, w := range d.direction[k*n : (k+1)*n] {
			a += float64(w) * d.z[j]
		}
		sin, cos := math.Sincos(a * inverse)
		d.phi[k], d.phi[k+rffDirections] = scale*cos, scale*sin
		inside += d.phi[k]*float64(d.weight[k]) + d.phi[k+rffDirections]*float64(d.weight[k+rffDirections])
	}
	return inside
}

// strangeness is how far outside a window is, on the scale of the logarithm: products fall off like a density.
func (d *oneClass) strangeness(inside float64) float64 {
	return math.Log(max(float64(d.rho), rffLeast) / max(inside, rffLeast))
}

func (d *oneClass) ready() bool { return d.width > 0 && d.n >= rffSettled }

func (d *oneClass) Score(w *Window, s *Scores) {
	if !d.ready() || d.score.n < minRarity || d.take(w, mostDeviates) == 0 {
		return
	}
	s.Joint = float32(d.score.surprise(d.strangeness(d.project())))
	d.explain(s.Share)
	portion(s.Share)
}

// explain adds up what each sensor takes the window outside by, on the straight way from where all is usual (integrated gradients: Sundararajan, Taly and Yan 2017): far
// outside, the gradient itself is nothing.
func (d *oneClass) explain(share []float32) {
	if len(share) == 0 {
		return
	}
	const steps = 4
	n := len(d.z)
	for i := range d.z {
		d.z[i] /= steps
	}
	for step := 1.0; step <= steps; step++ {
		if step > 1 {
			for i := range d.z {
				d.z[i] *= step / (step - 1)
			}
		}
		d.project()
		for k := range rffDirections {
			c := float32((float64(d.weight[k])*d.phi[k+rffDirections] - float64(d.weight[k+rffDirections])*d.phi[k]) / step)
			for i, w := range d.direction[k*n : (k+1)*n] {
				share[i] += c * w * float32(d.z[i])
			}
		}
	}
	for i, x := range share {
		share[i] = max(0, x)
	}
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
	if d.seen == 0 {
		d.usual = sum
	}
	// A stochastic quantile (Robbins and Monro 1951) on the scale of the logarithm.
	step := float32(math.Exp(max(1./64, 1/float64(d.seen/8+1))))
	if sum < d.usual {
		d.usual /= 1 + (step-1)*(1-rffQuantile)
	} else {
		d.usual *= 1 + (step-1)*rffQuantile
	}
	d.usual = max(1e-6, min(d.usual, 1e12))
	if d.seen%16 == 0 {
		for i, z := range d.z {
			d.other[i] = float32(z)
		}
	}
	if d.seen < math.MaxUint32 {
		d.seen++
	}
	width := float32(math.Sqrt(float64(d.usual)))
	off := width / max(d.width, 1e-9)
	if d.width == 0 && d.seen >= rffWarmUp || d.width > 0 && d.n >= rffRenew && d.n%rffRenew == 0 && (off > rffMismatch || off < 1/rffMismatch) {
		d.width, d.n, d.rho, d.score = width, 0, 0, rarity{}
		clear(d.weight[:])
	}
}

// step is one subgradient step on (|w|^2)/2 - rho + max(0, rho - w*phi)/nu. rho's gradient is scaled by nu and by the spread of the products, which makes it their stochastic quantile.
func (d *oneClass) step() {
	inside := d.project()
	if d.ready() {
		d.score.learn(d.strangeness(inside), d.memory)
	}
	d.n = min(d.n+1, math.MaxUint32-1)
	rate := 1 / float64(min(d.n, uint32(d.memory)))
	if d.n <= rffWarmUp { // the mean of what is seen
		for k, p := range d.phi {
			d.weight[k] += float32(rate * (p - float64(d.weight[k])))
		}
		d.rho += float32(rate * (inside - float64(d.rho)))
		return
	}
	outside := inside < float64(d.rho)
	for k, p := range d.phi {
		x := float64(d.weight[k]) * (1 - rate)
		if outside {
			x += rate / d.nu * p
		}
		d.weight[k] = float32(x)
	}
	const firmness = 2 // of the step, in products
	if outside {
		d.rho -= float32(firmness * rate * (1 - d.nu) * float64(max(d.rho, rffLeast)))
	} else {
		d.rho += float32(firmness * rate * d.nu * float64(max(d.rho, rffLeast)))
	}
	d.rho = max(0, min(d.rho, 2))
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
	if !(d.width >= 0 && d.usual >= 0 && d.rho >= 0 && d.rho <= 2) {
		r.Fail("width below 0")
	}
	d.n, d.seen = r.U32(), r.U32()
	for i := range d.other {
		d.other[i] = r.F32()
	}
	d.score.restoreState(r)
}
