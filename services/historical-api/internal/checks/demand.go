package checks

import (
	"context"
	"math"
	"time"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// Answer is what is unusual in one series.
type Answer struct {
	Job      string    `json:"job,omitempty"`
	Entity   string    `json:"entity"`
	Metric   string    `json:"metric"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	TimeZone string    `json:"time_zone"`
	// Verdict is usual, warning, critical, "not enough history" (of no hour can be said anything) or "no figures".
	Verdict string `json:"verdict"`
	Judged  int    `json:"judged"` // hours
	Missing int    `json:"missing"`
	Short   int    `json:"not_enough_history"`
	Off     int    `json:"off"`
	Figures int    `json:"figures"` // hours of the baseline and of what is judged that have one
	// Findings, also those of a single hour that stands out (z of 3 and more; info).
	Findings []usage.Finding `json:"findings"`
}

// Demand judges the hours before at that are over, of one series.
func (j *Job) Demand(ctx context.Context, desk Asker, who Asks, at time.Time, hours int) (Answer, error) {
	to := at.Truncate(time.Hour) // an hour that is not over would look poor
	from := to.Add(-time.Duration(hours) * time.Hour)
	out := Answer{Entity: who.Entity, Metric: who.Metric, From: from, To: to, TimeZone: j.place.String(), Findings: []usage.Finding{}}
	figures, err := j.Figures(ctx, desk, who, from.Add(-baseline), to)
	if err != nil {
		return out, err
	}
	series, ok := figures.Series[Key{who.Entity, who.Metric}]
	if !ok {
		out.Missing, out.Verdict = hours, "no figures"
		return out, nil
	}
	for _, v := range series.Values {
		if !math.IsNaN(v) {
			out.Figures++
		}
	}
	r := usage.Check(series, from, to, j.place, j.rules)
	out.Judged, out.Missing, out.Short, out.Off = r.Judged, r.Missing, r.Short, r.Off
	switch {
	case r.Judged > 0:
		out.Verdict = "usual"
	case r.Short > 0:
		out.Verdict = "not enough history"
	default:
		out.Verdict = "no figures"
	}
	out.Findings = append(out.Findings, r.Findings...)
	for _, f := range r.Findings {
		if f.Severity == usage.Critical || f.Severity == usage.Warning && out.Verdict != usage.Critical {
			out.Verdict = f.Severity
		}
	}
	return out, nil
}
