//go:build cgo

// Package engine is DuckDB behind the worker's protocol. It is the one package of this module that needs a C compiler.
package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	_ "github.com/duckdb/duckdb-go/v2" // the driver "duckdb"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/answer"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/sqlguard"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

// Engine is one database in memory, for one query. Not safe for concurrent use.
type Engine struct {
	db   *sql.DB
	conn *sql.Conn // settings are a connection's, so there is one
}

// Open opens it.
func Open(ctx context.Context) (*Engine, error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return nil, fmt.Errorf("duckdb: %w", err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("duckdb: %w", err), db.Close())
	}
	e := &Engine{db, conn}
	for _, s := range []string{
		"SET TimeZone = 'UTC'", "SET autoinstall_known_extensions = false", "SET autoload_known_extensions = false", "SET allow_community_extensions = false",
		"SET temp_directory = ''", "SET max_temp_directory_size = '0B'", // nothing is spilled: what does not fit is refused
		"SET errors_as_json = false", "SET enable_progress_bar = false",
	} {
		if err := e.exec(ctx, s); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	return e, nil
}

// Close releases the database.
func (e *Engine) Close() error { return errors.Join(e.conn.Close(), e.db.Close()) }

func (e *Engine) exec(ctx context.Context, q string) error {
	if _, err := e.conn.ExecContext(ctx, q); err != nil {
		return fmt.Errorf("duckdb: %.60s: %w", q, err)
	}
	return nil
}

// Tables implements worker.Engine.
func (e *Engine) Tables(ctx context.Context, ask worker.Ask) ([]string, error) {
	for _, s := range []string{fmt.Sprintf("SET memory_limit = '%dB'", ask.Limits.Memory), fmt.Sprintf("SET threads = %d", ask.Limits.Threads)} {
		if err := e.exec(ctx, s); err != nil {
			return nil, err
		}
	}
	if ask.Trusted {
		return ask.Tables, nil
	}
	var tree string
	if err := e.conn.QueryRowContext(ctx, "SELECT json_serialize_sql(?::VARCHAR)::VARCHAR", ask.SQL).Scan(&tree); err != nil {
		return nil, classify(err, "")
	}
	tables, err := sqlguard.New(ask.Tables).Check([]byte(tree))
	var refusal *sqlguard.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Wrong:
		return nil, &worker.Error{Kind: worker.Invalid, Reason: refusal.Reason}
	case errors.As(err, &refusal):
		return nil, &worker.Error{Kind: worker.Refused, Reason: refusal.Reason}
	}
	return tables, err
}

// Run implements worker.Engine.
func (e *Engine) Run(ctx context.Context, ask worker.Ask, files worker.Files, out io.Writer) (worker.End, error) {
	end, err := e.run(ctx, ask, files, out, false)
	// A column was added at some time: older files lack it. Reading every footer to find that out beforehand would cost more than to begin again; nothing has been written.
	if err != nil && strings.Contains(err.Error(), "union_by_name") {
		var fresh *Engine
		if fresh, err = Open(ctx); err != nil {
			return end, err
		}
		defer func() { _ = fresh.Close() }()
		if _, err = fresh.Tables(ctx, worker.Ask{Trusted: true, Limits: ask.Limits}); err != nil {
			return end, err
		}
		end, err = fresh.run(ctx, ask, files, out, true)
	}
	return end, classify(err, files.Root)
}

func (e *Engine) run(ctx context.Context, ask worker.Ask, files worker.Files, out io.Writer, byName bool) (worker.End, error) {
	var end worker.End
	for name, t := range files.Tables {
		if err := e.bind(ctx, name, t, files, ask, byName); err != nil {
			return end, err
		}
	}
	if err := e.lock(ctx, files.Root); err != nil {
		return end, err
	}
	query, args := ask.SQL, make([]any, len(ask.Args))
	for i, a := range ask.Args {
		args[i] = a
	}
	if !ask.Trusted {
		// A view takes one query and nothing else, whatever its text ends with.
		if err := e.exec(ctx, "CREATE TEMP VIEW tocsin_query AS "+ask.SQL); err != nil {
			return end, unwrapView(err)
		}
		query = fmt.Sprintf("SELECT * FROM temp.tocsin_query LIMIT %d", ask.Limits.Rows+1)
	}
	rows, err := e.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return end, err
	}
	defer rows.Close()
	end, err = answer.Encode(rows, ask.Format, ask.Limits, out)
	return end, errors.Join(err, rows.Err())
}

