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
)

// isolation is an online isolation forest: what few random cuts set apart from the rest is odd (Liu, Ting and Zhou 2008, "Isolation forest"). The
// sample is the last 128 windows learned, and one of the 32 trees after another is grown anew from it, one every four windows (the sliding window of
// Ding and Fei 2013, without its pause for rebuilding).
//
// It needs no scale of distance and stands many idle dimensions; relations between sensors it sees less well than pca does. Machines of more than
// 256 sensors get no opinion. 64 KiB per machine and 552 bytes per sensor; some 3 us to score.
type isolation struct {
	vector
	points []float32 // ring of isoSample vectors
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
	d.points, d.trees, d.n, d.score = nil, nil, 0, rarity{}
	if len(d.z) > 0 {
		d.points, d.trees = make([]float32, isoSample*len(d.z)), make([]isoTree, isoTrees)
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

// depth is the depth at which z would be alone, the mean over all trees. Each cut that led there sooner than usual counts for its sensor in share.
func (d *isolation) depth(share []float32) (mean float64, ok bool) {
	trees := 0
	for t := range d.trees {
		tree := &d.trees[t]
		if !tree.born {
			continue
		}
		trees++
		i, h := 0, 0.0
		for tree.dim[i] != isoLeaf {
			if d.z[tree.dim[i]] < float64(tree.cut[i]) {
				i = 2*i + 1
			} else {
				i = 2*i + 2
			}
			h++
		}
		h += pathLength(int(tree.size[i]))
		mean += h
		if early := float32(1/(h+1) - 1./isoDepth); early > 0 && len(share) > 0 {
			for i > 0 {
				i = (i - 1) / 2
				share[tree.dim[i]] += early
			}
		}
	}
	return mean / float64(max(trees, 1)), trees > isoTrees/2
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
		if d.n >= isoSample/2 && d.n%every == 0 {
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
	for _, x := range d.points {
		dst = codec.AppendF32(dst, x)
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
	for i := range d.points {
		d.points[i] = r.F32()
	}
	for t := range d.trees {
		if d.trees[t].born = r.Bool(); d.trees[t].born {
			d.trees[t].restoreNode(r, 0, len(d.z))
		}
	}
}
