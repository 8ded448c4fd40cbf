package journal

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/pkg/sqlstore"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// What counts as what, after ISA-18.2 and EEMUA 191.
const (
	// StaleAfter is how long an alert stands before it is stale.
	StaleAfter = 24 * time.Hour
	// A flood is ten minutes with more than FloodAlerts new alerts.
	floodPeriod = 10 * time.Minute
	FloodAlerts = 10
	// chatterAlerts is how many times an alarm has to come in the period asked for to be listed.
	chatterAlerts = 3
	topList       = 50
)

// Figures are how the alarm system does, in a period. Counts of a machine's alerts are of those opened in it.
type Figures struct {
	From, To time.Time
	Alerts   map[string]int // opened in the period, by severity
	// Standing now, by state.
	States map[string]int
	// Pages are messages that said that something fires and that arrived, by receiver and shift.
	Pages []Shift
	// Time from opening to acknowledgement, of what was acknowledged; 0: nothing was.
	Acknowledged               int
	AckMedian, AckP90, AckMost time.Duration
	// Precision by machine: how many of the alerts that people judged were worth a look.
	Precision []Precision
	// Stale alerts stand for longer than StaleAfter, the oldest first.
	Stale []Standing
	// Chattering alarms came most often, the worst first.
	Chattering []Chatter
	// Floods is the number of ten-minute periods with more than FloodAlerts new alerts.
	Floods int
}

// Shift is what one receiver was told in one shift.
type Shift struct {
	Receiver string
	Begin    time.Time
	Pages    int
}

// Precision of one machine's alerts.
type Precision struct {
	EquipmentID                string
	Real, False, Known, Sensor int
	// Share of the judged alerts that were real or known.
	Share float64
}

// Standing is an alert that stands.
type Standing struct {
	AlertID, EquipmentID, Cause, State string
	Opened                             time.Time
}

// Chatter is an alarm that comes often.
type Chatter struct {
	EquipmentID, Cause string
	Alerts             int
}

// Figures of [from, to), of the machines that the filter lets see; shifts of the given length begin with from.
func (s *Store) Figures(ctx context.Context, f Filter, from, to, now time.Time, shift time.Duration) (Figures, error) {
	out := Figures{From: from, To: to, Alerts: map[string]int{}, States: map[string]int{}}
	scope := Filter{Equipment: f.Equipment, Machine: f.Machine, Cause: f.Cause, Gateway: f.Gateway}
	in := scope
	in.SinceMS, in.UntilMS = from.UnixMilli(), to.UnixMilli()
	for _, part := range []func() error{
		func() error { return s.opened(ctx, in, &out) },
		func() error { return s.standing(ctx, scope, now, &out) },
		func() error { return s.acknowledged(ctx, in, &out) },
		func() error { return s.precision(ctx, in, &out) },
		func() error { return s.pages(ctx, in, from, shift, &out) },
	} {
		if err := part(); err != nil {
			return Figures{}, fmt.Errorf("journal: %w", err)
		}
	}
	return out, nil
}

func (s *Store) opened(ctx context.Context, in Filter, out *Figures) error {
	cond, args := in.where(s.db.Postgres(), "opened_ms", "0", "alert_id")
	err := sqlstore.Each(ctx, s.db, s.db.Bind("SELECT severity, COUNT(*) FROM alerts WHERE "+cond+" GROUP BY severity"), args, func(r *sql.Rows) error {
		var sev int32
		var n int
		err := r.Scan(&sev, &n)
		out.Alerts[severityName(sev)] += n
		return err
	})
	if err != nil {
		return err
	}
	q := fmt.Sprintf("SELECT COUNT(*) FROM (SELECT opened_ms / %d AS period FROM alerts WHERE %s GROUP BY opened_ms / %d HAVING COUNT(*) > %d) AS floods",
		floodPeriod.Milliseconds(), cond, floodPeriod.Milliseconds(), FloodAlerts)
	if err := sqlstore.Each(ctx, s.db, s.db.Bind(q), args, func(r *sql.Rows) error { return r.Scan(&out.Floods) }); err != nil {
		return err
	}
	q = fmt.Sprintf("SELECT equipment_id, cause, COUNT(*) AS n FROM alerts WHERE %s GROUP BY equipment_id, cause HAVING COUNT(*) >= %d ORDER BY n DESC, equipment_id, cause LIMIT %d",
		cond, chatterAlerts, topList)
	return sqlstore.Each(ctx, s.db, s.db.Bind(q), args, func(r *sql.Rows) error {
		var c Chatter
		err := r.Scan(&c.EquipmentID, &c.Cause, &c.Alerts)
		out.Chattering = append(out.Chattering, c)
		return err
	})
}

