package checkstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/tocsin-io/tocsin/pkg/sqlstore"
)

// Outbox gives up to limit records from seq on, in their order.
func (s *Store) Outbox(ctx context.Context, seq int64, limit int) ([]Record, error) {
	var out []Record
	err := sqlstore.Each(ctx, s.db, s.db.Bind(`SELECT seq, kind, entity, name, body FROM check_outbox WHERE seq >= $1 ORDER BY seq LIMIT $2`), []any{seq, limit}, func(row *sql.Rows) error {
		var r Record
		err := row.Scan(&r.Seq, &r.Kind, &r.Entity, &r.Name, &r.Body)
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("checks' store: %w", err)
	}
	return out, nil
}

// Waiting is the number of alerts and of findings that are not known to be in Kafka.
func (s *Store) Waiting(ctx context.Context) (alerts, findings int, err error) {
	err = s.db.QueryRowContext(ctx, s.db.Bind(`SELECT count(*), coalesce(sum(CASE WHEN kind = $1 THEN 1 ELSE 0 END), 0) FROM check_outbox`), FindingRecord).Scan(&alerts, &findings)
	return alerts - findings, findings, err
}

// Position is the number of the first record that is not known to be in Kafka.
func (s *Store) Position(ctx context.Context) (next int64, err error) {
	if err = s.db.QueryRowContext(ctx, `SELECT published_next FROM check_store WHERE id = 1`).Scan(&next); err != nil {
		return 0, fmt.Errorf("checks' store: %w", err)
	}
	return next, nil
}

// Published notes that all records before next are in Kafka, and removes them. A store that was put back to an earlier state, so that Kafka has numbers that it never gave,
// goes on after those.
func (s *Store) Published(ctx context.Context, next int64) error {
	return s.db.In(ctx, func(tx *sql.Tx) error {
		var given, before int64
		if err := tx.QueryRowContext(ctx, `SELECT next_seq, published_next FROM check_store WHERE id = 1`).Scan(&given, &before); err != nil {
			return err
		}
		if next > given {
			if _, err := tx.ExecContext(ctx, s.db.Bind(`UPDATE check_outbox SET seq = seq + $1`), next-before); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, s.db.Bind(`UPDATE check_store SET next_seq = next_seq + $1, published_next = $2 WHERE id = 1`), next-before, next)
			return err
		}
		if _, err := tx.ExecContext(ctx, s.db.Bind(`UPDATE check_store SET published_next = $1 WHERE id = 1 AND published_next < $1`), next); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, s.db.Bind(`DELETE FROM check_outbox WHERE seq < $1`), next)
		return err
	})
}
