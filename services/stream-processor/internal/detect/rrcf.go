package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	cutTrees  = 12
	cutSample = 64
	cutNodes  = 2*cutSample - 1
	noNode    = math.MaxUint8
)

// cutForest is a robust random cut forest (Guha, Mishra, Roy and Schrijvers 2016, "Robust random cut forest based anomaly detection on streams"): 12 trees over the
// last 64 windows learned, each tree updated point by point as if it had been cut at random from the whole sample anew. A window's score is its collusive
// displacement: how many points of the sample would move up in a tree if it, and those like it, were taken out. It is computed in expectation over the cuts that would
// set the window apart, without inserting it.
//
// Cuts fall into sensors in proportion to their spread, so idle sensors do not dilute it. Bounding boxes are not kept but found again on the way,
// which costs time and saves six times the memory. Machines of more than 64 sensors get no opinion. 17 KiB per machine and 296 bytes per sensor; 768*d operations to score.
type cutForest struct {
	vector
	points []float32 // ring of cutSample vectors
	trees  [cutTrees]cutTree
	n      uint64 // windows in the ring, ever
	score  rarity

	boxes []float32 // scratch: low and high of each node
	past  []float32 // scratch: by how far z lies outside a box
}

// cutTree is a binary tree in arrays. Nodes below cutSample are leaves: the points of the ring. The rest are cuts.
type cutTree struct {
	root   uint8
	parent [cutNodes]uint8
	left   [cutNodes]uint8
	right  [cutNodes]uint8
	mass   [cutNodes]uint8 // leaves below; 0: not in the tree
	dim    [cutNodes]uint8
	at     [cutNodes]float32 // the cut: values up to it go left
}

func newCutForest(c *Config) Detector {
	return &cutForest{vector: vector{memory: c.Forest.Memory, most: 64}}
}

func (d *cutForest) Grow(sensors []string) {
	if !d.grow(len(sensors)) {
		return
	}
	*d = cutForest{vector: d.vector}
	for t := range d.trees {
		d.trees[t].root = noNode
	}
	n := len(d.z)
	d.points, d.boxes, d.past = make([]float32, cutSample*n), make([]float32, 2*cutNodes*n), make([]float32, n)
}

func (d *cutForest) point(i int) []float32 { return d.points[i*len(d.z) : (i+1)*len(d.z)] }

// box is the bounding box of the points below a node.
func (d *cutForest) box(node uint8) (low, high []float32) {
	n := len(d.z)
	b := d.boxes[2*n*int(node) : 2*n*(int(node)+1)]
	return b[:n], b[n:]
}

// bound finds the boxes of a node and all below it.
func (d *cutForest) bound(t *cutTree, node uint8) {
	low, high := d.box(node)
	if node < cutSample {
		copy(low, d.point(int(node)))
		copy(high, low)
		return
	}
	d.bound(t, t.left[node])
	d.bound(t, t.right[node])
	ll, lh := d.box(t.left[node])
	rl, rh := d.box(t.right[node])
	for i := range low {
		low[i], high[i] = min(ll[i], rl[i]), max(lh[i], rh[i])
	}
}

// outside is the width of the node's box and by how much z would widen it, per sensor in past.
func (d *cutForest) outside(node uint8) (width, more float64) {
	low, high := d.box(node)
	for i, z := range d.z {
		x := float32(z)
		d.past[i] = max(0, low[i]-x, x-high[i])
		width += float64(high[i] - low[i])
		more += float64(d.past[i])
	}
	return width, more
}

