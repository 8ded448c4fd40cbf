// Package rowhash is the fingerprint of a set of rows that does not depend on their order: the sum, modulo 2^64, of a
// 64-bit hash of each row. Rows are hashed in log order when they are written and in file order when they are read back.
// It finds damage and accidents (a lost, doubled or changed row escapes with probability 2^-64); it is no
// defence against someone who forges rows.
package rowhash

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Hash of one row, fed field by field. The zero value is ready.
type Hash struct{ state uint64 }

const (
	k0 = 0x9e3779b97f4a7c15 // 2^64 / golden ratio
	k1 = 0xd1b54a32d192ed03 // an odd constant without pattern
)

// fold multiplies to 128 bits and folds the halves: each input bit reaches each output bit.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Uint adds a number.
func (h *Hash) Uint(v uint64) { h.state = fold(h.state^v^k0, k1) + v }

// Int adds a number.
func (h *Hash) Int(v int64) { h.Uint(uint64(v)) }

// Float adds a number. All NaNs are alike.
func (h *Hash) Float(v float64) {
	if v != v {
		v = math.NaN()
	}
	h.Uint(math.Float64bits(v))
}

// Bool adds a flag.
func (h *Hash) Bool(v bool) {
	if v {
		h.Uint(1)
	} else {
		h.Uint(0)
	}
}

// String adds a string with its length, so that neighbours cannot trade bytes.
func (h *Hash) String(s string) { h.Uint(Of(s)) }

// Of is the hash of a string on its own, for strings that come again and again.
func Of(s string) uint64 {
	x := uint64(len(s)) * k0
	for len(s) >= 8 {
		x = fold(x^binary.LittleEndian.Uint64([]byte(s[:8])), k1)
		s = s[8:]
	}
	var tail [8]byte
	copy(tail[:], s)
	return fold(x^binary.LittleEndian.Uint64(tail[:]), k0^k1)
}

// Sum is the row's hash.
func (h *Hash) Sum() uint64 { return fold(h.state^k1, k0) }
