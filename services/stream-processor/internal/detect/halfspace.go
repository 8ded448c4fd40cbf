package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	hsTrees  = 25
	hsDepth  = 7
	hsNodes  = 1<<(hsDepth+1) - 1
	hsSplits = 1<<hsDepth - 1
	hsWindow = 128 // windows that one reference profile is of
	hsSparse = 12  // nodes with fewer are not gone into
	hsReach  = 5.0 // standard deviations within which space is cut
)

// halfSpace is streaming half-space trees (Tan, Ting and Liu 2011, "Fast anomaly detection for streaming data"): 25 trees cut the space of all
// sensors at random before any data, and count how many of the last 128 learned windows fell into each part; an odd window is in parts that were nearly
// empty. Learning is nothing but counting, the same few steps whatever came.
//
// Machines of more than 256 sensors get no opinion. 32 KiB per machine and 40 bytes per sensor.
type halfSpace struct {
	vector
	dim       []uint16  // by tree and split
	cut       []float32 // likewise, in standard deviations
	reference []uint8   // by tree and node: windows of the last full profile
	newest    []uint8   // of the one that fills
	filled    uint8
	full      bool // reference holds
	whole     bool // it is of hsWindow windows
	score     rarity

	low, high []float64 // scratch: the part of space a tree is in
}

func newHalfSpace(c *Config) Detector {
	return &halfSpace{vector: vector{memory: c.Forest.Memory, most: 256}}
}

func (d *halfSpace) Grow(sensors []string) {
	if !d.grow(len(sensors)) {
		return
	}
	*d = halfSpace{vector: d.vector}
	n := len(d.z)
	if n == 0 {
		return
	}
	d.dim, d.cut = make([]uint16, hsTrees*hsSplits), make([]float32, hsTrees*hsSplits)
	d.reference, d.newest = make([]uint8, hsTrees*hsNodes), make([]uint8, hsTrees*hsNodes)
	d.low, d.high = make([]float64, n), make([]float64, n)
	for t := range hsTrees {
		for i := range n { // a range about a random middle, as in the paper, that covers where values are
			s := (2*uniform(uint64(t)<<32|uint64(i)) - 1) * hsReach / 2
			d.low[i], d.high[i] = s-hsReach, s+hsReach
		}
		d.partition(t, 0)
	}
	d.low, d.high = nil, nil
}

// partition cuts the part of node in the middle of a random sensor's range, and both halves in turn.
func (d *halfSpace) partition(t, node int) {
	if node >= hsSplits {
		return
	}
	i := int(mix(uint64(t)<<16|uint64(node)|1<<60) % uint64(len(d.z)))
	low, high := d.low[i], d.high[i]
	mid := (low + high) / 2
	d.dim[t*hsSplits+node], d.cut[t*hsSplits+node] = uint16(i), float32(mid)
	d.high[i] = mid
	d.partition(t, 2*node+1)
	d.low[i], d.high[i] = mid, high
	d.partition(t, 2*node+2)
	d.low[i] = low
}

// sparsity is -ln of how many windows were where z is, relative to its part of space: the mean over the trees. A sensor whose cuts led to emptier halves gets a share.
func (d *halfSpace) sparsity(share []float32) float64 {
	var sum float64
	for t := range hsTrees {
		mass := d.reference[t*hsNodes : (t+1)*hsNodes]
		node, depth := 0, 0
		for ; depth < hsDepth && mass[node] > hsSparse; depth++ {
			i := d.dim[t*hsSplits+node]
			next := 2*node + 1
			if d.z[i] >= float64(d.cut[t*hsSplits+node]) {
				next++
			}
			if len(share) > 0 {
				share[i] += float32(max(0, math.Log((float64(mass[node])+1)/(2*float64(mass[next])+1))))
			}
			node = next
		}
		sum -= math.Log(float64(mass[node])+0.5) + float64(depth)*math.Ln2
	}
	return sum / hsTrees
}

func (d *halfSpace) Score(w *Window, s *Scores) {
	if !d.full || d.score.n < minRarity || d.take(w, mostDeviates) == 0 {
		return
	}
	s.Joint = float32(d.score.surprise(d.sparsity(s.Share)))
	portion(s.Share)
}

// Follow does nothing: there is no running state.
func (d *halfSpace) Follow(*Window) {}

func (d *halfSpace) Learn(w *Window) {
	if len(d.z) == 0 {
		return
	}
	if d.take(w, strange) > 0 {
		if d.full {
			d.score.learn(d.sparsity(nil), d.memory)
		}
		for t := range hsTrees {
			mass, node := d.newest[t*hsNodes:(t+1)*hsNodes], 0
			mass[0]++
			for range hsDepth {
				at := t*hsSplits + node
				if node = 2*node + 1; d.z[d.dim[at]] >= float64(d.cut[at]) {
					node++
				}
				mass[node]++
			}
		}
		d.filled++
		d.refer()
	}
	d.learn(w)
}

// refer makes a full profile the reference. Until there is one, a quarter and a half of one stand in for it.
func (d *halfSpace) refer() {
	switch {
	case d.filled == hsWindow:
		d.reference, d.newest, d.filled = d.newest, d.reference, 0
		clear(d.newest)
		if d.whole {
			return
		}
		d.whole = true
	case !d.whole && (d.filled == hsWindow/4 || d.filled == hsWindow/2):
		for i, n := range d.newest {
			d.reference[i] = n * (hsWindow / d.filled)
		}
	default:
		return
	}
	d.full, d.score.n = true, min(d.score.n, minRarity) // what was usual is to be learned anew, soon
}

func (d *halfSpace) AppendState(dst []byte) []byte {
	dst = d.appendState(dst)
	dst = d.score.appendState(dst)
	dst = codec.AppendBool(codec.AppendBool(dst, d.full), d.whole)
	dst = append(dst, d.filled)
	dst = append(dst, d.reference...)
	return append(dst, d.newest...)
}

func (d *halfSpace) RestoreState(r *codec.Reader) {
	if !d.vector.restoreState(r) {
		r.Fail("trees of other sensors")
		return
	}
	d.score.restoreState(r)
	d.full, d.whole, d.filled = r.Bool(), r.Bool(), r.U8()
	for _, mass := range [][]uint8{d.reference, d.newest} {
		for i := range mass {
			if mass[i] = r.U8(); mass[i] > hsWindow {
				r.Fail("more windows than there were")
			}
		}
	}
	if d.filled >= hsWindow {
		r.Fail("more windows than there were")
		d.filled = 0
	}
}
