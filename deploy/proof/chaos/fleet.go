package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
	"github.com/tocsin-io/tocsin/pkg/ingestclient"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// The fleet's shape: frames a second = machines / framePeriod.
const (
	framePeriod  = 200 * time.Millisecond
	samplePeriod = 100 * time.Millisecond
	limit        = 90 // of the temperature, see detection
)

// FleetConfig says who sends.
type FleetConfig struct {
	Edges           int // senders, each with its own gateway_id and clock
	MachinesPerEdge int
	// Each machine is too hot for FaultLength in every FaultPeriod, one after the other.
	FaultPeriod, FaultLength time.Duration
}

// edge is a sender at a plant: some machines, one clock, one client.
type edge struct {
	id       string
	client   *ingestclient.Client
	machines []*machine
	skew     atomic.Int64 // nanoseconds that its clock is off
	// Wall time at which the newest acknowledged frame was handed to the client: what is acknowledged was sent then.
	ackedSentAt atomic.Int64
}

type machine struct {
	id     string
	phase  time.Duration
	seq    uint64
	sentAt [4096]atomic.Int64 // by sequence; larger than what a client holds of a machine
}

// fleet is all edges. Sequences grow by one and every frame is kept until it is acknowledged.
type fleet struct {
	cfg      FleetConfig
	edges    []*edge
	ledger   *history.Ledger
	rejected atomic.Int64
	lastAck  atomic.Int64
	sent     atomic.Int64
	acked    atomic.Int64
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu     sync.Mutex
	failed error
}

func startFleet(cfg FleetConfig, gatewayHTTP, gatewayGRPC string, ledger *history.Ledger) (*fleet, error) {
	ctx, stop := context.WithCancel(context.Background())
	f := &fleet{cfg: cfg, ledger: ledger, stop: stop}
	for e := range cfg.Edges {
		ed := &edge{id: fmt.Sprintf("edge-%d", e+1)}
		url := "http://" + gatewayHTTP
		if e%2 == 1 {
			url = "grpc://" + gatewayGRPC
		}
		client, err := ingestclient.New(ingestclient.Config{
			URL: url, MaxBackoff: time.Second, RequestTimeout: 5 * time.Second, MaxInFlightPerMachine: 32,
			OnAck:    func(r ingestclient.Ref) { f.onAck(ed, r) },
			OnReject: func(r ingestclient.Rejection) { f.onReject(ed, r) },
		})
		if err != nil {
			return nil, errors.Join(err, f.close(ctx))
		}
		ed.client = client
		for m := range cfg.MachinesPerEdge {
			n := e*cfg.MachinesPerEdge + m
			ed.machines = append(ed.machines, &machine{
				id:    fmt.Sprintf("press-%03d", n+1),
				phase: cfg.FaultPeriod * time.Duration(n) / time.Duration(cfg.Edges*cfg.MachinesPerEdge),
			})
		}
		f.edges = append(f.edges, ed)
	}
	begin := time.Now()
	for _, ed := range f.edges {
		f.wg.Go(func() { f.run(ctx, ed, begin) })
	}
	return f, nil
}

// run sends for one edge until ctx ends. What an outage delays is sent then, with the times at which it was measured.
func (f *fleet) run(ctx context.Context, ed *edge, begin time.Time) {
	tick := time.NewTicker(framePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		for _, m := range ed.machines {
			if err := f.send(ctx, ed, m, now, now.Sub(begin)); err != nil {
				if ctx.Err() == nil {
					f.fail(fmt.Errorf("%s: send for %s: %w", ed.id, m.id, err))
				}
				return
			}
		}
	}
}

func (f *fleet) send(ctx context.Context, ed *edge, m *machine, now time.Time, since time.Duration) error {
	m.seq++
	frame := measure(ed, m, now, since, f.cfg)
	ref := history.FrameRef{Gateway: ed.id, Equipment: m.id, Sequence: m.seq}
	m.sentAt[m.seq%uint64(len(m.sentAt))].Store(now.UnixNano())
	f.ledger.Sent(ref)
	f.sent.Add(1)
	return ed.client.Send(ctx, frame)
}

