package grpcreceiver

import (
	"context"
	"errors"
	"io"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/grpcserver"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
)

func (rc *Receiver) publish(ctx context.Context, req *rawMessage) (*ingestv1.PublishResponse, error) {
	who, err := rc.identify(ctx)
	if err != nil {
		return nil, err
	}
	frames, err := messages(req.b, frameField, rc.cfg.MaxPublishFrames)
	if err != nil {
		rc.in.Metrics().RequestRefused(intake.GRPC, "bad_request")
		return nil, grpcserver.Failure(codes.InvalidArgument, err.Error(), grpcserver.Violation("frames", err.Error()))
	}
	ctx, span := rc.in.Tracer().Start(traced(ctx), serviceDesc.ServiceName+"/Publish", trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	session := rc.in.Request(who)
	tickets := make([]*intake.Ticket, len(frames))
	for i, raw := range frames {
		tickets[i] = session.Submit(ctx, raw)
	}
	resp := &ingestv1.PublishResponse{Results: make([]*ingestv1.FrameResult, len(tickets))}
	for i, t := range tickets {
		o := t.Wait()
		resp.Results[i] = o.Result()
	}
	return resp, nil
}

func (rc *Receiver) registerSchema(ctx context.Context, req *rawMessage) (*ingestv1.RegisterSchemaResponse, error) {
	who, err := rc.identify(ctx)
	if err != nil {
		return nil, err
	}
	var m ingestv1.RegisterSchemaRequest
	if err := proto.Unmarshal(req.b, &m); err != nil {
		rc.in.Metrics().RequestRefused(intake.GRPC, "bad_request")
		return nil, grpcserver.Failure(codes.InvalidArgument, errMalformed.Error(), grpcserver.Violation("sensors", errMalformed.Error()))
	}
	id, o := rc.in.Register(traced(ctx), who, m.Sensors, len(req.b))
	switch o.Status() {
	case ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED:
		return &ingestv1.RegisterSchemaResponse{SchemaId: id}, nil
	case ingestv1.FrameStatus_FRAME_STATUS_RETRY:
		code := codes.Unavailable
		if o.Cause == intake.RateLimited || o.Cause == intake.Overloaded {
			code = codes.ResourceExhausted
		}
		return nil, grpcserver.Failure(code, o.Reason, grpcserver.RetryInfo(o.RetryAfter))
	default:
		return nil, grpcserver.Failure(codes.InvalidArgument, o.Field+": "+o.Reason, grpcserver.Violation(o.Field, o.Reason))
	}
}

// publishStream has two sides: one reads frames and hands them in, the other sends the answers in the same order. Between
// them stand at most MaxInFlight frames; when they are full, the stream is not read and the sender feels it through
// HTTP/2's flow control.
func (rc *Receiver) publishStream(stream grpc.ServerStream) error {
	who, err := rc.identify(stream.Context())
	if err != nil {
		return err
	}
	queue := make(chan *intake.Ticket, rc.cfg.MaxInFlight)
	end := make(chan error, 1) // why reading ended; before queue is closed
	go func() {
		defer close(queue)
		end <- rc.read(stream, who, queue)
	}()
	var answer ingestv1.PublishStreamResponse
	send := func(t *intake.Ticket) error {
		o := t.Wait()
		answer.Result = o.Result()
		return stream.SendMsg(&answer)
	}
	for {
		select {
		case t, ok := <-queue:
			if !ok {
				return <-end
			}
			if err := send(t); err != nil {
				return err
			}
		case <-rc.drain:
			// Answer what was read. What the reader is taking in at this moment stays without an answer: its sender
			// sends it again elsewhere, and it counts once.
			for {
				select {
				case t, ok := <-queue:
					if !ok {
						return <-end
					}
					if err := send(t); err != nil {
						return err
					}
				default:
					return stopping()
				}
			}
		}
	}
}

func stopping() error {
	return grpcserver.Failure(codes.Unavailable, "the gateway is stopping: open the stream again and send what was not answered", grpcserver.RetryInfo(time.Second))
}

// read ends when the stream does: nil after the sender's last frame.
func (rc *Receiver) read(stream grpc.ServerStream, who *admission.Identity, queue chan<- *intake.Ticket) error {
	done := stream.Context().Done()
	ctx := traced(stream.Context())
	session := rc.in.Stream(who)
	for {
		select { // a sender that never pauses must not keep the drain busy
		case <-rc.drain:
			return stopping()
		default:
		}
		if session.Full() {
			return grpcserver.Failure(codes.Unavailable, "too many machines are held back: open the stream again and send what was not acknowledged", grpcserver.RetryInfo(time.Second))
		}
		var req rawMessage
		if err := stream.RecvMsg(&req); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		raw, err := streamFrame(req.b)
		if err != nil {
			rc.in.Metrics().RequestRefused(intake.GRPC, "bad_request")
			return grpcserver.Failure(codes.InvalidArgument, err.Error(), grpcserver.Violation("frame", err.Error()))
		}
		select {
		case queue <- session.Submit(ctx, raw):
		case <-done:
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// identify finds the sender by token, else by client certificate, else takes it as anonymous where that is allowed.
func (rc *Receiver) identify(ctx context.Context) (*admission.Identity, error) {
	authorization := grpcserver.Metadata(ctx, "authorization")
	var who *admission.Identity
	var err error
	if name := certificateName(ctx); authorization == "" && name != "" {
		who, err = rc.auth.Certificate(name)
	} else {
		who, err = rc.auth.Authenticate(authorization)
	}
	if err != nil {
		rc.in.Metrics().RequestRefused(intake.GRPC, "unauthenticated")
		return nil, grpcserver.Unauthenticated(err)
	}
	return who, nil
}

// certificateName is the common name of the client's verified certificate, "" when it has none.
func certificateName(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return ""
	}
	return info.State.VerifiedChains[0][0].Subject.CommonName
}

// traced is a context that lives on when the call is cancelled, with the caller's span as its parent: a frame handed to
// Kafka goes on when its sender hangs up.
func traced(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	return propagation.TraceContext{}.Extract(context.WithoutCancel(ctx), carrier(md))
}

type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (carrier) Set(string, string) {}

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
