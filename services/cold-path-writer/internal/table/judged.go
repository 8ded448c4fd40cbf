package table

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tocsin-io/tocsin/pkg/frame"
)

// judged is a decoded tocsin.event.v1.Reading: a frame with the verdict beside it. It is used again for the next one;
// its slices alias the record. Decoded by hand because it is the lake's hot path: no allocation in steady state.
type judged struct {
	frame     frame.Frame
	names     []string // of the schema; nil when the frame has its own
	partition int32
	offset    int64
	timeMS    int64
	// One per sample, or one for all; one per value, or none.
	dispositions []uint8
	validities   []uint8
}

// maxValues bounds what one record may unfold to: a record of 8 MiB holds two million values.
const maxValues = 4 << 20

// Field numbers of tocsin.event.v1.Reading.
const (
	numFrame        = 1
	numPartition    = 2
	numOffset       = 3
	numLogTime      = 4
	numDispositions = 5
	numValidities   = 6
)

// unmarshal decodes src and resolves the frame's schema. After it every index within S x T is safe.
func (j *judged) unmarshal(ctx context.Context, src []byte, schemas Schemas) error {
	raw, err := j.message(src)
	if err != nil {
		return err
	}
	if err := j.frame.UnmarshalLimit(raw, maxValues); err != nil {
		return poison("frame: %w", err)
	}
	f := &j.frame
	j.names = nil
	sensors := len(f.Sensors)
	if len(f.SchemaID) > 0 {
		if j.names, err = schemas.Sensors(ctx, string(f.SchemaID)); err != nil {
			return fmt.Errorf("schema %q: %w", f.SchemaID, err)
		}
		if j.names == nil {
			return poison("unknown schema %q", f.SchemaID)
		}
		sensors = len(j.names)
	}
	values := sensors * f.Samples()
	switch {
	case len(f.EquipmentID) == 0:
		return poison("frame: equipment_id is empty")
	case values == 0 || len(f.Values) != values:
		return poison("frame: %d values for %d sensors x %d samples", len(f.Values), sensors, f.Samples())
	case len(f.Qualities) != 0 && len(f.Qualities) != values:
		return poison("frame: %d qualities for %d values", len(f.Qualities), values)
	case len(j.validities) != 0 && len(j.validities) != values:
		return poison("%d validities for %d values", len(j.validities), values)
	case len(j.dispositions) > 1 && len(j.dispositions) != f.Samples():
		return poison("%d dispositions for %d samples", len(j.dispositions), f.Samples())
	}
	return nil
}

// message decodes the outer message and returns the frame's bytes.
func (j *judged) message(b []byte) (raw []byte, err error) {
	j.partition, j.offset, j.timeMS = 0, 0, 0
	j.dispositions, j.validities = j.dispositions[:0], j.validities[:0]
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, poison("reading: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch {
		case typ == protowire.BytesType && (num == numFrame || num == numDispositions || num == numValidities):
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return nil, poison("reading: %w", protowire.ParseError(n))
			}
			b = b[n:]
			switch num {
			case numFrame:
				raw = v
			case numDispositions:
				j.dispositions, err = appendCodes(j.dispositions, v)
			case numValidities:
				j.validities, err = appendCodes(j.validities, v)
			}
			if err != nil {
				return nil, err
			}
		case typ == protowire.VarintType && num >= numPartition && num <= numValidities:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return nil, poison("reading: %w", protowire.ParseError(n))
			}
			b = b[n:]
			switch num {
			case numPartition:
				j.partition = int32(v)
			case numOffset:
				j.offset = int64(v)
			case numLogTime:
				j.timeMS = int64(v)
			case numDispositions:
				j.dispositions = append(j.dispositions, code(v))
			case numValidities:
				j.validities = append(j.validities, code(v))
			}
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return nil, poison("reading: %w", protowire.ParseError(n))
			}
			b = b[n:]
		}
	}
	if len(raw) == 0 {
		return nil, poison("reading: no frame in it")
	}
	return raw, nil
}

// appendCodes decodes a packed run of enum values.
func appendCodes(dst []uint8, b []byte) ([]uint8, error) {
	for len(b) > 0 {
		if b[0] < 0x80 {
			dst, b = append(dst, b[0]), b[1:]
			continue
		}
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return dst, poison("reading: %w", protowire.ParseError(n))
		}
		dst, b = append(dst, code(v)), b[n:]
	}
	return dst, nil
}

// code narrows an enum's value; what does not fit is unknown either way.
func code(v uint64) uint8 { return uint8(min(v, 255)) }

// sensors is S.
func (j *judged) sensors() int {
	if j.names != nil {
		return len(j.names)
	}
	return len(j.frame.Sensors)
}

// sensor is the name of sensor s.
func (j *judged) sensor(s int) string {
	if j.names != nil {
		return j.names[s]
	}
	return string(j.frame.Sensors[s])
}
