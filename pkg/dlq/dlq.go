// Package dlq puts records that cannot be processed aside, finds them again, and gives them back once what ailed them is mended.
//
// A dead letter is the original record (bytes, key, headers) on <topic>.dlq with headers that say where it stood, who refused it and
// why. Who writes letters in Kafka transactions writes each once; who does not may repeat one, and a letter's Key tells repeats.
// Shelf reads letters and retries them exactly once.
package dlq

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Names of the consumers that write dead letters.
const (
	Processor = "stream-processor"
	Router    = "alert-router"
	Writer    = "cold-path-writer"
)

// Headers that a dead letter has besides its own. Headers that begin with "dlq_" are Tocsin's: a letter has only these of them.
const (
	HeaderTopic     = "dlq_topic"
	HeaderPartition = "dlq_partition"
	HeaderOffset    = "dlq_offset"
	HeaderReason    = "dlq_reason"
	HeaderConsumer  = "dlq_consumer"  // who refused it
	HeaderTimestamp = "dlq_timestamp" // the record's own time, in milliseconds since 1970
	HeaderAttempt   = "dlq_attempt"   // 1 for a record's first refusal; also on records that were given back
	HeaderOrigin    = "dlq_origin"    // topic/partition/offset of the first refusal; only from the second attempt on
	HeaderCut       = "dlq_cut"       // what was left out, because with it the letter would be too large
)

// Headers of a record that was given back.
const (
	HeaderFor    = "dlq_for"    // the consumer that it is for; all others have understood the original and pass it over
	HeaderLetter = "dlq_letter" // Key of the letter it was made from
)

const headerPrefix = "dlq_"

const (
	// maxReason keeps a reason that quotes its input from growing with it.
	maxReason = 1024
	// maxLetter is the topics' max.message.bytes less room for a letter's own headers and the batch around it. What comes
	// compressed may be larger than that.
	maxLetter = 8<<20 - 64<<10
	// maxKept is how much of key and headers a letter keeps that has to be cut.
	maxKept = 32 << 10
)

// IsFor tells whether consumer is to process the record: records that were given back are for the one that had refused them.
// Costs a look at each header's name, and does not allocate.
func IsFor(rec *kgo.Record, consumer string) bool {
	for i := range rec.Headers {
		if rec.Headers[i].Key == HeaderFor {
			return string(rec.Headers[i].Value) == consumer
		}
	}
	return true
}

// IsReturned tells whether the record is a dead letter that was given back. Costs as IsFor.
func IsReturned(rec *kgo.Record) bool {
	for i := range rec.Headers {
		if rec.Headers[i].Key == HeaderLetter {
			return true
		}
	}
	return false
}

// soleConsumer is who reads the topic where only one does, else "".
func soleConsumer(name string) string {
	switch name {
	case topic.Frames:
		return Processor
	case topic.Readings, topic.Windows, topic.Alerts, topic.Findings:
		return Writer
	}
	return ""
}

// Record is the dead letter of a record on a topic that only one consumer reads.
func Record(rec *kgo.Record, reason error) *kgo.Record {
	return Refuse(rec, soleConsumer(rec.Topic), reason)
}

// Refuse is the dead letter of rec, which consumer cannot process for that reason. It shares key, value and headers
// with rec. It is never larger than Kafka takes: what does not fit is left out, and HeaderCut says what.
func Refuse(rec *kgo.Record, consumer string, reason error) *kgo.Record {
	out := &kgo.Record{Topic: topic.DLQ(rec.Topic), Key: rec.Key, Value: rec.Value}
	attempt, origin := attempts(rec), topic.Header(rec, HeaderOrigin)
	own, size := ownHeaders(rec)
	cut := ""
	if len(out.Key)+len(out.Value)+size > maxLetter {
		cut = fmt.Sprintf("key %d, value %d, headers %d bytes", len(rec.Key), len(rec.Value), size)
		own, size = firstOf(own, maxKept)
		out.Key = out.Key[:min(len(out.Key), maxKept)]
		out.Value = out.Value[:min(len(out.Value), maxLetter-size-len(out.Key))]
	}
	h := make([]kgo.RecordHeader, 0, len(own)+9)
	h = append(h, own...)
	add := func(key, value string) { h = append(h, kgo.RecordHeader{Key: key, Value: []byte(value)}) }
	add(HeaderTopic, rec.Topic)
	add(HeaderPartition, strconv.FormatInt(int64(rec.Partition), 10))
	add(HeaderOffset, strconv.FormatInt(rec.Offset, 10))
	add(HeaderReason, shorten(reason.Error()))
	add(HeaderConsumer, consumer)
	if !rec.Timestamp.IsZero() {
		add(HeaderTimestamp, strconv.FormatInt(rec.Timestamp.UnixMilli(), 10))
	}
	add(HeaderAttempt, strconv.Itoa(attempt))
	if attempt > 1 && origin != "" {
		add(HeaderOrigin, origin)
	}
	if cut != "" {
		add(HeaderCut, cut)
	}
	out.Headers = h
	return out
}

// attempts is which attempt to process rec this was.
func attempts(rec *kgo.Record) int {
	n, err := strconv.Atoi(topic.Header(rec, HeaderAttempt))
	if err != nil || n < 1 || n > 1<<20 {
		return 1
	}
	return n
}

// ownHeaders are those that are not ours, and their size.
func ownHeaders(rec *kgo.Record) (own []kgo.RecordHeader, size int) {
	for _, h := range rec.Headers {
		if !strings.HasPrefix(h.Key, headerPrefix) {
			own = append(own, h)
			size += headerSize(h)
		}
	}
	return own, size
}

// headerSize is what a header takes at most in a record: its bytes and two lengths.
func headerSize(h kgo.RecordHeader) int { return len(h.Key) + len(h.Value) + 10 }

func firstOf(hs []kgo.RecordHeader, room int) (kept []kgo.RecordHeader, size int) {
	for _, h := range hs {
		if size+headerSize(h) > room {
			break
		}
		size += headerSize(h)
		kept = append(kept, h)
	}
	return kept, size
}

// shorten cuts a reason, not in the middle of a character.
func shorten(why string) string {
	if len(why) <= maxReason {
		return why
	}
	end := maxReason
	for end > maxReason-utf8.UTFMax && !utf8.RuneStart(why[end]) {
		end--
	}
	return why[:end]
}

// Producer writes dead letters through a client that may be transactional: then the letter stands or falls with the
// transaction that is open. Safe for concurrent use.
type Producer struct {
	cl       *kgo.Client
	consumer string
}

// New makes a Producer over cl of what consumer refuses.
func New(cl *kgo.Client, consumer string) *Producer { return &Producer{cl: cl, consumer: consumer} }

// Send writes the dead letter of rec and waits until Kafka has it.
func (p *Producer) Send(ctx context.Context, rec *kgo.Record, reason error) error {
	if err := kafka.ProduceSync(ctx, p.cl, Refuse(rec, p.consumer, reason)); err != nil {
		return fmt.Errorf("dead letter of %s[%d]@%d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	return nil
}
