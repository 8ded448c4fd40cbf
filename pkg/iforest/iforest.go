// Package iforest is the isolation forest of Liu, Ting and Zhou (2008), "Isolation forest", trained in batch and scored from flat arrays.
//
// Each tree cuts a subsample at random until every row stands alone or the depth is log2 of the subsample. What is easily cut off is unusual: a row's score is
// 2^(-mean depth / c(subsample)), near 1 for the unusual, below 0.5 for the usual.
//
// A node is eight bytes, a tree of 256 rows four kilobytes. Batches go tree by tree, so that the tree stays in the level 1 cache, eight rows side by side, and every row takes
// the same number of steps: a leaf leads to itself. No step branches, so none is mispredicted. On amd64 a step is six instructions of assembler; elsewhere, and for single rows, Go does the
// same, to the same bits.
package iforest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
)

// Params of the training.
type Params struct {
	Trees     int    `json:"trees"`
	Subsample int    `json:"subsample"` // rows for each tree
	Seed      uint64 `json:"seed"`
}

// DefaultParams are those of the paper.
func DefaultParams() Params { return Params{Trees: 100, Subsample: 256, Seed: 1} }

// Bounds of the parameters, also for models that are read back.
const (
	MaxTrees     = 10_000
	MaxSubsample = 16_384
	MaxFeatures  = 65_535
)

// Validate names the field that is wrong.
func (p Params) Validate() error {
	switch {
	case p.Trees < 1 || p.Trees > MaxTrees:
		return fmt.Errorf("trees: %d is not between 1 and %d", p.Trees, MaxTrees)
	case p.Subsample < 2 || p.Subsample > MaxSubsample:
		return fmt.Errorf("subsample: %d is not between 2 and %d", p.Subsample, MaxSubsample)
	}
	return nil
}

// node sends a row to left when its feature's key is below split, else to left+1: split, feature and left in 32, 16 and 16 bits. A leaf has a split that no key reaches and is its own left.
type node int64

func nodeOf(split int32, feature, left int) node {
	return node(int64(split)<<32 | int64(feature)<<16 | int64(left))
}

func (n node) split() int32 { return int32(n >> 32) }
func (n node) feature() int { return int(uint16(n >> 16)) }
func (n node) left() int    { return int(uint16(n)) }

// Forest is a trained forest. It is not changed by scoring: any number of goroutines may score at once.
type Forest struct {
	features int
	depth    int // steps that every row takes
	trees    []tree
	norm     float64 // -1 / (trees * c(subsample))
}

type tree struct {
	nodes []node
	path  []float32 // by node: path length of a row that ends there
	walk  []uint64  // the nodes as walk wants them; nil when it is not used
}

// Train grows a forest over rows, row-major with the given number of features, all finite. The same input and parameters give the same forest. Cost: trees *
// subsample * log2(subsample) steps, whatever the number of rows.
func Train(rows []float32, features int, p Params) (*Forest, error) {
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
	size := min(p.Subsample, n)
	g := grower{
		rows: rows, features: features, most: bits.Len(uint(size - 1)), order: make([]int, features), index: make([]int32, n),
	}
	for i := range g.index {
		g.index[i] = int32(i)
	}
	f := &Forest{features: features, depth: g.most, norm: -1 / (float64(p.Trees) * averagePath(size)), trees: make([]tree, p.Trees)}
	for t := range f.trees {
		g.random = rand.New(rand.NewPCG(p.Seed, uint64(t)))
		for i := range size { // the first steps of a shuffle: a sample without replacement
			j := i + g.random.IntN(n-i)
			g.index[i], g.index[j] = g.index[j], g.index[i]
		}
		g.tree = tree{nodes: make([]node, 1, 2*size), path: make([]float32, 1, 2*size)}
		g.grow(0, g.index[:size], 0)
		f.trees[t] = g.tree
	}
	f.prepare()
	return f, nil
}

type grower struct {
	rows     []float32
	features int
	most     int
	order    []int
	index    []int32
	random   *rand.Rand
	tree     tree
}

