package load

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Journals that a run can use.
const (
	SQLite     = "sqlite"
	PostgreSQL = "postgresql"
)

// journal opens the router's journal to look into it.
func (w *World) journal(kind string) (*sql.DB, error) {
	if kind == PostgreSQL {
		return sql.Open("pgx", w.Stack.PostgresURL(stack.Database))
	}
	file := filepath.Join(filepath.Dir(w.Stack.ConfigFile()), "data", "alert-router", "journal.db")
	q := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)"}}
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: q.Encode()}).String())
}

// written is how many transitions the journal has of the machines whose name begins with prefix.
func written(ctx context.Context, db *sql.DB, prefix string) (n int, err error) {
	err = db.QueryRowContext(ctx, "SELECT count(*) FROM alert_transitions WHERE equipment_id >= $1 AND equipment_id < $2", prefix+"-", prefix+".").Scan(&n)
	return n, err
}

// JournalMeasured is the journal beside the log.
type JournalMeasured struct {
	Events  int `json:"events_in_the_log"` // alerts' transitions in alert.events.v1
	Twice   int `json:"events_twice_in_the_log"`
	Rows    int `json:"rows"`
	Missing int `json:"events_without_a_row"`
	Beyond  int `json:"rows_without_an_event"`
	Held    int `json:"rows_suppressed_or_released"`
	Told    int `json:"notification_rows"`
}

// compareJournal holds every row against the log: each event of these machines has one row, named by it.
func (w *World) compareJournal(ctx context.Context, kind, prefix string) (m JournalMeasured, err error) {
	events := map[string]bool{}
	err = w.scan(ctx, topic.Alerts, nil, func(r *kgo.Record) error {
		if r.Attrs.IsControl() || topic.Type(r) != topic.TypeAlert {
			return nil
		}
		var ev eventv1.AlertEvent
		if err := proto.Unmarshal(r.Value, &ev); err != nil {
			return fmt.Errorf("alert event: %w", err)
		}
		if id := ev.GetEquipmentId(); id < prefix+"-" || id >= prefix+"." {
			return nil
		}
		m.Events++
		if events[ev.GetEventId()] {
			m.Twice++
		}
		events[ev.GetEventId()] = true
		return nil
	})
	if err != nil {
		return m, err
	}
	db, err := w.journal(kind)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, "SELECT id, transition FROM alert_transitions WHERE equipment_id >= $1 AND equipment_id < $2", prefix+"-", prefix+".")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id, transition string
		if err := rows.Scan(&id, &transition); err != nil {
			return m, err
		}
		switch {
		case transition == "suppressed" || transition == "released":
			m.Held++
		case events[id]:
			m.Rows++
			delete(events, id) // the id is the table's primary key: it does not come twice
		default:
			m.Beyond++
		}
	}
	m.Missing = len(events)
	if err := rows.Err(); err != nil {
		return m, err
	}
	err = db.QueryRowContext(ctx, "SELECT count(*) FROM alert_notifications WHERE equipment_id >= $1 AND equipment_id < $2", prefix+"-", prefix+".").Scan(&m.Told)
	return m, err
}

func (m JournalMeasured) judge(r *Report, what string) {
	r.brokenIf(m.Twice > 0, "%s: %d events stand twice in the log", what, m.Twice)
	r.brokenIf(m.Missing > 0, "%s: %d transitions have no row in the journal", what, m.Missing)
	r.brokenIf(m.Beyond > 0, "%s: the journal has %d rows that no event has made", what, m.Beyond)
}
