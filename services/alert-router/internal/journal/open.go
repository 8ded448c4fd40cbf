// Package journal keeps what became of every alert in a SQL database: SQLite in the data directory by default, PostgreSQL for several routers and for whoever wants to query
// it. One set of statements serves both.
//
// It is derived: alert.events.v1 is the truth, a transition's row is named by its event, and a batch of rows is written with the log's position in one transaction. So a batch
// that is written twice, by a restart or by a second router on the same database, changes nothing, and a journal that is lost is made again from what the log still has.
//
// Nothing here may keep anybody from being told: callers queue and try again.
package journal

import (
	"context"
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

// fileName of the default journal in the data directory.
const fileName = "journal.db"

// Store is an open journal. Safe for concurrent use.
type Store struct {
	db       *sql.DB
	postgres bool
	reset    string
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

// Open opens the journal and brings its schema up to date. address is a PostgreSQL URL, or empty: SQLite in dir. An SQLite file that is damaged is set aside and made
// anew; Reset tells of it.
func Open(ctx context.Context, address, dir string) (*Store, error) {
	if address != "" {
		if err := Validate(address); err != nil {
			return nil, err
		}
		db, err := sql.Open("pgx", address)
		if err != nil {
			return nil, errors.New("journal: the URL cannot be used") // as above
		}
		db.SetMaxOpenConns(8)
		db.SetConnMaxIdleTime(time.Minute)
		s := &Store{db: db, postgres: true}
		return s, s.begin(ctx)
	}
	path := filepath.Join(dir, fileName)
	s, err := openFile(ctx, path)
	if err == nil || ctx.Err() != nil || !damaged(err) {
		return s, err
	}
	kept := fmt.Sprintf("%s.corrupt-%d", path, time.Now().UnixNano())
	if moveErr := os.Rename(path, kept); moveErr != nil {
		return nil, errors.Join(err, moveErr)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if moveErr := os.Rename(path+suffix, kept+suffix); moveErr != nil && !errors.Is(moveErr, fs.ErrNotExist) {
			return nil, errors.Join(err, moveErr)
		}
	}
	if s, err = openFile(ctx, path); err == nil {
		s.reset = kept
	}
	return s, err
}

func openFile(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(10000)", "cache_size(-16384)", "wal_autocheckpoint(8192)"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	db.SetMaxOpenConns(4)
	s := &Store{db: db}
	var sound string
	if err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&sound); err == nil && sound != "ok" {
		err = fmt.Errorf("%w: %s", errDamaged, sound)
	}
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return s, s.begin(ctx)
}

var errDamaged = errors.New("damaged")

func damaged(err error) bool {
	return errors.Is(err, errDamaged) || strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "not a database")
}

// begin migrates; it closes the database on error.
func (s *Store) begin(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		_ = s.db.Close()
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	dialect, opts := goose.DialectSQLite3, []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.postgres {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker() // two routers may start at once
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

// Reset is where a damaged journal was put; empty: there was none.
func (s *Store) Reset() string { return s.reset }

// Shared tells whether other routers may write to the same journal.
func (s *Store) Shared() bool { return s.postgres }

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// in does f in one transaction.
func (s *Store) in(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback()
		return fmt.Errorf("journal: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("journal: %w", err)
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
