//go:build cgo

package e2e

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	_ "github.com/duckdb/duckdb-go/v2" // an engine of its own reads what Tocsin wrote
)

// lake asks DuckDB about the Parquet files below a directory.
type lake struct {
	db  *sql.DB
	dir string
}

func openLake(t testing.TB, dir string) *lake {
	t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &lake{db, dir}
}

// table is the table function that reads all files of a table.
func (l *lake) table(name string) string {
	return "read_parquet('" + filepath.Join(l.dir, "tocsin", name, "**", "*.parquet") + "')"
}

// empty tells whether the table has no file yet.
func (l *lake) empty(name string) bool {
	var n int
	err := l.db.QueryRow("select count(*) from glob('" + filepath.Join(l.dir, "tocsin", name, "**", "*.parquet") + "')").Scan(&n)
	return err != nil || n == 0
}

type readings struct {
	rows, distinct, machines int64
	sum                      float64
}

// readings counts the rows of the readings table, how many of them are distinct samples, and adds up their values.
func (l *lake) readings(t testing.TB, where string) readings {
	t.Helper()
	var r readings
	if l.empty("readings") {
		return r
	}
	err := l.db.QueryRow(`select count(*), count(distinct (equipment_id, gateway_id, sequence, sensor, ts)), count(distinct equipment_id),
		coalesce(sum(value::double), 0) from `+l.table("readings")+` where `+where).Scan(&r.rows, &r.distinct, &r.machines, &r.sum)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
	return r
}
