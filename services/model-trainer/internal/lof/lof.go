// Package lof is the local outlier factor of Breunig et al. (2000), "LOF: identifying density-based local outliers", for novelties: training rows are the neighbours,
// rows to be scored are not among each other.
//
// A row's factor is the density of its neighbours over its own, 1 for a row like its neighbours. The score is 1-1/factor for factors above 1, else 0. Distances are Euclidean in
// standard deviations of the training rows. Memory: that of the training rows. Cost of a row: one pass over them.
package lof

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// Params of the training.
type Params struct {
	Neighbours int    `json:"neighbours"`
	MaxRows    int    `json:"max_rows"` // of more rows, that many are drawn
	Seed       uint64 `json:"seed"`
}

// DefaultParams has scikit-learn's number of neighbours.
func DefaultParams() Params { return Params{Neighbours: 20, MaxRows: 4096, Seed: 1} }

// Bounds of the parameters, also for models that are read back.
const (
	MaxNeighbours = 256
	MaxRows       = 65_536
	MaxFeatures   = 65_535
)

// Validate names the field that is wrong.
func (p Params) Validate() error {
	switch {
	case p.Neighbours < 1 || p.Neighbours > MaxNeighbours:
		return fmt.Errorf("neighbours: %d is not between 1 and %d", p.Neighbours, MaxNeighbours)
	case p.MaxRows < 2 || p.MaxRows > MaxRows:
		return fmt.Errorf("max_rows: %d is not between 2 and %d", p.MaxRows, MaxRows)
	}
	return nil
}

// Model is a trained model; any number of goroutines may score at once.
type Model struct {
	features, k int
	mean, scale []float32 // of a feature; scale is 1/deviation
	rows        []float32 // standardised
	reach       []float32 // distance of each row's k-th neighbour
	density     []float32 // local reachability density of each row
}

// Train takes rows, row-major, all finite, as what is usual. Cost: the square of the number of rows kept.
func Train(rows []float32, features int, p Params) (*Model, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if features < 1 || features > MaxFeatures {
		return nil, fmt.Errorf("features: %d is not between 1 and %d", features, MaxFeatures)
	}
	n := len(rows) / features
	if n <= p.Neighbours || len(rows) != n*features {
		return nil, fmt.Errorf("rows: more than neighbours (%d) are needed, there are %d", p.Neighbours, n)
	}
	m := &Model{features: features, k: p.Neighbours}
	m.mean, m.scale = moments(rows, features)
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	r := rand.New(rand.NewPCG(p.Seed, 0))
	kept := max(min(n, p.MaxRows), min(n, p.Neighbours+1))
	for i := range kept {
		j := i + r.IntN(n-i)
		index[i], index[j] = index[j], index[i]
	}
	for _, i := range index[:kept] {
		m.rows = m.appendStandard(m.rows, rows[i*features:(i+1)*features])
	}
	m.learn(kept)
	return m, nil
}

// learn computes reach and density of each row among the others.
func (m *Model) learn(n int) {
	m.reach, m.density = make([]float32, n), make([]float32, n)
	all := make([]neighbour, 0, n*m.k)
	for i := range n {
		near := m.nearest(make([]neighbour, 0, m.k), m.rows[i*m.features:(i+1)*m.features], i)
		m.reach[i] = near[len(near)-1].distance
		all = append(all, near...)
	}
	for i := range n {
		m.density[i] = m.densityOf(all[i*m.k : (i+1)*m.k])
	}
}

// moments are mean and 1/deviation by feature; constants have a deviation of 1.
func moments(rows []float32, features int) (mean, scale []float32) {
	n := float64(len(rows) / features)
	mean, scale = make([]float32, features), make([]float32, features)
	for j := range features {
		var mu, m2, count float64
		for i := j; i < len(rows); i += features {
			count++
			d := float64(rows[i]) - mu
			mu += d / count
			m2 += d * (float64(rows[i]) - mu)
		}
		mean[j], scale[j] = float32(mu), 1
		if sd := math.Sqrt(m2 / n); sd > math.Abs(mu)*1e-7 && sd > 1e-30 && sd < 1e30 {
			scale[j] = float32(1 / sd)
		}
	}
	return mean, scale
}

