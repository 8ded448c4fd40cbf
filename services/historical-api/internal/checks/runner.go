package checks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/announce"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/checkstore"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// Config of the runner.
type Config struct {
	Jobs      []Job // compiled
	Instance  string
	URL, Dir  string        // of the store: see checkstore.Open
	Lease     time.Duration // silence of an instance after which another takes over
	Stand     time.Duration // an alert stands at least so long
	Retention time.Duration
	Build     string // version of this program, for the findings that it makes
}

// Runner runs jobs: while it has the lease, one at a time. Make it with New, call Run once. Its other methods are safe for concurrent use.
type Runner struct {
	cfg   Config
	desk  Asker
	deps  service.Deps
	log   *zap.Logger
	now   func() time.Time
	count counters
	wake  chan struct{} // for the publisher

	mu      sync.Mutex
	store   *checkstore.Store // nil until it could be opened
	problem error             // why it could not
	leads   bool
	running string
	unsent  error
}

const (
	tickEvery  = time.Second
	closeEvery = 5 * time.Second
	tidyEvery  = time.Hour
	storeRetry = 2 * time.Second
	retryFirst = 15 * time.Second
	retryMax   = 10 * time.Minute
	// chunk is how much of a time slots that are late may span to be judged from one reading of the lake.
	chunk = 7 * 24 * time.Hour
)

// New opens nothing yet.
func New(cfg Config, desk Asker, deps service.Deps, now func() time.Time) *Runner {
	r := &Runner{cfg: cfg, desk: desk, deps: deps, log: deps.Log.Named("checks"), now: now, wake: make(chan struct{}, 1), problem: errors.New("starting")}
	r.count = newCounters(deps.Metrics, r, cfg.Jobs)
	return r
}

// Store is where findings are; an error while it cannot be opened.
func (r *Runner) Store() (*checkstore.Store, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store == nil {
		return nil, fmt.Errorf("%w: %w", ErrNoStore, r.problem)
	}
	return r.store, nil
}

// ErrNoStore: findings cannot be read or written now.
var ErrNoStore = errors.New("the checks' store is not open")

// Run waits for the lease, runs jobs while it has it, and again; until ctx ends.
func (r *Runner) Run(ctx context.Context) {
	store := r.open(ctx)
	if store == nil {
		return
	}
	defer func() {
		r.mu.Lock()
		r.store, r.problem = nil, errors.New("stopped")
		r.mu.Unlock()
		_ = store.Close()
	}()
	for ctx.Err() == nil {
		token, err := r.acquire(ctx, store)
		if err != nil {
			if ctx.Err() == nil {
				r.log.Warn("the checks' store does not answer", zap.Error(err))
				sleep(ctx, storeRetry)
			}
			continue
		}
		r.lead(ctx, store, token)
	}
}

func (r *Runner) open(ctx context.Context) *checkstore.Store {
	said := ""
	for ctx.Err() == nil {
		store, err := checkstore.Open(ctx, r.cfg.URL, r.cfg.Dir)
		r.mu.Lock()
		r.store, r.problem = store, err
		r.mu.Unlock()
		if err == nil {
			return store
		}
		if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			r.log.Warn("the checks' store cannot be opened", zap.Error(err))
		}
		sleep(ctx, storeRetry)
	}
	return nil
}

