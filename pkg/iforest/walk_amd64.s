//go:build !purego

#include "textflag.h"

// func walk(nodes *uint64, path *float32, keys *uint64, sums *float64, groups, stride, depth int)
//
// A step of a row: AX is its node, with split, left and feature*64 from high to low. The row's key of that feature stands at feature*64 in its group, 8 bytes for each of
// the group's rows. The comparison leaves "the node is below the key" in the carry, which ADC adds to left.
TEXT ·walk(SB), NOSPLIT, $8-56
	MOVQ nodes+0(FP), SI
	MOVQ path+8(FP), DX
	MOVQ keys+16(FP), DI
	MOVQ sums+24(FP), BX

group:
	MOVQ depth+48(FP), AX
	MOVQ AX, left-8(SP)
	XORL R8, R8
	XORL R9, R9
	XORL R10, R10
	XORL R11, R11
	XORL R12, R12
	XORL R13, R13
	XORL R14, R14
	XORL R15, R15
	TESTQ AX, AX
	JEQ  ends

down:
	MOVQ    (SI)(R8*8), AX
	MOVWLZX AX, CX
	MOVL    AX, R8
	SHRL    $16, R8
	CMPQ    AX, 0(DI)(CX*1)
	ADCL    $0, R8
	MOVQ    (SI)(R9*8), AX
	MOVWLZX AX, CX
	MOVL    AX, R9
	SHRL    $16, R9
	CMPQ    AX, 8(DI)(CX*1)
	ADCL    $0, R9
	MOVQ    (SI)(R10*8), AX
	MOVWLZX AX, CX
	MOVL    AX, R10
	SHRL    $16, R10
	CMPQ    AX, 16(DI)(CX*1)
	ADCL    $0, R10
	MOVQ    (SI)(R11*8), AX
	MOVWLZX AX, CX
	MOVL    AX, R11
	SHRL    $16, R11
	CMPQ    AX, 24(DI)(CX*1)
	ADCL    $0, R11
	MOVQ    (SI)(R12*8), AX
	MOVWLZX AX, CX
	MOVL    AX, R12
	SHRL    $16, R12
	CMPQ    AX, 32(DI)(CX*1)
	ADCL    $0, R12
	MOVQ    (SI)(R13*8), AX
	MOVWLZX AX, CX
	MOVL    AX, R13
	SHRL    $16, R13
	CMPQ    AX, 40(DI)(CX*1)
	ADCL    $0, R13
	MOVQ    (SI)(R14*8), AX
	MOVWLZX AX, CX
	MOVL    AX, R14
	SHRL    $16, R14
	CMPQ    AX, 48(DI)(CX*1)
	ADCL    $0, R14
	MOVQ    (SI)(R15*8), AX
	MOVWLZX AX, CX
	MOVL    AX, R15
	SHRL    $16, R15
	CMPQ    AX, 56(DI)(CX*1)
	ADCL    $0, R15
	DECQ    left-8(SP)
	JNZ     down

ends:
	CVTSS2SD (DX)(R8*4), X0
	ADDSD    0(BX), X0
	MOVSD    X0, 0(BX)
	CVTSS2SD (DX)(R9*4), X1
	ADDSD    8(BX), X1
	MOVSD    X1, 8(BX)
	CVTSS2SD (DX)(R10*4), X2
	ADDSD    16(BX), X2
	MOVSD    X2, 16(BX)
	CVTSS2SD (DX)(R11*4), X3
	ADDSD    24(BX), X3
	MOVSD    X3, 24(BX)
	CVTSS2SD (DX)(R12*4), X4
	ADDSD    32(BX), X4
	MOVSD    X4, 32(BX)
	CVTSS2SD (DX)(R13*4), X5
	ADDSD    40(BX), X5
	MOVSD    X5, 40(BX)
	CVTSS2SD (DX)(R14*4), X6
	ADDSD    48(BX), X6
	MOVSD    X6, 48(BX)
	CVTSS2SD (DX)(R15*4), X7
	ADDSD    56(BX), X7
	MOVSD    X7, 56(BX)
	ADDQ     stride+40(FP), DI
	ADDQ     $64, BX
	DECQ     groups+32(FP)
	JNZ      group
	RET
