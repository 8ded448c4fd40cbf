// Package revise is how people change the fleet's detection configuration while it runs: settings that were tried, and a machine's new normal. Each change is a revision on
// detect.config.v1 with who made it and why; where it comes into force is the topology's.
package revise

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

//go:embed openapi.yaml
var openapi []byte

const (
	maxBody  = 256 << 10
	maxWords = 1000 // of a text, in bytes
	timeout  = 10 * time.Second
	most     = 200 // revisions in one answer
)

// Log is where the configuration stands.
type Log interface {
	Whole() bool
	Current() *detection.Config
	History() []detection.Entry
	Settings(detection.Number) (*machine.Config, bool)
	Apply(context.Context, detection.Change, detection.Edit) (*detection.Config, error)
}

// API answers requests. Safe for concurrent use.
type API struct {
	log     Log
	follow  func() (following, owned int)
	tokens  *auth.Tokens[identity]
	zap     *zap.Logger
	metrics *metrics.Set
	now     func() time.Time
}

// New makes an API over what is published. follow counts the partitions that this instance judges, and those of them that are judged under what is published.
func New(cfg Auth, listen string, log Log, follow func() (following, owned int), logger *zap.Logger, set *metrics.Set) (*API, error) {
	tokens, err := cfg.tokens(listen)
	if err != nil {
		return nil, err
	}
	return &API{log: log, follow: follow, tokens: tokens, zap: logger.Named("revise"), metrics: set, now: time.Now}, nil
}

// problem is an answer that says what is wrong.
type problem struct {
	status        int
	title, detail string
	more          map[string]any
}

func (p *problem) Error() string { return p.detail }

func invalid(field, format string, args ...any) *problem {
	return &problem{http.StatusBadRequest, "Invalid request", field + ": " + fmt.Sprintf(format, args...), map[string]any{"field": field}}
}

// Register adds the routes.
func (a *API) Register(handle func(pattern string, h http.Handler)) {
	route := func(pattern string, need right, f func(*http.Request, identity) (int, any, error)) {
		handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, err := a.tokens.Authenticate(r.Header.Get("Authorization"))
			switch {
			case err != nil:
				auth.Challenge(w.Header())
				httpserver.Problem(w, http.StatusUnauthorized, "Unauthorized", err.Error(), nil)
				return
			case who.right < need || who.here && !auth.Here(r.Host):
				httpserver.Problem(w, http.StatusForbidden, "Forbidden", "the right to "+need.String()+" is needed (stream_processor.auth)", nil)
				return
			}
			status, answer, err := f(r, who)
			if err != nil {
				a.refuse(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(answer) // the client is gone: nothing left to tell it
		}))
	}
	route("GET /v1/detection", read, a.current)
	route("GET /v1/detection/revisions", read, a.history)
	route("POST /v1/detection/changes", change, a.change)
	route("POST /v1/detection/corrections", correct, a.correct)
	route("/v1/", none, func(*http.Request, identity) (int, any, error) {
		return 0, nil, &problem{status: http.StatusNotFound, title: "Not found", detail: "no such resource; see /openapi.yaml"}
	})
	handle("GET /openapi.yaml", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openapi)
	}))
}

func (a *API) refuse(w http.ResponseWriter, err error) {
	var p *problem
	switch {
	case errors.As(err, &p):
	case errors.Is(err, detection.ErrUnpublished):
		p = &problem{status: http.StatusServiceUnavailable, title: "Not yet", detail: err.Error()}
	case errors.Is(err, detection.ErrNothing), errors.Is(err, detection.ErrTooLarge):
		p = &problem{status: http.StatusUnprocessableEntity, title: "Not applied", detail: err.Error()}
	default:
		a.zap.Error("a change of the detection configuration may have failed", zap.Error(err))
		p = &problem{status: http.StatusServiceUnavailable, title: "Not known", detail: "Kafka did not answer in time: look at the history before you try again"}
	}
	if p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	httpserver.Problem(w, p.status, p.title, p.detail, p.more)
}

// body reads a request of JSON.
func body(r *http.Request, into any) error {
	// Another content type is refused: a page elsewhere could send a form in the name of who looks at it.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return &problem{status: http.StatusUnsupportedMediaType, title: "Not JSON", detail: "Content-Type: must be application/json"}
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(b) > maxBody {
		return &problem{status: http.StatusRequestEntityTooLarge, title: "Too large", detail: fmt.Sprintf("the body cannot be read, or is larger than %d bytes", maxBody)}
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return invalid("body", "%v", err)
	}
	return nil
}

// Reason is what each change is made with.
type Reason struct {
	// By is who, where the token does not say.
	By  string `json:"by"`
	Why string `json:"why"`
}

func (q *Reason) check(who identity) error {
	if who.name != "" {
		q.By = who.name
	}
	q.By, q.Why = strings.TrimSpace(q.By), strings.TrimSpace(q.Why)
	switch {
	case q.By == "" || len(q.By) > 128:
		return invalid("by", "who makes the change, at most 128 bytes")
	case q.Why == "" || len(q.Why) > maxWords:
		return invalid("why", "a reason is needed, at most %d bytes", maxWords)
	}
	return nil
}

func (a *API) history(r *http.Request, _ identity) (int, any, error) {
	if !a.log.Whole() {
		return 0, nil, detection.ErrUnpublished
	}
	limit := most
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return 0, nil, invalid("limit", "%q is no number from 1 on", s)
		}
		limit = min(limit, n)
	}
	out := []Revision{}
	for i, e := range a.log.History() {
		if i == limit {
			break
		}
		out = append(out, revisionOf(e))
	}
	return http.StatusOK, map[string]any{"revisions": out}, nil
}

func (a *API) current(_ *http.Request, who identity) (int, any, error) {
	v, err := a.view(who)
	return http.StatusOK, v, err
}
