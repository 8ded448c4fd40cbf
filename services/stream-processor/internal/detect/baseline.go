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
	center         double
	sd             float32
	lagged, before float32 // covariance of neighbouring windows, and the deviation of the last window learned
	count          float32 // mean number of values per window
	n              uint32  // windows learned, up to the memory
}

func (b *baseline) mean() float64 { return b.center.value() }

func (b *baseline) variance() float64 { return float64(b.sd) * float64(b.sd) }

func (b *baseline) set(mean, variance float64) {
	b.center = doubled(mean)
	b.sd = float32(math.Sqrt(min(variance, math.MaxFloat32*math.MaxFloat32)))
}

// double is a number of 48 bits of precision in two float32, which need not be aligned to 8 bytes: a pressure of 100,000 Pa may vary by 1, and is learned by
// a thousandth of that.
type double struct{ high, low float32 }

func doubled(x float64) double {
	x = max(-math.MaxFloat32, min(x, math.MaxFloat32))
	d := double{high: float32(x)}
	d.low = float32(x - float64(d.high))
	return d
}

func (d double) value() float64 { return float64(d.high) + float64(d.low) }

func (d double) appendState(dst []byte) []byte {
	return codec.AppendF32(codec.AppendF32(dst, d.high), d.low)
}

func (d *double) restoreState(r *codec.Reader) { *d = double{high: r.F32(), low: r.F32()} }

// deviation is the standard deviation of a statistic with the given share of the variance of one window's mean, at least half of
// the sensor's resolution: averaging does not lessen that, so the first step of a sensor that was constant (a setpoint) is two
// deviations at most.
func (b *baseline) deviation(resolution, share float64) float64 {
	floor := max(resolution/2, math.Abs(b.mean())*relativeEps)
	return math.Sqrt(b.variance()*share + floor*floor)
}

// rounding is the share of a window's variance that the resolution makes, 0 to 1. It does not average out.
func (b *baseline) rounding(resolution float64) float64 {
	sd := b.deviation(resolution, 1)
	if sd == 0 {
		return 1
	}
	return 1 - b.variance()/(sd*sd)
}

// apart is how far x is from the mean beyond what rounding alone can do, which adds up to nothing: the first step of a setpoint least of all.
func (b *baseline) apart(x, resolution float64) float64 {
	x -= b.mean()
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

// correlation is the first-order autocorrelation, of 0 to 0.98. Rounding errors have none.
func (b *baseline) correlation() float64 {
	v := b.variance()
	if v <= square(b.mean()*relativeEps) {
		return 0
	}
	return max(0, min(float64(b.lagged)/v, 0.98))
}

// freedom is the degrees of freedom of the variance.
func (b *baseline) freedom() float64 { return min(max(b.effective()-1, minFreedom), maxFreedom) }

func (b *baseline) learn(x, resolution float64, count uint32, memory int) {
	if b.n == 0 {
		*b = baseline{count: float32(count), n: 1}
		b.set(x, 0)
		return
	}
	d := x - b.mean()
	if b.n >= clipFrom {
		limit := clipAt * b.deviation(resolution, 1)
		d = max(-limit, min(d, limit))
	}
	if int(b.n) < memory {
		b.n++
	}
	a := 1 / float64(b.n)
	b.set(b.mean()+a*d, (1-a)*(b.variance()+a*d*d))
	b.lagged += float32(a) * (float32(d)*b.before - b.lagged)
	b.before = float32(d)
	b.count += float32(a) * (float32(count) - b.count)
}

const baselineSize = 7 * 4

func (b *baseline) appendState(dst []byte) []byte {
	dst = b.center.appendState(dst)
	for _, x := range [...]float32{b.sd, b.lagged, b.before, b.count} {
		dst = codec.AppendF32(dst, x)
	}
	return codec.AppendU32(dst, b.n)
}

func (b *baseline) restoreState(r *codec.Reader) {
	b.center.restoreState(r)
	b.sd, b.lagged, b.before, b.count, b.n = r.F32(), r.F32(), r.F32(), r.F32(), r.U32()
}
