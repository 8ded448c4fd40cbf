package simulation

import (
	"fmt"
	"slices"
	"time"
)

// Summary is what many runs gave.
type Summary struct {
	Date         time.Time              `json:"date"` // when the runs began
	VirtualHours float64                `json:"virtual_hours"`
	HostSeconds  float64                `json:"host_seconds"`
	Runs         int                    `json:"runs"`
	Acked        int                    `json:"frames_acked"`
	Faults       map[string]int         `json:"faults"`
	Kills        map[string]int         `json:"kills"`
	Exits        map[string]int         `json:"exits"`
	Counts       map[string]int         `json:"counts"`
	Findings     map[string]int         `json:"findings"`
	Stalls       map[string]int         `json:"stalls"` // by diagnosis
	Broken       int                    `json:"broken"`
	Recovery     map[string]Percentiles `json:"recovery_virtual_seconds"`
	Failed       []*Result              `json:"failed,omitempty"`

	recovery map[string][]float64
}

// Percentiles of some durations.
type Percentiles struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	Max float64 `json:"max"`
}

// NewSummary is empty.
func NewSummary() *Summary {
	return &Summary{
		Faults: map[string]int{}, Kills: map[string]int{}, Exits: map[string]int{}, Counts: map[string]int{}, Findings: map[string]int{},
		Stalls: map[string]int{}, Recovery: map[string]Percentiles{}, recovery: map[string][]float64{},
	}
}

// Add takes one run in.
func (s *Summary) Add(r *Result) {
	s.Runs++
	s.VirtualHours += r.Virtual / 3600
	s.Acked += r.Acked
	for _, m := range []struct{ to, from map[string]int }{{s.Faults, r.Faults}, {s.Kills, r.Kills}, {s.Exits, r.Exits}, {s.Counts, r.Counts}} {
		for k, n := range m.from {
			m.to[k] += n
		}
	}
	for _, f := range r.Findings {
		s.Findings[f.Kind]++
	}
	if r.Stall != nil {
		s.Stalls[r.Stall.Diagnosis]++
	}
	if r.Broken != "" {
		s.Broken++
	}
	if r.Failed() {
		s.Failed = append(s.Failed, r)
	}
	for kind, list := range r.Recovery {
		s.recovery[kind] = append(s.recovery[kind], list...)
		all := slices.Sorted(slices.Values(s.recovery[kind]))
		s.Recovery[kind] = Percentiles{N: len(all), P50: all[len(all)/2], P95: all[len(all)*95/100], Max: all[len(all)-1]}
	}
}

// String is the summary for people.
func (s *Summary) String() string {
	return fmt.Sprintf("%d runs, %.2f virtual hours in %.0f s (%.1f virtual minutes per second), %d frames acknowledged, %d faults, kills: %s\n"+
		"exits: %s\nfindings: %s; stalls: %d; broken runs: %d\nready again after, virtual seconds: %v",
		s.Runs, s.VirtualHours, s.HostSeconds, s.VirtualHours*60/max(s.HostSeconds, 1e-9), s.Acked, total(s.Faults), summary(s.Kills),
		summary(s.Exits), orNone(s.Findings), total(s.Stalls), s.Broken, s.Recovery)
}

func orNone(m map[string]int) string {
	if len(m) == 0 {
		return "none"
	}
	return summary(m)
}
