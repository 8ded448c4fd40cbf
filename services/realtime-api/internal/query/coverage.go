package query

import (
	"slices"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
)

// Coverage is a question for what is judged.
type Coverage struct {
	Page
	Where
	// States are those of which a machine has a sensor; nil: all machines.
	States []eventv1.CoverageState
	// GatewayID is the gateway that machines are behind; nil: any.
	GatewayID *string
}

// CoverageList is the whole fleet's coverage, and a page of machines in order of id.
type CoverageList struct {
	Fleet    hub.FleetCoverage
	Machines []*eventv1.MachineCoverage
	Next     string
	Total    int
}

// Coverage lists what is judged and what is not.
func (d *Desk) Coverage(who *gate.Identity, q Coverage) (CoverageList, *Fault) {
	size, f := q.size()
	if f != nil {
		return CoverageList{}, f
	}
	after, f := q.after()
	if f != nil {
		return CoverageList{}, f
	}
	in := q.scope(who)
	var out CoverageList
	out.Machines, out.Total = d.hub.CoverageRecords(in, func(c *eventv1.MachineCoverage) bool {
		return (q.GatewayID == nil || c.GetGatewayId() == *q.GatewayID) && (len(q.States) == 0 || hasState(c, q.States))
	}, after, size+1)
	if len(out.Machines) > size {
		out.Machines = out.Machines[:size]
		out.Next = token(out.Machines[size-1].GetEquipmentId())
	}
	out.Fleet = d.hub.FleetCoverage(in, maxGateways)
	return out, nil
}

// hasState tells whether a sensor of the machine is in one of the states.
func hasState(c *eventv1.MachineCoverage, states []eventv1.CoverageState) bool {
	return slices.ContainsFunc(c.GetGroups(), func(g *eventv1.CoverageGroup) bool { return slices.Contains(states, g.GetState()) })
}

// MachineCoverage is the newest record of one machine. It must not be changed.
func (d *Desk) MachineCoverage(who *gate.Identity, id string) (*eventv1.MachineCoverage, *Fault) {
	if sees(who, id) {
		if c, ok := d.hub.Coverage(id); ok {
			return c, nil
		}
	}
	return nil, unknown(id)
}
