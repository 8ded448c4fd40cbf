package calibrate

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Peaks turns the machine's nominal surprise into how rarely it really gets that far: the rate of excursions, not of windows. It is a peaks-over-threshold
// fit (Davison and Smith 1990, "Models for exceedances over high thresholds"):
//
//   - Neighbouring windows are dependent, so what counts is the highest window of each excursion. Excursions end after some calm windows (runs declustering,
//     Leadbetter 1989; Smith and Weissman 1994 for its extremal index), as episodes do: a page is an excursion, and a budget counts pages.
//   - The threshold rises with what is known: the highest level that enough excursions went beyond.
//   - Beyond it the excess is generalised Pareto. Scale and shape are those of the first two moments (Hosking and Wallis 1987), the shape drawn
//     towards 0. Farther out than anything the machine has had time for, it is raised by its standard error, (1+shape)/sqrt(n) (Smith 1987): a small budget
//     asks for what no experience can tell.
//   - An excursion that paged counts, but no further than the highest of twenty usual ones (winsorised): what is wrong with a machine must not make the next
//     fault usual. One that was over at once is an outlier, and counts in full: machines have faults for longer than that.
//
// The memory is long (about a month), because daily habits must fit into it several times over. 128 bytes.
type Peaks struct {
	windows float32 // exposure, with forgetting
	top     float32 // highest window of the excursion under way; 0: none
	calm    uint16  // calm windows in a row since
	long    uint16  // windows of the excursion
	fresh   uint32  // windows since what is long ago was last lessened
	counts  [peakBins]float32
}

const (
	peakBins   = 28
	peakLowest = threshold // lower edge of the first bin
	perOctave  = 3.6
	perBin     = 1.2123261 // 2^(1/perOctave)
	// An excursion ends after calmWindows below the lowest threshold, and one that lasts longer than longestExcursion is counted again: what is
	// always unusual is not one event.
	calmWindows      = 6
	longestExcursion = 720
	// peakMemory is the number of windows after which excursions are forgotten: a month of windows of 5 s.
	peakMemory = 500_000
	// enough excursions beyond a threshold to trust it.
	enoughPeaks = 20
	// The weight of what was learned falls with the ageing-th power of its place in the machine's life.
	ageing  = 2.0
	ageStep = 1.0 / 32
	maxForm = 0.5
	// formPeaks excursions are half of what it takes to believe in a shape.
	formPeaks = 20
	// ripe is the number of windows' experience that the shape is trusted for from the start.
	ripe = 100_000
)

// The prior, as if so many windows had been seen with the excursions that the nominal model expects. The nominal scan is more dependent than
// assumed, so its excess is believed to be somewhat larger than 1.
const (
	priorWindows = 100
	priorBeta    = 1.25
	priorPeaks   = 10 // weight of priorBeta while little is known
	latePeaks    = 3  // and later, above a higher threshold
	minBeta      = 0.8
)

func peakBin(t float64) int {
	return max(0, min(int(perOctave*math.Log2(t/peakLowest)), peakBins-1))
}

// peakEdge is the lower edge of a bin.
func peakEdge(i int) float64 { return peakLowest * math.Exp2(float64(i)/perOctave) }

// Correct returns the calibrated surprise of a nominal one: -ln of the number of excursions per window that go that far. It rises with t and is
// at least 0.
func (a *Peaks) Correct(t float64) float64 {
	if !(t > 0) {
		return 0
	}
	f := a.fit()
	if t <= f.u {
		return t * f.at / f.u
	}
	x := f.at + math.Log1p(f.form*(t-f.u)/f.scale)/f.form
	if x > f.seen {
		return f.seen + math.Log1p(f.doubt*(x-f.seen))/f.doubt
	}
	return x
}

// Nominal is the inverse of Correct.
func (a *Peaks) Nominal(t float64) float64 {
	f := a.fit()
	if t <= f.at {
		return max(0, t*f.u/f.at)
	}
	if t > f.seen {
		t = f.seen + math.Expm1(min(f.doubt*(t-f.seen), 50))/f.doubt
	}
	return f.u + f.scale*math.Expm1(min((t-f.at)*f.form, 50))/f.form
}

// Learn takes the nominal surprise of one more window in which nobody was told of anything.
func (a *Peaks) Learn(t float64) {
	a.expose()
	if t > peakLowest {
		a.top = max(a.top, float32(min(t, mostSurprise)))
		a.calm = 0
	} else if a.top > 0 {
		a.calm++
	}
	if a.top > 0 {
		if a.long++; a.calm >= calmWindows || a.long >= longestExcursion {
			a.end(float64(a.top))
		}
	}
}

