package checkstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/pkg/sqlstore"
)

// Job is how far a job has come. Times that are not known are zero.
type Job struct {
	Name string
	// Begun: what ended before is nobody's news.
	Begun time.Time
	// Done is the last slot that was run or skipped; Judged: hours before it have been judged.
	Done, Judged time.Time
	Skipped      int64 // slots that were too long ago to be caught up
	Started      time.Time
	Finished     time.Time
	OK           time.Time // end of the last run that went well
	Failures     int64     // in a row
	Problem      string
	Summary      Summary // of the last run that went well
}

// Summary of one run.
type Summary struct {
	Slot     time.Time `json:"slot"`
	From     time.Time `json:"from"` // hours of [from, to)
	To       time.Time `json:"to"`
	Series   int       `json:"series"`
	Judged   int       `json:"judged"`             // hours
	Missing  int       `json:"missing"`            // hours without a figure
	Short    int       `json:"not_enough_history"` // hours with one
	Off      int       `json:"off"`                // hours of days that are not judged
	Invalid  int       `json:"invalid"`            // series whose entity or metric has no usable name
	Findings int       `json:"findings"`
	Critical int       `json:"critical"`
	Note     string    `json:"note,omitempty"`
}

const jobColumns = `name, begun_ms, done_ms, judged_ms, skipped, started_ms, finished_ms, ok_ms, failures, problem, summary`

// Jobs are all that have ever run, by name.
func (s *Store) Jobs(ctx context.Context) (map[string]Job, error) {
	out := map[string]Job{}
	err := sqlstore.Each(ctx, s.db, `SELECT `+jobColumns+` FROM check_jobs`, nil, func(r *sql.Rows) error {
		j, err := scanJob(r)
		out[j.Name] = j
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("checks' store: %w", err)
	}
	return out, nil
}

// Job is how far one has come; ok is false when it has never been heard of.
func (s *Store) Job(ctx context.Context, name string) (j Job, ok bool, err error) {
	j, err = scanJob(s.db.QueryRowContext(ctx, s.db.Bind(`SELECT `+jobColumns+` FROM check_jobs WHERE name = $1`), name))
	if errors.Is(err, sql.ErrNoRows) {
		return Job{Name: name}, false, nil
	}
	if err != nil {
		return j, false, fmt.Errorf("checks' store: %w", err)
	}
	return j, true, nil
}

func scanJob(row interface{ Scan(...any) error }) (Job, error) {
	var j Job
	var begun, done, judged, started, finished, ok int64
	var summary string
	if err := row.Scan(&j.Name, &begun, &done, &judged, &j.Skipped, &started, &finished, &ok, &j.Failures, &j.Problem, &summary); err != nil {
		return j, err
	}
	j.Begun, j.Done, j.Judged, j.Started, j.Finished, j.OK = moment(begun), moment(done), moment(judged), moment(started), moment(finished), moment(ok)
	return j, json.Unmarshal([]byte(summary), &j.Summary)
}

// SaveJob writes how far a job has come, without findings: a first sight, slots that are skipped, a failure.
func (s *Store) SaveJob(ctx context.Context, token int64, j Job) error {
	return s.as(ctx, token, func(tx *sql.Tx) error { return s.saveJob(ctx, tx, j) })
}

func (s *Store) saveJob(ctx context.Context, tx *sql.Tx, j Job) error {
	summary, err := json.Marshal(j.Summary)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, s.db.Bind(`INSERT INTO check_jobs (`+jobColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
 ON CONFLICT (name) DO UPDATE SET done_ms = excluded.done_ms, judged_ms = excluded.judged_ms, skipped = excluded.skipped, started_ms = excluded.started_ms,
 finished_ms = excluded.finished_ms, ok_ms = excluded.ok_ms, failures = excluded.failures, problem = excluded.problem, summary = excluded.summary`),
		j.Name, millis(j.Begun), millis(j.Done), millis(j.Judged), j.Skipped, millis(j.Started), millis(j.Finished), millis(j.OK), j.Failures, j.Problem, string(summary))
	return err
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
