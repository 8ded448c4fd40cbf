// Package sets knows the public data sets that `make accuracy` judges: where their files lie under the data root, what goes into the backtest, by which
// protocol the verdicts are scored, and what others reached. The data themselves are no part of the project.
//
// A set differs from another only in its files and its scoring. The detection configuration is the same for all.
package sets

import (
	"fmt"

	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// Metric is a column of a set's table.
type Metric struct {
	Key    string   `json:"key"`
	Title  string   `json:"title"`
	Digits int      `json:"digits"`
	Lower  bool     `json:"lowerIsBetter,omitempty"`
	Goal   *float64 `json:"goal,omitempty"`
	About  string   `json:"about"`
}

// Anchor is what somebody else published, or a reader's own reference figure. Unless its text says otherwise it is over all files of a set,
// of which a data root may hold only some.
type Anchor struct {
	Name   string             `json:"name"`
	Source string             `json:"source"`
	Values map[string]float64 `json:"values"`
}

// Case is one file's figures: those that make sense for a file alone.
type Case struct {
	Name   string
	Note   string // what was missed, in words
	Values map[string]float64
}

// Figures of a run over a set.
type Figures struct {
	Values map[string]float64
	Cases  []Case
	// Threshold on the score that the set's protocol finds; 0: it uses flags.
	Threshold float64
}

// Set is a data set and its protocol.
type Set struct {
	Name     string
	Title    string
	Protocol string
	Layout   string // what the data root must hold for it
	Metrics  []Metric
	Anchors  []Anchor
	// Load finds the set's trials below its folder.
	Load func(dir string) ([]*trial.Trial, error)
	// Score judges the verdicts; the controls go through it too.
	Score func([]*trial.Judged) (Figures, error)
}

// All sets, in the order of the report.
func All() []*Set {
	return []*Set{skab(), nab(), tep(), batadal(), smapMSL(), synthetic()}
}

func goal(v float64) *float64 { return &v }

// percent of a share.
func percent(share float64) float64 { return 100 * share }

func found(found, total int) string { return fmt.Sprintf("%d of %d events", found, total) }
