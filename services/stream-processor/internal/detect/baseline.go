package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	minMemory = 50
	maxMemory = 1_000_000

	minLearned  = 10  // windows before a baseline has an opinion
	bandWidth   = 3   // half width of the expected band, in standard deviations
	clipFrom    = 30  // windows learned before what is learned next is clipped
	clipAt      = 3.5 // standard deviations
	strange     = 12  // standard deviations beyond which a window counts no more in what follows the signal
	minFreedom  = 8
	maxFreedom  = 30   // degrees of freedom: tails stay heavier than normal for ever
	relativeEps = 2e-7 // relative precision of a float32 value
)

// baseline is a mean and variance with forgetting (West 1979, "Updating mean and variance estimates: an improved method", with a floor under the
// weight), over the windows learned from. Values far out are clipped before they are learned, so one outlier moves it little.
type baseline struct {
	mean, variance float64
	lagged         float32 // covariance of neighbouring windows
	before         float32 // deviation of the last window learned
	count          float32 // mean number of values per window
	n              uint32  // windows learned, up to the memory
}

// deviation is the standard deviation of a statistic with the given share of the variance of one window's mean, at least half of
// the sensor's resolution: averaging does not lessen that, so the first step of a sensor that was constant (a setpoint) is two
// deviations at most.
func (b *baseline) deviation(resolution, share float64) float64 {
	floor := max(resolution/2, math.Abs(b.mean)*relativeEps)
	return math.Sqrt(b.variance*share + floor*floor)
}

// rounding is the share of a window's variance that the resolution makes, 0 to 1. It does not average out.
func (b *baseline) rounding(resolution float64) float64 {
	sd := b.deviation(resolution, 1)
	if sd == 0 {
		return 1
	}
	return 1 - b.variance/(sd*sd)
}

// apart is how far x is from the mean beyond what rounding alone can do, which adds up to nothing: the first step of a setpoint least of all.
func (b *baseline) apart(x, resolution float64) float64 {
	x -= b.mean
	return math.Copysign(max(0, math.Abs(x)-resolution*b.rounding(resolution)), x)
}

// thinness is by how much the variance of a mean of count values exceeds that of a usual window.
func (b *baseline) thinness(count uint32) float64 {
	return max(1, float64(b.count)/float64(count))
}

// effective is the number of independent windows that the learned ones are worth: n(1-r)/(1+r) for a first-order autocorrelation r
// (Bayley and Hammersley 1946). An hour of a slow temperature tells little about its mean.
func (b *baseline) effective() float64 {
	r := b.correlation()
	return float64(b.n) * (1 - r) / (1 + r)
}

// correlation is the first-order autocorrelation, of 0 to 0.98.
func (b *baseline) correlation() float64 {
	if b.variance <= 0 {
		return 0
	}
	return max(0, min(float64(b.lagged)/b.variance, 0.98))
}

// freedom is the degrees of freedom of the variance.
func (b *baseline) freedom() float64 { return min(max(b.effective()-1, minFreedom), maxFreedom) }

func (b *baseline) learn(x, resolution float64, count uint32, memory int) {
	if b.n == 0 {
		*b = baseline{mean: x, count: float32(count), n: 1}
		return
	}
	d := x - b.mean
	if b.n >= clipFrom {
		limit := clipAt * b.deviation(resolution, 1)
		d = max(-limit, min(d, limit))
	}
	if int(b.n) < memory {
		b.n++
	}
	a := 1 / float64(b.n)
	b.mean += a * d
	b.variance = (1 - a) * (b.variance + a*d*d)
	b.lagged += float32(a) * (float32(d)*b.before - b.lagged)
	b.before = float32(d)
	b.count += float32(a) * (float32(count) - b.count)
}

const baselineSize = 8 + 8 + 4 + 4 + 4 + 4

func (b *baseline) appendState(dst []byte) []byte {
	dst = codec.AppendF64(dst, b.mean)
	dst = codec.AppendF64(dst, b.variance)
	dst = codec.AppendF32(dst, b.lagged)
	dst = codec.AppendF32(dst, b.before)
	dst = codec.AppendF32(dst, b.count)
	return codec.AppendU32(dst, b.n)
}

func (b *baseline) restoreState(r *codec.Reader) {
	*b = baseline{mean: r.F64(), variance: r.F64(), lagged: r.F32(), before: r.F32(), count: r.F32(), n: r.U32()}
}
