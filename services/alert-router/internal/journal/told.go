package journal

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/tocsin-io/tocsin/pkg/sqlstore"
)

// Told is one notification about one alert: what one integration of one receiver was told, or could not be. Attempts at the same are one.
type Told struct {
	ID          string // of receiver, integration, message and alert
	MessageKey  string // the idempotency key
	AlertID     string
	EquipmentID string
	Receiver    string
	Integration string
	Status      string // firing, resolved
	Reason      string
	Outcome     string // sent, retry, failed
	Attempts    int
	AtMS        int64 // of the last attempt, this process's clock
	LatencyMS   int64 // from the judgement to the notification; 0 when not known
	Error       string
	Instance    string
}

// SaveTold adds notifications; one that is known gets its newest outcome and one more attempt.
func (s *Store) SaveTold(ctx context.Context, list []Told) error {
	const q = `INSERT INTO alert_notifications (id, message_key, alert_id, equipment_id, receiver, integration, status, reason, outcome, attempts, at_ms, latency_ms, error, instance)
 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
 ON CONFLICT (id) DO UPDATE SET outcome = excluded.outcome, attempts = alert_notifications.attempts + excluded.attempts, at_ms = excluded.at_ms,
 latency_ms = excluded.latency_ms, error = excluded.error, instance = excluded.instance`
	return s.db.In(ctx, func(tx *sql.Tx) error {
		return each(ctx, tx, s, q, once(list), func(n Told) ([]any, error) {
			return []any{
				text(n.ID), text(n.MessageKey), text(n.AlertID), text(n.EquipmentID), text(n.Receiver), n.Integration, n.Status, n.Reason, n.Outcome, n.Attempts, n.AtMS,
				n.LatencyMS, text(n.Error), text(n.Instance),
			}, nil
		})
	})
}

// once makes one of several attempts at the same: the newest outcome, all attempts.
func once(list []Told) []Told {
	attempts := make(map[string]int, len(list))
	for _, n := range list {
		attempts[n.ID] += n.Attempts
	}
	out := slices.Clone(newest(list, func(n Told) string { return n.ID }))
	for i := range out {
		out[i].Attempts = attempts[out[i].ID]
	}
	return out
}

// Told lists the notifications about an alert, the oldest first.
func (s *Store) Told(ctx context.Context, alertID string) ([]Told, error) {
	const q = `SELECT id, message_key, alert_id, equipment_id, receiver, integration, status, reason, outcome, attempts, at_ms, latency_ms, error, instance
 FROM alert_notifications WHERE alert_id = $1 ORDER BY at_ms, id LIMIT 1000`
	var out []Told
	err := sqlstore.Each(ctx, s.db, s.db.Bind(q), []any{text(alertID)}, func(r *sql.Rows) error {
		var n Told
		err := r.Scan(&n.ID, &n.MessageKey, &n.AlertID, &n.EquipmentID, &n.Receiver, &n.Integration, &n.Status, &n.Reason, &n.Outcome, &n.Attempts, &n.AtMS, &n.LatencyMS, &n.Error, &n.Instance)
		out = append(out, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return out, nil
}