func (m *Model) appendStandard(dst, row []float32) []float32 {
	for j, v := range row {
		dst = append(dst, max(-1e9, min((v-m.mean[j])*m.scale[j], 1e9)))
	}
	return dst
}

type neighbour struct {
	distance float32
	row      int32
}

// nearest appends the k nearest training rows, nearest first, equal ones by number. Row not is left out.
func (m *Model) nearest(near []neighbour, x []float32, not int) []neighbour {
	for i := range len(m.rows) / m.features {
		if i == not {
			continue
		}
		var sum float32
		for j, v := range m.rows[i*m.features : (i+1)*m.features] {
			d := v - x[j]
			sum += float32(d * d)
		}
		if len(near) == m.k {
			if sum >= near[m.k-1].distance {
				continue
			}
			near = near[:m.k-1]
		}
		at := len(near)
		near = append(near, neighbour{})
		for ; at > 0 && near[at-1].distance > sum; at-- {
			near[at] = near[at-1]
		}
		near[at] = neighbour{sum, int32(i)}
	}
	for i := range near {
		near[i].distance = float32(math.Sqrt(float64(near[i].distance)))
	}
	return near
}

// densityOf is the local reachability density: one over the mean of the distances, none of which is below the neighbour's own reach.
func (m *Model) densityOf(near []neighbour) float32 {
	var sum float64
	for _, o := range near {
		sum += float64(max(o.distance, m.reach[o.row]))
	}
	return float32(1 / (sum/float64(len(near)) + 1e-10))
}

// Features is the number of values in a row.
func (m *Model) Features() int { return m.features }

// Score sets dst[i] to the score of row i, in [0, 1).
func (m *Model) Score(dst []float64, rows []float32) {
	near, x := make([]neighbour, 0, m.k), make([]float32, 0, m.features)
	for i := range dst {
		x = m.appendStandard(x[:0], rows[i*m.features:(i+1)*m.features])
		near = m.nearest(near[:0], x, -1)
		var sum float64
		for _, o := range near {
			sum += float64(m.density[o.row])
		}
		factor := sum / float64(len(near)) / float64(m.densityOf(near))
		dst[i] = 0
		if factor > 1 {
			dst[i] = min(1-1/factor, math.Nextafter(1, 0))
		}
	}
}

// ErrCorrupt is wrapped by what Decode refuses.
var ErrCorrupt = errors.New("corrupt local outlier factor")

// AppendTo appends the model. Equal models have equal bytes.
func (m *Model) AppendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.features))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.k))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(m.reach)))
	for _, s := range [][]float32{m.mean, m.scale, m.rows, m.reach, m.density} {
		for _, v := range s {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		}
	}
	return dst
}

// Decode reads what AppendTo wrote; b is not trusted.
func Decode(b []byte) (*Model, error) {
	if len(b) < 12 {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	u32 := binary.LittleEndian.Uint32
	features, k, n := int(u32(b)), int(u32(b[4:])), int(u32(b[8:]))
	if features < 1 || features > MaxFeatures || k < 1 || k > MaxNeighbours || n <= k || n > MaxRows || len(b)-12 != 4*(2*features+n*features+2*n) {
		return nil, fmt.Errorf("%w: sizes do not fit", ErrCorrupt)
	}
	b = b[12:]
	take := func(n int, least float32) []float32 {
		out := make([]float32, n)
		for i := range out {
			if out[i] = math.Float32frombits(u32(b[4*i:])); !(out[i] >= least && out[i] <= math.MaxFloat32) {
				k = 0
			}
		}
		b = b[4*n:]
		return out
	}
	const least = -math.MaxFloat32
	m := &Model{features: features, mean: take(features, least), scale: take(features, 0), rows: take(n*features, least), reach: take(n, 0), density: take(n, 0)}
	if m.k = k; k == 0 {
		return nil, fmt.Errorf("%w: a number out of range", ErrCorrupt)
	}
	return m, nil
}
