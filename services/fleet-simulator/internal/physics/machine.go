// Package physics is believable machines: five kinds, each with a motor, bearings and a driven part, whose readings hang
// together as they do in a plant. It is pure: no clock, no I/O, and the same seed and steps give the same readings to the
// last bit.
//
// The model, in shares of the rated values: speed follows its set point with a lag (a frequency converter holds it, whatever
// the torque); the driven part demands torque; current is sqrt(magnetising^2 + load^2) of it; power is torque times speed by
// efficiency; heat comes from copper losses (current squared), iron and friction, and each temperature follows its
// equilibrium over the ambient as a first-order lag, exactly discretised, so any step length is right; vibration grows with
// the square of the speed, with load, imbalance and wear. Ambient swings by day. Machines of a kind differ by a few percent, and age.
package physics

import (
	"math"
	"math/rand/v2"
	"time"
)

// Condition is how much is wrong with a machine: 0 sound, 1 the worst.
type Condition struct {
	Wear float64 // of the bearing: vibration and friction now, temperature with its lag
	Leak float64 // of what the kind can leak
}

// Time constants.
const (
	tauSpeed     = 4.0    // s
	tauLoad      = 20.0   // s, of the load's small wandering
	tauBearing   = 360.0  // s
	tauWinding   = 720.0  // s
	tauOil       = 600.0  // s
	tauDischarge = 150.0  // s
	tauAmbient   = 1800.0 // s
	day          = 86400.0
)

// Machine is one machine's state. It is not safe for concurrent use; a step costs about a microsecond and allocates nothing.
type Machine struct {
	kind    Kind
	spec    *spec
	cycle   time.Duration
	rng     *rand.Rand
	sensors []Sensor
	cal     []calibration

	// What makes it differ from its sisters, drawn once.
	size, imbalance, axisRatio, friction float64
	shiftOffset, ambientMean, swing      float64
	magnetising                          float64

	// State.
	started   bool
	lastUS    int64
	regime    Regime
	speed     float64
	wander    float64 // of load, share of rated
	weather   float64 // deviation of ambient from the daily curve, C
	bearing   float64 // C, and so on
	winding   float64
	oil       float64
	discharge float64
	hours     float64 // in operation
	energy    float64 // kWh taken
}

// New makes a machine. The seed decides everything that is individual about it; cycle is the length of a shift (0: it runs
// continuously).
func New(kind Kind, seed uint64, cycle time.Duration) *Machine {
	m := &Machine{
		kind: kind, spec: specOf(kind), cycle: cycle,
		rng: rand.New(rand.NewPCG(seed, 0x70c51)),
	}
	m.sensors = m.spec.sensors
	m.size = m.spread(0.04)
	m.imbalance = m.spread(0.15)
	m.axisRatio = 0.8 * m.spread(0.08)
	m.friction = m.spread(0.06)
	m.shiftOffset = m.rng.Float64()
	m.ambientMean = 22 + 2*m.normal()
	m.swing = 4 + m.rng.Float64()*2
	m.magnetising = 0.32 * m.spread(0.04)
	for _, s := range m.sensors {
		c := calibration{gain: m.spread(0.004)}
		if s.from >= qBearing && s.from <= qDischarge {
			c.offset = 0.4 * m.normal()
		}
		m.cal = append(m.cal, c)
	}
	return m
}

// normal is a standard normal draw, cut at 3 so that no machine is absurd.
func (m *Machine) normal() float64 { return min(3, max(-3, m.rng.NormFloat64())) }

// spread is a factor around 1.
func (m *Machine) spread(sigma float64) float64 { return math.Exp(sigma * m.normal()) }

// Kind of the machine.
func (m *Machine) Kind() Kind { return m.kind }

// Regime at the last step.
func (m *Machine) Regime() Regime { return m.regime }

// Energy taken so far, kWh. It never falls.
func (m *Machine) Energy() float64 { return m.energy }

