package machine

import (
	"math"
	"strconv"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	mostEarlier  = 8   // episodes that ended and are remembered, of all causes
	earlierNames = 4   // sensors remembered of each
	leastAlike   = 0.5 // similarity below which two episodes have nothing to do with each other
)

// earlier is an episode that ended: who drove it at its worst. 56 bytes; machines without episodes have none.
type earlier struct {
	startedUS, endedUS int64
	cause              cause
	n                  uint8
	slots              [earlierNames]int32
	shares             [earlierNames]float32
}

// remember takes an episode that ends now; the oldest gives way.
func (m *Machine) remember(c cause, endedUS int64) {
	e := &m.episodes[c]
	if len(e.evidence) == 0 {
		return
	}
	if len(m.earlier) == mostEarlier {
		m.earlier = m.earlier[:copy(m.earlier, m.earlier[1:])]
	}
	k := earlier{startedUS: e.startedUS, endedUS: endedUS, cause: c}
	for i := range e.evidence {
		if k.n == earlierNames {
			break
		}
		k.slots[k.n], k.shares[k.n] = e.evidence[i].slot, e.evidence[i].share
		k.n++
	}
	m.earlier = append(m.earlier, k)
}

// alike is the cosine of the two vectors of shares.
func (k *earlier) alike(evid []evidence) float64 {
	var dot, a, b float64
	for i := range evid {
		x := float64(evid[i].share)
		a += x * x
	}
	for j := range k.n {
		s := float64(k.shares[j])
		b += s * s
		for i := range evid {
			if evid[i].slot == k.slots[j] {
				dot += s * float64(evid[i].share)
			}
		}
	}
	if !(a*b > 0) {
		return 0
	}
	return min(dot/math.Sqrt(a*b), 1)
}

// nearest is the remembered episode of a cause that is most like the evidence, the newest of equal ones; nil if none is.
func (m *Machine) nearest(c cause, evid []evidence) *eventv1.EarlierEpisode {
	best, found := leastAlike, -1
	for i := range m.earlier {
		if m.earlier[i].cause != c {
			continue
		}
		if s := m.earlier[i].alike(evid); s >= best {
			best, found = s, i
		}
	}
	if found < 0 {
		return nil
	}
	k := &m.earlier[found]
	return &eventv1.EarlierEpisode{
		EpisodeId: m.id + "/" + c.String() + "/" + strconv.FormatInt(k.startedUS, 10), StartedUs: k.startedUS, EndedUs: k.endedUS, Similarity: best,
	}
}

// spoke names the detectors of the contributions once each, in their order.
func spoke(contributions []*eventv1.Contribution) []string {
	var out []string
next:
	for _, c := range contributions {
		for _, name := range out {
			if name == c.Detector {
				continue next
			}
		}
		out = append(out, c.Detector)
	}
	return out
}

func (m *Machine) appendEarlier(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(m.earlier)))
	for i := range m.earlier {
		k := &m.earlier[i]
		dst = codec.AppendI64(dst, k.startedUS)
		dst = codec.AppendI64(dst, k.endedUS)
		dst = append(dst, byte(k.cause), k.n)
		for j := range k.slots {
			dst = codec.AppendU32(dst, uint32(k.slots[j]))
			dst = codec.AppendF32(dst, k.shares[j])
		}
	}
	return dst
}

func (m *Machine) restoreEarlier(r *codec.Reader) {
	n := r.Len(mostEarlier, 18+8*earlierNames)
	for range n {
		k := earlier{startedUS: r.I64(), endedUS: r.I64(), cause: cause(r.U8()), n: r.U8()}
		if k.cause >= causes || k.n > earlierNames {
			r.Fail("earlier episode out of range")
		}
		for j := range k.slots {
			k.slots[j], k.shares[j] = int32(r.U32()), r.F32()
		}
		if r.Err() != nil {
			return
		}
		m.earlier = append(m.earlier, k)
	}
}
