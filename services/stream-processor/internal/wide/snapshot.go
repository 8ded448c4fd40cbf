package wide

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// perFeature is the number of float32 that a feature's state has.
const perFeature = 2*(WindowSize-1) + WindowSize + 7

// AppendState appends everything that later results depend on, beside the configuration: 88 bytes for each feature. Equal states have equal bytes.
func (m *Model) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(m.n))
	for _, column := range m.columns() {
		for _, v := range column {
			dst = codec.AppendF32(dst, v)
		}
	}
	for k := range remembered { // oldest first
		k = (m.said.next + k) % remembered
		dst = codec.AppendI64(dst, m.said.at[k])
		dst = codec.AppendBool(dst, m.said.used[k])
		dst = append(dst, m.said.rows[k]...)
	}
	dst = codec.AppendF64(dst, m.shareOut.n)
	dst = codec.AppendF64(dst, m.shareOut.mean)
	return codec.AppendF64(dst, m.shareOut.variance)
}

// columns lists the state by feature; the rings oldest row first.
func (m *Model) columns() [perFeature][]float32 {
	var out [perFeature][]float32
	list := out[:0]
	for _, h := range []*history{&m.recent, &m.taught} {
		for k := range h.rows {
			list = append(list, h.rows[(h.head+k)%len(h.rows)])
		}
	}
	list = append(list, m.weight[:]...)
	_ = append(list, m.learned, m.mean, m.variance, m.rho, m.peaks, m.excess, m.floor)
	return out
}

// RestoreState is the inverse of AppendState, into a Model with at least as many features. src is not trusted: what does not belong to a Model is an error in r.
func (m *Model) RestoreState(r *codec.Reader) {
	n := r.Len(m.n, 4*perFeature)
	m.recent.head, m.taught.head = 0, 0
	columns := m.columns()
	for c, column := range columns {
		mayMiss := c < 2*(WindowSize-1)
		for i := range column[:n] {
			v := r.F32()
			if (v != v || abs(v) > math.MaxFloat32) && !(mayMiss && v != v) {
				r.Fail("a number that no feature can have")
				return
			}
			column[i] = v
		}
	}
	m.said.next = 0
	for k := range remembered {
		m.said.at[k], m.said.used[k] = r.I64(), r.Bool()
		for i := range m.said.rows[k][:n] {
			m.said.rows[k][i] = r.U8()
		}
	}
	m.shareOut = share{n: r.F64(), mean: r.F64(), variance: r.F64()}
	if s := &m.shareOut; !(s.n >= 0 && s.n <= 1e9 && s.mean >= 0 && s.mean <= 1 && s.variance >= 0 && s.variance <= 1) {
		r.Fail("share out of range")
		return
	}
	m.isReady = 0
	boundary := float32(math.Log2(1 - m.cfg.Threshold))
	for i := range n {
		ok := m.learned[i] >= 0 && m.learned[i] <= 1e6 && m.variance[i] >= 0 && m.peaks[i] >= 0 && m.excess[i] >= 0 && m.floor[i] >= 0
		for k := range m.weight {
			ok = ok && m.weight[k][i] >= 0
		}
		if !ok {
			r.Fail("feature %d is out of range", i)
			return
		}
		if m.learned[i] >= ready {
			m.isReady++
		}
		m.compile(boundary, i)
	}
}