func (g *grower) grow(at int, sample []int32, depth int) {
	feature, split, ok := 0, float32(0), false
	if len(sample) > 1 && depth < g.most {
		feature, split, ok = g.cut(sample)
	}
	if !ok {
		g.tree.nodes[at] = nodeOf(never, 0, at)
		g.tree.path[at] = float32(float64(depth) + averagePath(len(sample)))
		return
	}
	below := 0
	for i, r := range sample {
		if g.rows[int(r)*g.features+feature] < split {
			sample[i], sample[below] = sample[below], sample[i]
			below++
		}
	}
	left := len(g.tree.nodes)
	g.tree.nodes = append(g.tree.nodes, 0, 0)
	g.tree.path = append(g.tree.path, 0, 0)
	g.tree.nodes[at] = nodeOf(key(split), feature, left)
	g.grow(left, sample[:below], depth+1)
	g.grow(left+1, sample[below:], depth+1)
}

// cut draws a feature that is not constant in the sample, and a value in its range, so that both sides get rows.
func (g *grower) cut(sample []int32) (feature int, split float32, ok bool) {
	for i := range g.order {
		g.order[i] = i
	}
	for i := range g.order {
		j := i + g.random.IntN(len(g.order)-i)
		g.order[i], g.order[j] = g.order[j], g.order[i]
		feature = g.order[i]
		low, high := float32(math.Inf(1)), float32(math.Inf(-1))
		for _, r := range sample {
			v := g.rows[int(r)*g.features+feature]
			low, high = min(low, v), max(high, v)
		}
		if low < high {
			split = float32(float64(low) + g.random.Float64()*(float64(high)-float64(low)))
			if split <= low { // a row equal to split goes right: left must not be empty
				split = high
			}
			return feature, min(split, high), true
		}
	}
	return 0, 0, false
}

// averagePath is c(n) of the paper: the mean path of an unsuccessful search in a binary search tree of n keys.
func averagePath(n int) float64 {
	switch {
	case n <= 1:
		return 0
	case n == 2:
		return 1
	}
	m := float64(n)
	return 2*(math.Log(m-1)+0.5772156649015329) - 2*(m-1)/m
}

// Features is the number of values in a row.
func (f *Forest) Features() int { return f.features }

// side is how many rows take a step together: enough that the processor waits for none of them.
const side = 8

// few is the number of rows from which a group that is not full is faster than rows by themselves.
const few = 3

// block is the number of values that go through a tree before the next tree does: they stay in the level 1 cache beside it.
const block = 2048

// prepare writes the trees as walk wants them: split (as an unsigned number), left, and 64 times the feature, in 32, 16 and 16 bits.
func (f *Forest) prepare() {
	if !hasWalk || f.features > block/side {
		return
	}
	for t := range f.trees {
		nodes := f.trees[t].nodes
		f.trees[t].walk = make([]uint64, len(nodes))
		for i, n := range nodes {
			f.trees[t].walk[i] = unsigned(n.split())<<32 | uint64(n.left())<<16 | uint64(n.feature()*side*8)
		}
	}
}

// unsigned keeps the order of keys.
func unsigned(key int32) uint64 { return uint64(uint32(key) ^ 1<<31) }

// key orders float32 as integers, whose comparison needs no branch. NaN is above all or below all numbers.
func key(v float32) int32 {
	b := int32(math.Float32bits(v))
	return max(-infinite, min(b^int32(uint32(b>>31)>>1), infinite))
}

const (
	infinite = 0x7f800000 // key(+Inf)
	never    = infinite + 1
)

// Score sets dst[i] to the score of row i, in (0, 1]. rows are row-major, len(dst) of them. It does not allocate; a row's score does not depend on the others, bit
// for bit. Cost: about a microsecond for a row and a hundred trees.
func (f *Forest) Score(dst []float64, rows []float32) {
	d := f.features
	rows = rows[:len(dst)*d]
	if most := block / (side * d) * side; hasWalk && most > 0 {
		for len(dst) >= side {
			n := min(most, len(dst)&^(side-1))
			f.scoreBlock(dst[:n], rows[:n*d])
			dst, rows = dst[n:], rows[n*d:]
		}
		if len(dst) >= few { // a group that is not full costs as much as a full one, less than that many single rows
			var last [side]float64
			f.scoreBlock(last[:], rows)
			copy(dst, last[:])
			return
		}
	}
	for i := range dst {
		dst[i] = f.scoreOne(rows[i*d : (i+1)*d])
	}
}

// scoreBlock scores whole groups. There may be fewer rows than dst has room for.
func (f *Forest) scoreBlock(dst []float64, rows []float32) {
	var keys [block]uint64 // by group of rows, then feature, then row: split's place, all bits below set
	d := f.features
	for i := range len(rows) / d {
		group := keys[i/side*side*d+i%side:]
		for j, v := range rows[i*d : i*d+d] {
			group[j*side] = unsigned(key(v))<<32 | math.MaxUint32
		}
	}
	clear(dst)
	for t := range f.trees {
		w := &f.trees[t]
		walk(&w.walk[0], &w.path[0], &keys[0], &dst[0], len(dst)/side, 8*side*d, f.depth)
	}
	for i := range dst {
		dst[i] = math.Exp2(dst[i] * f.norm)
	}
}

