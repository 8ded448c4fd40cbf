package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
)

// keptSensors bounds the sensors by which an alert is found; the heaviest ones stay.
const keptSensors = 32

// Batch is what one write holds.
type Batch struct {
	lifecycle.Changes
	// Next offset of alert.events.v1 by partition, once the changes are in.
	Next map[int32]int64
}

// Size is how many rows a batch writes, nearly.
func (b *Batch) Size() int { return len(b.Rows) + len(b.Alerts) + len(b.Alarms) }

// Merge adds a later batch.
func (b *Batch) Merge(later Batch) {
	b.Rows = append(b.Rows, later.Rows...)
	b.Alerts = append(b.Alerts, later.Alerts...)
	b.Alarms = append(b.Alarms, later.Alarms...)
	if b.Next == nil {
		b.Next = map[int32]int64{}
	}
	maps.Copy(b.Next, later.Next)
}

const (
	insertRow = `INSERT INTO alert_transitions (id, alert_id, equipment_id, cause, gateway_id, transition, severity, state, at_ms, actor, comment, until_ms, verdict,
 score, summary, log_partition, log_offset, seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) ON CONFLICT (id) DO NOTHING`
	upsertAlert = `INSERT INTO alerts (alert_id, equipment_id, cause, gateway_id, severity, state, opened_ms, closed_ms, acked_ms, acked_by, verdict, log_partition,
 log_offset, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
 ON CONFLICT (alert_id) DO UPDATE SET severity = excluded.severity, state = excluded.state, closed_ms = excluded.closed_ms, acked_ms = excluded.acked_ms,
 acked_by = excluded.acked_by, verdict = excluded.verdict, log_offset = excluded.log_offset, body = excluded.body WHERE alerts.log_offset <= excluded.log_offset`
	insertSensor = `INSERT INTO alert_sensors (alert_id, sensor, share) VALUES ($1, $2, $3) ON CONFLICT (alert_id, sensor) DO NOTHING`
	upsertAlarm  = `INSERT INTO alarms (equipment_id, cause, log_partition, log_offset, body) VALUES ($1, $2, $3, $4, $5)
 ON CONFLICT (equipment_id, cause) DO UPDATE SET log_offset = excluded.log_offset, body = excluded.body WHERE alarms.log_offset <= excluded.log_offset`
	upsertNext = `INSERT INTO log_positions (log_partition, next_offset) VALUES ($1, $2)
 ON CONFLICT (log_partition) DO UPDATE SET next_offset = excluded.next_offset WHERE log_positions.next_offset < excluded.next_offset`
)

// Save writes a batch, all of it or nothing. Writing it again changes nothing.
func (s *Store) Save(ctx context.Context, b Batch) error {
	return s.db.In(ctx, func(tx *sql.Tx) error {
		if err := each(ctx, tx, s, insertRow, b.Rows, rowValues); err != nil {
			return err
		}
		if err := s.saveAlerts(ctx, tx, b); err != nil {
			return err
		}
		if err := each(ctx, tx, s, upsertAlarm, newest(b.Alarms, func(p lifecycle.Alarm) lifecycle.Key { return p.Key }), func(p lifecycle.Alarm) ([]any, error) {
			body, err := json.Marshal(p)
			return []any{text(p.Key.EquipmentID), text(p.Key.Cause), p.Partition, p.Offset, string(body)}, err
		}); err != nil {
			return err
		}
		return each(ctx, tx, s, upsertNext, slices.Sorted(maps.Keys(b.Next)), func(p int32) ([]any, error) { return []any{p, b.Next[p]}, nil })
	})
}

// saveAlerts writes the alerts as they are now; and their sensors, with the row of the event that names them.
func (s *Store) saveAlerts(ctx context.Context, tx *sql.Tx, b Batch) error {
	type sensor struct {
		alert, name string
		share       float64
	}
	var sensors []sensor
	events := make(map[string]bool, len(b.Rows))
	for i := range b.Rows {
		events[b.Rows[i].ID] = true
	}
	list := newest(b.Alerts, func(a *lifecycle.Alert) string { return a.ID })
	err := each(ctx, tx, s, upsertAlert, list, func(a *lifecycle.Alert) ([]any, error) {
		if events[a.Event.GetEventId()] {
			cs := slices.Clone(a.Event.GetContributions())
			slices.SortStableFunc(cs, func(x, y *eventv1.Contribution) int { return -compare(x.GetShare(), y.GetShare()) })
			for _, c := range cs[:min(len(cs), keptSensors)] {
				sensors = append(sensors, sensor{a.ID, text(c.GetSensor()), c.GetShare()})
			}
		}
		body, err := encode(a)
		// Of an acknowledgement that was given to another alert, or to one that nobody was told of, nothing is to be learned about how fast people are: see Figures.
		ackedMS, ackedBy := int64(0), ""
		if a.Ack != nil && !a.AckedBefore {
			ackedMS, ackedBy = a.Ack.AtMS, a.Ack.By
		}
		return []any{
			text(a.ID), text(a.Key.EquipmentID), text(a.Key.Cause), text(a.GatewayID), int32(a.Severity), string(a.State), a.OpenedMS, a.ClosedMS, ackedMS, text(ackedBy), int32(a.Verdict),
			a.Partition, a.Offset, body,
		}, err
	})
	if err != nil {
		return err
	}
	return each(ctx, tx, s, insertSensor, sensors, func(x sensor) ([]any, error) { return []any{text(x.alert), x.name, finite(x.share)}, nil })
}

