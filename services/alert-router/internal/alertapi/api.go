// Package alertapi is the router's own HTTP API under /v1/: alerts by state, what people do about them, the journal and its figures. Alertmanager's API v2 stands beside it
// unchanged; this one knows acknowledgement, shelves, verdicts and who may see which machine.
package alertapi

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/access"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/desk"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/oncall"
)

//go:embed openapi.yaml
var openapi []byte

// Limits of one request.
const (
	maxBody     = 64 << 10
	maxID       = 1024
	defaultPage = 100
	timeout     = 20 * time.Second
)

// Router says what the routing file would do.
type Router interface {
	// Route gives the receivers of an alert with these labels, in the order in which they are told.
	Route(labels map[string]string) ([]string, error)
}

// API answers. Safe for concurrent use.
type API struct {
	desk   *desk.Desk
	router Router
	duty   *oncall.Plan
	people *access.Book
	log    *zap.Logger
	now    func() time.Time
}

// New is an API over a desk.
func New(d *desk.Desk, router Router, duty *oncall.Plan, people *access.Book, log *zap.Logger) *API {
	return &API{desk: d, router: router, duty: duty, people: people, log: log, now: time.Now}
}

// Register adds the routes.
func (a *API) Register(handle func(pattern string, h http.Handler)) {
	for pattern, f := range map[string]handler{
		"GET /v1/alerts":                    a.list,
		"GET /v1/alerts/{id}":               a.show,
		"GET /v1/alerts/{id}/transitions":   a.transitionsOf,
		"GET /v1/alerts/{id}/notifications": a.toldOf,
		"GET /v1/transitions":               a.transitions,
		"GET /v1/figures":                   a.figures,
		"GET /v1/oncall":                    a.onCall,
		"POST /v1/routes/test":              a.testRoutes,
	} {
		handle(pattern, a.wrap(access.Viewer, f))
	}
	for action, t := range actions {
		handle("POST /v1/alerts/{id}/"+action, a.wrap(access.Operator, func(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
			return a.act(w, r, who, t)
		}))
	}
	handle("GET /openapi.yaml", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openapi)
	}))
	handle("/v1/", a.wrap(access.Viewer, func(http.ResponseWriter, *http.Request, *access.Identity) error {
		return &problem{status: http.StatusNotFound, title: "not found", detail: "no such resource; see /openapi.yaml"}
	}))
}

// Whole lets through to h only who sees every machine, and to what changes anything only who may: Alertmanager's API does not know whose alerts are whose.
func (a *API) Whole(h http.Handler) http.Handler {
	return a.wrap(access.Viewer, func(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
		switch {
		case !who.Machines.All():
			return &problem{status: http.StatusForbidden, title: "not allowed", detail: "these credentials see some machines only, and this API shows all; use /v1/alerts"}
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !who.Acts():
			return errRole
		}
		h.ServeHTTP(w, r)
		return nil
	})
}

type handler func(w http.ResponseWriter, r *http.Request, who *access.Identity) error

// problem is an answer that is not what was asked for.
type problem struct {
	status int
	title  string
	detail string
	field  string
}

func (p *problem) Error() string { return p.detail }

var (
	errNotFound = &problem{status: http.StatusNotFound, title: "not found", detail: "no such alert"}
	errRole     = &problem{status: http.StatusForbidden, title: "not allowed", detail: "these credentials may look, not act"}
)

func invalid(field, format string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, title: "invalid request", detail: field + ": " + fmt.Sprintf(format, args...), field: field}
}

func (a *API) wrap(needs access.Role, f handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := a.people.Authenticate(r.Header.Get("Authorization"))
		if err != nil {
			auth.Challenge(w.Header())
			a.fail(w, r, &problem{status: http.StatusUnauthorized, title: "not authenticated", detail: err.Error()})
			return
		}
		if needs == access.Operator && !who.Acts() {
			a.fail(w, r, errRole)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		if err := f(w, r.WithContext(ctx), who); err != nil {
			a.fail(w, r, err)
		}
	})
}

func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	var field *desk.FieldError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &field):
		p = &problem{status: http.StatusBadRequest, title: "invalid request", detail: field.Error(), field: field.Field}
	case errors.Is(err, lifecycle.ErrUnknown):
		p = errNotFound
	case desk.Conflict(err):
		p = &problem{status: http.StatusConflict, title: "changes nothing", detail: err.Error()}
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return // the client is gone
	default:
		a.log.Warn("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Error(err))
		w.Header().Set("Retry-After", "1")
		p = &problem{status: http.StatusServiceUnavailable, title: "not now", detail: "Kafka or the journal does not answer; try again with the same Idempotency-Key"}
		if errors.Is(err, desk.ErrNotReady) {
			p.detail = desk.ErrNotReady.Error()
		}
	}
	var ext map[string]any
	if p.field != "" {
		ext = map[string]any{"field": p.field}
	}
	httpserver.Problem(w, p.status, p.title, p.detail, ext)
}

