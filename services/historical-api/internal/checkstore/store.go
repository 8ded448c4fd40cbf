// Package checkstore keeps what scheduled checks have found, how far each has come and what is to be told of it: in SQLite in the data directory by default, in PostgreSQL
// where several instances share the work. One set of statements serves both.
//
// One instance at a time writes. It holds the lease's token, and each of its transactions makes sure that the token is still its own: an instance that was thought dead and is
// not finds ErrFenced and writes nothing. A slot's findings, the alerts of them and how far the job has come are one transaction, so a kill leaves all of a slot or nothing.
package checkstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// fileName of the default store in the data directory.
const fileName = "checks.db"

// Store is open. Safe for concurrent use.
type Store struct {
	db       *sql.DB
	postgres bool
	name     string
}

// Validate tells whether Open can make anything of the URL.
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

// Open opens the store and brings its schema up to date. address is a PostgreSQL URL, or empty: SQLite in dir.
func Open(ctx context.Context, address, dir string) (*Store, error) {
	s, err := open(address, dir)
	if err != nil {
		return nil, fmt.Errorf("checks' store: %w", err)
	}
	if err = s.migrate(ctx); err == nil {
		err = s.named(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("checks' store: %w", err), s.db.Close())
	}
	return s, nil
}

func open(address, dir string) (*Store, error) {
	if err := Validate(address); err != nil {
		return nil, err
	}
	if address != "" {
		db, err := sql.Open("pgx", address)
		if err != nil {
			return nil, errors.New("the URL cannot be used") // as above
		}
		db.SetMaxOpenConns(8)
		db.SetConnMaxIdleTime(time.Minute)
		return &Store{db: db, postgres: true}, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fileName)
	// synchronous(FULL): what is committed here may be in Kafka a moment later, so it must outlast a power cut.
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	return &Store{db: db}, nil
}

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	dialect, opts := goose.DialectSQLite3, []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithTableName("check_schema")}
	if s.postgres {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker() // two instances may start at once
		if err != nil {
			return err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, s.db, files, opts...)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

func (s *Store) named(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, s.query(`INSERT INTO check_store (id, name, next_seq, published_next) VALUES (1, $1, 1, 1) ON CONFLICT (id) DO NOTHING`), strings.ToLower(rand.Text()[:12]))
	if err != nil {
		return err
	}
	return s.db.QueryRowContext(ctx, `SELECT name FROM check_store WHERE id = 1`).Scan(&s.name)
}

// Name of the store, given when it was made.
func (s *Store) Name() string { return s.name }

// Shared tells whether other instances may use the same store.
func (s *Store) Shared() bool { return s.postgres }

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// in does f in one transaction.
func (s *Store) in(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("checks' store: %w", err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback()
		return fmt.Errorf("checks' store: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("checks' store: %w", err)
	}
	return nil
}

// query is the statement in the dialect at hand. Statements are written with PostgreSQL's $1; SQLite's ?1 means the same.
func (s *Store) query(q string) string {
	if s.postgres {
		return q
	}
	return strings.ReplaceAll(q, "$", "?")
}
