package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	isoTrees  = 32
	isoSample = 128
	isoDepth  = 7 // log2 of the sample: deeper, nothing is isolated any more
	isoNodes  = 1<<(isoDepth+1) - 1
	isoFirst  = 32 // windows that the first forest is of
)

// isolation is an online isolation forest: what few random cuts set apart from the rest is odd (Liu, Ting and Zhou 2008, "Isolation forest"). The
// sample is the last 128 windows learned, and one of the 32 trees after another is grown anew from it, one every four windows (the sliding window of
// Ding and Fei 2013, without its pause for rebuilding). The first forests are of 32 and 64 windows.
//
// It needs no scale of distance and stands many idle dimensions; relations between sensors it sees less well than pca does. Machines of more than
// 256 sensors get no opinion. 57 KiB per machine and 556 bytes per sensor.
type isolation struct {
	vector
	points []float32 // ring of isoSample vectors
	low    []float32 // range of them when a tree was planted last
	high   []float32
	trees  []isoTree
	n      uint64 // windows in the ring, ever
	score  rarity

	order [isoSample]uint8 // scratch
}

// isoTree lies in an array like a heap: the children of i are 2i+1 and 2i+2.
type isoTree struct {
	cut  [isoNodes]float32
	dim  [isoNodes]uint16 // isoLeaf: no cut
	size [isoNodes]uint8  // points of the sample below
	born bool
}

const isoLeaf = math.MaxUint16

func newIsolation(c *Config) Detector {
	return &isolation{vector: vector{memory: c.Forest.Memory, most: 256}}
}

func (d *isolation) Grow(sensors []string) {
	if !d.grow(len(sensors)) {
		return
	}
	d.points, d.low, d.high, d.trees, d.n, d.score = nil, nil, nil, nil, 0, rarity{}
	if n := len(d.z); n > 0 {
		d.points, d.low, d.high, d.trees = make([]float32, isoSample*n), make([]float32, n), make([]float32, n), make([]isoTree, isoTrees)
	}
}

func (d *isolation) point(i int) []float32 { return d.points[i*len(d.z) : (i+1)*len(d.z)] }

// pathLength is the mean path length of an unsuccessful search in a binary search tree of n keys.
func pathLength(n int) float64 {
	if n < 2 {
		return 0
	}
	m := float64(n)
	return 2*(math.Log(m-1)+0.5772156649) - 2*(m-1)/m
}

// depth is the depth at which z would be alone, the mean over all trees. Where z lies beyond all of the sample, a cut might have set it apart at once had z been in the
// sample: that chance counts, as in a robust random cut tree. Each cut that led there sooner than usual counts for its sensor in share.
func (d *isolation) depth(share []float32) (mean float64, ok bool) {
	trees := 0
	for t := range d.trees {
		tree := &d.trees[t]
		if !tree.born {
			continue
		}
		trees++
		i, h, reach := 0, 0.0, 1.0 // reach: chance that z is not alone yet
		for tree.dim[i] != isoLeaf {
			dim := tree.dim[i]
			z := d.z[dim]
			h += reach
			if beyond := max(float64(d.low[dim])-z, z-float64(d.high[dim])); beyond > 0 {
				apart := beyond / (beyond + max(1, float64(d.high[dim]-d.low[dim]))) // a sensor at rest has no range
				if len(share) > 0 {
					share[dim] += float32(reach * apart)
				}
				reach *= 1 - apart
			}
			if z < float64(tree.cut[i]) {
				i = 2*i + 1
			} else {
				i = 2*i + 2
			}
		}
		h += reach * pathLength(int(tree.size[i]))
		mean += h
		if early := float32(reach * (1/(h+1) - 1./isoDepth)); early > 0 && len(share) > 0 {
			for i > 0 {
				i = (i - 1) / 2
				share[tree.dim[i]] += early
			}
		}
	}
	return mean / float64(max(trees, 1)), trees > isoTrees/2
}

// bound finds the range of the sample.
func (d *isolation) bound() {
	dims := len(d.z)
	for i := range dims {
		d.low[i], d.high[i] = float32(math.Inf(1)), float32(math.Inf(-1))
	}
	for p := range int(min(d.n, isoSample)) {
		for i, x := range d.point(p) {
			d.low[i], d.high[i] = min(d.low[i], x), max(d.high[i], x)
		}
	}
}

func (d *isolation) Score(w *Window, s *Scores) {
	if len(d.z) == 0 || d.score.n < minRarity || d.take(w, mostDeviates) == 0 {
		return
	}
	if h, ok := d.depth(s.Share); ok {
		s.Joint = float32(d.score.surprise(-h))
		portion(s.Share)
	}
}

