// Package ocsvm is the one-class support vector machine of Schölkopf et al. (2001), "Estimating the support of a high-dimensional distribution", with a Gaussian kernel
// approximated by random Fourier features (Rahimi and Recht 2007, "Random features for large-scale kernel machines").
//
// A row becomes z[k] = sqrt(2/D) cos(omega_k.x + b_k), whose dot products approximate exp(-gamma |x-y|^2); on z stands a linear one-class SVM, solved in the primal by stochastic
// gradient descent with averaged iterates. The cost of a row does not depend on the number of training rows. The score is 1/2 on the SVM's surface and 1
// where the kernel knows of nothing.
package ocsvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Params of the training.
type Params struct {
	Nu     float64 `json:"nu"`     // share of training rows outside
	Gamma  float64 `json:"gamma"`  // of the kernel, in standard deviations; 0: by the median distance
	Width  int     `json:"width"`  // D, number of random features
	Epochs int     `json:"epochs"` // passes over the rows
	Seed   uint64  `json:"seed"`
}

// DefaultParams suit some thousand rows of ten features.
func DefaultParams() Params { return Params{Nu: 0.05, Width: 512, Epochs: 20, Seed: 1} }

// Bounds of the parameters, also for models that are read back.
const (
	MaxWidth    = 8192
	MaxFeatures = 4096
	maxEpochs   = 1000
)

// Validate names the field that is wrong.
func (p Params) Validate() error {
	switch {
	case !(p.Nu > 0 && p.Nu <= 0.5):
		return fmt.Errorf("nu: %v is not in (0, 0.5]", p.Nu)
	case !(p.Gamma >= 0 && p.Gamma <= 1e6):
		return fmt.Errorf("gamma: %v is not between 0 and 1000000", p.Gamma)
	case p.Width < 16 || p.Width > MaxWidth:
		return fmt.Errorf("width: %d is not between 16 and %d", p.Width, MaxWidth)
	case p.Epochs < 1 || p.Epochs > maxEpochs:
		return fmt.Errorf("epochs: %d is not between 1 and %d", p.Epochs, maxEpochs)
	}
	return nil
}

// Model is a trained model; any number of goroutines may score at once.
type Model struct {
	features, width int
	mean, scale     []float32 // scale is 1/deviation
	omega           []float32 // width rows of features
	phase           []float32
	weight          []float32
	rho             float32
}

// Train learns from rows, row-major, all finite.
func Train(rows []float32, features int, p Params) (*Model, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if features < 1 || features > MaxFeatures {
		return nil, fmt.Errorf("features: %d is not between 1 and %d", features, MaxFeatures)
	}
	n := len(rows) / features
	if n < 2 || len(rows) != n*features {
		return nil, fmt.Errorf("rows: at least 2 are needed, there are %d", n)
	}
	m := &Model{features: features, width: p.Width, weight: make([]float32, p.Width)}
	m.standardise(rows, n)
	r := rand.New(rand.NewPCG(p.Seed, 0))
	gamma := p.Gamma
	if gamma == 0 {
		gamma = m.medianGamma(rows, n, r)
	}
	spread := math.Sqrt(2 * gamma)
	for range p.Width {
		for range features {
			m.omega = append(m.omega, float32(spread*r.NormFloat64()))
		}
		m.phase = append(m.phase, float32(2*math.Pi*r.Float64()))
	}
	m.descend(rows, n, p, r)
	return m, nil
}

func (m *Model) standardise(rows []float32, n int) {
	for j := range m.features {
		var mu, m2 float64
		for i := range n {
			v := float64(rows[i*m.features+j])
			d := v - mu
			mu += d / float64(i+1)
			m2 += d * (v - mu)
		}
		scale := 1.0
		if sd := math.Sqrt(m2 / float64(n)); sd > math.Abs(mu)*1e-7 && sd > 1e-30 && sd < 1e30 {
			scale = 1 / sd
		}
		m.mean, m.scale = append(m.mean, float32(mu)), append(m.scale, float32(scale))
	}
}

func (m *Model) standard(dst, row []float32) {
	for j, v := range row {
		dst[j] = max(-1e6, min((v-m.mean[j])*m.scale[j], 1e6))
	}
}

// medianGamma is 1/median squared distance of pairs (Caputo et al. 2002; the usual heuristic).
func (m *Model) medianGamma(rows []float32, n int, r *rand.Rand) float64 {
	a, b := make([]float32, m.features), make([]float32, m.features)
	var squares []float64
	for range 500 {
		i, j := r.IntN(n), r.IntN(n)
		m.standard(a, rows[i*m.features:(i+1)*m.features])
		m.standard(b, rows[j*m.features:(j+1)*m.features])
		var sum float64
		for k := range a {
			d := float64(a[k] - b[k])
			sum += d * d
		}
		if i != j {
			squares = append(squares, sum)
		}
	}
	if slices.Sort(squares); len(squares) == 0 || !(squares[len(squares)/2] > 1e-12) {
		return 1 / float64(m.features)
	}
	return 1 / squares[len(squares)/2]
}

