package fleet_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/ingestclient"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet/fleettest"
)

// collector is an OTLP endpoint that keeps what it is sent.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans map[string][]*tracev1.Span // by service
}

func (c *collector) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		name := ""
		for _, kv := range rs.Resource.Attributes {
			if kv.Key == "service.name" {
				name = kv.Value.GetStringValue()
			}
		}
		for _, ss := range rs.ScopeSpans {
			c.spans[name] = append(c.spans[name], ss.Spans...)
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func startCollector(t *testing.T) (*collector, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{spans: map[string][]*tracev1.Span{}}
	s := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(s, c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return c, l.Addr().String()
}

func TestOneTraceFromTheGatewayToTheAlert(t *testing.T) {
	sink, endpoint := startCollector(t)
	dir := t.TempDir()
	cfg := fleettest.Config(dir)
	file := filepath.Join(dir, "tocsin.yaml")
	yaml := fmt.Sprintf(`
tracing: {endpoint: %q, insecure: true, ratio: 1}
stream_processor:
  detection:
    detect:
      limits:
        - {sensor: pressure, high_critical: 10}
`, endpoint)
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := config.Load(file, cfg.Sections()...); err != nil {
		t.Fatal(err)
	}
	f := fleettest.Start(t, cfg, dir, "all")

	// One frame that closes its own first windows, so that the alert is this frame's.
	at := frame.New("press-1", "gw-1", 1, time.Now().Add(-time.Minute), []string{"pressure"}, nil)
	for i := range 20 {
		at.OffsetsUS = append(at.OffsetsUS, uint64(i)*1_000_000)
		at.Values = append(at.Values, 99)
	}
	client, err := ingestclient.New(ingestclient.Config{URL: "http://" + f.Addrs["ingest-gateway"]})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
	defer cancel()
	ref := ingestclient.Ref{EquipmentID: "press-1", GatewayID: "gw-1", Sequence: 1}
	if err := client.SendEncoded(ctx, ref, at.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	if err := client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	kafkatest.ConsumeUntil(t, f.Kafka, topic.Alerts, fleettest.Patience, func(rs []*kgo.Record) bool {
		return slices.ContainsFunc(rs, func(r *kgo.Record) bool { return topic.Type(r) == topic.TypeAlert })
	})
	if err := f.Stop(); err != nil { // which sends the spans that wait
		t.Fatal(err)
	}

	sink.mu.Lock()
	defer sink.mu.Unlock()
	spans := map[string]*tracev1.Span{} // by id
	services := map[string]map[string]bool{}
	for name, list := range sink.spans {
		for _, s := range list {
			spans[string(s.SpanId)] = s
			id := fmt.Sprintf("%x", s.TraceId)
			if services[id] == nil {
				services[id] = map[string]bool{}
			}
			services[id][name] = true
		}
	}
	want := []string{"alert-router", "ingest-gateway", "stream-processor"}
	found := false
	for _, names := range services {
		got := slices.Sorted(maps.Keys(names))
		found = found || slices.Equal(got, want)
	}
	if !found {
		t.Fatalf("no trace holds %q; there are %v", want, services)
	}
	// From the alert each span names the one before it, to the request.
	var path []string
	for s := alertSpan(sink.spans["alert-router"]); s != nil; s = spans[string(s.ParentSpanId)] {
		path = append(path, s.Name)
	}
	if len(path) < 4 || path[1] != "judge" || path[2] != "frame publish" || path[len(path)-1] != "POST /v1/frames" {
		t.Errorf("from the alert back to the request: %q", path)
	}
}

func alertSpan(list []*tracev1.Span) *tracev1.Span {
	for _, s := range list {
		if s.Name == "alert opened" {
			return s
		}
	}
	return nil
}
