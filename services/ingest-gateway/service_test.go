package ingestgateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

// Thousands of frames in flight over a narrow stream, good and bad: one answer each, in order.
func TestStreamAnswersInOrder(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) { c.GRPC.MaxInFlight = 16 })
	const n = 2000
	stream, err := g.rpc.PublishStream(within(t, 120*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	bad := map[uint64]bool{}
	for range n / 10 {
		bad[rand.Uint64N(n)+1] = true
	}
	go func() {
		for i := uint64(1); i <= n; i++ {
			f := goodFrame(i)
			f.EquipmentId = fmt.Sprintf("press-%d", i%17)
			if bad[i] {
				f.Values = f.Values[:1]
			}
			if stream.Send(&ingestv1.PublishStreamRequest{Frame: f}) != nil {
				return
			}
		}
		_ = stream.CloseSend()
	}()
	for i := uint64(1); i <= n; i++ {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		want := ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED
		if bad[i] {
			want = ingestv1.FrameStatus_FRAME_STATUS_INVALID
		}
		if resp.Result.Sequence != i || resp.Result.Status != want {
			t.Fatalf("answer %d: %v", i, resp.Result)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last answer: %v", err)
	}
	// One machine's frames stand in Kafka in the order they were sent.
	last := map[string]uint64{}
	for _, r := range kafkatest.Consume(t, g.kafka, topic.Frames, n-len(bad), 20*time.Second) {
		var seq uint64
		parts := strings.Split(topic.Header(r, topic.HeaderID), "/")
		if _, err := fmt.Sscan(parts[2], &seq); err != nil {
			t.Fatal(err)
		}
		if seq <= last[string(r.Key)] {
			t.Fatalf("%s: %d after %d", r.Key, seq, last[string(r.Key)])
		}
		last[string(r.Key)] = seq
	}
}

func TestSchemas(t *testing.T) {
	g := start(t, nil)
	wide := make([]string, 25_000)
	for i := range wide {
		wide[i] = fmt.Sprintf("feature %d", i)
	}
	body, err := json.Marshal(map[string]any{"sensors": wide})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		SchemaID string `json:"schema_id"`
	}
	a := g.post("/v1/schemas", jsonType, gzipped(t, body), "Content-Encoding", "gzip")
	if a.status != 200 || json.Unmarshal(a.body, &got) != nil || got.SchemaID != schema.ID(wide) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	resp, err := g.rpc.RegisterSchema(within(t, 10*time.Second), &ingestv1.RegisterSchemaRequest{Sensors: []string{"a", "b"}})
	if err != nil || resp.SchemaId != schema.ID([]string{"a", "b"}) {
		t.Fatalf("%v %v", resp, err)
	}
	f := goodFrame(1)
	f.Sensors, f.SchemaId, f.Values = nil, got.SchemaID, make([]float32, 25_000)
	if a := g.post("/v1/frames", protobufType, encode(t, f)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	f.SchemaId = resp.SchemaId
	if a := g.post("/v1/frames", protobufType, encode(t, f)); a.status != 400 || a.problem(t).Field != "values" {
		t.Fatalf("25,000 values for 2 sensors: %d %s", a.status, a.body)
	}
	// Another gateway that has just started knows them too.
	other := startOn(t, g.kafka, service.Nop(), nil)
	other.awaitReady()
	f.Sequence, f.Values = 2, []float32{1, 2}
	if a := other.post("/v1/frames", protobufType, encode(t, f)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// And one registered there is known here at once.
	late, err := other.rpc.RegisterSchema(within(t, 10*time.Second), &ingestv1.RegisterSchemaRequest{Sensors: []string{"late"}})
	if err != nil {
		t.Fatal(err)
	}
	f.Sequence, f.SchemaId, f.Values = 3, late.SchemaId, []float32{1}
	if a := g.post("/v1/frames", protobufType, encode(t, f)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}

	for body, field := range map[string]string{
		`{"sensors":[]}`:          "sensors",
		`{"sensors":["a","a"]}`:   "sensors[1]",
		`{"sensors":["a",7]}`:     "sensors",
		`{"sensors":["<b>"]}`:     "sensors[0]",
		`{"sensors":["a"],"x":1}`: "",
		`{`:                       "",
	} {
		if a := g.post("/v1/schemas", jsonType, []byte(body)); a.status != 400 || !strings.HasPrefix(a.problem(t).Field, field) {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	_, err = g.rpc.RegisterSchema(within(t, 10*time.Second), &ingestv1.RegisterSchemaRequest{Sensors: []string{"a", ""}})
	if st := status.Convert(err); st.Code() != codes.InvalidArgument || !strings.Contains(fmt.Sprint(st.Details()), "sensors[1]") {
		t.Fatalf("%v %v", err, st.Details())
	}
}

// grpcurl needs the descriptors that reflection gives, although the service is not the generated one.
func TestReflectionAndHealth(t *testing.T) {
	g := start(t, withAuth) // neither needs a token
	stream, err := reflectionv1.NewServerReflectionClient(g.conn).ServerReflectionInfo(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	var names []string
	for _, s := range ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().Service {
		names = append(names, s.Name)
	}
	const name = "tocsin.ingest.v1.IngestService"
	if !slices.Contains(names, name) {
		t.Fatalf("%v", names)
	}
	fd := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}}).GetFileDescriptorResponse()
	if fd == nil || len(fd.FileDescriptorProto) == 0 {
		t.Fatal("no descriptor")
	}
	eventually(t, 5*time.Second, func() error {
		h, err := healthv1.NewHealthClient(g.conn).Check(within(t, 5*time.Second), &healthv1.HealthCheckRequest{Service: name})
		if err != nil {
			return err
		}
		if h.Status != healthv1.HealthCheckResponse_SERVING {
			return fmt.Errorf("%v", h.Status)
		}
		return nil
	})
}

func TestTraceTravelsIntoKafka(t *testing.T) {
	_, kcfg := kafkatest.StartCluster(t, 1)
	spans := tracetest.NewSpanRecorder()
	deps := service.Nop()
	deps.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	g := startOn(t, kcfg, deps, nil)
	g.awaitReady()
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent := "00-" + id + "-00f067aa0ba902b7-01"
	if a := g.post("/v1/frames", protobufType, encode(t, goodFrame(1)), "traceparent", parent); a.status != 200 {
		t.Fatalf("%d", a.status)
	}
	ctx := metadata.AppendToOutgoingContext(within(t, 10*time.Second), "traceparent", parent)
	if _, err := g.rpc.Publish(ctx, &ingestv1.PublishRequest{Frames: frames(2)}); err != nil {
		t.Fatal(err)
	}
	stream, err := g.rpc.PublishStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&ingestv1.PublishStreamRequest{Frame: goodFrame(3)})
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	_ = stream.CloseSend()
	if _, err := g.rpc.Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: frames(4)}); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, s := range spans.Ended() {
		ids[s.SpanContext().SpanID().String()] = true
	}
	for seq, r := range g.arrived(4) {
		tp := strings.Split(topic.Header(r, topic.HeaderTraceParent), "-")
		if len(tp) != 4 || (tp[1] == id) != (seq != 4) || !ids[tp[2]] {
			t.Errorf("sequence %d: traceparent %v", seq, tp)
		}
	}
}

