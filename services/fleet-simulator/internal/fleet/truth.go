package fleet

import (
	"encoding/json"
	"time"

	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/fault"
)

// Truth is one line of the truth file: a fault that really began, or ended, on one machine. The sample named by the times and the
// sequence is the first one with the fault, or the first one without.
type Truth struct {
	Event       string   `json:"event"` // "start" or "end"
	FaultID     string   `json:"fault_id"`
	Kind        string   `json:"kind"`
	EquipmentID string   `json:"equipment_id"`
	GatewayID   string   `json:"gateway_id"`
	Sensors     []string `json:"sensors"` // that the fault moves; for a silent machine, all
	Magnitude   float64  `json:"magnitude,omitempty"`
	// RampUS is how long it takes to grow to its magnitude.
	RampUS int64 `json:"ramp_us,omitempty"`
	// EventTimeUS is the sample's true time (without a clock fault); WallTimeUS when it happened in the simulator's
	// process. Microseconds since 1970 UTC.
	EventTimeUS int64 `json:"event_time_us"`
	WallTimeUS  int64 `json:"wall_time_us,omitempty"`
	// Sequence that the sample's frame has, or that the next frame will have when the machine is silent.
	Sequence uint64 `json:"sequence"`
	// CutShort: the simulation ended before the fault.
	CutShort bool `json:"cut_short,omitempty"`
}

func (u *unit) truth(c fault.Change, us int64) Truth {
	t := Truth{
		Event: "end", FaultID: c.Fault.ID, Kind: string(c.Fault.Kind),
		EquipmentID: u.target.Machine, GatewayID: u.target.Gateway, Sensors: c.Sensors,
		Magnitude: c.Fault.Magnitude, RampUS: c.Fault.Ramp.Microseconds(),
		EventTimeUS: us, Sequence: u.sequence,
	}
	if c.Began {
		t.Event = "start"
	}
	return t
}

// AppendLine appends the truth as a line of JSON, with the wall clock's time.
func (t Truth) AppendLine(dst []byte, wall time.Time) ([]byte, error) {
	t.WallTimeUS = wall.UnixMicro()
	b, err := json.Marshal(t)
	if err != nil {
		return dst, err
	}
	return append(append(dst, b...), '\n'), nil
}
