package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/answer"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/query"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// check says what is unusual in the last hours of any entity's metric, held against the same hours of the weeks before. What an entity is (a machine, a shop, a queue) and what a
// metric (a temperature, orders, messages) is all the same to it.
func (a *API) check(w http.ResponseWriter, r *http.Request, who Identity) error {
	p := read(r, "entity", "metric", "aggregate", "at", "hours", "time_zone")
	entity, metric := p.values.Get("entity"), p.values.Get("metric")
	switch {
	case entity == "":
		p.fail("entity", "missing")
	case !who.See.Has(entity):
		p.fail("entity", "there is no %q", entity) // as one that there is not
	case metric == "" || len(metric) > 128:
		p.fail("metric", "missing, or longer than 128 bytes")
	}
	aggregate := p.choice("aggregate", "mean", "sum", "count", "max")
	hours := p.number("hours", 24, 1, 7*24)
	place, err := time.LoadLocation(p.values.Get("time_zone"))
	if err != nil || p.values.Get("time_zone") == "Local" {
		p.fail("time_zone", "%q is not a place such as Europe/Berlin", p.values.Get("time_zone"))
	}
	at, err := moment("at", p.values.Get("at"))
	if err != nil && p.err == nil {
		p.err = err
	}
	if p.err != nil {
		return p.err
	}
	if at.IsZero() {
		at = a.now().UTC()
	}
	to := at.Truncate(time.Hour) // an hour that is not over would look poor
	from := to.Add(-time.Duration(hours) * time.Hour)
	rules := usage.DefaultRules()
	series, err := a.hourly(r.Context(), who, entity, metric, aggregate, from.AddDate(0, 0, -rules.Days-1), to)
	if err != nil {
		return err
	}
	found := usage.Check(series, from, to, place, rules)
	if found == nil {
		found = []usage.Finding{}
	}
	figures := 0
	for _, v := range series.Values {
		if !math.IsNaN(v) {
			figures++
		}
	}
	writeJSON(w, map[string]any{
		"entity": entity, "metric": metric, "aggregate": aggregate, "from": from, "to": to, "time_zone": place.String(), "figures": figures, "findings": found,
	})
	return nil
}

// hourly reads the figures of [from, to), which are whole hours.
func (a *API) hourly(ctx context.Context, who Identity, entity, metric, aggregate string, from, to time.Time) (usage.Series, error) {
	hours := int(to.Sub(from) / time.Hour)
	s := usage.Series{Start: from, Values: make([]float64, hours)}
	for i := range s.Values {
		if aggregate != "count" {
			s.Values[i] = math.NaN()
		}
	}
	q := query.Question{
		Who: who.Name, See: who.See, Tables: []string{"readings"}, Args: []string{entity, metric}, Format: answer.JSON, Rows: hours + 1,
		SQL: fmt.Sprintf(`SELECT (epoch_us(ts) - %d) // 3600000000 AS hour, %s AS figure FROM readings WHERE equipment_id = ? AND sensor = ? AND value IS NOT NULL AND validity = 'good' GROUP BY hour`,
			from.UnixMicro(), map[string]string{"mean": "avg(value)", "sum": "sum(value)", "count": "count(*)", "max": "max(value)"}[aggregate]),
	}
	q.Within.From, q.Within.To = from, to
	got, err := a.desk.Ask(ctx, q)
	if err != nil {
		return s, err
	}
	var rows struct{ Rows [][2]float64 }
	if err := json.Unmarshal(got.Body, &rows); err != nil {
		return s, fmt.Errorf("hourly figures: %w", err)
	}
	for _, r := range rows.Rows {
		if i := int(r[0]); i >= 0 && i < hours {
			s.Values[i] = r[1]
		}
	}
	return s, nil
}
