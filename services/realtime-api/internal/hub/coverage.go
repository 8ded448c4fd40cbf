package hub

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// covered is the newest coverage record of each machine. Records never change once they are in. Bounded by Limits.Machines: beyond it the machine whose record is
// the oldest goes.
type covered struct {
	mu       sync.RWMutex
	machines map[string]*eventv1.MachineCoverage
}

// maxGroups and maxSensors bound one coverage record; the processor names 512 sensors at most.
const (
	maxGroups  = 64
	maxSensors = 512
)

// CoverageTotal is a number of sensors, and of machines that have one, by state and reason.
type CoverageTotal struct {
	State             eventv1.CoverageState
	Reason            string
	Sensors, Machines int
}

// GatewayCoverage is what is judged of the machines behind one gateway.
type GatewayCoverage struct {
	GatewayID                 string
	Machines, Sensors, Judged int
	States                    []CoverageTotal
}

// FleetCoverage is what is judged of all machines.
type FleetCoverage struct {
	Totals           []CoverageTotal
	Gateways         []GatewayCoverage
	Degraded, Failed int
}

// ApplyCoverage takes in what is judged of one machine. A record older than the one held changes nothing.
func (h *Hub) ApplyCoverage(c *eventv1.MachineCoverage) error {
	id := c.GetEquipmentId()
	if id == "" || len(id) > maxID || len(c.GetGatewayId()) > maxID || len(c.GetGroups()) > maxGroups || !validTime(c.GetNewestUs()) {
		return fmt.Errorf("%w: coverage of machine %.64q", ErrInvalid, id)
	}
	for _, g := range c.Groups {
		g.Reason = boundText(g.Reason)
		if n := min(len(g.Sensors), maxSensors); n < len(g.Sensors) {
			g.Sensors = slices.Clone(g.Sensors[:n])
		}
		g.JudgedUntilUs = g.JudgedUntilUs[:min(len(g.JudgedUntilUs), len(g.Sensors))]
	}
	k := &h.cov
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.machines[id]
	if old != nil && old.AtMs > c.AtMs {
		return nil
	}
	if old == nil && len(k.machines) >= h.lim.Machines {
		delete(k.machines, k.oldest())
	}
	k.machines[id] = c
	return nil
}

// oldest is the machine whose record is. Cost: a look at each, where the fleet is larger than the bound.
func (k *covered) oldest() string {
	id, at := "", int64(0)
	for i, c := range k.machines {
		if id == "" || c.AtMs < at || c.AtMs == at && i < id {
			id, at = i, c.AtMs
		}
	}
	return id
}

// Coverage is the newest record of one machine. It must not be changed.
func (h *Hub) Coverage(id string) (*eventv1.MachineCoverage, bool) {
	h.cov.mu.RLock()
	defer h.cov.mu.RUnlock()
	c, ok := h.cov.machines[id]
	return c, ok
}

// CoverageRecords are the newest records of the machines that match, in order of their ids, from the first after a given one on, limit at most; and how many match in all.
func (h *Hub) CoverageRecords(in Scope, match func(*eventv1.MachineCoverage) bool, after string, limit int) (rows []*eventv1.MachineCoverage, total int) {
	h.cov.mu.RLock()
	for _, c := range h.cov.machines {
		if !match(c) || in != nil && !in(c.EquipmentId, h.where.Of(c.EquipmentId)) {
			continue
		}
		total++
		if c.EquipmentId > after {
			rows = append(rows, c)
		}
	}
	h.cov.mu.RUnlock()
	slices.SortFunc(rows, func(a, b *eventv1.MachineCoverage) int { return cmp.Compare(a.EquipmentId, b.EquipmentId) })
	return rows[:min(len(rows), limit)], total
}

// stateReason is a kind of coverage.
type stateReason struct {
	state  eventv1.CoverageState
	reason string
}

type tally map[stateReason]*CoverageTotal

func (t tally) add(c *eventv1.MachineCoverage) (sensors, judged int) {
	for _, g := range c.GetGroups() {
		k := stateReason{g.GetState(), g.GetReason()}
		e := t[k]
		if e == nil {
			e = &CoverageTotal{State: k.state, Reason: k.reason}
			t[k] = e
		}
		n := int(g.GetCount())
		e.Sensors += n
		e.Machines++
		sensors += n
		if k.state == eventv1.CoverageState_COVERAGE_STATE_JUDGED {
			judged += n
		}
	}
	return sensors, judged
}

func (t tally) list() []CoverageTotal {
	out := make([]CoverageTotal, 0, len(t))
	for _, e := range t {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b CoverageTotal) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// StatesOf is a machine's coverage by state and reason, with the number of its sensors and of those judged.
func StatesOf(c *eventv1.MachineCoverage) (states []CoverageTotal, sensors, judged int) {
	t := tally{}
	sensors, judged = t.add(c)
	return t.list(), sensors, judged
}

// FleetCoverage counts the machines in scope; of gateways those with the most sensors that are not judged, limit at most. Cost: a look at every machine.
func (h *Hub) FleetCoverage(in Scope, limit int) FleetCoverage {
	var out FleetCoverage
	fleet := tally{}
	type gateway struct {
		GatewayCoverage
		tally tally
	}
	gateways := map[string]*gateway{}
	h.cov.mu.RLock()
	for _, c := range h.cov.machines {
		if in != nil && !in(c.GetEquipmentId(), h.where.Of(c.GetEquipmentId())) {
			continue
		}
		fleet.add(c)
		g := gateways[c.GetGatewayId()]
		if g == nil {
			g = &gateway{GatewayCoverage: GatewayCoverage{GatewayID: c.GetGatewayId()}, tally: tally{}}
			gateways[c.GetGatewayId()] = g
		}
		sensors, judged := g.tally.add(c)
		g.Machines, g.Sensors, g.Judged = g.Machines+1, g.Sensors+sensors, g.Judged+judged
		switch c.GetHealth() {
		case eventv1.Health_HEALTH_DEGRADED:
			out.Degraded++
		case eventv1.Health_HEALTH_FAILED:
			out.Failed++
		}
	}
	h.cov.mu.RUnlock()
	out.Totals = fleet.list()
	list := slices.SortedFunc(maps.Values(gateways), func(a, b *gateway) int {
		return cmp.Or(cmp.Compare(b.Sensors-b.Judged, a.Sensors-a.Judged), cmp.Compare(a.GatewayID, b.GatewayID))
	})
	for _, g := range list[:min(len(list), limit)] {
		g.States = g.tally.list()
		out.Gateways = append(out.Gateways, g.GatewayCoverage)
	}
	return out
}