// displacement is the logarithm of the expected collusive displacement of z, the mean over the trees. Sensors whose cuts would set it apart get shares.
func (d *cutForest) displacement(share []float32) float64 {
	var sum float64
	for k := range d.trees {
		t := &d.trees[k]
		d.bound(t, t.root)
		var expected, above float64 // above: highest ratio at the ancestors
		reach := 1.0                // chance that z gets as deep as node
		for node := t.root; ; {
			width, more := d.outside(node)
			apart := 0.0
			if node < cutSample {
				apart = 1
			} else if more > 0 {
				apart = more / (width + more)
			}
			displaced := max(above, float64(t.mass[node]))
			expected += reach * apart * displaced
			if more > 0 && len(share) > 0 {
				for i, p := range d.past {
					share[i] += float32(reach*apart*displaced/more) * p
				}
			}
			if reach *= 1 - apart; node < cutSample || reach < 1e-6 {
				break
			}
			child, sibling := t.left[node], t.right[node]
			if float32(d.z[t.dim[node]]) > t.at[node] {
				child, sibling = sibling, child
			}
			above = max(above, float64(t.mass[sibling])/float64(t.mass[child]+1))
			node = child
		}
		sum += math.Log(expected + 1)
	}
	return sum / cutTrees
}

// insert puts the point at leaf, which z holds, into the tree.
func (d *cutForest) insert(t *cutTree, leaf uint8, seed uint64) {
	t.mass[leaf], t.parent[leaf], t.left[leaf], t.right[leaf] = 1, noNode, noNode, noNode
	if t.root == noNode {
		t.root = leaf
		return
	}
	d.bound(t, t.root)
	for node := t.root; ; {
		width, more := d.outside(node)
		seed = mix(seed)
		u := uniform(seed) * (width + more)
		dim, at, apart := d.cutAt(node, u)
		if apart || node < cutSample {
			d.fork(t, node, leaf, dim, at)
			return
		}
		if t.mass[node]++; float32(d.z[t.dim[node]]) <= t.at[node] {
			node = t.left[node]
		} else {
			node = t.right[node]
		}
	}
}

// cutAt is the cut at distance u along the sides of the node's box widened to hold z; apart tells whether it sets z apart.
func (d *cutForest) cutAt(node uint8, u float64) (dim int, at float32, apart bool) {
	low, high := d.box(node)
	for i, z := range d.z {
		x := float32(z)
		from, to := min(low[i], x), max(high[i], x)
		if w := float64(to - from); u >= w && i < len(d.z)-1 {
			u -= w
			continue
		}
		at = min(max(from, from+float32(u)), to)
		if at == to && from < to {
			at = from // values up to the cut go left: never all
		}
		return i, at, x <= at && at < low[i] || x > at && at >= high[i]
	}
	return 0, 0, false
}

// fork puts a new cut in node's place, with node and leaf below it.
func (d *cutForest) fork(t *cutTree, node, leaf uint8, dim int, at float32) {
	fresh := uint8(cutSample)
	for t.mass[fresh] > 0 {
		fresh++
	}
	up := t.parent[node]
	t.parent[fresh], t.mass[fresh], t.dim[fresh], t.at[fresh] = up, t.mass[node]+1, uint8(dim), at
	if float32(d.z[dim]) <= at {
		t.left[fresh], t.right[fresh] = leaf, node
	} else {
		t.left[fresh], t.right[fresh] = node, leaf
	}
	t.parent[node], t.parent[leaf] = fresh, fresh
	t.replace(up, node, fresh)
}

// replace makes to a child of up where from was.
func (t *cutTree) replace(up, from, to uint8) {
	switch {
	case up == noNode:
		t.root = to
	case t.left[up] == from:
		t.left[up] = to
	default:
		t.right[up] = to
	}
}

// remove takes a leaf out; its sibling moves up.
func (t *cutTree) remove(leaf uint8) {
	up := t.parent[leaf]
	t.mass[leaf] = 0
	if up == noNode {
		t.root = noNode
		return
	}
	sibling := t.left[up]
	if sibling == leaf {
		sibling = t.right[up]
	}
	over := t.parent[up]
	t.mass[up], t.parent[sibling] = 0, over
	t.replace(over, up, sibling)
	for ; over != noNode; over = t.parent[over] {
		t.mass[over]--
	}
}

