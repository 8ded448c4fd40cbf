// Package dlq puts records that cannot be processed aside: their original bytes, where they stood, and why.
package dlq

import (
	"context"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Headers that a dead letter has besides its own.
const (
	HeaderTopic     = "dlq_topic"
	HeaderPartition = "dlq_partition"
	HeaderOffset    = "dlq_offset"
	HeaderReason    = "dlq_reason"
)

// maxReason keeps a reason that quotes its input from growing with it.
const maxReason = 1024

// Producer writes dead letters through a client that may be transactional: then the letter stands or falls with the
// transaction that is open. Safe for concurrent use.
type Producer struct{ cl *kgo.Client }

// New makes a Producer over cl.
func New(cl *kgo.Client) *Producer { return &Producer{cl: cl} }

// Record is the dead letter of rec.
func Record(rec *kgo.Record, reason error) *kgo.Record {
	why := reason.Error()
	if len(why) > maxReason {
		end := maxReason
		for end > maxReason-utf8.UTFMax && !utf8.RuneStart(why[end]) { // not in the middle of a character
			end--
		}
		why = why[:end]
	}
	h := make([]kgo.RecordHeader, 0, len(rec.Headers)+4)
	h = append(h, rec.Headers...)
	h = append(h,
		kgo.RecordHeader{Key: HeaderTopic, Value: []byte(rec.Topic)},
		kgo.RecordHeader{Key: HeaderPartition, Value: strconv.AppendInt(nil, int64(rec.Partition), 10)},
		kgo.RecordHeader{Key: HeaderOffset, Value: strconv.AppendInt(nil, rec.Offset, 10)},
		kgo.RecordHeader{Key: HeaderReason, Value: []byte(why)},
	)
	return &kgo.Record{Topic: topic.DLQ(rec.Topic), Key: rec.Key, Value: rec.Value, Headers: h}
}

// Send writes the dead letter of rec and waits until Kafka has it.
func (p *Producer) Send(ctx context.Context, rec *kgo.Record, reason error) error {
	if err := p.cl.ProduceSync(ctx, Record(rec, reason)).FirstErr(); err != nil {
		return fmt.Errorf("dead letter of %s[%d]@%d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	return nil
}
