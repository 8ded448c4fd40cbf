package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/sqlstore"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
)

// MaxPage is the most that one query gives.
const MaxPage = 1000

// Load gives what a Ledger needs to go on: alerts that stand or were closed at or after sinceMS, what was decided of alarms, and the positions in the log.
func (s *Store) Load(ctx context.Context, sinceMS int64) (alerts []*lifecycle.Alert, alarms []lifecycle.Alarm, next map[int32]int64, err error) {
	next = map[int32]int64{}
	// One transaction: with another router on the same database, the positions must be those of the rows.
	err = s.db.In(ctx, func(tx *sql.Tx) error {
		if s.db.Postgres() {
			if _, err := tx.ExecContext(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
				return err
			}
		}
		if err := sqlstore.Each(ctx, tx, "SELECT log_partition, next_offset FROM log_positions", nil, func(r *sql.Rows) error {
			var p int32
			var n int64
			err := r.Scan(&p, &n)
			next[p] = n
			return err
		}); err != nil {
			return err
		}
		if err := sqlstore.Each(ctx, tx, "SELECT body FROM alarms", nil, func(r *sql.Rows) error {
			var body string
			if err := r.Scan(&body); err != nil {
				return err
			}
			var p lifecycle.Alarm
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				return err
			}
			alarms = append(alarms, p)
			return nil
		}); err != nil {
			return err
		}
		return sqlstore.Each(ctx, tx, s.db.Bind("SELECT "+columns+" FROM alerts WHERE closed_ms = 0 OR closed_ms >= $1"), []any{sinceMS}, func(r *sql.Rows) error {
			a, err := decode(r)
			if err == nil {
				alerts = append(alerts, a)
			}
			return err
		})
	})
	return alerts, alarms, next, err
}

// Rewind forgets the position in a partition whose log was made anew: it is read from its start, and what is said there counts again.
func (s *Store) Rewind(ctx context.Context, partition int32) error {
	return s.db.In(ctx, func(tx *sql.Tx) error {
		for _, q := range []string{
			"DELETE FROM log_positions WHERE log_partition = $1", "UPDATE alerts SET log_offset = -1 WHERE log_partition = $1", "UPDATE alarms SET log_offset = -1 WHERE log_partition = $1",
		} {
			if _, err := tx.ExecContext(ctx, s.db.Bind(q), partition); err != nil {
				return err
			}
		}
		return nil
	})
}

// Filter picks alerts or transitions. The zero value is all of them.
type Filter struct {
	// Equipment are the machines that the asker may see: exact ids, or a prefix followed by *. Nil: every machine; empty: none.
	Equipment []string
	// What is asked for; empty: any.
	Machine, Cause, Sensor, AlertID string
	Gateway                         string
	MinSeverity                     eventv1.Severity
	States                          []lifecycle.State
	Transitions                     []string
	// Time of opening, or of the transition: [SinceMS, UntilMS); 0: open.
	SinceMS, UntilMS int64
	// After is where the last page ended; the newest come first.
	After Cursor
	Limit int // 1..MaxPage; else MaxPage
}

// Cursor is a place in a list. The zero value is its beginning.
type Cursor struct {
	MS, Seq int64
	ID      string
}

func (f Filter) limit() int {
	if f.Limit < 1 || f.Limit > MaxPage {
		return MaxPage
	}
	return f.Limit
}

// where builds the condition on a table that is ordered by the given columns: time, an order within it, and the key.
func (f Filter) where(postgres bool, timeColumn, seqColumn, idColumn string) (string, []any) {
	var conds []string
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	equal := func(column, v string) {
		if v != "" {
			conds = append(conds, column+" = "+arg(text(v)))
		}
	}
	if c, ok := equipment(f.Equipment, postgres, arg); ok {
		conds = append(conds, c)
	}
	equal("equipment_id", f.Machine)
	equal("cause", f.Cause)
	equal("gateway_id", f.Gateway)
	equal("alert_id", f.AlertID)
	if f.Sensor != "" {
		conds = append(conds, "alert_id IN (SELECT alert_id FROM alert_sensors WHERE sensor = "+arg(text(f.Sensor))+")")
	}
	if f.MinSeverity > 0 {
		conds = append(conds, "severity >= "+arg(int32(f.MinSeverity)))
	}
	in := func(column string, values []string) {
		if len(values) > 0 {
			list := make([]string, len(values))
			for i, v := range values {
				list[i] = arg(text(v))
			}
			conds = append(conds, column+" IN ("+strings.Join(list, ", ")+")")
		}
	}
	states := make([]string, len(f.States))
	for i, st := range f.States {
		states[i] = string(st)
	}
	in("state", states)
	in("transition", f.Transitions)
	if f.SinceMS != 0 {
		conds = append(conds, timeColumn+" >= "+arg(f.SinceMS))
	}
	if f.UntilMS != 0 {
		conds = append(conds, timeColumn+" < "+arg(f.UntilMS))
	}
	if f.After != (Cursor{}) {
		ms, seq := arg(f.After.MS), arg(f.After.Seq)
		conds = append(conds, fmt.Sprintf("(%s < %s OR %s = %s AND (%s < %s OR %s = %s AND %s < %s))",
			timeColumn, ms, timeColumn, ms, seqColumn, seq, seqColumn, seq, idColumn, arg(text(f.After.ID))))
	}
	if len(conds) == 0 {
		return "1 = 1", args
	}
	return strings.Join(conds, " AND "), args
}

