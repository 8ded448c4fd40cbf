package trial

import (
	"math"
	"time"
)

// Summary is a Result for machines to read. Times are UTC, durations seconds.
type Summary struct {
	Inputs          []string        `json:"inputs"`
	From            time.Time       `json:"from"`
	To              time.Time       `json:"to"`
	Rows            int64           `json:"rows"`
	Machines        int             `json:"machines"`
	ObservedSeconds float64         `json:"observed_seconds"`
	FaultsOutside   int             `json:"faults_outside"`
	Trials          []TrialSummary  `json:"trials"`
	Faults          []FaultSummary  `json:"faults,omitempty"`
	Changes         []ChangeSummary `json:"changes,omitempty"`
}

// TrialSummary is one configuration's part.
type TrialSummary struct {
	Name               string        `json:"name"`
	Pages              int           `json:"pages"`
	PagesPerMonth      float64       `json:"pages_per_machine_month"`
	FalsePages         *int          `json:"false_pages,omitempty"`
	FalsePerMonth      *float64      `json:"false_pages_per_machine_month,omitempty"`
	FaultsFound        int           `json:"faults_found"`
	Faults             int           `json:"faults"`
	MedianDelaySeconds *float64      `json:"median_delay_seconds,omitempty"`
	List               []PageSummary `json:"list"`
}

// PageSummary is one page.
type PageSummary struct {
	Machine  string             `json:"machine"`
	Episode  string             `json:"episode_id"`
	Cause    string             `json:"cause"`
	Severity string             `json:"severity"`
	Said     time.Time          `json:"said"`
	Ended    *time.Time         `json:"ended,omitempty"`
	Score    float64            `json:"score"`
	Fault    string             `json:"fault,omitempty"`
	Both     bool               `json:"in_both,omitempty"`
	Summary  string             `json:"summary"`
	Shares   map[string]float64 `json:"contributions,omitempty"`
}

// FaultSummary is one fault; a delay is null where it was missed.
type FaultSummary struct {
	Machine string     `json:"machine"`
	Kind    string     `json:"kind"`
	Start   time.Time  `json:"start"`
	End     time.Time  `json:"end"`
	Delays  []*float64 `json:"delay_seconds"`
}

// ChangeSummary is one key that differs.
type ChangeSummary struct {
	Key      string `json:"key"`
	Current  string `json:"current"`
	Proposed string `json:"proposed"`
}

// Summary of the result.
func (r *Result) Summary() Summary {
	s := Summary{Inputs: r.Inputs, From: r.From, To: r.To, Rows: r.Rows, Machines: len(r.Machines), ObservedSeconds: r.Observed.Seconds(), FaultsOutside: r.Outside}
	for _, t := range r.Trials {
		x := TrialSummary{Name: t.Name, Pages: len(t.Pages), PagesPerMonth: t.PerMonth.Rate, FaultsFound: t.Found, Faults: t.Totals.Faults, List: []PageSummary{}}
		if t.False != nil {
			x.FalsePages, x.FalsePerMonth = &t.False.N, &t.False.Rate
		}
		if t.Found > 0 {
			x.MedianDelaySeconds = new(t.Median.Seconds())
		}
		for _, p := range t.Pages {
			y := PageSummary{Machine: p.Machine, Episode: p.Episode, Cause: p.Cause, Severity: p.Severity, Said: p.Said, Score: p.Score, Both: p.Same != nil, Summary: p.Summary}
			if !p.Ended.IsZero() {
				y.Ended = &p.Ended
			}
			if p.Fault != nil {
				y.Fault = p.Fault.Kind
			}
			for _, c := range p.Contributions {
				if y.Shares == nil {
					y.Shares = map[string]float64{}
				}
				if !math.IsNaN(c.Share) {
					y.Shares[c.Sensor] = c.Share
				}
			}
			x.List = append(x.List, y)
		}
		s.Trials = append(s.Trials, x)
	}
	for _, f := range r.Faults {
		y := FaultSummary{Machine: f.Machine, Kind: f.Kind, Start: f.Start, End: f.End}
		for i := range r.Trials {
			if d, ok := f.Delay(i); ok {
				y.Delays = append(y.Delays, new(d.Seconds()))
			} else {
				y.Delays = append(y.Delays, nil)
			}
		}
		s.Faults = append(s.Faults, y)
	}
	for _, c := range r.Changes {
		s.Changes = append(s.Changes, ChangeSummary(c))
	}
	return s
}
