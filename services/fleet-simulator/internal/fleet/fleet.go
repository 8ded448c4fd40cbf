// Package fleet joins machines, gateways and faults: for any instant it makes the frame that a machine's gateway would
// send, and the truth about what is wrong with it. It reads no clock and does no I/O; the same configuration gives the same
// frames, byte for byte.
package fleet

import (
	"fmt"
	"math/rand/v2"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/fault"
	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/physics"
)

// Config of a fleet.
type Config struct {
	Machines int
	Gateways int
	Seed     uint64
	// Cycle is the length of a shift; 0 runs all machines continuously.
	Cycle time.Duration
}

// Targets lists the machines of a fleet: kinds take turns (pump-0001, compressor-0001, fan-0001, spindle-0001, conveyor-0001,
// pump-0002, ...), and neighbours share a gateway (gw-001, ...).
func Targets(machines, gateways int) []fault.Target {
	out := make([]fault.Target, machines)
	for i := range out {
		kind := physics.Kind(i % int(physics.Kinds))
		out[i] = fault.Target{
			Machine: fmt.Sprintf("%s-%04d", kind, i/int(physics.Kinds)+1),
			Gateway: fmt.Sprintf("gw-%03d", i*gateways/machines+1),
			Kind:    kind,
		}
	}
	return out
}

// Fleet is all machines. Not safe for concurrent use. A machine takes about 1 KB.
type Fleet struct {
	units []unit
}

type unit struct {
	target   fault.Target
	machine  *physics.Machine
	injector *fault.Injector
	sequence uint64 // of the next frame
	frame    eventv1.SensorFrame
	values   []float32
}

// Sample is what came of one instant of one machine.
type Sample struct {
	// Frame to send; nil when the machine is silent. Valid until the next sample of the same machine.
	Frame *eventv1.SensorFrame
	// Truths are the faults that began or ended with it.
	Truths []Truth
}

// New makes the fleet and binds the plan to it.
func New(cfg Config, plan fault.Plan) (*Fleet, error) {
	targets := Targets(cfg.Machines, cfg.Gateways)
	injectors, err := plan.Bind(targets)
	if err != nil {
		return nil, err
	}
	names := make([][]string, physics.Kinds)
	for k := range physics.Kinds {
		for _, s := range k.Sensors() {
			names[k] = append(names[k], s.Name)
		}
	}
	seeds := rand.New(rand.NewPCG(cfg.Seed, 0xf1ee7))
	f := &Fleet{units: make([]unit, len(targets))}
	for i, t := range targets {
		u := &f.units[i]
		u.target = t
		u.machine = physics.New(t.Kind, seeds.Uint64(), cfg.Cycle)
		u.injector = injectors[i]
		u.sequence = 1
		u.frame.EquipmentId, u.frame.GatewayId = t.Machine, t.Gateway
		u.frame.Sensors = names[t.Kind] // shared: frames never change it
	}
	return f, nil
}

// Len is the number of machines.
func (f *Fleet) Len() int { return len(f.units) }

// StartSequences makes first the sequence of every machine's next frame.
func (f *Fleet) StartSequences(first uint64) {
	for i := range f.units {
		f.units[i].sequence = first
	}
}

// Sample machine i at an instant: us is the true time in microseconds since 1970 UTC, elapsed what has passed since the simulation
// began. Samples of a machine must come in order of time. A silent machine makes no frame, and its sequence stands still: a
// gateway numbers what it reads.
func (f *Fleet) Sample(i int, us int64, elapsed time.Duration) Sample {
	u := &f.units[i]
	effect := u.injector.At(elapsed)
	u.values = u.machine.Step(us, effect.Condition, u.values[:0])
	u.injector.Measure(elapsed, u.values)
	var s Sample
	for _, c := range effect.Changes {
		s.Truths = append(s.Truths, u.truth(c, us))
	}
	if effect.Silent {
		return s
	}
	u.frame.Sequence = u.sequence
	u.frame.BaseTimeUs = us + effect.Clock.Microseconds()
	u.frame.Values = u.values
	u.sequence++
	s.Frame = &u.frame
	return s
}

// Stop ends all faults, at the simulation's end, and says which were still active.
func (f *Fleet) Stop(us int64) []Truth {
	var out []Truth
	for i := range f.units {
		u := &f.units[i]
		for _, c := range u.injector.Stop() {
			t := u.truth(c, us)
			t.CutShort = true
			out = append(out, t)
		}
	}
	return out
}
