// Package grpcserver is a service's gRPC listener: bounded, with health and reflection beside what the service registers, drained at the end.
package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/tocsin-io/tocsin/pkg/network"
)

// Server is one listener. States: listening (after New), serving (Run), draining, closed.
type Server struct {
	cfg    Config
	ln     net.Listener
	srv    *grpc.Server
	health *health.Server
	ready  func() error
	log    *zap.Logger
	once   sync.Once
}

// New opens the listener at once, so that Addr is known and a port conflict is an error now. Health, of the whole and of each service that is registered, is
// what ready says. Further options are grpc's own.
func New(cfg Config, via network.Network, ready func() error, log *zap.Logger, more ...grpc.ServerOption) (*Server, error) {
	opts := append([]grpc.ServerOption{
		grpc.MaxConcurrentStreams(cfg.MaxStreams),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(cfg.HandshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: cfg.IdleTimeout, Time: cfg.KeepaliveTime, Timeout: 10 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	}, more...)
	if cfg.TLS.Enabled() {
		t, err := cfg.TLS.ServerConfig()
		if err != nil {
			return nil, fmt.Errorf("grpc: %w", err)
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(t)))
	}
	ln, err := via.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("grpc: %w", err)
	}
	s := &Server{cfg: cfg, ln: ln, srv: grpc.NewServer(opts...), health: health.NewServer(), ready: ready, log: log.Named("grpc")}
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	healthv1.RegisterHealthServer(s.srv, s.health)
	reflection.Register(s.srv)
	s.log.Info("listening", zap.String("protocol", "grpc"), zap.String("addr", s.Addr()))
	return s, nil
}

// RegisterService adds a service. Call before Run.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.srv.RegisterService(desc, impl)
	s.health.SetServingStatus(desc.ServiceName, healthv1.HealthCheckResponse_NOT_SERVING)
}

// Addr is the address bound, with the real port when the configuration said 0.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Run serves until ctx ends. Then it calls draining, so that streams can end by themselves; calls finish, and what is left after DrainTimeout is cut. draining
// may be nil.
func (s *Server) Run(ctx context.Context, draining func()) error {
	done := make(chan error, 1)
	go func() { done <- s.srv.Serve(netutil.LimitListener(s.ln, s.cfg.MaxConnections)) }()
	watch := time.NewTicker(250 * time.Millisecond)
	defer watch.Stop()
	names := s.srv.GetServiceInfo()
	for serving := true; serving; {
		status := healthv1.HealthCheckResponse_SERVING
		if s.ready() != nil {
			status = healthv1.HealthCheckResponse_NOT_SERVING
		}
		s.health.SetServingStatus("", status)
		for name := range names {
			s.health.SetServingStatus(name, status)
		}
		select {
		case err := <-done:
			return fmt.Errorf("serve %s: %w", s.Addr(), err)
		case <-watch.C:
		case <-ctx.Done():
			serving = false
		}
	}
	s.health.Shutdown()
	if draining != nil {
		draining()
	}
	stopped := make(chan struct{})
	go func() {
		s.srv.GracefulStop()
		close(stopped)
	}()
	timer := time.NewTimer(s.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
		s.log.Warn("calls cut at the end of the drain")
		s.srv.Stop()
		<-stopped
	}
	if err := <-done; err != nil { // Serve gives nil after a stop
		s.log.Warn("serve", zap.Error(err))
	}
	return nil
}

// Close releases the listener when Run was never called. Idempotent.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		s.srv.Stop()
		if e := s.ln.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = e
		}
	})
	return err
}
