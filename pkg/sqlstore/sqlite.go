package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// openFile opens the store in a SQLite file.
func openFile(ctx context.Context, file string, o Options) (*DB, error) {
	db, err := tryFile(ctx, file, o)
	if err == nil || !o.Remake || ctx.Err() != nil || !damaged(err) {
		return db, err
	}
	kept := fmt.Sprintf("%s.corrupt-%d", file, time.Now().UnixNano())
	if moveErr := os.Rename(file, kept); moveErr != nil {
		return nil, errors.Join(err, moveErr)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if moveErr := os.Rename(file+suffix, kept+suffix); moveErr != nil && !errors.Is(moveErr, fs.ErrNotExist) {
			return nil, errors.Join(err, moveErr)
		}
	}
	if db, err = tryFile(ctx, file, o); err == nil {
		db.aside = kept
	}
	return db, err
}

func tryFile(ctx context.Context, file string, o Options) (_ *DB, err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return nil, err
	}
	q := url.Values{"_txlock": {"immediate"}, "_pragma": append([]string{"busy_timeout(10000)", "journal_mode(WAL)"}, o.Pragmas...)}
	pool, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", file, err), pool.Close())
		}
	}()
	pool.SetMaxOpenConns(sqliteConns)
	db := &DB{DB: pool, name: o.Name}
	if o.Remake {
		if err := db.sound(ctx); err != nil {
			return nil, err
		}
	}
	return db, db.migrate(ctx, o)
}

var errDamaged = errors.New("damaged")

// sound looks for damage; it reads the whole file.
func (db *DB) sound(ctx context.Context) error {
	var found string
	err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found)
	if err == nil && found != "ok" {
		err = fmt.Errorf("%w: %s", errDamaged, found)
	}
	return err
}

func damaged(err error) bool {
	return errors.Is(err, errDamaged) || strings.Contains(err.Error(), "malformed") || strings.Contains(err.Error(), "not a database")
}
