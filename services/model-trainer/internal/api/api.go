// Package api serves training and scoring over HTTP. Errors are problem details with the field that is wrong.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/access"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/dataset"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/lake"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/model"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/registry"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/supervised"
)

// Limits of requests.
type Limits struct {
	MaxBodyBytes   int64
	MaxRows        int // of a request to score
	MaxTrainRows   int
	MaxTrainValues int
}

// API answers requests. It is safe for concurrent use.
type API struct {
	registry *registry.Registry
	data     *os.Root // files to train from
	limits   Limits
	log      *zap.Logger
	lake     objstore.Bucket // nil: there is none
	training chan struct{}   // holds a token for each training under way
	jobs     *jobs
	compared compared
	watched  watched

	scored  *metrics.Counter
	latency *metrics.Histogram
	trained *metrics.Histogram
}

// New serves models of reg, trained from files below data or from the lake (nil: there is none), at most trainings at once.
func New(reg *registry.Registry, data *os.Root, inLake objstore.Bucket, limits Limits, trainings int, log *zap.Logger, set *metrics.Set) *API {
	return &API{
		registry: reg, data: data, lake: inLake, limits: limits, log: log, training: make(chan struct{}, trainings), jobs: newJobs(),
		scored:  set.NewCounter("tocsin_trainer_rows_scored_total"),
		latency: set.NewHistogram("tocsin_trainer_score_seconds"),
		trained: set.NewHistogram("tocsin_trainer_training_seconds"),
	}
}

// Handler routes /v1/models for those whom keeper lets through.
func (a *API) Handler(keeper *access.Keeper) http.Handler {
	mux := http.NewServeMux()
	handle := func(need access.Right, pattern string, h func(*http.Request) (int, any, error)) {
		mux.Handle(pattern, keeper.Guard(need, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, a.limits.MaxBodyBytes)
			status, answer, err := h(r)
			if err != nil {
				a.refuse(w, r, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(answer) // the client is gone: nothing left to tell it
		})))
	}
	handle(access.Score, "GET /v1/models", a.list)
	handle(access.Train, "POST /v1/models", a.train)
	handle(access.Score, "GET /v1/models/{name}", a.show)
	handle(access.Score, "GET /v1/trainings", a.listJobs)
	handle(access.Score, "GET /v1/trainings/{id}", a.showJob)
	handle(access.Train, "PUT /v1/models/{name}/roles", a.setRoles)
	handle(access.Score, "POST /v1/models/{name}/score", a.score)
	handle(access.Score, "POST /v1/models/{name}/predict", a.predict)
	handle(access.Score, "GET /v1/comparison", a.compare)
	handle(access.Score, "GET /v1/drift", a.drift)
	return mux
}

// errBusy: as many trainings as may run are under way.
var errBusy = errors.New("a training is under way")

// classify says what an error is to a client: status, title, detail, and members such as the field that is wrong. 503 is whatever is not of his making.
func classify(err error) (status int, title, detail string, ext map[string]any) {
	var (
		field     *fieldError
		parameter *model.ParameterError
		data      *dataset.Error
		column    *feature.Error
		target    *supervised.Error
		inLake    *lake.Error
		tooLarge  *http.MaxBytesError
	)
	detail = err.Error()
	switch {
	case errors.As(err, &field):
		return http.StatusBadRequest, "Bad request", detail, map[string]any{"field": field.field}
	case errors.As(err, &parameter):
		return http.StatusBadRequest, "Bad request", detail, map[string]any{"field": parameter.Field}
	case errors.As(err, &data):
		ext = map[string]any{"field": "file"}
		if data.Column != "" {
			ext["column"] = data.Column
		}
		if data.Row > 0 {
			ext["row"] = data.Row
		}
		return http.StatusUnprocessableEntity, "The file cannot be learned from", detail, ext
	case errors.As(err, &inLake):
		return http.StatusUnprocessableEntity, "The lake has nothing to learn from", detail, map[string]any{"field": "lake"}
	case errors.As(err, &column):
		return http.StatusUnprocessableEntity, "The table does not fit", detail, map[string]any{"column": column.Column}
	case errors.As(err, &target):
		return http.StatusUnprocessableEntity, "The table does not fit", detail, map[string]any{"column": target.Column}
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, "Too large", fmt.Sprintf("more than %d bytes", tooLarge.Limit), nil
	case errors.Is(err, registry.ErrName):
		return http.StatusBadRequest, "Bad request", detail, map[string]any{"field": "name"}
	case errors.Is(err, registry.ErrNotFound), errors.Is(err, errNoJob):
		return http.StatusNotFound, "Not found", detail, nil
	case errors.Is(err, errNotRead):
		return http.StatusServiceUnavailable, "Not possible now", detail, nil
	case errors.Is(err, registry.ErrConflict):
		return http.StatusConflict, "Conflict", detail, nil
	}
	return http.StatusServiceUnavailable, "Not possible now", "the store does not answer, or holds what it should not; the log says more", nil
}