// lock takes from the engine what the query does not need: files but those below root, settings, extensions.
func (e *Engine) lock(ctx context.Context, root string) error {
	statements := []string{"SET enable_external_access = false", "SET lock_configuration = true"}
	if root != "" {
		statements = slices.Insert(statements, 0, "SET allowed_directories = ["+quote(strings.TrimSuffix(root, "/")+"/")+"]")
	}
	for _, s := range statements {
		if err := e.exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// bind makes the view that the table is seen through.
func (e *Engine) bind(ctx context.Context, name string, t worker.Table, files worker.Files, ask worker.Ask, byName bool) error {
	if len(t.Files) == 0 {
		columns := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			columns[i] = ident(c.Name) + " " + c.Type
		}
		return e.exec(ctx, fmt.Sprintf("CREATE TABLE %s (%s)", ident(name), strings.Join(columns, ", ")))
	}
	source := fmt.Sprintf("read_parquet([%s], hive_partitioning = true, union_by_name = %t)", quoteAll(t.Files), byName)
	selected, where := "*", []string{}
	switch {
	case ask.Filter.All:
	case ask.Trusted: // our own conditions tell nothing
		where = append(where, condition(ask.Filter))
	default:
		columns, err := e.columns(ctx, source)
		if err != nil {
			return err
		}
		allowed := condition(ask.Filter)
		masked := make([]string, len(columns))
		for i, c := range columns {
			// The engine may ask a query's own conditions before it asks ours, and what a condition does (fail, for one) tells what it saw. So it sees nothing of a row
			// that is not for the caller. Folders are the same for all.
			if masked[i] = ident(c); c != "date" && c != "hour" {
				masked[i] = fmt.Sprintf("CASE WHEN %s THEN %s END AS %s", allowed, ident(c), ident(c))
			}
		}
		selected = strings.Join(masked, ", ")
		where = append(where, allowed)
	}
	if t.Time != "" && files.FromUS != 0 {
		where = append(where, fmt.Sprintf("%s >= make_timestamptz(%d)", ident(t.Time), files.FromUS))
	}
	if t.Time != "" && files.ToUS != 0 {
		where = append(where, fmt.Sprintf("%s < make_timestamptz(%d)", ident(t.Time), files.ToUS))
	}
	if len(files.Machines) > 0 {
		where = append(where, "equipment_id IN ("+quoteAll(files.Machines)+")")
	}
	q := fmt.Sprintf("CREATE VIEW %s AS SELECT %s FROM %s", ident(name), selected, source)
	if len(where) > 0 {
		q += " WHERE " + strings.Join(where, " AND ")
	}
	return e.exec(ctx, q)
}

func (e *Engine) columns(ctx context.Context, source string) ([]string, error) {
	q := fmt.Sprintf("FROM %s LIMIT 0", source) //nolint:gosec // source is made of quoted names of files
	rows, err := e.conn.QueryContext(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("duckdb: %w", err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	return columns, errors.Join(err, rows.Err())
}

// condition is the filter in SQL; one that lets nothing through is false.
func condition(f worker.Filter) string {
	var either []string
	if len(f.Exact) > 0 {
		either = append(either, "equipment_id IN ("+quoteAll(f.Exact)+")")
	}
	for _, p := range f.Prefixes {
		either = append(either, "starts_with(equipment_id, "+quote(p)+")")
	}
	if len(either) == 0 {
		return "(false)"
	}
	return "(" + strings.Join(either, " OR ") + ")"
}

func ident(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func quoteAll(list []string) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(s))
	}
	return b.String()
}
