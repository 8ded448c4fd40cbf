package dlq_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLetterHoldsTheOriginal(t *testing.T) {
	cfg := kafkatest.Start(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	rec := &kgo.Record{
		Topic: topic.Frames, Partition: 2, Offset: 1234, Key: []byte("press-1"), Value: []byte{0xff, 0, 0x80, '\n'},
		Headers: []kgo.RecordHeader{{Key: topic.HeaderID, Value: []byte("gw/press-1/7")}, {Key: topic.HeaderTraceParent, Value: []byte{0xfe}}},
	}
	if err := dlq.New(kafkatest.Client(t, cfg), dlq.Writer).Send(ctx, rec, errors.New("values[3]: NaN")); err != nil {
		t.Fatal(err)
	}
	got := kafkatest.Consume(t, cfg, topic.DLQ(topic.Frames), 1, 10*time.Second)[0]
	if !bytes.Equal(got.Key, rec.Key) || !bytes.Equal(got.Value, rec.Value) {
		t.Fatalf("%q %q", got.Key, got.Value)
	}
	for i, h := range rec.Headers {
		if got.Headers[i].Key != h.Key || !bytes.Equal(got.Headers[i].Value, h.Value) {
			t.Errorf("header %d: %v, was %v", i, got.Headers[i], h)
		}
	}
	for key, want := range map[string]string{
		dlq.HeaderTopic: topic.Frames, dlq.HeaderPartition: "2", dlq.HeaderOffset: "1234", dlq.HeaderReason: "values[3]: NaN",
	} {
		if v := topic.Header(got, key); v != want {
			t.Errorf("%s: %q, want %q", key, v, want)
		}
	}
	if len(rec.Headers) != 2 {
		t.Error("the original was changed")
	}
}

func TestLongReasonsAreCutBetweenCharacters(t *testing.T) {
	for _, unit := range []string{"x", "ä", "€", "𝄞"} {
		for lead := range 4 {
			whole := strings.Repeat("x", lead) + strings.Repeat(unit, 2000)
			got := topic.Header(dlq.Record(&kgo.Record{Topic: "t"}, errors.New(whole)), dlq.HeaderReason)
			if len(got) > 1024 || len(got) <= 1020 || !utf8.ValidString(got) || !strings.HasPrefix(whole, got) {
				t.Errorf("%d of %q: %d bytes, valid: %v", lead, unit, len(got), utf8.ValidString(got))
			}
		}
	}
	if got := topic.Header(dlq.Record(&kgo.Record{Topic: "t"}, errors.New(strings.Repeat("\x80", 3000))), dlq.HeaderReason); len(got) > 1024 || len(got) < 1020 {
		t.Errorf("not UTF-8 at all: %d bytes", len(got))
	}
}
