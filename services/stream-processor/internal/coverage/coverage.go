// Package coverage says of each sensor whether it was judged in time, and if not, why: blindness that nobody sees is worse than a missed fault.
//
// It decides, and does no I/O: what it is told comes from the log, so the same log gives the same coverage. A sensor costs 10 bytes (Sensor), a machine
// some dozens.
package coverage

import (
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Reason is why a sensor is judged or not: finer than the state, which follows from it.
type Reason uint8

// Reasons. Their numbers stand in snapshots.
const (
	Unheard        Reason = iota // none of its windows was judged yet
	Judged                       // its newest window was judged
	Uncertain                    // judged; its source doubts the values
	StatisticsOnly               // judged; a detector has failed, the others go on
	WarmingUp                    // its machine is new
	NewSensor                    // its machine is not
	MachineSilent                // nothing arrives from the machine
	SensorSilent                 // other sensors of the machine send
	AfterClose                   // its values come when their windows are closed
	Backlog                      // the machine's samples are old, and less so every minute
	FallingBehind                // the machine's samples are old, and more so every minute
	Stuck                        // shows the same value for far longer than ever
	OutOfRange                   // outside of what it can physically show
	BadSource                    // its source rejects the values
	Missing                      // frames name it and hold no value
	Shelved                      // by configuration
	NoDetector                   // the configuration names none that would judge it
	GatewayDown                  // nothing arrives from any machine behind the gateway
	ClockAhead                   // samples from the future
	ClockBehind                  // samples from the past, always by as much
	FramesRefused                // its frames became dead letters
	ModelFailed                  // no detector is left that would judge it
	TooMany                      // beyond the sensors or the memory that a machine may have
	reasons
)

// info is a Reason for others.
type info struct {
	state eventv1.CoverageState
	name  string
}

// about is a table by Reason. It is a function so that nothing can change it.
func about(r Reason) info {
	switch r {
	case Judged:
		return info{eventv1.CoverageState_COVERAGE_STATE_JUDGED, ""}
	case Uncertain:
		return info{eventv1.CoverageState_COVERAGE_STATE_JUDGED, "uncertain"}
	case StatisticsOnly:
		return info{eventv1.CoverageState_COVERAGE_STATE_JUDGED, "statistics_only"}
	case WarmingUp:
		return info{eventv1.CoverageState_COVERAGE_STATE_LEARNING, "new_machine"}
	case Unheard, NewSensor:
		return info{eventv1.CoverageState_COVERAGE_STATE_LEARNING, "new_sensor"}
	case MachineSilent:
		return info{eventv1.CoverageState_COVERAGE_STATE_SILENT, "machine"}
	case SensorSilent:
		return info{eventv1.CoverageState_COVERAGE_STATE_SILENT, "sensor"}
	case AfterClose:
		return info{eventv1.CoverageState_COVERAGE_STATE_LATE, "after_close"}
	case Backlog:
		return info{eventv1.CoverageState_COVERAGE_STATE_LATE, "backlog"}
	case FallingBehind:
		return info{eventv1.CoverageState_COVERAGE_STATE_LATE, "falling_behind"}
	case Stuck:
		return info{eventv1.CoverageState_COVERAGE_STATE_BAD_QUALITY, "stuck"}
	case OutOfRange:
		return info{eventv1.CoverageState_COVERAGE_STATE_BAD_QUALITY, "out_of_range"}
	case BadSource:
		return info{eventv1.CoverageState_COVERAGE_STATE_BAD_QUALITY, "source"}
	case Missing:
		return info{eventv1.CoverageState_COVERAGE_STATE_BAD_QUALITY, "missing"}
	case Shelved:
		return info{eventv1.CoverageState_COVERAGE_STATE_SHELVED, ""}
	case NoDetector:
		return info{eventv1.CoverageState_COVERAGE_STATE_SHELVED, "no_detector"}
	case GatewayDown:
		return info{eventv1.CoverageState_COVERAGE_STATE_GATEWAY_DOWN, ""}
	case ClockAhead:
		return info{eventv1.CoverageState_COVERAGE_STATE_CLOCK_WRONG, "ahead"}
	case ClockBehind:
		return info{eventv1.CoverageState_COVERAGE_STATE_CLOCK_WRONG, "behind"}
	case FramesRefused:
		return info{eventv1.CoverageState_COVERAGE_STATE_DEAD_LETTERED, ""}
	case ModelFailed:
		return info{eventv1.CoverageState_COVERAGE_STATE_MODEL_FAILED, ""}
	case TooMany:
		return info{eventv1.CoverageState_COVERAGE_STATE_REFUSED, ""}
	}
	return info{}
}

// State is the state that r belongs to.
func (r Reason) State() eventv1.CoverageState { return about(r).state }

// String is the reason as it stands in a MachineCoverage: empty where the state says it all.
func (r Reason) String() string { return about(r).name }

// Valid tells whether r is one of the reasons above.
func (r Reason) Valid() bool { return r < reasons }

// Sees tells whether the sensor's newest window was judged.
func (r Reason) Sees() bool { return r >= Judged && r <= StatisticsOnly }

// Blind tells whether a sensor that should be judged is not, for a reason that no anomaly of another cause tells of.
func (r Reason) Blind() bool { return r == SensorSilent || r == AfterClose }
