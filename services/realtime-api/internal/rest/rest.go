// Package rest answers the REST requests under /v1 from the hub. The contract is openapi.yaml beside this file.
//
// Answers are the JSON form of tocsin.query.v1's messages; errors are problem details (RFC 9457) that name the
// parameter. An unknown parameter is an error: a misspelt filter must not look like no filter.
package rest

import (
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

// OpenAPI is the contract of everything this service serves under /v1.
//
//go:embed openapi.yaml
var OpenAPI []byte

// Limits of one answer.
const (
	defaultPage   = 100
	maxPage       = 1000
	maxWindows    = 1000
	maxSensors    = 64
	maxQueryBytes = 4096
)

// API answers requests. Its methods may be called concurrently.
type API struct {
	hub  *hub.Hub
	flow func() wire.Flow
	set  *metrics.Set
}

// New makes an API over the hub; flow tells how records come in.
func New(h *hub.Hub, flow func() wire.Flow, set *metrics.Set) *API {
	return &API{hub: h, flow: flow, set: set}
}

// Route is one operation, with a pattern of net/http's.
type Route struct {
	Method, Path string
	Handler      http.Handler
}

// Routes lists every operation; openapi.yaml describes the same (a test compares).
func (a *API) Routes() []Route {
	routes := []Route{
		a.route("/v1/machines", []string{"page_size", "page_token", "search", "state"}, a.machines),
		a.route("/v1/machines/{id}", nil, a.machine),
		a.route("/v1/machines/{id}/windows", []string{"since_us", "limit", "sensor"}, a.windows),
		a.route("/v1/anomalies", []string{"equipment_id", "page_size"}, a.anomalies),
		a.route("/v1/alerts", []string{"include_closed", "equipment_id", "page_size"}, a.alerts),
		a.route("/v1/summary", nil, a.summary),
		a.route("/v1/coverage", []string{"page_size", "page_token", "state", "gateway_id"}, a.coverage),
		a.route("/v1/equipment/{id}/coverage", nil, a.machineCoverage),
		a.route("/openapi.yaml", nil, nil),
	}
	routes[len(routes)-1].Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(OpenAPI) // the client is gone: nothing left to tell it
	})
	return routes
}

// NotFound answers requests under /v1 that no route takes.
func (a *API) NotFound(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		httpserver.Problem(w, http.StatusMethodNotAllowed, "Method not allowed", "everything under /v1 is read with GET", nil)
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

// route wraps a handler: it checks the query, counts, and turns a fault into problem details.
func (a *API) route(path string, params []string, h func(dst []byte, r *http.Request, q url.Values) ([]byte, *fault)) Route {
	return Route{Method: http.MethodGet, Path: path, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, f := answer(r, params, h)
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
	})}
}

func answer(r *http.Request, params []string, h func([]byte, *http.Request, url.Values) ([]byte, *fault)) ([]byte, *fault) {
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
	return h(make([]byte, 0, 16<<10), r, q)
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
func states[E ~int32](q url.Values, names map[string]int32, prefix, known string) (map[E]bool, *fault) {
	var out map[E]bool
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
		if out == nil {
			out = map[E]bool{}
		}
		out[E(v)] = true
	}
	return out, nil
}

// page reads which page is asked for: how many rows, and the id after which it begins.
func page(q url.Values) (size int64, after string, f *fault) {
	size, f = number(q, "page_size", defaultPage, 1, maxPage)
	if f != nil {
		return 0, "", f
	}
	b, err := base64.RawURLEncoding.DecodeString(q.Get("page_token"))
	if err != nil {
		return 0, "", bad("page_token", "not a token that this service gave")
	}
	return size, string(b), nil
}

