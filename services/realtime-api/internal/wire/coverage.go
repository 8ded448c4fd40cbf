package wire

import (
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
)

// AppendCoverage appends a tocsin.event.v1.MachineCoverage.
func AppendCoverage(dst []byte, c *eventv1.MachineCoverage) []byte {
	dst = append(dst, '{')
	dst = appendText(dst, "equipment_id", c.GetEquipmentId())
	dst = appendText(dst, "gateway_id", c.GetGatewayId())
	dst = appendInt(dst, "at_ms", c.GetAtMs())
	dst = appendInt(dst, "newest_us", c.GetNewestUs())
	dst = append(appendKey(dst, "groups"), '[')
	for i, g := range c.GetGroups() {
		dst = comma(dst, i)
		dst = append(dst, '{')
		dst = appendText(dst, "state", coverageName(g.GetState()))
		dst = appendText(dst, "reason", g.GetReason())
		dst = appendInt(dst, "count", int64(g.GetCount()))
		dst = append(appendKey(dst, "sensors"), '[')
		for j, s := range g.GetSensors() {
			dst = AppendString(comma(dst, j), s)
		}
		dst = append(dst, ']')
		dst = append(appendKey(dst, "judged_until_us"), '[')
		for j, t := range g.GetJudgedUntilUs() {
			dst = appendNumber(comma(dst, j), t)
		}
		dst = append(dst, ']', '}')
	}
	dst = append(dst, ']')
	dst = appendInt(dst, "learning_left_us", c.GetLearningLeftUs())
	dst = appendText(dst, "health", healthName(c.GetHealth()))
	dst = append(appendKey(dst, "detectors"), '[')
	for i, d := range c.GetDetectors() {
		dst = comma(dst, i)
		dst = append(dst, '{')
		dst = appendText(dst, "detector", d.GetDetector())
		dst = appendText(dst, "health", healthName(d.GetHealth()))
		dst = appendText(dst, "reason", d.GetReason())
		dst = appendInt(dst, "since_us", d.GetSinceUs())
		dst = appendInt(dst, "windows_left", int64(d.GetWindowsLeft()))
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	dst = appendInt(dst, "behind_us", c.GetBehindUs())
	dst = appendInt(dst, "refused_frames", int64(c.GetRefusedFrames()))
	return append(dst, '}')
}

// AppendCoverageRow appends a tocsin.query.v1.MachineCoverageRow.
func AppendCoverageRow(dst []byte, c *eventv1.MachineCoverage) []byte {
	states, sensors, judged := hub.StatesOf(c)
	dst = append(dst, '{')
	dst = appendText(dst, "equipment_id", c.GetEquipmentId())
	dst = appendText(dst, "gateway_id", c.GetGatewayId())
	dst = appendInt(dst, "at_ms", c.GetAtMs())
	dst = appendText(dst, "health", healthName(c.GetHealth()))
	dst = appendInt(dst, "sensors", int64(sensors))
	dst = appendInt(dst, "judged", int64(judged))
	dst = appendTotals(dst, "states", states)
	dst = appendInt(dst, "learning_left_us", c.GetLearningLeftUs())
	return append(dst, '}')
}

// AppendFleetCoverage appends the members of a tocsin.query.v1.ListCoverageResponse that are of the whole fleet, without the braces.
func AppendFleetCoverage(dst []byte, f *hub.FleetCoverage) []byte {
	dst = appendTotals(dst, "totals", f.Totals)
	dst = append(appendKey(dst, "gateways"), '[')
	for i := range f.Gateways {
		g := &f.Gateways[i]
		dst = append(comma(dst, i), '{')
		dst = appendText(dst, "gateway_id", g.GatewayID)
		dst = appendInt(dst, "machines", int64(g.Machines))
		dst = appendInt(dst, "sensors", int64(g.Sensors))
		dst = appendInt(dst, "judged", int64(g.Judged))
		dst = appendTotals(dst, "states", g.States)
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	dst = appendInt(dst, "machines_degraded", int64(f.Degraded))
	return appendInt(dst, "machines_failed", int64(f.Failed))
}

func appendTotals(dst []byte, name string, list []hub.CoverageTotal) []byte {
	dst = append(appendKey(dst, name), '[')
	for i := range list {
		t := &list[i]
		dst = append(comma(dst, i), '{')
		dst = appendText(dst, "state", coverageName(t.State))
		dst = appendText(dst, "reason", t.Reason)
		dst = appendInt(dst, "sensors", int64(t.Sensors))
		dst = appendInt(dst, "machines", int64(t.Machines))
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// comma separates the items of a list.
func comma(dst []byte, i int) []byte {
	if i > 0 {
		return append(dst, ',')
	}
	return dst
}

func coverageName(v eventv1.CoverageState) string {
	return enumName(eventv1.CoverageState_name, int32(v))
}
func healthName(v eventv1.Health) string { return enumName(eventv1.Health_name, int32(v)) }
