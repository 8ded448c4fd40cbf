// Package catalog knows the lake's tables: their columns, the files that count now, and where those can be read.
package catalog

import "github.com/tocsin-io/tocsin/services/historical-api/internal/worker"

// Table of the lake. docs/LAKE.md says what its columns mean.
type Table struct {
	Name    string          `json:"name"`
	About   string          `json:"about"`
	Time    string          `json:"time"` // column of event time
	Columns []worker.Column `json:"columns"`
}

const contributions = "STRUCT(sensor VARCHAR, share DOUBLE, observed DOUBLE, expected_low DOUBLE, expected_high DOUBLE, detector VARCHAR, statistic VARCHAR)[]"

// Tables are all there are.
func Tables() []Table {
	return []Table{
		{"readings", "one value of one sensor", "ts", columns(
			"equipment_id", "VARCHAR", "ts", "TIMESTAMPTZ", "sensor", "VARCHAR", "value", "FLOAT", "quality", "VARCHAR", "validity", "VARCHAR",
			"disposition", "VARCHAR", "late", "BOOLEAN", "gateway_id", "VARCHAR", "sequence", "BIGINT", "sample", "INTEGER", "log_append_time", "TIMESTAMPTZ",
			"partition", "INTEGER", "offset", "BIGINT")},
		{"readings_1m", "count, sum, least and greatest of one sensor's good values in a minute; late values make another row: add up", "ts", rollup()},
		{"readings_1h", "the same of an hour", "ts", rollup()},
		{"windows", "one sensor's statistics of one window of a machine; of several revisions of a window_id the highest stands", "window_start", columns(
			"equipment_id", "VARCHAR", "window_start", "TIMESTAMPTZ", "sensor", "VARCHAR", "revision", "INTEGER", "window_end", "TIMESTAMPTZ", "window_id", "VARCHAR",
			"count", "BIGINT", "unusable", "BIGINT", "mean", "DOUBLE", "stddev", "DOUBLE", "min", "DOUBLE", "max", "DOUBLE", "last", "DOUBLE", "score", "DOUBLE",
			"expected_low", "DOUBLE", "expected_high", "DOUBLE", "machine_score", "DOUBLE", "learning", "BOOLEAN", "closed_at", "TIMESTAMPTZ",
			"log_append_time", "TIMESTAMPTZ", "offset", "BIGINT")},
		{"anomalies", "one report of an episode", "observed_at", columns(
			"equipment_id", "VARCHAR", "observed_at", "TIMESTAMPTZ", "anomaly_id", "VARCHAR", "episode_id", "VARCHAR", "cause", "VARCHAR", "phase", "VARCHAR",
			"severity", "VARCHAR", "score", "DOUBLE", "confidence", "DOUBLE", "started_at", "TIMESTAMPTZ", "judged_at", "TIMESTAMPTZ", "gateway_id", "VARCHAR",
			"summary", "VARCHAR", "contributions", contributions, "log_append_time", "TIMESTAMPTZ", "offset", "BIGINT")},
		{"alerts", "one transition of an alert", "at", columns(
			"equipment_id", "VARCHAR", "at", "TIMESTAMPTZ", "event_id", "VARCHAR", "alert_id", "VARCHAR", "cause", "VARCHAR", "transition", "VARCHAR",
			"severity", "VARCHAR", "score", "DOUBLE", "started_at", "TIMESTAMPTZ", "ended_at", "TIMESTAMPTZ", "summary", "VARCHAR", "labels", "VARCHAR",
			"annotations", "VARCHAR", "contributions", contributions, "log_append_time", "TIMESTAMPTZ", "offset", "BIGINT")},
		{"findings", "what scheduled checks, and whoever looks for causes, have concluded; of several revisions of a finding_id the highest stands", "began_at", columns(
			"equipment_id", "VARCHAR", "began_at", "TIMESTAMPTZ", "finding_id", "VARCHAR", "revision", "INTEGER", "kind", "VARCHAR", "severity", "VARCHAR",
			"confidence", "DOUBLE", "ended_at", "TIMESTAMPTZ", "is_over", "BOOLEAN", "metrics", "VARCHAR[]", "summary", "VARCHAR", "explanation", "VARCHAR",
			"contributions", contributions, "alert_ids", "VARCHAR[]", "window_ids", "VARCHAR[]", "query", "VARCHAR", "producer", "VARCHAR", "producer_version", "VARCHAR",
			"dedup_key", "VARCHAR", "concluded_at", "TIMESTAMPTZ", "log_append_time", "TIMESTAMPTZ", "offset", "BIGINT")},
	}
}

func rollup() []worker.Column {
	return columns("equipment_id", "VARCHAR", "sensor", "VARCHAR", "ts", "TIMESTAMPTZ", "count", "BIGINT", "sum", "DOUBLE", "min", "FLOAT", "max", "FLOAT")
}

// columns makes them of names and types in turn, and adds the folders'.
func columns(pairs ...string) []worker.Column {
	var out []worker.Column
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, worker.Column{Name: pairs[i], Type: pairs[i+1]})
	}
	return append(out, worker.Column{Name: "date", Type: "DATE"}, worker.Column{Name: "hour", Type: "BIGINT"})
}

// Names of the tables.
func Names() []string {
	var out []string
	for _, t := range Tables() {
		out = append(out, t.Name)
	}
	return out
}
