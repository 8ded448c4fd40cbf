//go:build !purego

package bandwidth

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// readAVX2 sums 32*blocks values.
//
//go:noescape
func readAVX2(x *float32, blocks int) float32

// fiveToOneAVX2 adds 8*lanes values of five rows, and writes past the caches: dst must be aligned to 32 bytes.
//
//go:noescape
func fiveToOneAVX2(dst, x0, x1, x2, x3, x4 *float32, lanes int)

func read(x []float32) float32 {
	if !cpu.X86.HasAVX2 || len(x) < 32 {
		return readGo(x)
	}
	return readAVX2(&x[0], len(x)/32) + readGo(x[len(x)&^31:])
}

func fiveToOne(dst, x0, x1, x2, x3, x4 []float32) {
	if !cpu.X86.HasAVX2 || len(dst) < 8 || uintptr(unsafe.Pointer(&dst[0]))%32 != 0 { //nolint:gosec // only the address is looked at
		fiveToOneGo(dst, x0, x1, x2, x3, x4)
		return
	}
	done := len(dst) &^ 7
	fiveToOneAVX2(&dst[0], &x0[0], &x1[0], &x2[0], &x3[0], &x4[0], done/8)
	fiveToOneGo(dst[done:], x0[done:], x1[done:], x2[done:], x3[done:], x4[done:])
}
