// Package calibrate turns what detectors say into chances that can be trusted, and joins them.
//
// Everything is on the scale of surprise: t = -ln(p), where p is a p-value. 0 is usual; 7 is one in a thousand; surprises of independent
// p-values add up. Three steps lead from a detector's own opinion to the machine's score:
//
//  1. Each detector's nominal surprise of each sensor is corrected by a Tail: how often and how far that surprise really
//     went, on this machine.
//  2. Detectors are joined to a sensor, and sensors to the machine, by the Cauchy combination, which holds whatever the dependence.
//  3. A Scan joins the last few windows, so that a small but lasting shift counts, and Peaks correct the machine's
//     value by this machine's own history: whatever dependence is left (over time, between sensors) ends up there.
package calibrate

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Score is 1 - p in [0, 1) for a surprise.
func Score(t float64) float64 {
	if !(t > 0) {
		return 0
	}
	return min(-math.Expm1(-t), math.Nextafter(1, 0))
}

// PValue is the p-value of a surprise.
func PValue(t float64) float64 {
	if !(t > 0) {
		return 1
	}
	return math.Exp(-t)
}

// Surprise is -ln(p).
func Surprise(p float64) float64 { return -math.Log(p) }

// Tail corrects a nominal surprise by experience. Above the threshold u the nominal surprise is modelled as exponential: P(t > u+x) =
// zeta exp(-x/beta), with zeta the share of windows above u and beta their mean excess. That is a peaks-over-threshold fit (Pickands 1975;
// streaming in Siffer et al. 2017, "Anomaly detection in streams with extreme value theory") on the log scale, where beta is Hill's (1975)
// estimator: beta = 1 if the detector's model is right, more if its tail is too light. Below u the
// correction is linear. It starts from prior experience, so that it holds from the first window and yields as data come.
//
// 12 bytes. Excesses count up to maxExcess, so that no single window decides.
type Tail struct {
	windows, above, excess float32 // sums with forgetting
}

// Prior is what a Tail believes before it has seen anything.
type Prior struct {
	Beta    float64 // mean excess
	Windows float64 // weight of the prior, in windows
	Peaks   float64 // weight of Beta, in exceedances
	MinBeta float64 // smallest mean excess ever believed
}

const (
	threshold = 3.0 // u: nominal p = 0.05
	maxExcess = 10
)

// SensorPrior fits a detector on one sensor.
var SensorPrior = Prior{Beta: 1, Windows: 60, Peaks: 5, MinBeta: 0.9}

var zeta0 = math.Exp(-threshold)

// Correct returns the calibrated surprise of a nominal one. It rises with t and is at least 0.
func (a *Tail) Correct(p *Prior, t float64) float64 {
	if !(t > 0) {
		return 0
	}
	zeta := (float64(a.above) + zeta0*p.Windows) / (float64(a.windows) + p.Windows)
	at := -math.Log(zeta) // calibrated surprise at u
	if t <= threshold {
		return t * at / threshold
	}
	beta := (float64(a.excess) + p.Beta*p.Peaks) / (float64(a.above) + p.Peaks)
	return at + (t-threshold)/max(beta, p.MinBeta)
}

// Learn takes the nominal surprise of one more window; memory is the number of windows after which it forgets.
func (a *Tail) Learn(memory int, t float64) {
	if m := float32(memory); a.windows >= m {
		keep := 1 - 1/m
		a.windows, a.above, a.excess = a.windows*keep, a.above*keep, a.excess*keep
	}
	a.windows++
	if t > threshold {
		a.above++
		a.excess += float32(min(t-threshold, maxExcess))
	}
}

// TailSize is the number of bytes that AppendState appends.
const TailSize = 12

// AppendState appends the TailSize bytes of a.
func (a *Tail) AppendState(dst []byte) []byte {
	dst = codec.AppendF32(dst, a.windows)
	dst = codec.AppendF32(dst, a.above)
	return codec.AppendF32(dst, a.excess)
}

// RestoreState is the inverse of AppendState.
func (a *Tail) RestoreState(r *codec.Reader) {
	*a = Tail{windows: r.F32(), above: r.F32(), excess: r.F32()}
	if !(a.windows >= 0 && a.above >= 0 && a.excess >= 0 && a.windows < 1e9 && a.above < 1e9 && a.excess < 1e9) {
		r.Fail("tail out of range")
	}
}

