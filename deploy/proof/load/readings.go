package load

import (
	"context"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// reading is one judgement as it stands on telemetry.readings.v1. It is lent: valid during the callback.
type reading struct {
	record  *kgo.Record
	frame   frame.Frame
	frameAt time.Time // the broker's time of the frame
}

// decode takes what is needed of an eventv1.Reading: fields 1 (frame) and 4 (its broker time).
func (rd *reading) decode(r *kgo.Record) error {
	rd.record = r
	for b := r.Value; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case num == 1 && typ == protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			if err := rd.frame.Unmarshal(v); err != nil {
				return err
			}
			b = b[n:]
		case num == 4 && typ == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			rd.frameAt = time.UnixMilli(int64(v))
			b = b[n:]
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
		}
	}
	return nil
}

// scanReadings calls each for every committed reading from the given offsets on.
func (w *World) scanReadings(ctx context.Context, from map[int32]int64, each func(*reading) error) error {
	var rd reading
	return w.scan(ctx, topic.Readings, from, func(r *kgo.Record) error {
		if r.Attrs.IsControl() || topic.Type(r) != topic.TypeReading {
			return nil
		}
		if err := rd.decode(r); err != nil {
			return fmt.Errorf("%s[%d]@%d: %w", r.Topic, r.Partition, r.Offset, err)
		}
		return each(&rd)
	})
}

func hash(b []byte) uint64 { return xxhash.Sum64(b) }
