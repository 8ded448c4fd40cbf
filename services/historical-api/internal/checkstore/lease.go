package checkstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrFenced: another instance has the lease now. Nothing was written.
var ErrFenced = errors.New("another instance has the lease")

// leaseName: there is one.
const leaseName = "checks"

// Lease as it stands. Who wants it waits until Token and Beats have not changed for the lease's time by its own clock: so no two machines' clocks are ever compared.
type Lease struct {
	Token  int64
	Holder string
	Beats  int64
}

// Lease reads it; the zero Lease has never been held.
func (s *Store) Lease(ctx context.Context) (Lease, error) {
	var l Lease
	err := s.db.QueryRowContext(ctx, s.db.Bind(`SELECT token, holder, beats FROM check_lease WHERE name = $1`), leaseName).Scan(&l.Token, &l.Holder, &l.Beats)
	if errors.Is(err, sql.ErrNoRows) {
		return Lease{}, nil
	}
	if err != nil {
		return l, fmt.Errorf("checks' store: lease: %w", err)
	}
	return l, nil
}

// Take gives the lease to holder unless it has changed since seen was read; the token is the new one.
func (s *Store) Take(ctx context.Context, seen Lease, holder string) (token int64, ok bool, err error) {
	token = seen.Token + 1
	var res sql.Result
	if seen.Token == 0 {
		res, err = s.db.ExecContext(ctx, s.db.Bind(`INSERT INTO check_lease (name, token, holder, beats) VALUES ($1, $2, $3, 0) ON CONFLICT (name) DO NOTHING`), leaseName, token, holder)
	} else {
		res, err = s.db.ExecContext(ctx, s.db.Bind(`UPDATE check_lease SET token = $2, holder = $3, beats = 0 WHERE name = $1 AND token = $4 AND beats = $5`), leaseName, token, holder, seen.Token, seen.Beats)
	}
	if err != nil {
		return 0, false, fmt.Errorf("checks' store: lease: %w", err)
	}
	n, err := res.RowsAffected()
	return token, n == 1, err
}

// Beat shows that the holder of the token lives.
func (s *Store) Beat(ctx context.Context, token int64) error {
	res, err := s.db.ExecContext(ctx, s.db.Bind(`UPDATE check_lease SET beats = beats + 1 WHERE name = $1 AND token = $2`), leaseName, token)
	if err != nil {
		return fmt.Errorf("checks' store: lease: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(ErrFenced, err)
	}
	return nil
}

// Release gives the lease up, so that nobody has to wait for its end.
func (s *Store) Release(ctx context.Context, token int64) error {
	_, err := s.db.ExecContext(ctx, s.db.Bind(`UPDATE check_lease SET token = token + 1, holder = '', beats = 0 WHERE name = $1 AND token = $2`), leaseName, token)
	return err
}

// as does f in one transaction that stands only while the token is the lease's. The update of the lease's row keeps whoever wants it waiting until the transaction has ended.
func (s *Store) as(ctx context.Context, token int64, f func(*sql.Tx) error) error {
	return s.db.In(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, s.db.Bind(`UPDATE check_lease SET beats = beats + 1 WHERE name = $1 AND token = $2`), leaseName, token)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(ErrFenced, err)
		}
		return f(tx)
	})
}
