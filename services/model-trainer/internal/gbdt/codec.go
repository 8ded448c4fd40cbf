package gbdt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrCorrupt is wrapped by what Decode refuses.
var ErrCorrupt = errors.New("corrupt boosted trees")

// AppendTo appends the model. Equal models have equal bytes.
func (m *Model) AppendTo(dst []byte) []byte {
	u32 := func(v int) { dst = binary.LittleEndian.AppendUint32(dst, uint32(v)) }
	f64 := func(v float64) { dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v)) }
	u32(m.features)
	u32(m.outputs)
	u32(len(m.trees))
	for _, b := range m.base {
		f64(b)
	}
	for i := range m.trees {
		t := &m.trees[i]
		u32(len(t.nodes))
		for j, n := range t.nodes {
			u32(int(n.left))
			if n.left < 0 {
				f64(t.values[j])
				continue
			}
			u32(int(n.feature))
			u32(int(math.Float32bits(n.cut)))
		}
	}
	return dst
}

type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u32() uint32  { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) f64() float64 { return math.Float64frombits(binary.LittleEndian.Uint64(r.take(8))) }

// Decode reads what AppendTo wrote from the front of b, and gives the rest. b is not trusted: what comes out never leaves its arrays and always ends.
func Decode(b []byte) (*Model, []byte, error) {
	r := &reader{b: b}
	m := &Model{features: int(r.u32()), outputs: int(r.u32())}
	trees := int(r.u32())
	if r.bad || m.features < 1 || m.features > MaxFeatures || m.outputs < 1 || m.outputs > MaxClasses || trees < 1 || trees > MaxTrees*m.outputs || trees%m.outputs != 0 {
		return nil, nil, fmt.Errorf("%w: head out of range", ErrCorrupt)
	}
	for range m.outputs {
		v := r.f64()
		if math.IsNaN(v) || math.IsInf(v, 0) {
			r.bad = true
		}
		m.base = append(m.base, v)
	}
	for range trees {
		n := int(r.u32())
		const least = 12 // bytes of a node
		if r.bad || n < 1 || n > 2*MaxLeaves || n*least > len(r.b) {
			return nil, nil, fmt.Errorf("%w: a tree is cut off", ErrCorrupt)
		}
		t := tree{nodes: make([]node, n), values: make([]float64, n)}
		for i := range t.nodes {
			e := &t.nodes[i]
			if e.left = int32(r.u32()); e.left < 0 {
				t.values[i] = r.f64()
				if e.left != -1 || math.IsNaN(t.values[i]) || math.IsInf(t.values[i], 0) {
					r.bad = true
				}
				continue
			}
			e.feature, e.cut = int32(r.u32()), math.Float32frombits(r.u32())
			// Children stand behind their parent, so every walk ends.
			if int(e.left) <= i || int(e.left)+1 >= n || e.feature < 0 || int(e.feature) >= m.features || e.cut != e.cut {
				r.bad = true
			}
		}
		m.trees = append(m.trees, t)
	}
	if r.bad {
		return nil, nil, fmt.Errorf("%w: a node is out of range", ErrCorrupt)
	}
	return m, r.b, nil
}
