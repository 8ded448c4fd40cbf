//go:build !purego

#include "textflag.h"

DATA absMask<>+0(SB)/4, $0x7fffffff
GLOBL absMask<>(SB), RODATA|NOPTR, $4
DATA leastLog2<>+0(SB)/4, $-115.0
GLOBL leastLog2<>(SB), RODATA|NOPTR, $4
DATA minusLn2<>+0(SB)/4, $-0.693147180559945309417232121458
GLOBL minusLn2<>(SB), RODATA|NOPTR, $4
DATA roundMagic<>+0(SB)/4, $12582912.0
GLOBL roundMagic<>(SB), RODATA|NOPTR, $4
DATA one<>+0(SB)/4, $1.0
GLOBL one<>(SB), RODATA|NOPTR, $4
DATA coef1<>+0(SB)/4, $0.693136752
GLOBL coef1<>(SB), RODATA|NOPTR, $4
DATA coef2<>+0(SB)/4, $0.2402253
GLOBL coef2<>(SB), RODATA|NOPTR, $4
DATA coef3<>+0(SB)/4, $0.0558382832
GLOBL coef3<>(SB), RODATA|NOPTR, $4
DATA coef4<>+0(SB)/4, $0.00965671055
GLOBL coef4<>(SB), RODATA|NOPTR, $4

// AX is the offset into the rows, SI the lane.
#define ARGUMENTS \
	MOVQ dst+0(FP), DI    \
	MOVQ x0+8(FP), R8     \
	MOVQ x1+16(FP), R9    \
	MOVQ x2+24(FP), R10   \
	MOVQ x3+32(FP), R11   \
	MOVQ x4+40(FP), R12   \
	MOVQ p+48(FP), SI     \
	MOVQ lanes+56(FP), CX \
	XORQ AX, AX

// R13 is the offset into the rows of a second window, DX where its results go.
#define SECOND \
	MOVQ next+64(FP), R13 \
	MOVQ dst2+72(FP), DX

// AVX2: a lane in two halves, h = 0 and 32 bytes.

#define CONSTANTS_AVX2 \
	VXORPS Y15, Y15, Y15                 \
	VBROADCASTSS absMask<>(SB), Y14      \
	VBROADCASTSS leastLog2<>(SB), Y13    \
	VBROADCASTSS minusLn2<>(SB), Y12     \
	VBROADCASTSS roundMagic<>(SB), Y11   \
	VBROADCASTSS one<>(SB), Y10          \
	VBROADCASTSS coef4<>(SB), Y9         \
	VBROADCASTSS coef3<>(SB), Y8         \
	VBROADCASTSS coef2<>(SB), Y7         \
	VBROADCASTSS coef1<>(SB), Y6

// TERM_AVX2 leaves weight*|mean-x| of one row in r; for NaN 0, because VMAXPS returns its first operand here, the second of Intel's order.
#define TERM_AVX2(row, at, weight, h, r) \
	VSUBPS h(row)(at*1), Y0, r   \
	VANDPS Y14, r, r             \
	VMAXPS Y15, r, r             \
	VMULPS (weight+h)(SI), r, r

// LOG2_AVX2 leaves log2 p in Y1.
#define LOG2_AVX2(at, h) \
	VMOVUPS h(SI), Y0                \
	TERM_AVX2(R12, at, 320, h, Y1)   \
	TERM_AVX2(R8, at, 64, h, Y2)     \
	TERM_AVX2(R9, at, 128, h, Y3)    \
	TERM_AVX2(R10, at, 192, h, Y4)   \
	TERM_AVX2(R11, at, 256, h, Y5)   \
	VADDPS (384+h)(SI), Y1, Y1       \
	VADDPS Y3, Y2, Y2                \
	VADDPS Y5, Y4, Y4                \
	VADDPS Y4, Y2, Y2                \
	VADDPS Y2, Y1, Y1                \
	VMINPS Y15, Y1, Y1               \
	VMAXPS Y13, Y1, Y1

