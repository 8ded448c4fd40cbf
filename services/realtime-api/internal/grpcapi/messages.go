package grpcapi

import (
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/query"
)

func machine(r *hub.Row, sensors []string) *queryv1.Machine {
	return &queryv1.Machine{
		EquipmentId: r.ID, GatewayId: r.GatewayID, State: r.State, Score: r.Score, Sensors: sensors, LastWindowUs: r.LastUS, OpenAlerts: uint32(r.OpenAlerts),
		Severity: r.Severity, Site: r.Place.Site, Line: r.Place.Line, Group: r.Place.Group,
	}
}

// window is what is kept of a window, with the sensors that keep allows; nil allows all. Values are float32 there, and NaN where nothing is learned.
func window(w *hub.Window, keep func(sensor string) bool) *eventv1.Window {
	out := &eventv1.Window{
		EquipmentId: w.EquipmentID, StartUs: w.StartUS, EndUs: w.EndUS, Revision: w.Revision, Score: w.Score, Learning: w.Learning, ClosedAtMs: w.ClosedAtMS, Regime: w.Regime,
		Sensors: make([]*eventv1.SensorWindow, 0, len(w.Cells)),
	}
	for i := range w.Cells {
		if keep != nil && !keep(w.Sensors[i]) {
			continue
		}
		c := &w.Cells[i]
		out.Sensors = append(out.Sensors, &eventv1.SensorWindow{
			Sensor: w.Sensors[i], Count: c.Count, Mean: float64(c.Mean), Stddev: float64(c.StdDev), Min: float64(c.Min), Max: float64(c.Max), Last: float64(c.Last),
			Unusable: c.Unusable, Score: float64(c.Score), ExpectedLow: float64(c.ExpectedLow), ExpectedHigh: float64(c.ExpectedHigh),
		})
	}
	return out
}

func coverage(l *query.CoverageList) *queryv1.ListCoverageResponse {
	out := &queryv1.ListCoverageResponse{
		Totals: totals(l.Fleet.Totals), NextPageToken: l.Next, Total: int32(l.Total), MachinesDegraded: int32(l.Fleet.Degraded), MachinesFailed: int32(l.Fleet.Failed),
	}
	for i := range l.Fleet.Gateways {
		g := &l.Fleet.Gateways[i]
		out.Gateways = append(out.Gateways, &queryv1.GatewayCoverage{
			GatewayId: g.GatewayID, Machines: int32(g.Machines), Sensors: int32(g.Sensors), Judged: int32(g.Judged), States: totals(g.States),
		})
	}
	for _, c := range l.Machines {
		states, sensors, judged := hub.StatesOf(c)
		out.Machines = append(out.Machines, &queryv1.MachineCoverageRow{
			EquipmentId: c.GetEquipmentId(), GatewayId: c.GetGatewayId(), AtMs: c.GetAtMs(), Health: c.GetHealth(), Sensors: int32(sensors), Judged: int32(judged),
			States: totals(states), LearningLeftUs: c.GetLearningLeftUs(),
		})
	}
	return out
}

func totals(list []hub.CoverageTotal) []*queryv1.CoverageTotal {
	out := make([]*queryv1.CoverageTotal, len(list))
	for i, t := range list {
		out[i] = &queryv1.CoverageTotal{State: t.State, Reason: t.Reason, Sensors: int32(t.Sensors), Machines: int32(t.Machines)}
	}
	return out
}
