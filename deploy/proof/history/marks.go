package history

import (
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// markOf is the mark of an output record, as it stands in its topic or as the oracle makes it. at: see mark.
func markOf(r *kgo.Record, at int64) mark {
	return mark{name: nameOf(r), content: contentOf(r), at: at}
}

// nameOf is what identifies the promise that a record keeps; empty for a tick.
func nameOf(r *kgo.Record) string {
	if p := topic.Header(r, dlq.HeaderPartition); p != "" {
		return "dead letter of " + topic.Header(r, dlq.HeaderTopic) + "[" + p + "]@" + topic.Header(r, dlq.HeaderOffset)
	}
	switch typ := topic.Type(r); typ {
	case topic.TypeTick:
		return ""
	case topic.TypeReading:
		if ref, ok := refOfReading(r.Value); ok {
			return "reading of " + ref.String()
		}
		return "reading without a frame"
	case topic.TypeWindow:
		return "window " + topic.Header(r, topic.HeaderID)
	case topic.TypeAnomaly:
		return "anomaly " + topic.Header(r, topic.HeaderID)
	case topic.TypeCoverage:
		return "coverage " + topic.Header(r, topic.HeaderID)
	case topic.TypeAlert:
		return "alert event " + topic.Header(r, topic.HeaderID)
	default:
		return fmt.Sprintf("%q %s of %q", typ, topic.Header(r, topic.HeaderID), r.Key)
	}
}

// contentOf is the hash of all of a record that a replay must give again: of traces each try has its own.
func contentOf(r *kgo.Record) uint64 {
	var d xxhash.Digest
	d.Reset()
	part := func(b []byte) {
		var n [10]byte
		_, _ = d.Write(protowire.AppendVarint(n[:0], uint64(len(b))))
		_, _ = d.Write(b)
	}
	part(r.Key)
	part(r.Value)
	for i := range r.Headers {
		if r.Headers[i].Key != topic.HeaderTraceParent {
			part([]byte(r.Headers[i].Key))
			part(r.Headers[i].Value)
		}
	}
	return d.Sum64()
}

// refOf reads from an encoded SensorFrame who sent it. false: it is no frame, or does not say.
func refOf(b []byte) (FrameRef, bool) {
	var r FrameRef
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return r, false
		}
		b = b[n:]
		switch {
		case num <= 2 && typ == protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return r, false
			}
			if num == 1 {
				r.Equipment = string(v)
			} else {
				r.Gateway = string(v)
			}
			b = b[n:]
		case num == 3 && typ == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return r, false
			}
			r.Sequence, b = v, b[n:]
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return r, false
			}
			b = b[n:]
		}
	}
	return r, r.Equipment != "" && r.Gateway != ""
}

// refOfReading reads from an encoded Reading whose frame it holds.
func refOfReading(b []byte) (FrameRef, bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return FrameRef{}, false
		}
		b = b[n:]
		if num == 1 && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return FrameRef{}, false
			}
			return refOf(v)
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return FrameRef{}, false
		}
		b = b[n:]
	}
	return FrameRef{}, false
}

// compareStream is compare of a topic's partition: data first, then the ticks among it. While data differs, ticks are only counted: where one should
// stand cannot be said.
func compareStream(want, got []mark) []difference {
	same := func(a, b mark) bool { return a.content == b.content && a.name == b.name }
	if slices.EqualFunc(want, got, same) {
		return nil // and no copies are made
	}
	wantData, wantTicks := split(want)
	gotData, gotTicks := split(got)
	if out := compare(wantData, gotData, false); len(out) > 0 {
		return append(out, compare(nameless(wantTicks), nameless(gotTicks), true)...)
	}
	return compare(wantTicks, gotTicks, false)
}

// split parts ticks from data. A tick is called by the data that it stands behind.
func split(list []mark) (data, ticks []mark) {
	data = make([]mark, 0, len(list))
	for _, m := range list {
		if m.name != "" {
			data = append(data, m)
			continue
		}
		m.name = fmt.Sprintf("tick behind %d records", len(data))
		ticks = append(ticks, m)
	}
	return data, ticks
}

func nameless(ticks []mark) []mark {
	for i := range ticks {
		ticks[i].name = ""
	}
	return ticks
}
