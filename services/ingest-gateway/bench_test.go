package ingestgateway_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

// BenchmarkIngest sends frames of 2 values through a real listener into an embedded broker, all in this process: client, gateway and broker
// share the cores, so the time is an upper bound for the gateway's own.
func BenchmarkIngest(b *testing.B) {
	kcfg := kafkatest.Start(b, 3)
	cfg := ingestgateway.DefaultConfig()
	cfg.HTTP.Listen, cfg.GRPC.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.RateLimit.FramesPerSecond, cfg.RateLimit.BytesPerSecond = 0, 0
	deps := service.Nop()
	deps.Kafka = kcfg
	svc, err := ingestgateway.New(cfg, deps)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()
	eventually(b, 15*time.Second, svc.Ready)
	raw := encode(b, goodFrame(1))
	conn, err := grpc.NewClient(svc.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()

	b.Run("stream", func(b *testing.B) {
		b.ReportAllocs()
		stream, err := conn.NewStream(ctx, &ingestv1.IngestService_ServiceDesc.Streams[0], ingestv1.IngestService_PublishStream_FullMethodName, forceRaw)
		if err != nil {
			b.Fatal(err)
		}
		req := rawBytes(append([]byte{0x0a}, delimited(raw)...))
		go func() {
			for range b.N {
				if stream.SendMsg(req) != nil {
					return
				}
			}
			_ = stream.CloseSend()
		}()
		var resp ingestv1.PublishStreamResponse
		for range b.N {
			if err := stream.RecvMsg(&resp); err != nil || resp.Result.Status != ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED {
				b.Fatalf("%v %v", &resp, err)
			}
		}
	})
	b.Run("bulk of 1000", func(b *testing.B) {
		b.ReportAllocs()
		g := &gateway{svc: svc, client: newClient()}
		defer g.client.CloseIdleConnections()
		var body []byte
		for range 1000 {
			body = append(body, delimited(raw)...)
		}
		for range b.N/1000 + 1 {
			if a, err := g.tryPost("/v1/frames", delimitedType, bytes.NewReader(body), "Accept", protobufType); err != nil || a.status != 200 {
				b.Fatal(a.status, err)
			}
		}
	})
}
