package fleetsimulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/pkg/ingestclient"
	"github.com/tocsin-io/tocsin/pkg/service"
)

// sink is a sender that keeps what it gets. Each Send takes delay.
type sink struct {
	delay   time.Duration
	answers time.Duration // how long Flush takes
	mu      sync.Mutex
	frames  []*eventv1.SensorFrame
	at      []time.Time
	stall   chan struct{} // Send waits for it
	closed  bool
	fail    error
}

func (s *sink) Send(ctx context.Context, f *eventv1.SensorFrame) error {
	if s.fail != nil {
		return s.fail
	}
	if s.stall != nil {
		select {
		case <-s.stall:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.delay > 0 {
		<-time.After(s.delay) // synthetic time
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames = append(s.frames, proto.CloneOf(f))
	s.at = append(s.at, time.Now())
	return nil
}

func (s *sink) Flush(ctx context.Context) error {
	select {
	case <-time.After(s.answers):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *sink) Close() error { s.closed = true; return nil }
func (s *sink) Err() error   { return s.fail }

func (s *sink) Stats() ingestclient.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ingestclient.Stats{Accepted: uint64(len(s.frames)), Acknowledged: uint64(len(s.frames))}
}

func newService(t *testing.T, cfg Config, to *sink) *Service {
	t.Helper()
	s, err := New(cfg, service.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.client.Close(); err != nil {
		t.Fatal(err)
	}
	s.client = to
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestScheduleInRealTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Machines, cfg.Rate, cfg.Duration = 30, 2, 10*time.Second
		to := &sink{}
		s := newService(t, cfg, to)
		if s.Ready() == nil {
			t.Error("ready before Run")
		}
		start := time.Now()
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 9900*time.Millisecond || took > 10100*time.Millisecond {
			t.Errorf("10 s of real time took %s", took)
		}
		if len(to.frames) != 30*2*10 {
			t.Fatalf("%d frames", len(to.frames))
		}
		next := map[string]uint64{}
		last := map[string]int64{}
		for i, f := range to.frames {
			if late := to.at[i].UnixMicro() - f.BaseTimeUs; late < 0 || late > 2*tick.Microseconds() {
				t.Fatalf("frame %d left %d us after its time", i, late)
			}
			id := f.EquipmentId
			if n, ok := next[id]; ok && (f.Sequence != n || f.BaseTimeUs-last[id] != 500_000) {
				t.Fatalf("%s: sequence %d after %d, %d us later", id, f.Sequence, n-1, f.BaseTimeUs-last[id])
			}
			next[id], last[id] = f.Sequence+1, f.BaseTimeUs
		}
		if len(next) != 30 || !to.closed {
			t.Errorf("%d machines, closed: %t", len(next), to.closed)
		}
	})
}

func TestRestartGoesOnWithLargerSequences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Machines, cfg.Speedup, cfg.Duration = 1, 0, 30*time.Minute // as fast as possible: the worst case
		first, second := &sink{delay: time.Microsecond}, &sink{}
		for _, to := range []*sink{first, second} {
			if err := newService(t, cfg, to).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if a, b := first.frames[len(first.frames)-1].Sequence, second.frames[0].Sequence; b <= a {
			t.Fatalf("restart begins with sequence %d, the run before ended with %d", b, a)
		}
	})
}

func TestSpeedupAndStartTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Machines, cfg.Speedup, cfg.Duration, cfg.StartTime = 5, 60, 10*time.Minute, "2026-01-02T03:04:05Z"
		to := &sink{}
		began := time.Now()
		if err := newService(t, cfg, to).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 9900*time.Millisecond || took > 10100*time.Millisecond {
			t.Errorf("10 minutes at 60 times real time took %s", took)
		}
		if first := time.UnixMicro(to.frames[0].BaseTimeUs).UTC().Format(time.RFC3339); first != cfg.StartTime {
			t.Errorf("first frame is of %s", first)
		}
		if len(to.frames) != 5*600 {
			t.Errorf("%d frames", len(to.frames))
		}
	})
}

