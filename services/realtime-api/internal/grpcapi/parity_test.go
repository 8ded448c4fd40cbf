package grpcapi

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/query"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/rest"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

const ada, root = "adas-token-0123456789", "roots-token-0123456789"

var (
	machineIDs = []string{"a-1", "a-2", "b-1", "b-2", "c"}
	texts      = []string{"", "x", "hot & <b>", "Ünïcode\u2028\"\\\n\t", "limit"}
	reals      = []float64{0, 1, -1e-9, 0.1, 1e300, math.MaxFloat32, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1)}
)

// both are the two ways to one hub.
type both struct {
	hub  *hub.Hub
	http http.Handler
	grpc *answers
}

func serve(tb interface{ Fatal(...any) }) *both {
	where, err := places.New(`^(?P<site>[a-z])-?(?P<line>\d)?`, nil)
	if err != nil {
		tb.Fatal(err)
	}
	door, err := gate.New(gate.Config{People: []gate.Person{
		{Name: "ada", Token: ada, Equipment: []string{"a-*", "b-2"}}, {Name: "root", Token: root, Equipment: []string{"*"}},
	}}, metrics.NewSet())
	if err != nil {
		tb.Fatal(err)
	}
	h := hub.New(hub.DefaultLimits())
	h.Locate(where)
	desk, mux := query.New(h), http.NewServeMux()
	for _, r := range rest.New(desk, func() wire.Flow { return wire.Flow{} }, metrics.NewSet()).Routes() {
		mux.Handle(r.Method+" "+r.Path, door.Guard(r.Handler))
	}
	return &both{h, mux, &answers{desk: desk, door: door}}
}

// filled sets every field of a message, so that one which an answer forgets is seen. Lists and maps have up to two elements.
func filled(t *rapid.T, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsMap():
			for n := range rapid.IntRange(0, 2).Draw(t, "pairs") {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString(fmt.Sprint("k<", n)).MapKey(), protoreflect.ValueOfString(rapid.SampledFrom(texts).Draw(t, "value")))
			}
		case f.IsList():
			for range rapid.IntRange(0, 2).Draw(t, "elements") {
				if f.Message() != nil {
					e := m.Mutable(f).List().AppendMutable().Message()
					filled(t, e)
					continue
				}
				m.Mutable(f).List().Append(scalar(t, f))
			}
		case f.Message() != nil:
			if rapid.Bool().Draw(t, "there") {
				filled(t, m.Mutable(f).Message())
			}
		default:
			m.Set(f, scalar(t, f))
		}
	}
}

func scalar(t *rapid.T, f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.SampledFrom(texts).Draw(t, "text"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(rapid.IntRange(0, values.Len()-1).Draw(t, "enum")).Number())
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(rapid.SampledFrom(reals).Draw(t, "double"))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(rapid.SampledFrom(reals).Draw(t, "float")))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(rapid.Uint32Max(9).Draw(t, "uint32"))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(rapid.SampledFrom([]uint64{0, 7, 1<<63 - 1}).Draw(t, "uint64"))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32Range(0, 9).Draw(t, "int32"))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind:
		return protoreflect.ValueOfInt64(rapid.SampledFrom([]int64{0, 1, 5_000_000, 9_007_199_254_740_993}).Draw(t, "int64"))
	}
	t.Fatalf("a field of kind %v: say here what may stand in it", f.Kind())
	return protoreflect.Value{}
}

