package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/answer"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/query"
)

// Questions that many ask. They are queries of our own over views that hold the asker's machines only; values are arguments, never part of the text.

const (
	maxPoints   = 20_000
	maxMachines = 200
	defaultSpan = 24 * time.Hour
)

// parameters are a request's, read strictly: one that is unknown is an error, not a silent difference.
type parameters struct {
	values url.Values
	err    error
}

func read(r *http.Request, known ...string) *parameters {
	p := &parameters{values: r.URL.Query()}
	for name, vs := range p.values {
		switch {
		case !slices.Contains(known, name):
			p.fail(name, "unknown; there are %s", strings.Join(known, ", "))
		case len(vs) > 1:
			p.fail(name, "given twice")
		}
	}
	return p
}

func (p *parameters) fail(field, format string, args ...any) {
	if p.err == nil {
		p.err = badField(field, format, args...)
	}
}

// sensor is the name of one, as gateways take them.
func (p *parameters) sensor() string {
	s := p.values.Get("sensor")
	if s == "" || len(s) > 128 {
		p.fail("sensor", "missing, or longer than 128 bytes")
	}
	return s
}

// machines are ids with commas between them; the asker must be allowed to see all.
func (p *parameters) machines(see auth.Equipment, most int) []string {
	ids := strings.Split(p.values.Get("equipment_id"), ",")
	if len(ids) > most {
		p.fail("equipment_id", "%d machines, at most %d", len(ids), most)
		return nil
	}
	for _, id := range ids {
		if frame.CheckID("equipment_id", []byte(id)) != nil {
			p.fail("equipment_id", "%q is not a machine's id", id)
		} else if !see.Has(id) {
			p.fail("equipment_id", "no machine %q", id) // as one that there is not
		}
	}
	return ids
}

func (p *parameters) number(field string, fallback, least, most int) int {
	s := p.values.Get(field)
	if s == "" {
		return fallback
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		p.fail(field, "%q is not in %d..%d", s, least, most)
	}
	return n
}

func (p *parameters) choice(field, fallback string, others ...string) string {
	s := p.values.Get(field)
	if s == "" {
		return fallback
	}
	if s != fallback && !slices.Contains(others, s) {
		p.fail(field, "%q is not one of %s", s, strings.Join(append([]string{fallback}, others...), ", "))
	}
	return s
}

// question has the times, the last day by default, and the format.
func (p *parameters) question(a *API, r *http.Request, who Identity, tables ...string) query.Question {
	q := query.Question{Who: who.Name, See: who.See, Tables: tables, Format: p.choice("format", accepted(r.Header.Get("Accept")), answer.JSON, answer.CSV, answer.Arrow)}
	within, err := between(p.values.Get("from"), p.values.Get("to"))
	if err != nil && p.err == nil {
		p.err = err
	}
	if within.To.IsZero() {
		within.To = a.now().UTC().Truncate(time.Second)
	}
	if within.From.IsZero() {
		within.From = within.To.Add(-defaultSpan)
	}
	if !within.From.Before(within.To) {
		p.fail("from", "must be before to, which is now by default")
	}
	q.Within = within
	return q
}

// good are the values that count; quality=all takes every one there is.
func (p *parameters) good() string {
	if p.choice("quality", "good", "all") == "all" {
		return "value IS NOT NULL"
	}
	return "value IS NOT NULL AND validity = 'good'"
}

