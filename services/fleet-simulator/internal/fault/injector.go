package fault

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/physics"
)

// bound is a fault as it concerns one machine.
type bound struct {
	*Fault
	touched []string // names of the sensors that it moves
	index   []int    // of Fault.Sensors among the machine's
	held    []float32
	active  bool
	over    bool
}

// Injector applies a machine's faults. Not safe for concurrent use. With no fault near, a sample costs a comparison.
type Injector struct {
	sensors []physics.Sensor
	faults  []*bound // by start
	next    time.Duration
	last    []float32 // the last reported readings, for a sensor that gets stuck
	known   bool      // last holds something
	changes []Change
}

// Effect is what holds for one sample.
type Effect struct {
	Condition physics.Condition
	Silent    bool
	Clock     time.Duration // added to the sample's time
	// Changes are the faults that began or ended with this sample. Valid until the next call.
	Changes []Change
}

// Change is a fault that began, or was found over.
type Change struct {
	Fault   *Fault
	Began   bool
	Sensors []string // that it touches on this machine
}

const never = time.Duration(math.MaxInt64)

// Bind checks the plan against the fleet and returns an injector for each target. Every mistake is named.
func (p Plan) Bind(fleet []Target) ([]*Injector, error) {
	machines := make(map[string]int, len(fleet))
	gateways := make(map[string][]int)
	sensors := make([][]physics.Sensor, physics.Kinds)
	for k := range physics.Kinds {
		sensors[k] = k.Sensors()
	}
	out := make([]*Injector, len(fleet))
	for i, t := range fleet {
		machines[t.Machine] = i
		gateways[t.Gateway] = append(gateways[t.Gateway], i)
		out[i] = &Injector{sensors: sensors[t.Kind]}
	}
	var errs []error
	for i := range p.Faults {
		f := &p.Faults[i]
		if err := f.validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		var where []int
		for _, m := range f.Machines {
			if i, ok := machines[m]; ok {
				where = append(where, i)
			} else {
				errs = append(errs, f.errorf("no machine %q in a fleet of %d", m, len(fleet)))
			}
		}
		for _, g := range f.Gateways {
			if is, ok := gateways[g]; ok {
				where = append(where, is...)
			} else {
				errs = append(errs, f.errorf("no gateway %q in a fleet of %d gateways", g, len(gateways)))
			}
		}
		slices.Sort(where)
		for _, i := range slices.Compact(where) {
			b, err := bind(f, fleet[i], out[i].sensors)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out[i].faults = append(out[i].faults, b)
		}
	}
	for _, in := range out {
		slices.SortStableFunc(in.faults, func(a, b *bound) int { return int(min(1, max(-1, a.Start-b.Start))) })
		in.next = never
		if len(in.faults) > 0 {
			in.next = in.faults[0].Start
		}
	}
	return out, errors.Join(errs...)
}

func bind(f *Fault, t Target, sensors []physics.Sensor) (*bound, error) {
	b := &bound{Fault: f}
	switch f.Kind {
	case BearingWear:
		b.touched = t.Kind.Wears()
	case Leak:
		b.touched = t.Kind.Leaks()
	case SensorStuck, Spike, Drift:
		for _, name := range f.Sensors {
			i := slices.IndexFunc(sensors, func(s physics.Sensor) bool { return s.Name == name })
			if i < 0 {
				return nil, f.errorf("machine %q, a %s, has no sensor %q", t.Machine, t.Kind, name)
			}
			b.index = append(b.index, i)
		}
		b.touched = f.Sensors
	default: // the machine as a whole
		for _, s := range sensors {
			b.touched = append(b.touched, s.Name)
		}
	}
	return b, nil
}

// At says what holds for the sample taken when elapsed has passed. Samples must come in order of time.
func (in *Injector) At(elapsed time.Duration) Effect {
	var e Effect
	if elapsed < in.next {
		return e
	}
	in.changes = in.changes[:0]
	in.next = never
	done := 0
	for _, b := range in.faults {
		if elapsed < b.Start {
			in.next = min(in.next, b.Start)
			break // the rest starts later still
		}
		holds := b.Duration == 0 || elapsed < b.Start+b.Duration
		if b.Kind == Spike && b.Duration == 0 {
			holds = !b.active // its first sample is its only one
		}
		switch {
		case holds && !b.active && !b.over:
			b.active = true
			in.changes = append(in.changes, Change{Fault: b.Fault, Began: true, Sensors: b.touched})
		case !holds && b.active:
			b.active, b.over = false, true
			in.changes = append(in.changes, Change{Fault: b.Fault, Sensors: b.touched})
		case !holds:
			b.over = true // it came and went between two samples: it was never injected
		}
		if b.over {
			done++
			continue
		}
		in.next = 0 // something is active: look at every sample
		switch g := b.grown(elapsed - b.Start); b.Kind {
		case BearingWear:
			e.Condition.Wear = max(e.Condition.Wear, b.Magnitude*g)
		case Leak:
			e.Condition.Leak = max(e.Condition.Leak, b.Magnitude*g)
		case Silence, GatewayDown:
			e.Silent = true
		case ClockWrong:
			e.Clock += time.Duration(b.Magnitude * float64(time.Second))
		}
	}
	if done > 0 {
		in.faults = slices.DeleteFunc(in.faults, func(b *bound) bool { return b.over })
	}
	e.Changes = in.changes
	return e
}

// Measure turns the transmitters' readings of this sample into what is reported, in place. Call it after At, for every sample.
func (in *Injector) Measure(elapsed time.Duration, values []float32) {
	for _, b := range in.faults {
		if !b.active {
			if elapsed < b.Start {
				break
			}
			continue
		}
		switch b.Kind {
		case SensorStuck:
			if b.held == nil {
				b.held = make([]float32, len(b.index))
				for i, s := range b.index {
					b.held[i] = values[s]
					if in.known {
						b.held[i] = in.last[s]
					}
				}
			}
			for i, s := range b.index {
				values[s] = b.held[i]
			}
		case Spike, Drift:
			g := b.grown(elapsed - b.Start)
			if b.Kind == Spike {
				g = 1
			}
			for _, s := range b.index {
				sensor := &in.sensors[s]
				values[s] = sensor.Quantise(float64(values[s]) + g*b.Magnitude*sensor.Rated)
			}
		}
	}
	in.last = append(in.last[:0], values...)
	in.known = true
}

// Stop ends what is still active, when the simulation ends.
func (in *Injector) Stop() []Change {
	var out []Change
	for _, b := range in.faults {
		if b.active {
			b.active, b.over = false, true
			out = append(out, Change{Fault: b.Fault, Sensors: b.touched})
		}
	}
	in.faults, in.next = nil, never
	return out
}
