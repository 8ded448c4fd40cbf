// Package wide judges machines of thousands of features: one linear one-class support vector machine for each feature, over the feature's
// five newest values, learned online and scored as fast as memory delivers.
//
// A value x becomes its distance from usual a = |x-mean|/deviation, and five of them the vector phi with phi[k] = (1-a[k]/4)/sqrt(5), which is far
// from the origin while all is usual and moves towards it, or beyond, when values move away to either side. On phi stands the one-class SVM of Schölkopf et al.
// (2001), "Estimating the support of a high-dimensional distribution": the plane w.phi = rho that leaves a share nu of usual windows on the
// origin's side. It is learned by stochastic gradient descent on the primal objective, one window at a time (Kivinen, Smola and Williamson
// 2004, "Online learning with kernels", section on novelty detection).
//
// The SVM only says inside or outside. How far outside becomes a p-value by peaks over threshold with an exponential tail (Pickands 1975):
// beyond the plane p = nu*exp(-(rho-w.phi)/beta), with beta the mean excess so far. The surprise -ln(p) is linear in the distances, which is what
// makes a window cost five multiplications; and score = 1-p is exactly 1-nu on the plane: threshold 0.9 and nu 0.1 are one thing. On the inner
// side the same line goes on down to 0, where it orders windows and is no longer a p-value.
//
// Everything is by feature: no feature's score depends on another's, on the order of features or on how many there are at once. A feature's
// score does not change when its values are all multiplied by a constant, or shifted, but for rounding. NaN stands for a missing value.
//
// Layout: structure of arrays of float32, batches as [batch][WindowSize][features]. Memory: about 140 bytes for each feature. Nothing is
// allocated after Grow. A Model belongs to one goroutine at a time.
package wide

import "math"

const (
	reach      = 4            // deviations at which a value counts for nothing in phi
	norm       = 2.2360679775 // sqrt(WindowSize)
	clipFrom   = 30           // values learned before what is learned next is clipped
	clipAt     = 3.5          // deviations
	settled    = 20           // values learned before the SVM learns
	ready      = 30           // values learned before a feature is judged
	firstRate  = 64           // the SVM's step is 1/(firstRate+steps), never below 1/Memory
	mostExcess = 12           // how far beyond the plane a single window may say that windows go, in betas

	priorPeaks = 20  // weight of the beta to begin with, in windows outside
	minBeta    = 0.8 // least share of it that is ever believed

	relativeEps = 2e-7 // relative precision of a float32 value

	// What the SVM begins with: the solution for independent normal values at nu = 0.1, by simulation (w.phi loses its share nu at
	// a sum of five distances of 5.782; the mean excess beyond is 0.785). Other nu are reached within some hundred windows.
	firstWeight = 0.304
	firstRho    = firstWeight * (WindowSize - 5.782/reach) / norm
	firstBeta   = firstWeight * 0.785 / (reach * norm)
)

// Model is the SVMs of one machine's features.
type Model struct {
	cfg Config
	n   int

	recent history // values scored, for the next score
	taught history // values learned, for the next lesson
	said   sayings // of the windows pushed last, until they are learned from

	// By feature.
	learned  []float32 // values learned, up to Memory
	mean     []float32
	variance []float32
	weight   [WindowSize][]float32 // oldest value first
	rho      []float32
	peaks    []float32 // windows outside the plane, with forgetting
	excess   []float32 // sum of their distances from it, as they were scored
	floor    []float32 // smallest deviation believed
	lanes    []lane
	isReady  int
	shareOut share
}

// history is the last four rows, in a ring.
type history struct {
	rows [WindowSize - 1][]float32
	head int // the oldest
}

func (h *history) with(newest []float32) window {
	var w window
	for k := range h.rows {
		w[k] = h.rows[(h.head+k)%len(h.rows)]
	}
	w[WindowSize-1] = newest
	return w
}

func (h *history) push(row []float32) {
	copy(h.rows[h.head], row)
	h.head = (h.head + 1) % len(h.rows)
}

func (h *history) grow(n int) {
	for k := range h.rows {
		h.rows[k] = grown(h.rows[k], n, float32(math.NaN()))
	}
}

// New makes a Model of no features. cfg must be valid.
func New(cfg Config) *Model { return &Model{cfg: cfg} }

// Features is the number of features.
func (m *Model) Features() int { return m.n }

// Ready is the number of features that are judged: those with a history of 30 values.
func (m *Model) Ready() int { return m.isReady }

// Grow makes room for n features; it never shrinks.
func (m *Model) Grow(n int) {
	if n <= m.n {
		return
	}
	m.n = n
	m.recent.grow(n)
	m.taught.grow(n)
	m.said.grow(n)
	for k := range m.weight {
		m.weight[k] = grown(m.weight[k], n, firstWeight)
	}
	m.rho = grown(m.rho, n, firstRho)
	for _, s := range []*[]float32{&m.learned, &m.mean, &m.variance, &m.peaks, &m.excess, &m.floor} {
		*s = grown(*s, n, 0)
	}
	lanes := make([]lane, (n+laneWidth-1)/laneWidth)
	copy(lanes, m.lanes)
	m.lanes = lanes
}

func grown(s []float32, n int, fill float32) []float32 {
	out := make([]float32, n)
	for i := copy(out, s); i < n; i++ {
		out[i] = fill
	}
	return out
}

// Surprises judges the window that the newest row makes with the four rows pushed before it: dst[i] becomes the surprise of feature i, -ln(p), in
// [0, 79.7]. It is 0 for features that are not judged yet. dst and newest have the length Features. Nothing changes.
//
// Cost: about 50 bytes of memory read and 25 instructions for eight features at once with AVX2.
func (m *Model) Surprises(dst, newest []float32) {
	w := m.recent.with(newest[:m.n])
	best().surprises(dst[:m.n], &w, m.lanes)
}

// Scores judges a batch of windows as [batch][WindowSize][features] on its own, whatever was pushed: dst as [batch][features] becomes scores in [0, 1]. The
// batch is len(dst)/Features. Nothing changes.
func (m *Model) Scores(dst, windows []float32) { m.batch(best(), dst, windows) }

// ScoresGo is Scores without assembler. It gives the same bits.
func (m *Model) ScoresGo(dst, windows []float32) { m.batch(plainGo, dst, windows) }

func (m *Model) batch(k kernel, dst, windows []float32) {
	if m.n == 0 {
		return
	}
	batch := len(dst) / m.n
	if len(dst) != batch*m.n || len(windows) != WindowSize*len(dst) {
		panic("wide: the batch's windows do not fit its scores") // a mistake of the caller, as an index out of range is
	}
	for from := 0; from < m.n; from += blockFeatures {
		to := min(from+blockFeatures, m.n)
		lanes := m.lanes[from/laneWidth : (to+laneWidth-1)/laneWidth]
		for b := 0; b < batch; b += 2 {
			second := min(b+1, batch-1) // an odd one out is its own second
			x, y := m.windowOf(windows, b, from, to), m.windowOf(windows, second, from, to)
			behind := (second - b) * WindowSize * m.n
			k.scorePair(dst[b*m.n+from:b*m.n+to], dst[second*m.n+from:second*m.n+to], &x, &y, behind, lanes)
		}
	}
}

func (m *Model) windowOf(windows []float32, b, from, to int) window {
	var w window
	for k := range w {
		row := (b*WindowSize + k) * m.n
		w[k] = windows[row+from : row+to]
	}
	return w
}

// Push moves on past a row: it becomes the newest of those before the next. surprises are what Surprises said of it, and at is a name for it, its time: what was
// said is remembered until Learn asks for it by that name, or for eight rows.
func (m *Model) Push(row, surprises []float32, at int64) {
	m.said.note(m, row, surprises, at)
	m.recent.push(row[:m.n])
}

// Score is the score of a surprise: 1-p, in [0, 1].
func Score(surprise float32) float64 { return -math.Expm1(-float64(surprise)) }

// Boundary is the surprise on the plane: that of a score of Threshold.
func (m *Model) Boundary() float64 { return -math.Log(1 - m.cfg.Threshold) }

// Band is where feature i is expected: three deviations to either side of its mean; NaN while it is not judged.
func (m *Model) Band(i int) (low, high float32) {
	if m.learned[i] < ready {
		nan := float32(math.NaN())
		return nan, nan
	}
	d := 3 * m.deviation(i)
	return m.mean[i] - d, m.mean[i] + d
}

// Temper is value v of feature i, drawn towards its mean so that it counts for no more than it is worth: thinness is by how much its variance exceeds that of
// usual values (a mean of fewer samples), at least 1, and resolution is the smallest difference that the feature is known to show by now. The first step of a
// feature that was constant is two deviations.
func (m *Model) Temper(i int, v, resolution, thinness float32) float32 {
	if thinness <= 1 && resolution <= 2*m.floor[i] || m.learned[i] < settled {
		return v
	}
	own := m.deviation(i)
	finer := max(resolution/2, m.floor[i], abs(m.mean[i])*relativeEps)
	wider := math.Sqrt(float64(m.variance[i]*max(thinness, 1) + float32(finer*finer)))
	if own == 0 || wider == 0 {
		return v
	}
	return m.mean[i] + float32((v-m.mean[i])*float32(float64(own)/wider))
}

func (m *Model) deviation(i int) float32 {
	f := max(m.floor[i], abs(m.mean[i])*relativeEps)
	return float32(math.Sqrt(float64(m.variance[i] + float32(f*f)))) // one instruction: correctly rounded in float32 too
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
