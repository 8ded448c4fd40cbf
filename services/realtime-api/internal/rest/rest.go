// Package rest answers the REST requests under /v1 from the query desk. The contract is openapi.yaml beside this file.
//
// Answers are the JSON form of tocsin.query.v1's messages; errors are problem details (RFC 9457) that name the
// parameter. An unknown parameter is an error: a misspelt filter must not look like no filter.
package rest

import (
	_ "embed"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/query"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

// OpenAPI is the contract of everything this service serves under /v1.
//
//go:embed openapi.yaml
var OpenAPI []byte

const maxQueryBytes = 4096

// API answers requests. Its methods may be called concurrently.
type API struct {
	desk *query.Desk
	flow func() wire.Flow
	set  *metrics.Set
}

// New makes an API that asks the desk; flow tells how records come in.
func New(d *query.Desk, flow func() wire.Flow, set *metrics.Set) *API {
	return &API{desk: d, flow: flow, set: set}
}

// Route is one operation, with a pattern of net/http's.
type Route struct {
	Method, Path string
	Handler      gate.Handler
}

// Routes lists every operation; openapi.yaml describes the same (a test compares).
func (a *API) Routes() []Route {
	routes := []Route{
		a.route("/v1/machines", []string{"page_size", "page_token", "search", "state", "site", "line", "group"}, a.machines),
		a.route("/v1/machines/{id}", nil, a.machine),
		a.route("/v1/machines/{id}/windows", []string{"since_us", "limit", "sensor"}, a.windows),
		a.route("/v1/anomalies", []string{"equipment_id", "page_size", "site", "line", "group"}, a.anomalies),
		a.route("/v1/alerts", []string{"include_closed", "equipment_id", "page_size", "page_token", "search", "severity", "site", "line", "group"}, a.alerts),
		a.route("/v1/summary", []string{"site", "line", "group"}, a.summary),
		a.route("/v1/places", nil, a.places),
		a.route("/v1/coverage", []string{"page_size", "page_token", "state", "gateway_id", "site", "line", "group"}, a.coverage),
		a.route("/v1/equipment/{id}/coverage", nil, a.machineCoverage),
	}
	return routes
}

// Contract serves the OpenAPI document, to anybody.
func Contract(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(OpenAPI) // the client is gone: nothing left to tell it
}

// NotFound answers requests under /v1 that no route takes.
func (a *API) NotFound(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		httpserver.Problem(w, http.StatusMethodNotAllowed, "Method not allowed", "nothing here can be changed; /openapi.yaml lists what there is", nil)
		return
	}
	httpserver.Problem(w, http.StatusNotFound, "Not found", "no such resource; /openapi.yaml lists what there is", nil)
}

// fault is a client's error.
type fault struct {
	status        int
	title, detail string
	param         string
}

func (f *fault) Error() string { return f.title + ": " + f.detail }

func bad(param, format string, args ...any) *fault {
	return &fault{http.StatusBadRequest, "Invalid parameter", param + ": " + fmt.Sprintf(format, args...), param}
}

// asked is one request: the parameters, checked to be known, and whose machines it is about.
type asked struct {
	*http.Request
	q   url.Values
	who *gate.Identity
}

type operation func(dst []byte, r *asked) ([]byte, *fault)

// refusal is the answer to a question that the desk does not answer.
func refusal(f *query.Fault) *fault {
	if f.Unknown() {
		return &fault{http.StatusNotFound, "Unknown machine", f.Detail, ""}
	}
	return bad(f.Field, "%s", f.Detail)
}

// text is a parameter that may be there and empty; nil: it is not there.
func (r *asked) text(name string) *string {
	if !r.q.Has(name) {
		return nil
	}
	v := r.q.Get(name)
	return &v
}

// where is the filter by place.
func (r *asked) where() query.Where {
	return query.Where{Site: r.text("site"), Line: r.text("line"), Group: r.text("group")}
}

// page is which page is asked for.
func (r *asked) page() (query.Page, *fault) {
	size, f := number(r.q, "page_size", 0, 1, query.MaxPage)
	return query.Page{Size: int(size), Token: r.q.Get("page_token")}, f
}