func (a *API) machines(dst []byte, _ *http.Request, q url.Values) ([]byte, *fault) {
	size, after, f := page(q)
	if f != nil {
		return nil, f
	}
	want, f := states[queryv1.MachineState](q, queryv1.MachineState_value, "MACHINE_STATE_", "learning, ok, warning, critical, silent")
	if f != nil {
		return nil, f
	}
	search := strings.ToLower(q.Get("search"))
	rows, total := a.hub.Rows(func(r *hub.Row) bool {
		return (want == nil || want[r.State]) && (search == "" || strings.Contains(strings.ToLower(r.ID), search))
	}, after, int(size)+1)
	next := ""
	if len(rows) > int(size) {
		rows = rows[:size]
		next = base64.RawURLEncoding.EncodeToString([]byte(rows[size-1].ID))
	}
	dst = append(dst, `{"machines":[`...)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = wire.AppendMachine(dst, &rows[i], nil)
	}
	dst = append(dst, `],"next_page_token":`...)
	dst = wire.AppendString(dst, next)
	dst = append(dst, `,"total":`...)
	return append(strconv.AppendInt(dst, int64(total), 10), '}'), nil
}

func unknownMachine(id string) *fault {
	return &fault{http.StatusNotFound, "Unknown machine", fmt.Sprintf("nothing has been heard of machine %.160q", id), ""}
}

func (a *API) machine(dst []byte, r *http.Request, _ url.Values) ([]byte, *fault) {
	row, sensors, ok := a.hub.Machine(r.PathValue("id"))
	if !ok {
		return nil, unknownMachine(r.PathValue("id"))
	}
	if sensors == nil {
		sensors = []string{}
	}
	dst = wire.AppendMachine(append(dst, `{"machine":`...), &row, sensors)
	return append(dst, '}'), nil
}

func (a *API) windows(dst []byte, r *http.Request, q url.Values) ([]byte, *fault) {
	since, f := number(q, "since_us", -1<<63, -1<<63, 1<<63-1)
	if f != nil {
		return nil, f
	}
	limit, f := number(q, "limit", 180, 1, maxWindows)
	if f != nil {
		return nil, f
	}
	if n := len(q["sensor"]); n > maxSensors {
		return nil, bad("sensor", "%d named, at most %d", n, maxSensors)
	}
	ws, ok := a.hub.Windows(r.PathValue("id"), since, int(limit))
	if !ok {
		return nil, unknownMachine(r.PathValue("id"))
	}
	var keep func(string) bool
	if names := q["sensor"]; len(names) > 0 {
		keep = func(s string) bool { return slices.Contains(names, s) }
	} else if len(ws) > 0 {
		if top := hub.TopSensors(ws[len(ws)-1], maxSensors); top != nil {
			keep = func(s string) bool { return top[s] }
		}
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

func (a *API) anomalies(dst []byte, _ *http.Request, q url.Values) ([]byte, *fault) {
	size, f := number(q, "page_size", defaultPage, 1, maxPage)
	if f != nil {
		return nil, f
	}
	return appendList(dst, "anomalies", a.hub.Anomalies(q.Get("equipment_id"), int(size)), wire.AppendAnomaly), nil
}

func (a *API) alerts(dst []byte, _ *http.Request, q url.Values) ([]byte, *fault) {
	size, f := number(q, "page_size", defaultPage, 1, maxPage)
	if f != nil {
		return nil, f
	}
	closed := false
	if s := q.Get("include_closed"); s != "" {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return nil, bad("include_closed", "%.40q is not true or false", s)
		}
		closed = v
	}
	return appendList(dst, "alerts", a.hub.Alerts(q.Get("equipment_id"), closed, int(size)), wire.AppendAlert), nil
}

func (a *API) summary(dst []byte, _ *http.Request, _ url.Values) ([]byte, *fault) {
	c, f := a.hub.Counts(), a.flow()
	return append(wire.AppendSummary(append(dst, '{'), &c, &f), '}'), nil
}

func appendList[E *eventv1.Anomaly | *eventv1.AlertEvent](dst []byte, name string, list []E, one func([]byte, E) []byte) []byte {
	dst = append(wire.AppendString(append(dst, '{'), name), ':', '[')
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = one(dst, e)
	}
	return append(dst, ']', '}')
}