// acquire waits until the lease is this instance's.
func (r *Runner) acquire(ctx context.Context, store *checkstore.Store) (token int64, err error) {
	var seen checkstore.Lease
	var since time.Time
	for {
		l, err := store.Lease(ctx)
		if err != nil {
			return 0, err
		}
		if l != seen || since.IsZero() {
			seen, since = l, time.Now()
		}
		// Given up, never had, this instance's own of before it was killed, or not shown to live for long enough.
		if l.Holder == "" || l.Holder == r.cfg.Instance || time.Since(since) >= r.cfg.Lease {
			token, ok, err := store.Take(ctx, l, r.cfg.Instance)
			if err != nil {
				return 0, err
			}
			if ok {
				return token, nil
			}
		}
		sleep(ctx, r.cfg.Lease/4)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

// lead runs jobs until ctx ends or the lease is another's.
func (r *Runner) lead(ctx context.Context, store *checkstore.Store, token int64) {
	r.log.Info("this instance runs the checks", zap.String("instance", r.cfg.Instance), zap.Int64("token", token))
	r.setLeads(true)
	defer r.setLeads(false)
	inner, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		release, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer stop()
		_ = store.Release(release, token) // or it ends by itself
	}()
	wg.Go(func() { r.beat(inner, store, token, cancel) })
	wg.Go(func() { announce.New(store, r.deps, len(r.cfg.Jobs) > 0, r.setUnsent).Run(inner, r.wake) })
	w := &work{Runner: r, store: store, token: token, retry: map[string]time.Time{}, failures: map[string]int{}}
	if err := w.run(inner); err != nil && ctx.Err() == nil {
		r.log.Warn("this instance runs the checks no more", zap.Error(err))
	}
}

// beat shows that this instance lives. Without an answer for the lease's time it is to be thought dead, also by itself.
func (r *Runner) beat(ctx context.Context, store *checkstore.Store, token int64, lost func()) {
	last := time.Now()
	for {
		sleep(ctx, r.cfg.Lease/4)
		if ctx.Err() != nil {
			return
		}
		limited, stop := context.WithTimeout(ctx, r.cfg.Lease/4)
		err := store.Beat(limited, token)
		stop()
		if err == nil {
			last = time.Now()
		} else if errors.Is(err, checkstore.ErrFenced) || time.Since(last) > r.cfg.Lease {
			lost()
			return
		}
	}
}

func (r *Runner) setLeads(leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leads = leads
}

func (r *Runner) setRunning(job string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = job
}

func (r *Runner) setUnsent(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsent = err
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// work is the runner while it has the lease. One goroutine.
type work struct {
	*Runner
	store    *checkstore.Store
	token    int64
	retry    map[string]time.Time
	failures map[string]int
	closed   time.Time
	tidied   time.Time
}

// run returns when ctx ends or the lease is lost.
func (w *work) run(ctx context.Context) error {
	for {
		for i := range w.cfg.Jobs {
			job := &w.cfg.Jobs[i]
			if w.now().Before(w.retry[job.Name]) {
				continue
			}
			for more := true; more && ctx.Err() == nil; {
				var err error
				if more, err = w.job(ctx, job); errors.Is(err, checkstore.ErrFenced) {
					return err
				}
			}
		}
		if err := w.tidy(ctx); errors.Is(err, checkstore.ErrFenced) {
			return err
		} else if err != nil && ctx.Err() == nil {
			w.log.Warn("the checks' store does not answer", zap.Error(err))
		}
		sleep(ctx, tickEvery)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// job runs slots that are due; more tells that there are others.
func (w *work) job(ctx context.Context, job *Job) (more bool, err error) {
	state, known, err := w.store.Job(ctx, job.Name)
	if err != nil {
		return false, err
	}
	now := w.now()
	if !known {
		begin := job.begin(now)
		state.Done, state.Begun, state.Judged = begin, job.end(begin), job.end(begin)
		if err := w.store.SaveJob(ctx, w.token, state); err != nil {
			return false, err
		}
	}
	slots, skipped := job.due(state.Done, now)
	if skipped > 0 {
		state.Skipped += int64(skipped)
		state.Done = slots[0].Add(-time.Second)
		w.log.Warn("runs that were missed too long ago are left out", zap.String("job", job.Name), zap.Int("runs", skipped), zap.Time("next", slots[0]))
		w.count.skipped(job.Name).Add(skipped)
		if err := w.store.SaveJob(ctx, w.token, state); err != nil {
			return false, err
		}
	}
	if len(slots) == 0 {
		return false, nil
	}
	w.setRunning(job.Name)
	defer w.setRunning("")
	state.Started = now
	done, err := w.slots(ctx, job, state, slots)
	if err == nil {
		delete(w.retry, job.Name)
		delete(w.failures, job.Name)
		return done < len(slots), nil
	}
	if ctx.Err() != nil || errors.Is(err, checkstore.ErrFenced) {
		return false, err
	}
	return false, w.failed(ctx, job, err)
}

// failed notes what went wrong. The slot stays due.
func (w *work) failed(ctx context.Context, job *Job, cause error) error {
	w.log.Warn("a check failed", zap.String("job", job.Name), zap.Error(cause))
	w.count.runs(job.Name, "failed").Inc()
	w.failures[job.Name]++
	w.retry[job.Name] = w.now().Add(min(retryFirst<<min(w.failures[job.Name]-1, 10), retryMax))
	state, _, err := w.store.Job(ctx, job.Name) // slots before the one that failed have been saved
	if err != nil {
		return err
	}
	state.Failures++
	state.Finished, state.Problem = w.now(), cause.Error()
	return w.store.SaveJob(ctx, w.token, state)
}

// slots runs as many slots as one reading of the lake serves; it gives their number.
func (w *work) slots(ctx context.Context, job *Job, state checkstore.Job, slots []time.Time) (int, error) {
	n := 1
	for n < len(slots) && job.end(slots[n]).Sub(job.end(slots[0])) <= chunk {
		n++
	}
	from, _ := job.window(slots[0], state.Judged)
	figures, err := job.Figures(ctx, w.desk, Asks{Who: "check " + job.Name, See: auth.Every()}, from.Add(-baseline), job.end(slots[n-1]))
	if err != nil {
		return 0, err
	}
	checkers := map[Key]*usage.Checker{}
	for key, s := range figures.Series {
		checkers[key] = usage.New(s, job.place, job.rules)
	}
	for i, slot := range slots[:n] {
		if err := w.slot(ctx, job, &state, slot, i == n-1, checkers, figures); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// slot judges one and saves it; one that has brought nothing is saved with the next, unless it is the last.
func (w *work) slot(ctx context.Context, job *Job, state *checkstore.Job, slot time.Time, last bool, checkers map[Key]*usage.Checker, figures Figures) error {
	from, to := job.window(slot, state.Judged)
	known, err := w.store.Recent(ctx, job.Name, from.Add(-24*time.Hour))
	if err != nil {
		return err
	}
	v := job.judge(checkers, known, slot, state.Judged, state.Begun)
	v.summary.Invalid = figures.Invalid
	v.summary.Note = note(v.summary, figures)
	var records []checkstore.Record
	changed := v.changed
	for _, i := range v.open {
		f := &v.changed[i]
		// The alert-router keeps one alert of an entity and cause: the one before must have ended.
		for _, old := range slices.Concat(known, v.changed[:i]) {
			if old.Alert == checkstore.AlertOpen && old.ID != f.ID && old.Entity == f.Entity && causeOf(old.ID) == causeOf(f.ID) && !ended(changed, old.ID) {
				a, err := alert(old, eventv1.Phase_PHASE_ENDED, slot, w.now(), "Another one has begun.")
				if err != nil {
					return err
				}
				old.Alert, old.Over = checkstore.AlertEnded, true
				records, changed = append(records, a), append(changed, old)
			}
		}
		a, err := alert(*f, eventv1.Phase_PHASE_STARTED, slot, w.now(), "")
		if err != nil {
			return err
		}
		f.Alert, f.Alerted = checkstore.AlertOpen, w.now()
		changed[i] = *f
		records = append(records, a)
	}
	told, err := tell(known, changed, w.cfg.Build, w.now())
	if err != nil {
		return err
	}
	records = append(records, told...)
	state.Done, state.Judged = slot, latest(state.Judged, to)
	state.Finished = w.now()
	state.OK, state.Failures, state.Problem, state.Summary = state.Finished, 0, "", v.summary
	if last || len(changed) > 0 {
		if err := w.store.SaveSlot(ctx, w.token, *state, changed, records); err != nil {
			return err
		}
	}
	w.count.slot(job.Name, v.summary, state.Finished.Sub(state.Started), state.Finished)
	if len(records) > 0 {
		w.published()
	}
	return nil
}

// ended tells whether a finding's alert ends in this slot already.
func ended(changed []checkstore.Finding, id string) bool {
	return slices.ContainsFunc(changed, func(f checkstore.Finding) bool { return f.ID == id && f.Alert == checkstore.AlertEnded })
}

func note(s checkstore.Summary, f Figures) string {
	switch {
	case f.Invalid > 0:
		return fmt.Sprintf("%d series are left out: their names cannot be those of alerts (ids have letters, digits and . _ : -), such as %s", f.Invalid, f.Example)
	case s.Series == 0:
		return "no figures: nothing was judged"
	case s.Judged == 0 && s.Short > 0:
		return "not enough history: an hour is judged by the same hour of at least 3 earlier weeks of the last 30 days"
	}
	return ""
}

func (w *work) published() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// tidy ends alerts that are over and have stood long enough to be told of, and forgets old findings.
func (w *work) tidy(ctx context.Context) error {
	now := w.now()
	if now.Sub(w.closed) >= closeEvery {
		open, err := w.store.Open(ctx)
		if err != nil {
			return err
		}
		var changed []checkstore.Finding
		var records []checkstore.Record
		for _, f := range open {
			why := "The hours after it are as usual."
			if !slices.ContainsFunc(w.cfg.Jobs, func(j Job) bool { return j.Name == f.Job }) {
				why = "The check is not made any more."
			} else if !f.Over || now.Sub(f.Alerted) < w.cfg.Stand {
				continue
			}
			a, err := alert(f, eventv1.Phase_PHASE_ENDED, f.To, now, why)
			if err != nil {
				return err
			}
			f.Alert, f.Over = checkstore.AlertEnded, true
			changed, records = append(changed, f), append(records, a)
		}
		if len(changed) > 0 {
			told, err := tell(open, changed, w.cfg.Build, now)
			if err != nil {
				return err
			}
			if err := w.store.SaveFindings(ctx, w.token, changed, append(records, told...)); err != nil {
				return err
			}
			w.published()
		}
		w.closed = now
	}
	if now.Sub(w.tidied) >= tidyEvery {
		n, err := w.store.Forget(ctx, w.token, now.Add(-w.cfg.Retention))
		if err != nil {
			return err
		}
		if n > 0 {
			w.log.Info("findings forgotten", zap.Int64("findings", n))
		}
		w.tidied = now
	}
	return nil
}
