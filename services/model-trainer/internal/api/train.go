package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/dataset"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/lake"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/model"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/registry"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/supervised"
)

// trainRequest is the body of POST /v1/models.
type trainRequest struct {
	Name          string          `json:"name"`
	Algorithm     string          `json:"algorithm"`
	File          string          `json:"file"` // below the data folder
	Ignore        []string        `json:"ignore_columns"`
	Time          string          `json:"time_column"`
	Parameters    json.RawMessage `json:"parameters"`
	Contamination *float64        `json:"contamination"` // default 0.01
	Lake          *lake.Query     `json:"lake"`          // instead of file
	Async         bool            `json:"async"`         // answer at once, with the training's id
}

// trained is the answer to a training.
type trained struct {
	Model string `json:"model"`
	registry.Roles
	Header model.Header `json:"header"`
	// Of the lake: samples that were there, kept, and lacked a sensor.
	Seen    int `json:"samples_seen,omitempty"`
	Kept    int `json:"samples_kept,omitempty"`
	Partial int `json:"samples_partial,omitempty"`
}

// share is the contamination that is learned with.
func (q *trainRequest) share() float64 {
	if q.Contamination == nil {
		return 0.01
	}
	return *q.Contamination
}

// spec is what a model that predicts is to learn: the parameters over the defaults.
func (q *trainRequest) spec() (supervised.Spec, error) {
	s := supervised.DefaultSpec()
	if len(q.Parameters) > 0 {
		d := json.NewDecoder(bytes.NewReader(q.Parameters))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			return s, &fieldError{"parameters", err.Error()}
		}
	}
	if q.Time != "" {
		return s, &fieldError{"time_column", "is for scores; the order of rows is parameters.recipe.order"}
	}
	s.Recipe.Ignore = append(s.Recipe.Ignore, q.Ignore...)
	if err := s.Validate(); err != nil {
		return s, &fieldError{"parameters", err.Error()}
	}
	return s, nil
}

func (a *API) train(r *http.Request) (int, any, error) {
	q := trainRequest{}
	if err := body(r, &q); err != nil {
		return 0, nil, err
	}
	if err := registry.CheckName(q.Name); err != nil {
		return 0, nil, &fieldError{"name", err.Error()}
	}
	if err := a.checkSource(&q); err != nil {
		return 0, nil, err
	}
	select {
	case a.training <- struct{}{}:
	default:
		return 0, nil, errBusy
	}
	work := func(ctx context.Context, progress func(float64)) (*trained, error) {
		defer func() { <-a.training }()
		return a.make(ctx, &q, progress)
	}
	if q.Async {
		return http.StatusAccepted, a.jobs.begin(a, work), nil
	}
	answer, err := work(r.Context(), func(float64) {})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, answer, nil
}

// checkSource tells whether the request names a file or a part of the lake.
func (a *API) checkSource(q *trainRequest) error {
	if q.Lake == nil {
		return nil
	}
	switch {
	case q.File != "":
		return &fieldError{"file", "given beside lake"}
	case a.lake == nil:
		return &fieldError{"lake", "the configuration names none (lake.url)"}
	case q.Algorithm == model.GBDT:
		return &fieldError{"lake", "readings have no target to learn: join them with one, and give the file"}
	case len(q.Ignore) > 0 || q.Time != "":
		return &fieldError{"lake", "ignore_columns and time_column are for files"}
	}
	if err := q.Lake.Validate(a.limits.MaxTrainRows, a.limits.MaxTrainValues); err != nil {
		return &fieldError{"lake", err.Error()}
	}
	return nil
}

// make trains and stores.
func (a *API) make(ctx context.Context, q *trainRequest, progress func(float64)) (*trained, error) {
	start := time.Now()
	out := &trained{}
	m, err := a.learn(ctx, q, out, progress)
	if err != nil {
		return nil, err
	}
	if out.Roles, err = a.registry.Save(ctx, q.Name, m); err != nil {
		return nil, err
	}
	out.Model, out.Header = q.Name+"@"+m.Version(), m.Header
	took := time.Since(start)
	a.trained.Update(took.Seconds())
	a.log.Info("model trained", zap.String("model", out.Model), zap.String("algorithm", q.Algorithm),
		zap.String("file", q.File), zap.Int("rows", m.Rows), zap.Duration("took", took))
	return out, nil
}

