// Package report is what a run found, as JSON, as text, as a page with plots, and beside an earlier run.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
)

// Report of a run.
type Report struct {
	Made     time.Time `json:"made"`
	Seconds  float64   `json:"seconds"`
	Binary   string    `json:"binary"` // what `tocsin version` says
	Config   string    `json:"config"` // file, or "shipped default"
	Data     string    `json:"data"`
	Partial  bool      `json:"partial,omitempty"` // not all files of the sets were judged
	Sets     []*Set    `json:"sets"`
	Missing  []Missing `json:"missing,omitempty"`
	Controls string    `json:"controls"`
}

// ControlsAre says what the controls do.
const ControlsAre = "flag everything: each row flagged with score 1; random: scores by chance, as many rows flagged as ours; causes of both: the chance of a random order"

// Missing is a set that could not be judged.
type Missing struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	Layout string `json:"layout"`
}

// Set is one set's part.
type Set struct {
	Name      string        `json:"name"`
	Title     string        `json:"title"`
	Protocol  string        `json:"protocol"`
	Files     int           `json:"files"`
	Rows      int           `json:"rows"`
	Seconds   float64       `json:"cpuSeconds"` // of all its backtests together
	Metrics   []sets.Metric `json:"metrics"`
	Ours      Values        `json:"ours"`
	Controls  []System      `json:"controls"`
	Anchors   []sets.Anchor `json:"anchors"`
	Threshold float64       `json:"threshold,omitempty"`
	Cases     []Case        `json:"cases"`
	Plots     []Plot        `json:"-"`
}

// Values by metric key.
type Values map[string]float64

// System is somebody's figures.
type System struct {
	Name   string `json:"name"`
	Values Values `json:"values"`
}

// Case is a file's or an event's figures.
type Case struct {
	Name   string `json:"name"`
	Note   string `json:"note,omitempty"`
	Values Values `json:"values"`
}

// Gap is how far a value lies from its goal on the wrong side, in the metric's unit: 0 when it is met. ok is false without goal or value.
func Gap(m *sets.Metric, values Values) (gap float64, ok bool) {
	v, has := values[m.Key]
	if m.Goal == nil || !has {
		return 0, false
	}
	if m.Lower {
		return max(0, v-*m.Goal), true
	}
	return max(0, *m.Goal-v), true
}

// Write saves the report as JSON.
func (r *Report) Write(path string) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// Read loads one.
func Read(path string) (*Report, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