var sensors = []string{"temperature", "vibration", "current"} //nolint:gochecknoglobals // a constant list

// measure makes a frame: noise around a level, and the temperature far too high while the machine's fault lasts.
func measure(ed *edge, m *machine, now time.Time, since time.Duration, cfg FleetConfig) *eventv1.SensorFrame {
	at := now.Add(time.Duration(ed.skew.Load()))
	const samples = int(framePeriod / samplePeriod)
	frame := &eventv1.SensorFrame{
		EquipmentId: m.id, GatewayId: ed.id, Sequence: m.seq, BaseTimeUs: at.Add(-framePeriod).UnixMicro(), Sensors: sensors,
	}
	for i := range samples {
		frame.TimeOffsetsUs = append(frame.TimeOffsetsUs, uint64(time.Duration(i)*samplePeriod/time.Microsecond))
	}
	hot := (since+m.phase)%cfg.FaultPeriod < cfg.FaultLength && since > cfg.FaultPeriod/8
	for s := range sensors {
		for i := range samples {
			v := 40 + 10*float64(s) + math.Sin(float64(m.seq)/50) + noise(m.id, m.seq, s, i)
			if hot && s == 0 {
				v = limit + 20 + noise(m.id, m.seq, s, i)
			}
			frame.Values = append(frame.Values, float32(v))
		}
	}
	return frame
}

// noise is between -1 and 1 and a function of its arguments: a run needs no seed.
func noise(id string, seq uint64, sensor, sample int) float64 {
	h := seq*0x9E3779B97F4A7C15 ^ uint64(sensor+1)*0xC2B2AE3D27D4EB4F ^ uint64(sample+1)*0x165667B19E3779F9
	for _, c := range []byte(id) {
		h = (h ^ uint64(c)) * 0x100000001B3
	}
	h ^= h >> 31
	h *= 0xD6E8FEB86659FD93
	h ^= h >> 29
	return float64(h%2000)/1000 - 1
}

func (f *fleet) onAck(ed *edge, r ingestclient.Ref) {
	f.ledger.Acked(history.FrameRef{Gateway: r.GatewayID, Equipment: r.EquipmentID, Sequence: r.Sequence})
	f.acked.Add(1)
	f.lastAck.Store(time.Now().UnixNano())
	for _, m := range ed.machines {
		if m.id != r.EquipmentID {
			continue
		}
		at := m.sentAt[r.Sequence%uint64(len(m.sentAt))].Load()
		// Callbacks of one client's lanes meet here.
		for old := ed.ackedSentAt.Load(); at > old; old = ed.ackedSentAt.Load() {
			if ed.ackedSentAt.CompareAndSwap(old, at) {
				return
			}
		}
		return
	}
}

func (f *fleet) onReject(ed *edge, r ingestclient.Rejection) {
	f.rejected.Add(1)
	f.fail(fmt.Errorf("%s: frame %s was rejected: %s: %s", ed.id, r.Ref, r.Field, r.Reason))
}

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil {
		f.failed = err
	}
}

func (f *fleet) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// ackedSince tells whether every edge has had a frame acknowledged that it sent after t.
func (f *fleet) ackedSince(t time.Time) bool {
	for _, ed := range f.edges {
		if ed.ackedSentAt.Load() <= t.UnixNano() {
			return false
		}
	}
	return true
}

// rest stops making frames and waits until all that were made are acknowledged.
func (f *fleet) rest(ctx context.Context) error {
	f.stop()
	f.wg.Wait()
	var errs []error
	for _, ed := range f.edges {
		if err := ed.client.Flush(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: frames that nobody acknowledged: %w (%+v)", ed.id, err, ed.client.Stats()))
		}
	}
	return errors.Join(errs...)
}

// close stops at once. Frames that are still held are not acknowledged, so nothing is promised about them.
func (f *fleet) close(context.Context) error {
	f.stop()
	f.wg.Wait()
	var errs []error
	for _, ed := range f.edges {
		if ed.client == nil {
			continue
		}
		if err := ed.client.Close(); err != nil && !errors.Is(err, ingestclient.ErrUnsent) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
