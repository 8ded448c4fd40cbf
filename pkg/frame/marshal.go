package frame

import (
	"encoding/binary"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

const tagSize = 1 // every field number of SensorFrame is below 16

// Size is the length in bytes of f's canonical encoding.
func (f *Frame) Size() int {
	n := sizeString(len(f.EquipmentID)) + sizeString(len(f.GatewayID)) + sizeString(len(f.SchemaID))
	if f.Sequence != 0 {
		n += tagSize + protowire.SizeVarint(f.Sequence)
	}
	if f.BaseTimeUS != 0 {
		n += tagSize + protowire.SizeVarint(protowire.EncodeZigZag(f.BaseTimeUS))
	}
	for _, s := range f.Sensors {
		n += tagSize + protowire.SizeBytes(len(s))
	}
	return n + sizeString(f.sizeOffsets()) + sizeString(4*len(f.Values)) + sizeString(f.sizeQualities())
}

// AppendTo appends f's canonical encoding to dst: fields in order of their numbers, zero values left out, numbers
// packed; the bytes that the generated code writes deterministically. Fields that Unmarshal skipped are not in it.
// It does not check f. It allocates only when dst is too small.
func (f *Frame) AppendTo(dst []byte) []byte {
	dst = slices.Grow(dst, f.Size())
	dst = appendString(dst, numEquipmentID, f.EquipmentID)
	dst = appendString(dst, numGatewayID, f.GatewayID)
	if f.Sequence != 0 {
		dst = binary.AppendUvarint(append(dst, numSequence<<3|byte(protowire.VarintType)), f.Sequence)
	}
	if f.BaseTimeUS != 0 {
		dst = append(dst, numBaseTimeUS<<3|byte(protowire.VarintType))
		dst = binary.AppendUvarint(dst, protowire.EncodeZigZag(f.BaseTimeUS))
	}
	if n := f.sizeOffsets(); n > 0 {
		dst = appendLen(dst, numOffsetsUS, n)
		for _, v := range f.OffsetsUS {
			dst = binary.AppendUvarint(dst, v)
		}
	}
	for _, s := range f.Sensors {
		dst = append(appendLen(dst, numSensors, len(s)), s...)
	}
	dst = appendString(dst, numSchemaID, f.SchemaID)
	if len(f.Values) > 0 {
		dst = appendLen(dst, numValues, 4*len(f.Values))
		dst = appendFloats(dst, f.Values)
	}
	if n := f.sizeQualities(); n > 0 {
		dst = appendLen(dst, numQualities, n)
		if n == len(f.Qualities) {
			return append(dst, f.Qualities...)
		}
		for _, q := range f.Qualities {
			dst = binary.AppendUvarint(dst, uint64(q))
		}
	}
	return dst
}

func (f *Frame) sizeOffsets() int {
	n := 0
	for _, v := range f.OffsetsUS {
		n += protowire.SizeVarint(v)
	}
	return n
}

func (f *Frame) sizeQualities() int {
	n := len(f.Qualities)
	for _, q := range f.Qualities {
		n += int(q >> 7)
	}
	return n
}

// appendFloats writes values little-endian; dst has room for them.
func appendFloats(dst []byte, values []float32) []byte {
	at := len(dst)
	dst = dst[:at+4*len(values)]
	out := dst[at:]
	for len(values) >= 4 && len(out) >= 16 {
		binary.LittleEndian.PutUint32(out, math.Float32bits(values[0]))
		binary.LittleEndian.PutUint32(out[4:], math.Float32bits(values[1]))
		binary.LittleEndian.PutUint32(out[8:], math.Float32bits(values[2]))
		binary.LittleEndian.PutUint32(out[12:], math.Float32bits(values[3]))
		values, out = values[4:], out[16:]
	}
	for i, v := range values {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
	}
	return dst
}

func appendLen(dst []byte, num, n int) []byte {
	return binary.AppendUvarint(append(dst, byte(num)<<3|byte(protowire.BytesType)), uint64(n))
}

func appendString(dst []byte, num int, s []byte) []byte {
	if len(s) == 0 {
		return dst
	}
	return append(appendLen(dst, num, len(s)), s...)
}

// sizeString is the size of a length-delimited field that is left out when empty.
func sizeString(n int) int {
	if n == 0 {
		return 0
	}
	return tagSize + protowire.SizeBytes(n)
}