// reach puts a key where a node has its split, with all lower bits set: the key is at or above the split if and only if its reach is at or above the node.
func reach(key int32) int64 { return int64(key)<<32 | math.MaxUint32 }

// scoreOne scores a row by itself: four trees take a step together.
func (f *Forest) scoreOne(row []float32) float64 {
	var room [64]int64
	keys := room[:0]
	if len(row) <= len(room) {
		for _, v := range row {
			keys = append(keys, reach(key(v)))
		}
	}
	var sum float64
	t := 0
	for ; len(keys) > 0 && t+4 <= len(f.trees); t += 4 {
		trees := f.trees[t : t+4 : t+4]
		a, b, c, d := trees[0].nodes, trees[1].nodes, trees[2].nodes, trees[3].nodes
		var n0, n1, n2, n3 int
		for range f.depth {
			n0, n1, n2, n3 = stepOne(a, n0, keys), stepOne(b, n1, keys), stepOne(c, n2, keys), stepOne(d, n3, keys)
		}
		// One after the other, as a batch adds them: the same bits.
		sum += float64(trees[0].path[n0])
		sum += float64(trees[1].path[n1])
		sum += float64(trees[2].path[n2])
		sum += float64(trees[3].path[n3])
	}
	for ; t < len(f.trees); t++ {
		at := 0
		for range f.depth {
			n := f.trees[t].nodes[at]
			at = n.left()
			if key(row[n.feature()]) >= n.split() {
				at++
			}
		}
		sum += float64(f.trees[t].path[at])
	}
	return math.Exp2(sum * f.norm)
}

func stepOne(nodes []node, at int, keys []int64) int {
	n := nodes[at]
	right := 0
	if int64(n) <= keys[uint16(n>>16)] {
		right = 1
	}
	return int(uint16(n)) + right
}

// ErrCorrupt is wrapped by what Decode refuses.
var ErrCorrupt = errors.New("corrupt isolation forest")

// AppendTo appends the forest. Equal forests have equal bytes.
func (f *Forest) AppendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(f.features))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(f.depth))
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(f.norm))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.trees)))
	for i := range f.trees {
		t := &f.trees[i]
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(t.nodes)))
		for j, n := range t.nodes {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(n))
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(t.path[j]))
		}
	}
	return dst
}

// Decode reads what AppendTo wrote. b is not trusted: a result never leaves its arrays.
func Decode(b []byte) (*Forest, error) {
	const head, perNode = 20, 12
	if len(b) < head {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	u32 := binary.LittleEndian.Uint32
	f := &Forest{features: int(u32(b)), depth: int(u32(b[4:])), norm: math.Float64frombits(binary.LittleEndian.Uint64(b[8:]))}
	trees := int(u32(b[16:]))
	b = b[head:]
	if f.features < 1 || f.features > MaxFeatures || f.depth < 0 || f.depth > 16 || trees < 1 || trees > MaxTrees || !(f.norm < 0) || math.IsInf(f.norm, 0) {
		return nil, fmt.Errorf("%w: head out of range", ErrCorrupt)
	}
	for range trees {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: cut off", ErrCorrupt)
		}
		n := int(u32(b))
		if b = b[4:]; n < 1 || n > 2*MaxSubsample || n*perNode > len(b) {
			return nil, fmt.Errorf("%w: tree of %d nodes", ErrCorrupt, n)
		}
		t := tree{nodes: make([]node, n), path: make([]float32, n)}
		for i := range t.nodes {
			e := b[i*perNode:]
			v := node(binary.LittleEndian.Uint64(e))
			t.nodes[i], t.path[i] = v, math.Float32frombits(u32(e[8:]))
			leaf := v.left() == i && v.split() == never
			if v.feature() >= f.features || v.split() > never || !leaf && v.left()+1 >= n || !(t.path[i] >= 0 && t.path[i] < 1e6) {
				return nil, fmt.Errorf("%w: node out of range", ErrCorrupt)
			}
		}
		f.trees = append(f.trees, t)
		b = b[n*perNode:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", ErrCorrupt, len(b))
	}
	f.prepare()
	return f, nil
}
