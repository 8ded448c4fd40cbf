package rest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/auth"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
)

// record is one thing that happens to a machine.
type record struct{ kind, machine, at, variant int }

func (r record) id() string { return []string{"a-1", "a-2", "b-1", "b-2", "c"}[r.machine] }

func (r record) apply(h *hub.Hub) error {
	id, at := r.id(), int64(r.at)
	switch r.kind {
	case 0:
		return h.ApplyWindow(&eventv1.Window{
			EquipmentId: id, StartUs: at * 5, EndUs: at*5 + 5, Score: float64(r.variant) / 4, Learning: r.variant == 0,
			Sensors: []*eventv1.SensorWindow{{Sensor: "of-" + id, Count: 1}},
		})
	case 1:
		return h.ApplyAnomaly(&eventv1.Anomaly{
			AnomalyId: fmt.Sprint(id, at, r.variant), EpisodeId: id, EquipmentId: id, GatewayId: "gw-" + id, ObservedUs: at, Phase: eventv1.Phase(r.variant), Cause: []string{"limit", hub.CauseSilence}[r.at%2],
		})
	case 2:
		return h.ApplyAlert(&eventv1.AlertEvent{
			EventId: fmt.Sprint(id, at, r.variant), AlertId: fmt.Sprint(id, "/", r.at%3), EquipmentId: id, AtMs: at, StartedUs: at, Severity: eventv1.Severity(r.variant),
			Transition: eventv1.AlertTransition(1 + r.at%3), Summary: "of " + id,
		})
	default:
		return h.ApplyCoverage(&eventv1.MachineCoverage{
			EquipmentId: id, GatewayId: "gw-" + id, AtMs: at, Groups: []*eventv1.CoverageGroup{{State: eventv1.CoverageState(1 + r.variant), Count: 2, Sensors: []string{"of-" + id}}},
		})
	}
}

// Whatever happens to machines that somebody may not see, all that is answered to them is what would be answered if those machines did not exist.
func TestOthersDoNotExist(t *testing.T) {
	where, err := places.New(`^(?P<site>[a-z])-?(?P<line>\d)?`, nil)
	if err != nil {
		t.Fatal(err)
	}
	who := &gate.Identity{Name: "ada", Machines: auth.NewEquipment([]string{"a-*", "b-2"})}
	paths := []string{
		"/v1/machines", "/v1/machines?page_size=1", "/v1/machines?state=silent,critical", "/v1/machines?search=b", "/v1/machines?site=b", "/v1/machines?line=1&site=a",
		"/v1/alerts", "/v1/alerts?include_closed=true", "/v1/alerts?include_closed=true&page_size=1", "/v1/alerts?search=of&severity=warning", "/v1/alerts?site=b", "/v1/alerts?equipment_id=b-1&include_closed=1",
		"/v1/anomalies", "/v1/anomalies?equipment_id=b-1", "/v1/anomalies?site=c", "/v1/summary", "/v1/summary?site=b", "/v1/places",
		"/v1/coverage", "/v1/coverage?page_size=1", "/v1/coverage?gateway_id=gw-b-1", "/v1/coverage?site=b", "/v1/coverage?state=judged",
	}
	for _, id := range []string{"a-1", "b-1", "b-2", "c", "nobody"} {
		paths = append(paths, "/v1/machines/"+id, "/v1/machines/"+id+"/windows", "/v1/equipment/"+id+"/coverage", "/v1/machines/"+id+"/windows?sensor=of-"+id)
	}
	one := rapid.Custom(func(t *rapid.T) record {
		return record{rapid.IntRange(0, 3).Draw(t, "kind"), rapid.IntRange(0, 4).Draw(t, "machine"), rapid.IntRange(1, 8).Draw(t, "at"), rapid.IntRange(0, 3).Draw(t, "variant")}
	})
	rapid.Check(t, func(rt *rapid.T) {
		all, mux := serverFor(t, who)
		own, alone := serverFor(t, who)
		all.Locate(where)
		own.Locate(where)
		for _, r := range rapid.SliceOfN(one, 0, 60).Draw(rt, "records") {
			if err := r.apply(all); err != nil {
				rt.Fatal(err)
			}
			if who.Machines.Has(r.id()) {
				if err := r.apply(own); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for _, path := range rapid.SliceOfN(rapid.SampledFrom(paths), 12, 12).Draw(rt, "paths") {
			got, want := get(t, mux, "GET", path), get(t, alone, "GET", path)
			var g, w any
			if err := json.Unmarshal(got.Body.Bytes(), &g); err != nil {
				rt.Fatalf("%s: %v", path, err)
			}
			if err := json.Unmarshal(want.Body.Bytes(), &w); err != nil {
				rt.Fatalf("%s: %v", path, err)
			}
			if got.Code != want.Code || !reflect.DeepEqual(g, w) {
				rt.Fatalf("GET %s\n%d %s\nalone\n%d %s", path, got.Code, got.Body, want.Code, want.Body)
			}
		}
	})
}

// Pages give each alert once, in order, whatever opens and closes while somebody turns them.
func TestAlertPages(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h, mux := serverFor(t, &gate.Identity{Machines: auth.Every()})
		n := rapid.IntRange(0, 30).Draw(rt, "alerts")
		apply := func(i int, tr eventv1.AlertTransition) {
			if err := h.ApplyAlert(&eventv1.AlertEvent{
				AlertId: fmt.Sprintf("m/%02d", i), EquipmentId: "m", Severity: eventv1.Severity(i%3 + 1), StartedUs: int64(i / 4), AtMs: int64(i/3 + int(tr)), Transition: tr,
			}); err != nil {
				rt.Fatal(err)
			}
		}
		for i := range n {
			apply(i, 1)
		}
		size := rapid.IntRange(1, 7).Draw(rt, "size")
		seen := map[string]bool{}
		closed := map[string]bool{}
		for token, pages := "", 0; ; pages++ {
			var p struct {
				Alerts []struct {
					ID string `json:"alert_id"`
				}
				Next string `json:"next_page_token"`
			}
			w := get(t, mux, "GET", fmt.Sprintf("/v1/alerts?include_closed=true&page_size=%d&page_token=%s", size, token))
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 || pages > 2*n+20 {
				rt.Fatalf("page %d: %d %s", pages, w.Code, w.Body)
			}
			for _, a := range p.Alerts {
				if seen[a.ID] && !closed[a.ID] { // one that closed has moved behind the open ones
					rt.Fatalf("%s comes twice", a.ID)
				}
				seen[a.ID] = true
			}
			if token = p.Next; token == "" {
				break
			}
			if i := rapid.IntRange(0, n).Draw(rt, "closes"); i < n {
				closed[fmt.Sprintf("m/%02d", i)] = true
				apply(i, 3)
			}
			if pages < 10 {
				apply(100+pages, 1)
			}
		}
		for i := range n {
			if id := fmt.Sprintf("m/%02d", i); !seen[id] {
				rt.Fatalf("%s is missing", id)
			}
		}
	})
}
