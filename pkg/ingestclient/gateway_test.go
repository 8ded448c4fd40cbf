package ingestclient

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
)

// gateway is a server with faults. It notes each frame that it takes, like Kafka behind a real one would.
type gateway struct {
	ingestv1.UnimplementedIngestServiceServer
	t     *testing.T
	token string
	// judge says what becomes of a frame; nil acknowledges all.
	judge func(f *eventv1.SensorFrame) *ingestv1.FrameResult
	// whole may answer a bulk as a whole; true means that it did. frames are not taken then.
	whole func(w http.ResponseWriter, r *http.Request, frames []*eventv1.SensorFrame) bool
	// drop says that the connection breaks after the frames were taken and before the answer.
	drop func() bool

	mu    sync.Mutex
	taken map[string][]uint64 // by machine, repeats included
	bulks int
}

func (g *gateway) take(frames []*eventv1.SensorFrame) []*ingestv1.FrameResult {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bulks++
	refused := map[string]bool{}
	var out []*ingestv1.FrameResult
	for _, f := range frames {
		r := &ingestv1.FrameResult{Status: ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED}
		if g.judge != nil {
			if v := g.judge(f); v != nil {
				r = v
			}
		}
		if refused[f.GetEquipmentId()] {
			r = &ingestv1.FrameResult{Status: ingestv1.FrameStatus_FRAME_STATUS_RETRY}
		}
		refused[f.GetEquipmentId()] = r.Status == ingestv1.FrameStatus_FRAME_STATUS_RETRY
		if r.Status == ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED {
			if g.taken == nil {
				g.taken = map[string][]uint64{}
			}
			g.taken[f.GetEquipmentId()] = append(g.taken[f.GetEquipmentId()], f.GetSequence())
		}
		r.EquipmentId, r.GatewayId, r.Sequence = f.GetEquipmentId(), f.GetGatewayId(), f.GetSequence()
		out = append(out, r)
	}
	return out
}

// first is the order in which a machine's sequences were first taken.
func (g *gateway) first(machine string) []uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []uint64
	seen := map[uint64]bool{}
	for _, s := range g.taken[machine] {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

func (g *gateway) total() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, s := range g.taken {
		n += len(s)
	}
	return n
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.token != "" && r.Header.Get("Authorization") != "Bearer "+g.token {
		problem(w, http.StatusUnauthorized, "")
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v1/frames" || r.Header.Get("Content-Type") != contentBulk {
		problem(w, http.StatusNotFound, "")
		return
	}
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		zr, err := gzip.NewReader(body)
		if err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		body = zr
	}
	var frames []*eventv1.SensorFrame
	br := bufio.NewReader(body)
	for {
		n, err := binary.ReadUvarint(br)
		if errors.Is(err, io.EOF) {
			break
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(br, b); err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		f := &eventv1.SensorFrame{}
		if err := proto.Unmarshal(b, f); err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		frames = append(frames, f)
	}
	if g.whole != nil && g.whole(w, r, frames) {
		return
	}
	results := g.take(frames)
	if g.drop != nil && g.drop() {
		panic(http.ErrAbortHandler)
	}
	b, err := proto.Marshal(&ingestv1.PublishResponse{Results: results})
	if err != nil {
		g.t.Error(err)
	}
	w.Header().Set("Content-Type", contentProto)
	_, _ = w.Write(b)
}

func (g *gateway) PublishStream(stream grpc.BidiStreamingServer[ingestv1.PublishStreamRequest, ingestv1.PublishStreamResponse]) error {
	if md, _ := metadata.FromIncomingContext(stream.Context()); g.token != "" && strings.Join(md["authorization"], "") != "Bearer "+g.token {
		return status.Error(codes.Unauthenticated, "who are you")
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r := g.take([]*eventv1.SensorFrame{req.GetFrame()})[0]
		if g.drop != nil && g.drop() {
			return status.Error(codes.Unavailable, "dropped")
		}
		if r.GetReason() == "poison" {
			return status.Error(codes.InvalidArgument, "cannot decode")
		}
		if err := stream.Send(&ingestv1.PublishStreamResponse{Result: r}); err != nil {
			return err
		}
	}
}

func problem(w http.ResponseWriter, code int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, `{"title":"no","detail":"`+detail+`","field":"values"}`)
}

// start serves g over one of the two transports and returns the URL for Config.
func (g *gateway) start(t *testing.T, scheme string) string {
	t.Helper()
	g.t = t
	if scheme == "http" {
		srv := httptest.NewServer(g)
		t.Cleanup(srv.Close)
		return srv.URL
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	ingestv1.RegisterIngestServiceServer(srv, g)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return "grpc://" + ln.Addr().String()
}

func frameOf(machine string, seq uint64) *eventv1.SensorFrame {
	return &eventv1.SensorFrame{
		EquipmentId: machine, GatewayId: "gw-001", Sequence: seq, BaseTimeUs: int64(seq),
		Sensors: []string{"a", "b"}, Values: []float32{1, 2},
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// chance is a coin with a fixed seed, safe for the server's goroutines.
func chance(seed uint64, p float64) func() bool {
	rng := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return rng.Float64() < p
	}
}
