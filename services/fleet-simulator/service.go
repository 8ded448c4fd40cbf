// Package fleetsimulator is a fleet of machines with believable physics and faults that are known exactly. It sends what
// their gateways would send, and writes down the truth to judge detectors by. See DESIGN.md.
package fleetsimulator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/pkg/ingestclient"
	"github.com/tocsin-io/tocsin/pkg/service"

	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/fleet"
)

const (
	// tick is how often due samples are sent: at most 50 wake-ups a second, and samples leave at most this late. Their
	// times are those of the schedule.
	tick = 20 * time.Millisecond
	// maxLag: what is further behind than this, in real time, is left out rather than caught up with.
	maxLag     = time.Minute
	statsEvery = 10 * time.Second
	// drain is how long the frames under way may take once the simulation is told to stop.
	drain = 5 * time.Second
)

// sender is the part of ingestclient.Client that is used here.
type sender interface {
	Send(ctx context.Context, f *eventv1.SensorFrame) error
	Flush(ctx context.Context) error
	Close() error
	Stats() ingestclient.Stats
	Err() error
}

// Service is the simulator: New -> Run -> done, or New -> Close. Ready may be called at any time.
type Service struct {
	cfg    Config
	log    *zap.Logger
	fleet  *fleet.Fleet
	client sender
	truth  *os.File // nil: not wanted
	line   []byte

	running  atomic.Bool
	sampled  atomic.Uint64 // samples taken
	silent   atomic.Uint64 // of these, withheld by a fault
	skipped  atomic.Uint64 // not taken: too far behind
	faults   atomic.Int64  // active now
	lag      atomic.Int64  // ns behind the schedule
	rejects  rejections
	once     sync.Once
	closeErr error
}

// rejections remembers what to log of refused frames: the first of each kind, not a million of the same.
type rejections struct {
	mu   sync.Mutex
	seen map[string]bool
}

// New opens the truth file and reads the faults, so that mistakes in them show at once. It sends nothing yet.
func New(cfg Config, deps service.Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("fleet simulator: %w", err)
	}
	f, err := newFleet(cfg)
	if err != nil {
		return nil, fmt.Errorf("fleet simulator: %w", err)
	}
	s := &Service{cfg: cfg, log: deps.Log, fleet: f, rejects: rejections{seen: map[string]bool{}}}
	client, err := ingestclient.New(ingestclient.Config{URL: cfg.To, Token: cfg.Token, Log: deps.Log, OnReject: s.rejected})
	if err != nil {
		return nil, fmt.Errorf("fleet simulator: %w", err)
	}
	s.client = client
	if cfg.TruthFile != "" {
		s.truth, err = os.OpenFile(cfg.TruthFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("fleet simulator: truth file: %w", err), client.Close())
		}
	}
	if deps.Metrics != nil {
		s.register(deps.Metrics)
	}
	return s, nil
}

func (s *Service) register(set *metrics.Set) {
	stat := func(f func(ingestclient.Stats) uint64) func() float64 {
		return func() float64 { return float64(f(s.client.Stats())) }
	}
	for name, f := range map[string]func() float64{
		"tocsin_simulator_samples_total":             func() float64 { return float64(s.sampled.Load()) },
		"tocsin_simulator_samples_silent_total":      func() float64 { return float64(s.silent.Load()) },
		"tocsin_simulator_samples_skipped_total":     func() float64 { return float64(s.skipped.Load()) },
		"tocsin_simulator_faults_active":             func() float64 { return float64(s.faults.Load()) },
		"tocsin_simulator_lag_seconds":               func() float64 { return time.Duration(s.lag.Load()).Seconds() },
		"tocsin_simulator_frames_acknowledged_total": stat(func(t ingestclient.Stats) uint64 { return t.Acknowledged }),
		"tocsin_simulator_frames_rejected_total":     stat(func(t ingestclient.Stats) uint64 { return t.Rejected }),
		"tocsin_simulator_frames_retried_total":      stat(func(t ingestclient.Stats) uint64 { return t.Retried }),
		"tocsin_simulator_frames_buffered":           stat(func(t ingestclient.Stats) uint64 { return t.Buffered }),
	} {
		set.NewGauge(name, f)
	}
}

// Ready is nil once the gateway has acknowledged something.
func (s *Service) Ready() error {
	switch {
	case !s.running.Load():
		return errors.New("the simulation is not running")
	case s.client.Err() != nil:
		return s.client.Err()
	case s.client.Stats().Acknowledged == 0:
		return errors.New("the gateway has not acknowledged a frame yet")
	}
	return nil
}

// Close stops sending and releases everything. Run does it, too, when it ends.
func (s *Service) Close() error {
	s.once.Do(func() {
		s.closeErr = s.client.Close()
		if s.truth != nil {
			s.closeErr = errors.Join(s.closeErr, s.truth.Close())
		}
	})
	return s.closeErr
}

