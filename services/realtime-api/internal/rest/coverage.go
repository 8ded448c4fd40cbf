package rest

import (
	"strconv"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

const maxGateways = 1000

func (a *API) coverage(dst []byte, r *asked) ([]byte, *fault) {
	size, after, f := page(r.q)
	if f != nil {
		return nil, f
	}
	want, f := states[eventv1.CoverageState](r.q, eventv1.CoverageState_value, "COVERAGE_STATE_",
		"judged, learning, silent, late, bad_quality, shelved, gateway_down, clock_wrong, dead_lettered, model_failed, refused")
	if f != nil {
		return nil, f
	}
	gateway, whole := r.q.Get("gateway_id"), !r.q.Has("gateway_id")
	rows, total := a.hub.CoverageRecords(r.scope(), func(c *eventv1.MachineCoverage) bool {
		return (whole || c.GetGatewayId() == gateway) && (want == nil || in(c, want))
	}, after, int(size)+1)
	next := ""
	if len(rows) > int(size) {
		rows = rows[:size]
		next = token(rows[size-1].GetEquipmentId())
	}
	fleet := a.hub.FleetCoverage(r.scope(), maxGateways)
	dst = wire.AppendFleetCoverage(append(dst, '{'), &fleet)
	dst = append(dst, `,"machines":[`...)
	for i, c := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendCoverageRow(dst, c)
	}
	dst = append(dst, `],"next_page_token":`...)
	dst = wire.AppendString(dst, next)
	dst = append(dst, `,"total":`...)
	return append(strconv.AppendInt(dst, int64(total), 10), '}'), nil
}

// in tells whether a sensor of the machine is in one of the states.
func in(c *eventv1.MachineCoverage, states map[eventv1.CoverageState]bool) bool {
	for _, g := range c.GetGroups() {
		if states[g.GetState()] {
			return true
		}
	}
	return false
}

func (a *API) machineCoverage(dst []byte, r *asked) ([]byte, *fault) {
	id, f := r.machineID()
	if f != nil {
		return nil, f
	}
	c, ok := a.hub.Coverage(id)
	if !ok {
		return nil, unknownMachine(id)
	}
	return append(wire.AppendCoverage(append(dst, `{"coverage":`...), c), '}'), nil
}