// refuse answers a request that failed.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, title, detail, ext := classify(err)
	switch {
	case errors.Is(err, errBusy):
		w.Header().Set("Retry-After", "10")
		title, detail = "Busy", err.Error()
	case status >= http.StatusInternalServerError && r.Context().Err() != nil:
		return // nobody is left to tell
	case status >= http.StatusInternalServerError:
		a.log.Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
		w.Header().Set("Retry-After", "5")
	}
	httpserver.Problem(w, status, title, detail, ext)
}

func body(r *http.Request, v any) error {
	b, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return err
	case err != nil:
		return &fieldError{"body", err.Error()}
	}
	return strictly(b, v)
}

func (a *API) list(r *http.Request) (int, any, error) {
	names, err := a.registry.Names(r.Context())
	if err != nil {
		return 0, nil, err
	}
	type one struct {
		Name string `json:"name"`
		registry.Roles
	}
	out := struct {
		Models []one `json:"models"`
	}{Models: []one{}}
	for _, name := range names {
		roles, err := a.registry.Roles(r.Context(), name)
		if errors.Is(err, registry.ErrNotFound) {
			continue // its first version is being stored
		}
		if err != nil {
			return 0, nil, err
		}
		out.Models = append(out.Models, one{name, roles})
	}
	return http.StatusOK, out, nil
}

func (a *API) show(r *http.Request) (int, any, error) {
	name, version, err := registry.Split(r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	if version != "" {
		m, err := a.registry.Load(r.Context(), name, version)
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, m.Header, nil
	}
	versions, err := a.registry.Versions(r.Context(), name)
	if err != nil {
		return 0, nil, err
	}
	roles, err := a.registry.Roles(r.Context(), name)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, struct {
		Name string `json:"name"`
		registry.Roles
		Versions []registry.Version `json:"versions"`
	}{name, roles, versions}, nil
}

func (a *API) setRoles(r *http.Request) (int, any, error) {
	var roles registry.Roles
	if err := body(r, &roles); err != nil {
		return 0, nil, err
	}
	if roles.Champion == "" {
		return 0, nil, &fieldError{"champion", "is missing"}
	}
	name := r.PathValue("name")
	if err := registry.CheckName(name); err != nil {
		return 0, nil, err
	}
	if err := a.registry.SetRoles(r.Context(), name, roles); err != nil {
		return 0, nil, err
	}
	a.log.Info("roles changed", zap.String("model", name), zap.String("champion", roles.Champion), zap.String("challenger", roles.Challenger))
	return http.StatusOK, roles, nil
}

// result is what is said of one row.
type result struct {
	Score   float64 `json:"score"`   // in [0, 1], higher for the more unusual
	PValue  float64 `json:"p_value"` // share of training rows at least as unusual
	Anomaly bool    `json:"anomaly"` // at the model's threshold
}

// opinion is one model's word on all rows.
type opinion struct {
	Model   string   `json:"model"`
	Results []result `json:"results"`
	Problem string   `json:"problem,omitempty"` // why the challenger said nothing
}

func (a *API) score(r *http.Request) (int, any, error) {
	start := time.Now()
	name, version, err := registry.Split(r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	var q scoreRequest
	if err := body(r, &q); err != nil {
		return 0, nil, err
	}
	challenger := ""
	if version == "" {
		roles, err := a.registry.Roles(r.Context(), name)
		if err != nil {
			return 0, nil, err
		}
		version, challenger = roles.Champion, roles.Challenger
	}
	first, err := a.ask(r.Context(), name, version, &q)
	if err != nil {
		return 0, nil, err
	}
	answer := struct {
		opinion
		Challenger *opinion `json:"challenger,omitempty"`
		Agreement  *float64 `json:"agreement,omitempty"` // share of rows that both call the same
	}{opinion: *first}
	if challenger != "" {
		second, err := a.ask(r.Context(), name, challenger, &q)
		if err != nil { // the champion's word does not hang on the challenger
			second = &opinion{Model: name + "@" + challenger, Problem: err.Error()}
		} else {
			same := 0.0
			for i := range first.Results {
				if first.Results[i].Anomaly == second.Results[i].Anomaly {
					same++
				}
			}
			share := same / float64(len(first.Results))
			answer.Agreement = &share
		}
		answer.Challenger = second
	}
	a.scored.Add(len(first.Results))
	a.latency.UpdateDuration(start)
	return http.StatusOK, answer, nil
}

func (a *API) ask(ctx context.Context, name, version string, q *scoreRequest) (*opinion, error) {
	m, err := a.registry.Load(ctx, name, version)
	if err != nil {
		return nil, err
	}
	if m.Algorithm == model.GBDT {
		return nil, &fieldError{"name", model.ErrPredicts.Error() + ": POST .../predict"}
	}
	t, err := q.table(m, a.limits.MaxRows)
	if err != nil {
		return nil, err
	}
	scores := make([]float64, t.Rows())
	if err := m.Score(scores, t); err != nil {
		return nil, err
	}
	out := &opinion{Model: name + "@" + version, Results: make([]result, len(scores))}
	for i, s := range scores {
		out.Results[i] = result{s, m.PValue(s), s >= m.Threshold}
	}
	return out, nil
}