// A gateway that stalls is caught up with, up to a minute; what is older is left out and said so.
func TestStallIsCaughtUpWith(t *testing.T) {
	for _, tc := range []struct {
		stall   time.Duration
		skipped bool
	}{{30 * time.Second, false}, {10 * time.Minute, true}} {
		synctest.Test(t, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Machines, cfg.Duration = 10, 20*time.Minute
			to := &sink{stall: make(chan struct{})}
			s := newService(t, cfg, to)
			time.AfterFunc(tc.stall, func() { close(to.stall) })
			if err := s.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.skipped.Load() > 0; got != tc.skipped {
				t.Errorf("stall of %s: %d samples left out", tc.stall, s.skipped.Load())
			}
			if n := uint64(len(to.frames)) + s.skipped.Load(); n != 10*1200 {
				t.Errorf("stall of %s: %d frames and %d left out", tc.stall, len(to.frames), s.skipped.Load())
			}
			last := int64(0)
			for _, f := range to.frames {
				if f.BaseTimeUs < last {
					t.Fatal("times run backwards")
				}
				last = f.BaseTimeUs
			}
		})
	}
}

func TestCancelEndsARunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, to := range map[string]*sink{"waiting": {}, "blocked": {stall: make(chan struct{})}} {
			cfg := DefaultConfig()
			cfg.Rate = 0.01
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			began := time.Now()
			if err := newService(t, cfg, to).Run(ctx); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			if took := time.Since(began); took > 31*time.Second {
				t.Errorf("%s: ended %s after the start", name, took)
			}
		}
	})
}

// At its own end the simulation waits for every answer; told to stop, only for a moment.
func TestEndWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Duration = time.Minute
		for _, tc := range []struct{ stop, want time.Duration }{
			{time.Hour, 11 * time.Minute},
			{30 * time.Second, 35 * time.Second},
			{2 * time.Minute, 2*time.Minute + 5*time.Second},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), tc.stop)
			began := time.Now()
			if err := newService(t, cfg, &sink{answers: 10 * time.Minute}).Run(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			if took := time.Since(began); (took - tc.want).Abs() > time.Second {
				t.Errorf("stopped after %s: took %s, want %s", tc.stop, took, tc.want)
			}
		}
	})
}

// A fleet that is all silent sends nothing that could fail; it must still end when told.
func TestCancelEndsASilentFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Machines, cfg.Speedup = 1, 0
		cfg.Faults = write(t, "faults:\n- {kind: silence, machines: [pump-0001], start: 0s}\n")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		s := newService(t, cfg, &sink{})
		go func() { done <- s.Run(ctx) }()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestSendFailureEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &sink{fail: ingestclient.ErrStopped}
		if err := newService(t, DefaultConfig(), to).Run(t.Context()); !errors.Is(err, ingestclient.ErrStopped) {
			t.Fatalf("%v", err)
		}
	})
}

func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "faults.yaml")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// The truth file says when the demo's faults began and ended, to the microsecond of a frame; a second run appends.
func TestTruthFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DemoConfig()
		cfg.History, cfg.FirstFaultAfter = 0, 50*time.Second
		cfg.Duration = 5 * time.Minute
		cfg.TruthFile = filepath.Join(t.TempDir(), "truth.jsonl")
		to := &sink{}
		start := time.Now()
		if err := newService(t, cfg, to).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(cfg.TruthFile)
		if err != nil {
			t.Fatal(err)
		}
		var truths []Truth
		for line := range bytes.Lines(data) {
			var tr Truth
			d := json.NewDecoder(bytes.NewReader(line))
			d.DisallowUnknownFields()
			if err := d.Decode(&tr); err != nil {
				t.Fatal(err)
			}
			truths = append(truths, tr)
		}
		if len(truths) != 8 {
			t.Fatalf("%d lines:\n%s", len(truths), data)
		}
		began := map[string]Truth{}
		for _, tr := range truths {
			event := time.UnixMicro(tr.EventTimeUS)
			if late := tr.WallTimeUS - tr.EventTimeUS; !tr.CutShort && (late < 0 || late > 2*tick.Microseconds()) {
				t.Errorf("%s %s written %d us after its time", tr.FaultID, tr.Event, late)
			}
			if tr.Event == "start" {
				began[tr.FaultID] = tr
				if d := event.Sub(start); d < cfg.FirstFaultAfter || d > cfg.FirstFaultAfter+46*time.Second {
					t.Errorf("%s began after %s", tr.FaultID, d)
				}
				i := slices.IndexFunc(to.frames, func(f *eventv1.SensorFrame) bool {
					return f.EquipmentId == tr.EquipmentID && f.BaseTimeUs == tr.EventTimeUS
				})
				if silent := tr.Kind == "silence"; silent != (i < 0) || i >= 0 && to.frames[i].Sequence != tr.Sequence {
					t.Errorf("%s: first frame is number %d", tr.FaultID, i)
				}
				continue
			}
			long := event.Sub(time.UnixMicro(began[tr.FaultID].EventTimeUS))
			want := map[string]time.Duration{"demo-leak": 4 * time.Minute, "demo-silence": 3 * time.Minute}[tr.FaultID]
			if tr.CutShort != (want == 0) || want != 0 && long != want {
				t.Errorf("%s lasted %s, cut short: %t", tr.FaultID, long, tr.CutShort)
			}
		}
		if err := newService(t, cfg, &sink{}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		twice, err := os.ReadFile(cfg.TruthFile)
		if err != nil || !bytes.HasPrefix(twice, data) || bytes.Count(twice, []byte("\n")) != 16 {
			t.Errorf("second run: %v, %d lines", err, bytes.Count(twice, []byte("\n")))
		}
	})
}

