package topology

import (
	"google.golang.org/protobuf/encoding/protowire"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// appendReading appends the protobuf encoding of an eventv1.Reading whose frame is the record's own bytes,
// so that the frame is not decoded and encoded again on its way to the lake.
func appendReading(dst, frame []byte, partition int32, offset, logTimeMS int64, dispositions []eventv1.Disposition, validities []eventv1.Validity) []byte {
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendBytes(dst, frame)
	dst = appendVarint(dst, 2, uint64(uint32(partition)))
	dst = appendVarint(dst, 3, uint64(offset))
	dst = appendVarint(dst, 4, uint64(logTimeMS))
	dst = appendEnums(dst, 5, dispositions)
	return appendEnums(dst, 6, validities)
}

// appendVarint leaves out a zero, as proto3 does.
func appendVarint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

// appendEnums relies on all our enum values being below 128: one byte each.
func appendEnums[E ~int32](dst []byte, num protowire.Number, list []E) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(len(list)))
	for _, e := range list {
		dst = append(dst, byte(e))
	}
	return dst
}
