package columnar

import "encoding/binary"

// run is n rows of the same value.
type run = runOf[uint32]

// minRun is the shortest run that is stored as one: shorter ones are packed, as the format's groups are of eight.
const minRun = 8

// appendRuns appends the RLE / bit-packing hybrid of the runs; width bits per value.
func appendRuns(dst []byte, runs []run, width uint) []byte {
	var open []uint32 // values that are packed together
	for _, r := range runs {
		n := r.n
		if pad := -len(open) & 7; pad > 0 { // a packed part holds whole groups
			pad := min(uint32(pad), n)
			for range pad {
				open = append(open, r.value)
			}
			n -= pad
		}
		switch {
		case n >= minRun:
			dst, open = appendPacked(dst, open, width), open[:0]
			dst = binary.AppendUvarint(dst, uint64(n)<<1)
			for i := uint(0); i < width; i += 8 {
				dst = append(dst, byte(r.value>>i))
			}
		default:
			for range n {
				open = append(open, r.value)
			}
		}
	}
	return appendPacked(dst, open, width)
}

// appendPacked appends values as one packed part.
func appendPacked(dst []byte, values []uint32, width uint) []byte {
	if len(values) == 0 {
		return dst
	}
	groups := (len(values) + 7) / 8
	dst = binary.AppendUvarint(dst, uint64(groups)<<1|1)
	end := len(dst) + groups*int(width)
	dst = appendBits(dst, values, width)
	for len(dst) < end {
		dst = append(dst, 0)
	}
	return dst
}

// appendBits packs values, the least significant bit first. width is 0 to 32.
func appendBits[T uint32 | uint64](dst []byte, values []T, width uint) []byte {
	switch width {
	case 0:
		return dst
	case 8:
		for _, v := range values {
			dst = append(dst, byte(v))
		}
		return dst
	case 16:
		for _, v := range values {
			dst = append(dst, byte(v), byte(v>>8))
		}
		return dst
	}
	at := len(dst)
	size := (len(values)*int(width) + 7) / 8
	dst = append(dst, make([]byte, size+8)...) // room for the last word
	var word uint64
	var bits uint
	for _, v := range values {
		word |= uint64(v) << (bits & 63)
		if bits += width; bits >= 32 {
			binary.LittleEndian.PutUint32(dst[at:], uint32(word))
			at, word, bits = at+4, word>>32, bits-32
		}
	}
	binary.LittleEndian.PutUint64(dst[at:], word)
	return dst[:len(dst)-8]
}