// descend minimises |w|^2/2 - rho + mean(max(0, rho - w.z))/nu. The step falls as 1/(10+t/n'); the answer is the mean of the last half of the iterates (Polyak and Juditsky 1992), and
// rho is then the nu-quantile of w.z, which it is at the optimum.
func (m *Model) descend(rows []float32, n int, p Params, r *rand.Rand) {
	w, mean := make([]float64, m.width), make([]float64, m.width)
	x, z := make([]float32, m.features), make([]float32, m.width)
	all := make([]float32, n)
	var rho float64
	for i := range n { // starts at the mean of z, where all rows are on one side
		m.project(z, x, rows[i*m.features:(i+1)*m.features])
		for k, v := range z {
			w[k] += float64(v) / float64(n)
		}
	}
	order := r.Perm(n)
	steps, averaged := 0, 0.0
	for epoch := range p.Epochs {
		r.Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			m.project(z, x, rows[i*m.features:(i+1)*m.features])
			var f float64
			for k, v := range z {
				f += w[k] * float64(v)
			}
			rate := 1 / (100 + float64(steps))
			steps++
			keep, pull := 1-rate, 0.0
			if f < rho {
				pull = rate / p.Nu
				rho -= rate * (1 - p.Nu)
			} else {
				rho += rate * p.Nu
			}
			for k, v := range z {
				w[k] = keep*w[k] + pull*float64(v)
			}
			if 2*epoch >= p.Epochs || p.Epochs == 1 {
				averaged++
				for k, v := range w {
					mean[k] += (v - mean[k]) / averaged
				}
			}
		}
	}
	for k, v := range mean {
		m.weight[k] = float32(v)
	}
	for i := range n {
		all[i] = m.margin(z, x, rows[i*m.features:(i+1)*m.features])
	}
	slices.Sort(all)
	m.rho = max(all[min(int(p.Nu*float64(n)), n-1)], 1e-9)
}

func (m *Model) project(z, x, row []float32) {
	m.standard(x, row)
	scale := float32(math.Sqrt(2 / float64(m.width)))
	for k := range z {
		sum := m.phase[k]
		for j, v := range m.omega[k*m.features : (k+1)*m.features] {
			sum += float32(v * x[j])
		}
		z[k] = float32(scale * float32(math.Cos(float64(sum))))
	}
}

func (m *Model) margin(z, x, row []float32) float32 {
	m.project(z, x, row)
	var f float64
	for k, v := range z {
		f += float64(float64(m.weight[k]) * float64(v))
	}
	return float32(f)
}

// Features is the number of values in a row.
func (m *Model) Features() int { return m.features }

// Score sets dst[i] to the score of row i, in [0, 1].
func (m *Model) Score(dst []float64, rows []float32) {
	z, x := make([]float32, m.width), make([]float32, m.features)
	for i := range dst {
		f := m.margin(z, x, rows[i*m.features:(i+1)*m.features])
		dst[i] = max(0, min(1-float64(f)/float64(2*m.rho), 1))
	}
}

// ErrCorrupt is wrapped by what Decode refuses.
var ErrCorrupt = errors.New("corrupt one-class SVM")

// AppendTo appends the model. Equal models have equal bytes.
func (m *Model) AppendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.features))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.width))
	for _, s := range [][]float32{{m.rho}, m.mean, m.scale, m.omega, m.phase, m.weight} {
		for _, v := range s {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		}
	}
	return dst
}

// Decode reads what AppendTo wrote; b is not trusted.
func Decode(b []byte) (*Model, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	u32 := binary.LittleEndian.Uint32
	m := &Model{features: int(u32(b)), width: int(u32(b[4:]))}
	d, w := m.features, m.width
	if d < 1 || d > MaxFeatures || w < 1 || w > MaxWidth || len(b)-8 != 4*(1+2*d+w*d+2*w) {
		return nil, fmt.Errorf("%w: sizes do not fit", ErrCorrupt)
	}
	all := make([]float32, (len(b)-8)/4)
	for i := range all {
		if all[i] = math.Float32frombits(u32(b[8+4*i:])); !(math.Abs(float64(all[i])) <= 1e30) {
			return nil, fmt.Errorf("%w: a number out of range", ErrCorrupt)
		}
	}
	if m.rho = all[0]; !(m.rho > 0) {
		return nil, fmt.Errorf("%w: offset out of range", ErrCorrupt)
	}
	all = all[1:]
	m.mean, m.scale, all = all[:d], all[d:2*d], all[2*d:]
	m.omega, m.phase, m.weight = all[:w*d], all[w*d:w*d+w], all[w*d+w:]
	return m, nil
}
