package checkstore

import (
	"context"
	"database/sql"
	"fmt"
)

// Outbox gives up to limit alerts from seq on, in their order.
func (s *Store) Outbox(ctx context.Context, seq int64, limit int) ([]Alert, error) {
	rows, err := s.db.QueryContext(ctx, s.query(`SELECT seq, entity, name, body FROM check_outbox WHERE seq >= $1 ORDER BY seq LIMIT $2`), seq, limit)
	if err != nil {
		return nil, fmt.Errorf("checks' store: %w", err)
	}
	defer rows.Close()
	var out []Alert
	for rows.Next() {
		var a Alert
		if err := rows.Scan(&a.Seq, &a.Entity, &a.Name, &a.Body); err != nil {
			return nil, fmt.Errorf("checks' store: %w", err)
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

// Waiting is the number of alerts that are not known to be in Kafka.
func (s *Store) Waiting(ctx context.Context) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM check_outbox`).Scan(&n)
	return n, err
}

// Position is the number of the first alert that is not known to be in Kafka.
func (s *Store) Position(ctx context.Context) (next int64, err error) {
	if err = s.db.QueryRowContext(ctx, `SELECT published_next FROM check_store WHERE id = 1`).Scan(&next); err != nil {
		return 0, fmt.Errorf("checks' store: %w", err)
	}
	return next, nil
}

// Published notes that all alerts before next are in Kafka, and removes them. A store that was put back to an earlier state, so that Kafka has numbers that it never gave,
// goes on after those.
func (s *Store) Published(ctx context.Context, next int64) error {
	return s.in(ctx, func(tx *sql.Tx) error {
		var given, before int64
		if err := tx.QueryRowContext(ctx, `SELECT next_seq, published_next FROM check_store WHERE id = 1`).Scan(&given, &before); err != nil {
			return err
		}
		if next > given {
			if _, err := tx.ExecContext(ctx, s.query(`UPDATE check_outbox SET seq = seq + $1`), next-before); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, s.query(`UPDATE check_store SET next_seq = next_seq + $1, published_next = $2 WHERE id = 1`), next-before, next)
			return err
		}
		if _, err := tx.ExecContext(ctx, s.query(`UPDATE check_store SET published_next = $1 WHERE id = 1 AND published_next < $1`), next); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, s.query(`DELETE FROM check_outbox WHERE seq < $1`), next)
		return err
	})
}
