package codec

import (
	"errors"
	"math"
	"testing"
)

func TestThereAndBack(t *testing.T) {
	b := AppendBool(nil, true)
	b = AppendU32(b, 7)
	b = AppendU64(b, math.MaxUint64)
	b = AppendI64(b, -3)
	b = AppendF32(b, float32(math.Inf(-1)))
	b = AppendF64(b, math.Copysign(0, -1))
	b = AppendString(b, "pump")
	r := NewReader(append(b, 9))
	if !r.Bool() || r.U32() != 7 || r.U64() != math.MaxUint64 || r.I64() != -3 || !math.IsInf(float64(r.F32()), -1) ||
		!math.Signbit(r.F64()) || r.String(10) != "pump" || r.Remaining() != 1 || r.U8() != 9 || r.Err() != nil {
		t.Fatalf("read otherwise: %v", r.Err())
	}
}

func TestFirstErrorSticks(t *testing.T) {
	for name, read := range map[string]func(r *Reader){
		"too short":          func(r *Reader) { r.U64(); r.U64() },
		"no truth value":     func(r *Reader) { r.U8(); r.U8(); r.U8(); r.U8(); r.Bool() },
		"more than allowed":  func(r *Reader) { r.Len(2, 1) },
		"more than is there": func(r *Reader) { r.Len(math.MaxInt32, 1000) },
		"string too long":    func(r *Reader) { _ = r.String(2) },
	} {
		r := NewReader([]byte{3, 0, 0, 0, 5, 6, 7, 8, 9})
		read(r)
		first := r.Err()
		r.U64()
		r.Fail("later")
		if !errors.Is(first, ErrCorrupt) || !errors.Is(r.Err(), first) || r.Remaining() != 0 || r.U32() != 0 || len(r.Bytes(9)) != 0 {
			t.Errorf("%s: %v, then %v", name, first, r.Err())
		}
	}
}
