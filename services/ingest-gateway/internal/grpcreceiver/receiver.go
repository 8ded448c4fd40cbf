// Package grpcreceiver takes frames over gRPC: tocsin.ingest.v1.IngestService, with health and reflection beside it.
package grpcreceiver

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

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/network"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
)

// Config of the gRPC listener.
type Config struct {
	Listen           string         `mapstructure:"listen" doc:"Address to listen on, host:port. Port 0 takes a free one and logs it."`
	MaxConnections   int            `mapstructure:"max_connections" doc:"Most connections; further ones wait to be accepted."`
	MaxStreams       uint32         `mapstructure:"max_streams" doc:"Most streams and calls at once on one connection."`
	MaxInFlight      int            `mapstructure:"max_in_flight" doc:"Most frames of one stream that wait for their answer; then the stream is not read further."`
	MaxPublishFrames int            `mapstructure:"max_publish_frames" doc:"Most frames of one Publish call."`
	HandshakeTimeout time.Duration  `mapstructure:"handshake_timeout" doc:"A client that has not finished the handshake by then is cut off."`
	KeepaliveTime    time.Duration  `mapstructure:"keepalive_time" doc:"A connection silent for this long is pinged, and closed when no answer comes."`
	IdleTimeout      time.Duration  `mapstructure:"idle_timeout" doc:"A connection without a stream is closed after this."`
	DrainTimeout     time.Duration  `mapstructure:"drain_timeout" doc:"How long calls under way may take when the service stops."`
	TLS              httpserver.TLS `mapstructure:"tls" doc:"TLS 1.3 on this listener."`
}

// DefaultConfig listens on loopback.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:9081", MaxConnections: 2_000, MaxStreams: 64, MaxInFlight: 1_024, MaxPublishFrames: 10_000,
		HandshakeTimeout: 5 * time.Second, KeepaliveTime: 30 * time.Second, IdleTimeout: 15 * time.Minute, DrainTimeout: 5 * time.Second,
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: %q is not host:port: %w", c.Listen, err)
	}
	switch {
	case c.MaxConnections < 1:
		return errors.New("max_connections: must be 1 or more")
	case c.MaxStreams < 1:
		return errors.New("max_streams: must be 1 or more")
	case c.MaxInFlight < 1 || c.MaxInFlight > 1<<20:
		return errors.New("max_in_flight: must be in 1..1048576")
	case c.MaxPublishFrames < 1:
		return errors.New("max_publish_frames: must be 1 or more")
	case c.HandshakeTimeout <= 0:
		return errors.New("handshake_timeout: must be positive")
	case c.KeepaliveTime < time.Second:
		return errors.New("keepalive_time: must be 1s or more")
	case c.IdleTimeout <= 0:
		return errors.New("idle_timeout: must be positive")
	case c.DrainTimeout <= 0:
		return errors.New("drain_timeout: must be positive")
	}
	if err := c.TLS.Validate(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	return nil
}

// Receiver serves one listener. States: listening (after New), serving (Run), draining, closed.
type Receiver struct {
	cfg    Config
	ln     net.Listener
	srv    *grpc.Server
	health *health.Server
	ready  func() error
	in     *intake.Intake
	auth   *admission.Authenticator
	log    *zap.Logger
	drain  chan struct{} // closed when streams are to end
	once   sync.Once
}

