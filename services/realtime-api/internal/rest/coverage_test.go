package rest

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
)

const (
	judged      = eventv1.CoverageState_COVERAGE_STATE_JUDGED
	badQuality  = eventv1.CoverageState_COVERAGE_STATE_BAD_QUALITY
	gatewayDown = eventv1.CoverageState_COVERAGE_STATE_GATEWAY_DOWN
)

func covered(id, gateway string, groups ...*eventv1.CoverageGroup) *eventv1.MachineCoverage {
	return &eventv1.MachineCoverage{EquipmentId: id, GatewayId: gateway, AtMs: 1000, NewestUs: 7, Health: eventv1.Health_HEALTH_HEALTHY, Groups: groups}
}

func group(state eventv1.CoverageState, reason string, sensors ...string) *eventv1.CoverageGroup {
	g := &eventv1.CoverageGroup{State: state, Reason: reason, Count: uint32(len(sensors)), Sensors: sensors}
	for i := range sensors {
		g.JudgedUntilUs = append(g.JudgedUntilUs, int64(i)*1_000_000)
	}
	return g
}

func apply(t *testing.T, h *hub.Hub, list ...*eventv1.MachineCoverage) {
	t.Helper()
	for _, c := range list {
		if err := h.ApplyCoverage(c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCoverage(t *testing.T) {
	h, mux := server(t)
	sick := covered("m-05", "gw-1", group(judged, "statistics_only", "a"), group(badQuality, "stuck", "b<", "c"))
	sick.Health, sick.BehindUs, sick.RefusedFrames, sick.LearningLeftUs = eventv1.Health_HEALTH_DEGRADED, 5, 6, 8
	sick.Detectors = []*eventv1.DetectorHealth{{Detector: "pca", Health: eventv1.Health_HEALTH_FAILED, Reason: "panic", SinceUs: 9, WindowsLeft: 10}}
	for i := range 25 {
		c := covered(fmt.Sprintf("m-%02d", i), "gw-1", group(judged, "", "a", "b", "c"))
		if i >= 15 {
			c = covered(fmt.Sprintf("m-%02d", i), "gw-2", group(gatewayDown, "", "a", "b", "c"))
		}
		apply(t, h, c)
	}
	apply(t, h, sick)

	var one queryv1.GetCoverageResponse
	into(t, mux, "/v1/equipment/m-05/coverage", &one)
	if !proto.Equal(one.Coverage, sick) {
		t.Errorf("%v, want %v", one.Coverage, sick)
	}
	var all queryv1.ListCoverageResponse
	into(t, mux, "/v1/coverage", &all)
	want := []*queryv1.CoverageTotal{
		{State: judged, Sensors: 42, Machines: 14},
		{State: judged, Reason: "statistics_only", Sensors: 1, Machines: 1},
		{State: badQuality, Reason: "stuck", Sensors: 2, Machines: 1},
		{State: gatewayDown, Sensors: 30, Machines: 10},
	}
	if !slices.EqualFunc(all.Totals, want, func(a, b *queryv1.CoverageTotal) bool { return proto.Equal(a, b) }) {
		t.Errorf("totals: %v", all.Totals)
	}
	if len(all.Machines) != 25 || all.Total != 25 || all.MachinesDegraded != 1 || all.MachinesFailed != 0 || all.Machines[5].Judged != 1 || all.Machines[5].Sensors != 3 {
		t.Errorf("%v", &all)
	}
	if g := all.Gateways; len(g) != 2 || g[0].GatewayId != "gw-2" || g[0].Machines != 10 || g[0].Sensors != 30 || g[0].Judged != 0 || g[1].Judged != 43 || len(g[1].States) != 3 {
		t.Errorf("gateways: %v", all.Gateways)
	}
	for query, n := range map[string]int{"state=bad_quality": 1, "state=gateway_down,bad_quality": 11, "state=COVERAGE_STATE_JUDGED": 15, "gateway_id=gw-2": 10, "gateway_id=": 0, "state=late": 0} {
		into(t, mux, "/v1/coverage?"+query, &all)
		if int(all.Total) != n || len(all.Machines) != n || len(all.Totals) != 4 {
			t.Errorf("%s: %d of %d machines", query, len(all.Machines), all.Total)
		}
	}
	var got []string
	for token := ""; ; {
		into(t, mux, "/v1/coverage?page_size=7&page_token="+token, &all)
		for _, m := range all.Machines {
			got = append(got, m.EquipmentId)
		}
		if token = all.NextPageToken; token == "" || len(got) > 100 {
			break
		}
	}
	if len(got) != 25 || !slices.IsSorted(got) {
		t.Errorf("pages give %v", got)
	}
}