func answer(w http.ResponseWriter, v any) error { return answerWith(w, http.StatusOK, v) }

func answerWith(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}

// body reads a JSON object. Another content type is refused: a page elsewhere could send a form in the name of who looks at it.
func body(r *http.Request, into any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return &problem{status: http.StatusUnsupportedMediaType, title: "not JSON", detail: "Content-Type: must be application/json"}
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return &problem{status: http.StatusBadRequest, title: "invalid request", detail: "the body could not be read"}
	}
	if len(b) > maxBody {
		return &problem{status: http.StatusRequestEntityTooLarge, title: "too large", detail: fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &problem{status: http.StatusBadRequest, title: "invalid request", detail: "body: " + err.Error()}
	}
	if d.More() {
		return &problem{status: http.StatusBadRequest, title: "invalid request", detail: "body: more than one object"}
	}
	return nil
}

// filter reads what a list is asked for.
func (a *API) filter(q url.Values, who *access.Identity) (journal.Filter, error) {
	f := journal.Filter{Limit: defaultPage}
	if !who.Machines.All() {
		f.Equipment = who.Machines.Patterns()
	}
	known := []string{"equipment_id", "cause", "gateway_id", "sensor", "alert_id", "severity", "state", "transition", "since", "until", "limit", "after"}
	for k := range q {
		if !slices.Contains(known, k) {
			return f, invalid(k, "no such parameter")
		}
	}
	f.Machine, f.Cause, f.Gateway, f.Sensor, f.AlertID = q.Get("equipment_id"), q.Get("cause"), q.Get("gateway_id"), q.Get("sensor"), q.Get("alert_id")
	if s := q.Get("severity"); s != "" {
		sev, ok := severities[s]
		if !ok {
			return f, invalid("severity", "%q is none of info, warning, critical", s)
		}
		f.MinSeverity = sev
	}
	for _, s := range q["state"] {
		for one := range strings.SplitSeq(s, ",") {
			switch st := lifecycle.State(one); {
			case one == "open":
				f.States = append(f.States, lifecycle.Unacknowledged, lifecycle.Acknowledged, lifecycle.Suppressed, lifecycle.Shelved, lifecycle.OutOfService)
			case slices.Contains(lifecycle.States(), st):
				f.States = append(f.States, st)
			default:
				return f, invalid("state", "%q is none of open, %v", one, lifecycle.States())
			}
		}
	}
	for _, s := range q["transition"] {
		f.Transitions = append(f.Transitions, strings.Split(s, ",")...)
	}
	var err error
	if f.SinceMS, err = a.moment("since", q.Get("since")); err != nil {
		return f, err
	}
	if f.UntilMS, err = a.moment("until", q.Get("until")); err != nil {
		return f, err
	}
	if s := q.Get("limit"); s != "" {
		if f.Limit, err = strconv.Atoi(s); err != nil || f.Limit < 1 || f.Limit > journal.MaxPage {
			return f, invalid("limit", "%q is not in 1..%d", s, journal.MaxPage)
		}
	}
	if s := q.Get("after"); s != "" {
		if f.After, err = parseCursor(s); err != nil {
			return f, invalid("after", "not a cursor of this API")
		}
	}
	return f, nil
}

// moment is a time, or how long ago: RFC 3339, or a duration such as 24h.
func (a *API) moment(field, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UnixMilli(), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, invalid(field, "%q is neither a time (RFC 3339) nor how long ago (24h)", s)
	}
	return a.now().Add(-d).UnixMilli(), nil
}

func cursor(c journal.Cursor) string {
	if c == (journal.Cursor{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d %s", c.MS, c.Seq, c.ID))
}

func parseCursor(s string) (journal.Cursor, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return journal.Cursor{}, err
	}
	parts := strings.SplitN(string(b), " ", 3)
	if len(parts) != 3 {
		return journal.Cursor{}, errors.New("not of three parts")
	}
	ms, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return journal.Cursor{}, err
	}
	seq, err := strconv.ParseInt(parts[1], 10, 64)
	return journal.Cursor{MS: ms, Seq: seq, ID: parts[2]}, err
}

var severities = map[string]eventv1.Severity{
	"info": eventv1.Severity_SEVERITY_INFO, "warning": eventv1.Severity_SEVERITY_WARNING, "critical": eventv1.Severity_SEVERITY_CRITICAL,
}
