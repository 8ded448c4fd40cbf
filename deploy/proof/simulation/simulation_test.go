package simulation_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/simulation"
)

// What the environment may ask for.
const (
	envHours   = "TOCSIN_SIM_HOURS"   // virtual hours of random faults; without it a few minutes
	envSeed    = "TOCSIN_SIM_SEED"    // the first seed; without it 1
	envSeeds   = "TOCSIN_SIM_SEEDS"   // how many seeds, instead of hours
	envMinutes = "TOCSIN_SIM_MINUTES" // how long each seed has faults, virtual; without it 10
	envUntil   = "TOCSIN_SIM_WITHIN"  // begin no further seed after that much of the host's time, such as 25m; without it no limit
	envOut     = "TOCSIN_SIM_OUT"     // a file for the JSON report
	envFull    = "TOCSIN_SIM_FULL"    // every scenario, also the long ones, also under the race detector; so does envHours
)

func number(t *testing.T, name string, otherwise float64) float64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f <= 0 {
		t.Fatalf("%s: %q is not a positive number", name, s)
	}
	return f
}

// restAfter is about how long, in virtual time, a world takes to come to rest.
const restAfter = 90 * time.Second

// TestSimulation plays seeds until they make up the virtual hours asked for.
func TestSimulation(t *testing.T) {
	d := newDriver(t)
	minutes, n := 10.0, 2
	if raceDetector { // what it may find, it finds soon; the many hours are `make simulation`'s
		minutes, n = 4, 1
	}
	load := time.Duration(number(t, envMinutes, minutes) * float64(time.Minute))
	if hours := number(t, envHours, 0.1); os.Getenv(envHours) != "" {
		n = int(time.Duration(hours*float64(time.Hour))/(load+restAfter)) + 1
	}
	n = int(number(t, envSeeds, float64(n)))
	first := uint64(number(t, envSeed, 1))
	tasks := make([]simulation.Task, n)
	for i := range tasks {
		tasks[i] = simulation.Task{Seed: first + uint64(i), Load: load}
	}
	began := time.Now()
	sum := simulation.NewSummary()
	var until <-chan time.Time
	if s := os.Getenv(envUntil); s != "" {
		within, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("%s: %v", envUntil, err)
		}
		until = time.After(within)
	}
	d.playAll(t.Context(), until, tasks, func(r *simulation.Result) {
		sum.Add(r)
		if r.Failed() {
			t.Errorf("%s%s\nagain: TOCSIN_SIM_SEED=%d TOCSIN_SIM_SEEDS=1 TOCSIN_SIM_MINUTES=%g go test -tags synctests -count=1 -run '^TestSimulation$' ./simulation",
				r, details(r), r.Seed, load.Minutes())
			return
		}
		t.Log(r)
	})
	sum.Date = began.UTC().Truncate(time.Second)
	sum.HostSeconds = time.Since(began).Seconds()
	t.Log(sum)
	if name := os.Getenv(envOut); name != "" {
		b, err := json.MarshalIndent(sum, "", "  ")
		if err == nil {
			err = os.WriteFile(name, append(b, '\n'), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// inShort are the scenarios that run under the race detector too: one for each service.
var inShort = []string{"killed-at-the-end", "router-killed-before-notifying", "gateway-killed-in-flight", "writer-killed-after-put"}

// TestScenario plays every scenario that is not long; under the race detector those of inShort; all when the environment asks for that.
func TestScenario(t *testing.T) {
	d := newDriver(t)
	seed := uint64(number(t, envSeed, 1))
	for _, s := range simulation.Scenarios() {
		if all := os.Getenv(envFull) != "" || os.Getenv(envHours) != ""; !all && (s.Long || raceDetector && !slices.Contains(inShort, s.Name)) {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			r := d.play(t.Context(), simulation.Task{Seed: seed, Scenario: s.Name})
			if r.Failed() {
				t.Fatalf("%s (%s)%s", r, s.What, details(r))
			}
			t.Log(r)
		})
	}
}

func details(r *simulation.Result) string {
	var sb strings.Builder
	for i, f := range r.Findings {
		if i == 8 {
			fmt.Fprintf(&sb, "\n  and %d more", len(r.Findings)-i)
			break
		}
		fmt.Fprintf(&sb, "\n  %s in %s: %s", f.Kind, f.Where, f.Detail)
	}
	if s := r.Stall; s != nil {
		b, err := json.MarshalIndent(s, "  ", "  ")
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&sb, "\n  %s", b)
	}
	fmt.Fprintf(&sb, "\n  faults: %v\n  exits: %v", r.Faults, r.Exits)
	return sb.String()
}