// Run simulates until ctx ends, then waits a moment for what is under way; or until Duration is over, then waits for all
// of it. Frames without an answer at the end are logged, not an error: a fleet does not stop because nobody listens. It can be called once.
func (s *Service) Run(ctx context.Context) error {
	now := time.Now()
	start, err := s.cfg.startTime(now)
	if err != nil {
		return errors.Join(fmt.Errorf("start_time: %w", err), s.Close())
	}
	f := s.fleet
	f.StartSequences(firstSequence(now))
	s.running.Store(true)
	defer s.running.Store(false)
	s.log.Info("simulation starts", zap.Int("machines", s.cfg.Machines), zap.Int("gateways", s.cfg.gateways()), zap.Float64("rate_hz", s.cfg.Rate),
		zap.String("faults", s.cfg.Faults), zap.String("to", s.cfg.To), zap.Time("start_time", start), zap.Float64("speedup", s.cfg.Speedup))

	report, done := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.report(report) })
	at, err := s.simulate(ctx, f, start)
	if ctx.Err() != nil {
		err = nil // asked to stop
	}
	err = errors.Join(err, s.record(f.Stop(start.Add(at).UnixMicro())))
	err = errors.Join(err, s.finish(ctx, err == nil && ctx.Err() == nil))
	done()
	wg.Wait()
	s.logStats("simulation ended")
	return err
}

// simulate returns the simulated time that has passed.
func (s *Service) simulate(ctx context.Context, f *fleet.Fleet, start time.Time) (time.Duration, error) {
	began := time.Now()
	sched := schedule{period: s.cfg.period(), machines: f.Len()}
	var at time.Duration
	for {
		var i int
		i, at = sched.next()
		if s.cfg.Duration > 0 && at >= s.cfg.Duration {
			return s.cfg.Duration, nil
		}
		if s.cfg.Speedup > 0 {
			lag := s.cfg.History + time.Since(began) - time.Duration(float64(at)/s.cfg.Speedup)
			if lag < 0 {
				if !pause(ctx, max(-lag, tick)) {
					return at, ctx.Err()
				}
			}
			s.lag.Store(int64(max(0, lag)))
			if lag > maxLag && sched.i == 0 && at >= s.cfg.History {
				n := sched.skipTo(s.cfg.History + time.Duration(float64(time.Since(began))*s.cfg.Speedup))
				s.skipped.Add(uint64(n))
				s.log.Warn("too far behind the schedule: samples left out", zap.Int("samples", n), zap.Duration("lag", lag))
			}
		}
		sample := f.Sample(i, start.Add(at).UnixMicro(), at)
		s.sampled.Add(1)
		if len(sample.Truths) > 0 {
			if err := s.record(sample.Truths); err != nil {
				return at, err
			}
		}
		if sample.Frame == nil {
			s.silent.Add(1)
			if i == 0 && ctx.Err() != nil { // nothing else would notice while all are silent
				return at, ctx.Err()
			}
			continue
		}
		if err := s.client.Send(ctx, sample.Frame); err != nil {
			return at, fmt.Errorf("send: %w", err)
		}
	}
}

// record appends to the truth file; a truth that cannot be kept ends the simulation, for it would be worthless.
func (s *Service) record(truths []Truth) error {
	for _, t := range truths {
		delta := int64(1)
		if t.Event == "end" {
			delta = -1
		}
		s.faults.Add(delta)
		s.log.Info("fault "+t.Event, zap.String("fault", t.FaultID), zap.String("kind", t.Kind), zap.String("equipment_id", t.EquipmentID),
			zap.Strings("sensors", t.Sensors), zap.Time("event_time", time.UnixMicro(t.EventTimeUS)))
		if s.truth == nil {
			continue
		}
		line, err := t.AppendLine(s.line[:0], time.Now())
		if err != nil {
			return fmt.Errorf("truth file: %w", err)
		}
		s.line = line
		if _, err := s.truth.Write(line); err != nil {
			return fmt.Errorf("truth file: %w", err)
		}
	}
	return nil
}

// finish waits for the last answers and closes. When the simulation came to its end, it waits until all are there or ctx ends;
// whoever stops it before wants it to stop.
func (s *Service) finish(ctx context.Context, patient bool) error {
	if patient && s.client.Flush(ctx) == nil {
		return s.Close()
	}
	fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := s.client.Flush(fctx); err != nil {
		s.log.Warn("frames were left without an answer", zap.Uint64("frames", s.client.Stats().Buffered), zap.Error(err))
	}
	err := s.Close()
	if errors.Is(err, ingestclient.ErrUnsent) {
		return nil
	}
	return err
}

func (s *Service) rejected(r ingestclient.Rejection) {
	key := fmt.Sprintf("%t/%s", r.Forbidden, r.Field)
	s.rejects.mu.Lock()
	first := !s.rejects.seen[key] && len(s.rejects.seen) < 100
	if first {
		s.rejects.seen[key] = true
	}
	s.rejects.mu.Unlock()
	if first {
		s.log.Error("gateway refuses a frame; more like it are only counted", zap.Stringer("frame", r.Ref),
			zap.String("field", r.Field), zap.String("reason", r.Reason), zap.Bool("forbidden", r.Forbidden))
	}
}

func (s *Service) report(ctx context.Context) {
	t := time.NewTicker(statsEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.logStats("simulation")
		}
	}
}

func (s *Service) logStats(msg string) {
	st := s.client.Stats()
	s.log.Info(msg, zap.Uint64("sent", st.Accepted), zap.Uint64("acknowledged", st.Acknowledged), zap.Uint64("refused", st.Rejected),
		zap.Uint64("retried", st.Retried), zap.Uint64("waiting", st.Buffered), zap.Uint64("silent", s.silent.Load()),
		zap.Uint64("skipped", s.skipped.Load()), zap.Int64("faults_active", s.faults.Load()), zap.Duration("lag", time.Duration(s.lag.Load())))
}

// pause is false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
