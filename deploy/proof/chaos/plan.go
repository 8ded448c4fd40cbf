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

// phases run one after the other; the lanes of a phase side by side; the faults of a lane one after the other.
type phases [][][]fault

// alternate gives the i-th turn of one of two instances.
func alternate(service string, i int) string {
	switch service {
	case gateway, live:
		return service
	}
	return pair(service)[i%2]
}

// paced puts pauses of 0 to most before the faults, so that lanes meet in ever new ways, the same in every run.
func paced(most time.Duration, lane []fault) []fault {
	for i := range lane {
		lane[i].pause = time.Duration(uint64(i+1) * 0x9E3779B97F4A7C15 % uint64(most))
	}
	return lane
}

// kills is kill -9 of every service, n times each; the services' lanes run side by side.
func kills(w *world, n int) [][]fault {
	var lanes [][]fault
	for _, service := range []string{processor, router, writer, live, gateway} {
		var lane []fault
		for i := range n {
			lane = append(lane, w.kill(alternate(service, i), service))
		}
		lanes = append(lanes, paced(2*time.Second, lane))
	}
	return lanes
}

// clocks is n rounds of the four skews; each round another edge.
func clocks(w *world, n int) []fault {
	var lane []fault
	for i := range n {
		for _, skew := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour} {
			lane = append(lane, w.wrongClock(i, skew))
		}
	}
	return lane
}

// zombies freezes one instance of each service with a group, n times.
func zombies(w *world, n int) [][]fault {
	var lanes [][]fault
	for _, service := range []string{processor, router, writer} {
		var lane []fault
		for i := range n {
			lane = append(lane, w.freeze(alternate(service, i), service))
		}
		lanes = append(lanes, paced(4*time.Second, lane))
	}
	return lanes
}

func storms(w *world, times int) [][]fault {
	return [][]fault{{w.storm(processor, times)}, {w.storm(router, times)}, {w.storm(writer, times)}}
}

// severed gives each instance a lane, in which its way to Kafka fails in n ways, the next instance beginning with the next way.
func severed(w *world, n int) [][]fault {
	var lanes [][]fault
	for l, instance := range linked() {
		service := strings.TrimSuffix(instance, "-2")
		var lane []fault
		for i := range n {
			kinds := ills()
			lane = append(lane, w.sever(instance, service, kinds[(l+i)%len(kinds)]))
		}
		lanes = append(lanes, paced(2*time.Second, lane))
	}
	return lanes
}

// spoiled is n rounds of all faults of the store, and of the way to it.
func spoiled(w *world, n int, hold time.Duration) []fault {
	var lane []fault
	for range n {
		for _, f := range lakeFaults() {
			lane = append(lane, w.spoilLake(f, hold))
		}
	}
	return lane
}

func severedLake(w *world, n int) []fault {
	var lane []fault
	for i := range n {
		kinds := ills()
		lane = append(lane, w.severLake(kinds[i%len(kinds)]))
	}
	return lane
}

func webhooks(w *world, n int, hold time.Duration) []fault {
	var lane []fault
	for i := range n {
		switch i % 3 {
		case 0:
			lane = append(lane, w.deafPeople(refuses, "answers 503", hold))
		case 1:
			lane = append(lane, w.deafPeople(forgets, "takes it and answers 503", hold))
		case 2:
			lane = append(lane, w.deafPeople(hangs, "hangs", hold))
		}
	}
	return lane
}

func repeat(n int, f func(i int) fault) []fault {
	var lane []fault
	for i := range n {
		lane = append(lane, f(i))
	}
	return lane
}

// Slice is the run for every change: each kind of fault at least once, in one world.
func Slice() []Section {
	return []Section{{
		// Half the fleet: under the race detector, on a busy machine, the check takes longer than the faults.
		Name: "slice", World: WorldConfig{Links: true, Fleet: FleetConfig{Edges: 4, MachinesPerEdge: 5, FaultPeriod: 40 * time.Second, FaultLength: 25 * time.Second}},
		Phases: func(w *world) phases {
			return phases{
				append(kills(w, 2), clocks(w, 1)[:3:3]),
				append(zombies(w, 1), webhooks(w, 1, 6*time.Second)),
				{
					{w.sever(processor, processor, namedIll("answers lost"))},
					{w.sever(router+"-2", router, namedIll("black hole"))},
					{w.sever(gateway, gateway, namedIll("reset"))},
					spoiled(w, 1, 3*time.Second)[2:5:5], // lost responses, 409, 412
				},
				{{w.killBroker(1)}},
				storms(w, 1)[:1],
			}
		},
	}}
}

// Full is the run before a release.
func Full() []Section {
	return []Section{
		{
			Name: "kills", World: WorldConfig{Fleet: fleetOf(90*time.Second, 40*time.Second)},
			Phases: func(w *world) phases { return phases{append(kills(w, 80), clocks(w, 12))} },
		},
		{
			Name: "brokers", World: WorldConfig{Fleet: fleetOf(120*time.Second, 60*time.Second)},
			Phases: func(w *world) phases {
				return phases{
					{repeat(20, func(int) fault { return w.killBroker(1) })},
					zombies(w, 8),
					storms(w, 10),
				}
			},
		},
		{
			Name: "links", World: WorldConfig{Links: true, Fleet: fleetOf(120*time.Second, 60*time.Second)},
			Phases: func(w *world) phases { return phases{severed(w, 18)} },
		},
		{
			Name: "stores", World: WorldConfig{Links: true, Fleet: fleetOf(120*time.Second, 60*time.Second)},
			Phases: func(w *world) phases {
				return phases{
					{
						slices.Concat(spoiled(w, 3, 5*time.Second), severedLake(w, 6), []fault{w.spoilLake(lakeFaults()[5], time.Minute)}),
						webhooks(w, 12, 15*time.Second),
					},
				}
			},
		},
		{
			Name: "three-brokers", World: WorldConfig{Brokers: 3, Fleet: fleetOf(120*time.Second, 60*time.Second)},
			Phases: func(w *world) phases {
				return phases{
					{repeat(9, func(i int) fault { return w.restartBroker(i%3 + 1) })},
					{repeat(6, func(i int) fault { return w.killBroker(i%3 + 1) })},
				}
			},
		},
		{
			Name:  "disks",
			World: WorldConfig{SmallDisks: map[string]int{"kafka-1": 256 << 20, "s3": 64 << 20}, Fleet: fleetOf(120*time.Second, 60*time.Second)},
			Phases: func(w *world) phases {
				return phases{
					{repeat(3, func(int) fault { return w.fullLakeDisk() })},
					{repeat(3, func(int) fault { return w.fullBrokerDisk() })},
				}
			},
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
