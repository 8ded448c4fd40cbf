package coldpathwriter

import (
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/consume"
)

var tableNames = []string{"readings", "windows", "anomalies", "alerts", "findings"}

// meter counts what the writer does. It implements consume.Observer.
type meter struct{ set *metrics.Set }

func newMeter(set *metrics.Set) *meter {
	m := &meter{set: set}
	for _, t := range tableNames { // so that they are there, as 0, before the first event
		for _, metric := range []string{"rows", "bytes", "files", "files_found", "dead_letters", "lost_records"} {
			m.count("tocsin_lake_"+metric+"_total", "table", t, 0)
		}
	}
	return m
}

func (m *meter) count(metric, label, value string, n int64) {
	m.set.GetOrCreateCounter(fmt.Sprintf("%s{%s=%q}", metric, label, value)).AddInt64(n)
}

// gauges shows the state of g.
func (m *meter) gauges(g *consume.Group) {
	for _, t := range tableNames {
		m.set.GetOrCreateGauge(fmt.Sprintf("tocsin_lake_lag_seconds{table=%q}", t), func() float64 { return g.Lag(t).Seconds() })
	}
	m.set.GetOrCreateGauge("tocsin_lake_held_bytes", func() float64 { return float64(g.Held()) })
}

// Put implements commit.Observer.
func (m *meter) Put(table string, took time.Duration, err error) {
	m.set.GetOrCreateHistogram(fmt.Sprintf("tocsin_lake_put_duration_seconds{table=%q}", table)).Update(took.Seconds())
	if err != nil {
		m.count("tocsin_lake_retries_total", "reason", objstore.Reason(err), 1)
	}
}

// File implements consume.Observer.
func (m *meter) File(table string, rows, bytes int64, isNew bool) {
	m.count("tocsin_lake_rows_total", "table", table, rows)
	m.count("tocsin_lake_bytes_total", "table", table, bytes)
	if isNew {
		m.count("tocsin_lake_files_total", "table", table, 1)
	} else {
		m.count("tocsin_lake_files_found_total", "table", table, 1)
	}
}

// DeadLetter implements consume.Observer.
func (m *meter) DeadLetter(table string) {
	m.count("tocsin_lake_dead_letters_total", "table", table, 1)
}

// Lost implements consume.Observer.
func (m *meter) Lost(table string, records int64) {
	m.count("tocsin_lake_lost_records_total", "table", table, records)
}

// Retry implements consume.Observer.
func (m *meter) Retry(what string) { m.count("tocsin_lake_retries_total", "reason", what, 1) }
