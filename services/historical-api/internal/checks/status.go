package checks

import (
	"context"
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/checkstore"
)

// Status of all jobs, as GET /v1/jobs gives it.
type Status struct {
	// Runner is the instance that runs them; empty while none does. Here: it is this one.
	Runner string      `json:"runner"`
	Here   bool        `json:"here"`
	Jobs   []JobStatus `json:"jobs"`
	// Waiting is the number of alerts that Kafka does not have yet, and FindingsWaiting that of what goes into the table findings; Problem says why.
	Waiting         int    `json:"alerts_waiting"`
	FindingsWaiting int    `json:"findings_waiting"`
	Problem         string `json:"alerts_problem,omitempty"`
}

// JobStatus is one job's.
type JobStatus struct {
	Name     string `json:"name"`
	Schedule string `json:"schedule"`
	TimeZone string `json:"time_zone"`
	Source   string `json:"source"`
	// State is running, waiting, late (slots are due), failing or new.
	State   string              `json:"state"`
	Next    time.Time           `json:"next"`
	Due     int                 `json:"due"`     // slots that have come and were not run
	Skipped int64               `json:"skipped"` // slots that were missed and are not made up for
	Last    *LastRun            `json:"last,omitempty"`
	Error   string              `json:"error,omitempty"`
	Result  *checkstore.Summary `json:"result,omitempty"` // of the last run that went well
}

// LastRun is an attempt.
type LastRun struct {
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Seconds  float64   `json:"seconds"`
	OK       bool      `json:"ok"`
	OKAt     time.Time `json:"ok_at,omitzero"` // the last one that went well
	Failures int64     `json:"failures"`       // in a row
}

// Status reads it from the store, so every instance gives the same.
func (r *Runner) Status(ctx context.Context) (Status, error) {
	out := Status{Jobs: []JobStatus{}}
	store, err := r.Store()
	if err != nil {
		return out, err
	}
	lease, err := store.Lease(ctx)
	if err != nil {
		return out, err
	}
	jobs, err := store.Jobs(ctx)
	if err != nil {
		return out, err
	}
	if out.Waiting, out.FindingsWaiting, err = store.Waiting(ctx); err != nil {
		return out, err
	}
	r.mu.Lock()
	running, unsent := r.running, r.unsent
	out.Runner, out.Here = lease.Holder, r.leads
	r.mu.Unlock()
	if unsent != nil && out.Waiting+out.FindingsWaiting > 0 {
		out.Problem = unsent.Error()
	}
	now := r.now()
	for i := range r.cfg.Jobs {
		j := &r.cfg.Jobs[i]
		s := JobStatus{Name: j.Name, Schedule: j.Schedule, TimeZone: j.place.String(), Source: j.Source, State: "new", Next: j.Next(now)}
		if state, ok := jobs[j.Name]; ok {
			slots, _ := j.due(state.Done, now)
			s.Due, s.Skipped = len(slots), state.Skipped
			if s.State = "waiting"; s.Due > 0 {
				s.State = "late"
			}
			if !state.Finished.IsZero() {
				s.Last = &LastRun{
					Started: state.Started, Finished: state.Finished, Seconds: max(0, state.Finished.Sub(state.Started).Seconds()), OK: state.Failures == 0, OKAt: state.OK, Failures: state.Failures,
				}
			}
			if !state.OK.IsZero() {
				s.Result = &state.Summary
			}
			if s.Error = state.Problem; state.Failures > 0 {
				s.State = "failing"
			}
		}
		if running == j.Name {
			s.State = "running"
		}
		out.Jobs = append(out.Jobs, s)
	}
	return out, nil
}

// Find is the job of that name.
func (r *Runner) Find(name string) (*Job, bool) {
	for i := range r.cfg.Jobs {
		if r.cfg.Jobs[i].Name == name {
			return &r.cfg.Jobs[i], true
		}
	}
	return nil, false
}

type counters struct{ set *metrics.Set }

func newCounters(set *metrics.Set, r *Runner, jobs []Job) counters {
	c := counters{set}
	set.NewGauge("tocsin_checks_leader", func() float64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.leads {
			return 1
		}
		return 0
	})
	for _, j := range jobs { // so that a job that never ran is seen
		c.runs(j.Name, "ok")
		c.runs(j.Name, "failed")
		c.okAt(j.Name)
	}
	return c
}

func (c counters) runs(job, result string) *metrics.Counter {
	return c.set.GetOrCreateCounter(fmt.Sprintf("tocsin_checks_runs_total{job_name=%q,result=%q}", job, result))
}

func (c counters) skipped(job string) *metrics.Counter {
	return c.set.GetOrCreateCounter(fmt.Sprintf("tocsin_checks_runs_skipped_total{job_name=%q}", job))
}

func (c counters) okAt(job string) *metrics.Gauge {
	return c.set.GetOrCreateGauge(fmt.Sprintf("tocsin_checks_last_success_timestamp_seconds{job_name=%q}", job), nil)
}

func (c counters) slot(job string, s checkstore.Summary, took time.Duration, at time.Time) {
	c.runs(job, "ok").Inc()
	c.okAt(job).Set(float64(at.Unix()))
	c.set.GetOrCreateHistogram(fmt.Sprintf("tocsin_checks_run_seconds{job_name=%q}", job)).Update(took.Seconds())
	for what, n := range map[string]int{"warning": s.Findings - s.Critical, "critical": s.Critical} {
		c.set.GetOrCreateCounter(fmt.Sprintf("tocsin_checks_findings_total{job_name=%q,severity=%q}", job, what)).Add(max(0, n))
	}
}
