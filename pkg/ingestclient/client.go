package ingestclient

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

var (
	// ErrClosed is returned by Send and Flush after Close.
	ErrClosed = errors.New("ingest client is closed")
	// ErrUnsent is returned by Close when frames were still held; they may or may not be in Kafka.
	ErrUnsent = errors.New("frames were not acknowledged")
	// ErrStopped wraps the reason why the client gave up: sending again cannot help (wrong token, wrong URL, TLS required).
	ErrStopped = errors.New("gateway cannot be used as configured")
	// ErrTooLarge is returned by Send for a frame above MaxFrameBytes.
	ErrTooLarge = errors.New("frame is too large")
)

// Client sends frames to one gateway. All methods may be called concurrently; the order of one machine's frames is the order in
// which Send calls for it return, so let one goroutine send for a machine.
type Client struct {
	cfg    Config
	log    *zap.Logger
	lanes  []*lane
	budget *semaphore.Weighted
	cancel context.CancelFunc
	wg     sync.WaitGroup
	finish func() error // releases the transport's connections

	accepted, acknowledged, rejected, retried atomic.Uint64

	mu      sync.Mutex
	pending int           // frames held
	idle    chan struct{} // closed when pending falls to 0; nil while nobody waits
	err     error         // why Send refuses: ErrClosed, or ErrStopped and its reason
	dead    chan struct{} // closed when err is set
	closing sync.Once
	endErr  error
}

// transport carries frames of one lane until ctx ends (nil) or sending is hopeless (the reason).
type transport interface {
	run(ctx context.Context, l *lane) error
}

// New starts the lanes. It does not connect: a gateway that is not there yet is waited for.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	u, err := cfg.check()
	if err != nil {
		return nil, fmt.Errorf("ingest client: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{
		cfg:    cfg,
		log:    cfg.Log,
		budget: semaphore.NewWeighted(int64(cfg.MaxBufferedBytes)),
		cancel: cancel,
		dead:   make(chan struct{}),
	}
	var tr transport
	switch u.Scheme {
	case "http", "https":
		h := newHTTPTransport(cfg, u)
		tr, c.finish = h, h.close
	default:
		g, err := newGRPCTransport(cfg, u)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("ingest client: %w", err)
		}
		tr, c.finish = g, g.close
	}
	for range cfg.Lanes {
		l := newLane(c)
		c.lanes = append(c.lanes, l)
		c.wg.Go(func() {
			if err := tr.run(ctx, l); err != nil {
				c.fail(fmt.Errorf("%w: %w", ErrStopped, err))
				c.log.Error("gateway cannot be used as configured; sending stopped", zap.Error(err))
				cancel()
			}
		})
	}
	return c, nil
}

// Send encodes the frame and takes it over; f may be reused afterwards. It blocks while the buffer is full. It fails when
// ctx ends, after Close, when the client has stopped (ErrStopped), and for a frame too large to ever be taken: then nothing
// was taken over.
func (c *Client) Send(ctx context.Context, f *eventv1.SensorFrame) error {
	payload, err := proto.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	return c.SendEncoded(ctx, Ref{GatewayID: f.GetGatewayId(), EquipmentID: f.GetEquipmentId(), Sequence: f.GetSequence()}, payload)
}

// SendEncoded is Send for a frame that is already encoded. ref must name what the payload says; payload belongs to the
// client from now on and must not be changed.
func (c *Client) SendEncoded(ctx context.Context, ref Ref, payload []byte) error {
	if len(payload) > c.cfg.MaxFrameBytes {
		return fmt.Errorf("frame %s of %d bytes, at most %d: %w", ref, len(payload), c.cfg.MaxFrameBytes, ErrTooLarge)
	}
	it := &item{ref: ref, payload: payload}
	if err := c.reserve(ctx, it.cost()); err != nil {
		return err
	}
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		c.budget.Release(it.cost())
		return err
	}
	c.pending++
	c.mu.Unlock()
	c.accepted.Add(1)
	c.lanes[laneOf(ref, len(c.lanes))].push(it)
	return nil
}

func (c *Client) reserve(ctx context.Context, n int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.budget.TryAcquire(n) {
		return nil
	}
	// A blocked Send must also end when the client does.
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.dead:
			cancel()
		case <-wctx.Done():
		}
	}()
	if err := c.budget.Acquire(wctx, n); err != nil {
		if ctx.Err() == nil {
			return c.failure()
		}
		return ctx.Err()
	}
	return nil
}

// Flush waits until nothing is held: every frame that was taken is acknowledged or rejected. Frames sent meanwhile count too.
func (c *Client) Flush(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.pending == 0 {
			c.mu.Unlock()
			return nil
		}
		if c.err != nil {
			err := c.err
			c.mu.Unlock()
			return err
		}
		if c.idle == nil {
			c.idle = make(chan struct{})
		}
		idle := c.idle
		c.mu.Unlock()
		select {
		case <-idle:
		case <-c.dead:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close stops sending at once and releases everything; call Flush first to send what is held. It returns ErrUnsent with the
// number of frames without an answer, and is safe to call again.
func (c *Client) Close() error {
	c.closing.Do(func() {
		c.fail(ErrClosed)
		c.cancel()
		c.wg.Wait()
		var errs []error
		c.mu.Lock()
		if c.pending > 0 {
			errs = append(errs, fmt.Errorf("%d %w", c.pending, ErrUnsent))
		}
		c.mu.Unlock()
		c.endErr = errors.Join(append(errs, c.finish())...)
	})
	return c.endErr
}

// Stats may be read at any time; its numbers are taken one after the other.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	buffered := c.pending
	c.mu.Unlock()
	return Stats{
		Accepted:     c.accepted.Load(),
		Acknowledged: c.acknowledged.Load(),
		Rejected:     c.rejected.Load(),
		Retried:      c.retried.Load(),
		Buffered:     uint64(buffered),
	}
}

// Err is the reason why the client takes no more frames, nil while it does.
func (c *Client) Err() error { return c.failure() }

func (c *Client) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.dead)
	}
}

func (c *Client) acked(it *item) {
	c.acknowledged.Add(1)
	if c.cfg.OnAck != nil {
		c.cfg.OnAck(it.ref)
	}
	c.done(it)
}

func (c *Client) reject(it *item, r Rejection) {
	r.Ref = it.ref
	c.rejected.Add(1)
	if c.cfg.OnReject != nil {
		c.cfg.OnReject(r)
	} else {
		c.log.Warn("frame rejected", zap.Stringer("frame", it.ref), zap.String("field", r.Field), zap.String("reason", r.Reason))
	}
	c.done(it)
}

func (c *Client) done(it *item) {
	c.budget.Release(it.cost())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending--
	if c.pending == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

func (it *item) cost() int64 { return int64(len(it.payload)) + frameOverhead }

// String is "gateway/machine/sequence", quoted where it must be.
func (r Ref) String() string { return fmt.Sprintf("%q/%q/%d", r.GatewayID, r.EquipmentID, r.Sequence) }

func laneOf(r Ref, lanes int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.GatewayID))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(r.EquipmentID))
	return int(h.Sum32() % uint32(lanes))
}
