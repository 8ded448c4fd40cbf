package gbdt

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
)

// cell is what a histogram knows of the rows in a bin.
type cell struct {
	g, h float64
	n    int32
}

// split is the best way to part a leaf.
type split struct {
	gain    float64 // 0: there is none
	feature int     // place among the features drawn
	bin     int     // rows up to it go left
	left    cell
}

// leaf is one that may be parted.
type leaf struct {
	node  int32
	rows  []int32
	sum   cell
	cells [][]cell // by feature drawn; nil once it was parted, or cannot be
	best  split
}

// grower holds what trees of one training share.
type grower struct {
	data       *binned
	p          Params
	random     *rand.Rand
	processors int

	g, h     []float64
	order    []int32 // rows; the first are the sample
	scratch  []int32
	features []int      // a permutation; the first are drawn
	free     [][][]cell // by feature: histograms that are not in use
}

// train boosts. gradients sets first and second derivatives of the loss by output k at the raw outputs.
func train(x Matrix, base []float64, p Params, gradients func(raw [][]float64, k int, g, h []float64)) *Model {
	n := x.Rows
	w := &grower{
		data: bin(x, p.Bins, runtime.GOMAXPROCS(0)), p: p, random: rand.New(rand.NewPCG(p.Seed, 0x7ee5)), processors: runtime.GOMAXPROCS(0),
		g: make([]float64, n), h: make([]float64, n), order: make([]int32, n), scratch: make([]int32, n), features: make([]int, len(x.Columns)),
	}
	w.free = make([][][]cell, len(x.Columns))
	for i := range w.order {
		w.order[i] = int32(i)
	}
	for i := range w.features {
		w.features[i] = i
	}
	m := &Model{features: len(x.Columns), outputs: len(base), base: slices.Clone(base)}
	raw := make([][]float64, len(base))
	for k, b := range base {
		raw[k] = slices.Repeat([]float64{b}, n)
	}
	for range p.Trees {
		grown := make([]tree, 0, len(base))
		for k := range base {
			gradients(raw, k, w.g, w.h)
			grown = append(grown, w.tree())
		}
		for k := range grown {
			add(raw[k], &grown[k], x, w.processors)
		}
		m.trees = append(m.trees, grown...)
	}
	return m
}

// add is the trees' word on every row, also on those that were not drawn.
func add(raw []float64, t *tree, x Matrix, processors int) {
	const block = 4096
	each((x.Rows+block-1)/block, processors, func(b int) {
		for i := b * block; i < min((b+1)*block, x.Rows); i++ {
			at := int32(0)
			for t.nodes[at].left >= 0 {
				n := &t.nodes[at]
				at = n.left
				if x.Columns[n.feature][i] > n.cut {
					at++
				}
			}
			raw[i] += t.values[at]
		}
	})
}

// draw moves a sample without replacement to the front, in rising order.
func draw[T int | int32](from []T, share float64, r *rand.Rand) []T {
	n := len(from)
	k := max(1, int(math.Round(share*float64(n))))
	if k >= n {
		return from
	}
	for i := range k {
		j := i + r.IntN(n-i)
		from[i], from[j] = from[j], from[i]
	}
	slices.Sort(from[:k])
	return from[:k]
}

// tree grows one on the present derivatives: the leaf that gains most is parted next.
func (w *grower) tree() tree {
	rows := draw(w.order, w.p.RowShare, w.random)
	features := draw(w.features, w.p.FeatureShare, w.random)
	t := tree{nodes: make([]node, 1, 2*w.p.Leaves), values: make([]float64, 1, 2*w.p.Leaves)}
	root := &leaf{rows: slices.Clone(rows)}
	for _, r := range root.rows {
		root.sum.g += w.g[r]
		root.sum.h += w.h[r]
	}
	root.sum.n = int32(len(rows))
	w.fill(root, features)
	w.search(root, features)
	leaves := []*leaf{root}
	for len(leaves) < w.p.Leaves {
		best := 0
		for i, l := range leaves {
			if l.best.gain > leaves[best].best.gain {
				best = i
			}
		}
		parent := leaves[best]
		if !(parent.best.gain > 0) {
			break
		}
		left, right := w.part(&t, parent, features)
		leaves[best] = left
		leaves = append(leaves, right)
		if len(leaves) < w.p.Leaves {
			w.children(parent, left, right, features)
		}
		w.release(parent, features)
	}
	for _, l := range leaves {
		t.nodes[l.node].left = -1
		t.values[l.node] = -w.p.LearningRate * l.sum.g / (l.sum.h + w.p.L2)
		w.release(l, features)
	}
	return t
}