// series is one sensor of one machine for a chart. m4 gives of each of points/4 slices of time the first, last, least and greatest value: drawn as a line on so many pixels it cannot be told
// from all values (Jugel et al., VLDB 2014). mean gives each slice's statistics; where a slice is at least ten times as long as a rollup's step it adds up the rollup's rows, and the values that are not in it yet.
func (a *API) series(w http.ResponseWriter, r *http.Request, who Identity) error {
	p := read(r, "equipment_id", "sensor", "from", "to", "points", "method", "quality", "resolution", "format")
	machine, sensor, points, method, good := p.machines(who.See, 1), p.sensor(), p.number("points", 1000, 4, maxPoints), p.choice("method", "m4", "mean"), p.good()
	rollups := p.choice("resolution", "auto", "raw") == "auto" && method == "mean" && p.values.Get("quality") != "all"
	q := p.question(a, r, who, "readings")
	if p.err != nil {
		return p.err
	}
	parts := points
	if method == "m4" {
		parts = points / 4
	}
	from, to := q.Within.From.UnixMicro(), q.Within.To.UnixMicro()
	q.Args, q.Within.Machines = []string{machine[0], sensor}, machine
	rows := fmt.Sprintf(`WITH rows AS (SELECT ts, value, (epoch_us(ts) - %d)::HUGEINT * %d // %d AS slice FROM readings WHERE equipment_id = ? AND sensor = ? AND %s)`, from, parts, to-from, good)
	if method == "m4" {
		q.SQL = rows + `, slices AS (SELECT min(ts) AS t1, arg_min(value, ts) AS v1, max(ts) AS t2, arg_max(value, ts) AS v2,
				arg_min(ts, value) AS t3, min(value) AS v3, arg_max(ts, value) AS t4, max(value) AS v4 FROM rows GROUP BY slice)
			SELECT DISTINCT ts, value FROM (SELECT t1 AS ts, v1 AS value FROM slices UNION ALL SELECT t2, v2 FROM slices UNION ALL SELECT t3, v3 FROM slices UNION ALL SELECT t4, v4 FROM slices)
			ORDER BY ts, value`
	} else if table := rollupFor(time.Duration(to-from) * time.Microsecond / time.Duration(parts)); rollups && table != "" {
		q.Tables, q.Within.Rollup, q.Args = []string{"readings", table}, table, append(q.Args, q.Args...)
		q.SQL = fmt.Sprintf(`WITH rows AS (SELECT ts, 1 AS n, value::DOUBLE AS s, value AS low, value AS high FROM readings WHERE equipment_id = ? AND sensor = ? AND %s
				UNION ALL SELECT ts, "count", "sum", "min", "max" FROM %s WHERE equipment_id = ? AND sensor = ?),
			slices AS (SELECT *, (epoch_us(ts) - %d)::HUGEINT * %d // %d AS slice FROM rows)
			SELECT make_timestamptz((%d + slice * %d // %d)::BIGINT) AS ts, sum(n)::BIGINT AS count, min(low) AS min, max(high) AS max, sum(s) / sum(n) AS mean FROM slices GROUP BY slice ORDER BY slice`,
			good, table, from, parts, to-from, from, to-from, parts)
	} else {
		q.SQL = rows + fmt.Sprintf(` SELECT make_timestamptz((%d + slice * %d // %d)::BIGINT) AS ts, count(*) AS count, min(value) AS min, max(value) AS max, avg(value) AS mean
			FROM rows GROUP BY slice ORDER BY slice`, from, to-from, parts)
	}
	return a.ask(w, r.Context(), q)
}

// rollupFor is the coarsest rollup that is fine enough for slices of that length; "": none.
func rollupFor(slice time.Duration) string {
	switch {
	case slice >= 10*time.Hour:
		return "readings_1h"
	case slice >= 10*time.Minute:
		return "readings_1m"
	}
	return ""
}

// episodes are anomalies, each once, as last reported.
func (a *API) episodes(w http.ResponseWriter, r *http.Request, who Identity) error {
	p := read(r, "equipment_id", "from", "to", "severity", "limit", "format")
	var machines []string
	if p.values.Get("equipment_id") != "" {
		machines = p.machines(who.See, maxMachines)
	}
	severity := p.choice("severity", "", "info", "warning", "critical")
	limit := p.number("limit", 1000, 1, 100_000)
	q := p.question(a, r, who, "anomalies")
	if p.err != nil {
		return p.err
	}
	where := "true"
	if len(machines) > 0 {
		where = "equipment_id IN (" + marks(len(machines)) + ")"
		q.Args = machines
	}
	having := ""
	if severity != "" {
		having = "HAVING list_contains(list(severity), ?)"
		q.Args = append(q.Args, severity)
	}
	q.SQL = fmt.Sprintf(`SELECT episode_id, any_value(equipment_id) AS equipment_id, any_value(cause) AS cause, min(started_at) AS started_at, max(observed_at) AS last_reported_at,
			max(observed_at) FILTER (WHERE phase = 'ended') AS ended_at, arg_max(severity, (observed_at, "offset")) AS severity, max(score) AS score,
			arg_max(summary, (score, observed_at)) AS summary, arg_max(contributions, (score, observed_at)) AS contributions, count(DISTINCT anomaly_id) AS reports
		FROM anomalies WHERE %s GROUP BY episode_id %s ORDER BY started_at DESC, episode_id LIMIT %d`, where, having, limit)
	return a.ask(w, r.Context(), q)
}

