package topology

import (
	"fmt"
	"strings"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/coverage"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// gateways tells, for one tick, which gateways of the partition are silent: what machines say of silence depends on it, what they are does not. So it is only looked
// at for what is written out, when every machine stands at the same offset; a replay, in which machines restored from newer snapshots are ahead, does
// without. Cost: a look at every machine of the partition, once per tick in which some machine has something to say of silence.
type gateways struct {
	p     *partition
	nowMS int64
	known map[string]*coverage.Gateway
}

// of is what the machines behind a gateway say of it.
func (g *gateways) of(id string) *coverage.Gateway {
	if g.known == nil {
		g.ask()
	}
	return g.known[id]
}

// ask hears all machines of the partition. The order does not matter: what comes of it is sums and maxima.
func (g *gateways) ask() {
	g.known = map[string]*coverage.Gateway{}
	minMS := g.p.in.Judge.Silence.Min.Milliseconds()
	for _, e := range g.p.machines {
		id := e.machine.Gateway()
		v := g.known[id]
		if v == nil {
			v = new(coverage.Gateway)
			g.known[id] = v
		}
		v.Hear(e.machine.Heard())
	}
	for _, e := range g.p.machines {
		g.known[e.machine.Gateway()].Count(e.machine.Heard(), g.nowMS, minMS)
	}
}

// silence is the cause of episodes in which nothing is heard of a machine.
const silence = "silence"

// blame says of a machine's silence whether it is its gateway's. The machine itself cannot know.
func (g *gateways) blame(m *machine.Machine, out *machine.Output) {
	for _, a := range out.Anomalies {
		if a.Cause != silence || a.Phase == eventv1.Phase_PHASE_ENDED || m.Refusing() {
			continue
		}
		if v, machines, ok := g.silent(m); ok {
			a.Origin, a.Machines = eventv1.Origin_ORIGIN_GATEWAY, uint32(machines)
			a.Summary = v.SilentText(m.Gateway(), g.nowMS)
		}
	}
	for _, c := range out.Coverage {
		for _, k := range c.Groups {
			if k.State != coverage.MachineSilent.State() || k.Reason != coverage.MachineSilent.String() {
				continue
			}
			if _, _, ok := g.silent(m); ok {
				k.State, k.Reason = coverage.GatewayDown.State(), coverage.GatewayDown.String()
			}
		}
	}
}

// silent tells whether the machine fell silent with its gateway.
func (g *gateways) silent(m *machine.Machine) (v *coverage.Gateway, machines int, ok bool) {
	v = g.of(m.Gateway())
	if machines, ok = v.Silent(g.nowMS); !ok || !v.With(m.Heard(), g.nowMS, g.p.in.Judge.Silence.Min.Milliseconds()) {
		return v, machines, false
	}
	return v, machines, true
}

// refused tells the machine that a frame of its became a dead letter: one of which nothing else comes any more is not silent.
// That a record became one is noted with its offset, so a replay does the same at the same place.
func (p *partition) refused(r *kgo.Record, ms int64) {
	if topic.IsControl(r) {
		return
	}
	if e := p.machines[string(r.Key)]; e != nil && r.Offset > e.applied {
		e.machine.Refused()
		p.touch(e, r.Offset, ms)
	}
}

// censusMS is how often, in log time, sensors are counted by state for the metrics.
const censusMS = 15_000

// states is the number of coverage states, the unspecified one included.
const states = int(eventv1.CoverageState_COVERAGE_STATE_REFUSED) + 1

// census counts a partition's sensors by state, and its machines by health.
type census struct {
	sensors  [states]int
	machines [int(eventv1.Health_HEALTH_FAILED) + 1]int
}

func (p *partition) takeCensus() {
	p.census = census{}
	for _, e := range p.machines { // in any order: sums
		e.machine.Census(p.census.sensors[:])
		p.census.machines[e.machine.Health()]++
	}
}

// exposeCensus makes the metrics of coverage: sums over the partitions that this instance judges, as they stood after the last commit. Machines have no labels here: there
// are too many; detect.coverage.v1 names them.
func (t *Topology) exposeCensus(s *metrics.Set) {
	sum := func(of func(*census) int) func() float64 {
		return func() float64 {
			t.mu.Lock()
			defer t.mu.Unlock()
			n := 0
			for _, slot := range t.slots {
				n += of(&slot.census)
			}
			return float64(n)
		}
	}
	for state, name := range eventv1.CoverageState_name {
		if state != 0 {
			s.GetOrCreateGauge(fmt.Sprintf(`tocsin_processor_sensors{state=%q}`, strings.ToLower(strings.TrimPrefix(name, "COVERAGE_STATE_"))),
				sum(func(c *census) int { return c.sensors[state] }))
		}
	}
	for health, name := range eventv1.Health_name {
		if health != 0 {
			s.GetOrCreateGauge(fmt.Sprintf(`tocsin_processor_machines{health=%q}`, strings.ToLower(strings.TrimPrefix(name, "HEALTH_"))),
				sum(func(c *census) int { return c.machines[health] }))
		}
	}
}

// failure is one of a machine's detector.
type failure struct {
	machine string
	machine.Failure
}

// maxFailures bounds those that are told of in one transaction.
const maxFailures = 256

// maxTook bounds what is measured in one transaction.
const maxTook = 4096

// note keeps the failures of detectors, and how long some took, until the transaction stands. A replay does not: they were told.
func (p *partition) note(id string, out *machine.Output) {
	if len(p.took) < maxTook {
		p.took = append(p.took, out.Took()...)
		for _, k := range out.Took() {
			p.comparing.time(k)
		}
	}
	for _, f := range out.Failures() {
		if len(p.failures) < maxFailures {
			p.failures = append(p.failures, failure{id, f})
		}
	}
	for i, said := 0, out.Models(); i < len(said); i++ {
		p.noteModels(id, &said[i])
	}
	for i, given := 0, out.Inputs(); i < len(given); i++ {
		p.comparing.inputs.take(&given[i])
	}
}

// tell counts the failures of a transaction's detectors, and logs the first.
func (t *Topology) tell(p *partition) {
	const logged = 5
	for i, f := range p.failures {
		t.metrics.set.GetOrCreateCounter(fmt.Sprintf(`tocsin_processor_detector_failures_total{detector=%q,reason=%q}`, f.Detector, f.Reason)).Inc()
		if i < logged {
			t.log.Warn("a detector has failed; its machine is judged without it for a while", zap.String("equipment_id", f.machine), zap.String("detector", f.Detector),
				zap.String("reason", f.Reason), zap.String("detail", f.Detail), zap.Int("failures_in_transaction", len(p.failures)))
		}
	}
	p.failures = p.failures[:0]
	for _, k := range p.took {
		t.metrics.set.GetOrCreateHistogram(fmt.Sprintf(`tocsin_processor_detector_score_seconds{detector=%q}`, k.Detector)).Update(k.For.Seconds())
	}
	p.took = p.took[:0]
	for says, n := range p.models {
		t.metrics.set.GetOrCreateCounter(fmt.Sprintf(`tocsin_processor_model_windows_total{unusual=%q}`, says)).Add(n)
	}
	clear(p.models)
}
