package rest

import (
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/query"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

func (a *API) coverage(dst []byte, r *asked) ([]byte, *fault) {
	page, f := r.page()
	if f != nil {
		return nil, f
	}
	want, f := states[eventv1.CoverageState](r.q, eventv1.CoverageState_value, "COVERAGE_STATE_",
		"judged, learning, silent, late, bad_quality, shelved, gateway_down, clock_wrong, dead_lettered, model_failed, refused")
	if f != nil {
		return nil, f
	}
	list, no := a.desk.Coverage(r.who, query.Coverage{Page: page, Where: r.where(), States: want, GatewayID: r.text("gateway_id")})
	if no != nil {
		return nil, refusal(no)
	}
	dst = wire.AppendFleetCoverage(append(dst, '{'), &list.Fleet)
	dst = append(dst, `,"machines":[`...)
	for i, c := range list.Machines {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendCoverageRow(dst, c)
	}
	return closePage(append(dst, ']'), list.Next, list.Total), nil
}

func (a *API) machineCoverage(dst []byte, r *asked) ([]byte, *fault) {
	c, no := a.desk.MachineCoverage(r.who, r.PathValue("id"))
	if no != nil {
		return nil, refusal(no)
	}
	return append(wire.AppendCoverage(append(dst, `{"coverage":`...), c), '}'), nil
}
