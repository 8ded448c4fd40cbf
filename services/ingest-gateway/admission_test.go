package ingestgateway_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

// frames makes n valid frames.
func frames(first uint64) []*eventv1.SensorFrame { return []*eventv1.SensorFrame{goodFrame(first)} }

const (
	token1 = "0123456789abcdef-one"
	token2 = "0123456789abcdef-two"
)

func withAuth(c *ingestgateway.Config) {
	c.Auth.Gateways = []ingestgateway.Gateway{
		{GatewayID: "gw-1", Token: token1, Equipment: []string{"press-*", "mill-7"}},
		{GatewayID: "gw-2", Token: token2, Equipment: []string{"*"}},
	}
}

func TestAuthMatrix(t *testing.T) {
	g := start(t, withAuth)
	sequence := uint64(0)
	acknowledged := 0
	for _, auth := range []struct{ name, header, gateway string }{
		{"no token", "", ""},
		{"wrong token", "Bearer 0123456789abcdef-won", ""},
		{"prefix of a token", "Bearer " + token1[:19], ""},
		{"token with something behind", "Bearer " + token1 + "x", ""},
		{"another scheme", "Basic " + token1, ""},
		{"only the token", token1, ""},
		{"empty bearer", "Bearer ", ""},
		{"gateway 1", "Bearer " + token1, "gw-1"},
		{"gateway 1, scheme in lower case", "bearer " + token1, "gw-1"},
		{"gateway 2", "Bearer " + token2, "gw-2"},
	} {
		for _, gateway := range []string{"gw-1", "gw-2"} {
			for _, equipment := range []string{"press-1", "press-", "mill-7", "mill-70", "mill-", "x"} {
				sequence++
				f := goodFrame(sequence)
				f.GatewayId, f.EquipmentId = gateway, equipment
				want := http.StatusOK
				field := ""
				switch {
				case auth.gateway == "":
					want = http.StatusUnauthorized
				case auth.gateway != gateway:
					want, field = http.StatusForbidden, "gateway_id"
				case gateway == "gw-1" && !strings.HasPrefix(equipment, "press-") && equipment != "mill-7":
					want, field = http.StatusForbidden, "equipment_id"
				}
				name := fmt.Sprintf("%s sends %s of %s", auth.name, equipment, gateway)
				var headers []string
				if auth.header != "" {
					headers = []string{"Authorization", auth.header}
				}
				a := g.post("/v1/frames", protobufType, encode(t, f), headers...)
				if a.status != want {
					t.Errorf("%s: HTTP %d, want %d: %s", name, a.status, want, a.body)
				} else if want != http.StatusOK && a.problem(t).Field != field {
					t.Errorf("%s: blames %q, want %q", name, a.problem(t).Field, field)
				}
				if want == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s: 401 without WWW-Authenticate", name)
				}
				// gRPC must say the same.
				sequence++
				f.Sequence = sequence
				ctx := within(t, 10*time.Second)
				if auth.header != "" {
					ctx = metadata.AppendToOutgoingContext(ctx, "authorization", auth.header)
				}
				resp, err := g.rpc.Publish(ctx, &ingestv1.PublishRequest{Frames: []*eventv1.SensorFrame{f}})
				stream, _ := g.rpc.PublishStream(ctx)
				_ = stream.Send(&ingestv1.PublishStreamRequest{Frame: f})
				_ = stream.CloseSend()
				sresp, serr := stream.Recv()
				if want == http.StatusUnauthorized {
					if status.Code(err) != codes.Unauthenticated || status.Code(serr) != codes.Unauthenticated || len(status.Convert(err).Details()) == 0 {
						t.Errorf("%s: gRPC %v, %v", name, err, serr)
					}
					continue
				}
				if err != nil || serr != nil {
					t.Fatalf("%s: %v %v", name, err, serr)
				}
				wantStatus := ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED
				if want == http.StatusForbidden {
					wantStatus = ingestv1.FrameStatus_FRAME_STATUS_FORBIDDEN
				} else {
					acknowledged += 3
				}
				for _, r := range []*ingestv1.FrameResult{resp.Results[0], sresp.Result} {
					if r.Status != wantStatus || r.Field != field {
						t.Errorf("%s: gRPC %v, want %v", name, r, wantStatus)
					}
				}
			}
		}
	}
	if a := g.post("/v1/schemas", jsonType, []byte(`{"sensors":["a"]}`)); a.status != http.StatusUnauthorized {
		t.Errorf("schemas without a token: %d", a.status)
	}
	if acknowledged == 0 {
		t.Fatal("nobody could send")
	}
}

func TestAnonymousBesideTokens(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) { withAuth(c); c.Auth.AllowAnonymous = true })
	raw := encode(t, goodFrame(1))
	if a := g.post("/v1/frames", protobufType, raw); a.status != http.StatusOK {
		t.Fatalf("anonymous: %d", a.status)
	}
	if a := g.post("/v1/frames", protobufType, raw, "Authorization", "Bearer nonsense"); a.status != http.StatusUnauthorized {
		t.Fatalf("a wrong token passes as anonymous: %d", a.status)
	}
}

