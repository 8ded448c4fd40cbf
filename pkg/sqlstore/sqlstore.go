// Package sqlstore opens a service's own store: SQLite in a file by default, PostgreSQL where several instances share it. It brings the schema up to date, and refuses one
// that a newer release has made. One set of statements serves both databases.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// Connections that a store opens at most. Writers of SQLite take turns; readers go on beside them.
const (
	postgresConns = 8
	sqliteConns   = 4
)

// ErrNewer: the schema is newer than this program knows. Nothing was changed.
var ErrNewer = errors.New("the schema is newer than this release")

// Options say what a store is.
type Options struct {
	// Name begins each error's text.
	Name string
	// Migrations lie in the root of the file system: 00001_name.sql, in goose's form, for both databases.
	Migrations fs.FS
	// Table holds the versions of the schema. Stores that share a database have different ones.
	Table string
	// Pragmas of SQLite, beside the write-ahead log and waiting for locks: "synchronous(FULL)".
	Pragmas []string
	// Remake: a SQLite file that is damaged is set aside and made anew. For what can be had again from elsewhere.
	Remake bool
}

// DB is an open store. Safe for concurrent use.
type DB struct {
	*sql.DB
	name     string
	postgres bool
	aside    string
}

// Validate tells whether Open can make anything of the address.
func Validate(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("not a URL") // its text would hold the password
	}
	switch u.Scheme {
	case "postgres", "postgresql":
		return nil
	default:
		return fmt.Errorf("scheme %q: neither postgres nor empty (SQLite in the data directory)", u.Scheme)
	}
}

// Open opens a store and brings its schema up to date. address is a PostgreSQL URL, or empty: SQLite in the file. Several may open the same store at once.
func Open(ctx context.Context, address, file string, o Options) (*DB, error) {
	db, err := open(ctx, address, file, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name, err)
	}
	return db, nil
}

func open(ctx context.Context, address, file string, o Options) (*DB, error) {
	if err := Validate(address); err != nil {
		return nil, err
	}
	if address == "" {
		return openFile(ctx, file, o)
	}
	pool, err := sql.Open("pgx", address)
	if err != nil {
		return nil, errors.New("the URL cannot be used") // as above
	}
	pool.SetMaxOpenConns(postgresConns)
	pool.SetConnMaxIdleTime(time.Minute)
	db := &DB{DB: pool, name: o.Name, postgres: true}
	if err := db.migrate(ctx, o); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return db, nil
}

// Postgres tells that the store is in PostgreSQL: other instances may share it.
func (db *DB) Postgres() bool { return db.postgres }

// Aside is where a damaged file was put; empty: there was none.
func (db *DB) Aside() string { return db.aside }

// In does f in one transaction, which is rolled back on error.
func (db *DB) In(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", db.name, err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback()
		return fmt.Errorf("%s: %w", db.name, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: %w", db.name, err)
	}
	return nil
}

// Bind is the statement in the dialect at hand. Statements are written with PostgreSQL's $1; SQLite's ?1 means the same.
func (db *DB) Bind(statement string) string {
	if db.postgres {
		return statement
	}
	return strings.ReplaceAll(statement, "$", "?")
}

// Querier is a store or a transaction.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Each calls row with each row that a bound query gives, until it returns an error.
func Each(ctx context.Context, q Querier, query string, args []any, row func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
