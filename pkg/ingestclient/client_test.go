package ingestclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
)

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	if cfg.MinBackoff == 0 {
		cfg.MinBackoff, cfg.MaxBackoff = time.Millisecond, 10*time.Millisecond
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// The whole promise at once: connections that break after the write, 429, 503, RETRY for single frames and invalid frames, mixed; every good
// frame arrives, each machine's in order, each invalid one is reported once.
func TestNothingIsLostOrReordered(t *testing.T) {
	for _, tc := range []struct {
		name, scheme string
		cfg          Config
	}{
		{"http", "http", Config{}},
		{"http, gzip, four lanes", "http", Config{Gzip: true, Lanes: 4, MaxBatchFrames: 7}},
		{"http, many of one machine", "http", Config{MaxInFlightPerMachine: 50}},
		{"grpc", "grpc", Config{}},
		{"grpc, small window", "grpc", Config{MaxBatchFrames: 3, Lanes: 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const machines, frames = 20, 60
			drop, busy, retry := chance(1, 0.05), chance(2, 0.2), chance(3, 0.05)
			g := &gateway{
				token: "s3cret",
				drop:  drop,
				judge: func(f *eventv1.SensorFrame) *ingestv1.FrameResult {
					switch {
					case f.GetSequence()%10 == 7:
						return &ingestv1.FrameResult{Status: ingestv1.FrameStatus_FRAME_STATUS_INVALID, Field: "values[1]", Reason: "odd"}
					case retry():
						return &ingestv1.FrameResult{Status: ingestv1.FrameStatus_FRAME_STATUS_RETRY, RetryAfterMs: 2}
					}
					return nil
				},
				whole: func(w http.ResponseWriter, _ *http.Request, _ []*eventv1.SensorFrame) bool {
					if !busy() {
						return false
					}
					w.Header().Set("Retry-After", "0")
					problem(w, map[bool]int{true: 429, false: 503}[busy()], "busy")
					return true
				},
			}
			var mu sync.Mutex
			rejected := map[Ref]int{}
			acked := map[Ref]int{}
			cfg := tc.cfg
			cfg.URL, cfg.Token = g.start(t, tc.scheme), "s3cret"
			cfg.MaxBufferedBytes, cfg.MaxFrameBytes = 40_000, 10_000 // about 130 frames: Send must block and go on
			cfg.OnReject = func(r Rejection) {
				if r.Field != "values[1]" || r.Reason != "odd" || r.Forbidden {
					t.Errorf("rejected with %+v", r)
				}
				mu.Lock()
				defer mu.Unlock()
				rejected[r.Ref]++
			}
			cfg.OnAck = func(r Ref) {
				mu.Lock()
				defer mu.Unlock()
				acked[r]++
			}
			c := newClient(t, cfg)
			ctx := within(t, 60*time.Second)
			var wg sync.WaitGroup
			for m := range machines {
				wg.Go(func() {
					for s := uint64(1); s <= frames; s++ {
						if err := c.Send(ctx, frameOf(fmt.Sprintf("m-%d", m), s)); err != nil {
							t.Errorf("send: %v", err)
							return
						}
					}
				})
			}
			wg.Wait()
			if err := c.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			for m := range machines {
				want := uint64(0)
				for _, got := range g.first(fmt.Sprintf("m-%d", m)) {
					if want++; want%10 == 7 {
						want++
					}
					if got != want {
						t.Fatalf("machine %d: took %d where %d was next", m, got, want)
					}
				}
				if want != frames {
					t.Fatalf("machine %d: got as far as %d of %d", m, want, frames)
				}
			}
			st := c.Stats()
			if st.Accepted != machines*frames || st.Rejected != machines*frames/10 || st.Acknowledged != machines*frames*9/10 || st.Buffered != 0 {
				t.Fatalf("stats %+v", st)
			}
			if st.Retried == 0 {
				t.Fatal("no frame was sent twice: the faults did not bite")
			}
			if len(rejected) != machines*frames/10 || len(acked) != machines*frames*9/10 {
				t.Fatalf("told of %d rejected and %d acknowledged", len(rejected), len(acked))
			}
			for r, n := range acked {
				if n != 1 || rejected[r] != 0 {
					t.Fatalf("frame %s: acknowledged %d times, rejected %d times", r, n, rejected[r])
				}
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A bulk that is refused as a whole, for one frame in it, must cost that frame only.
func TestOnePoisonedFrameDoesNotSpoilTheBulk(t *testing.T) {
	for _, scheme := range []string{"http", "grpc"} {
		t.Run(scheme, func(t *testing.T) {
			g := &gateway{
				whole: func(w http.ResponseWriter, _ *http.Request, frames []*eventv1.SensorFrame) bool {
					for _, f := range frames {
						if f.GetEquipmentId() == "m-13" {
							problem(w, http.StatusBadRequest, "cannot decode")
							return true
						}
					}
					return false
				},
				judge: func(f *eventv1.SensorFrame) *ingestv1.FrameResult {
					if f.GetEquipmentId() == "m-13" {
						return &ingestv1.FrameResult{Status: ingestv1.FrameStatus_FRAME_STATUS_INVALID, Reason: "poison"}
					}
					return nil
				},
			}
			var rejected []Rejection
			c := newClient(t, Config{
				URL: g.start(t, scheme), Lanes: 1, Linger: 20 * time.Millisecond,
				OnReject: func(r Rejection) { rejected = append(rejected, r) },
			})
			ctx := within(t, 30*time.Second)
			for m := range 50 {
				if err := c.Send(ctx, frameOf(fmt.Sprintf("m-%d", m), 1)); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			if len(rejected) != 1 || rejected[0].EquipmentID != "m-13" || rejected[0].Reason == "" {
				t.Fatalf("rejected %+v", rejected)
			}
			if n := g.total(); n != 49 && scheme == "http" {
				t.Fatalf("%d frames taken", n)
			}
			if st := c.Stats(); st.Acknowledged != 49 {
				t.Fatalf("stats %+v", st)
			}
		})
	}
}

func TestWrongTokenStopsInsteadOfTryingForEver(t *testing.T) {
	for _, scheme := range []string{"http", "grpc"} {
		t.Run(scheme, func(t *testing.T) {
			g := &gateway{token: "right"}
			c := newClient(t, Config{URL: g.start(t, scheme), Token: "wrong"})
			ctx := within(t, 30*time.Second)
			if err := c.Send(ctx, frameOf("m", 1)); err != nil {
				t.Fatal(err)
			}
			if err := c.Flush(ctx); !errors.Is(err, ErrStopped) {
				t.Fatalf("flush: %v, want ErrStopped", err)
			}
			if err := c.Send(ctx, frameOf("m", 2)); !errors.Is(err, ErrStopped) {
				t.Fatalf("send: %v, want ErrStopped", err)
			}
			if err := c.Close(); !errors.Is(err, ErrUnsent) {
				t.Fatalf("close: %v, want ErrUnsent", err)
			}
		})
	}
}

func TestSendBlocksWhenTheBufferIsFull(t *testing.T) {
	// Nobody listens at this address.
	c := newClient(t, Config{URL: "http://127.0.0.1:1", MaxBufferedBytes: 3000, MaxFrameBytes: 2000})
	ctx, cancel := context.WithCancel(within(t, 30*time.Second))
	var sent int
	blocked := make(chan error, 1)
	go func() {
		for {
			if err := c.Send(ctx, frameOf("m", uint64(sent+1))); err != nil {
				blocked <- err
				return
			}
			sent++
		}
	}()
	waitFor(t, func() bool { return c.Stats().Buffered >= 8 })
	cancel()
	if err := <-blocked; !errors.Is(err, context.Canceled) {
		t.Fatalf("send: %v", err)
	}
	if sent > 3000/frameOverhead {
		t.Fatalf("%d frames held in 3000 bytes", sent)
	}

	// Close frees a blocked Send, too, and says what was left.
	go func() { blocked <- c.Send(context.Background(), frameOf("m", 99)) }()
	err := c.Close()
	if !errors.Is(err, ErrUnsent) {
		t.Fatalf("close: %v", err)
	}
	if err := <-blocked; !errors.Is(err, ErrClosed) {
		t.Fatalf("blocked send: %v, want ErrClosed", err)
	}
	if again := c.Close(); !errors.Is(again, ErrUnsent) {
		t.Fatalf("second close: %v", again)
	}
}

// A gateway that takes a connection and never answers must not hold frames for ever.
func TestSilentGatewayIsLeftAfterTheTimeout(t *testing.T) {
	for _, scheme := range []string{"http", "grpc"} {
		t.Run(scheme, func(t *testing.T) {
			// The first request is taken and not answered until the test is over.
			over := make(chan struct{})
			var hung atomic.Bool
			g := &gateway{drop: func() bool {
				if hung.CompareAndSwap(false, true) {
					<-over
				}
				return false
			}}
			url := g.start(t, scheme)
			t.Cleanup(func() { close(over) }) // before the server stops
			c := newClient(t, Config{URL: url, RequestTimeout: 100 * time.Millisecond})
			ctx := within(t, 30*time.Second)
			if err := c.Send(ctx, frameOf("m", 1)); err != nil {
				t.Fatal(err)
			}
			if err := c.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if c.Stats().Retried == 0 {
				t.Fatal("the frame was not sent again")
			}
		})
	}
}

func TestTooLargeFrameIsRefusedAtOnce(t *testing.T) {
	c := newClient(t, Config{URL: "http://127.0.0.1:1", MaxFrameBytes: 100})
	f := frameOf("m", 1)
	f.Values = make([]float32, 100)
	if err := c.Send(context.Background(), f); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%v, want ErrTooLarge", err)
	}
	if c.Stats().Accepted != 0 {
		t.Fatal("it was counted as accepted")
	}
}

func TestValidateNamesEverything(t *testing.T) {
	for url, ok := range map[string]bool{
		"http://127.0.0.1:8081":  true,
		"https://gw/prefix":      true,
		"grpc://127.0.0.1:9081":  true,
		"grpcs://gw:9081":        true,
		"grpc://gw":              false,
		"ftp://gw:1":             false,
		"127.0.0.1:8081":         false,
		"":                       false,
		"http://user:pw@gw:8081": false,
	} {
		if err := (Config{URL: url}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
	if err := (Config{URL: "http://gw", Lanes: -1, MaxBatchFrames: -1, MaxBufferedBytes: 10}).Validate(); err == nil {
		t.Error("no error for nonsense")
	} else if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("want all three mistakes, got: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"-1":                            0,
		"soon":                          0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("Retry-After %q: %s, want %s", v, got, want)
		}
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it never came to that")
		}
	}
}

func BenchmarkSend(b *testing.B) {
	q := newQueue(1, newBackoff(time.Second, time.Second))
	payload := make([]byte, 120)
	b.ReportAllocs()
	for i := range b.N {
		it := &item{ref: Ref{"gw-001", "pump-0001", uint64(i)}, payload: payload}
		q.push(it)
		for _, it := range q.take(time.Time{}, nil, 1, 1000) {
			q.settle(it, time.Time{})
		}
	}
}
