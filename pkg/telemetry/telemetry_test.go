package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tocsin-io/tocsin/pkg/telemetry"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoggerFormats(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		var out bytes.Buffer
		cfg := telemetry.LogConfig{Level: "warn", Format: format}
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		log, err := telemetry.NewLogger(cfg, &out)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("quiet")
		log.Warn("loud", zap.String("machine", "press \"1\"\n"))
		if strings.Contains(out.String(), "quiet") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: %s", format, out.String())
		}
		var line struct{ Level, Time, Msg, Machine string }
		err = json.Unmarshal(out.Bytes(), &line)
		if format == "console" {
			if err == nil || !strings.Contains(out.String(), "WARN\tloud") {
				t.Errorf("console: %s", out.String())
			}
			continue
		}
		if _, e := time.Parse(time.RFC3339Nano, line.Time); err != nil || e != nil || line.Level != "warn" || line.Msg != "loud" || line.Machine != "press \"1\"\n" {
			t.Errorf("json: %v %v %s", err, e, out.String())
		}
	}
	if (telemetry.LogConfig{Level: "loud", Format: "json"}).Validate() == nil || (telemetry.LogConfig{Level: "info", Format: "xml"}).Validate() == nil ||
		(telemetry.TraceConfig{Ratio: 2}).Validate() == nil {
		t.Error("bad configurations pass")
	}
}

func TestTraceTravelsInHeaders(t *testing.T) {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceFlags: trace.FlagsSampled})
	r := &kgo.Record{Headers: []kgo.RecordHeader{{Key: topic.HeaderTraceParent, Value: []byte("old")}}}
	telemetry.Inject(trace.ContextWithSpanContext(context.Background(), sc), r)
	got := trace.SpanContextFromContext(telemetry.Extract(context.Background(), r))
	if len(r.Headers) != 1 || !got.IsRemote() || got.TraceID() != sc.TraceID() || got.SpanID() != sc.SpanID() || !got.IsSampled() {
		t.Fatalf("%v %v", r.Headers, got)
	}
	bare := &kgo.Record{}
	if telemetry.Inject(context.Background(), bare); len(bare.Headers) != 0 {
		t.Fatal(bare.Headers)
	}
	if trace.SpanContextFromContext(telemetry.Extract(context.Background(), &kgo.Record{Headers: []kgo.RecordHeader{{Key: "traceparent", Value: []byte("rubbish")}}})).IsValid() {
		t.Fatal("rubbish was taken for a trace")
	}
}

type sink struct {
	collector.UnimplementedTraceServiceServer
	got chan *collector.ExportTraceServiceRequest
}

func (s *sink) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.got <- r
	return &collector.ExportTraceServiceResponse{}, nil
}

func TestSpansReachTheCollector(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{got: make(chan *collector.ExportTraceServiceRequest, 8)}
	srv := grpc.NewServer()
	collector.RegisterTraceServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer func() { srv.Stop(); _ = <-served }()

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tp, end, err := telemetry.NewTracer(ctx, telemetry.TraceConfig{Endpoint: ln.Addr().String(), Insecure: true, Ratio: 1}, "ingest-gateway", "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	_, span := tp.Tracer("t").Start(ctx, "frame publish")
	span.End()
	if err := end(ctx); err != nil { // flushes
		t.Fatal(err)
	}
	rs := (<-s.got).ResourceSpans[0]
	if got := rs.ScopeSpans[0].Spans[0].Name; got != "frame publish" || !strings.Contains(rs.Resource.String(), "ingest-gateway") || !strings.Contains(rs.Resource.String(), "v1.2.3") {
		t.Fatal(rs)
	}
	tp, end, err = telemetry.NewTracer(ctx, telemetry.DefaultTraceConfig(), "x", "y")
	if err != nil || end(ctx) != nil {
		t.Fatal(err)
	}
	if _, span := tp.Tracer("t").Start(ctx, "x"); span.IsRecording() {
		t.Fatal("recording without an endpoint")
	}
}
