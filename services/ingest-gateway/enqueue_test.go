package ingestgateway_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

type accepted struct {
	EquipmentID string `json:"equipment_id"`
	GatewayID   string `json:"gateway_id"`
	Sequence    string
	Features    int
	SchemaID    string `json:"schema_id"`
}

func TestEnqueue(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) { c.Schemas.MaxSchemas = 1 })
	now := time.Now().UnixMicro()
	enqueue := func(path string, body any, headers ...string) accepted {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		a := g.post(path, jsonType, gzipped(t, b), append(headers, "Content-Encoding", "gzip")...)
		var got accepted
		if a.status != http.StatusAccepted || json.Unmarshal(a.body, &got) != nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return got
	}
	wide := map[string]any{"equipment_id": "furnace-1"}
	for i := range 25_000 {
		wide[fmt.Sprintf("feature %d", i)] = float64(i) / 2
	}
	first := enqueue("/data-enqueue", wide)
	second := enqueue("/data-enqueue", wide)
	if first.Features != 25_000 || first.Sequence != "1" || second.Sequence != "2" || first.GatewayID != second.GatewayID || !schema.WellFormed(first.SchemaID) || first.SchemaID != second.SchemaID {
		t.Fatalf("%+v %+v", first, second)
	}
	small := enqueue(fmt.Sprintf("/data-enqueue?equipment_id=pump-1&time_us=%d", now), map[string]any{"b": 1, "a": nil})
	if small.Sequence != "1" || small.SchemaID != "" {
		t.Fatalf("%+v", small)
	}
	enqueue("/data-enqueue", map[string]any{"b": 2, "time_us": now}, "X-Equipment-Id", "pump-1")
	// The registry is full: the names travel in the frame.
	wide["one more"] = 1
	if third := enqueue("/data-enqueue", wide); third.SchemaID != "" || third.Sequence != "3" {
		t.Fatalf("%+v", third)
	}
	byID := map[string]*eventv1.SensorFrame{}
	for _, r := range kafkatest.Consume(t, g.kafka, topic.Frames, 5, 15*time.Second) {
		var f eventv1.SensorFrame
		if err := proto.Unmarshal(r.Value, &f); err != nil {
			t.Fatal(err)
		}
		byID[fmt.Sprintf("%s/%d", f.EquipmentId, f.Sequence)] = &f
	}
	if f := byID["furnace-1/2"]; f == nil || f.SchemaId != first.SchemaID || len(f.Values) != 25_000 || len(f.Sensors) != 0 {
		t.Fatalf("%.300v", f)
	}
	if f := byID["furnace-1/3"]; f == nil || len(f.Sensors) != 25_001 {
		t.Fatalf("%.300v", f)
	}
	if f := byID["pump-1/1"]; f == nil || f.BaseTimeUs != now || fmt.Sprint(f.Sensors) != "[a b]" || !math.IsNaN(float64(f.Values[0])) || f.Values[1] != 1 {
		t.Fatalf("%v", f)
	}
}

func TestEnqueueRefusesByName(t *testing.T) {
	g := start(t, nil)
	for _, c := range []struct{ name, path, body, field string }{
		{"no machine", "", `{"a":1}`, "equipment_id"},
		{"a path as machine", "?equipment_id=../x", `{"a":1}`, "equipment_id"},
		{"two machines", "?equipment_id=x", `{"a":1,"equipment_id":"y"}`, "equipment_id"},
		{"machine as number", "", `{"a":1,"equipment_id":7}`, `"equipment_id"`},
		{"text as value", "?equipment_id=x", `{"a":"b"}`, `"a"`},
		{"nested", "?equipment_id=x", `{"a":{"b":1}}`, `"a"`},
		{"NaN", "?equipment_id=x", `{"a":NaN}`, `"a"`},
		{"too large a number", "?equipment_id=x", `{"a":1e39}`, `"a"`},
		{"twice", "?equipment_id=x", `{"a":1,"a":2}`, `"a"`},
		{"a bad name", "?equipment_id=x", `{"<b>":1}`, `"<b>"`},
		{"nothing", "?equipment_id=x", `{}`, "values"},
		{"a list", "?equipment_id=x", `[1]`, "body"},
		{"more behind", "?equipment_id=x", `{"a":1} {}`, "body"},
		{"time as text", "?equipment_id=x&time_us=now", `{"a":1}`, "time_us"},
		{"time twice", "?equipment_id=x&time_us=1", `{"a":1,"time_us":1}`, "time_us"},
		{"the future", fmt.Sprintf("?equipment_id=x&time_us=%d", time.Now().Add(time.Hour).UnixMicro()), `{"a":1}`, "base_time_us"},
		{"too many", "?equipment_id=x", "{" + strings.Repeat(`"a":1,`, 30_000) + `"b":1}`, "body"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.post("/data-enqueue"+c.path, jsonType, []byte(c.body))
			if a.status != http.StatusBadRequest || a.problem(t).Field != c.field {
				t.Fatalf("%d %s, want %q", a.status, a.body, c.field)
			}
		})
	}
}

func TestEnqueueNeedsTheMachinesToken(t *testing.T) {
	g := start(t, withAuth)
	body := []byte(`{"a":1}`)
	for token, codes := range map[string][2]int{"": {401, 401}, token1: {202, 403}, token2: {202, 202}} {
		for i, machine := range []string{"press-1", "boiler-1"} {
			var headers []string
			if token != "" {
				headers = []string{"Authorization", "Bearer " + token}
			}
			if a := g.post("/data-enqueue?equipment_id="+machine, jsonType, body, headers...); a.status != codes[i] {
				t.Errorf("%q sends %s: %d, want %d", token, machine, a.status, codes[i])
			}
		}
	}
}
