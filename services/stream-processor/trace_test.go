package streamprocessor_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

const (
	traceID  = "0af7651916cd43dd8448eb211c80319c"
	senderID = "b7ad6b7169203331"
)

// overLimit is one frame whose first windows it closes itself, with a value that the limit of limited forbids.
func overLimit(t *testing.T, traceparent string) *kgo.Record {
	t.Helper()
	f := frame.New("press-1", "gw-1", 1, base, []string{"pressure"}, nil)
	for i := range 20 {
		f.OffsetsUS = append(f.OffsetsUS, uint64(i)*1_000_000)
		f.Values = append(f.Values, 99)
	}
	r := &kgo.Record{Topic: topic.Frames, Key: []byte("press-1"), Value: f.AppendTo(nil), Headers: []kgo.RecordHeader{
		{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: f.AppendID(nil)},
	}}
	if traceparent != "" {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: topic.HeaderTraceParent, Value: []byte(traceparent)})
	}
	return r
}

func limited() streamprocessor.Config {
	c := config("a")
	critical := 10.0
	c.Detection.Detect.Limits = []detect.Limit{{Sensor: "pressure", HighCritical: &critical}}
	return c
}

// judgeTraced runs a processor over one frame and gives what it wrote because of it, and its spans.
func judgeTraced(t *testing.T, traceparent string) (outputs []*kgo.Record, spans tracetest.SpanStubs) {
	t.Helper()
	k := kafkatest.Start(t, 1)
	exporter := tracetest.NewInMemoryExporter()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	deps := service.Nop()
	deps.Kafka, deps.Tracer = k, tp
	stop := startWith(t, limited(), deps)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := kafkatest.Client(t, k).ProduceSync(ctx, overLimit(t, traceparent)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{topic.Readings, topic.Windows, topic.Anomalies} {
		rs := data(kafkatest.ConsumeUntil(t, k, name, patience, func(rs []*kgo.Record) bool { return len(data(rs)) > 0 }))
		outputs = append(outputs, rs...)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	spans = exporter.GetSpans() // the exporter forgets them when it is shut down
	if err := tp.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	return outputs, spans
}

func TestATracedFrameContinuesInWhatIsSaidOfIt(t *testing.T) {
	outputs, spans := judgeTraced(t, "00-"+traceID+"-"+senderID+"-01")
	if len(spans) != 1 {
		t.Fatalf("%d spans, want the one of the judge", len(spans))
	}
	s := spans[0]
	if s.Name != "judge" || s.SpanKind != trace.SpanKindConsumer {
		t.Errorf("span %q of kind %s", s.Name, s.SpanKind)
	}
	if got := s.Parent.SpanID().String(); got != senderID || !s.Parent.IsRemote() {
		t.Errorf("parent is %s (remote %t), want the sender's %s", got, s.Parent.IsRemote(), senderID)
	}
	if got := s.SpanContext.TraceID().String(); got != traceID {
		t.Errorf("trace %s, want %s", got, traceID)
	}
	if s.EndTime.Before(s.StartTime) || time.Since(s.EndTime) > patience {
		t.Errorf("span from %s to %s", s.StartTime, s.EndTime)
	}
	got := attribute.NewSet(s.Attributes...)
	for key, want := range map[attribute.Key]attribute.Value{
		"messaging.system":                   attribute.StringValue("kafka"),
		"messaging.destination.name":         attribute.StringValue(topic.Frames),
		"messaging.destination.partition.id": attribute.StringValue("0"),
		"tocsin.equipment_id":                attribute.StringValue("press-1"),
	} {
		if v, _ := got.Value(key); v != want {
			t.Errorf("%s is %v, want %v", key, v.String(), want.String())
		}
	}
	if v, ok := got.Value("messaging.kafka.offset"); !ok || v.AsInt64() < 0 {
		t.Error("the offset is missing")
	}
	want := "00-" + traceID + "-" + s.SpanContext.SpanID().String() + "-01"
	for _, r := range outputs {
		if got := topic.Header(r, topic.HeaderTraceParent); got != want {
			t.Errorf("%s: traceparent %q, want %q", r.Topic, got, want)
		}
	}
}

func TestAFrameThatIsNotSampledHasNoSpan(t *testing.T) {
	for name, traceparent := range map[string]string{
		"no header": "", "not sampled": "00-" + traceID + "-" + senderID + "-00", "another version": "01-" + traceID + "-" + senderID + "-00-more",
	} {
		t.Run(name, func(t *testing.T) {
			outputs, spans := judgeTraced(t, traceparent)
			if len(spans) != 0 {
				t.Errorf("%d spans", len(spans))
			}
			for _, r := range outputs {
				if got := topic.Header(r, topic.HeaderTraceParent); got != traceparent {
					t.Errorf("%s: traceparent %q, want the frame's own %q", r.Topic, got, traceparent)
				}
			}
		})
	}
}
