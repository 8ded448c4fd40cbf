// Package supervised learns a column of a table from the others: a number, such as remaining useful life, or a class, such as a component's condition. Features are made by package feature, learned from by
// package gbdt. How good a model is, how wide its intervals are and from which probability on it calls a class are found by cross-validation inside the training rows: whole entities are held out, so that
// nothing is judged by a model that knows it.
package supervised

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/gbdt"
)

// Tasks.
const (
	Regression     = "regression"
	Classification = "classification"
)

// Spec says what is to be learned, and how.
type Spec struct {
	Target string `json:"target"` // the column to learn
	Task   string `json:"task"`   // regression or classification
	// Cap: target values above it are learned as it. Remaining life is not to be seen in a machine that is as good as new. 0: none.
	Cap float64 `json:"cap,omitempty"`
	// Objective of a classification into two: "accuracy" calls the likelier class, "f1" calls the rarer one from the probability on at which its F1 was best in the cross-validation.
	Objective string `json:"objective,omitempty"`
	// Folds of the cross-validation; 1: there is none, and neither intervals nor figures.
	Folds int `json:"folds,omitempty"`
	// Group is a column whose equal rows are held out together; default: the recipe's entity.
	Group  string         `json:"group,omitempty"`
	Recipe feature.Recipe `json:"recipe"`
	Boost  gbdt.Params    `json:"boost"`
}

// DefaultSpec has five folds.
func DefaultSpec() Spec {
	return Spec{Task: Regression, Folds: 5, Boost: gbdt.DefaultParams()}
}

// Validate names the field that is wrong.
func (s Spec) Validate() error {
	switch {
	case s.Target == "":
		return errors.New("target: is missing")
	case s.Task != Regression && s.Task != Classification:
		return fmt.Errorf("task: %q is neither %s nor %s", s.Task, Regression, Classification)
	case s.Task == Classification && s.Cap != 0:
		return errors.New("cap: a class has none")
	case !(math.Abs(s.Cap) < 1e300):
		return fmt.Errorf("cap: %v is not finite", s.Cap)
	case s.Objective != "" && s.Objective != "accuracy" && s.Objective != "f1":
		return fmt.Errorf("objective: %q is neither accuracy nor f1", s.Objective)
	case s.Objective == "f1" && (s.Task != Classification || s.Folds < 2):
		return errors.New("objective: f1 needs a classification and folds")
	case s.Folds < 1 || s.Folds > 50:
		return fmt.Errorf("folds: %d is not between 1 and 50", s.Folds)
	}
	if err := s.Recipe.Validate(); err != nil {
		return fmt.Errorf("recipe.%w", err)
	}
	if slices.Contains(slices.Concat([]string{s.Recipe.Entity, s.Recipe.Order, s.Group}, s.Recipe.Context, s.Recipe.Categories), s.Target) {
		return fmt.Errorf("target: %q has another part in the recipe", s.Target)
	}
	if err := s.Boost.Validate(); err != nil {
		return fmt.Errorf("boost.%w", err)
	}
	return nil
}

// Texts are the columns that hold names: what a reader of files has to know.
func (s Spec) Texts() []string {
	out := s.Recipe.Texts()
	if s.Task == Classification {
		out = append(out, s.Target)
	}
	if s.Group != "" && !slices.Contains(out, s.Group) {
		out = append(out, s.Group)
	}
	return out
}

// Quality is what the cross-validation showed. Figures that a task does not have are 0.
type Quality struct {
	Rows     int     `json:"rows"`
	RMSE     float64 `json:"rmse,omitempty"`
	MAE      float64 `json:"mae,omitempty"`
	Accuracy float64 `json:"accuracy,omitempty"`
	F1       float64 `json:"f1,omitempty"`       // of the rarer of two classes
	Covered  float64 `json:"covered,omitempty"`  // share of rows inside their interval
	Features int     `json:"features,omitempty"` // that were made
}

// band holds the errors of rows that were predicted at least From.
type band struct {
	From float64 `json:"from"`
	Low  float64 `json:"low"` // quantiles of truth minus prediction
	High float64 `json:"high"`
}

// Predictor is a trained model. Any number of goroutines may predict at once.
type Predictor struct {
	head  head
	trees *gbdt.Model
}

// head is the readable part of its bytes.
type head struct {
	Spec     Spec              `json:"spec"`
	Classes  []string          `json:"classes,omitempty"`
	Rare     int               `json:"rare,omitempty"`    // the rarer of two classes
	Decide   float64           `json:"decide,omitempty"`  // probability from which it is called
	Bands    []band            `json:"bands,omitempty"`   // by prediction
	Quality  *Quality          `json:"quality,omitempty"` // nil without folds
	Features *feature.Features `json:"features"`
}

// Spec, Classes and Quality say what the model is.
func (p *Predictor) Spec() Spec { return p.head.Spec }

// Classes are the names that a classification chooses among, in order.
func (p *Predictor) Classes() []string { return p.head.Classes }

