// Package codec reads the little-endian fields of a machine's snapshot without trusting them.
//
// Writing needs no help beyond encoding/binary's Append functions and the few here. A Reader never panics and never
// asks for more memory than the input could fill: its first error sticks, and everything read after it is zero.
package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrCorrupt is wrapped by every error of a Reader.
var ErrCorrupt = errors.New("corrupt snapshot")

// Reader takes fields from the front of a byte slice. The zero value reads an empty input.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads src, which must not change meanwhile.
func NewReader(src []byte) *Reader { return &Reader{b: src} }

// Err is the first error, or nil.
func (r *Reader) Err() error { return r.err }

// Remaining is the number of bytes not read yet; 0 after an error.
func (r *Reader) Remaining() int { return len(r.b) }

// Fail makes err the Reader's error unless it has one already.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	r.b = nil
}

func (r *Reader) take(n int) []byte {
	if n > len(r.b) {
		r.Fail("%d bytes wanted, %d left", n, len(r.b))
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

// U8 reads one byte.
func (r *Reader) U8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// Bool reads one byte that must be 0 or 1.
func (r *Reader) Bool() bool {
	v := r.U8()
	if v > 1 {
		r.Fail("%d is no truth value", v)
	}
	return v == 1
}

// U32 reads four bytes.
func (r *Reader) U32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// U64 reads eight bytes.
func (r *Reader) U64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// I64 reads eight bytes.
func (r *Reader) I64() int64 { return int64(r.U64()) }

// F32 reads the bits of a float32.
func (r *Reader) F32() float32 { return math.Float32frombits(r.U32()) }

// F64 reads the bits of a float64.
func (r *Reader) F64() float64 { return math.Float64frombits(r.U64()) }

// Len reads a count of items of at least itemSize bytes each (itemSize >= 1), refusing more than limit and more than what is left
// could hold, so that the caller may allocate for it.
func (r *Reader) Len(limit, itemSize int) int {
	n := r.U32()
	if r.err == nil && (uint64(n) > uint64(limit) || uint64(n)*uint64(itemSize) > uint64(len(r.b))) {
		r.Fail("count of %d is too large", n)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// Bytes reads a count and that many bytes, at most limit. The result aliases the input.
func (r *Reader) Bytes(limit int) []byte { return r.take(r.Len(limit, 1)) }

// String is Bytes, copied.
func (r *Reader) String(limit int) string { return string(r.Bytes(limit)) }

// AppendBool appends one byte.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendU32 appends four bytes.
func AppendU32(dst []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(dst, v) }

// AppendU64 appends eight bytes.
func AppendU64(dst []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(dst, v) }

// AppendI64 appends eight bytes.
func AppendI64(dst []byte, v int64) []byte { return AppendU64(dst, uint64(v)) }

// AppendF32 appends the bits of v.
func AppendF32(dst []byte, v float32) []byte { return AppendU32(dst, math.Float32bits(v)) }

// AppendF64 appends the bits of v.
func AppendF64(dst []byte, v float64) []byte { return AppendU64(dst, math.Float64bits(v)) }

// AppendString appends a count and the bytes.
func AppendString(dst []byte, s string) []byte {
	return append(AppendU32(dst, uint32(len(s))), s...)
}