// part divides a leaf's rows and makes it a node of the tree.
func (w *grower) part(t *tree, l *leaf, features []int) (left, right *leaf) {
	f := features[l.best.feature]
	index, last := w.data.index[f], uint16(l.best.bin)
	below, above := 0, 0
	for _, r := range l.rows { // in order on both sides
		if index[r] <= last {
			l.rows[below] = r
			below++
		} else {
			w.scratch[above] = r
			above++
		}
	}
	copy(l.rows[below:], w.scratch[:above])
	at := int32(len(t.nodes))
	t.nodes[l.node] = node{feature: int32(f), left: at, cut: w.data.cuts[f][l.best.bin]}
	t.nodes = append(t.nodes, node{}, node{})
	t.values = append(t.values, 0, 0)
	s, b := l.sum, l.best.left
	left = &leaf{node: at, rows: l.rows[:below], sum: b}
	right = &leaf{node: at + 1, rows: l.rows[below:], sum: cell{s.g - b.g, s.h - b.h, s.n - b.n}}
	return left, right
}

// children finds the best splits of both: the smaller one's histograms are made of its rows, the larger one's are what is left of the parent's.
func (w *grower) children(parent, left, right *leaf, features []int) {
	small, large := left, right
	if right.sum.n < left.sum.n {
		small, large = right, left
	}
	if int(large.sum.n) < 2*w.p.MinRows {
		return // neither can be parted
	}
	w.fill(small, features)
	large.cells, parent.cells = parent.cells, nil
	each(len(features), w.processors, func(i int) {
		of := large.cells[i]
		for b, c := range small.cells[i] {
			of[b].g -= c.g
			of[b].h -= c.h
			of[b].n -= c.n
		}
	})
	w.search(small, features)
	w.search(large, features)
}

func (w *grower) fill(l *leaf, features []int) {
	l.cells = make([][]cell, len(features))
	for i, f := range features {
		l.cells[i] = w.take(f)
	}
	each(len(features), w.processors, func(i int) {
		cells, index := l.cells[i], w.data.index[features[i]]
		clear(cells)
		for _, r := range l.rows {
			c := &cells[index[r]]
			c.g += w.g[r]
			c.h += w.h[r]
			c.n++
		}
	})
}

func (w *grower) take(f int) []cell {
	if n := len(w.free[f]); n > 0 {
		last := w.free[f][n-1]
		w.free[f] = w.free[f][:n-1]
		return last
	}
	return make([]cell, len(w.data.cuts[f])+1)
}

func (w *grower) release(l *leaf, features []int) {
	for i, cells := range l.cells {
		w.free[features[i]] = append(w.free[features[i]], cells)
	}
	l.cells = nil
}

// search finds the leaf's best split; of equal ones the first feature's, at the lowest cut.
func (w *grower) search(l *leaf, features []int) {
	if int(l.sum.n) < 2*w.p.MinRows {
		return
	}
	found := make([]split, len(features))
	each(len(features), w.processors, func(i int) { found[i] = w.bestOf(l, i) })
	for _, s := range found {
		if s.gain > l.best.gain {
			l.best = s
		}
	}
}

func (w *grower) bestOf(l *leaf, feature int) split {
	const least = 1e-3 // of second derivatives on each side: below it a leaf is sure of what it says already
	best, left := split{}, cell{}
	cells := l.cells[feature]
	whole := l.sum.g * l.sum.g / (l.sum.h + w.p.L2)
	for b := range len(cells) - 1 {
		c := cells[b]
		if c.n == 0 {
			continue
		}
		left.g += c.g
		left.h += c.h
		left.n += c.n
		right := cell{l.sum.g - left.g, l.sum.h - left.h, l.sum.n - left.n}
		if int(left.n) < w.p.MinRows || left.h < least {
			continue
		}
		if int(right.n) < w.p.MinRows || right.h < least {
			break
		}
		gain := left.g*left.g/(left.h+w.p.L2) + right.g*right.g/(right.h+w.p.L2) - whole
		if gain > best.gain && gain > 1e-12*math.Abs(whole) {
			best = split{gain, feature, b, left}
		}
	}
	return best
}
