//go:build !purego

package wide

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// best is the fastest kernel that this processor has.
func best() kernel {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ:
		return avx512
	case cpu.X86.HasAVX2:
		return avx2
	}
	return plainGo
}

// surprises is logsGo and surprisesGo, on many features at once where the kernel can.
func (k kernel) surprises(dst []float32, x *window, lanes []lane) {
	done := 0
	if whole := len(dst) / laneWidth; k != plainGo && whole > 0 {
		checkShapes(len(dst), x, lanes)
		do := surprisesAVX2
		if k == avx512 {
			do = surprisesAVX512
		}
		do(&dst[0], &x[0][0], &x[1][0], &x[2][0], &x[3][0], &x[4][0], &lanes[0], whole)
		done = whole * laneWidth
	}
	if done < len(dst) {
		rest := x.from(done)
		logsGo(dst[done:], &rest, lanes[done/laneWidth:])
		surprisesGo(dst[done:])
	}
}

// scorePair is logsGo and scoresGo of two windows, y being the given number of values behind x in each row.
func (k kernel) scorePair(dst, dst2 []float32, x, y *window, behind int, lanes []lane) {
	done := 0
	if whole := len(dst) / laneWidth; k != plainGo && whole > 0 {
		checkShapes(len(dst), x, lanes)
		checkShapes(len(dst2), y, lanes)
		_ = dst2[len(dst)-1]
		do := pairAVX2
		switch stream := aligned(dst) && aligned(dst2); {
		case k == avx512 && stream:
			do = streamPairAVX512
		case k == avx512:
			do = pairAVX512
		case stream:
			do = streamPairAVX2
		}
		do(&dst[0], &x[0][0], &x[1][0], &x[2][0], &x[3][0], &x[4][0], &lanes[0], whole, 4*behind, &dst2[0])
		done = whole * laneWidth
	}
	if done < len(dst) {
		plainPair(dst[done:], dst2[done:], x.from(done), y.from(done), lanes[done/laneWidth:])
	}
}

func aligned(x []float32) bool {
	return uintptr(unsafe.Pointer(&x[0]))%32 == 0 //nolint:gosec // only the address is looked at
}

// checkShapes panics before assembler reads beyond a slice.
func checkShapes(n int, x *window, lanes []lane) {
	for k := range x {
		_ = x[k][n-1]
	}
	_ = lanes[(n+laneWidth-1)/laneWidth-1]
}