// Quality is what the cross-validation showed; nil when there was none.
func (p *Predictor) Quality() *Quality { return p.head.Quality }

// Columns are those that a table to predict from must have.
func (p *Predictor) Columns() []string { return p.head.Features.Inputs() }

// Features is their number.
func (p *Predictor) Features() int { return len(p.Columns()) }

// Error is something wrong with the table.
type Error struct{ Column, Reason string }

func (e *Error) Error() string { return fmt.Sprintf("column %q: %s", e.Column, e.Reason) }

// problem is a table's target, as numbers or as classes.
type problem struct {
	spec    Spec
	y       []float64
	class   []int
	classes []string
}

func newProblem(t *feature.Table, s Spec) (*problem, error) {
	p := &problem{spec: s}
	for _, c := range t.Columns {
		if c.Name != s.Target {
			continue
		}
		if s.Task == Regression {
			if c.Numbers == nil {
				return nil, &Error{s.Target, "holds text, not numbers"}
			}
			p.y = slices.Clone(c.Numbers)
			for i, v := range p.y {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					return nil, &Error{s.Target, fmt.Sprintf("row %d has no value", i+1)}
				}
				if s.Cap != 0 {
					p.y[i] = min(v, s.Cap)
				}
			}
			return p, nil
		}
		if c.Texts == nil {
			return nil, &Error{s.Target, "holds numbers that were not read as names"}
		}
		p.classes = slices.Clone(c.Texts)
		slices.Sort(p.classes)
		if p.classes = slices.Compact(p.classes); len(p.classes) < 2 || len(p.classes) > gbdt.MaxClasses {
			return nil, &Error{s.Target, fmt.Sprintf("has %d classes, there must be 2 to %d", len(p.classes), gbdt.MaxClasses)}
		}
		p.class = make([]int, len(c.Texts))
		for i, name := range c.Texts {
			p.class[i], _ = slices.BinarySearch(p.classes, name)
		}
		return p, nil
	}
	return nil, &Error{s.Target, "is missing"}
}

// fit learns features and trees from the rows at the given places; nil: all of them.
func (p *problem) fit(t *feature.Table, at []int) (*feature.Features, *gbdt.Model, error) {
	y, class := p.y, p.class
	if at != nil {
		t, y, class = t.Pick(at), pick(y, at), pick(class, at)
	}
	target := feature.NumberTarget(y)
	if p.classes != nil {
		target = feature.ClassTarget(class, len(p.classes))
	}
	ignoring := p.spec.Recipe
	if g := p.spec.Group; g != "" && g != ignoring.Entity && !slices.Contains(ignoring.Ignore, g) {
		ignoring.Ignore = append(slices.Clone(ignoring.Ignore), g)
	}
	f, err := feature.Learn(ignoring, t, p.spec.Target, target)
	if err != nil {
		return nil, nil, err
	}
	columns, err := f.Apply(t)
	if err != nil {
		return nil, nil, err
	}
	x := gbdt.Matrix{Rows: t.Rows, Columns: columns}
	var m *gbdt.Model
	if p.classes == nil {
		m, err = gbdt.TrainNumber(x, y, p.spec.Boost)
	} else {
		m, err = gbdt.TrainClass(x, class, len(p.classes), p.spec.Boost)
	}
	return f, m, err
}

func pick[T any](from []T, at []int) []T {
	if from == nil {
		return nil
	}
	out := make([]T, len(at))
	for i, r := range at {
		out[i] = from[r]
	}
	return out
}

// outputs are the raw outputs of the trees for every row.
func outputs(f *feature.Features, m *gbdt.Model, t *feature.Table) ([][]float64, error) {
	columns, err := f.Apply(t)
	if err != nil {
		return nil, err
	}
	out := make([][]float64, t.Rows)
	room, row := make([]float64, t.Rows*m.Outputs()), make([]float32, len(columns))
	for i := range out {
		for k, c := range columns {
			row[k] = c[i]
		}
		out[i] = room[i*m.Outputs() : (i+1)*m.Outputs()]
		m.Predict(out[i], row)
	}
	return out, nil
}

// Train learns the target. progress, if not nil, is told how much of the work is done, in [0, 1]. An error is one of the spec or of the table: *Error, *feature.Error, or a field of the spec.
func Train(t *feature.Table, s Spec, progress func(float64)) (*Predictor, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	p, err := newProblem(t, s)
	if err != nil {
		return nil, err
	}
	done := func(steps int) {
		if progress != nil {
			progress(float64(steps) / float64(s.Folds+1))
		}
	}
	out := &Predictor{head: head{Spec: s, Classes: p.classes}}
	if s.Folds > 1 {
		if err := p.validate(t, out, done); err != nil {
			return nil, err
		}
	}
	if out.head.Features, out.trees, err = p.fit(t, nil); err != nil {
		return nil, err
	}
	if q := out.head.Quality; q != nil {
		q.Features = len(out.head.Features.Names())
	}
	done(s.Folds + 1)
	return out, nil
}