func rowValues(r lifecycle.Row) ([]any, error) {
	return []any{
		text(r.ID), text(r.AlertID), text(r.EquipmentID), text(r.Cause), text(r.GatewayID), r.Transition, int32(r.Severity), string(r.State), r.AtMS, text(r.Actor), text(r.Comment), r.UntilMS,
		int32(r.Verdict), finite(r.Score), text(r.Summary), r.Partition, r.Offset, r.Seq,
	}, nil
}

// newest keeps the last of the items with the same key, in the order of those: a statement may touch a row once only.
func newest[T any, K comparable](items []T, key func(T) K) []T {
	last := make(map[K]int, len(items))
	for i, it := range items {
		last[key(it)] = i
	}
	if len(last) == len(items) {
		return items
	}
	out := make([]T, 0, len(last))
	for i, it := range items {
		if last[key(it)] == i {
			out = append(out, it)
		}
	}
	return out
}

// atOnce is how many rows one statement writes: a round trip for each row made PostgreSQL the slowest part of a burst. Rows of 18 columns stay below both databases' limits.
const atOnce = 64

// each writes a row for each item. insert is a statement for one of them.
func each[T any](ctx context.Context, tx *sql.Tx, s *Store, insert string, items []T, values func(T) ([]any, error)) error {
	for len(items) > 0 {
		n := min(len(items), atOnce)
		rounds := len(items) / n // with the same statement
		if err := rows(ctx, tx, several(insert, n, s.db.Postgres()), n, items[:rounds*n], values); err != nil {
			return err
		}
		items = items[rounds*n:]
	}
	return nil
}

// rows runs a statement that writes n rows, as often as it takes.
func rows[T any](ctx context.Context, tx *sql.Tx, statement string, n int, items []T, values func(T) ([]any, error)) error {
	st, err := tx.PrepareContext(ctx, statement)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	var args []any
	for i, it := range items {
		v, err := values(it)
		if err != nil {
			return err
		}
		if args = append(args, v...); (i+1)%n > 0 {
			continue
		}
		if _, err := st.ExecContext(ctx, args...); err != nil {
			return err
		}
		args = args[:0]
	}
	return nil
}

// several is a statement that inserts n rows where the given one inserts one. SQLite's parameters have no numbers then: its driver looks each number up in a list of all.
func several(insert string, n int, numbered bool) string {
	const word = "VALUES "
	from := strings.Index(insert, word) + len(word)
	to := from + strings.IndexByte(insert[from:], ')') + 1
	columns := strings.Count(insert[from:to], "$")
	var b strings.Builder
	b.WriteString(insert[:from])
	for row := range n {
		if row > 0 {
			b.WriteString(", ")
		}
		for c := range columns {
			b.WriteString([2]string{"(", ", "}[min(c, 1)])
			if !numbered {
				b.WriteByte('?')
				continue
			}
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(row*columns + c + 1))
		}
		b.WriteByte(')')
	}
	b.WriteString(insert[to:])
	return b.String()
}

// text is s as both databases take it: PostgreSQL refuses a zero byte and what is not UTF-8.
func text(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�") }

func finite(v float64) float64 {
	if v-v != 0 {
		return 0
	}
	return v
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// stored is an alert as it lies in the column body.
type stored struct {
	StartedUS   int64           `json:"started_us"`
	EndedUS     int64           `json:"ended_us,omitempty"`
	Ack         *lifecycle.Mark `json:"ack,omitempty"`
	AckedBefore bool            `json:"acked_before,omitempty"`
	VerdictMark *lifecycle.Mark `json:"verdict_mark,omitempty"`
	Held        string          `json:"held,omitempty"`
	Lead        string          `json:"lead,omitempty"`
	Note        string          `json:"note,omitempty"`
	Acts        []string        `json:"acts,omitempty"`
	Event       []byte          `json:"event"`
	EventMS     int64           `json:"event_ms,omitempty"`
}

func encode(a *lifecycle.Alert) (string, error) {
	event, err := proto.Marshal(a.Event)
	if err != nil {
		return "", fmt.Errorf("encode alert %q: %w", a.ID, err)
	}
	b, err := json.Marshal(stored{a.StartedUS, a.EndedUS, a.Ack, a.AckedBefore, a.VerdictMark, a.Held, a.Lead, a.Note, a.Acts, event, a.EventMS})
	return string(b), err // JSON is UTF-8 and has no zero byte
}

// columns that decode needs, in its order.
const columns = `alert_id, equipment_id, cause, gateway_id, severity, state, opened_ms, closed_ms, verdict, log_partition, log_offset, body`

// decode reads an alert from a row of columns.
func decode(rows *sql.Rows) (*lifecycle.Alert, error) {
	a := &lifecycle.Alert{Event: &eventv1.AlertEvent{}}
	var severity, verdict int32
	var state, body string
	err := rows.Scan(&a.ID, &a.Key.EquipmentID, &a.Key.Cause, &a.GatewayID, &severity, &state, &a.OpenedMS, &a.ClosedMS, &verdict, &a.Partition, &a.Offset, &body)
	if err != nil {
		return nil, err
	}
	var b stored
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return nil, fmt.Errorf("alert %q: %w", a.ID, err)
	}
	if err := proto.Unmarshal(b.Event, a.Event); err != nil {
		return nil, fmt.Errorf("alert %q: %w", a.ID, err)
	}
	a.Severity, a.Verdict, a.State = eventv1.Severity(severity), eventv1.AlertVerdict(verdict), lifecycle.State(state)
	a.StartedUS, a.EndedUS, a.Ack, a.AckedBefore, a.VerdictMark = b.StartedUS, b.EndedUS, b.Ack, b.AckedBefore, b.VerdictMark
	a.Held, a.Lead, a.Note, a.Acts, a.EventMS = b.Held, b.Lead, b.Note, b.Acts, b.EventMS
	return a, nil
}
