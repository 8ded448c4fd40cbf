package rest

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

const maxGateways = 1000

func (a *API) coverage(dst []byte, _ *http.Request, q url.Values) ([]byte, *fault) {
	size, after, f := page(q)
	if f != nil {
		return nil, f
	}
	want, f := states[eventv1.CoverageState](q, eventv1.CoverageState_value, "COVERAGE_STATE_",
		"judged, learning, silent, late, bad_quality, shelved, gateway_down, clock_wrong, dead_lettered, model_failed, refused")
	if f != nil {
		return nil, f
	}
	gateway, whole := q.Get("gateway_id"), !q.Has("gateway_id")
	rows, total := a.hub.CoverageRecords(func(c *eventv1.MachineCoverage) bool {
		return (whole || c.GetGatewayId() == gateway) && (want == nil || in(c, want))
	}, after, int(size)+1)
	next := ""
	if len(rows) > int(size) {
		rows = rows[:size]
		next = base64.RawURLEncoding.EncodeToString([]byte(rows[size-1].GetEquipmentId()))
	}
	fleet := a.hub.FleetCoverage(maxGateways)
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

func (a *API) machineCoverage(dst []byte, r *http.Request, _ url.Values) ([]byte, *fault) {
	c, ok := a.hub.Coverage(r.PathValue("id"))
	if !ok {
		return nil, unknownMachine(r.PathValue("id"))
	}
	return append(wire.AppendCoverage(append(dst, `{"coverage":`...), c), '}'), nil
}