// route wraps a handler: it checks the query, counts, and turns a fault into problem details.
func (a *API) route(path string, params []string, h operation) Route {
	return Route{Method: http.MethodGet, Path: path, Handler: func(w http.ResponseWriter, r *http.Request, who *gate.Identity) {
		body, f := answer(r, who, params, h)
		status := http.StatusOK
		if f != nil {
			status = f.status
		}
		a.set.GetOrCreateCounter(fmt.Sprintf(`tocsin_api_requests_total{path=%q,status="%d"}`, path, status)).Inc()
		if f != nil {
			var ext map[string]any
			if f.param != "" {
				ext = map[string]any{"parameter": f.param}
			}
			httpserver.Problem(w, f.status, f.title, f.detail, ext)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(append(body, '\n')) // the client is gone: nothing left to tell it
	}}
}

func answer(r *http.Request, who *gate.Identity, params []string, h operation) ([]byte, *fault) {
	if len(r.URL.RawQuery) > maxQueryBytes {
		return nil, &fault{http.StatusRequestURITooLong, "Query too long", fmt.Sprintf("at most %d bytes", maxQueryBytes), ""}
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &fault{http.StatusBadRequest, "Invalid query", err.Error(), ""}
	}
	for name, values := range q {
		if !slices.Contains(params, name) {
			return nil, bad(name, "no such parameter here; known: %s", strings.Join(params, ", "))
		}
		if len(values) > 1 && name != "sensor" && name != "state" {
			return nil, bad(name, "given %d times", len(values))
		}
	}
	return h(make([]byte, 0, 16<<10), &asked{r, q, who})
}

func number(q url.Values, name string, def, lo, hi int64) (int64, *fault) {
	s := q.Get(name)
	if s == "" {
		return def, nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < lo || v > hi {
		return 0, bad(name, "%.40q is not an integer in %d..%d", s, lo, hi)
	}
	return v, nil
}

// states reads the state filter: names of an enumeration, or what follows their prefix in small letters; several by repetition or comma. nil: all.
func states[E ~int32](q url.Values, names map[string]int32, prefix, known string) ([]E, *fault) {
	var out []E
	for _, s := range strings.Split(strings.Join(q["state"], ","), ",") {
		if s == "" {
			continue
		}
		v, ok := names[s]
		if !ok {
			v, ok = names[prefix+strings.ToUpper(s)]
		}
		if !ok || v == 0 {
			return nil, bad("state", "%.40q is not one of %s", s, known)
		}
		out = append(out, E(v))
	}
	return out, nil
}

func (a *API) machines(dst []byte, r *asked) ([]byte, *fault) {
	page, f := r.page()
	if f != nil {
		return nil, f
	}
	want, f := states[queryv1.MachineState](r.q, queryv1.MachineState_value, "MACHINE_STATE_", "learning, ok, warning, critical, silent")
	if f != nil {
		return nil, f
	}
	list, no := a.desk.Machines(r.who, query.Machines{Page: page, Where: r.where(), Search: r.q.Get("search"), States: want})
	if no != nil {
		return nil, refusal(no)
	}
	dst = append(dst, `{"machines":[`...)
	for i := range list.Rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendMachine(dst, &list.Rows[i], nil)
	}
	return closePage(append(dst, ']'), list.Next, list.Total), nil
}

// closePage ends an object whose list is a page.
func closePage(dst []byte, next string, total int) []byte {
	dst = append(dst, `,"next_page_token":`...)
	dst = wire.AppendString(dst, next)
	dst = append(dst, `,"total":`...)
	return append(strconv.AppendInt(dst, int64(total), 10), '}')
}

func (a *API) machine(dst []byte, r *asked) ([]byte, *fault) {
	row, sensors, no := a.desk.Machine(r.who, r.PathValue("id"))
	if no != nil {
		return nil, refusal(no)
	}
	if sensors == nil {
		sensors = []string{}
	}
	dst = wire.AppendMachine(append(dst, `{"machine":`...), &row, sensors)
	return append(dst, '}'), nil
}

func (a *API) windows(dst []byte, r *asked) ([]byte, *fault) {
	since, f := number(r.q, "since_us", math.MinInt64, math.MinInt64, math.MaxInt64)
	if f != nil {
		return nil, f
	}
	limit, f := number(r.q, "limit", 0, 1, query.MaxWindows)
	if f != nil {
		return nil, f
	}
	ws, keep, no := a.desk.Windows(r.who, query.Windows{EquipmentID: r.PathValue("id"), SinceUS: since, Limit: int(limit), Sensors: r.q["sensor"]})
	if no != nil {
		return nil, refusal(no)
	}
	dst = append(dst, `{"windows":[`...)
	for i, w := range ws {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendWindow(dst, w, keep)
	}
	return append(dst, `]}`...), nil
}

func (a *API) anomalies(dst []byte, r *asked) ([]byte, *fault) {
	page, f := r.page()
	if f != nil {
		return nil, f
	}
	list, no := a.desk.Anomalies(r.who, r.where(), r.q.Get("equipment_id"), page.Size)
	if no != nil {
		return nil, refusal(no)
	}
	return append(appendList(dst, "anomalies", list, wire.AppendAnomaly), '}'), nil
}

func (a *API) summary(dst []byte, r *asked) ([]byte, *fault) {
	c, f := a.desk.Counts(r.who, r.where()), a.flow()
	return append(wire.AppendSummary(append(dst, '{'), &c, &f), '}'), nil
}

// places lists where the machines stand that the asker sees.
func (a *API) places(dst []byte, r *asked) ([]byte, *fault) {
	dst = append(dst, `{"places":[`...)
	for i, p := range a.desk.Places(r.who) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendPlace(dst, &p)
	}
	return append(dst, `]}`...), nil
}

// appendList begins an object whose first member is the list.
func appendList[E *eventv1.Anomaly | *eventv1.AlertEvent](dst []byte, name string, list []E, one func([]byte, E) []byte) []byte {
	dst = append(wire.AppendString(append(dst, '{'), name), ':', '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = one(dst, e)
	}
	return append(dst, ']')
}
