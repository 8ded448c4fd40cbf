// Package desk knows the state of every alert of the fleet, takes what people do about them, and keeps the journal.
//
// Each instance follows the whole of alert.events.v1, whoever owns the partitions, into a lifecycle.Ledger in memory and from there into the journal. What people do is written to
// that same log first and takes effect when it is read there: so every instance comes to the same, an answer means that Kafka has it, and of two people who do
// the same at once the log says who was first. Neither the database nor another instance is needed for an acknowledgement to hold everywhere.
//
// The journal may be away: states go on from memory, what is to be written waits (MaxWaiting rows; beyond them it is read from the log again at the next start).
package desk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/stream"
)

const (
	// MaxWaiting rows and notifications wait for a database that is away.
	MaxWaiting = 250_000
	// positionEvery is how often the position is written while nothing but time passes.
	positionEvery = 15 * time.Second
	// pruneEvery is how often what is too old is deleted.
	pruneEvery = time.Hour
	// takeAtOnce entries of the log are put in force together, and about writeAtOnce rows are written in one transaction: it takes a fraction of writeTimeout also on a machine
	// that has much else to do, and one that fails is not made larger by what comes meanwhile.
	takeAtOnce  = 1000
	writeAtOnce = 4000
	retryFirst  = 100 * time.Millisecond
	retryLast   = 10 * time.Second
)

// ErrNotReady: the states are not known yet.
var ErrNotReady = errors.New("the alerts' states are still being read")

// Config of a Desk.
type Config struct {
	// URL of the journal: PostgreSQL, or empty: SQLite in DataDir.
	URL, DataDir string
	// Retention of the journal.
	Retention time.Duration
	Policy    lifecycle.Policy
	// MaxShelf is the longest that an alarm can be shelved.
	MaxShelf time.Duration
	Instance string
}

// Log is what a Desk reads and writes.
type Log interface {
	Follow(ctx context.Context, r stream.Reader) error
	Ends(ctx context.Context) (map[int32]int64, error)
	Publisher
}

// Changed is called with what has changed, after it is in force, by one goroutine. It must not call the Desk's acts.
type Changed func(lifecycle.Changes)

// Desk is safe for concurrent use. New, Run once, Close.
type Desk struct {
	cfg     Config
	events  Log
	log     *zap.Logger
	changed Changed

	lag, failures *metrics.Counter

	mu       sync.Mutex
	ledger   *lifecycle.Ledger
	loaded   bool
	read     map[int32]int64 // in force up to here
	moved    chan struct{}   // closed, and made anew, when read or saved has moved
	saved    map[int32]int64 // in the journal up to here
	outcomes map[string]error
	awaited  map[string]bool // acts whose outcome somebody waits for
	store    *journal.Store
	waiting  []journal.Batch // to be written, in order, each in one transaction
	rows     int             // of waiting
	overflow bool            // waiting has lost something: it is in the log
	told     []journal.Told
	kick     chan struct{} // something waits
}

// New opens nothing yet.
func New(cfg Config, events Log, changed Changed, log *zap.Logger, set *metrics.Set) *Desk {
	d := &Desk{
		cfg: cfg, events: events, log: log, changed: changed,
		lag: set.GetOrCreateCounter("tocsin_alert_journal_dropped_total"), failures: set.GetOrCreateCounter("tocsin_alert_journal_failures_total"),
		ledger: lifecycle.New(cfg.Policy), read: map[int32]int64{}, saved: map[int32]int64{}, moved: make(chan struct{}),
		outcomes: map[string]error{}, awaited: map[string]bool{}, kick: make(chan struct{}, 1),
	}
	set.GetOrCreateGauge("tocsin_alert_journal_waiting", func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(d.rows + len(d.told))
	})
	for _, st := range lifecycle.States() {
		set.GetOrCreateGauge(fmt.Sprintf("tocsin_alert_states{state=%q}", st), func() float64 { return float64(d.count(st)) })
	}
	return d
}

func (d *Desk) count(st lifecycle.State) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ledger.Count(st)
}

// Run opens the journal, as often as it takes, then follows the log until ctx ends; it writes what waits, as far as that goes within moments, and returns nil.
func (d *Desk) Run(ctx context.Context) error {
	if err := d.open(ctx); err != nil {
		return nil //nolint:nilerr // ctx has ended
	}
	var work sync.WaitGroup
	stop := make(chan struct{})
	work.Go(func() { d.write(stop) })
	work.Go(func() { d.prune(ctx) })
	err := d.follow(ctx)
	close(stop)
	work.Wait()
	d.mu.Lock()
	store := d.store
	d.store = nil
	d.mu.Unlock()
	return errors.Join(err, store.Close())
}

