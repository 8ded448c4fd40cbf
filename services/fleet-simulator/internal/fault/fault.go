// Package fault knows exactly what is wrong with which machine, and when. A Plan is what is to happen; Bind checks it
// against the fleet and gives each machine its Injector; the Injector says what holds for a sample, changes what the
// sensors report, and tells when a fault really began and ended. It reads no clock: time is what has passed since the
// simulation began.
package fault

import (
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/physics"
)

// Kind of a fault.
type Kind string

const (
	// BearingWear changes the machine itself: every sensor shows what physics makes of it. Magnitude in (0, 1].
	BearingWear Kind = "bearing_wear"
	// Leak likewise.
	Leak Kind = "leak"
	// SensorStuck repeats the last reading before the fault.
	SensorStuck Kind = "sensor_stuck"
	// Spike adds Magnitude x the sensor's rated value. Without a duration it is one sample long.
	Spike Kind = "spike"
	// Drift adds, growing evenly over Ramp, up to Magnitude x the sensor's rated value.
	Drift Kind = "drift"
	// Silence: the machine sends nothing.
	Silence Kind = "silence"
	// ClockWrong moves the frames' times by Magnitude seconds (negative: into the past). More than 5 minutes into the
	// future is refused by the gateway, as it should be: such a machine then looks silent.
	ClockWrong Kind = "clock_wrong"
	// GatewayDown: no machine behind the gateway sends anything.
	GatewayDown Kind = "gateway_down"
)

// Kinds in the order of the documentation.
func Kinds() []Kind {
	return []Kind{BearingWear, Leak, SensorStuck, Spike, Drift, Silence, ClockWrong, GatewayDown}
}

// traits of a kind: what it needs and allows.
type traits struct {
	sensors   bool // must name sensors
	machines  bool // machines may be named
	gateways  bool // gateways may be named
	magnitude bool // has a magnitude
	ramp      bool // may grow
	defaults  func(f *Fault)
	check     func(magnitude float64) error
}

func share(m float64) error {
	if m <= 0 || m > 1 {
		return fmt.Errorf("magnitude is %g, must be above 0 and at most 1", m)
	}
	return nil
}

func traitsOf(k Kind) (traits, bool) {
	switch k {
	case BearingWear:
		return traits{machines: true, magnitude: true, ramp: true, check: share, defaults: func(f *Fault) { f.Magnitude, f.Ramp = 0.8, 30*time.Second }}, true
	case Leak:
		return traits{machines: true, magnitude: true, ramp: true, check: share, defaults: func(f *Fault) { f.Magnitude, f.Ramp = 0.8, 5*time.Second }}, true
	case SensorStuck:
		return traits{machines: true, sensors: true}, true
	case Spike:
		return traits{machines: true, sensors: true, magnitude: true, defaults: func(f *Fault) { f.Magnitude = 1 }}, true
	case Drift:
		return traits{machines: true, sensors: true, magnitude: true, ramp: true, defaults: func(f *Fault) { f.Magnitude, f.Ramp = 0.3, 10*time.Minute }}, true
	case Silence:
		return traits{machines: true, gateways: true}, true
	case ClockWrong:
		return traits{machines: true, gateways: true, magnitude: true, defaults: func(f *Fault) { f.Magnitude = -3600 }}, true
	case GatewayDown:
		return traits{gateways: true}, true
	}
	return traits{}, false
}

// Fault is one thing that goes wrong.
type Fault struct {
	ID   string
	Kind Kind
	// Machines and Gateways say where; a gateway stands for all machines behind it.
	Machines []string
	Gateways []string
	// Sensors that lie, for the kinds that are about sensors.
	Sensors []string
	// Start is since the simulation began. Duration 0 means to the end of the simulation (for a spike: one sample).
	Start, Duration time.Duration
	// Ramp is how long it takes to grow to its magnitude.
	Ramp      time.Duration
	Magnitude float64

	where string // file and line, for errors
}

func (f *Fault) errorf(format string, args ...any) error {
	where := f.where
	if where == "" {
		where = fmt.Sprintf("fault %q", f.ID)
	}
	return fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...))
}

// grown is how much of its magnitude a fault has after d, in [0, 1].
func (f *Fault) grown(d time.Duration) float64 {
	if f.Ramp <= 0 || d >= f.Ramp {
		return 1
	}
	return float64(d) / float64(f.Ramp)
}

// Plan is all that is to happen.
type Plan struct{ Faults []Fault }

// Target is a machine as plans see it.
type Target struct {
	Machine string
	Gateway string
	Kind    physics.Kind
}
