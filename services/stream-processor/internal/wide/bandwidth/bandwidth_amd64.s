//go:build !purego

#include "textflag.h"

// func readAVX2(x *float32, blocks int) float32
TEXT ·readAVX2(SB), NOSPLIT, $0-20
	MOVQ   x+0(FP), SI
	MOVQ   blocks+8(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3

loop:
	VADDPS (SI), Y0, Y0
	VADDPS 32(SI), Y1, Y1
	VADDPS 64(SI), Y2, Y2
	VADDPS 96(SI), Y3, Y3
	ADDQ   $128, SI
	DECQ   CX
	JNZ    loop

	VADDPS       Y1, Y0, Y0
	VADDPS       Y3, Y2, Y2
	VADDPS       Y2, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS       X1, X0, X0
	VHADDPS      X0, X0, X0
	VHADDPS      X0, X0, X0
	VZEROUPPER
	MOVSS        X0, ret+16(FP)
	RET

// func fiveToOneAVX2(dst, x0, x1, x2, x3, x4 *float32, lanes int)
TEXT ·fiveToOneAVX2(SB), NOSPLIT, $0-56
	MOVQ dst+0(FP), DI
	MOVQ x0+8(FP), R8
	MOVQ x1+16(FP), R9
	MOVQ x2+24(FP), R10
	MOVQ x3+32(FP), R11
	MOVQ x4+40(FP), R12
	MOVQ lanes+48(FP), CX
	XORQ AX, AX

loop:
	VMOVUPS  (R8)(AX*1), Y0
	VADDPS   (R9)(AX*1), Y0, Y0
	VADDPS   (R10)(AX*1), Y0, Y0
	VADDPS   (R11)(AX*1), Y0, Y0
	VADDPS   (R12)(AX*1), Y0, Y0
	VMOVNTPS Y0, (DI)(AX*1)
	ADDQ     $32, AX
	DECQ     CX
	JNZ      loop

	SFENCE
	VZEROUPPER
	RET
