package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// fleetOf is 200 frames a second of 40 machines; each is too hot for a while, again and again.
func fleetOf(period, length time.Duration) FleetConfig {
	return FleetConfig{Edges: 4, MachinesPerEdge: 10, FaultPeriod: period, FaultLength: length}
}

// alternate gives the i-th turn of one of two instances.
func alternate(service string, i int) string { return pair(service)[i%2] }

// kills is n rounds. In a round processor, router, writer and realtime-api are killed side by side, and then the gateway, alone: without
// it nothing comes that the others could show their recovery with.
func kills(w *world, n int) [][]fault {
	one := func(service string, i int) fault {
		switch service {
		case gateway, live:
			return w.kill(service, service)
		default:
			return w.kill(alternate(service, i), service)
		}
	}
	lanes := make([][]fault, 5)
	for i := range n {
		for l, service := range []string{processor, router, writer, live, gateway} {
			lanes[l] = append(lanes[l], one(service, i))
		}
	}
	return lanes
}

// Slice is the run for every change: each kind of fault a few times.
func Slice() []Section {
	return []Section{
		{
			Name: "kills", World: WorldConfig{Fleet: fleetOf(40*time.Second, 20*time.Second)},
			Lanes: func(w *world) [][]fault { return kills(w, 3) },
		},
	}
}

// Full is the run before a release.
func Full() []Section {
	return []Section{
		{
			Name: "kills", World: WorldConfig{Fleet: fleetOf(90*time.Second, 40*time.Second)},
			Lanes: func(w *world) [][]fault { return kills(w, 50) },
		},
	}
}

// Plan is "full", "slice", or the sections of the full run whose names are given, separated by commas.
func Plan(name string) ([]Section, error) {
	switch name {
	case "full":
		return Full(), nil
	case "slice":
		return Slice(), nil
	}
	var some []Section
	for want := range strings.SplitSeq(name, ",") {
		i := slices.IndexFunc(Full(), func(s Section) bool { return s.Name == want })
		if i < 0 {
			return nil, fmt.Errorf("plan %q: neither full nor slice nor a section's name", want)
		}
		some = append(some, Full()[i])
	}
	return some, nil
}