// Step moves the machine to an instant (microseconds since 1970 UTC) and appends one reading per sensor to dst. The first step
// finds it in thermal equilibrium with its regime. An instant before the last one counts as the last one. Every
// call draws the same number of random values, so that two runs that differ in a Condition alone have the same noise.
func (m *Machine) Step(us int64, c Condition, dst []float32) []float32 {
	dt := 0.0
	if m.started {
		if us < m.lastUS {
			us = m.lastUS
		}
		dt = float64(us-m.lastUS) / 1e6
	}
	m.lastUS = us
	m.regime = regimeAt(us, m.cycle, m.shiftOffset)
	setSpeed, setLoad := m.regime.setPoint()

	zLoad, zWeather, zVib, zVibX, zVibY := m.normal(), m.normal(), m.normal(), m.normal(), m.normal()
	m.wander = noise(m.wander, dt, tauLoad, 0.008, zLoad)
	m.weather = noise(m.weather, dt, tauAmbient, 0.2, zWeather)
	seconds := float64(us%(day*1e6)) / 1e6
	// Coolest at 4 h, warmest at 16 h UTC.
	ambient := m.ambientMean + m.weather + m.swing*math.Sin(2*math.Pi*(seconds/day-10.0/24))

	if m.started {
		m.speed = lag(m.speed, setSpeed, dt, tauSpeed)
	} else {
		m.speed = setSpeed
	}
	if m.regime == Off && m.speed < 0.02 {
		m.speed = 0
	}
	load := 0.0
	if m.speed > 0 {
		turn := m.spec.work.Microseconds()
		load = max(0, setLoad+m.wander+m.spec.duty*math.Sin(2*math.Pi*(float64(us%turn)/float64(turn)+m.shiftOffset)))
	}
	if !m.started {
		// Long in this regime: in equilibrium with its mean load, not with what the load is at this instant.
		m.warm(ambient, m.effort(setLoad, c))
	}
	e := m.effort(load, c)
	m.thermal(dt, ambient, e)
	if m.speed > 0 {
		m.hours += dt / 3600
	}
	m.energy += e.kw * dt / 3600

	vib := m.spec.vib * m.imbalance * m.ageing() * m.speed * m.speed * (0.7 + 0.3*load/0.7) * (1 + 4*c.Wear) * e.vib * (1 + 0.04*zVib)
	var v [quantities]float64
	v[qCurrent], v[qSpeed], v[qPower] = e.amps, m.spec.rpm*m.speed, e.kw
	v[qVibrationX], v[qVibrationY] = vib*(1+0.04*zVibX), vib*m.axisRatio*(1+0.04*zVibY)
	v[qBearing], v[qWinding], v[qOil], v[qDischarge] = m.bearing, m.winding, m.oil, m.discharge
	v[qProcess1], v[qProcess2], v[qProcess3] = e.values[0]*m.size, e.values[1], e.values[2]
	if m.kind == Spindle {
		v[qProcess3] = 100 * e.torque
	}
	if m.kind == Conveyor {
		v[qProcess1] = e.values[0] // the belt's speed does not depend on the motor's size
	}
	for i := range m.sensors {
		dst = append(dst, m.sensors[i].read(v[m.sensors[i].from], m.cal[i], m.normal()))
	}
	m.started = true
	return dst
}

// ageing grows by 2 % in 100 hours of operation.
func (m *Machine) ageing() float64 { return 1 + 2e-4*m.hours }

// effort is what a load costs the motor at the present speed.
type effort struct {
	demand
	amps, kw float64
	loss     float64 // copper (current squared) and iron, share of rated
	rub      float64 // friction in the bearing, factor
}

func (m *Machine) effort(load float64, c Condition) effort {
	e := effort{demand: m.spec.process(drive{speed: m.speed, load: load, leak: c.Leak})}
	e.rub = m.friction * m.ageing() * (1 + 2.5*c.Wear)
	running := min(1, m.speed*20)
	e.torque += running * 0.03 * e.rub
	share := 0.0
	if m.speed > 0 && m.regime != Off { // switched off, it coasts without current
		share = math.Hypot(m.magnetising*running, e.torque)
		e.kw = m.spec.powerKW * m.size * (e.torque*m.speed/0.93 + 0.02*running)
	}
	e.amps = m.spec.amps * m.size * share
	e.loss = share*share + 0.25*m.speed
	return e
}

// equilibrium is where the temperatures would end up.
func (m *Machine) equilibrium(ambient float64, e effort) (bearing, winding, oil, discharge float64) {
	bearing = ambient + (m.speed*(0.5+0.5*e.torque)*e.rub*24+5*e.loss)/e.cooling
	winding = ambient + 50*e.loss/e.cooling
	oil = ambient + e.oilHeat*(30*m.speed*(0.4+0.6*e.torque)+6*e.loss)
	discharge = ambient + 80*e.torque*m.speed
	return bearing, winding, oil, discharge
}

// warm puts the machine into equilibrium.
func (m *Machine) warm(ambient float64, e effort) {
	m.bearing, m.winding, m.oil, m.discharge = m.equilibrium(ambient, e)
}

// thermal moves every temperature towards its equilibrium.
func (m *Machine) thermal(dt, ambient float64, e effort) {
	bearing, winding, oil, discharge := m.equilibrium(ambient, e)
	m.bearing = lag(m.bearing, bearing, dt, tauBearing)
	m.winding = lag(m.winding, winding, dt, tauWinding)
	m.oil = lag(m.oil, oil, dt, tauOil)
	m.discharge = lag(m.discharge, discharge, dt, tauDischarge)
}

// lag is the exact solution of dx/dt = (to - x)/tau over dt.
func lag(x, to, dt, tau float64) float64 { return to + (x-to)*math.Exp(-dt/tau) }

// noise is the exact step of an Ornstein-Uhlenbeck process with mean 0 and standard deviation sigma.
func noise(x, dt, tau, sigma, z float64) float64 {
	a := math.Exp(-dt / tau)
	return x*a + sigma*math.Sqrt(1-a*a)*z
}