// Cauchy joins surprises of one question by the Cauchy combination (Liu and Xie 2020, "Cauchy combination test: a powerful test with
// analytic p-value calculation under arbitrary dependency structures"): the mean of tan((0.5-p)pi) is again Cauchy, almost whatever the
// dependence is. The zero value has no opinion.
type Cauchy struct {
	sum float64
	n   int
}

const (
	mostSurprise  = 500 // keeps e^t finite
	leastSurprise = 0.05
)

// Add takes one surprise. p-values near 1 are cut off at 0.95: they would outweigh any evidence.
func (c *Cauchy) Add(t float64) {
	c.n++
	t = min(t, mostSurprise)
	if t > 15 { // tan((0.5-p)pi) = 1/(p pi) to 13 digits
		c.sum += math.Exp(t) / math.Pi
		return
	}
	p := math.Exp(-max(t, leastSurprise))
	c.sum += 1 / math.Tan(p*math.Pi)
}

// Count is the number of opinions.
func (c *Cauchy) Count() int { return c.n }

// Surprise is the joint surprise; NaN without opinions.
func (c *Cauchy) Surprise() float64 {
	if c.n == 0 {
		return math.NaN()
	}
	if c.n == 1 && c.sum > 0 {
		return -math.Log(math.Atan(1/c.sum) / math.Pi)
	}
	x := c.sum / float64(c.n)
	if x > 0 {
		return -math.Log(math.Atan(1/x) / math.Pi)
	}
	return -math.Log(0.5 - math.Atan(x)/math.Pi)
}

// Scan joins the newest 1, 2 and 4 windows by the sum of their surprises, and the most surprising of the three counts, corrected for having looked
// three times (Sidak 1967). One window far off and four windows somewhat off are both found. It remembers three windows.
//
// A sum of k independent surprises has the gamma distribution of shape k (Fisher 1932). Neighbouring windows are not independent, if only because charts
// remember: Brown (1975) corrects for that by dividing the sum by how much more it varies, var/k, and the shape likewise. With the correlation of
// squared charts of weight 1/4, 0.56 from one window to the next, that is 1.56 for two windows and 2.25 for four; both shapes are then
// below 2, which is taken, for it asks for more.
type Scan struct {
	last [3]float32 // newest first
}

const (
	inflation2 = 1.56
	inflation4 = 2.25
)

// Surprise is the scan's surprise if the next window's is t. Nothing changes.
func (s *Scan) Surprise(t float64) float64 {
	two := t + float64(s.last[0])
	four := two + float64(s.last[1]) + float64(s.last[2])
	two, four = two/inflation2, four/inflation4
	best := max(t, two-math.Log1p(two), four-math.Log1p(four))
	if best > 30 {
		return best - math.Log(3)
	}
	return -math.Log(-math.Expm1(3 * math.Log1p(-math.Exp(-max(best, 1e-9)))))
}

// Push remembers a window.
func (s *Scan) Push(t float64) {
	s.last[2], s.last[1], s.last[0] = s.last[1], s.last[0], float32(min(t, mostSurprise))
}

// Reset forgets.
func (s *Scan) Reset() { *s = Scan{} }

// AppendState appends the state.
func (s *Scan) AppendState(dst []byte) []byte {
	for _, v := range s.last {
		dst = codec.AppendF32(dst, v)
	}
	return dst
}

// RestoreState is the inverse of AppendState.
func (s *Scan) RestoreState(r *codec.Reader) {
	for i := range s.last {
		s.last[i] = r.F32()
		if !(s.last[i] >= 0 && s.last[i] <= mostSurprise) {
			r.Fail("scan out of range")
		}
	}
}

const monthUS = 30 * 24 * 3600 * 1e6

// PageSurprise is the surprise a window must reach to page, so that windows of which nothing is wrong, one every periodUS, cause budget pages
// in 30 days.
func PageSurprise(budget, periodUS float64) float64 {
	perMonth := monthUS / max(periodUS, 1)
	return max(math.Log(perMonth/budget), threshold)
}
