package grpcserver_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/tocsin-io/tocsin/pkg/grpcserver"
	"github.com/tocsin-io/tocsin/pkg/network"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 2 * time.Minute

// stuck is a service whose one call waits for its caller to give up.
func stuck(entered chan<- struct{}) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "test.Stuck", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Wait", Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var req healthv1.HealthCheckRequest
			if err := dec(&req); err != nil {
				return nil, err
			}
			entered <- struct{}{}
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}}},
	}
}

func TestHealthFollowsAndDrainIsBounded(t *testing.T) {
	cfg := grpcserver.DefaultConfig("127.0.0.1:0")
	cfg.DrainTimeout = 100 * time.Millisecond
	var fine atomic.Bool
	srv, err := grpcserver.New(cfg, network.OS{}, func() error {
		if fine.Load() {
			return nil
		}
		return errors.New("starting")
	}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{}, 1)
	srv.RegisterService(stuck(entered), new(any))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- srv.Run(ctx, func() { close(told) }) }()

	conn, err := grpc.NewClient("passthrough:///"+srv.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	patience, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, service := range []string{"", "test.Stuck"} {
		fine.Store(false)
		watch, err := healthv1.NewHealthClient(conn).Watch(patience, &healthv1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []healthv1.HealthCheckResponse_ServingStatus{healthv1.HealthCheckResponse_NOT_SERVING, healthv1.HealthCheckResponse_SERVING} {
			for got := healthv1.HealthCheckResponse_UNKNOWN; got != want; {
				m, err := watch.Recv()
				if err != nil {
					t.Fatalf("%q becomes %v: %v", service, want, err)
				}
				got = m.Status
			}
			fine.Store(true)
		}
	}
	answered := make(chan error, 1)
	go func() {
		answered <- conn.Invoke(patience, "/test.Stuck/Wait", &healthv1.HealthCheckRequest{}, &healthv1.HealthCheckResponse{})
	}()
	<-entered
	stop()
	<-told
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-answered; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
		t.Errorf("a call that never ends: %v", err)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	srv, err := grpcserver.New(grpcserver.DefaultConfig("127.0.0.1:0"), network.OS{}, func() error { return nil }, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	again := grpcserver.DefaultConfig(srv.Addr())
	if _, err := grpcserver.New(again, network.OS{}, func() error { return nil }, zap.NewNop()); err == nil {
		t.Error("a port that is taken is no error")
	}
	for range 2 {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigNamesTheField(t *testing.T) {
	for field, breakIt := range map[string]func(*grpcserver.Config){
		"listen":            func(c *grpcserver.Config) { c.Listen = "nowhere" },
		"max_connections":   func(c *grpcserver.Config) { c.MaxConnections = 0 },
		"max_streams":       func(c *grpcserver.Config) { c.MaxStreams = 0 },
		"handshake_timeout": func(c *grpcserver.Config) { c.HandshakeTimeout = 0 },
		"keepalive_time":    func(c *grpcserver.Config) { c.KeepaliveTime = 0 },
		"idle_timeout":      func(c *grpcserver.Config) { c.IdleTimeout = 0 },
		"drain_timeout":     func(c *grpcserver.Config) { c.DrainTimeout = 0 },
		"tls.key_file":      func(c *grpcserver.Config) { c.TLS.CertFile = "x" },
	} {
		c := grpcserver.DefaultConfig("127.0.0.1:0")
		breakIt(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
