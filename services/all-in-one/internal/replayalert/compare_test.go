package replayalert

import (
	"testing"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// What a silence says of the gateway is the neighbours' word: one machine judged again cannot say it, and everything else must be the same.
func TestWhatNeighboursSaidOfTheGatewayIsNotCompared(t *testing.T) {
	machine := &eventv1.Anomaly{AnomalyId: "1", Cause: "silence", Score: 0.99, Origin: eventv1.Origin_ORIGIN_MACHINE, Summary: "no data"}
	gateway := proto.CloneOf(machine)
	gateway.Origin, gateway.Machines, gateway.Summary = eventv1.Origin_ORIGIN_GATEWAY, 180, "gateway is silent"
	for _, c := range []struct {
		recorded *eventv1.Anomaly
		edit     func(*eventv1.Anomaly)
		want     int
	}{
		{gateway, func(*eventv1.Anomaly) {}, 0},
		{gateway, func(a *eventv1.Anomaly) { a.Score = 0.98 }, 1},
		{machine, func(a *eventv1.Anomaly) { a.Summary = "other" }, 1},
	} {
		now := proto.CloneOf(machine)
		c.edit(now)
		a, _ := proto.Marshal(c.recorded)
		b, _ := proto.Marshal(now)
		if d, passed, err := compare(a, b); err != nil || len(d) != c.want || (len(passed) > 0) != (c.recorded == gateway) {
			t.Errorf("%v, passed over %v, %v; want %d differences", d, passed, err, c.want)
		}
	}
}
