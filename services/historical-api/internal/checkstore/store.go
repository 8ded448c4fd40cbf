// Package checkstore keeps what scheduled checks have found, how far each has come and what is to be told of it: in SQLite in the data directory by default, in PostgreSQL
// where several instances share the work. One set of statements serves both.
//
// One instance at a time writes. It holds the lease's token, and each of its transactions makes sure that the token is still its own: an instance that was thought dead and is
// not finds ErrFenced and writes nothing. A slot's findings, the alerts of them and how far the job has come are one transaction, so a kill leaves all of a slot or nothing.
package checkstore

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// fileName of the default store in the data directory.
const fileName = "checks.db"

// Store is open. Safe for concurrent use.
type Store struct {
	db   *sqlstore.DB
	name string
}

// Validate tells whether Open can make anything of the URL.
func Validate(address string) error { return sqlstore.Validate(address) }

// Open opens the store and brings its schema up to date. address is a PostgreSQL URL, or empty: SQLite in dir.
func Open(ctx context.Context, address, dir string) (*Store, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	db, err := sqlstore.Open(ctx, address, filepath.Join(dir, fileName), sqlstore.Options{
		Name: "checks' store", Migrations: files, Table: "check_schema",
		// What is committed here may be in Kafka a moment later, so it must outlast a power cut.
		Pragmas: []string{"synchronous(FULL)"},
	})
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	if err := s.named(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("checks' store: %w", err), db.Close())
	}
	return s, nil
}

func (s *Store) named(ctx context.Context) error {
	_, err := s.db.ExecContext(ctx, s.db.Bind(`INSERT INTO check_store (id, name, next_seq, published_next) VALUES (1, $1, 1, 1) ON CONFLICT (id) DO NOTHING`), strings.ToLower(rand.Text()[:12]))
	if err != nil {
		return err
	}
	return s.db.QueryRowContext(ctx, `SELECT name FROM check_store WHERE id = 1`).Scan(&s.name)
}

// Name of the store, given when it was made.
func (s *Store) Name() string { return s.name }

// Shared tells whether other instances may use the same store.
func (s *Store) Shared() bool { return s.db.Postgres() }

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }
