// Package grpcreceiver takes frames over gRPC: tocsin.ingest.v1.IngestService, with health and reflection beside it.
package grpcreceiver

import (
	"context"
	"errors"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tocsin-io/tocsin/pkg/grpcserver"
	"github.com/tocsin-io/tocsin/pkg/network"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
)

// Config of the gRPC listener.
type Config struct {
	grpcserver.Config `mapstructure:",squash"`
	MaxInFlight       int `mapstructure:"max_in_flight" doc:"Most frames of one stream that wait for their answer; then the stream is not read further."`
	MaxPublishFrames  int `mapstructure:"max_publish_frames" doc:"Most frames of one Publish call."`
}

// DefaultConfig listens on loopback.
func DefaultConfig() Config {
	return Config{Config: grpcserver.DefaultConfig("127.0.0.1:9081"), MaxInFlight: 1_024, MaxPublishFrames: 10_000}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.MaxInFlight < 1 || c.MaxInFlight > 1<<20:
		return errors.New("max_in_flight: must be in 1..1048576")
	case c.MaxPublishFrames < 1:
		return errors.New("max_publish_frames: must be 1 or more")
	}
	return c.Config.Validate()
}

// Receiver serves one listener. States: listening (after New), serving (Run), draining, closed.
type Receiver struct {
	*grpcserver.Server
	cfg   Config
	in    *intake.Intake
	auth  *admission.Authenticator
	drain chan struct{} // closed when streams are to end
}

// New opens the listener at once, so that Addr is known and a port conflict is an error now.
func New(cfg Config, via network.Network, in *intake.Intake, auth *admission.Authenticator, ready func() error, log *zap.Logger) (*Receiver, error) {
	srv, err := grpcserver.New(cfg.Config, via, ready, log,
		grpc.ForceServerCodecV2(newCodec()),
		// Of the message as it came and as it becomes when it was compressed. grpc-go ends a stream at once for a larger one, with the
		// answers that are due; so leave room for a frame that is only somewhat too large to be refused by itself.
		grpc.MaxRecvMsgSize(2*in.MaxFrameBytes()+1024),
	)
	if err != nil {
		return nil, err
	}
	rc := &Receiver{Server: srv, cfg: cfg, in: in, auth: auth, drain: make(chan struct{})}
	srv.RegisterService(&serviceDesc, rc)
	return rc, nil
}

// Run serves until ctx ends. Then streams answer what they have read and end with UNAVAILABLE, calls finish, and what is left
// after DrainTimeout is cut.
func (rc *Receiver) Run(ctx context.Context) error {
	return rc.Server.Run(ctx, func() { close(rc.drain) })
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
