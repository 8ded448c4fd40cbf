// Package query answers questions about the lake: it finds the files, has the engine read them, and keeps answers for as long as the lake is the same.
package query

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/catalog"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

// Question is a query, who asks, and how.
type Question struct {
	ID      string // "" : one is made
	Who     string
	See     auth.Equipment
	SQL     string
	Args    []string
	Tables  []string // that a query of our own reads; nil: the query is the asker's, and is checked
	Within  catalog.Range
	Format  string
	Rows    int
	Timeout time.Duration
}

// Answer to a question.
type Answer struct {
	worker.Answer
	ID      string
	Version string // of what was read
	Cached  bool
	Took    time.Duration
}

// Running is a query under way.
type Running struct {
	ID      string    `json:"id"`
	Who     string    `json:"who,omitempty"`
	SQL     string    `json:"sql"`
	Started time.Time `json:"started"`
	cancel  context.CancelCauseFunc
}

// Errors that are the asker's to know.
var (
	ErrCancelled = errors.New("the query was cancelled")
	ErrTwice     = errors.New("a query with this id is under way")
)

// Limits hold for every query; a question may ask for less.
type Limits struct {
	worker.Limits
	CacheBytes int64
}

// Desk takes questions. Safe for concurrent use.
type Desk struct {
	catalog *catalog.Catalog
	pool    *worker.Pool
	limits  Limits
	now     func() time.Time
	cache   *cache

	mu      sync.Mutex
	running map[string]*Running

	seconds *metrics.Histogram
	hits    *metrics.Counter
	results func(string) *metrics.Counter
	peak    *metrics.Histogram
}

// New makes a desk.
func New(c *catalog.Catalog, pool *worker.Pool, limits Limits, now func() time.Time, set *metrics.Set) *Desk {
	d := &Desk{
		catalog: c, pool: pool, limits: limits, now: now, cache: newCache(limits.CacheBytes), running: map[string]*Running{},
		seconds: set.NewHistogram("tocsin_history_query_seconds"), hits: set.NewCounter("tocsin_history_cache_hits_total"),
		peak: set.NewHistogram("tocsin_history_query_peak_bytes"),
		results: func(kind string) *metrics.Counter {
			return set.GetOrCreateCounter(`tocsin_history_queries_total{result="` + kind + `"}`)
		},
	}
	set.NewGauge("tocsin_history_queries_running", func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(len(d.running))
	})
	set.NewGauge("tocsin_history_cache_bytes", func() float64 { return float64(d.cache.size()) })
	return d
}

// Ask answers a question.
func (d *Desk) Ask(ctx context.Context, q Question) (Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &Running{ID: q.ID, Who: q.Who, SQL: q.SQL, Started: d.now(), cancel: cancel}
	if r.ID == "" {
		r.ID = strings.ToLower(rand.Text()[:12])
	}
	d.mu.Lock()
	if _, ok := d.running[r.ID]; ok {
		d.mu.Unlock()
		return Answer{}, ErrTwice
	}
	d.running[r.ID] = r
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.running, r.ID)
	}()
	a, err := d.answer(ctx, q)
	a.ID, a.Took = r.ID, d.now().Sub(r.Started)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	d.results(result(err)).Inc()
	d.seconds.Update(a.Took.Seconds())
	if a.Peak > 0 {
		d.peak.Update(float64(a.Peak))
	}
	return a, err
}

func result(err error) string {
	var e *worker.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return string(e.Kind)
	case errors.Is(err, ErrCancelled), errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, worker.ErrBusy):
		return "busy"
	}
	return "failed"
}

func (d *Desk) answer(ctx context.Context, q Question) (Answer, error) {
	ask := worker.Ask{SQL: q.SQL, Args: q.Args, Trusted: q.Tables != nil, Tables: q.Tables, Format: q.Format, Filter: filter(q.See), Limits: d.limits.Limits}
	if !ask.Trusted {
		ask.Tables = catalog.Names()
	}
	if q.Rows > 0 {
		ask.Limits.Rows = min(q.Rows, ask.Limits.Rows)
	}
	if q.Timeout > 0 {
		ask.Limits.Timeout = min(q.Timeout, ask.Limits.Timeout)
	}
	key := keyOf(ask, q.Within)
	// What it read the last time says what it reads: so the same question costs a look at the list of files.
	if tables, ok := d.cache.tables(key); ok {
		part, err := d.catalog.Find(ctx, tables, q.Within)
		if err != nil {
			return Answer{}, err
		}
		if a, ok := d.cache.get(key, part.Version); ok {
			d.hits.Inc()
			return Answer{Answer: a, Version: part.Version, Cached: true}, nil
		}
	}
	var version string
	var read []string
	a, err := d.pool.Query(ctx, ask, func(ctx context.Context, tables []string) (worker.Files, func(), error) {
		part, err := d.catalog.Find(ctx, tables, q.Within)
		if err != nil {
			return worker.Files{}, nil, err
		}
		version, read = part.Version, tables
		return d.catalog.Hold(ctx, part)
	})
	if err != nil {
		return Answer{Answer: a}, err
	}
	d.cache.put(key, read, version, a, volatile(q.SQL))
	return Answer{Answer: a, Version: version}, nil
}

// volatile queries have another answer the next time, over the same lake. Too often true is only slower.
func volatile(sql string) bool {
	low := strings.ToLower(sql)
	return slices.ContainsFunc([]string{"now", "current_", "today", "tomorrow", "yesterday", "random", "uuid", "sample", "get_current", "transaction_timestamp", "age"}, func(s string) bool {
		return strings.Contains(low, s)
	})
}

func filter(e auth.Equipment) worker.Filter {
	if e.All() {
		return worker.Filter{All: true}
	}
	var f worker.Filter
	for _, p := range e.Patterns() {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			f.Prefixes = append(f.Prefixes, prefix)
		} else {
			f.Exact = append(f.Exact, p)
		}
	}
	return f
}

func keyOf(ask worker.Ask, within catalog.Range) [32]byte {
	b, _ := json.Marshal(struct { // plain data: cannot fail
		worker.Ask
		catalog.Range
	}{ask, within})
	return sha256.Sum256(b)
}

// List is the queries under way of whoever asks; every sees all.
func (d *Desk) List(who string, every bool) []Running {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []Running{}
	for _, r := range d.running {
		if every || r.Who == who {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b Running) int { return a.Started.Compare(b.Started) })
	return out
}

// Cancel ends a query of whoever asks; false when there is none.
func (d *Desk) Cancel(id, who string, every bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.running[id]
	if !ok || !every && r.Who != who {
		return false
	}
	r.cancel(ErrCancelled)
	return true
}
