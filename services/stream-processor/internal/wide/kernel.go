package wide

import "math"

const (
	// WindowSize is the number of newest values of a feature that are judged together.
	WindowSize = 5
	// laneWidth is the number of features that stand side by side: an AVX-512 register of float32, or two of AVX2.
	laneWidth = 16
	// blockFeatures is how many features are gone through before the next windows of a batch: their parameters (28 B each) stay in a level 2 cache of 1 MB. More
	// would not, and shorter stretches of each row cost more than they save: the hardware fetches ahead within a stretch only (8192 instead: a quarter slower).
	blockFeatures = 32768

	leastLog2 = -115 // 2^-115 is still a normal float32, and 1 less it is 1
	// maxSurprise is the largest surprise that is told apart.
	maxSurprise = -leastLog2 * math.Ln2
)

// kernel says with which instructions to compute. All give the same bits.
type kernel uint8

const (
	plainGo kernel = iota
	avx2
	avx512
)

// lane is what the kernels need of sixteen features: log2 p = min(0, offset + sum over k of weight[k]*|x[k]-mean|), with weights of at most 0. A feature
// that is not judged has weights and offset of 0.
type lane struct {
	mean   [laneWidth]float32
	weight [WindowSize][laneWidth]float32 // oldest value first
	offset [laneWidth]float32
}

// window is the five newest rows of some features, oldest first. They are equally long.
type window [WindowSize][]float32

func (w *window) from(feature int) window {
	return window{w[0][feature:], w[1][feature:], w[2][feature:], w[3][feature:], w[4][feature:]}
}

// The kernels are twice here: in Go, which says what they compute, and in assembler. A value that is NaN (missing) is no evidence. Each product is rounded by itself and
// sums are taken in one order, so every processor gives the same bits.

// logsGo is the first half of both kernels: dst[i] becomes log2 of feature i's p-value, in [leastLog2, 0].
func logsGo(dst []float32, x *window, lanes []lane) {
	n := len(dst)
	x0, x1, x2, x3, x4 := x[0][:n], x[1][:n], x[2][:n], x[3][:n], x[4][:n]
	for len(dst) >= laneWidth && len(lanes) > 0 {
		p := &lanes[0]
		out := (*[laneWidth]float32)(dst)
		a, b, c, d, e := (*[laneWidth]float32)(x0), (*[laneWidth]float32)(x1), (*[laneWidth]float32)(x2), (*[laneWidth]float32)(x3), (*[laneWidth]float32)(x4)
		for j := range laneWidth {
			out[j] = p.log2(j, a[j], b[j], c[j], d[j], e[j])
		}
		dst, lanes = dst[laneWidth:], lanes[1:]
		x0, x1, x2, x3, x4 = x0[laneWidth:], x1[laneWidth:], x2[laneWidth:], x3[laneWidth:], x4[laneWidth:]
	}
	if len(lanes) == 0 {
		return
	}
	for j := range dst { // fewer than a lane
		dst[j] = lanes[0].log2(j, x0[j], x1[j], x2[j], x3[j], x4[j])
	}
}

func (p *lane) log2(j int, a, b, c, d, e float32) float32 {
	m := p.mean[j]
	y := (p.offset[j] + term(e, m, p.weight[4][j])) +
		((term(a, m, p.weight[0][j]) + term(b, m, p.weight[1][j])) + (term(c, m, p.weight[2][j]) + term(d, m, p.weight[3][j])))
	if !(y < 0) {
		return 0
	}
	return max(y, leastLog2)
}

func term(x, mean, weight float32) float32 {
	d := math.Float32frombits(math.Float32bits(x-mean) &^ (1 << 31))
	if d != d {
		d = 0
	}
	return float32(d * weight)
}

// surprisesGo turns log2 p into -ln p.
func surprisesGo(y []float32) {
	for i, v := range y {
		y[i] = float32(v * -math.Ln2)
	}
}

// 2^y = 2^k 2^f with k = round(y), and 2^f for |f| <= 1/2 is 1 + f q(f) with q interpolated at Chebyshev's points: its relative error is
// below 1e-5. The polynomial is summed by Estrin's scheme (1960), which waits less than Horner's.
const (
	magic = 3 << 22 // adding it rounds to an integer, which then stands in the low bits of the mantissa

	c1 = 0.693136752
	c2 = 0.2402253
	c3 = 0.0558382832
	c4 = 0.00965671055
)

// scoresGo turns log2 p into the score 1-p, in [0, 1].
func scoresGo(y []float32) {
	for i, v := range y {
		r := float32(v + magic)
		f := v - float32(r-magic)
		f2 := float32(f * f)
		high := (float32(c3*f) + c2) + float32(f2*c4)
		p := (float32(c1*f) + 1) + float32(f2*high)
		y[i] = 1 - float32(p*math.Float32frombits(math.Float32bits(r)<<23+0x3f800000))
	}
}

func plainPair(dst, dst2 []float32, x, y window, lanes []lane) {
	logsGo(dst, &x, lanes)
	scoresGo(dst)
	logsGo(dst2, &y, lanes)
	scoresGo(dst2)
}
