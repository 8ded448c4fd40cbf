package onset

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// history counts distances by their logarithm. 72 bytes.
type history [bins]uint16

const (
	bins    = 36
	perE    = 5.0  // bins per factor of e
	lowest  = -1.0 // logarithm of the lowest bin's lower edge; what is below counts in it
	fewest  = 10   // distances in the tail that is extrapolated,
	inTail  = 0.02 // or their share
	usually = 0.35 // mean excess of the logarithm that is believed before any is seen: p falls with the third power of the distance
	belief  = 5    // distances that this belief is worth
)

// bin is the bin of a distance, and how far up in it that lies.
func bin(x float64) (b int, share float64) {
	if !(x > 0) {
		return 0, 0
	}
	at := max(0, min((math.Log(x)-lowest)*perE, bins-1e-9))
	return int(at), at - math.Floor(at)
}

// add counts one more distance. A bin that is full halves all of them.
func (h *history) add(x float64) {
	b, _ := bin(x)
	if h[b] == math.MaxUint16 {
		for i := range h {
			h[i] /= 2
		}
	}
	h[b]++
}

// surprise is -ln of the share of distances as far as x; 0 while there are few. Inside a bin they are taken to be spread evenly.
func (h *history) surprise(x float64) float64 {
	b, share := bin(x)
	var n, beyond float64
	for i, c := range h {
		n += float64(c)
		if i > b {
			beyond += float64(c)
		}
	}
	if n < burnIn {
		return 0
	}
	beyond += (1 - share) * float64(h[b])
	tail := max(fewest, inTail*n)
	if beyond >= tail {
		return -math.Log((beyond + 0.5) / (n + 1))
	}
	from, some := bins, 0.0
	for from > 1 && some < tail {
		from--
		some += float64(h[from])
	}
	edge := lowest + float64(from)/perE
	var excess float64
	for i := from; i < bins; i++ {
		excess += float64(h[i]) * (lowest + (float64(i)+0.5)/perE - edge)
	}
	mean := (excess + usually*belief) / (some + belief)
	return -math.Log((some+0.5)/(n+1)) + max(0, math.Log(x)-edge)/mean
}

func (h *history) appendState(dst []byte) []byte {
	for _, n := range h {
		dst = append(dst, byte(n), byte(n>>8))
	}
	return dst
}

func (h *history) restoreState(r *codec.Reader) {
	for i := range h {
		h[i] = u16(r)
	}
}

func u16(r *codec.Reader) uint16 {
	low := uint16(r.U8())
	return low | uint16(r.U8())<<8
}
