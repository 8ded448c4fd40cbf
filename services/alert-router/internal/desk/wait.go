package desk

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/stream"
)

// CatchUp returns when everything that stands in the log now is in force.
func (d *Desk) CatchUp(ctx context.Context) error {
	if err := d.until(ctx, func() bool { return d.loaded }); err != nil {
		return err
	}
	for {
		ends, err := d.events.Ends(ctx)
		if err == nil {
			return d.Await(ctx, ends)
		}
		if sleepErr := sleep(ctx, retryFirst); sleepErr != nil {
			return err
		}
	}
}

// Await returns when the log is in force up to the given offsets.
func (d *Desk) Await(ctx context.Context, next map[int32]int64) error {
	return d.until(ctx, func() bool { return d.loaded && stream.Passed(d.read, next) })
}

// until waits for a condition on what is guarded by mu.
func (d *Desk) until(ctx context.Context, holds func() bool) error {
	for {
		d.mu.Lock()
		ok, moved := holds(), d.moved
		d.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotReady, ctx.Err())
		}
	}
}

// Ready is nil once the states are known.
func (d *Desk) Ready() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.loaded {
		return ErrNotReady
	}
	return nil
}

// Alert is the alert of that id as it is in force.
func (d *Desk) Alert(id string) (*lifecycle.Alert, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ledger.Alert(id)
}

// Alerts are those in memory of which f says so, in the order of their beginning.
func (d *Desk) Alerts(f func(*lifecycle.Alert) bool) []*lifecycle.Alert {
	d.mu.Lock()
	all := d.ledger.Alerts()
	d.mu.Unlock()
	all = slices.DeleteFunc(all, func(a *lifecycle.Alert) bool { return !f(a) })
	slices.SortFunc(all, func(a, b *lifecycle.Alert) int {
		return cmp.Or(cmp.Compare(a.OpenedMS, b.OpenedMS), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Alarm is what was decided of a machine and cause.
func (d *Desk) Alarm(k lifecycle.Key) (lifecycle.Alarm, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ledger.Alarm(k)
}

// Standing is the id of an alert of the alarm that stands, else of the one that was last decided of.
func (d *Desk) Standing(p lifecycle.Alarm) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a, ok := d.ledger.Standing(p.Key); ok {
		return a.ID
	}
	return p.AlertID
}

// Alarms is every alarm that something was decided of.
func (d *Desk) Alarms() []lifecycle.Alarm {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ledger.Alarms()
}

// Stands says why nobody is to be told of an alert, "" when people are; and whether somebody has seen it: then nobody is reminded of it.
func (d *Desk) Stands(alertID string) (quiet string, acknowledged bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.ledger.Alert(alertID)
	switch {
	case !ok:
		return "", false
	case a.AckedBefore:
		return "acknowledged before", a.Ack != nil
	default:
		return a.Held, a.Ack != nil
	}
}

// Deferred tells whether people are not told of an alert's end yet: it stands for others that have not come back.
func (d *Desk) Deferred(alertID string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ledger.Deferred(alertID)
}

// Leads counts the machines of the incident that an alert stands for, 0 for none; and names the group of machines whose incident it is, "" when it is a gateway's.
func (d *Desk) Leads(alertID string) (members int, group string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ledger.Leads(alertID)
}
