package physics

import (
	"math"
	"slices"
	"time"
)

// Kind is a kind of machine.
type Kind uint8

// The kinds.
const (
	Pump Kind = iota
	Compressor
	Fan
	Spindle
	Conveyor
	Kinds // how many there are
)

// String is the kind's name, as in equipment ids.
func (k Kind) String() string { return specOf(k).name }

// Sensors of a machine of this kind, in the order of its values. The caller may keep and change the slice.
func (k Kind) Sensors() []Sensor { return slices.Clone(specOf(k).sensors) }

// Wears and Leaks name the sensors that bearing wear, or a leak, moves: these and no others.
func (k Kind) Wears() []string { return names(specOf(k), specOf(k).wears) }

// Leaks: see Wears.
func (k Kind) Leaks() []string { return names(specOf(k), specOf(k).leaks) }

func names(s *spec, qs []quantity) []string {
	var out []string
	for _, sensor := range s.sensors {
		if slices.Contains(qs, sensor.from) {
			out = append(out, sensor.Name)
		}
	}
	return out
}

// spec is what machines of a kind have in common.
type spec struct {
	name    string
	powerKW float64       // rated shaft power
	rpm     float64       // rated speed
	amps    float64       // rated current
	vib     float64       // vibration at rated speed and load, mm/s RMS
	duty    float64       // swing of the load within a work cycle, share of rated
	work    time.Duration // length of a work cycle
	sensors []Sensor
	wears   []quantity
	leaks   []quantity
	// process computes what the driven part demands of the motor and what its own sensors see.
	process func(d drive) demand
}

// drive is what the driven part is given: shares of the rated values in [0, about 1].
type drive struct{ speed, load, leak float64 }

// demand is what it asks for, and its own quantities at nominal size.
type demand struct {
	torque  float64    // share of rated
	vib     float64    // factor on vibration
	oilHeat float64    // factor on the oil's temperature rise
	cooling float64    // share of the cooling that is left
	values  [3]float64 // qProcess1..3
}

// current3 is the line current of a three-phase motor: P / (sqrt(3) * 400 V * cos(phi) 0.86 * efficiency 0.92).
func current3(powerKW float64) float64 {
	return math.Round(powerKW*1000/(math.Sqrt(3)*400*0.86*0.92)*10) / 10
}

var (
	allWear = []quantity{qCurrent, qPower, qVibrationX, qVibrationY, qBearing, qWinding, qOil, qDischarge}

	pumpSpec = spec{
		name: "pump", powerKW: 15, rpm: 2960, amps: current3(15), vib: 1.6, duty: 0.01, work: 37 * time.Second,
		sensors: []Sensor{
			current(current3(15)), speed(2960), power(16),
			process("flow", "l/min", 900, 0.5, qProcess1),
			process("discharge_pressure", "bar", 4.2, 0.01, qProcess2),
			process("suction_pressure", "bar", 1.0, 0.005, qProcess3),
			vibration("x", 1.6, qVibrationX), vibration("y", 1.3, qVibrationY),
			temperature("bearing_temperature", 55, qBearing), temperature("winding_temperature", 80, qWinding),
		},
		wears:   allWear,
		leaks:   []quantity{qCurrent, qPower, qProcess1, qProcess2, qProcess3, qVibrationX, qVibrationY, qBearing, qWinding},
		process: pumpProcess,
	}
	compressorSpec = spec{
		name: "compressor", powerKW: 37, rpm: 1485, amps: current3(37), vib: 2.2, duty: 0.015, work: 53 * time.Second,
		sensors: []Sensor{
			current(current3(37)), speed(1485), power(40),
			process("air_flow", "l/min", 6200, 1, qProcess1),
			process("discharge_pressure", "bar", 7.5, 0.01, qProcess2),
			temperature("discharge_temperature", 88, qDischarge), temperature("oil_temperature", 70, qOil),
			vibration("x", 2.2, qVibrationX), vibration("y", 1.8, qVibrationY),
			temperature("bearing_temperature", 58, qBearing),
		},
		wears:   allWear,
		leaks:   []quantity{qCurrent, qPower, qProcess1, qProcess2, qDischarge, qOil, qBearing},
		process: compressorProcess,
	}
	fanSpec = spec{
		name: "fan", powerKW: 7.5, rpm: 1470, amps: current3(7.5), vib: 1.9, duty: 0.01, work: 61 * time.Second,
		sensors: []Sensor{
			current(current3(7.5)), speed(1470), power(8),
			process("air_flow", "m3/h", 14000, 5, qProcess1),
			process("differential_pressure", "Pa", 1000, 1, qProcess2),
			vibration("x", 1.9, qVibrationX), vibration("y", 1.5, qVibrationY),
			temperature("bearing_temperature", 48, qBearing),
		},
		wears:   allWear,
		leaks:   []quantity{qCurrent, qPower, qProcess1, qProcess2, qBearing},
		process: fanProcess,
	}
	spindleSpec = spec{
		name: "spindle", powerKW: 22, rpm: 8000, amps: current3(22), vib: 0.9, duty: 0.06, work: 11 * time.Second,
		sensors: []Sensor{
			current(current3(22)), speed(8000), power(24),
			process("spindle_load", "%", 100, 0.1, qProcess3),
			process("coolant_flow", "l/min", 45, 0.05, qProcess1),
			process("coolant_pressure", "bar", 6, 0.01, qProcess2),
			vibration("x", 0.9, qVibrationX), vibration("y", 0.7, qVibrationY),
			temperature("bearing_temperature", 45, qBearing), temperature("winding_temperature", 75, qWinding),
		},
		wears:   append(slices.Clone(allWear), qProcess3),
		leaks:   []quantity{qProcess1, qProcess2, qBearing, qWinding},
		process: spindleProcess,
	}
	conveyorSpec = spec{
		name: "conveyor", powerKW: 5.5, rpm: 1450, amps: current3(5.5), vib: 1.4, duty: 0.03, work: 19 * time.Second,
		sensors: []Sensor{
			current(current3(5.5)), speed(1450), power(6),
			process("belt_speed", "m/s", 1.6, 0.002, qProcess1),
			vibration("x", 1.4, qVibrationX),
			temperature("oil_temperature", 52, qOil), temperature("bearing_temperature", 46, qBearing),
		},
		wears:   allWear,
		leaks:   []quantity{qCurrent, qPower, qVibrationX, qOil, qBearing},
		process: conveyorProcess,
	}
)

func specOf(k Kind) *spec {
	switch k {
	case Compressor:
		return &compressorSpec
	case Fan:
		return &fanSpec
	case Spindle:
		return &spindleSpec
	case Conveyor:
		return &conveyorSpec
	}
	return &pumpSpec
}
