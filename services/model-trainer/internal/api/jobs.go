package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
)

// errNoJob: no training is known under that id.
var errNoJob = errors.New("no such training")

// job is a training that its client does not wait for. States: running, then done or failed.
type job struct {
	ID       string     `json:"id"`
	State    string     `json:"state"`
	Progress float64    `json:"progress"` // in [0, 1]
	Started  time.Time  `json:"started"`
	Ended    *time.Time `json:"ended,omitempty"`
	Answer   *trained   `json:"result,omitempty"`
	Problem  string     `json:"problem,omitempty"`
}

// remembered is how many trainings are known; the oldest that have ended are forgotten first.
const remembered = 100

// jobs are this instance's trainings. They are kept in memory: an instance that ends forgets them, the models stay.
type jobs struct {
	mu   sync.Mutex
	next int
	list []*job
	wg   sync.WaitGroup
	ctx  context.Context // ends with the service
	stop context.CancelFunc
}

func newJobs() *jobs {
	j := &jobs{}
	j.ctx, j.stop = context.WithCancel(context.Background())
	return j
}

// begin runs work in the background and answers with what is known of it at first.
func (j *jobs) begin(a *API, work func(context.Context, func(float64)) (*trained, error)) job {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next++
	one := &job{ID: strconv.Itoa(j.next), State: "running", Started: time.Now().UTC()}
	j.list = append(j.list, one)
	for i := 0; i < len(j.list) && len(j.list) > remembered; i++ {
		if j.list[i].State != "running" {
			j.list = append(j.list[:i], j.list[i+1:]...)
			break
		}
	}
	j.wg.Go(func() {
		answer, err := work(j.ctx, func(share float64) {
			j.mu.Lock()
			defer j.mu.Unlock()
			one.Progress = max(one.Progress, share)
		})
		j.mu.Lock()
		defer j.mu.Unlock()
		ended := time.Now().UTC()
		one.Ended = &ended
		if err != nil {
			one.State, one.Problem = "failed", a.explain(err)
			a.log.Warn("training failed", zap.String("training", one.ID), zap.Error(err))
			return
		}
		one.State, one.Progress, one.Answer = "done", 1, answer
	})
	return *one
}

// explain is an error in words for a client: what is not of his making stays in the log.
func (a *API) explain(err error) string {
	if status, _, detail, _ := classify(err); status < http.StatusInternalServerError {
		return detail
	}
	return "not possible: the store does not answer, or holds what it should not; the log says more"
}

func (a *API) showJob(r *http.Request) (int, any, error) {
	a.jobs.mu.Lock()
	defer a.jobs.mu.Unlock()
	for _, one := range a.jobs.list {
		if one.ID == r.PathValue("id") {
			return http.StatusOK, *one, nil
		}
	}
	return 0, nil, fmt.Errorf("%w: %q", errNoJob, r.PathValue("id"))
}

func (a *API) listJobs(*http.Request) (int, any, error) {
	a.jobs.mu.Lock()
	defer a.jobs.mu.Unlock()
	out := struct {
		Trainings []job `json:"trainings"`
	}{Trainings: []job{}}
	for _, one := range a.jobs.list {
		out.Trainings = append(out.Trainings, *one)
	}
	return http.StatusOK, out, nil
}

// Close ends trainings in the background: what reads stops, what computes has until ctx ends; then it is left to itself, and its model is not stored.
func (a *API) Close(ctx context.Context) {
	a.jobs.stop()
	done := make(chan struct{})
	go func() {
		a.jobs.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		a.log.Warn("a training was cut off")
	}
}