// SCORE_AVX2 turns log2 p in Y1 into scores.
#define SCORE_AVX2 \
	VADDPS Y11, Y1, Y2           \
	VSUBPS Y11, Y2, Y3           \
	VSUBPS Y3, Y1, Y1            \
	VMULPS Y1, Y1, Y3            \
	VMULPS Y1, Y8, Y4            \
	VADDPS Y7, Y4, Y4            \
	VMULPS Y1, Y6, Y1            \
	VADDPS Y10, Y1, Y1           \
	VMULPS Y3, Y9, Y5            \
	VADDPS Y5, Y4, Y4            \
	VMULPS Y3, Y4, Y4            \
	VADDPS Y4, Y1, Y1            \
	VPSLLD $23, Y2, Y2           \
	VPADDD Y10, Y2, Y2           \
	VMULPS Y2, Y1, Y1            \
	VSUBPS Y1, Y10, Y1

// AVX-512: a lane at once. VRANGEPS $11 is the larger magnitude of two without its sign, and the other one where one is NaN.

#define CONSTANTS_AVX512 \
	VPXORD Z15, Z15, Z15                 \
	VBROADCASTSS leastLog2<>(SB), Z13    \
	VBROADCASTSS minusLn2<>(SB), Z12     \
	VBROADCASTSS one<>(SB), Z10          \
	VBROADCASTSS coef4<>(SB), Z9         \
	VBROADCASTSS coef3<>(SB), Z8         \
	VBROADCASTSS coef2<>(SB), Z7         \
	VBROADCASTSS coef1<>(SB), Z6

#define TERM_AVX512(row, at, weight, r) \
	VSUBPS (row)(at*1), Z16, r   \
	VRANGEPS $11, Z15, r, r      \
	VMULPS weight, r, r

// LANE_AVX512 loads a lane, for one window or two.
#define LANE_AVX512 \
	VMOVUPS (SI), Z16      \
	VMOVUPS 64(SI), Z17    \
	VMOVUPS 128(SI), Z18   \
	VMOVUPS 192(SI), Z19   \
	VMOVUPS 256(SI), Z20   \
	VMOVUPS 320(SI), Z21   \
	VMOVUPS 384(SI), Z22

#define LOG2_AVX512(at) \
	TERM_AVX512(R12, at, Z21, Z1)    \
	TERM_AVX512(R8, at, Z17, Z2)     \
	TERM_AVX512(R9, at, Z18, Z3)     \
	TERM_AVX512(R10, at, Z19, Z4)    \
	TERM_AVX512(R11, at, Z20, Z5)    \
	VADDPS Z22, Z1, Z1               \
	VADDPS Z3, Z2, Z2                \
	VADDPS Z5, Z4, Z4                \
	VADDPS Z4, Z2, Z2                \
	VADDPS Z2, Z1, Z1                \
	VMINPS Z15, Z1, Z1               \
	VMAXPS Z13, Z1, Z1

// SCORE_AVX512 rounds with VRNDSCALEPS and scales with VSCALEFPS; both are exact here.
#define SCORE_AVX512 \
	VRNDSCALEPS $8, Z1, Z2       \
	VSUBPS Z2, Z1, Z1            \
	VMULPS Z1, Z1, Z3            \
	VMULPS Z1, Z8, Z4            \
	VADDPS Z7, Z4, Z4            \
	VMULPS Z1, Z6, Z1            \
	VADDPS Z10, Z1, Z1           \
	VMULPS Z3, Z9, Z5            \
	VADDPS Z5, Z4, Z4            \
	VMULPS Z3, Z4, Z4            \
	VADDPS Z4, Z1, Z1            \
	VSCALEFPS Z2, Z1, Z1         \
	VSUBPS Z1, Z10, Z1

// STREAM_AVX512 writes past the caches in halves, which need to be aligned to 32 bytes only.
#define STREAM_AVX512(to, at) \
	VEXTRACTF32X8 $1, Z1, Y2  \
	VMOVNTPS Y1, (to)(at*1)   \
	VMOVNTPS Y2, 32(to)(at*1)

// func surprisesAVX2(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes int)
TEXT ·surprisesAVX2(SB), NOSPLIT, $0-64
	ARGUMENTS
	CONSTANTS_AVX2
	TESTQ CX, CX
	JLE   done

loop:
	LOG2_AVX2(AX, 0)
	VMULPS Y12, Y1, Y1
	VMOVUPS Y1, 0(DI)(AX*1)
	LOG2_AVX2(AX, 32)
	VMULPS Y12, Y1, Y1
	VMOVUPS Y1, 32(DI)(AX*1)
	ADDQ $64, AX
	ADDQ $448, SI
	DECQ CX
	JNZ  loop