// learn reads the file or the lake and trains on it.
func (a *API) learn(ctx context.Context, q *trainRequest, out *trained, progress func(float64)) (*model.Model, error) {
	if q.Algorithm == model.GBDT {
		s, err := q.spec()
		if err != nil {
			return nil, err
		}
		t, err := a.columns(q.File, dataset.ColumnOptions{Texts: s.Texts(), Ignore: s.Recipe.Ignore, MaxRows: a.limits.MaxTrainRows})
		if err != nil {
			return nil, err
		}
		return model.TrainPredictor(t, s, progress)
	}
	var t *dataset.Table
	var err error
	if q.Lake != nil {
		t, err = a.fromLake(ctx, q, out, progress)
	} else {
		t, err = a.read(q)
	}
	if err != nil {
		return nil, err
	}
	return model.Train(q.Algorithm, &t.Table, q.Parameters, q.share(), t.StepSeconds)
}

// fromLake reads samples. A season needs all samples of one machine; the others learn from a part of them as well.
func (a *API) fromLake(ctx context.Context, q *trainRequest, out *trained, progress func(float64)) (*dataset.Table, error) {
	// Reading is most of the work.
	r, err := lake.Read(ctx, a.lake, *q.Lake, func(share float64) { progress(0.9 * share) })
	if err != nil {
		return nil, err
	}
	out.Seen, out.Kept, out.Partial = r.Seen, len(r.Samples), r.Partial
	t := &dataset.Table{Table: model.Table{Columns: q.Lake.Sensors}}
	times := make([]float64, 0, len(r.Samples))
	for _, s := range r.Samples {
		t.Values = append(t.Values, s.Values...)
		times = append(times, float64(s.TimeUS)/1e6)
	}
	if q.Algorithm == model.Seasonal {
		if r.Seen > len(r.Samples) {
			return nil, &lake.Error{Reason: fmt.Sprintf("%d samples are more than rows (%d): a season is learned from all of them", r.Seen, q.Lake.Rows)}
		}
		if r.Samples[0].Machine != r.Samples[len(r.Samples)-1].Machine {
			return nil, &lake.Error{Reason: "the samples are of several machines: a season is one machine's"}
		}
		t.SetTimes(times)
	}
	return t, nil
}

// read reads rows to score from the file.
func (a *API) read(q *trainRequest) (*dataset.Table, error) {
	f, size, err := a.open(q.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	opt := dataset.Options{Ignore: q.Ignore, Time: q.Time, MaxRows: a.limits.MaxTrainRows, MaxValues: a.limits.MaxTrainValues}
	if strings.HasSuffix(q.File, ".parquet") {
		return dataset.ReadParquet(f, size, opt)
	}
	return dataset.ReadCSV(f, opt)
}

// columns reads numbers and names from the file.
func (a *API) columns(name string, opt dataset.ColumnOptions) (*feature.Table, error) {
	f, size, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	opt.MaxValues = a.limits.MaxTrainValues
	if strings.HasSuffix(name, ".parquet") {
		return dataset.ReadColumnsParquet(f, size, opt)
	}
	return dataset.ReadColumnsCSV(f, opt)
}

// open opens a file, which must lie below the data folder: os.Root follows no link out of it.
func (a *API) open(name string) (*os.File, int64, error) {
	f, err := a.data.Open(filepath.FromSlash(name))
	switch {
	case name == "" || errors.Is(err, fs.ErrNotExist):
		return nil, 0, &fieldError{"file", fmt.Sprintf("%q is not in the data folder", name)}
	case err != nil:
		return nil, 0, &fieldError{"file", fmt.Sprintf("%q cannot be opened in the data folder", name)}
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil, 0, errors.Join(&fieldError{"file", fmt.Sprintf("%q is no regular file", name)}, f.Close())
	}
	return f, st.Size(), nil
}
