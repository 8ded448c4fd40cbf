//go:build !purego

package wide

// Each kernel works on the given number of whole lanes. Those of scores judge two windows at once, which share the lanes' way from the level 2 cache: the second
// lies next bytes behind the first in every row, and its scores go to dst2.

// surprisesAVX2 is logsGo and surprisesGo.
//
//go:noescape
func surprisesAVX2(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes int)

// pairAVX2 is logsGo and scoresGo of two windows.
//
//go:noescape
func pairAVX2(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes, next int, dst2 *float32)

// streamPairAVX2 is pairAVX2, and writes past the caches: dst and dst2 must be aligned to 32 bytes.
//
//go:noescape
func streamPairAVX2(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes, next int, dst2 *float32)

// surprisesAVX512 is surprisesAVX2 in registers twice as wide.
//
//go:noescape
func surprisesAVX512(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes int)

// pairAVX512 is pairAVX2 in registers twice as wide.
//
//go:noescape
func pairAVX512(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes, next int, dst2 *float32)

// streamPairAVX512 is streamPairAVX2 in registers twice as wide.
//
//go:noescape
func streamPairAVX512(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes, next int, dst2 *float32)
