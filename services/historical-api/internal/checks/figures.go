package checks

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/answer"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/query"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// Asker answers questions about the lake.
type Asker interface {
	Ask(ctx context.Context, q query.Question) (query.Answer, error)
}

// Key names a series.
type Key struct{ Entity, Metric string }

// Figures are hourly figures of many series over the same hours.
type Figures struct {
	From, To time.Time
	Series   map[Key]usage.Series
	// Invalid series were left out: their names cannot be an alert's. Example is one of them.
	Invalid int
	Example string
}

// Asks says who asks for figures, and of which series; empty ones are all.
type Asks struct {
	Who            string
	See            auth.Equipment
	Entity, Metric string
}

const maxMetric = 128

// Figures reads a job's figures of [from, to), whole hours. It costs one query; memory is 8 bytes an hour and series, and the answer's text, some 15 bytes each, while it is read.
func (j *Job) Figures(ctx context.Context, desk Asker, who Asks, from, to time.Time) (Figures, error) {
	f := Figures{From: from, To: to, Series: map[Key]usage.Series{}}
	q := query.Question{Who: who.Who, See: who.See, SQL: j.query(who, from, to), Format: answer.JSON, Rows: j.MaxSeries + 1}
	q.Within.From, q.Within.To = from, to
	got, err := desk.Ask(ctx, q)
	if err != nil {
		return f, err
	}
	var body struct{ Rows []row }
	if err := json.Unmarshal(got.Body, &body); err != nil {
		return f, fmt.Errorf("figures: %w", err)
	}
	if len(body.Rows) > j.MaxSeries || got.Truncated {
		return f, fmt.Errorf("more than max_series (%d) series: narrow the job, or make several of it", j.MaxSeries)
	}
	hours := int(to.Sub(from) / time.Hour)
	for _, r := range body.Rows {
		key := Key{r.entity, r.metric}
		if frame.CheckID("entity", []byte(key.Entity)) != nil || key.Metric == "" || len(key.Metric) > maxMetric {
			f.Invalid++
			f.Example = fmt.Sprintf("%.100q of %.100q", key.Metric, key.Entity)
			continue
		}
		s := usage.Series{Start: from, Values: make([]float64, hours)}
		for i := range s.Values {
			s.Values[i] = math.NaN()
		}
		for _, p := range r.points {
			i := int(p[0])
			if i < 0 || i >= hours {
				continue
			}
			if !math.IsNaN(s.Values[i]) {
				return f, fmt.Errorf("%q of %q has two values for the hour %s: the query must give one", key.Metric, key.Entity, from.Add(time.Duration(i)*time.Hour).Format(time.RFC3339))
			}
			s.Values[i] = p[1]
		}
		f.Series[key] = s
	}
	if j.ZeroGaps {
		f.zero()
	}
	return f, nil
}

// zero fills hours without a figure with zeros, from a series' first figure on, where some other series has one: so an hour that the lake lacks as a whole stays unknown.
func (f Figures) zero() {
	hours := int(f.To.Sub(f.From) / time.Hour)
	alive := make([]bool, hours)
	for _, s := range f.Series {
		for i, v := range s.Values {
			alive[i] = alive[i] || !math.IsNaN(v)
		}
	}
	for _, s := range f.Series {
		begun := false
		for i, v := range s.Values {
			begun = begun || !math.IsNaN(v)
			if begun && alive[i] && math.IsNaN(v) {
				s.Values[i] = 0
			}
		}
	}
}

// row of the answer: entity, metric, [[hour, value], ...].
type row struct {
	entity, metric string
	points         [][2]float64
}

func (r *row) UnmarshalJSON(b []byte) error {
	fields := []any{&r.entity, &r.metric, &r.points}
	return json.Unmarshal(b, &fields)
}

// query asks for a row of each series. It goes through the guard like anybody's, so what a job's own text closes or begins changes nothing.
func (j *Job) query(who Asks, from, to time.Time) string {
	where := fmt.Sprintf("figure IS NOT NULL AND isfinite(figure) AND hour_number >= 0 AND hour_number < %d", int(to.Sub(from)/time.Hour))
	if who.Entity != "" {
		where += " AND entity = " + quote(who.Entity)
	}
	if who.Metric != "" {
		where += " AND metric = " + quote(who.Metric)
	}
	return fmt.Sprintf(`SELECT entity, metric, list([hour_number::DOUBLE, figure]) AS points FROM (
SELECT entity::VARCHAR AS entity, metric::VARCHAR AS metric, (epoch_us(hour::TIMESTAMPTZ) - %d) // 3600000000 AS hour_number, value::DOUBLE AS figure FROM (
%s
)) WHERE %s GROUP BY entity, metric`, from.UnixMicro(), j.text(), where)
}

func (j *Job) text() string {
	if j.Source == SQL {
		return strings.TrimRight(strings.TrimSpace(j.SQL), ";")
	}
	table, figures, where := "readings", map[string]string{SensorMean: "avg(value)", SensorSum: "sum(value)", SensorCount: "count(*)"}, []string{"value IS NOT NULL", "validity = 'good'"}
	if j.Rollup {
		table, figures, where = "readings_1h", map[string]string{SensorMean: `sum("sum") / sum("count")`, SensorSum: `sum("sum")`, SensorCount: `sum("count")`}, nil
	}
	if len(j.Entities) > 0 {
		var either []string
		for _, e := range j.Entities {
			if prefix, ok := strings.CutSuffix(e, "*"); ok {
				either = append(either, "starts_with(equipment_id, "+quote(prefix)+")")
			} else {
				either = append(either, "equipment_id = "+quote(e))
			}
		}
		where = append(where, "("+strings.Join(either, " OR ")+")")
	}
	if len(j.Metrics) > 0 {
		names := make([]string, len(j.Metrics))
		for i, m := range j.Metrics {
			names[i] = quote(m)
		}
		where = append(where, "sensor IN ("+strings.Join(names, ", ")+")")
	}
	q := fmt.Sprintf("SELECT equipment_id AS entity, sensor AS metric, date_trunc('hour', ts) AS hour, %s AS value FROM %s", figures[j.Source], table)
	if len(where) > 0 {
		q += " WHERE " + strings.Join(where, " AND ")
	}
	return q + " GROUP BY ALL"
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
