// Package learning judges models that learn a column: remaining life, failures, the condition of components. A case says what a user would say of his table, which column is the target, which the machine and
// the time; the model-trainer itself, in a process of its own, learns and predicts.
package learning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tocsin-io/tocsin/deploy/accuracy/report"
	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
)

// Set is a data set of this kind.
type Set struct {
	Name, Title, Protocol, Layout string

	metrics []sets.Metric
	anchors []sets.Anchor
	run     func(ctx context.Context, t *trainer, dir string) (*figures, error)
}

// figures of a set.
type figures struct {
	files, rows int
	ours        report.Values
	controls    []report.System
	cases       []report.Case
}

// All sets, in the order of the report.
func All() []*Set { return []*Set{remainingLife(), failures(), conditions()} }

// ErrMissing: the set's files are not there.
var ErrMissing = errors.New("files are missing")

// Judge trains and predicts one set below the data root.
func (s *Set) Judge(ctx context.Context, binary, data string) (_ *report.Set, err error) {
	began := time.Now()
	if _, err := os.Stat(filepath.Join(data, s.Name)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	t, err := start(ctx, binary)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	f, err := s.run(ctx, t, filepath.Join(data, s.Name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return &report.Set{
		Name: s.Name, Title: s.Title, Protocol: s.Protocol, Files: f.files, Rows: f.rows, Seconds: time.Since(began).Seconds(),
		Metrics: s.metrics, Anchors: s.anchors, Ours: f.ours, Controls: f.controls, Cases: f.cases,
	}, nil
}

func goal(v float64) *float64 { return &v }