// Follow does nothing: there is no running state.
func (d *isolation) Follow(*Window) {}

func (d *isolation) Learn(w *Window) {
	if len(d.z) == 0 {
		return
	}
	if d.take(w, strange) > 0 {
		if h, ok := d.depth(nil); ok {
			d.score.learn(-h, d.memory)
		}
		for i, z := range d.z {
			d.point(int(d.n % isoSample))[i] = float32(z)
		}
		d.n++
		const every = isoSample / isoTrees
		switch {
		case d.n <= isoSample && d.n >= isoFirst && d.n&(d.n-1) == 0: // a sample twice as large: another forest
			d.bound()
			for t := range isoTrees {
				d.plant(t)
			}
			d.score.n = min(d.score.n, minRarity)
		case d.n > isoSample && d.n%every == 0:
			d.bound()
			d.plant(int(d.n / every % isoTrees))
		}
	}
	d.learn(w)
}

// plant grows one tree from the sample.
func (d *isolation) plant(t int) {
	n := int(min(d.n, isoSample))
	for i := range n {
		d.order[i] = uint8(i)
	}
	d.trees[t].born = true
	d.split(&d.trees[t], 0, d.order[:n], 0, mix(d.n)^mix(uint64(t)))
}

func (d *isolation) split(tree *isoTree, node int, at []uint8, depth int, seed uint64) {
	tree.dim[node], tree.size[node] = isoLeaf, uint8(len(at))
	if depth == isoDepth || len(at) < 2 {
		return
	}
	dims := len(d.z)
	for try := range uint64(8) { // a sensor that does not vary here cannot be cut
		dim := int(mix(seed+try) % uint64(dims))
		low, high := float32(math.Inf(1)), float32(math.Inf(-1))
		for _, p := range at {
			x := d.points[int(p)*dims+dim]
			low, high = min(low, x), max(high, x)
		}
		if !(low < high) {
			continue
		}
		cut := low + (high-low)*float32(uniform(seed^try<<32))
		if cut <= low {
			cut = high // all below high go left
		}
		left := 0
		for i, p := range at {
			if d.points[int(p)*dims+dim] < cut {
				at[left], at[i] = p, at[left]
				left++
			}
		}
		tree.dim[node], tree.cut[node] = uint16(dim), cut
		d.split(tree, 2*node+1, at[:left], depth+1, mix(seed+1))
		d.split(tree, 2*node+2, at[left:], depth+1, mix(seed+2))
		return
	}
}

func (d *isolation) AppendState(dst []byte) []byte {
	dst = d.appendState(dst)
	dst = codec.AppendU64(dst, d.n)
	dst = d.score.appendState(dst)
	for _, list := range [][]float32{d.points, d.low, d.high} {
		for _, x := range list {
			dst = codec.AppendF32(dst, x)
		}
	}
	for t := range d.trees {
		tree := &d.trees[t]
		dst = codec.AppendBool(dst, tree.born)
		if tree.born {
			dst = tree.appendNode(dst, 0)
		}
	}
	return dst
}

// appendNode writes the nodes that are in use, each before its children.
func (t *isoTree) appendNode(dst []byte, i int) []byte {
	dst = codec.AppendU32(dst, uint32(t.dim[i])<<16|uint32(t.size[i]))
	if t.dim[i] == isoLeaf {
		return dst
	}
	dst = codec.AppendF32(dst, t.cut[i])
	return t.appendNode(t.appendNode(dst, 2*i+1), 2*i+2)
}

func (t *isoTree) restoreNode(r *codec.Reader, i, dims int) {
	v := r.U32()
	t.dim[i], t.size[i] = uint16(v>>16), uint8(v)
	if t.dim[i] == isoLeaf || r.Err() != nil {
		t.dim[i] = isoLeaf
		return
	}
	if t.cut[i] = r.F32(); int(t.dim[i]) >= dims || 2*i+2 >= isoNodes {
		r.Fail("tree does not fit")
		t.dim[i] = isoLeaf
		return
	}
	t.restoreNode(r, 2*i+1, dims)
	t.restoreNode(r, 2*i+2, dims)
}

func (d *isolation) RestoreState(r *codec.Reader) {
	if !d.vector.restoreState(r) {
		r.Fail("forest of other sensors")
		return
	}
	d.n = r.U64()
	d.score.restoreState(r)
	for _, list := range [][]float32{d.points, d.low, d.high} {
		for i := range list {
			if list[i] = r.F32(); list[i]-list[i] != 0 {
				r.Fail("point is no number")
			}
		}
	}
	for t := range d.trees {
		if d.trees[t].born = r.Bool(); d.trees[t].born {
			d.trees[t].restoreNode(r, 0, len(d.z))
		}
	}
}
