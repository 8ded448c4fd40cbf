package fault

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/physics"
)

// Demo is a plan that shows three kinds of trouble soon after first: a pump whose suction leak opens within seconds, a sensor
// that sticks, a machine that falls silent, and a while later a bearing that wears out. All end after some minutes, so that
// the alerts can be seen to close. A fleet too small for four machines gets what it has machines for.
func Demo(fleet []Target, first time.Duration) Plan {
	used := map[string]bool{}
	pick := func(kinds ...physics.Kind) (string, bool) {
		for _, k := range append(kinds, physics.Kinds) {
			for _, t := range fleet {
				if !used[t.Machine] && (k == physics.Kinds || t.Kind == k) {
					used[t.Machine] = true
					return t.Machine, true
				}
			}
		}
		return "", false
	}
	var p Plan
	add := func(machine string, ok bool, id string, k Kind, start, duration time.Duration, change func(*Fault)) {
		if !ok {
			return
		}
		f := New(id, k)
		f.Machines, f.Start, f.Duration = []string{machine}, start, duration
		if change != nil {
			change(&f)
		}
		p.Faults = append(p.Faults, f)
	}
	m, ok := pick(physics.Pump)
	add(m, ok, "demo-leak", Leak, 0, 4*time.Minute, func(f *Fault) { f.Magnitude, f.Ramp = 0.9, 5*time.Second })
	m, ok = pick(physics.Compressor, physics.Fan)
	add(m, ok, "demo-stuck", SensorStuck, 5*time.Second, 5*time.Minute, func(f *Fault) { f.Sensors = []string{"vibration_x"} })
	m, ok = pick(physics.Fan, physics.Conveyor)
	add(m, ok, "demo-silence", Silence, 10*time.Second, 3*time.Minute, nil)
	m, ok = pick(physics.Spindle, physics.Conveyor)
	add(m, ok, "demo-wear", BearingWear, 45*time.Second, 5*time.Minute, func(f *Fault) { f.Magnitude, f.Ramp = 0.9, 30*time.Second })
	return p.shifted(first)
}

// MaxHorizon is how far ahead Auto plans at most.
const MaxHorizon = 7 * 24 * time.Hour

// Auto is a random plan that the seed decides: faults of all kinds from first on, on average one each mean, that begin before until (at
// most MaxHorizon); a later end only adds faults. A machine has one fault at a time and then a rest of 5 minutes, so that each
// can be told from the next.
func Auto(fleet []Target, seed uint64, first, mean, until time.Duration) Plan {
	rng := rand.New(rand.NewPCG(seed, 0xfa017))
	free := make(map[string]time.Duration, len(fleet)) // when a machine may fail again
	behind := map[string][]string{}
	var gateways []string
	for _, t := range fleet {
		if len(behind[t.Gateway]) == 0 {
			gateways = append(gateways, t.Gateway)
		}
		behind[t.Gateway] = append(behind[t.Gateway], t.Machine)
	}
	var p Plan
	for at := first; at < min(until, MaxHorizon) && len(fleet) > 0; at += time.Duration(math.Max(0.05, rng.ExpFloat64()) * float64(mean)) {
		// Whatever is drawn is drawn whether used or not: a plan must not depend on what was free.
		k, t := drawKind(rng), fleet[rng.IntN(len(fleet))]
		gateway := gateways[rng.IntN(len(gateways))]
		f := New(fmt.Sprintf("auto-%05d", len(p.Faults)+1), k)
		f.Start = at.Round(time.Millisecond)
		f.Duration = (time.Minute + time.Duration(rng.Float64()*4*float64(time.Minute))).Round(time.Millisecond)
		strength, side := rng.Float64(), rng.IntN(2)
		sensors := t.Kind.Sensors()
		sensor := sensors[rng.IntN(len(sensors))].Name
		machines := []string{t.Machine}
		switch k {
		case BearingWear, Leak:
			f.Magnitude, f.Machines = round(0.4+0.6*strength), machines
			f.Ramp = (f.Duration / 4).Round(time.Millisecond)
		case SensorStuck:
			f.Machines, f.Sensors = machines, []string{sensor}
		case Spike:
			f.Machines, f.Sensors, f.Duration, f.Magnitude = machines, []string{sensor}, 0, round(0.5+strength)
		case Drift:
			f.Machines, f.Sensors, f.Magnitude, f.Ramp = machines, []string{sensor}, round(0.2+0.4*strength), f.Duration
		case Silence:
			f.Machines = machines
		case ClockWrong:
			f.Machines, f.Magnitude = machines, -math.Round(600+6600*strength)
			if side == 1 { // ahead, by less than what the gateway refuses
				f.Magnitude = math.Round(60 + 200*strength)
			}
		case GatewayDown:
			if len(gateways) < 2 {
				continue // it would be the whole fleet
			}
			f.Gateways, machines = []string{gateway}, behind[gateway]
		}
		busy := false
		for _, m := range machines {
			busy = busy || free[m] > at
		}
		if busy {
			continue
		}
		for _, m := range machines {
			free[m] = at + f.Duration + 5*time.Minute
		}
		p.Faults = append(p.Faults, f)
	}
	return p
}

func round(v float64) float64 { return math.Round(v*100) / 100 }

// drawKind: machines and sensors fail more often than gateways.
func drawKind(rng *rand.Rand) Kind {
	weights := []struct {
		k Kind
		w float64
	}{{BearingWear, 5}, {Leak, 4}, {SensorStuck, 3}, {Spike, 3}, {Drift, 3}, {Silence, 3}, {ClockWrong, 1}, {GatewayDown, 0.5}}
	at := rng.Float64() * 22.5
	for _, e := range weights {
		if at -= e.w; at < 0 {
			return e.k
		}
	}
	return BearingWear
}
