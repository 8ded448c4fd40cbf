package frame

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of tocsin.event.v1.SensorFrame.
const (
	numEquipmentID = 1
	numGatewayID   = 2
	numSequence    = 3
	numBaseTimeUS  = 4
	numOffsetsUS   = 5
	numSensors     = 6
	numSchemaID    = 7
	numValues      = 8
	numQualities   = 9
)

// What Unmarshal refuses a message for. Both mean that the sender is at fault and that no retry will help.
var (
	ErrMalformed   = errors.New("not a protobuf SensorFrame")
	ErrInvalidUTF8 = errors.New("string field holds invalid UTF-8")
)

// Unmarshal replaces f by the SensorFrame encoded in src, as any conforming proto3 parser would: fields in any order,
// the last scalar wins, repeated numbers packed or not or both, unknown fields skipped. Its strings alias src.
//
// It reads src once and allocates only when f's slices are too small; what it allocates is bounded by 12 times
// len(src) (a slice header for each two-byte empty sensor name): see UnmarshalLimit. On an error f's content is undefined.
func (f *Frame) Unmarshal(src []byte) error { return f.UnmarshalLimit(src, math.MaxInt) }

// UnmarshalLimit is Unmarshal for untrusted input: it stops with a *FieldError as soon as a repeated
// field holds more than maxElements, before the memory for them is taken.
func (f *Frame) UnmarshalLimit(src []byte, maxElements int) error {
	f.Reset()
	for b := src; len(b) > 0; {
		if b[0] == sensorsTag {
			var err error
			if b, err = f.sensorRun(b, maxElements); err != nil {
				return err
			}
			if len(b) == 0 {
				return nil
			}
		}
		tag, n := consumeVarint(b)
		if n == 0 {
			return ErrMalformed
		}
		b = b[n:]
		num := tag >> 3
		if num < uint64(protowire.MinValidNumber) || num > uint64(protowire.MaxValidNumber) {
			return ErrMalformed
		}
		var err error
		if b, err = f.field(b, protowire.Number(num), protowire.Type(tag&7), maxElements); err != nil {
			return err
		}
	}
	return nil
}

const sensorsTag = numSensors<<3 | byte(protowire.BytesType)

// sensorRun decodes the sensor names in front of b, as long as their lengths fit one byte: most of a frame's fields, and most of the
// cost of decoding them one by one would be finding out what they are. It returns what follows them.
func (f *Frame) sensorRun(b []byte, maxElements int) ([]byte, error) {
	names := f.Sensors
	for len(b) >= 2 && b[0] == sensorsTag && b[1] < 0x80 {
		end := 2 + int(b[1])
		if end > len(b) {
			return nil, ErrMalformed
		}
		name := b[2:end:end]
		if !ascii(name) && !utf8.Valid(name) {
			return nil, ErrInvalidUTF8
		}
		if len(names) >= maxElements {
			return nil, tooMany("sensors", maxElements)
		}
		names = append(names, name)
		b = b[end:]
	}
	f.Sensors = names
	return b, nil
}

// ascii tells whether s is surely valid UTF-8, eight bytes at a time; the last eight may overlap the ones before.
func ascii(s []byte) bool {
	const high = 0x8080808080808080
	if len(s) < 8 {
		var or byte
		for _, c := range s {
			or |= c
		}
		return or < 0x80
	}
	for i := 8; i < len(s); i += 8 {
		if binary.LittleEndian.Uint64(s[i-8:])&high != 0 {
			return false
		}
	}
	return binary.LittleEndian.Uint64(s[len(s)-8:])&high == 0
}

