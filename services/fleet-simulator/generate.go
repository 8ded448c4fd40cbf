package fleetsimulator

import (
	"fmt"
	"iter"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/fault"
	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/fleet"
)

// Truth is one line of the truth file.
type Truth = fleet.Truth

// Sample is what one machine gave at one instant.
type Sample struct {
	// Frame is nil when a fault keeps the machine silent. It belongs to the caller.
	Frame *eventv1.SensorFrame
	// Truths are the faults that began or ended with this sample.
	Truths []Truth
}

// Frames simulates the fleet from start on for d, with sequences from 1 on, and yields every sample in the order of its time:
// no network, no clock. The same configuration and start give the same samples, byte for byte. It reads cfg.Faults when that is a file.
func Frames(cfg Config, start time.Time, d time.Duration) (iter.Seq[Sample], error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if _, err := newFleet(cfg); err != nil {
		return nil, err
	}
	return func(yield func(Sample) bool) {
		f, err := newFleet(cfg) // a new one for every range over it
		if err != nil {
			return // it worked above, so a file was taken away since
		}
		s := schedule{period: cfg.period(), machines: f.Len()}
		for {
			i, at := s.next()
			if at >= d {
				break
			}
			got := f.Sample(i, start.Add(at).UnixMicro(), at)
			out := Sample{Truths: got.Truths}
			if got.Frame != nil {
				out.Frame = proto.CloneOf(got.Frame)
			}
			if !yield(out) {
				return
			}
		}
		if end := f.Stop(start.Add(d).UnixMicro()); len(end) > 0 {
			yield(Sample{Truths: end})
		}
	}, nil
}

// DemoFaults says, as one line each, what the demo plan does to a fleet of this configuration, and when.
func DemoFaults(cfg Config) []string {
	var out []string
	for _, f := range fault.Demo(fleet.Targets(cfg.Machines, cfg.gateways()), cfg.FirstFaultAfter).Faults {
		line := fmt.Sprintf("%s: %s of %s after %s for %s", f.ID, f.Kind, f.Machines[0], f.Start, f.Duration)
		if len(f.Sensors) > 0 {
			line += fmt.Sprintf(" (%s)", f.Sensors[0])
		}
		out = append(out, line)
	}
	return out
}

// newFleet reads or makes the plan and builds the machines, with sequences from 1 on.
func newFleet(cfg Config) (*fleet.Fleet, error) {
	targets := fleet.Targets(cfg.Machines, cfg.gateways())
	var plan fault.Plan
	switch cfg.Faults {
	case FaultsNone:
	case FaultsAuto:
		until := fault.MaxHorizon
		if cfg.Duration > 0 {
			until = cfg.Duration
		}
		plan = fault.Auto(targets, cfg.Seed, cfg.FirstFaultAfter, cfg.FaultEvery, until)
	case FaultsDemo:
		plan = fault.Demo(targets, cfg.FirstFaultAfter)
	default:
		file, err := os.Open(cfg.Faults)
		if err != nil {
			return nil, fmt.Errorf("faults: %w", err)
		}
		defer file.Close()
		if plan, err = fault.ParseYAML(cfg.Faults, file); err != nil {
			return nil, fmt.Errorf("faults: %w", err)
		}
	}
	f, err := fleet.New(fleet.Config{
		Machines: cfg.Machines, Gateways: cfg.gateways(), Seed: cfg.Seed, Cycle: cfg.Cycle,
	}, plan)
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	return f, nil
}

// firstSequence is the process's start in microseconds since 1970. Sequences so go on growing after a restart without anything kept
// on disk: a machine sends at most one frame per microsecond (a sample alone takes about one to compute, and encoding more), so the
// sequences of a run end below the start of any later run.
func firstSequence(now time.Time) uint64 { return uint64(max(1, now.UnixMicro())) }

// schedule spreads the machines' samples evenly over the period: machine i of n at k*period + i*period/n.
type schedule struct {
	period   time.Duration
	machines int
	i        int
	round    time.Duration
}

// next says which machine is to be sampled next, and when after the start.
func (s *schedule) next() (machine int, at time.Duration) {
	i := s.i
	// In float: period x machines may not fit 63 bits, and a nanosecond does not matter.
	at = s.round + time.Duration(float64(s.period)*float64(i)/float64(s.machines))
	if s.i++; s.i == s.machines {
		s.i = 0
		s.round += s.period
	}
	return i, at
}

// skipTo leaves out the rounds that are over at a time, and says how many samples that were.
func (s *schedule) skipTo(at time.Duration) int {
	if at <= s.round+s.period {
		return 0
	}
	n := int((at - s.round) / s.period)
	s.round += time.Duration(n * int(s.period))
	return n * s.machines
}
