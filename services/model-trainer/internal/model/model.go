// Package model is what all trained models have in common: a name for the algorithm, the features by name, how scores of the training rows were distributed, and a file format whose hash is
// the version.
package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/iforest"
	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/lof"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/ocsvm"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/seasonal"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/supervised"
)

// Algorithms by name.
const (
	IsolationForest = modelfile.IsolationForest
	LOF             = "lof"
	OneClassSVM     = "one_class_svm"
	Seasonal        = "seasonal"
	// GBDT learns a column from the others: package supervised. The others say how unusual a row is.
	GBDT = "gbdt"
)

// Algorithms lists those that say how unusual a row is.
func Algorithms() []string { return []string{IsolationForest, LOF, OneClassSVM, Seasonal} }

// Table is rows to train on or to score: row-major values of the named columns, all finite.
type Table struct {
	Columns []string
	Values  []float32
	// Steps is each row's number in time, in steps of the season's rows; nil: they follow each other from 0 on.
	Steps []int
}

// Rows is the number of rows.
func (t *Table) Rows() int {
	if len(t.Columns) == 0 {
		return 0
	}
	return len(t.Values) / len(t.Columns)
}

// Header says what a model is. It is the readable part of its file.
type Header struct {
	Algorithm     string          `json:"algorithm"`
	Features      []string        `json:"features"`
	Parameters    json.RawMessage `json:"parameters"`
	Rows          int             `json:"rows"`                    // trained on
	Contamination float64         `json:"contamination,omitempty"` // share of training rows at or above the threshold
	Threshold     float64         `json:"threshold,omitempty"`     // score from which a row is called an anomaly
	// Quantiles are scores of the training rows, from the least to the greatest, evenly spread in rank.
	Quantiles []float64 `json:"quantiles,omitempty"`
	// Reference is how scores and features of the training rows were spread, for the drift watch; nil: trained by a build that did not keep it, or a model that predicts.
	Reference *modelfile.Reference `json:"reference,omitempty"`
	// TimeStep is the length of a step of Table.Steps in seconds; 0: rows have no times.
	TimeStep float64 `json:"time_step,omitempty"`
	// Of a model that predicts: the column it learned, its classes, and what the cross-validation showed.
	Target  string              `json:"target,omitempty"`
	Classes []string            `json:"classes,omitempty"`
	Quality *supervised.Quality `json:"quality,omitempty"`
}

type scorer interface {
	Features() int
	AppendTo(dst []byte) []byte
}

// Model is a trained model. Any number of goroutines may score at once.
type Model struct {
	Header
	version string
	body    scorer
}

// ParameterError is a parameter that the algorithm does not have or take.
type ParameterError struct{ Field, Reason string }

func (e *ParameterError) Error() string { return e.Field + ": " + e.Reason }

const maxQuantiles = 1001

// Train makes a model of a table. parameters is a JSON object with what differs from the algorithm's defaults; contamination is the share of the training rows that the threshold leaves
// outside, in [0, 0.5]. The same input gives the same version. timeStep is that of the table's Steps.
func Train(algorithm string, t *Table, parameters json.RawMessage, contamination, timeStep float64) (*Model, error) {
	if !(contamination >= 0 && contamination <= 0.5) {
		return nil, &ParameterError{"contamination", fmt.Sprintf("%v is not between 0 and 0.5", contamination)}
	}
	m := &Model{Header: Header{Algorithm: algorithm, Features: t.Columns, Rows: t.Rows(), Contamination: contamination, TimeStep: timeStep}}
	var err error
	d := len(t.Columns)
	switch algorithm {
	case IsolationForest:
		m.body, err = fit(m, parameters, iforest.DefaultParams(), func(p iforest.Params) (scorer, error) { return iforest.Train(t.Values, d, p) })
	case LOF:
		m.body, err = fit(m, parameters, lof.DefaultParams(), func(p lof.Params) (scorer, error) { return lof.Train(t.Values, d, p) })
	case OneClassSVM:
		m.body, err = fit(m, parameters, ocsvm.DefaultParams(), func(p ocsvm.Params) (scorer, error) { return ocsvm.Train(t.Values, d, p) })
	case Seasonal:
		if err := consecutive(t.Steps); err != nil {
			return nil, err
		}
		first := 0
		if len(t.Steps) > 0 {
			first = t.Steps[0]
		}
		m.body, err = fit(m, parameters, seasonal.DefaultParams(), func(p seasonal.Params) (scorer, error) { return seasonal.Train(t.Values, d, first, p) })
	default:
		return nil, &ParameterError{"algorithm", fmt.Sprintf("%q is none of %v", algorithm, Algorithms())}
	}
	if err != nil {
		return nil, err
	}
	scores := make([]float64, t.Rows())
	m.score(scores, t)
	m.learnThreshold(scores)
	m.Reference = modelfile.LearnReference(t.Values, d, scores)
	m.version = modelfile.Version(m.AppendTo(nil))
	return m, nil
}

func fit[P interface{ Validate() error }](m *Model, given json.RawMessage, p P, train func(P) (scorer, error)) (scorer, error) {
	if len(given) > 0 {
		dec := json.NewDecoder(bytes.NewReader(given))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&p); err != nil {
			return nil, &ParameterError{"parameters", err.Error()}
		}
	}
	if err := p.Validate(); err != nil {
		return nil, &ParameterError{"parameters", err.Error()}
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		return nil, &ParameterError{"parameters", err.Error()}
	}
	m.Parameters = encoded
	body, err := train(p)
	if err != nil {
		return nil, &ParameterError{"data", err.Error()}
	}
	return body, nil
}