// open opens the journal and reads from it what is to be gone on from.
func (d *Desk) open(ctx context.Context) error {
	for wait := retryFirst; ; wait = min(2*wait, retryLast) {
		err := d.load(ctx)
		if err == nil {
			return nil
		}
		d.failures.Inc()
		d.log.Error("journal not to be had, will be tried again; people are told meanwhile, acknowledgements and shelves are not known", zap.Error(err))
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (d *Desk) load(ctx context.Context) error {
	store, err := journal.Open(ctx, d.cfg.URL, d.cfg.DataDir)
	if err != nil {
		return err
	}
	if kept := store.Reset(); kept != "" {
		d.log.Error("damaged journal set aside; what the log still has is written again", zap.String("kept_as", kept))
	}
	alerts, alarms, next, err := store.Load(ctx, time.Now().Add(-d.cfg.Policy.Keep).UnixMilli())
	if err != nil {
		return errors.Join(err, store.Close())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.Load(alerts, alarms)
	maps.Copy(d.saved, next)
	d.store = store
	return nil
}

func (d *Desk) follow(ctx context.Context) error {
	for wait := retryFirst; ; wait = min(2*wait, retryLast) {
		err := d.events.Follow(ctx, stream.Reader{Begin: d.begin, Read: d.take})
		if err == nil || ctx.Err() != nil {
			return nil
		}
		d.log.Warn("not following, will be tried again", zap.Error(err))
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// begin says where to go on. A position beyond the end is of a log that was made anew.
func (d *Desk) begin(ctx context.Context, starts, ends map[int32]int64) (map[int32]int64, error) {
	d.mu.Lock()
	at := maps.Clone(d.saved)
	if d.loaded {
		at = maps.Clone(d.read)
	}
	store := d.store
	d.mu.Unlock()
	for p, end := range ends {
		if at[p] > end {
			d.log.Warn("the log ends before what the journal has of it, so it was made anew; it is read from its start", zap.Int32("partition", p))
			if err := store.Rewind(ctx, p); err != nil {
				return nil, err
			}
			delete(at, p)
			d.mu.Lock()
			d.ledger.Rewind(p)
			d.mu.Unlock()
		}
		at[p] = max(at[p], starts[p])
	}
	d.mu.Lock()
	d.read, d.saved, d.loaded = maps.Clone(at), maps.Clone(at), true
	all := lifecycle.Changes{Alerts: d.ledger.Alerts(), Alarms: d.ledger.Alarms()}
	d.move()
	d.mu.Unlock()
	d.changed(all)
	return at, nil
}

// take puts entries in force and hands them on to be written, some at a time: what is in force already need not wait for the rest of a burst.
func (d *Desk) take(_ context.Context, entries []stream.Entry, next map[int32]int64) {
	for len(entries) > takeAtOnce {
		part := map[int32]int64{}
		for _, e := range entries[:takeAtOnce] {
			part[e.Partition] = e.Offset + 1
		}
		d.takeSome(entries[:takeAtOnce], part)
		entries = entries[takeAtOnce:]
	}
	d.takeSome(entries, next)
}

func (d *Desk) takeSome(entries []stream.Entry, next map[int32]int64) {
	d.mu.Lock()
	for _, e := range entries {
		if e.Event == nil {
			d.ledger.Advance(e.Partition, e.Offset, e.MS)
			continue
		}
		err := d.ledger.Apply(lifecycle.At{Partition: e.Partition, Offset: e.Offset, MS: e.MS}, e.Event)
		if id := e.Event.GetEventId(); d.awaited[id] {
			if _, known := d.outcomes[id]; !known {
				d.outcomes[id] = err
			}
		}
	}
	c := d.ledger.Take()
	maps.Copy(d.read, next)
	d.queue(journal.Batch{Changes: c, Next: next})
	d.mu.Unlock()
	if len(c.Alerts)+len(c.Alarms) > 0 {
		d.changed(c)
	}
	d.mu.Lock()
	d.move()
	d.mu.Unlock()
	if len(c.Rows)+len(c.Alerts)+len(c.Alarms) > 0 {
		d.wake()
	}
}

// queue adds to what waits. When too much waits it is given up, and with it the position: the next start reads it from the log again. Callers hold mu.
func (d *Desk) queue(b journal.Batch) {
	if d.overflow {
		return
	}
	if d.rows+len(b.Rows) > MaxWaiting {
		d.overflow = true
		d.lag.Add(d.rows + len(b.Rows))
		d.waiting, d.rows = nil, 0
		d.log.Error("the journal has been away for too long: what happens from now on is written after the next start, from the log")
		return
	}
	d.rows += len(b.Rows)
	if n := len(d.waiting); n > 0 && d.waiting[n-1].Size()+b.Size() <= writeAtOnce {
		d.waiting[n-1].Merge(b)
		return
	}
	d.waiting = append(d.waiting, b)
}

// move wakes who waits for a position. Callers hold mu.
func (d *Desk) move() {
	close(d.moved)
	d.moved = make(chan struct{})
}

func (d *Desk) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// sleep waits for a while or for the end of ctx.
func sleep(ctx context.Context, for_ time.Duration) error {
	t := time.NewTimer(for_)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
