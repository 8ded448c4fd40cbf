package physics

import "time"

// Regime is what a machine is doing.
type Regime uint8

// The regimes.
const (
	Off Regime = iota
	WarmUp
	Steady
	Load
)

func (r Regime) String() string {
	switch r {
	case Off:
		return "off"
	case WarmUp:
		return "warm-up"
	case Steady:
		return "steady"
	case Load:
		return "load"
	}
	return "unknown"
}

// setPoint is the speed and load that a regime asks for, as shares of the rated ones.
func (r Regime) setPoint() (speed, load float64) {
	switch r {
	case WarmUp:
		return 0.6, 0.3
	case Steady:
		return 1, 0.7
	case Load:
		return 1, 0.95
	}
	return 0, 0
}

// shift is a working shift: which regime holds up to which share of it.
var shift = [...]struct {
	until  float64
	regime Regime
}{
	{0.08, Off}, {0.14, WarmUp}, {0.50, Steady}, {0.68, Load}, {0.92, Steady}, {1, Off},
}

// regimeAt places an instant (microseconds since 1970 UTC) in the shift of a machine that runs offset (a share of the cycle)
// ahead. A cycle of 0 means continuous operation: always Steady.
func regimeAt(us int64, cycle time.Duration, offset float64) Regime {
	c := cycle.Microseconds()
	if c <= 0 {
		return Steady
	}
	pos := float64((us%c+c)%c)/float64(c) + offset
	if pos >= 1 {
		pos--
	}
	for _, s := range shift {
		if pos < s.until {
			return s.regime
		}
	}
	return Off
}