// happens applies a record of any kind to the hub.
func happens(t *rapid.T, h *hub.Hub) {
	id, at := rapid.SampledFrom(machineIDs).Draw(t, "machine"), rapid.Int64Range(1, 6).Draw(t, "at")
	var err error
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		m := &eventv1.Window{}
		filled(t, m.ProtoReflect())
		m.EquipmentId, m.StartUs, m.EndUs = id, at*5, at*5+5
		for i, s := range m.Sensors {
			s.Sensor = fmt.Sprint(s.Sensor, i)
		}
		err = h.ApplyWindow(m)
	case 1:
		m := &eventv1.Anomaly{}
		filled(t, m.ProtoReflect())
		m.EquipmentId, m.AnomalyId, m.StartedUs, m.ObservedUs = id, fmt.Sprint(id, "/", at), at, at
		err = h.ApplyAnomaly(m)
	case 2:
		m := &eventv1.AlertEvent{}
		filled(t, m.ProtoReflect())
		m.EquipmentId, m.AlertId, m.StartedUs, m.EndedUs, m.AtMs = id, fmt.Sprint(id, "/", at%3), at, at, at
		err = h.ApplyAlert(m)
	default:
		m := &eventv1.MachineCoverage{}
		filled(t, m.ProtoReflect())
		m.EquipmentId, m.AtMs, m.NewestUs = id, at, at
		err = h.ApplyCoverage(m)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// question is one request both ways.
type question struct {
	path string
	q    url.Values
	call func(context.Context, *answers) (proto.Message, error)
}

func ask(t *rapid.T) question {
	id := rapid.SampledFrom(append(slices.Clone(machineIDs), "nobody")).Draw(t, "id")
	q := url.Values{}
	text := func(name string, from ...string) string {
		v := rapid.SampledFrom(append([]string{""}, from...)).Draw(t, name)
		if v != "" {
			q.Set(name, v)
		}
		return v
	}
	maybe := func(name string, from ...string) *string {
		if !rapid.Bool().Draw(t, "by "+name) {
			return nil
		}
		v := rapid.SampledFrom(from).Draw(t, name)
		q.Set(name, v)
		return &v
	}
	number := func(name string, from ...int32) int32 {
		v := rapid.SampledFrom(append([]int32{0}, from...)).Draw(t, name)
		if v != 0 {
			q.Set(name, strconv.Itoa(int(v)))
		}
		return v
	}
	size := func() int32 { return number("page_size", 1, 2, 1000, 1001, -1) }
	token := func() string { return text("page_token", "YS0x", "Yg", "%", "e30", "bm8") }
	where := func() (site, line, group *string) {
		return maybe("site", "a", "b", ""), maybe("line", "1", ""), maybe("group", "", "g")
	}
	search := func() string { return text("search", "A-", "1", "HOT", "limit") }
	switch rapid.IntRange(0, 6).Draw(t, "question") {
	case 0:
		r := &queryv1.ListMachinesRequest{PageSize: size(), PageToken: token(), Search: search()}
		r.Site, r.Line, r.Group = where()
		for _, s := range rapid.SliceOfN(rapid.Int32Range(1, 5), 0, 3).Draw(t, "states") {
			r.State = append(r.State, queryv1.MachineState(s))
			q.Add("state", queryv1.MachineState(s).String())
		}
		return question{"/v1/machines", q, func(ctx context.Context, a *answers) (proto.Message, error) { return a.ListMachines(ctx, r) }}
	case 1:
		return question{"/v1/machines/" + id, q, func(ctx context.Context, a *answers) (proto.Message, error) {
			return a.GetMachine(ctx, &queryv1.GetMachineRequest{EquipmentId: id})
		}}
	case 2:
		r := &queryv1.ListWindowsRequest{EquipmentId: id, SinceUs: int64(number("since_us", 11, 20)), Limit: number("limit", 1, 1000, 1001, -2)}
		for _, s := range rapid.SliceOfN(rapid.SampledFrom([]string{"0", "x0", "x1", "hot & <b>1"}), 0, 2).Draw(t, "sensors") {
			r.Sensor = append(r.Sensor, s)
			q.Add("sensor", s)
		}
		return question{"/v1/machines/" + id + "/windows", q, func(ctx context.Context, a *answers) (proto.Message, error) { return a.ListWindows(ctx, r) }}
	case 3:
		r := &queryv1.ListAnomaliesRequest{PageSize: size(), EquipmentId: text("equipment_id", machineIDs...)}
		r.Site, r.Line, r.Group = where()
		return question{"/v1/anomalies", q, func(ctx context.Context, a *answers) (proto.Message, error) { return a.ListAnomalies(ctx, r) }}
	case 4:
		r := &queryv1.ListAlertsRequest{PageSize: size(), PageToken: token(), Search: search(), EquipmentId: text("equipment_id", machineIDs...), IncludeClosed: text("include_closed", "true") != ""}
		r.Site, r.Line, r.Group = where()
		if s := text("severity", "info", "warning", "critical"); s != "" {
			r.Severity = eventv1.Severity(eventv1.Severity_value["SEVERITY_"+strings.ToUpper(s)])
		}
		return question{"/v1/alerts", q, func(ctx context.Context, a *answers) (proto.Message, error) { return a.ListAlerts(ctx, r) }}
	case 5:
		r := &queryv1.ListCoverageRequest{PageSize: size(), PageToken: token(), GatewayId: text("gateway_id", "x", "limit")}
		r.Site, r.Line, r.Group = where()
		for _, s := range rapid.SliceOfN(rapid.Int32Range(1, 11), 0, 3).Draw(t, "states") {
			r.State = append(r.State, eventv1.CoverageState(s))
			q.Add("state", eventv1.CoverageState(s).String())
		}
		return question{"/v1/coverage", q, func(ctx context.Context, a *answers) (proto.Message, error) { return a.ListCoverage(ctx, r) }}
	default:
		return question{"/v1/equipment/" + id + "/coverage", q, func(ctx context.Context, a *answers) (proto.Message, error) {
			return a.GetCoverage(ctx, &queryv1.GetCoverageRequest{EquipmentId: id})
		}}
	}
}

// Whatever happened and whatever is asked, by whomever: REST's JSON is the JSON form of what gRPC answers, and where one refuses, the other does for the same field.
func TestSameAnswersAsREST(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := serve(rt)
		for range rapid.IntRange(0, 15).Draw(rt, "records") {
			happens(rt, b.hub)
		}
		for range 6 {
			q := ask(rt)
			token := rapid.SampledFrom([]string{ada, root, "nobodys-token-012345"}).Draw(rt, "who")
			req := httptest.NewRequest(http.MethodGet, q.path+"?"+q.q.Encode(), nil)
			req.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			b.http.ServeHTTP(w, req)
			m, err := q.call(metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "Bearer "+token)), b.grpc)
			at := fmt.Sprintf("GET %s?%s", q.path, q.q.Encode())
			if err != nil {
				refused(rt, at, w, err)
				continue
			}
			j, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
			if err != nil {
				rt.Fatal(err)
			}
			if diff := differ("", tree(rt, w.Body.Bytes()), tree(rt, j)); w.Code != http.StatusOK || diff != "" {
				rt.Fatalf("%s: %d %s\nREST %s\ngRPC %s", at, w.Code, diff, w.Body, j)
			}
		}
	})
}