func TestRateLimit(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) {
		withAuth(c)
		c.RateLimit.FramesPerSecond, c.RateLimit.BurstSeconds = 0.5, 10 // 5 at once, then one each 2 s
	})
	var last answer
	taken := 0
	for i := range 8 {
		last = g.post("/v1/frames", protobufType, encode(t, goodFrame(uint64(i+1))), "Authorization", "Bearer "+token1)
		if last.status == http.StatusOK {
			taken++
		}
	}
	if taken != 5 || last.status != http.StatusTooManyRequests {
		t.Fatalf("%d taken, then %d", taken, last.status)
	}
	if s, err := strconv.Atoi(last.header.Get("Retry-After")); err != nil || s < 1 || s > 2 {
		t.Fatalf("Retry-After %q", last.header.Get("Retry-After"))
	}
	// Rubbish counts too, and is not even looked at.
	if a := g.post("/v1/frames", protobufType, []byte("rubbish"), "Authorization", "Bearer "+token1); a.status != http.StatusTooManyRequests {
		t.Fatalf("rubbish: %d", a.status)
	}
	bulk := g.post("/v1/frames", delimitedType, delimited(encode(t, goodFrame(20)), encode(t, goodFrame(21))), "Authorization", "Bearer "+token1)
	if bulk.status != http.StatusTooManyRequests || len(bulk.problem(t).Results) != 2 {
		t.Fatalf("bulk: %d %s", bulk.status, bulk.body)
	}
	// Another gateway is not harmed.
	other := goodFrame(1)
	other.GatewayId = "gw-2"
	if a := g.post("/v1/frames", protobufType, encode(t, other), "Authorization", "Bearer "+token2); a.status != http.StatusOK {
		t.Fatalf("the other gateway: %d", a.status)
	}
}

func TestBytesPerSecond(t *testing.T) {
	size := len(encode(t, goodFrame(1)))
	g := start(t, func(c *ingestgateway.Config) {
		c.RateLimit.BytesPerSecond, c.RateLimit.BurstSeconds = float64(size)/2, 8 // four frames at once
	})
	taken := 0
	for i := range 8 {
		if g.post("/v1/frames", protobufType, encode(t, goodFrame(uint64(i+1)))).status == http.StatusOK {
			taken++
		}
	}
	if taken < 4 || taken > 5 { // a slow machine may earn one more meanwhile
		t.Fatalf("%d taken", taken)
	}
}

func TestConfigRefusesOpenListeners(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ingestgateway.Config)
		want   string // "" is valid
	}{
		{"default", func(*ingestgateway.Config) {}, ""},
		{"localhost", func(c *ingestgateway.Config) { c.HTTP.Listen = "localhost:1" }, ""},
		{"IPv6 loopback", func(c *ingestgateway.Config) { c.GRPC.Listen = "[::1]:1" }, ""},
		{"everywhere, HTTP", func(c *ingestgateway.Config) { c.HTTP.Listen = ":8081" }, "auth.gateways: empty"},
		{"everywhere, gRPC", func(c *ingestgateway.Config) { c.GRPC.Listen = "0.0.0.0:9081" }, "auth.gateways: empty"},
		{"a name", func(c *ingestgateway.Config) { c.HTTP.Listen = "gateway.example:8081" }, "auth.gateways: empty"},
		{"everywhere, allowed", func(c *ingestgateway.Config) { c.HTTP.Listen, c.Auth.AllowAnonymous = ":8081", true }, ""},
		{"everywhere, with tokens", func(c *ingestgateway.Config) { withAuth(c); c.HTTP.Listen = ":8081" }, ""},
		{"a short token", func(c *ingestgateway.Config) { withAuth(c); c.Auth.Gateways[1].Token = "short" }, "auth.gateways[1].token"},
		{"no token and no certificate", func(c *ingestgateway.Config) { withAuth(c); c.Auth.Gateways[1].Token = "" }, "auth.gateways[1].token"},
		{"a token twice", func(c *ingestgateway.Config) { withAuth(c); c.Auth.Gateways[1].Token = token1 }, "auth.gateways[1].token"},
		{"a gateway twice", func(c *ingestgateway.Config) { withAuth(c); c.Auth.Gateways[1].GatewayID = "gw-1" }, "auth.gateways[1].gateway_id"},
		{"a token for nothing", func(c *ingestgateway.Config) { withAuth(c); c.Auth.Gateways[0].Equipment = nil }, "auth.gateways[0].equipment"},
		{"a bad pattern", func(c *ingestgateway.Config) { withAuth(c); c.Auth.Gateways[0].Equipment = []string{"a*b"} }, "auth.gateways[0].equipment[0]"},
		{"a budget below one frame", func(c *ingestgateway.Config) { c.Producer.MaxInFlightBytes = 100 }, "producer.max_in_flight_bytes"},
		{"a wrong codec", func(c *ingestgateway.Config) { c.Producer.Compression = "rar" }, "producer.compression"},
		{"half of TLS", func(c *ingestgateway.Config) { c.GRPC.TLS.CertFile = "x" }, "grpc.tls.key_file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := ingestgateway.DefaultConfig()
			c.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
		})
	}
}