func consecutive(steps []int) error {
	for i := 1; i < len(steps); i++ {
		if steps[i] != steps[i-1]+1 {
			return &ParameterError{"data", fmt.Sprintf("row %d does not follow the row before by one step of the usual length; a seasonal model needs rows without gaps", i)}
		}
	}
	return nil
}

func (m *Model) learnThreshold(scores []float64) {
	sorted := slices.Clone(scores)
	slices.Sort(sorted)
	n := len(sorted)
	many := min(n, maxQuantiles)
	for i := range many {
		m.Quantiles = append(m.Quantiles, sorted[(n-1)*i/max(many-1, 1)])
	}
	outside := int(m.Contamination * float64(n))
	if outside == 0 {
		m.Threshold = math.Nextafter(sorted[n-1], 2)
	} else {
		m.Threshold = sorted[n-outside]
	}
}

// ErrPredicts: the model predicts a column, it does not say how unusual a row is. ErrScores is the opposite.
var (
	ErrPredicts = errors.New("the model predicts; it gives no scores")
	ErrScores   = errors.New("the model gives scores; it does not predict")
)

// TrainPredictor makes a model that predicts a column of the table. What is wrong with the spec is a *ParameterError; what is wrong with the table a *supervised.Error or *feature.Error.
func TrainPredictor(t *feature.Table, spec supervised.Spec, progress func(float64)) (*Model, error) {
	if err := spec.Validate(); err != nil {
		field, reason, _ := strings.Cut(err.Error(), ": ")
		return nil, &ParameterError{field, reason}
	}
	p, err := supervised.Train(t, spec, progress)
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(spec)
	if err != nil {
		return nil, &ParameterError{"parameters", err.Error()}
	}
	m := &Model{
		Header: Header{
			Algorithm: GBDT, Features: p.Columns(), Parameters: encoded, Rows: t.Rows, Target: spec.Target, Classes: p.Classes(), Quality: p.Quality(),
		},
		body: p,
	}
	m.version = modelfile.Version(m.AppendTo(nil))
	return m, nil
}

// Predictor is the model that predicts, or ErrScores.
func (m *Model) Predictor() (*supervised.Predictor, error) {
	p, ok := m.body.(*supervised.Predictor)
	if !ok {
		return nil, ErrScores
	}
	return p, nil
}

// Version is the first 12 hexadecimal digits of the SHA-256 of the model's file.
func (m *Model) Version() string { return m.version }

// Score sets dst[i] to the score of row i of t, in [0, 1], higher for the more unusual. The table's columns are the model's features, in order.
func (m *Model) Score(dst []float64, t *Table) error {
	if m.Algorithm == GBDT {
		return ErrPredicts
	}
	if !slices.Equal(t.Columns, m.Features) {
		return fmt.Errorf("columns %v are not the model's features %v", t.Columns, m.Features)
	}
	m.score(dst, t)
	return nil
}

func (m *Model) score(dst []float64, t *Table) {
	switch body := m.body.(type) {
	case *iforest.Forest:
		body.Score(dst, t.Values)
	case *lof.Model:
		body.Score(dst, t.Values)
	case *ocsvm.Model:
		body.Score(dst, t.Values)
	case *seasonal.Model:
		steps := t.Steps
		for i := len(steps); t.Steps == nil && i < len(dst); i++ {
			steps = append(steps, i)
		}
		body.Score(dst, t.Values, steps)
	}
}

// PValue is the share of training rows at least as unusual, never 0: the conformal p-value (Vovk et al. 2005) of a score, at the resolution of the quantiles.
// Training rows were scored by a model that knows them, so it is somewhat too small for small training sets.
func (m *Model) PValue(score float64) float64 {
	n := len(m.Quantiles)
	below := sort.SearchFloat64s(m.Quantiles, score)
	return (float64(n-below)*float64(m.Rows)/float64(n) + 1) / float64(m.Rows+1)
}

// AppendTo appends the model's file.
func (m *Model) AppendTo(dst []byte) []byte {
	header, err := json.Marshal(m.Header)
	if err != nil { // numbers are finite, parameters came from Marshal
		header = nil
	}
	return m.body.AppendTo(modelfile.Append(dst, header))
}

// ErrCorrupt is wrapped by what Decode refuses.
var ErrCorrupt = modelfile.ErrCorrupt

// Decode reads what AppendTo wrote. b is not trusted.
func Decode(b []byte) (*Model, error) {
	header, body, err := modelfile.Split(b)
	if err != nil {
		return nil, err
	}
	m := &Model{version: modelfile.Version(b)}
	if err := json.Unmarshal(header, &m.Header); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	if m.Reference != nil && m.Reference.Validate(len(m.Features)) != nil {
		m.Reference = nil // of another build: nothing is held against it
	}
	switch m.Algorithm {
	case IsolationForest:
		m.body, err = iforest.Decode(body)
	case LOF:
		m.body, err = lof.Decode(body)
	case OneClassSVM:
		m.body, err = ocsvm.Decode(body)
	case Seasonal:
		m.body, err = seasonal.Decode(body)
	case GBDT:
		m.body, err = supervised.Decode(body)
	default:
		err = fmt.Errorf("algorithm %q is not known", m.Algorithm)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if m.Algorithm == GBDT {
		if !slices.Equal(m.body.(*supervised.Predictor).Columns(), m.Features) {
			return nil, fmt.Errorf("%w: header and body do not fit", ErrCorrupt)
		}
		return m, nil
	}
	if m.body.Features() != len(m.Features) || len(m.Quantiles) == 0 || m.Rows < 1 || !slices.IsSorted(m.Quantiles) {
		return nil, fmt.Errorf("%w: header and body do not fit", ErrCorrupt)
	}
	return m, nil
}
