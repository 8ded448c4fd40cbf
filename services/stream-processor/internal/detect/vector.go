package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// vector standardises a machine's window means, so that detectors of the whole vector need not know units: each is taken from its baseline, in its standard
// deviations. 36 bytes per sensor.
type vector struct {
	memory int
	most   int // sensors; machines of more get no opinion
	base   []baseline
	z      []float64 // scratch
}

// grow is true when the dimension changed: what was learned of vectors is void then.
func (d *vector) grow(n int) bool {
	if n > d.most {
		d.base, d.z = nil, nil
		return true
	}
	changed := n != len(d.z)
	d.base, d.z = grow(d.base, n), grow(d.z, n)
	return changed
}

// take puts w into z, each value at most limit. Missing values, and those of sensors not known yet, are as usual as can be. It returns the
// number of the others.
func (d *vector) take(w *Window, limit float64) int {
	n := 0
	for i := range d.z {
		v, b := &w.Values[i], &d.base[i]
		d.z[i] = 0
		if v.Count == 0 || b.n < minLearned {
			continue
		}
		sd := math.Sqrt(square(b.deviation(v.Resolution, b.thinness(v.Count))) + v.Drift)
		if sd > 0 {
			d.z[i] = max(-limit, min(b.apart(v.Mean, v.Resolution)/sd, limit))
			n++
		}
	}
	return n
}

func (d *vector) learn(w *Window) {
	for i := range d.base {
		if v := &w.Values[i]; v.Count > 0 {
			d.base[i].learn(v.Mean, v.Resolution, v.Count, d.memory)
		}
	}
}

func (d *vector) appendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(d.base)))
	for i := range d.base {
		dst = d.base[i].appendState(dst)
	}
	return dst
}

// restoreState is false when the state is not of as many sensors.
func (d *vector) restoreState(r *codec.Reader) bool {
	n := r.Len(len(d.base), baselineSize)
	for i := range n {
		d.base[i].restoreState(r)
	}
	return n == len(d.base) && r.Err() == nil
}

// rarity turns a detector's own score into a surprise by how the score was distributed over windows that the detector had not
// learned yet. Scores should be near to normal when all is usual.
type rarity struct{ baseline }

const (
	minRarity   = 30     // scores before there is an opinion
	leastRarity = 0.0025 // variance that scores have at least: where all is at rest, experience tells nothing
)

func (d *rarity) surprise(x float64) float64 {
	if d.n < minRarity {
		return math.NaN()
	}
	return aboveSurprise(x, d.mean(), d.variance()*(1+1/max(d.effective(), 1))+leastRarity, d.freedom())
}

func (d *rarity) learn(x float64, memory int) { d.baseline.learn(x, 0, 1, memory) }

// portion makes the shares of those that have any sum to 1.
func portion(share []float32) {
	var sum float32
	for _, x := range share {
		sum += x
	}
	if !(sum > 0) || math.IsInf(float64(sum), 0) {
		clear(share)
		return
	}
	for i := range share {
		share[i] /= sum
	}
}

// mix is a bijection of 64 bits whose output looks random (the finalizer of SplitMix64: Steele, Lea and Flood 2014): the source of all that is
// random in detectors, so that equal histories make equal choices.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// uniform is in [0, 1).
func uniform(x uint64) float64 { return float64(mix(x)>>11) / (1 << 53) }