// field decodes one field's value from the front of b and returns what follows it.
func (f *Frame) field(b []byte, num protowire.Number, typ protowire.Type, maxElements int) ([]byte, error) {
	switch {
	case typ == protowire.BytesType && num >= numEquipmentID && num <= numQualities && num != numSequence && num != numBaseTimeUS:
		size, n := consumeVarint(b)
		if n == 0 || size > uint64(len(b)-n) {
			return nil, ErrMalformed
		}
		end := n + int(size)
		return b[end:], f.bytesField(b[n:end:end], num, maxElements)

	case typ == protowire.VarintType && (num == numSequence || num == numBaseTimeUS || num == numOffsetsUS || num == numQualities):
		v, n := consumeVarint(b)
		if n == 0 {
			return nil, ErrMalformed
		}
		switch num {
		case numSequence:
			f.Sequence = v
		case numBaseTimeUS:
			f.BaseTimeUS = protowire.DecodeZigZag(v)
		case numOffsetsUS:
			if len(f.OffsetsUS) >= maxElements {
				return nil, tooMany("time_offsets_us", maxElements)
			}
			f.OffsetsUS = append(f.OffsetsUS, v)
		case numQualities:
			if len(f.Qualities) >= maxElements {
				return nil, tooMany("qualities", maxElements)
			}
			f.Qualities = append(f.Qualities, quality(v))
		}
		return b[n:], nil

	case typ == protowire.Fixed32Type && num == numValues:
		if len(b) < 4 {
			return nil, ErrMalformed
		}
		if len(f.Values) >= maxElements {
			return nil, tooMany("values", maxElements)
		}
		f.Values = append(f.Values, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		return b[4:], nil
	}
	// An unknown field, or a known one with a wire type that is not its own: both are skipped. An end-group tag
	// outside of a group is refused by ConsumeFieldValue, and so are nested groups without end.
	n := protowire.ConsumeFieldValue(num, typ, b)
	if n < 0 {
		return nil, ErrMalformed
	}
	return b[n:], nil
}

// bytesField takes a length-delimited value: a string, or a packed run.
func (f *Frame) bytesField(v []byte, num protowire.Number, maxElements int) error {
	switch num {
	case numOffsetsUS:
		return f.packedOffsets(v, maxElements)
	case numValues:
		return f.packedValues(v, maxElements)
	case numQualities:
		return f.packedQualities(v, maxElements)
	}
	if !utf8.Valid(v) {
		return ErrInvalidUTF8
	}
	switch num {
	case numEquipmentID:
		f.EquipmentID = v
	case numGatewayID:
		f.GatewayID = v
	case numSchemaID:
		f.SchemaID = v
	case numSensors:
		if len(f.Sensors) >= maxElements {
			return tooMany("sensors", maxElements)
		}
		f.Sensors = append(f.Sensors, v)
	}
	return nil
}

func (f *Frame) packedValues(b []byte, maxElements int) error {
	if len(b)%4 != 0 {
		return ErrMalformed
	}
	at, n := len(f.Values), len(b)/4
	if n > maxElements-at {
		return tooMany("values", maxElements)
	}
	f.Values = slices.Grow(f.Values, n)[:at+n]
	dst := f.Values[at:]
	// Four at a time: the bounds are checked once for each four.
	for len(dst) >= 4 && len(b) >= 16 {
		dst[0] = math.Float32frombits(binary.LittleEndian.Uint32(b))
		dst[1] = math.Float32frombits(binary.LittleEndian.Uint32(b[4:]))
		dst[2] = math.Float32frombits(binary.LittleEndian.Uint32(b[8:]))
		dst[3] = math.Float32frombits(binary.LittleEndian.Uint32(b[12:]))
		dst, b = dst[4:], b[16:]
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return nil
}

func (f *Frame) packedOffsets(b []byte, maxElements int) error {
	at, n := len(f.OffsetsUS), countVarints(b)
	if n > maxElements-at {
		return tooMany("time_offsets_us", maxElements)
	}
	f.OffsetsUS = slices.Grow(f.OffsetsUS, n)
	for len(b) > 0 {
		v, n := consumeVarint(b)
		if n == 0 {
			return ErrMalformed
		}
		f.OffsetsUS = append(f.OffsetsUS, v)
		b = b[n:]
	}
	return nil
}

func (f *Frame) packedQualities(b []byte, maxElements int) error {
	at, n := len(f.Qualities), countVarints(b)
	if n > maxElements-at {
		return tooMany("qualities", maxElements)
	}
	f.Qualities = slices.Grow(f.Qualities, n)
	if n == len(b) { // every code takes one byte, as all known ones do
		f.Qualities = append(f.Qualities, b...)
		return nil
	}
	for len(b) > 0 {
		v, n := consumeVarint(b)
		if n == 0 {
			return ErrMalformed
		}
		f.Qualities = append(f.Qualities, quality(v))
		b = b[n:]
	}
	return nil
}

// quality narrows an enum's varint. Enums are 32 bits wide on the wire's other end; what does not fit is unknown anyway.
func quality(v uint64) uint8 {
	if e := uint32(v); e < uint32(QualityUnknown) {
		return uint8(e)
	}
	return QualityUnknown
}

// countVarints counts the bytes that end a varint.
func countVarints(b []byte) int {
	n := 0
	for _, c := range b {
		n += int(^c >> 7)
	}
	return n
}

// consumeVarint returns the value and the length of the varint in front of b; length 0 when it is truncated or over 64 bits.
func consumeVarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	if len(b) > 1 && b[1] < 0x80 {
		return uint64(b[0]&0x7f) | uint64(b[1])<<7, 2
	}
	v, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return 0, 0
	}
	return v, n
}

func tooMany(field string, most int) error {
	return &FieldError{Field: field, Reason: "more than " + strconv.Itoa(most) + " elements"}
}
