package tuning

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

//go:embed openapi.yaml
var openapi []byte

// Limits of one request.
const (
	maxBody      = 1 << 20
	maxEquipment = 100
	maxAlerts    = 1000
)

// Request is a trial that is asked for.
type Request struct {
	// Equipment are ids, or patterns with * and ?; empty: all.
	Equipment []string  `json:"equipment,omitempty"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	// WarmUp is how much history before From is only learned from.
	WarmUp duration `json:"warm_up"`
	// Detection is put over the stream-processor's section detection as it is.
	Detection json.RawMessage `json:"detection"`
	// Alerts of the past with verdicts, as the alert-router's journal has them.
	Alerts []Alert `json:"alerts,omitempty"`
}

// Alert is one of the past.
type Alert struct {
	ID      string     `json:"alert_id"`
	Machine string     `json:"equipment_id"`
	Cause   string     `json:"cause"`
	Verdict string     `json:"verdict"`
	Started time.Time  `json:"started_at"`
	Ended   *time.Time `json:"ended_at,omitempty"`
}

// duration is written like 24h in JSON.
type duration time.Duration

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = duration(v)
	return err
}

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// api answers. Safe for concurrent use.
type api struct {
	bench  *bench
	tokens *auth.Tokens[identity]
	log    *zap.Logger
}

type problem struct {
	status        int
	title, detail string
	field         string
}

func (p *problem) Error() string { return p.detail }

func invalid(field, format string, args ...any) *problem {
	return &problem{http.StatusBadRequest, "invalid request", field + ": " + fmt.Sprintf(format, args...), field}
}

var errNotFound = &problem{status: http.StatusNotFound, title: "not found", detail: "no such trial; the last ones are kept until the bench restarts"}

func (a *api) register(handle func(pattern string, h http.Handler)) {
	route := func(pattern string, h func(*http.Request, identity) (int, any, error)) {
		handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, err := a.tokens.Authenticate(r.Header.Get("Authorization"))
			if err != nil {
				auth.Challenge(w.Header())
				httpserver.Problem(w, http.StatusUnauthorized, "not authenticated", err.Error(), nil)
				return
			}
			status, answer, err := h(r, who)
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
	route("GET /v1/tuning/settings", a.settings)
	route("GET /v1/tuning/trials", func(_ *http.Request, who identity) (int, any, error) {
		return http.StatusOK, map[string]any{"trials": a.bench.list(who)}, nil
	})
	route("POST /v1/tuning/trials", a.begin)
	route("GET /v1/tuning/trials/{id}", func(r *http.Request, who identity) (int, any, error) {
		v, ok := a.bench.show(r.PathValue("id"), who)
		return found(http.StatusOK, v, ok)
	})
	route("DELETE /v1/tuning/trials/{id}", func(r *http.Request, who identity) (int, any, error) {
		v, ok := a.bench.giveUp(r.PathValue("id"), who)
		return found(http.StatusAccepted, v, ok)
	})
	route("/v1/", func(*http.Request, identity) (int, any, error) {
		return 0, nil, &problem{status: http.StatusNotFound, title: "not found", detail: "no such resource; see /openapi.yaml"}
	})
	handle("GET /openapi.yaml", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openapi)
	}))
}

func found(status int, v view, ok bool) (int, any, error) {
	if !ok {
		return 0, nil, errNotFound
	}
	return status, v, nil
}

func (a *api) refuse(w http.ResponseWriter, err error) {
	var p *problem
	switch {
	case errors.As(err, &p):
	case errors.Is(err, errBusy):
		p = &problem{status: http.StatusConflict, title: "busy", detail: err.Error()}
	default:
		a.log.Error("request failed", zap.Error(err))
		p = &problem{status: http.StatusInternalServerError, title: "failed", detail: "the log says more"}
	}
	var ext map[string]any
	if p.field != "" {
		ext = map[string]any{"field": p.field}
	}
	httpserver.Problem(w, p.status, p.title, p.detail, ext)
}

// settings are those that hold, of what the bench offers to change.
func (a *api) settings(_ *http.Request, _ identity) (int, any, error) {
	cfg, id := a.bench.settings()
	limits := a.bench.cfg
	d := cfg.Detection
	return http.StatusOK, struct {
		Revision  uint32   `json:"revision"`
		ID        string   `json:"id,omitempty"`
		Budget    float64  `json:"budget"`
		WarmUp    int      `json:"warm_up_windows"`
		Window    string   `json:"window_length"`
		Detectors []string `json:"detectors"`
		Known     []string `json:"known_detectors"`
		Machines  int      `json:"max_machines"`
		Samples   int64    `json:"max_samples"`
		Span      string   `json:"max_span"`
	}{
		cfg.Revision, id, d.Calibrate.Budget, d.Calibrate.WarmUp, d.WindowLength.String(), d.Detect.Detectors, streamprocessor.Detectors(), limits.MaxMachines, limits.MaxSamples,
		limits.MaxSpan.String(),
	}, nil
}

func (a *api) begin(r *http.Request, who identity) (int, any, error) {
	// Another content type is refused: a page elsewhere could send a form in the name of who looks at it.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return 0, nil, &problem{status: http.StatusUnsupportedMediaType, title: "not JSON", detail: "Content-Type: must be application/json"}
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(b) > maxBody {
		return 0, nil, &problem{status: http.StatusRequestEntityTooLarge, title: "too large", detail: fmt.Sprintf("the body cannot be read, or is larger than %d bytes", maxBody)}
	}
	var q Request
	if err := json.Unmarshal(b, &q); err != nil {
		return 0, nil, invalid("body", "%v", err)
	}
	if err := q.check(a.bench.cfg.MaxSpan); err != nil {
		return 0, nil, err
	}
	current, id := a.bench.settings()
	proposed, err := overlay(current.Detection, q.Detection)
	if err != nil {
		return 0, nil, err
	}
	v, err := a.bench.begin(q, current, id, proposed, who)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, v, nil
}

// overlay puts what is proposed over what holds. Models are compared elsewhere, as shadows of the champion.
func overlay(current streamprocessor.DetectionConfig, proposed []byte) (streamprocessor.DetectionConfig, error) {
	out := current
	models := out.Detect.Models
	out.Detect.Models = streamprocessor.DefaultDetection().Detect.Models
	if err := config.Overlay(proposed, "detection", &out); err != nil {
		return out, &problem{status: http.StatusBadRequest, title: "invalid request", detail: err.Error(), field: "detection"}
	}
	if m := out.Detect.Models; len(m.Champions)+len(m.Shadows) > 0 {
		return out, invalid("detection.detect.models", "models are tried as shadows, not here")
	}
	out.Detect.Models = models
	return out, nil
}

func (q *Request) check(span time.Duration) error {
	switch {
	case len(q.Equipment) > maxEquipment:
		return invalid("equipment", "more than %d", maxEquipment)
	case q.From.IsZero() || q.To.IsZero() || !q.From.Before(q.To):
		return invalid("from", "both from and to are needed, from before to")
	case q.WarmUp < 0:
		return invalid("warm_up", "negative")
	case q.To.Sub(q.From)+time.Duration(q.WarmUp) > span:
		return invalid("from", "longer than %s with what is only learned from", span)
	case len(q.Detection) == 0:
		return invalid("detection", "missing: what is proposed")
	case len(q.Alerts) > maxAlerts:
		return invalid("alerts", "more than %d", maxAlerts)
	}
	for i, p := range q.Equipment {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return invalid(fmt.Sprintf("equipment[%d]", i), "%q is no pattern", p)
		}
	}
	for i, a := range q.Alerts {
		switch a.Verdict {
		case "real", "false", "known", "sensor":
		default:
			return invalid(fmt.Sprintf("alerts[%d].verdict", i), "%q is none of real, false, known, sensor", a.Verdict)
		}
	}
	return nil
}