// Paged takes an excursion that paged. How far it went is not learned.
func (a *Peaks) Paged() {
	f := a.fit()
	a.end(f.u + 3*f.scale)
}

// Outlier takes an excursion that would have paged and was over at once, as a single outlier is: how far it went is learned, like that of any excursion.
func (a *Peaks) Outlier(t float64) {
	a.end(max(t, peakLowest))
}

// expose takes one window of experience. What was long ago counts less, by the square of how far back in the machine's life it was: a young baseline exaggerates, and
// what it made of the first weeks must not outweigh years. That is a loss of 2/n of everything with the nth window, done in steps of some percent.
func (a *Peaks) expose() {
	a.windows++
	if a.fresh++; float64(a.fresh) < max(32, float64(a.windows)*ageStep) {
		return
	}
	n := min((ageing+1)*float64(a.windows), peakMemory)
	keep := float32(math.Exp(-ageing * float64(a.fresh) / max(n, 1)))
	a.windows *= keep
	for i := range a.counts {
		a.counts[i] *= keep
	}
	a.fresh = 0
}

// end counts an excursion that went as far as t; none is under way any more.
func (a *Peaks) end(t float64) {
	a.counts[peakBin(t)]++
	a.top, a.calm, a.long = 0, 0, 0
}

// tail is the fit of the moment, a function of the counts alone.
type tail struct {
	u, at       float64 // threshold, nominal and calibrated
	scale, form float64
	seen, doubt float64 // beyond what was seen once in all the experience, the shape is that much larger
}

// fit costs some 50 ns, less than to keep it would cost in memory.
func (a *Peaks) fit() tail {
	var n, sum, square float64
	from := 0
	for i := peakBins - 1; i >= 0; i-- {
		if n += float64(a.counts[i]); n >= enoughPeaks {
			from = i
			break
		}
	}
	n = 0
	u := peakEdge(from)
	middle := u * math.Exp2(0.5/perOctave) // what a bin's excursions count as
	for _, count := range a.counts[from:] {
		c, x := float64(count), middle-u
		n, sum, square = n+c, sum+c*x, square+c*x*x
		middle *= perBin
	}
	weight := float64(latePeaks)
	beyond, prior := n, 0.0
	if from == 0 {
		weight, beyond, prior = priorPeaks, n+priorWindows*zeta0, priorWindows
	}
	beta := max((sum+priorBeta*weight)/(n+weight), minBeta)
	form := 0.0
	if variance := square/max(n, 1) - (sum/max(n, 1))*(sum/max(n, 1)); n > 1 && variance > 0 {
		mean := sum / n
		form = max(0, min((1-mean*mean/variance)/2, maxForm)) * n / (n + formPeaks)
	}
	doubt := 0.01
	if from > 0 {
		doubt = (1 + form) / math.Sqrt(n)
	}
	// The moments of a generalised Pareto of that shape.
	at := max(math.Log((float64(a.windows)+prior)/beyond), 0.1)
	return tail{u: u, at: at, scale: beta * (1 - form), form: max(form, 0.01), seen: max(at, math.Log(float64(a.windows)+ripe)), doubt: doubt}
}

// PeaksSize is the number of bytes that AppendState appends.
const PeaksSize = 4 + 4 + 4 + 4 + 4 + 4*peakBins

// AppendState appends the PeaksSize bytes of a.
func (a *Peaks) AppendState(dst []byte) []byte {
	dst = codec.AppendF32(dst, a.windows)
	dst = codec.AppendF32(dst, a.top)
	dst = codec.AppendU32(dst, uint32(a.calm))
	dst = codec.AppendU32(dst, uint32(a.long))
	dst = codec.AppendU32(dst, a.fresh)
	for _, c := range a.counts {
		dst = codec.AppendF32(dst, c)
	}
	return dst
}

// RestoreState is the inverse of AppendState.
func (a *Peaks) RestoreState(r *codec.Reader) {
	*a = Peaks{windows: r.F32(), top: r.F32(), calm: uint16(r.U32()), long: uint16(r.U32()), fresh: r.U32()}
	bad := !(a.windows >= 0 && a.windows < 1e9 && a.top >= 0 && a.top <= mostSurprise)
	for i := range a.counts {
		a.counts[i] = r.F32()
		bad = bad || !(a.counts[i] >= 0 && a.counts[i] < 1e9)
	}
	if bad {
		r.Fail("peaks out of range")
	}
}
