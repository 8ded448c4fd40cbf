package columnar

import (
	"encoding/binary"
	"math/bits"
)

// The format's block: 128 differences in four groups, each with its own width.
const (
	deltaBlock  = 128
	deltaGroups = 4
	deltaGroup  = deltaBlock / deltaGroups
)

// appendDelta appends DELTA_BINARY_PACKED. With narrow, values and differences are of 32 bits.
func appendDelta(dst []byte, values []int64, narrow bool) []byte {
	dst = binary.AppendUvarint(dst, deltaBlock)
	dst = binary.AppendUvarint(dst, deltaGroups)
	dst = binary.AppendUvarint(dst, uint64(len(values)))
	var last int64
	if len(values) > 0 {
		last = values[0]
		values = values[1:]
	}
	dst = binary.AppendVarint(dst, last)
	var block [deltaBlock]int64
	for len(values) > 0 {
		n := min(deltaBlock, len(values))
		least := int64(0)
		for i, v := range values[:n] {
			d := v - last // wraps, and the reader wraps back
			if narrow {
				d = int64(int32(d))
			}
			block[i], last = d, v
			if i == 0 || d < least {
				least = d
			}
		}
		values = values[n:]
		dst = appendDeltaBlock(dst, block[:n], least, narrow)
	}
	return dst
}

// appendDeltaBlock appends one block.
func appendDeltaBlock(dst []byte, differences []int64, least int64, narrow bool) []byte {
	dst = binary.AppendVarint(dst, least)
	widths := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	var group [deltaGroup]uint64
	for g := 0; len(differences) > 0; g++ {
		n := min(deltaGroup, len(differences))
		group = [deltaGroup]uint64{}
		var all uint64
		for i, d := range differences[:n] {
			v := uint64(d - least)
			if narrow {
				v = uint64(uint32(v))
			}
			group[i] = v
			all |= v
		}
		differences = differences[n:]
		width := uint(bits.Len64(all))
		dst[widths+g] = byte(width)
		dst = appendWide(dst, &group, width)
	}
	return dst
}

// appendWide packs a group of values of up to 64 bits.
func appendWide(dst []byte, group *[deltaGroup]uint64, width uint) []byte {
	if width <= 32 {
		return appendBits(dst, group[:], width)
	}
	at := len(dst)
	dst = append(dst, make([]byte, deltaGroup/8*int(width)+8)...)
	bit := uint(0)
	for _, v := range group {
		i, off := at+int(bit/8), bit%8
		binary.LittleEndian.PutUint64(dst[i:], binary.LittleEndian.Uint64(dst[i:])|v<<off)
		if off > 0 {
			dst[i+8] |= byte(v >> (64 - off))
		}
		bit += width
	}
	return dst[:len(dst)-8]
}