func (s *Store) standing(ctx context.Context, scope Filter, now time.Time, out *Figures) error {
	cond, args := scope.where(s.db.Postgres(), "opened_ms", "0", "alert_id")
	err := sqlstore.Each(ctx, s.db, s.db.Bind("SELECT state, COUNT(*) FROM alerts WHERE closed_ms = 0 AND "+cond+" GROUP BY state"), args, func(r *sql.Rows) error {
		var st string
		var n int
		err := r.Scan(&st, &n)
		out.States[st] = n
		return err
	})
	if err != nil {
		return err
	}
	scope.UntilMS = now.Add(-StaleAfter).UnixMilli()
	cond, args = scope.where(s.db.Postgres(), "opened_ms", "0", "alert_id")
	q := fmt.Sprintf("SELECT alert_id, equipment_id, cause, state, opened_ms FROM alerts WHERE closed_ms = 0 AND %s ORDER BY opened_ms, alert_id LIMIT %d", cond, topList)
	return sqlstore.Each(ctx, s.db, s.db.Bind(q), args, func(r *sql.Rows) error {
		var x Standing
		var ms int64
		err := r.Scan(&x.AlertID, &x.EquipmentID, &x.Cause, &x.State, &ms)
		x.Opened = time.UnixMilli(ms).UTC()
		out.Stale = append(out.Stale, x)
		return err
	})
}

// acknowledged sorts in the database: percentiles by position, in both dialects.
func (s *Store) acknowledged(ctx context.Context, in Filter, out *Figures) error {
	cond, args := in.where(s.db.Postgres(), "opened_ms", "0", "alert_id")
	// Alerts that were acknowledged with another one, the last of their alarm or the lead of their incident, have no time of their own: one act of somebody is one figure.
	cond += " AND acked_ms >= opened_ms"
	if err := sqlstore.Each(ctx, s.db, s.db.Bind("SELECT COUNT(*) FROM alerts WHERE "+cond), args, func(r *sql.Rows) error { return r.Scan(&out.Acknowledged) }); err != nil || out.Acknowledged == 0 {
		return err
	}
	for _, q := range []struct {
		rank int
		into *time.Duration
	}{
		{(out.Acknowledged - 1) / 2, &out.AckMedian}, {(out.Acknowledged - 1) * 9 / 10, &out.AckP90}, {out.Acknowledged - 1, &out.AckMost},
	} {
		err := sqlstore.Each(ctx, s.db, s.db.Bind(fmt.Sprintf("SELECT acked_ms - opened_ms AS took FROM alerts WHERE %s ORDER BY took LIMIT 1 OFFSET %d", cond, q.rank)), args, func(r *sql.Rows) error {
			var ms int64
			err := r.Scan(&ms)
			*q.into = time.Duration(ms) * time.Millisecond
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) precision(ctx context.Context, in Filter, out *Figures) error {
	cond, args := in.where(s.db.Postgres(), "opened_ms", "0", "alert_id")
	by := map[string]*Precision{}
	err := sqlstore.Each(ctx, s.db, s.db.Bind("SELECT equipment_id, verdict, COUNT(*) FROM alerts WHERE verdict > 0 AND "+cond+" GROUP BY equipment_id, verdict"), args, func(r *sql.Rows) error {
		var id string
		var v int32
		var n int
		if err := r.Scan(&id, &v, &n); err != nil {
			return err
		}
		p := by[id]
		if p == nil {
			p = &Precision{EquipmentID: id}
			by[id] = p
		}
		switch eventv1.AlertVerdict(v) {
		case eventv1.AlertVerdict_ALERT_VERDICT_REAL:
			p.Real += n
		case eventv1.AlertVerdict_ALERT_VERDICT_FALSE:
			p.False += n
		case eventv1.AlertVerdict_ALERT_VERDICT_KNOWN:
			p.Known += n
		case eventv1.AlertVerdict_ALERT_VERDICT_SENSOR:
			p.Sensor += n
		}
		return nil
	})
	for _, p := range by {
		if judged := p.Real + p.False + p.Known + p.Sensor; judged > 0 {
			p.Share = float64(p.Real+p.Known) / float64(judged)
		}
		out.Precision = append(out.Precision, *p)
	}
	slices.SortFunc(out.Precision, func(a, b Precision) int {
		return cmp.Or(cmp.Compare(a.Share, b.Share), cmp.Compare(a.EquipmentID, b.EquipmentID))
	})
	return err
}

func (s *Store) pages(ctx context.Context, in Filter, from time.Time, shift time.Duration, out *Figures) error {
	in.Cause, in.Gateway = "", "" // notifications know the machine only
	cond, args := in.where(s.db.Postgres(), "at_ms", "0", "id")
	q := fmt.Sprintf(`SELECT receiver, (at_ms - %d) / %d AS shift, COUNT(DISTINCT message_key) FROM alert_notifications
 WHERE outcome = 'sent' AND status = 'firing' AND integration <> 'log' AND %s GROUP BY receiver, shift ORDER BY receiver, shift`, from.UnixMilli(), shift.Milliseconds(), cond)
	return sqlstore.Each(ctx, s.db, s.db.Bind(q), args, func(r *sql.Rows) error {
		var x Shift
		var n int64
		err := r.Scan(&x.Receiver, &n, &x.Pages)
		x.Begin = from.Add(time.Duration(n) * shift)
		out.Pages = append(out.Pages, x)
		return err
	})
}

func severityName(sev int32) string {
	switch eventv1.Severity(sev) {
	case eventv1.Severity_SEVERITY_INFO:
		return "info"
	case eventv1.Severity_SEVERITY_CRITICAL:
		return "critical"
	default:
		return "warning"
	}
}
