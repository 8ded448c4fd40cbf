package main

import (
	"fmt"
	"strings"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// trial is one kind of fault as it is injected into every machine.
type trial struct {
	name, kind string
	magnitude  float64
	ramp       time.Duration
	long       time.Duration // 0: one sample
	sensor     bool          // of a sensor: motor_current and bearing_temperature take turns
}

// trials are moderate faults: half of what the simulator holds for the worst, and what a transmitter does.
func trials() []trial {
	return []trial{
		{name: "bearing wear", kind: "bearing_wear", magnitude: 0.4, ramp: 10 * time.Minute, long: 3 * time.Hour},
		{name: "leak", kind: "leak", magnitude: 0.4, ramp: time.Minute, long: 3 * time.Hour},
		{name: "slow leak", kind: "leak", magnitude: 0.4, ramp: 3 * time.Hour, long: 4 * time.Hour},
		{name: "sensor stuck", kind: "sensor_stuck", long: 3 * time.Hour, sensor: true},
		{name: "sensor drift", kind: "drift", magnitude: 0.2, ramp: time.Hour, long: 3 * time.Hour, sensor: true},
		{name: "spike (one sample)", kind: "spike", magnitude: 1, sensor: true},
		{name: "silence", kind: "silence", long: 10 * time.Minute},
		{name: "clock 1 h ahead", kind: "clock_wrong", magnitude: 3600, long: 10 * time.Minute},
		{name: "clock 1 h behind", kind: "clock_wrong", magnitude: -3600, long: 10 * time.Minute},
	}
}

const (
	faultEvery = 9*time.Hour + 47*time.Minute
	aftermath  = time.Minute // a page this long after the end still counts
)

// outcome is what became of one fault on one machine.
type outcome struct {
	trial    int
	began    time.Time
	over     time.Time
	masked   bool          // an episode was open when it began
	detected bool          // an episode began while it lasted
	delay    time.Duration // log time from its first sample to the page
}

// plan is the faults file: every machine gets every trial, each machine beginning with another one.
func plan(list []trial, first time.Duration) string {
	var b strings.Builder
	b.WriteString("faults:\n")
	for m, name := range names {
		for k := range list {
			t := &list[(k+2*m)%len(list)]
			fmt.Fprintf(&b, "- {id: %q, kind: %s, machines: [%s], start: %s", fmt.Sprintf("%d-%d", (k+2*m)%len(list), m), t.kind, name,
				first+time.Duration(k)*faultEvery+time.Duration(m)*71*time.Minute)
			if t.long > 0 {
				fmt.Fprintf(&b, ", duration: %s", t.long)
			}
			if t.ramp > 0 {
				fmt.Fprintf(&b, ", ramp: %s", t.ramp)
			}
			if t.magnitude != 0 {
				fmt.Fprintf(&b, ", magnitude: %g", t.magnitude)
			}
			if t.sensor {
				fmt.Fprintf(&b, ", sensors: [%s]", []string{"motor_current", "bearing_temperature"}[(k+m)%2])
			}
			b.WriteString("}\n")
		}
	}
	return b.String()
}

// playFaults plays a scenario with every trial on every machine, at one budget.
func (o *options) playFaults(s scenario, dir string, budget float64) ([]outcome, error) {
	list := trials()
	long := o.known + time.Duration(len(list)+1)*faultEvery
	samples, err := s.samples(dir, plan(list, o.known), o.rate, long)
	if err != nil {
		return nil, err
	}
	w := newWatcher(o.detection(budget), s.machines())
	var done []outcome
	now := make([]*outcome, s.machines())
	open := make([]map[string]bool, s.machines())
	for x := range samples {
		for i := range x.truths {
			t := &x.truths[i]
			m := x.machine
			for k, n := range names { // the end of the simulation names any machine
				if n == t.EquipmentID {
					m = k
				}
			}
			switch {
			case t.Event == "start":
				var trial int
				if _, err := fmt.Sscanf(t.FaultID, "%d-", &trial); err != nil {
					return nil, fmt.Errorf("fault %q: %w", t.FaultID, err)
				}
				now[m] = &outcome{trial: trial, began: x.at, masked: len(open[m]) > 0}
			case now[m] != nil:
				now[m].over = x.at
			}
		}
		for _, a := range w.take(&x) {
			if open[x.machine] == nil {
				open[x.machine] = map[string]bool{}
			}
			switch a.GetPhase() {
			case eventv1.Phase_PHASE_STARTED:
				open[x.machine][a.GetEpisodeId()] = true
				if f := now[x.machine]; f != nil && !f.detected {
					f.detected, f.delay = true, x.at.Sub(f.began)
				}
			case eventv1.Phase_PHASE_ENDED:
				delete(open[x.machine], a.GetEpisodeId())
			}
		}
		if f := now[x.machine]; f != nil && !f.over.IsZero() && x.at.Sub(f.over) > aftermath {
			done = append(done, *f)
			now[x.machine] = nil
		}
	}
	return done, nil
}