// refused compares the two ways to say no.
func refused(t *rapid.T, at string, w *httptest.ResponseRecorder, err error) {
	var problem struct{ Detail, Parameter string }
	if e := json.Unmarshal(w.Body.Bytes(), &problem); e != nil {
		t.Fatalf("%s: %v: %s", at, e, w.Body)
	}
	st := status.Convert(err)
	want := map[codes.Code]int{codes.NotFound: 404, codes.InvalidArgument: 400, codes.Unauthenticated: 401}[st.Code()]
	field := ""
	for _, d := range st.Details() {
		if br, ok := d.(*errdetails.BadRequest); ok {
			field = br.FieldViolations[0].Field
		}
	}
	if w.Code != want || len(st.Details()) != 1 || problem.Parameter != field || st.Code() == codes.NotFound && problem.Detail != st.Message() {
		t.Fatalf("%s: REST %d %s, gRPC %v %v", at, w.Code, w.Body, st, st.Details())
	}
}

func tree(t *rapid.T, b []byte) any {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

// differ says where REST's answer is not protobuf's JSON. By contract 64-bit integers are numbers, what is not finite is null, and what is empty may be left out.
func differ(at string, rest, grpc any) string {
	switch g := grpc.(type) {
	case map[string]any:
		r, ok := rest.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s: %v, want an object", at, rest)
		}
		for k := range r {
			if _, ok := g[k]; !ok {
				return at + "." + k + " is not in the message"
			}
		}
		for k, want := range g {
			got, ok := r[k]
			if list, isList := want.([]any); !ok && (want == nil || want == "" || isList && len(list) == 0) {
				continue
			}
			if d := differ(at+"."+k, got, want); d != "" {
				return d
			}
		}
		return ""
	case []any:
		r, ok := rest.([]any)
		if !ok || len(r) != len(g) {
			return fmt.Sprintf("%s: %v, want %v", at, rest, grpc)
		}
		for i := range g {
			if d := differ(fmt.Sprintf("%s[%d]", at, i), r[i], g[i]); d != "" {
				return d
			}
		}
		return ""
	case json.Number:
		if n, ok := rest.(json.Number); ok && sameNumber(n, g) {
			return ""
		}
	case string:
		if n, ok := rest.(json.Number); ok && n.String() == g || rest == grpc || rest == nil && slices.Contains([]string{"NaN", "Infinity", "-Infinity"}, g) {
			return ""
		}
	default:
		if rest == grpc {
			return ""
		}
	}
	return fmt.Sprintf("%s: %v, want %v", at, rest, grpc)
}

// sameNumber tells whether two decimals are the same float64, or the same float32 of which one was written as a float64.
func sameNumber(a, b json.Number) bool {
	x, err := a.Float64()
	y, err2 := b.Float64()
	return err == nil && err2 == nil && (x == y || float64(float32(x)) == y)
}
