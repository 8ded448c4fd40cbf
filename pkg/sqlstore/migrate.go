package sqlstore

import (
	"context"
	"fmt"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// How often, in seconds, and how many times an instance asks whether another has done with the schema: for 5 minutes.
const (
	lockEvery = 1
	lockTries = 300
)

// migrate brings the schema up to date, each version of it in a transaction of its own.
func (db *DB) migrate(ctx context.Context, o Options) error {
	dialect, opts := goose.DialectSQLite3, []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithTableName(o.Table)}
	if db.postgres {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockEvery, lockTries)) // instances may start at once
		if err != nil {
			return err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, db.DB, o.Migrations, opts...)
	if err != nil {
		return err
	}
	// SQLite has no such lock. An instance that came second fails where the first has been, and goes on behind it as long as the version grows.
	for before := int64(-1); ; {
		_, err := p.Up(ctx)
		now, known, vErr := p.GetVersions(ctx)
		switch {
		case vErr != nil && err == nil:
			return vErr
		case vErr == nil && now > known:
			return fmt.Errorf("%w: version %d, known are those up to %d", ErrNewer, now, known)
		case err == nil:
			return nil
		case vErr != nil || db.postgres || now <= before || ctx.Err() != nil:
			return err
		}
		before = now
	}
}