done:
	VZEROUPPER
	RET

// func pairAVX2(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes, next int, dst2 *float32)
TEXT ·pairAVX2(SB), NOSPLIT, $0-80
	ARGUMENTS
	SECOND
	CONSTANTS_AVX2
	TESTQ CX, CX
	JLE   done

loop:
	LOG2_AVX2(AX, 0)
	SCORE_AVX2
	VMOVUPS Y1, 0(DI)(AX*1)
	LOG2_AVX2(AX, 32)
	SCORE_AVX2
	VMOVUPS Y1, 32(DI)(AX*1)
	LOG2_AVX2(R13, 0)
	SCORE_AVX2
	VMOVUPS Y1, 0(DX)(AX*1)
	LOG2_AVX2(R13, 32)
	SCORE_AVX2
	VMOVUPS Y1, 32(DX)(AX*1)
	ADDQ $64, AX
	ADDQ $64, R13
	ADDQ $448, SI
	DECQ CX
	JNZ  loop

done:
	VZEROUPPER
	RET

// func streamPairAVX2(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes, next int, dst2 *float32)
TEXT ·streamPairAVX2(SB), NOSPLIT, $0-80
	ARGUMENTS
	SECOND
	CONSTANTS_AVX2
	TESTQ CX, CX
	JLE   done

loop:
	LOG2_AVX2(AX, 0)
	SCORE_AVX2
	VMOVNTPS Y1, 0(DI)(AX*1)
	LOG2_AVX2(AX, 32)
	SCORE_AVX2
	VMOVNTPS Y1, 32(DI)(AX*1)
	LOG2_AVX2(R13, 0)
	SCORE_AVX2
	VMOVNTPS Y1, 0(DX)(AX*1)
	LOG2_AVX2(R13, 32)
	SCORE_AVX2
	VMOVNTPS Y1, 32(DX)(AX*1)
	ADDQ $64, AX
	ADDQ $64, R13
	ADDQ $448, SI
	DECQ CX
	JNZ  loop

done:
	SFENCE
	VZEROUPPER
	RET

// func surprisesAVX512(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes int)
TEXT ·surprisesAVX512(SB), NOSPLIT, $0-64
	ARGUMENTS
	CONSTANTS_AVX512
	TESTQ CX, CX
	JLE   done

loop:
	LANE_AVX512
	LOG2_AVX512(AX)
	VMULPS Z12, Z1, Z1
	VMOVUPS Z1, (DI)(AX*1)
	ADDQ $64, AX
	ADDQ $448, SI
	DECQ CX
	JNZ  loop

done:
	VZEROUPPER
	RET

// func pairAVX512(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes, next int, dst2 *float32)
TEXT ·pairAVX512(SB), NOSPLIT, $0-80
	ARGUMENTS
	SECOND
	CONSTANTS_AVX512
	TESTQ CX, CX
	JLE   done

loop:
	LANE_AVX512
	LOG2_AVX512(AX)
	SCORE_AVX512
	VMOVUPS Z1, (DI)(AX*1)
	LOG2_AVX512(R13)
	SCORE_AVX512
	VMOVUPS Z1, (DX)(AX*1)
	ADDQ $64, AX
	ADDQ $64, R13
	ADDQ $448, SI
	DECQ CX
	JNZ  loop

done:
	VZEROUPPER
	RET

// func streamPairAVX512(dst, x0, x1, x2, x3, x4 *float32, p *lane, lanes, next int, dst2 *float32)
TEXT ·streamPairAVX512(SB), NOSPLIT, $0-80
	ARGUMENTS
	SECOND
	CONSTANTS_AVX512
	TESTQ CX, CX
	JLE   done

loop:
	LANE_AVX512
	LOG2_AVX512(AX)
	SCORE_AVX512
	STREAM_AVX512(DI, AX)
	LOG2_AVX512(R13)
	SCORE_AVX512
	STREAM_AVX512(DX, AX)
	ADDQ $64, AX
	ADDQ $64, R13
	ADDQ $448, SI
	DECQ CX
	JNZ  loop

done:
	SFENCE
	VZEROUPPER
	RET
