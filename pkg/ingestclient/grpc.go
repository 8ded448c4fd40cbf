package ingestclient

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
)

// grpcTransport keeps one PublishStream open for each lane, all on one connection.
type grpcTransport struct {
	cfg  Config
	conn *grpc.ClientConn
}

func newGRPCTransport(cfg Config, u *url.URL) (*grpcTransport, error) {
	creds := insecure.NewCredentials()
	if u.Scheme == "grpcs" {
		conf := cfg.TLS
		if conf == nil {
			conf = &tls.Config{MinVersion: tls.VersionTLS13}
		}
		creds = credentials.NewTLS(conf)
	}
	conn, err := grpc.NewClient(u.Host,
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{
				BaseDelay:  cfg.MinBackoff,
				Multiplier: 2,
				Jitter:     0.25,
				MaxDelay:   cfg.MaxBackoff,
			},
			MinConnectTimeout: 5 * time.Second,
		}))
	if err != nil {
		return nil, err
	}
	return &grpcTransport{cfg: cfg, conn: conn}, nil
}

func (g *grpcTransport) close() error { return g.conn.Close() }

func (g *grpcTransport) run(ctx context.Context, l *lane) error {
	for {
		// No stream before there is something to say.
		ready, _, due := l.waiting()
		if !ready {
			if !l.wait(ctx, due, nil) {
				return nil
			}
			continue
		}
		left, f := g.session(ctx, l)
		if err := l.failed(ctx, left, f); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// session is the life of one stream. It ends with the frames that got no answer, in the order of sending.
type session struct {
	mu       sync.Mutex
	inFlight fifo[*item]
	bytes    int
	limit    int           // copy of lane.limit: answers widen it
	answers  int           // frames answered
	moved    chan struct{} // an answer came
}

var errNoAnswer = errors.New("no answer in time")

func (g *grpcTransport) session(ctx context.Context, l *lane) ([]*item, failure) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if g.cfg.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+g.cfg.Token)
	}
	stream, err := g.conn.NewStream(ctx,
		&grpc.StreamDesc{StreamName: "PublishStream", ClientStreams: true, ServerStreams: true},
		ingestv1.IngestService_PublishStream_FullMethodName,
		grpc.ForceCodecV2(frameCodec{}))
	if err != nil {
		return nil, classifyGRPC(err)
	}
	s := &session{limit: l.limit, moved: make(chan struct{}, 1)}
	ended := make(chan struct{})
	var recvErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(ended)
		recvErr = s.receive(stream, l)
		cancel(recvErr) // unblocks a Send that waits for flow control
	})
	wg.Go(func() { s.watch(ctx, cancel, g.cfg.RequestTimeout) })
	s.send(ctx, stream, l, g.cfg.MaxBatchBytes, ended)
	if ctx.Err() == nil {
		cancel(nil)
	}
	wg.Wait()

	l.limit = s.limit
	if s.answers > 0 {
		l.worked(0)
	}
	var left []*item
	for s.inFlight.len() > 0 {
		left = append(left, s.inFlight.pop())
	}
	if cause := context.Cause(ctx); errors.Is(cause, errNoAnswer) {
		return left, failure{err: cause, verdict: again}
	}
	return left, classifyGRPC(recvErr)
}

// send moves frames from the lane to the stream until either ends.
func (s *session) send(ctx context.Context, stream grpc.ClientStream, l *lane, maxBytes int, ended <-chan struct{}) {
	for {
		s.mu.Lock()
		frames, bytes := s.limit-s.inFlight.len(), maxBytes-s.bytes
		s.mu.Unlock()
		if frames <= 0 || bytes <= 0 {
			select {
			case <-s.moved:
				continue
			case <-ended:
				return
			case <-ctx.Done():
				return
			}
		}
		batch, due := l.poll(frames, bytes)
		if len(batch) == 0 {
			// An answer may free a machine that waits for it, so that wakes us, too.
			if !l.wait(ctx, due, s.moved) {
				return
			}
			continue
		}
		s.mu.Lock()
		for _, it := range batch {
			s.inFlight.push(it)
			s.bytes += len(it.payload)
		}
		s.mu.Unlock()
		for _, it := range batch {
			if stream.SendMsg(it) != nil {
				// The reason comes out of RecvMsg.
				<-ended
				return
			}
		}
	}
}

// receive gives each answer to the oldest frame in flight: answers come in the order of the requests.
func (s *session) receive(stream grpc.ClientStream, l *lane) error {
	var resp ingestv1.PublishStreamResponse
	for {
		if err := stream.RecvMsg(&resp); err != nil {
			return err
		}
		s.mu.Lock()
		if s.inFlight.len() == 0 {
			s.mu.Unlock()
			return errors.New("an answer without a frame")
		}
		it := s.inFlight.items[s.inFlight.head]
		if err := sameFrame(it, resp.GetResult()); err != nil {
			s.mu.Unlock()
			return err
		}
		s.inFlight.pop()
		s.bytes -= len(it.payload)
		s.answers++
		s.limit = min(l.c.cfg.MaxBatchFrames, s.limit+1)
		s.mu.Unlock()
		l.answered(it, resp.GetResult())
		select {
		case s.moved <- struct{}{}:
		default:
		}
	}
}

// watch ends a stream whose oldest frame waits too long: a peer that vanished without a word, or hangs.
func (s *session) watch(ctx context.Context, cancel context.CancelCauseFunc, timeout time.Duration) {
	tick := time.NewTicker(max(timeout/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.mu.Lock()
			late := s.inFlight.len() > 0 && now.Sub(s.inFlight.items[s.inFlight.head].sentAt) > timeout
			s.mu.Unlock()
			if late {
				cancel(fmt.Errorf("%w: %s", errNoAnswer, timeout))
				return
			}
		}
	}
}

// classifyGRPC decides once what the end of a stream means.
func classifyGRPC(err error) failure {
	if err == nil || errors.Is(err, io.EOF) {
		return failure{err: errors.New("gateway ended the stream"), verdict: again}
	}
	st, ok := status.FromError(err)
	f := failure{err: err, verdict: again}
	if !ok {
		return f
	}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.RetryInfo:
			f.after = d.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			if v := d.GetFieldViolations(); len(v) > 0 {
				f.field = v[0].GetField()
			}
		}
	}
	switch st.Code() {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.NotFound:
		f.verdict = stop
	case codes.InvalidArgument, codes.OutOfRange:
		f.verdict = shrink
	}
	return f
}

// frameCodec writes a PublishStreamRequest around a frame that is encoded already, without decoding and copying it.
type frameCodec struct{}

func (frameCodec) Name() string { return "proto" }

func (frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	it, ok := v.(*item)
	if !ok {
		return nil, fmt.Errorf("cannot send a %T", v)
	}
	head := make([]byte, 1, 1+binary.MaxVarintLen64)
	head[0] = 1<<3 | 2 // field 1, length-delimited
	head = binary.AppendUvarint(head, uint64(len(it.payload)))
	return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(it.payload)}, nil
}

func (frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("cannot receive a %T", v)
	}
	return proto.Unmarshal(data.Materialize(), m)
}
