package hub

import (
	"fmt"
	"testing"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func TestCoverageIsBoundedAndTheNewestStands(t *testing.T) {
	lim := roomy
	lim.Machines = 3
	h := New(lim)
	record := func(id string, at int64, sensors int) {
		t.Helper()
		g := &eventv1.CoverageGroup{State: eventv1.CoverageState_COVERAGE_STATE_JUDGED, Count: uint32(sensors)}
		for i := range sensors {
			g.Sensors, g.JudgedUntilUs = append(g.Sensors, fmt.Sprint(i)), append(g.JudgedUntilUs, 1)
		}
		if err := h.ApplyCoverage(&eventv1.MachineCoverage{EquipmentId: id, AtMs: at, Groups: []*eventv1.CoverageGroup{g}}); err != nil {
			t.Fatal(err)
		}
	}
	record("a", 5, 1)
	record("b", 1, 1)
	record("c", 3, 1)
	record("a", 4, 2) // late word
	record("d", 6, 25_000)
	if _, ok := h.Coverage("b"); ok {
		t.Error("the oldest did not give way")
	}
	if c, ok := h.Coverage("a"); !ok || c.AtMs != 5 {
		t.Errorf("%v", c)
	}
	if c, _ := h.Coverage("d"); len(c.Groups[0].Sensors) != maxSensors || len(c.Groups[0].JudgedUntilUs) != maxSensors || c.Groups[0].Count != 25_000 {
		t.Errorf("%d names kept", len(c.Groups[0].Sensors))
	}
	for _, c := range []*eventv1.MachineCoverage{nil, {}, {EquipmentId: string(make([]byte, maxID+1))}, {EquipmentId: "m", Groups: make([]*eventv1.CoverageGroup, maxGroups+1)}, {EquipmentId: "m", NewestUs: maxTimeUS + 1}} {
		if h.ApplyCoverage(c) == nil {
			t.Errorf("%v is taken", c)
		}
	}
	f := h.FleetCoverage(nil, 1)
	if len(f.Gateways) != 1 || f.Gateways[0].Machines != 3 || f.Totals[0].Sensors != 25_002 {
		t.Errorf("%+v", f)
	}
}
