// Package api serves history over HTTP. Errors are problem details with the field that is wrong.
package api

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/answer"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/catalog"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/checks"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/query"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

//go:embed openapi.yaml
var openAPI []byte

// Identity is who asks.
type Identity struct {
	Name string
	See  auth.Equipment
}

// API answers requests. Safe for concurrent use.
type API struct {
	desk    *query.Desk
	catalog *catalog.Catalog
	tokens  *auth.Tokens[Identity]
	checks  *checks.Runner
	maxBody int64
	now     func() time.Time
	log     *zap.Logger
}

// New serves what desk answers, and what checks have found, to those whom tokens know.
func New(desk *query.Desk, c *catalog.Catalog, runner *checks.Runner, tokens *auth.Tokens[Identity], maxBody int64, now func() time.Time, log *zap.Logger) *API {
	return &API{desk: desk, catalog: c, checks: runner, tokens: tokens, maxBody: maxBody, now: now, log: log}
}

type handler func(w http.ResponseWriter, r *http.Request, who Identity) error

// Handler routes /v1/ and the OpenAPI document.
func (a *API) Handler() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"POST /v1/sql":            a.sql,
		"GET /v1/sql":             a.running,
		"DELETE /v1/sql/{id}":     a.cancel,
		"GET /v1/tables":          a.tables,
		"GET /v1/series":          a.series,
		"GET /v1/episodes":        a.episodes,
		"GET /v1/availability":    a.availability,
		"GET /v1/compare":         a.compare,
		"GET /v1/anomalies":       a.anomalies,
		"GET /v1/anomalies/check": a.check,
		"GET /v1/jobs":            a.jobs,
	} {
		mux.Handle(pattern, a.guard(h))
	}
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openAPI) // the client is gone: nothing left to tell it
	})
	return mux
}

func (a *API) guard(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := a.tokens.Authenticate(r.Header.Get("Authorization"))
		if err != nil {
			auth.Challenge(w.Header())
			httpserver.Problem(w, http.StatusUnauthorized, "Unauthorized", err.Error(), nil)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, a.maxBody)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := h(w, r, who); err != nil {
			a.refuse(w, r, err)
		}
	})
}

// fieldError is a request with a wrong field.
type fieldError struct{ field, reason string }

func (e *fieldError) Error() string { return e.field + ": " + e.reason }

func badField(field, format string, args ...any) error {
	return &fieldError{field, fmt.Sprintf(format, args...)}
}

// refuse says what went wrong.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var (
		field  *fieldError
		failed *worker.Error
		large  *http.MaxBytesError
	)
	switch {
	case errors.As(err, &field):
		httpserver.Problem(w, http.StatusBadRequest, "Bad request", err.Error(), map[string]any{"field": field.field})
	case errors.As(err, &large):
		httpserver.Problem(w, http.StatusRequestEntityTooLarge, "Too large", fmt.Sprintf("more than %d bytes", large.Limit), nil)
	case errors.Is(err, query.ErrCancelled):
		httpserver.Problem(w, http.StatusConflict, "Cancelled", err.Error(), nil)
	case errors.Is(err, query.ErrTwice):
		httpserver.Problem(w, http.StatusConflict, "Conflict", err.Error(), map[string]any{"field": "id"})
	case errors.Is(err, catalog.ErrTooLarge):
		httpserver.Problem(w, http.StatusUnprocessableEntity, "Too much to read", err.Error(), map[string]any{"field": "from"})
	case errors.Is(err, worker.ErrBusy):
		w.Header().Set("Retry-After", "2")
		httpserver.Problem(w, http.StatusServiceUnavailable, "Busy", err.Error(), nil)
	case r.Context().Err() != nil: // whoever asked is gone, or the service stops
		w.Header().Set("Retry-After", "5")
		httpserver.Problem(w, http.StatusServiceUnavailable, "Not possible now", "the service is stopping", nil)
	case errors.As(err, &failed) && failed.Kind != worker.Broken:
		if failed.Kind == worker.Crashed {
			a.log.Error("a query brought the engine down", zap.Error(err))
		}
		status, title := kinds(failed.Kind)
		httpserver.Problem(w, status, title, failed.Reason, map[string]any{"field": "sql", "kind": failed.Kind})
	case errors.Is(err, checks.ErrNoStore):
		w.Header().Set("Retry-After", "5")
		httpserver.Problem(w, http.StatusServiceUnavailable, "Not possible now", "the checks' store is not open; the log says more", nil)
	case errors.Is(err, worker.ErrNoEngine):
		a.log.Error("no engine", zap.Error(err))
		httpserver.Problem(w, http.StatusServiceUnavailable, "No SQL engine", "the program sql-worker is not there; it is built by make build on a machine with a C compiler", nil)
	default:
		a.log.Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
		w.Header().Set("Retry-After", "5")
		httpserver.Problem(w, http.StatusServiceUnavailable, "Not possible now", "the lake cannot be read; the log says more", nil)
	}
}

func kinds(k worker.Kind) (int, string) {
	switch k {
	case worker.Refused:
		return http.StatusForbidden, "The query may not run"
	case worker.TooMuch:
		return http.StatusUnprocessableEntity, "The query needs too much"
	case worker.TimedOut:
		return http.StatusRequestTimeout, "The query took too long"
	case worker.Crashed:
		return http.StatusUnprocessableEntity, "The query failed"
	}
	return http.StatusBadRequest, "The query is wrong"
}