func (d *cutForest) ready() bool { return len(d.z) > 0 && d.n >= cutSample/2 }

func (d *cutForest) Score(w *Window, s *Scores) {
	if !d.ready() || d.score.n < minRarity || d.take(w, mostDeviates) == 0 {
		return
	}
	s.Joint = float32(d.score.surprise(d.displacement(s.Share)))
	portion(s.Share)
}

// Follow does nothing: there is no running state.
func (d *cutForest) Follow(*Window) {}

func (d *cutForest) Learn(w *Window) {
	if len(d.z) == 0 {
		return
	}
	if d.take(w, strange) > 0 {
		if d.ready() {
			d.score.learn(d.displacement(nil), d.memory)
		}
		leaf := uint8(d.n % cutSample)
		for t := range d.trees {
			if d.n >= cutSample {
				d.trees[t].remove(leaf)
			}
		}
		for i, z := range d.z {
			d.point(int(leaf))[i] = float32(z)
		}
		for t := range d.trees {
			d.insert(&d.trees[t], leaf, mix(d.n)^mix(uint64(t)<<32))
		}
		d.n++
	}
	d.learn(w)
}

func (d *cutForest) AppendState(dst []byte) []byte {
	dst = d.appendState(dst)
	dst = codec.AppendU64(dst, d.n)
	dst = d.score.appendState(dst)
	for _, x := range d.points {
		dst = codec.AppendF32(dst, x)
	}
	for k := range d.trees {
		if t := &d.trees[k]; len(d.z) > 0 {
			dst = append(dst, t.root)
			if t.root != noNode {
				dst = t.appendNode(dst, t.root)
			}
		}
	}
	return dst
}

// appendNode writes a node and all below it; their masses follow.
func (t *cutTree) appendNode(dst []byte, node uint8) []byte {
	if node < cutSample {
		return dst
	}
	dst = append(dst, t.left[node], t.right[node], t.dim[node])
	dst = codec.AppendF32(dst, t.at[node])
	return t.appendNode(t.appendNode(dst, t.left[node]), t.right[node])
}

// restoreNode is its inverse and returns the mass. No node can come twice: one that is in the tree already has mass.
func (t *cutTree) restoreNode(r *codec.Reader, node, parent uint8, dims int) uint8 {
	if r.Err() != nil || node >= cutNodes || t.mass[node] > 0 {
		r.Fail("tree does not fit")
		return 0
	}
	t.parent[node], t.mass[node] = parent, 1
	if node < cutSample {
		t.left[node], t.right[node] = noNode, noNode
		return 1
	}
	t.left[node], t.right[node], t.dim[node] = r.U8(), r.U8(), r.U8()
	if t.at[node] = r.F32(); int(t.dim[node]) >= dims {
		r.Fail("cut of no sensor")
		t.dim[node] = 0
	}
	left := t.restoreNode(r, t.left[node], node, dims)
	t.mass[node] = left + t.restoreNode(r, t.right[node], node, dims)
	return t.mass[node]
}

func (d *cutForest) RestoreState(r *codec.Reader) {
	if !d.vector.restoreState(r) {
		r.Fail("forest of other sensors")
		return
	}
	d.n = r.U64()
	d.score.restoreState(r)
	for i := range d.points {
		if d.points[i] = r.F32(); d.points[i]-d.points[i] != 0 {
			r.Fail("point is no number")
		}
	}
	for k := range d.trees {
		if len(d.z) == 0 {
			break
		}
		t, held := &d.trees[k], uint8(min(d.n, cutSample))
		if t.root = r.U8(); t.root != noNode && t.restoreNode(r, t.root, noNode, len(d.z)) != held || t.root == noNode && held > 0 {
			r.Fail("tree of another sample")
		}
		for leaf := held; leaf < cutSample; leaf++ {
			if t.mass[leaf] > 0 {
				r.Fail("tree of another sample")
			}
		}
	}
}
