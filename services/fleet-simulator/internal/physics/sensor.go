package physics

import "math"

// Sensor is one transmitter: what it measures, and how imperfectly.
type Sensor struct {
	Name string
	Unit string
	// Rated is the reading of a typical machine of the kind at rated load.
	Rated float64
	// Min and Max are the transmitter's range: it saturates there.
	Min, Max float64
	// Noise is the standard deviation of one reading; Resolution its smallest step. Noise is at least one step, so that a
	// healthy sensor does not look stuck.
	Noise, Resolution float64
	// Cutoff: readings below are reported as exactly 0 (low-flow cutoff), so a machine that is off reads 0. None when 0.
	Cutoff float64

	from quantity
}

// quantity is what a kind's model computes; a kind's sensors show some of them.
type quantity uint8

const (
	qCurrent quantity = iota
	qSpeed
	qPower
	qVibrationX
	qVibrationY
	qBearing
	qWinding
	qOil
	qDischarge // temperature
	qProcess1
	qProcess2
	qProcess3
	quantities
)

// calibration is what makes one transmitter differ from its sisters.
type calibration struct{ gain, offset float64 }

// read turns the true value into what the transmitter reports. z is a standard normal draw.
func (s *Sensor) read(v float64, c calibration, z float64) float32 {
	v = v*c.gain + c.offset
	if s.Cutoff > 0 && v < s.Cutoff {
		return float32(math.Max(0, s.Min))
	}
	return s.Quantise(v + z*s.Noise)
}

// Quantise saturates v at the range and rounds it to the resolution.
func (s *Sensor) Quantise(v float64) float32 {
	v = math.Min(math.Max(v, s.Min), s.Max)
	return float32(math.Round(v/s.Resolution) * s.Resolution)
}

func current(rated float64) Sensor {
	return Sensor{Name: "motor_current", Unit: "A", Rated: rated, Max: 4 * rated, Noise: 0.006 * rated, Resolution: 0.01, Cutoff: 0.03 * rated, from: qCurrent}
}

func speed(rated float64) Sensor {
	return Sensor{Name: "speed_rpm", Unit: "1/min", Rated: rated, Max: 2 * rated, Noise: 0.0025 * rated, Resolution: 1, Cutoff: 0.02 * rated, from: qSpeed}
}

func power(rated float64) Sensor {
	return Sensor{Name: "power", Unit: "kW", Rated: rated, Max: 4 * rated, Noise: 0.008 * rated, Resolution: 0.01, Cutoff: 0.01 * rated, from: qPower}
}

func vibration(axis string, rated float64, q quantity) Sensor {
	// Velocity, RMS, 10 Hz to 1 kHz, as ISO 20816 counts it. Its noise is in the model: it grows with the level.
	return Sensor{Name: "vibration_" + axis, Unit: "mm/s", Rated: rated, Max: 50, Noise: 0.02, Resolution: 0.01, Cutoff: 0.05, from: q}
}

func temperature(name string, rated float64, q quantity) Sensor {
	return Sensor{Name: name, Unit: "C", Rated: rated, Min: -40, Max: 250, Noise: 0.3, Resolution: 0.1, from: q}
}

func process(name, unit string, rated, resolution float64, q quantity) Sensor {
	return Sensor{
		Name: name, Unit: unit, Rated: rated, Max: 3 * rated, Noise: math.Max(0.008*rated, resolution),
		Resolution: resolution, Cutoff: 0.03 * rated, from: q,
	}
}
