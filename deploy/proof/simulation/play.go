package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Task is one run: of a scenario, or of a seed.
type Task struct {
	Seed     uint64        `json:"seed"`
	Scenario string        `json:"scenario,omitempty"` // empty: random faults
	Load     time.Duration `json:"load,omitempty"`     // how long faults come; 0: the scenario's own, or ten minutes
	Dir      string        `json:"dir"`                // for lake and notification logs
}

// Play runs the task in the current bubble. done is given the result before the world is closed.
func Play(t Task, done func(*Result)) {
	opts := DefaultOptions(t.Seed, t.Dir)
	named := func(r *Result) {
		r.Scenario = t.Scenario
		done(r)
	}
	if t.Scenario == "" {
		if t.Load == 0 {
			t.Load = 10 * time.Minute
		}
		opts.vary()
		play(opts, t.Load, func(ctx context.Context, w *World) error {
			storm(ctx, w)
			return nil
		}, nil, named)
		return
	}
	s, ok := ScenarioByName(t.Scenario)
	if !ok {
		r := newResult(t.Seed)
		r.Broken = fmt.Sprintf("there is no scenario %q", t.Scenario)
		named(r)
		return
	}
	if s.Shape != nil {
		s.Shape(&opts)
	}
	if t.Load == 0 {
		t.Load = s.Load
	}
	play(opts, t.Load, s.Run, s.Show, named)
}

// vary has seeds differ in more than their faults.
func (o *Options) vary() {
	r := rand.New(rand.NewPCG(o.Seed, 7))
	o.Partitions = 2 + r.Int32N(3)
	o.Gateways = 1 + r.IntN(2)
	o.Machines = 4 + r.IntN(4)
	o.LakeInterval = 2 * time.Minute
	if r.IntN(4) == 0 {
		o.Processors = 3
	}
	switch r.IntN(3) {
	case 0:
		o.Restart = [2]time.Duration{100 * time.Millisecond, 2 * time.Second}
	case 1:
		o.Restart = [2]time.Duration{5 * time.Second, 40 * time.Second}
	}
}
