package checkstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/sqlstore"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// States of a finding's alert.
const (
	NoAlert    = ""
	AlertOpen  = "open"
	AlertEnded = "ended"
)

// Finding is one as it is kept.
type Finding struct {
	ID     string `json:"id"` // "<entity>/<cause>/<microseconds of its beginning>": the alert's, where there is one
	Job    string `json:"job"`
	Entity string `json:"entity"`
	Metric string `json:"metric"`
	usage.Finding
	Found   time.Time `json:"found_at"` // the slot that found it
	Summary string    `json:"summary"`
	Alert   string    `json:"alert,omitempty"`
	Alerted time.Time `json:"alerted_at,omitzero"`
	// Over: the hours after it are as usual.
	Over bool `json:"over"`
	// Revision counts how often it was said in the lake's table.
	Revision int32 `json:"revision,omitempty"`
}

// Record waits to be published.
type Record struct {
	Seq    int64
	Kind   string
	Entity string
	Name   string // of an Anomaly its id, of a Finding "<id>/<revision>"
	Body   []byte
}

// Kinds of records.
const (
	AlertRecord   = "alert"   // an Anomaly
	FindingRecord = "finding" // a Finding
)

const findingColumns = `id, job, entity, metric, kind, severity, from_ms, to_ms, found_ms, alert, alerted_ms, is_over, body`

// SaveSlot writes what a slot has brought, all of it or nothing: the job, its findings, and what is to be published, in its order.
func (s *Store) SaveSlot(ctx context.Context, token int64, j Job, findings []Finding, records []Record) error {
	return s.as(ctx, token, func(tx *sql.Tx) error {
		if err := s.saveFindings(ctx, tx, findings, records); err != nil {
			return err
		}
		return s.saveJob(ctx, tx, j)
	})
}

// SaveFindings writes findings whose alerts have changed, with what is to be published of it.
func (s *Store) SaveFindings(ctx context.Context, token int64, findings []Finding, records []Record) error {
	return s.as(ctx, token, func(tx *sql.Tx) error { return s.saveFindings(ctx, tx, findings, records) })
}

func (s *Store) saveFindings(ctx context.Context, tx *sql.Tx, findings []Finding, records []Record) error {
	for _, f := range findings {
		body, err := json.Marshal(f)
		if err != nil {
			return err
		}
		over := 0
		if f.Over {
			over = 1
		}
		if _, err := tx.ExecContext(ctx, s.db.Bind(`INSERT INTO check_findings (`+findingColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
 ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, from_ms = excluded.from_ms, to_ms = excluded.to_ms, alert = excluded.alert, alerted_ms = excluded.alerted_ms,
 is_over = excluded.is_over, body = excluded.body`),
			f.ID, f.Job, f.Entity, f.Metric, f.Kind, f.Severity, f.From.UnixMilli(), f.To.UnixMilli(), millis(f.Found), f.Alert, millis(f.Alerted), over, string(body)); err != nil {
			return err
		}
	}
	if len(records) == 0 {
		return nil
	}
	var seq int64
	if err := tx.QueryRowContext(ctx, s.db.Bind(`UPDATE check_store SET next_seq = next_seq + $1 WHERE id = 1 RETURNING next_seq - $1`), len(records)).Scan(&seq); err != nil {
		return err
	}
	for i, r := range records {
		if _, err := tx.ExecContext(ctx, s.db.Bind(`INSERT INTO check_outbox (seq, kind, entity, name, body) VALUES ($1, $2, $3, $4, $5)`), seq+int64(i), r.Kind, r.Entity, r.Name, r.Body); err != nil {
			return err
		}
	}
	return nil
}

// Recent are a job's findings that reach to since or later, and those whose alerts are open, in the order of their beginnings.
func (s *Store) Recent(ctx context.Context, job string, since time.Time) ([]Finding, error) {
	return s.findings(ctx, `SELECT body FROM check_findings WHERE job = $1 AND (to_ms >= $2 OR alert = 'open') ORDER BY from_ms, id`, job, since.UnixMilli())
}

// Open are the findings whose alerts are open, in the order of their beginnings.
func (s *Store) Open(ctx context.Context) ([]Finding, error) {
	return s.findings(ctx, `SELECT body FROM check_findings WHERE alert = 'open' ORDER BY from_ms, id`)
}

func (s *Store) findings(ctx context.Context, q string, args ...any) ([]Finding, error) {
	var out []Finding
	err := sqlstore.Each(ctx, s.db, s.db.Bind(q), args, func(r *sql.Rows) error {
		var body string
		if err := r.Scan(&body); err != nil {
			return err
		}
		var f Finding
		if err := json.Unmarshal([]byte(body), &f); err != nil {
			return err
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("checks' store: %w", err)
	}
	return out, nil
}

// Wanted says which findings are asked for. Empty fields ask for all.
type Wanted struct {
	Job, Entity, Metric, Kind, Severity string
	From, To                            time.Time // that reach into [From, To)
	// Exact and Prefixes are the entities that may be seen, unless Every.
	Every           bool
	Exact, Prefixes []string
	// Before is the last one of the page before.
	BeforeMS int64
	BeforeID string
	Limit    int
}

// Find gives a page, the latest beginnings first.
func (s *Store) Find(ctx context.Context, w Wanted) ([]Finding, error) {
	q := strings.Builder{}
	q.WriteString(`SELECT body FROM check_findings WHERE 1 = 1`)
	var args []any
	arg := func(v any) string { args = append(args, v); return fmt.Sprintf("$%d", len(args)) }
	for column, v := range map[string]string{"job": w.Job, "entity": w.Entity, "metric": w.Metric, "kind": w.Kind, "severity": w.Severity} {
		if v != "" {
			fmt.Fprintf(&q, " AND %s = %s", column, arg(v))
		}
	}
	if !w.From.IsZero() {
		q.WriteString(" AND to_ms > " + arg(w.From.UnixMilli()))
	}
	if !w.To.IsZero() {
		q.WriteString(" AND from_ms < " + arg(w.To.UnixMilli()))
	}
	if !w.Every {
		either := []string{"1 = 0"}
		for _, e := range w.Exact {
			either = append(either, "entity = "+arg(e))
		}
		for _, p := range w.Prefixes {
			a := arg(p)
			either = append(either, fmt.Sprintf("substr(entity, 1, length(%s)) = %s", a, a))
		}
		fmt.Fprintf(&q, " AND (%s)", strings.Join(either, " OR "))
	}
	if w.BeforeID != "" {
		ms := arg(w.BeforeMS)
		fmt.Fprintf(&q, " AND (from_ms < %s OR from_ms = %s AND id < %s)", ms, ms, arg(w.BeforeID))
	}
	fmt.Fprintf(&q, " ORDER BY from_ms DESC, id DESC LIMIT %d", w.Limit)
	return s.findings(ctx, q.String(), args...)
}

// Forget removes findings that ended before the given time and have no open alert; it gives their number.
func (s *Store) Forget(ctx context.Context, token int64, before time.Time) (n int64, err error) {
	err = s.as(ctx, token, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, s.db.Bind(`DELETE FROM check_findings WHERE to_ms < $1 AND alert <> 'open'`), before.UnixMilli())
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}