func TestFramesNeedsNoNetworkAndRepeats(t *testing.T) {
	cfg := DemoConfig()
	cfg.History, cfg.FirstFaultAfter = 0, 50*time.Second
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var runs [2][]byte
	for r := range runs {
		seq, err := Frames(cfg, start, 100*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		n, silent := 0, 0
		for s := range seq {
			n++
			if s.Frame == nil {
				silent++
				continue
			}
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.Frame)
			if err != nil {
				t.Fatal(err)
			}
			runs[r] = append(runs[r], b...)
		}
		if n != 20*100+1 || silent != 40+1 { // the last one holds the truths of the end
			t.Fatalf("%d samples, %d silent", n, silent)
		}
	}
	if !bytes.Equal(runs[0], runs[1]) {
		t.Fatal("two runs differ")
	}
	if lines := DemoFaults(cfg); len(lines) != 4 || !strings.Contains(lines[0], "leak of pump-0001 after 50s") {
		t.Errorf("%q", lines)
	}
}

func TestValidate(t *testing.T) {
	for _, ok := range []Config{DefaultConfig(), DemoConfig()} {
		if err := ok.Validate(); err != nil {
			t.Error(err)
		}
	}
	for want, change := range map[string]func(*Config){
		"machines: ":          func(c *Config) { c.Machines = 0 },
		"rate: ":              func(c *Config) { c.Rate = math.NaN() },
		"gateways: ":          func(c *Config) { c.Gateways = 21 },
		"faults: ":            func(c *Config) { c.Faults = "" },
		"first_fault_after: ": func(c *Config) { c.FirstFaultAfter = -1 },
		"fault_every: ":       func(c *Config) { c.Faults, c.FaultEvery = FaultsAuto, 0 },
		"duration: ":          func(c *Config) { c.Duration = -1 },
		"speedup: ":           func(c *Config) { c.Speedup = -1 },
		"cycle: ":             func(c *Config) { c.Cycle = time.Second },
		"start_time: ":        func(c *Config) { c.StartTime = "yesterday" },
		"to: ":                func(c *Config) { c.To = "localhost" },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s got %v", want, err)
		}
		if s, err := New(c, service.Nop()); err == nil {
			_ = s.Close()
			t.Errorf("%s New took it", want)
		}
	}
}

func TestNewNamesMistakesInTheFaultsFile(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Faults = write(t, "faults:\n- kind: leak\n  machines: [pump-9999]\n")
	if _, err := New(cfg, service.Nop()); err == nil || !strings.Contains(err.Error(), "faults.yaml:2: no machine \"pump-9999\"") {
		t.Error(err)
	}
	cfg.Faults = filepath.Join(t.TempDir(), "none.yaml")
	if _, err := New(cfg, service.Nop()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	cfg.Faults, cfg.TruthFile = FaultsNone, filepath.Join(t.TempDir(), "no", "truth")
	if _, err := New(cfg, service.Nop()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	s, err := New(DefaultConfig(), service.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

func TestHistoryIsSentAtOnceAndThenRealTimeGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Machines, cfg.History, cfg.Duration = 2, 10*time.Minute, 11*time.Minute
		to := &sink{}
		s := newService(t, cfg, to)
		start := time.Now()
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 59*time.Second || took > 61*time.Second {
			t.Errorf("10 minutes of history and one of real time took %s", took)
		}
		if len(to.frames) != 2*11*60 || s.skipped.Load() != 0 {
			t.Errorf("%d frames, %d skipped", len(to.frames), s.skipped.Load())
		}
		if first := time.UnixMicro(to.frames[0].BaseTimeUs); start.Sub(first) != cfg.History {
			t.Errorf("the history begins %s ago", start.Sub(first))
		}
	})
}
