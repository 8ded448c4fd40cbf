package machine

import (
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// speaks tells whether what a detector says of the window counts.
func (m *Machine) speaks(int, *scratch) bool { return true }

// degraded tells whether a detector has failed.
func (m *Machine) degraded() bool { return false }

// Health is that of the detectors that judge the machine.
func (m *Machine) Health() eventv1.Health { return eventv1.Health_HEALTH_HEALTHY }

// ailing are the detectors that are not healthy.
func (m *Machine) ailing() []*eventv1.DetectorHealth { return nil }
