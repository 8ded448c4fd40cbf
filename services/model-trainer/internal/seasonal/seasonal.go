// Package seasonal is a model of series that repeat: for each feature and each phase of the season a robust level and a spread (median and median absolute deviation; Hampel
// 1974), as in the periodic profile of Holt's and Winters' method but learned in batch. A row that follows the one before by one step is judged by what is left of it after the course of
// the residuals (an autoregression of order one).
//
// The score is 1-p: p is the two-sided chance of the largest standardised residual under Student's t with 5 degrees of freedom, corrected for the number of
// features (Sidak 1967).
package seasonal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Params of the training.
type Params struct {
	Period int `json:"period"` // rows in a season, e.g. 24 for hours of a day
}

// DefaultParams is a day of hours.
func DefaultParams() Params { return Params{Period: 24} }

// Bounds of the parameters, also for models that are read back.
const (
	MaxPeriod   = 1 << 16
	MaxFeatures = 4096
	maxCells    = 1 << 22
	minSeasons  = 3
)

// Validate names the field that is wrong.
func (p Params) Validate() error {
	if p.Period < 1 || p.Period > MaxPeriod {
		return fmt.Errorf("period: %d is not between 1 and %d", p.Period, MaxPeriod)
	}
	return nil
}

// Model is a trained model; any number of goroutines may score at once.
type Model struct {
	features, period int
	level            []float32 // by phase, then feature
	spread           []float32 // by feature: deviation of the residuals
	carry            []float32 // by feature: their autocorrelation
	fresh            []float32 // by feature: deviation of what is left after it
}

// Train learns from rows in order, one step apart, row-major, all finite; the first is of phase first.
func Train(rows []float32, features, first int, p Params) (*Model, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if features < 1 || features > MaxFeatures || features*p.Period > maxCells {
		return nil, fmt.Errorf("features: %d with a period of %d is out of range", features, p.Period)
	}
	n := len(rows) / features
	if n < minSeasons*p.Period || len(rows) != n*features {
		return nil, fmt.Errorf("rows: at least %d seasons are needed, %d rows; there are %d", minSeasons, minSeasons*p.Period, n)
	}
	m := &Model{features: features, period: p.Period, level: make([]float32, features*p.Period)}
	residual, sorted := make([]float64, n), []float64(nil)
	first = phase(first, p.Period)
	for j := range features {
		for at := range p.Period {
			sorted = sorted[:0]
			for i := phase(at-first, p.Period); i < n; i += p.Period {
				sorted = append(sorted, float64(rows[i*features+j]))
			}
			m.level[at*features+j] = float32(median(sorted))
		}
		var lagged, square float64
		for i := range n {
			v := float64(rows[i*features+j])
			residual[i] = v - float64(m.level[phase(first+i, p.Period)*features+j])
		}
		floor := 1e-6 * (1 + math.Abs(float64(rows[j])))
		spread := max(deviation(residual), floor)
		limit := 3 * spread
		for i := 1; i < n; i++ {
			a, b := max(-limit, min(residual[i-1], limit)), max(-limit, min(residual[i], limit))
			lagged += a * b
			square += a * a
		}
		carry := 0.0
		if square > 0 {
			carry = max(0, min(lagged/square, 0.99))
		}
		for i := n - 1; i > 0; i-- {
			residual[i] -= carry * residual[i-1]
		}
		// A level from few seasons follows its own rows: what it took from them is given back.
		seasons := float64(n) / float64(p.Period)
		give := math.Sqrt(seasons / (seasons - 1))
		m.spread, m.carry = append(m.spread, float32(spread*give)), append(m.carry, float32(carry))
		m.fresh = append(m.fresh, float32(max(deviation(residual[1:]), floor)*give))
	}
	return m, nil
}

func phase(i, period int) int { return ((i % period) + period) % period }

func median(x []float64) float64 {
	slices.Sort(x)
	n := len(x)
	if n%2 == 1 {
		return x[n/2]
	}
	return (x[n/2-1] + x[n/2]) / 2
}

// deviation is the standard deviation by the median absolute deviation, which outliers in the training rows leave alone.
func deviation(x []float64) float64 {
	all := slices.Clone(x)
	for i, v := range all {
		all[i] = math.Abs(v)
	}
	return 1.4826 * median(all)
}

// Features is the number of values in a row.
func (m *Model) Features() int { return m.features }

// Score sets dst[i] to the score of row i, in [0, 1). phases[i] is the row's place in the season, any integer; a row one phase after the row before is judged as its successor.
func (m *Model) Score(dst []float64, rows []float32, phases []int) {
	for i := range dst {
		at := phase(phases[i], m.period)
		follows := i > 0 && phases[i] == phases[i-1]+1
		worst := 0.0
		for j := range m.features {
			r := float64(rows[i*m.features+j] - m.level[at*m.features+j])
			z := math.Abs(r) / float64(m.spread[j])
			if follows {
				before := float64(rows[(i-1)*m.features+j] - m.level[phase(at-1, m.period)*m.features+j])
				// Off its level or off its course: either is reason enough.
				z = max(z, math.Abs(r-float64(m.carry[j])*before)/float64(m.fresh[j]))
			}
			worst = max(worst, z)
		}
		dst[i] = min(math.Pow(1-student5(worst), float64(m.features)), math.Nextafter(1, 0))
	}
}

// student5 is the two-sided tail P(|T| > z) of Student's t with 5 degrees of freedom, in closed form (Abramowitz and Stegun 26.7.3).
func student5(z float64) float64 {
	theta := math.Atan(z / math.Sqrt(5))
	s, c := math.Sincos(theta)
	return max(0, 1-2/math.Pi*(theta+s*(c+2.0/3*c*c*c)))
}

// ErrCorrupt is wrapped by what Decode refuses.
var ErrCorrupt = errors.New("corrupt seasonal model")

// AppendTo appends the model. Equal models have equal bytes.
func (m *Model) AppendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.features))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.period))
	for _, s := range [][]float32{m.level, m.spread, m.carry, m.fresh} {
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
	m := &Model{features: int(u32(b)), period: int(u32(b[4:]))}
	d, p := m.features, m.period
	if d < 1 || d > MaxFeatures || p < 1 || p > MaxPeriod || d*p > maxCells || len(b)-8 != 4*(d*p+3*d) {
		return nil, fmt.Errorf("%w: sizes do not fit", ErrCorrupt)
	}
	all := make([]float32, (len(b)-8)/4)
	for i := range all {
		v := math.Float32frombits(u32(b[8+4*i:]))
		positive := i >= d*p && (i < d*p+d || i >= d*p+2*d)
		if all[i] = v; !(math.Abs(float64(v)) <= math.MaxFloat32) || positive && !(v > 0) {
			return nil, fmt.Errorf("%w: a number out of range", ErrCorrupt)
		}
	}
	m.level, all = all[:d*p], all[d*p:]
	m.spread, m.carry, m.fresh = all[:d], all[d:2*d], all[2*d:]
	return m, nil
}