func TestMetricsAndConfigDump(t *testing.T) {
	g := start(t, withAuth)
	auth := []string{"Authorization", "Bearer " + token1}
	g.post("/v1/frames", protobufType, encode(t, goodFrame(1)), auth...)
	g.post("/v1/frames", protobufType, []byte("x"), auth...)
	g.post("/v1/frames", protobufType, encode(t, goodFrame(1)))
	get := func(path string) string {
		resp, err := g.client.Get("http://" + g.svc.HTTPAddr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %v", path, resp.StatusCode, err)
		}
		return string(b)
	}
	text := get("/metrics")
	for _, want := range []string{
		`tocsin_ingest_frames_total{outcome="acknowledged",reason=""} 1`,
		`tocsin_ingest_frames_total{outcome="invalid",reason="malformed"} 1`,
		`tocsin_ingest_frames_total{outcome="retry",reason="overloaded"} 0`,
		`tocsin_ingest_requests_refused_total{transport="http",reason="unauthenticated"} 1`,
		`tocsin_ingest_in_flight_records 0`,
		`tocsin_ingest_produce_seconds_count 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if dump := get("/status/config"); strings.Contains(dump, token1) || !strings.Contains(dump, "gw-1") || !strings.Contains(dump, "10s") {
		t.Fatal(dump)
	}
}
