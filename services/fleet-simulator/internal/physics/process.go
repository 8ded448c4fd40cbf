package physics

import "math"

// pumpProcess is a centrifugal pump on a pipe. Its head curve n^2*H0 - k*Q^2 (affinity laws) meets the system curve Hs + R*Q^2;
// a valve sets R by the load. Pressures in bar, Q as a share of the rated flow: H0 = 5, Hs = 1, k and R such that Q = 1 at
// 4 bar. The leak is on the suction side: drawn-in air lightens the fluid and degrades the head, so flow, pressure, torque and
// current fall together, and it cavitates.
func pumpProcess(d drive) demand {
	const h0, hs, k, r = 5.0, 1.0, 1.0, 3.0
	density, head := 1-0.35*d.leak, 1-0.45*d.leak
	var q float64
	if excess := d.speed*d.speed*h0*head - hs; excess > 0 && d.load > 0 {
		// Rated flow at 70 % load, the regime in which it mostly is: the valve is then 70 % open.
		open := math.Min(d.load/0.7, 1.4)
		q = math.Sqrt(excess / (k + r/(open*open)))
	}
	discharge := 0.0
	if d.speed > 0.02 {
		discharge = math.Max(d.speed*d.speed*h0*head-k*q*q, 0)
	}
	suction := 0.0
	if d.speed > 0.02 {
		suction = 1.2 - 0.2*q*q - 0.25*d.leak
	}
	return demand{
		torque: d.speed * d.speed * density * (0.3 + 0.55*q), vib: 1 + 0.9*d.leak, oilHeat: 1, cooling: 1,
		values: [3]float64{900 * q, discharge, suction},
	}
}

// compressorProcess is an oil-injected screw compressor that feeds a net. A leak in the net lets the pressure sag; less of the
// flow arrives, and compressing to a lower pressure takes less torque.
func compressorProcess(d drive) demand {
	pressure := d.speed * (8.0 - 0.8*d.load) * (1 - 0.35*d.leak)
	return demand{
		torque: d.speed * (0.2 + 0.75*d.load*pressure/7.5), vib: 1, oilHeat: 1, cooling: 1,
		values: [3]float64{6200 * d.speed * d.load / 0.7 * (1 - 0.5*d.leak), pressure, 0},
	}
}

// fanProcess is a centrifugal fan with a damper. A torn duct upstream of the flow meter lets air out: less pressure, less flow
// measured, less work.
func fanProcess(d drive) demand {
	open := d.load / 0.7
	return demand{
		torque: d.speed * d.speed * (0.3 + 0.65*d.load) * (1 - 0.3*d.leak), vib: 1, oilHeat: 1, cooling: 1,
		values: [3]float64{14000 * d.speed * open * (1 - 0.5*d.leak), 1000 * d.speed * d.speed * (1.2 - 0.2*open) * (1 - 0.4*d.leak), 0},
	}
}

// spindleProcess is a milling spindle with its own coolant. The leak is a coolant leak: bearing and winding run hotter, the cut is not
// affected. spindle_load is filled in by the machine: it is the torque.
func spindleProcess(d drive) demand {
	return demand{
		torque: d.speed * (0.15 + 0.8*d.load), vib: 1, oilHeat: 1, cooling: 1 - 0.5*d.leak,
		values: [3]float64{45 * math.Min(1, 2*d.speed) * (1 - 0.6*d.leak), 6 * math.Min(1, 2*d.speed) * (1 - 0.5*d.leak), 0},
	}
}

// conveyorProcess is a belt with a gearbox. The leak is of gearbox oil: friction, heat and noise rise.
func conveyorProcess(d drive) demand {
	run := math.Min(1, 5*d.speed)
	return demand{
		torque: run*(0.2+0.75*d.load) + run*0.25*d.leak, vib: 1 + 0.8*d.leak, oilHeat: 1 + 1.8*d.leak, cooling: 1,
		values: [3]float64{1.6 * d.speed, 0, 0},
	}
}
