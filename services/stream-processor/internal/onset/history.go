package onset

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// history counts distances by their logarithm. 132 bytes.
type history struct {
	total  uint32
	counts [bins]uint16
}

const (
	bins    = 64
	perE    = 6.0  // bins per factor of e
	lowest  = -1.0 // logarithm of the lowest bin's lower edge; what is below counts in it
	fewest  = 10   // distances in the tail that is extrapolated,
	inTail  = 0.02 // or their share
	usually = 0.35 // mean excess of the logarithm that is believed before any is seen: p falls with the third power of the distance
	belief  = 5    // distances that this belief is worth
)

func bin(x float64) int {
	if !(x > 0) {
		return 0
	}
	return int(max(0, min((math.Log(x)-lowest)*perE, bins-1)))
}

// add counts one more distance. A bin that is full halves all of them.
func (h *history) add(x float64) {
	b := bin(x)
	if h.counts[b] == math.MaxUint16 {
		h.total = 0
		for i := range h.counts {
			h.counts[i] /= 2
			h.total += uint32(h.counts[i])
		}
	}
	h.counts[b]++
	h.total++
}

// surprise is -ln of the share of distances as far as x; 0 while there are few. It does not fall with x, but for the half of a bin's own count.
func (h *history) surprise(x float64) float64 {
	if h.total < burnIn {
		return 0
	}
	n, b := float64(h.total), bin(x)
	beyond := 0.5 * float64(h.counts[b])
	for _, c := range h.counts[b+1:] {
		beyond += float64(c)
	}
	tail := max(fewest, inTail*n)
	if beyond >= tail {
		return -math.Log((beyond + 0.5) / (n + 1))
	}
	from, some := bins, 0.0
	for from > 1 && some < tail {
		from--
		some += float64(h.counts[from])
	}
	edge := lowest + float64(from)/perE
	var excess float64
	for i := from; i < bins; i++ {
		excess += float64(h.counts[i]) * (lowest + (float64(i)+0.5)/perE - edge)
	}
	mean := (excess + usually*belief) / (some + belief)
	return -math.Log((some+0.5)/(n+1)) + max(0, math.Log(x)-edge)/mean
}

func (h *history) appendState(dst []byte) []byte {
	for _, n := range h.counts {
		dst = append(dst, byte(n), byte(n>>8))
	}
	return dst
}

func (h *history) restoreState(r *codec.Reader) {
	h.total = 0
	for i := range h.counts {
		h.counts[i] = uint16(r.U8()) | uint16(r.U8())<<8
		h.total += uint32(h.counts[i])
	}
}