// availability says for how much of a time a machine has been judged, and when it was not. What it rests on are the windows that the processor closed.
func (a *API) availability(w http.ResponseWriter, r *http.Request, who Identity) error {
	p := read(r, "equipment_id", "from", "to", "gap", "format")
	machines, gap := p.machines(who.See, maxMachines), p.number("gap", 60, 1, 86400)
	q := p.question(a, r, who, "windows")
	if p.err != nil {
		return p.err
	}
	from, to := q.Within.From.UnixMicro(), q.Within.To.UnixMicro()
	q.Args, q.Within.Machines = slices.Concat(machines, machines), slices.Sorted(slices.Values(machines))
	q.SQL = fmt.Sprintf(`WITH w AS (SELECT DISTINCT equipment_id, window_start AS b, window_end AS e FROM windows WHERE equipment_id IN (%[1]s) AND "count" > 0),
		m AS (SELECT unnest([%[1]s]) AS equipment_id),
		edges AS (SELECT equipment_id, b, e FROM w UNION ALL SELECT equipment_id, make_timestamptz(%[2]d), make_timestamptz(%[2]d) FROM m
			UNION ALL SELECT equipment_id, make_timestamptz(%[3]d), make_timestamptz(%[3]d) FROM m),
		steps AS (SELECT equipment_id, max(e) OVER (PARTITION BY equipment_id ORDER BY b, e ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS since, b AS until FROM edges),
		gaps AS (SELECT equipment_id, since, until, (epoch_us(until) - epoch_us(since)) / 1e6 AS seconds FROM steps WHERE until > since)
		SELECT equipment_id, count(DISTINCT w.b) AS windows, coalesce(1 - any_value(missing) / %[4]f, 1) AS share, any_value(long) AS gaps
		FROM m LEFT JOIN w USING (equipment_id) LEFT JOIN (SELECT equipment_id, sum(seconds) AS missing,
			(list({'from': since, 'to': until, 'seconds': seconds} ORDER BY since) FILTER (WHERE seconds >= %[5]d))[:1000] AS long FROM gaps GROUP BY equipment_id) g USING (equipment_id)
		GROUP BY equipment_id ORDER BY equipment_id`, marks(len(machines)), from, to, float64(to-from)/1e6, gap)
	return a.ask(w, r.Context(), q)
}

// compare holds machines against each other by one sensor. deviation is how far a machine's mean lies from the median of all means, in units of their median absolute deviation scaled to a
// standard deviation (1.4826); null where all are alike.
func (a *API) compare(w http.ResponseWriter, r *http.Request, who Identity) error {
	p := read(r, "equipment_id", "sensor", "from", "to", "quality", "format")
	machines, sensor, good := p.machines(who.See, maxMachines), p.sensor(), p.good()
	q := p.question(a, r, who, "readings")
	if p.err != nil {
		return p.err
	}
	q.Within.Machines = slices.Sorted(slices.Values(machines))
	q.Args = append(machines, sensor)
	q.SQL = fmt.Sprintf(`WITH s AS (SELECT equipment_id, count(*) AS count, avg(value) AS mean, stddev_samp(value) AS stddev, min(value) AS min, max(value) AS max,
			quantile_cont(value, [0.05, 0.5, 0.95]) AS q FROM readings WHERE equipment_id IN (%s) AND sensor = ? AND %s GROUP BY equipment_id),
		c AS (SELECT median(mean) AS centre, mad(mean) AS spread FROM s)
		SELECT equipment_id, count, mean, stddev, min, q[1] AS p05, q[2] AS median, q[3] AS p95, max, (mean - centre) / nullif(1.4826 * spread, 0) AS deviation FROM s, c ORDER BY equipment_id`,
		marks(len(machines)), good)
	return a.ask(w, r.Context(), q)
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