// equipment is the condition that a machine is one of the patterns; false: any machine is.
func equipment(patterns []string, postgres bool, arg func(any) string) (string, bool) {
	if patterns == nil {
		return "", false
	}
	column := "equipment_id"
	if postgres {
		column += ` COLLATE "C"` // by bytes, as SQLite compares
	}
	var parts []string
	for _, p := range patterns {
		prefix, isPrefix := strings.CutSuffix(p, "*")
		switch {
		case p == "*":
			return "", false
		case isPrefix:
			// The ids hold no character above '~'; a LIKE would take _ for any character.
			parts = append(parts, fmt.Sprintf("(%s >= %s AND %s < %s)", column, arg(prefix), column, arg(prefix+"\x7f")))
		default:
			parts = append(parts, "equipment_id = "+arg(p))
		}
	}
	if len(parts) == 0 {
		return "1 = 0", true
	}
	return "(" + strings.Join(parts, " OR ") + ")", true
}

// Alerts lists alerts, the newest first, and where the next page begins; zero: there is none.
func (s *Store) Alerts(ctx context.Context, f Filter) ([]*lifecycle.Alert, Cursor, error) {
	cond, args := f.where(s.db.Postgres(), "opened_ms", "0", "alert_id")
	q := fmt.Sprintf("SELECT %s FROM alerts WHERE %s ORDER BY opened_ms DESC, alert_id DESC", columns, cond)
	return page(ctx, s, f, q, args, decode, func(a *lifecycle.Alert) Cursor { return Cursor{MS: a.OpenedMS, ID: a.ID} })
}

// Transitions lists transitions, the newest first, and where the next page begins; zero: there is none.
func (s *Store) Transitions(ctx context.Context, f Filter) ([]lifecycle.Row, Cursor, error) {
	cond, args := f.where(s.db.Postgres(), "at_ms", "seq", "id")
	q := fmt.Sprintf(`SELECT id, alert_id, equipment_id, cause, gateway_id, transition, severity, state, at_ms, actor, comment, until_ms, verdict, score, summary, log_partition,
 log_offset, seq FROM alert_transitions WHERE %s ORDER BY at_ms DESC, seq DESC, id DESC`, cond)
	return page(ctx, s, f, q, args, transition, func(x lifecycle.Row) Cursor { return Cursor{x.AtMS, x.Seq, x.ID} })
}

func transition(r *sql.Rows) (x lifecycle.Row, err error) {
	var severity, verdict int32
	var state string
	err = r.Scan(&x.ID, &x.AlertID, &x.EquipmentID, &x.Cause, &x.GatewayID, &x.Transition, &severity, &state, &x.AtMS, &x.Actor, &x.Comment, &x.UntilMS, &verdict,
		&x.Score, &x.Summary, &x.Partition, &x.Offset, &x.Seq)
	x.Severity, x.Verdict, x.State = eventv1.Severity(severity), eventv1.AlertVerdict(verdict), lifecycle.State(state)
	return x, err
}

// page is the first of a query's rows, as many as the filter asks for, and where the next page begins; zero: there is none.
func page[T any](ctx context.Context, s *Store, f Filter, q string, args []any, read func(*sql.Rows) (T, error), place func(T) Cursor) (out []T, next Cursor, err error) {
	err = sqlstore.Each(ctx, s.db, s.db.Bind(fmt.Sprintf("%s LIMIT %d", q, f.limit())), args, func(r *sql.Rows) error {
		one, err := read(r)
		if err == nil {
			out = append(out, one)
		}
		return err
	})
	if err != nil {
		return nil, Cursor{}, fmt.Errorf("journal: %w", err)
	}
	if len(out) == f.limit() {
		next = place(out[len(out)-1])
	}
	return out, next, nil
}

// Prune deletes what is older than the given time, a few thousand rows at a time so that nobody waits for it: transitions and notifications by their own time, alerts by their end.
func (s *Store) Prune(ctx context.Context, beforeMS int64) (rows int64, err error) {
	const few = 2000
	for _, q := range []string{
		"DELETE FROM alert_notifications WHERE id IN (SELECT id FROM alert_notifications WHERE at_ms < $1 LIMIT $2)",
		"DELETE FROM alert_transitions WHERE id IN (SELECT t.id FROM alert_transitions t WHERE t.at_ms < $1 AND NOT EXISTS (SELECT 1 FROM alerts a WHERE a.alert_id = t.alert_id AND a.closed_ms = 0) LIMIT $2)",
		"DELETE FROM alert_sensors WHERE alert_id IN (SELECT alert_id FROM alerts WHERE closed_ms > 0 AND closed_ms < $1 LIMIT $2)",
		"DELETE FROM alerts WHERE alert_id IN (SELECT a.alert_id FROM alerts a WHERE a.closed_ms > 0 AND a.closed_ms < $1 AND NOT EXISTS (SELECT 1 FROM alert_sensors s WHERE s.alert_id = a.alert_id) LIMIT $2)",
	} {
		for {
			res, err := s.db.ExecContext(ctx, s.db.Bind(q), beforeMS, few)
			if err != nil {
				return rows, fmt.Errorf("journal: %w", err)
			}
			n, err := res.RowsAffected()
			if err != nil {
				return rows, fmt.Errorf("journal: %w", err)
			}
			if rows += n; n == 0 {
				break
			}
		}
	}
	return rows, nil
}
