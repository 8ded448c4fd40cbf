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
	"embed"
	"io/fs"
	"path/filepath"

	"github.com/tocsin-io/tocsin/pkg/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// fileName of the default journal in the data directory.
const fileName = "journal.db"

// Store is an open journal. Safe for concurrent use.
type Store struct{ db *sqlstore.DB }

// Validate tells whether Open can make anything of the URL.
func Validate(address string) error { return sqlstore.Validate(address) }

// Open opens the journal and brings its schema up to date. address is a PostgreSQL URL, or empty: SQLite in dir. An SQLite file that is damaged is set aside and made
// anew; Reset tells of it.
func Open(ctx context.Context, address, dir string) (*Store, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := sqlstore.Open(ctx, address, filepath.Join(dir, fileName), sqlstore.Options{
		Name: "journal", Migrations: files, Table: "goose_db_version", Remake: true,
		Pragmas: []string{"synchronous(NORMAL)", "cache_size(-16384)", "wal_autocheckpoint(8192)"},
	})
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// Reset is where a damaged journal was put; empty: there was none.
func (s *Store) Reset() string { return s.db.Aside() }

// Shared tells whether other routers may write to the same journal.
func (s *Store) Shared() bool { return s.db.Postgres() }

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }
