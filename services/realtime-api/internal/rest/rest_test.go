package rest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/auth"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/forward"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/query"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

func server(t *testing.T) (*hub.Hub, http.Handler) {
	t.Helper()
	return serverFor(t, &gate.Identity{Machines: auth.Every()})
}

func first(h *hub.Hub) *eventv1.AlertEvent {
	list, _ := h.Alerts(hub.AlertQuery{Limit: 1})
	return list[0]
}

func serverFor(t *testing.T, who *gate.Identity) (*hub.Hub, http.Handler) {
	t.Helper()
	h := hub.New(hub.DefaultLimits())
	a := New(query.New(h), func() wire.Flow { return wire.Flow{DelayMS: -1} }, metrics.NewSet())
	mux := http.NewServeMux()
	for _, r := range a.Routes() {
		mux.HandleFunc(r.Method+" "+r.Path, func(w http.ResponseWriter, req *http.Request) { r.Handler(w, req, who) })
	}
	mux.HandleFunc("/v1/", a.NotFound)
	return h, mux
}

func get(t *testing.T, h http.Handler, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

// into decodes an answer with protobuf's own JSON parser.
func into(t *testing.T, h http.Handler, path string, m proto.Message) {
	t.Helper()
	w := get(t, h, "GET", path)
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(w.Body.Bytes(), m); err != nil {
		t.Fatalf("GET %s: %v\n%s", path, err, w.Body)
	}
}

func fill(t *testing.T, h *hub.Hub, machines int) {
	t.Helper()
	for i := range machines {
		id := fmt.Sprintf("m-%03d", i)
		for at := range int64(3) {
			w := &eventv1.Window{
				EquipmentId: id, StartUs: at * 5, EndUs: at*5 + 5, Score: 0.25, Learning: i%2 == 0, ClosedAtMs: 7, Revision: 2,
				Sensors: []*eventv1.SensorWindow{
					{Sensor: "t\u2028\"<b>", Count: 5, Mean: 0.1, Stddev: 1e-9, Min: -1e30, Max: math.Inf(1), Last: math.NaN(), Score: 0.5, ExpectedLow: math.NaN(), ExpectedHigh: 3},
					{Sensor: "p", Count: 4, Unusable: 1},
				},
			}
			if err := h.ApplyWindow(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	a := &eventv1.AlertEvent{
		EventId: "e", AlertId: "a1", EquipmentId: "m-001", Cause: "limit", Severity: eventv1.Severity_SEVERITY_CRITICAL, Score: 0.99,
		Transition: eventv1.AlertTransition_ALERT_TRANSITION_OPENED, StartedUs: 5, AtMs: 9, Summary: "<img src=x onerror=alert(1)>",
		Labels: map[string]string{"site": "n"}, Annotations: map[string]string{"x": "y"},
		Contributions: []*eventv1.Contribution{{Sensor: "p", Share: 1, Observed: 3, ExpectedLow: 1, ExpectedHigh: 2, Detector: "limit"}},
	}
	done := proto.Clone(a).(*eventv1.AlertEvent)
	done.AlertId, done.Transition, done.EndedUs = "a0", eventv1.AlertTransition_ALERT_TRANSITION_CLOSED, 8
	for _, e := range []*eventv1.AlertEvent{a, done} {
		if err := h.ApplyAlert(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.ApplyAnomaly(&eventv1.Anomaly{
		AnomalyId: "x", EpisodeId: "a1", EquipmentId: "m-001", Cause: "limit", Phase: eventv1.Phase_PHASE_ONGOING, Severity: eventv1.Severity_SEVERITY_WARNING,
		Score: 0.9, Confidence: 0.5, StartedUs: 1, ObservedUs: 2, JudgedAtMs: 3, Summary: "s", GatewayId: "g", Contributions: a.Contributions, Origin: eventv1.Origin_ORIGIN_GATEWAY, Machines: 7,
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAnswersAreTheMessages(t *testing.T) {
	h, mux := server(t)
	fill(t, h, 3)
	var m queryv1.GetMachineResponse
	into(t, mux, "/v1/machines/m-001", &m)
	want := &queryv1.Machine{
		EquipmentId: "m-001", GatewayId: "g", State: queryv1.MachineState_MACHINE_STATE_CRITICAL, Score: 0.25,
		Sensors: []string{"t\u2028\"<b>", "p"}, LastWindowUs: 15, OpenAlerts: 1, Severity: eventv1.Severity_SEVERITY_CRITICAL,
	}
	if !proto.Equal(m.Machine, want) {
		t.Errorf("machine: %v, want %v", m.Machine, want)
	}
	var ws queryv1.ListWindowsResponse
	into(t, mux, "/v1/machines/m-001/windows?since_us=5", &ws)
	if len(ws.Windows) != 2 || ws.Windows[0].StartUs != 5 || ws.Windows[0].Revision != 2 || ws.Windows[0].ClosedAtMs != 7 {
		t.Fatalf("windows: %v", ws.Windows)
	}
	s := ws.Windows[0].Sensors[0]
	if float32(s.Mean) != 0.1 || float32(s.Min) != -1e30 || s.Max != 0 || s.ExpectedLow != 0 || s.ExpectedHigh != 3 || s.Sensor != "t\u2028\"<b>" {
		t.Errorf("sensor: %v", s)
	}
	into(t, mux, "/v1/machines/m-001/windows?sensor=p&limit=1", &ws)
	if len(ws.Windows) != 1 || ws.Windows[0].StartUs != 10 || len(ws.Windows[0].Sensors) != 1 || ws.Windows[0].Sensors[0].Sensor != "p" {
		t.Errorf("one sensor, one window: %v", ws.Windows)
	}
	var as queryv1.ListAlertsResponse
	into(t, mux, "/v1/alerts", &as)
	if len(as.Alerts) != 1 || !proto.Equal(as.Alerts[0], first(h)) {
		t.Errorf("open alerts: %v", as.Alerts)
	}
	into(t, mux, "/v1/alerts?include_closed=true&equipment_id=m-001", &as)
	if len(as.Alerts) != 2 || as.Alerts[1].AlertId != "a0" || as.Alerts[1].EndedUs != 8 {
		t.Errorf("all alerts: %v", as.Alerts)
	}
	var an queryv1.ListAnomaliesResponse
	into(t, mux, "/v1/anomalies?page_size=5", &an)
	if len(an.Anomalies) != 1 || !proto.Equal(an.Anomalies[0], h.Anomalies(nil, "", 1)[0]) {
		t.Errorf("anomalies: %v", an.Anomalies)
	}
	if body := get(t, mux, "GET", "/v1/alerts").Body.String(); strings.ContainsAny(body, "<>") {
		t.Errorf("markup stands bare in an answer: %s", body)
	}
}

func TestPaging(t *testing.T) {
	h, mux := server(t)
	fill(t, h, 25)
	var got []string
	for token, pages := "", 0; ; pages++ {
		var p queryv1.ListMachinesResponse
		into(t, mux, "/v1/machines?page_size=10&search=M-0&page_token="+token, &p)
		if p.Total != 25 || pages > 3 {
			t.Fatalf("total %d on page %d", p.Total, pages)
		}
		for _, m := range p.Machines {
			got = append(got, m.EquipmentId)
		}
		if token = p.NextPageToken; token == "" {
			break
		}
	}
	if len(got) != 25 || !slices.IsSorted(got) || len(slices.Compact(got)) != 25 {
		t.Errorf("pages give %v", got)
	}
	var p queryv1.ListMachinesResponse
	into(t, mux, "/v1/machines?state=critical&state=MACHINE_STATE_SILENT", &p)
	if len(p.Machines) != 1 || p.Machines[0].EquipmentId != "m-001" {
		t.Errorf("critical: %v", p.Machines)
	}
	into(t, mux, "/v1/machines?state=learning,ok", &p)
	if p.Total != 24 {
		t.Errorf("learning or ok: %d", p.Total)
	}
}

func TestErrorsNameTheParameter(t *testing.T) {
	h, mux := server(t)
	fill(t, h, 2)
	for _, c := range []struct {
		path, param string
		status      int
	}{
		{"/v1/machines?page_size=0", "page_size", 400},
		{"/v1/machines?page_size=1001", "page_size", 400},
		{"/v1/machines?page_size=x", "page_size", 400},
		{"/v1/machines?page_token=%25", "page_token", 400},
		{"/v1/machines?state=broken", "state", 400},
		{"/v1/machines?state=unspecified", "state", 400},
		{"/v1/machines?serach=a", "serach", 400},
		{"/v1/machines?search=a&search=b", "search", 400},
		{"/v1/machines?search=%zz", "", 400},
		{"/v1/machines?search=" + strings.Repeat("a", 5000), "", 414},
		{"/v1/machines/nope", "", 404},
		{"/v1/machines/nope/windows", "", 404},
		{"/v1/machines/m-001/windows?since_us=yesterday", "since_us", 400},
		{"/v1/machines/m-001/windows?limit=-1", "limit", 400},
		{"/v1/machines/m-001/windows?" + strings.Repeat("sensor=a&", 65), "sensor", 400},
		{"/v1/alerts?include_closed=maybe", "include_closed", 400},
		{"/v1/nothing", "", 404},
		{"/v1/coverage?state=broken", "state", 400},
		{"/v1/coverage?page_size=0", "page_size", 400},
		{"/v1/coverage?page_token=%25", "page_token", 400},
		{"/v1/equipment/nope/coverage", "", 404},
	} {
		w := get(t, mux, "GET", c.path)
		var p struct {
			Status    int
			Parameter string
			Detail    string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatalf("%.60s: %v: %s", c.path, err, w.Body)
		}
		if w.Code != c.status || p.Status != c.status || p.Parameter != c.param || p.Detail == "" || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.60s: %d %s", c.path, w.Code, w.Body)
		}
	}
	if w := get(t, mux, "POST", "/v1/machines"); w.Code != 405 || w.Header().Get("Allow") == "" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
}

// The contract and the code name the same operations, and the same parameters of each.
func TestContractIsWhatIsServed(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `yaml:"operationId"`
			Service     string `yaml:"x-tocsin-service"`
			Parameters  []struct {
				Ref      string `yaml:"$ref"`
				Name, In string
			}
			Responses map[string]yaml.Node
		}
		Components struct {
			Parameters map[string]struct{ Name, In string }
			Schemas    map[string]yaml.Node
		}
	}
	if err := yaml.Unmarshal(OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	h, mux := server(t)
	fill(t, h, 2)
	a := New(query.New(h), func() wire.Flow { return wire.Flow{} }, metrics.NewSet())
	// The service adds these.
	served := map[string]bool{"GET /v1/stream": true, "GET /openapi.yaml": true, "GET /v1/session": true, "POST /v1/session": true, "DELETE /v1/session": true, "GET /v1/health/pipeline": true}
	for _, r := range forward.Table() {
		served[r.Method+" "+r.Path] = true
	}
	for _, r := range a.Routes() {
		served[r.Method+" "+r.Path] = true
	}
	described := map[string]bool{}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			described[strings.ToUpper(method)+" "+path] = true
			if method != "get" || op.Service != "" || path == "/v1/health/pipeline" {
				continue
			}
			for _, p := range op.Parameters {
				if p.Ref != "" {
					c, ok := doc.Components.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")]
					if !ok {
						t.Errorf("%s refers to %s, which is not there", path, p.Ref)
					}
					p.Name, p.In = c.Name, c.In
				}
				if p.In != "query" {
					continue
				}
				// A described parameter is known: with an impossible value it is refused for its value, or taken.
				w := get(t, mux, "GET", strings.ReplaceAll(path, "{id}", "m-001")+"?"+p.Name+"=1")
				if strings.Contains(w.Body.String(), "no such parameter") {
					t.Errorf("%s: parameter %s is described but not known", path, p.Name)
				}
			}
			w := get(t, mux, "GET", strings.ReplaceAll(path, "{id}", "m-001")+"?nope=1")
			if _, known, ok := strings.Cut(w.Body.String(), "known: "); ok {
				known, _, _ = strings.Cut(known, `"`)
				n := 0
				for _, p := range op.Parameters {
					if p.In == "query" || slices.Contains(inQuery, p.Ref) {
						n++
					}
				}
				if got := len(strings.FieldsFunc(known, func(r rune) bool { return r == ',' || r == ' ' })); got != n {
					t.Errorf("%s: %d parameters known (%s), %d described", path, got, known, n)
				}
			}
		}
	}
	for op := range served {
		if !described[op] {
			t.Errorf("%s is served but not described", op)
		}
	}
	for op := range described {
		if !served[op] {
			t.Errorf("%s is described but not served", op)
		}
	}
	for _, ref := range strings.Split(string(OpenAPI), "$ref: '#/components/schemas/")[1:] {
		if name, _, _ := strings.Cut(ref, "'"); doc.Components.Schemas[name].Kind == 0 {
			t.Errorf("schema %s is referred to but not there", name)
		}
	}
	w := httptest.NewRecorder()
	Contract(w, nil)
	if w.Code != 200 || !strings.HasPrefix(w.Body.String(), "openapi: 3.1") {
		t.Errorf("openapi.yaml: %d", w.Code)
	}
}

var inQuery = []string{
	"#/components/parameters/page_size", "#/components/parameters/equipment_id", "#/components/parameters/site", "#/components/parameters/line", "#/components/parameters/group",
}

func TestSummary(t *testing.T) {
	h, mux := server(t)
	fill(t, h, 4)
	var s struct {
		Machines   map[string]int
		OpenAlerts int  `json:"open_alerts"`
		Delay      *int `json:"pipeline_delay_ms"`
	}
	if err := json.Unmarshal(get(t, mux, "GET", "/v1/summary").Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Machines["total"] != 4 || s.Machines["MACHINE_STATE_CRITICAL"] != 1 || s.Machines["MACHINE_STATE_LEARNING"] != 2 || s.OpenAlerts != 1 || s.Delay != nil {
		t.Errorf("%+v", s)
	}
}

// Of a very wide machine only the most unusual sensors are shown unasked.
func TestWideMachine(t *testing.T) {
	h, mux := server(t)
	w := &eventv1.Window{EquipmentId: "wide", EndUs: 5}
	for i := range 25_000 {
		w.Sensors = append(w.Sensors, &eventv1.SensorWindow{Sensor: fmt.Sprint("s", i), Score: float64(i) / 25_000})
	}
	if err := h.ApplyWindow(w); err != nil {
		t.Fatal(err)
	}
	var ws queryv1.ListWindowsResponse
	into(t, mux, "/v1/machines/wide/windows", &ws)
	if got := ws.Windows[0].Sensors; len(got) != query.MaxSensors || got[len(got)-1].Sensor != "s24999" {
		t.Errorf("%d sensors", len(got))
	}
	into(t, mux, "/v1/machines/wide/windows?sensor=s3", &ws)
	if got := ws.Windows[0].Sensors; len(got) != 1 || got[0].Sensor != "s3" {
		t.Errorf("asked for s3: %v", got)
	}
}