// New opens the listener at once, so that Addr is known and a port conflict is an error now.
func New(cfg Config, via network.Network, in *intake.Intake, auth *admission.Authenticator, ready func() error, log *zap.Logger) (*Receiver, error) {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		// Of the message as it came and as it becomes when it was compressed. grpc-go ends a stream at once for a larger one, with the
		// answers that are due; so leave room for a frame that is only somewhat too large to be refused by itself.
		grpc.MaxRecvMsgSize(2*in.MaxFrameBytes() + 1024),
		grpc.MaxConcurrentStreams(cfg.MaxStreams),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(cfg.HandshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: cfg.IdleTimeout, Time: cfg.KeepaliveTime, Timeout: 10 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	}
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
	rc := &Receiver{
		cfg: cfg, ln: ln, srv: grpc.NewServer(opts...), health: health.NewServer(), ready: ready, in: in, auth: auth,
		log: log.Named("grpc"), drain: make(chan struct{}),
	}
	rc.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	rc.srv.RegisterService(&serviceDesc, rc)
	healthv1.RegisterHealthServer(rc.srv, rc.health)
	reflection.Register(rc.srv)
	rc.log.Info("listening", zap.String("protocol", "grpc"), zap.String("addr", rc.Addr()))
	return rc, nil
}

// Addr is the address bound, with the real port when the configuration said 0.
func (rc *Receiver) Addr() string { return rc.ln.Addr().String() }

// Run serves until ctx ends. Then streams answer what they have read and end with UNAVAILABLE, calls finish, and what is left
// after DrainTimeout is cut.
func (rc *Receiver) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- rc.srv.Serve(netutil.LimitListener(rc.ln, rc.cfg.MaxConnections)) }()
	watch := time.NewTicker(250 * time.Millisecond)
	defer watch.Stop()
	for serving := true; serving; {
		rc.report()
		select {
		case err := <-done:
			return fmt.Errorf("serve %s: %w", rc.Addr(), err)
		case <-watch.C:
		case <-ctx.Done():
			serving = false
		}
	}
	rc.health.Shutdown()
	close(rc.drain)
	stopped := make(chan struct{})
	go func() {
		rc.srv.GracefulStop()
		close(stopped)
	}()
	timer := time.NewTimer(rc.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
		rc.log.Warn("calls cut at the end of the drain")
		rc.srv.Stop()
		<-stopped
	}
	if err := <-done; err != nil { // Serve gives nil after a stop
		rc.log.Warn("serve", zap.Error(err))
	}
	return nil
}

func (rc *Receiver) report() {
	status := healthv1.HealthCheckResponse_SERVING
	if rc.ready() != nil {
		status = healthv1.HealthCheckResponse_NOT_SERVING
	}
	rc.health.SetServingStatus("", status)
	rc.health.SetServingStatus(serviceDesc.ServiceName, status)
}

// Close releases the listener when Run was never called. Idempotent.
func (rc *Receiver) Close() error {
	var err error
	rc.once.Do(func() {
		rc.srv.Stop()
		if e := rc.ln.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = e
		}
	})
	return err
}

// ingestServer is what serviceDesc wants of its implementation.
type ingestServer interface {
	publish(context.Context, *rawMessage) (*ingestv1.PublishResponse, error)
	registerSchema(context.Context, *rawMessage) (*ingestv1.RegisterSchemaResponse, error)
	publishStream(grpc.ServerStream) error
}

// serviceDesc is the generated one's twin whose handlers take raw bytes. Name and file are the same, so reflection
// describes the service from the generated descriptors.
var serviceDesc = grpc.ServiceDesc{
	ServiceName: ingestv1.IngestService_ServiceDesc.ServiceName,
	HandlerType: (*ingestServer)(nil),
	Methods: []grpc.MethodDesc{
		{MethodName: "Publish", Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return unary(ctx, dec, srv.(ingestServer).publish)
		}},
		{MethodName: "RegisterSchema", Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return unary(ctx, dec, srv.(ingestServer).registerSchema)
		}},
	},
	Streams: []grpc.StreamDesc{{
		StreamName: "PublishStream", ServerStreams: true, ClientStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error { return srv.(ingestServer).publishStream(stream) },
	}},
	Metadata: ingestv1.IngestService_ServiceDesc.Metadata,
}

func unary[M any](ctx context.Context, dec func(any) error, h func(context.Context, *rawMessage) (M, error)) (any, error) {
	var req rawMessage
	if err := dec(&req); err != nil {
		return nil, err
	}
	return h(ctx, &req)
}