// sqlRequest is the body of POST /v1/sql.
type sqlRequest struct {
	SQL    string `json:"sql"`
	Format string `json:"format"`
	From   string `json:"from"`
	To     string `json:"to"`
	// Machines; none: all that the asker sees.
	Machines []string `json:"equipment_id"`
	MaxRows  int      `json:"max_rows"`
	Timeout  string   `json:"timeout"`
	ID       string   `json:"id"`
}

func (a *API) sql(w http.ResponseWriter, r *http.Request, who Identity) error {
	var req sqlRequest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return err
		}
		return badField("body", "not the JSON that is wanted, such as {\"sql\": \"SELECT 1\"}: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	q := query.Question{ID: req.ID, Who: who.Name, See: who.See, SQL: req.SQL, Format: req.Format, Rows: req.MaxRows}
	if strings.TrimSpace(q.SQL) == "" {
		return badField("sql", "missing")
	}
	if q.Format == "" {
		q.Format = accepted(r.Header.Get("Accept"))
	}
	if answer.MediaType(q.Format) == "" {
		return badField("format", "%q is not one of json, csv, arrow", q.Format)
	}
	if len(q.ID) > 64 || strings.Trim(q.ID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return badField("id", "at most 64 letters, digits, _ and -")
	}
	if req.MaxRows < 0 {
		return badField("max_rows", "must not be negative")
	}
	var err error
	if req.Timeout != "" {
		if q.Timeout, err = time.ParseDuration(req.Timeout); err != nil || q.Timeout <= 0 {
			return badField("timeout", "%q is not a time such as 10s", req.Timeout)
		}
	}
	if q.Within, err = between(req.From, req.To); err != nil {
		return err
	}
	if len(req.Machines) > 0 {
		p := &parameters{values: url.Values{"equipment_id": {strings.Join(req.Machines, ",")}}}
		if q.Within.Machines = slices.Sorted(slices.Values(p.machines(who.See, maxMachines))); p.err != nil {
			return p.err
		}
	}
	return a.ask(w, r.Context(), q)
}

// ask writes the answer to a question.
func (a *API) ask(w http.ResponseWriter, ctx context.Context, q query.Question) error { //nolint:revive // who is told stands first, as in net/http
	got, err := a.desk.Ask(ctx, q)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", answer.MediaType(q.Format))
	h.Set("Content-Length", strconv.Itoa(len(got.Body)))
	h.Set("X-Query-Id", got.ID)
	h.Set("X-Lake-Version", got.Version)
	h.Set("X-Rows", strconv.Itoa(got.Rows))
	h.Set("X-Truncated", strconv.FormatBool(got.Truncated))
	h.Set("X-Cache", map[bool]string{true: "hit", false: "miss"}[got.Cached])
	h.Set("Server-Timing", fmt.Sprintf("query;dur=%.1f", float64(got.Took.Microseconds())/1000))
	_, _ = w.Write(got.Body) // the client is gone: nothing left to tell it
	return nil
}

// accepted is the format of the first media type that there is one for.
func accepted(header string) string {
	for part := range strings.SplitSeq(header, ",") {
		typ, _, err := mime.ParseMediaType(strings.TrimSpace(part))
		switch {
		case err != nil:
		case typ == "text/csv":
			return answer.CSV
		case typ == answer.MediaType(answer.Arrow):
			return answer.Arrow
		case typ == "application/json":
			return answer.JSON
		}
	}
	return answer.JSON
}

// between reads times such as 2026-11-21T10:00:00Z or 2026-11-21; empty ones are open.
func between(from, to string) (catalog.Range, error) {
	var r catalog.Range
	var err error
	if r.From, err = moment("from", from); err != nil {
		return r, err
	}
	if r.To, err = moment("to", to); err != nil {
		return r, err
	}
	if !r.From.IsZero() && !r.To.IsZero() && !r.From.Before(r.To) {
		return r, badField("to", "must be after from")
	}
	return r, nil
}

func moment(field, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			if t.Year() < 1970 || t.Year() > 9999 {
				break
			}
			return t.UTC(), nil
		}
	}
	return time.Time{}, badField(field, "%q is not a time such as 2026-11-21T10:00:00Z or 2026-11-21", s)
}

func (a *API) running(w http.ResponseWriter, _ *http.Request, who Identity) error {
	writeJSON(w, map[string]any{"queries": a.desk.List(who.Name, who.See.All())})
	return nil
}

func (a *API) cancel(w http.ResponseWriter, r *http.Request, who Identity) error {
	if !a.desk.Cancel(r.PathValue("id"), who.Name, who.See.All()) {
		httpserver.Problem(w, http.StatusNotFound, "Not found", "no query of yours with this id is under way", nil)
		return nil
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) tables(w http.ResponseWriter, r *http.Request, _ Identity) error {
	sizes, err := a.catalog.Sizes(r.Context())
	if err != nil {
		return err
	}
	type row struct {
		catalog.Table
		catalog.Size
	}
	var out []row
	for _, t := range catalog.Tables() {
		out = append(out, row{t, sizes[t.Name]})
	}
	writeJSON(w, map[string]any{"tables": out})
	return nil
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nothing left to tell it
}
