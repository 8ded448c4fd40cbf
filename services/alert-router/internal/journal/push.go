package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/tocsin-io/tocsin/pkg/sqlstore"
)

// PushSubscription is one browser or phone of a person, as Web Push knows it.
type PushSubscription struct {
	ID       string // of the endpoint
	Person   string // empty: whoever needs no token
	Receiver string // in the routing file
	Endpoint string // a secret: whoever knows it can try to send
	P256dh   string
	Auth     string

	CreatedMS int64
}

// ErrTooMany: the person has as many subscriptions as one may.
var ErrTooMany = errors.New("too many subscriptions")

// SavePush adds a subscription, or replaces the one of the same endpoint. A person has at most limit of them.
func (s *Store) SavePush(ctx context.Context, p PushSubscription, limit int) error {
	const count = `SELECT COUNT(*) FROM push_subscriptions WHERE person = $1 AND id <> $2`
	const q = `INSERT INTO push_subscriptions (id, person, receiver, endpoint, p256dh, auth, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)
 ON CONFLICT (id) DO UPDATE SET person = excluded.person, receiver = excluded.receiver, endpoint = excluded.endpoint, p256dh = excluded.p256dh, auth = excluded.auth,
 created_ms = excluded.created_ms`
	return s.db.In(ctx, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, s.db.Bind(count), text(p.Person), p.ID).Scan(&n); err != nil {
			return err
		}
		if n >= limit {
			return ErrTooMany
		}
		_, err := tx.ExecContext(ctx, s.db.Bind(q), p.ID, text(p.Person), text(p.Receiver), text(p.Endpoint), p.P256dh, p.Auth, p.CreatedMS)
		return err
	})
}

// RemovePush forgets a subscription and tells whether there was one. With person only theirs.
func (s *Store) RemovePush(ctx context.Context, id string, person *string) (bool, error) {
	q, args := `DELETE FROM push_subscriptions WHERE id = $1`, []any{text(id)}
	if person != nil {
		q, args = q+` AND person = $2`, append(args, text(*person))
	}
	r, err := s.db.ExecContext(ctx, s.db.Bind(q), args...)
	if err != nil {
		return false, fmt.Errorf("journal: %w", err)
	}
	n, err := r.RowsAffected()
	return n > 0, err
}

// PushOf lists a person's subscriptions, the oldest first.
func (s *Store) PushOf(ctx context.Context, person string) ([]PushSubscription, error) {
	return s.push(ctx, `person = $1`, person)
}

// PushTo lists the subscriptions to a receiver, the oldest first.
func (s *Store) PushTo(ctx context.Context, receiver string) ([]PushSubscription, error) {
	return s.push(ctx, `receiver = $1`, receiver)
}

func (s *Store) push(ctx context.Context, where, arg string) ([]PushSubscription, error) {
	q := `SELECT id, person, receiver, endpoint, p256dh, auth, created_ms FROM push_subscriptions WHERE ` + where + ` ORDER BY created_ms, id LIMIT 10000`
	var out []PushSubscription
	err := sqlstore.Each(ctx, s.db, s.db.Bind(q), []any{text(arg)}, func(r *sql.Rows) error {
		var p PushSubscription
		err := r.Scan(&p.ID, &p.Person, &p.Receiver, &p.Endpoint, &p.P256dh, &p.Auth, &p.CreatedMS)
		out = append(out, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return out, nil
}
