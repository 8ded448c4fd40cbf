package tuning

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/lakehistory"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trial"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// kept is how many trials that have ended are remembered.
const kept = 16

// errBusy: a trial is under way.
var errBusy = errors.New("a trial is under way; cancel it, or wait for its end")

// bench runs trials, one at a time. Safe for concurrent use.
type bench struct {
	cfg    Config
	bucket objstore.Bucket
	log    *zap.Logger
	now    func() time.Time

	stop context.CancelFunc
	ctx  context.Context //nolint:containedctx // trials outlive the request that asked for them, and end with the bench
	wg   sync.WaitGroup

	published *streamprocessor.Published // nil: there is none

	mu      sync.Mutex
	current streamprocessor.Config
	jobs    []*job // the newest last
	closed  bool
}

// job is one trial. What is not constant is guarded by bench.mu.
type job struct {
	id      string
	owner   identity
	asked   Request
	created time.Time
	cancel  context.CancelFunc

	state    string // running, done, failed, cancelled
	progress float64
	ended    time.Time
	problem  string
	result   *Result
}

func newBench(cfg Config, bucket objstore.Bucket, current streamprocessor.Config, published *streamprocessor.Published, log *zap.Logger) *bench {
	b := &bench{cfg: cfg, bucket: bucket, log: log, now: time.Now, current: current, published: published}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

func (b *bench) reconfigure(current streamprocessor.Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = current
}

// settings are those that hold, and the id of the revision; none: it is not known what the fleet is judged under, and they are the file's.
func (b *bench) settings() (cfg streamprocessor.Config, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg = b.current
	if b.published != nil {
		if detection, revision, id, ok := b.published.Current(); ok {
			cfg.Detection, cfg.Revision = detection, revision
			return cfg, id
		}
	}
	return cfg, ""
}

// begin starts a trial of a request that was checked: of proposed against current, which is the revision id.
func (b *bench) begin(q Request, current streamprocessor.Config, id string, proposed streamprocessor.DetectionConfig, who identity) (view, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return view{}, errBusy
	}
	if n := len(b.jobs); n > 0 && b.jobs[n-1].state == running {
		return view{}, errBusy
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.cfg.Timeout)
	j := &job{id: rand.Text()[:16], owner: who, asked: q, created: b.now().UTC(), cancel: cancel, state: running}
	b.jobs = append(b.jobs, j)
	if len(b.jobs) > kept {
		b.jobs = slices.Delete(b.jobs, 0, len(b.jobs)-kept)
	}
	b.wg.Go(func() {
		defer cancel()
		result, err := b.run(ctx, j, current, id, proposed)
		b.end(ctx, j, result, err)
	})
	return j.view(false), nil
}

// States of a trial.
const (
	running   = "running"
	done      = "done"
	failed    = "failed"
	cancelled = "cancelled"
)

func (b *bench) end(ctx context.Context, j *job, result *Result, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j.ended = b.now().UTC()
	switch {
	case err == nil:
		j.state, j.progress, j.result = done, 1, result
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		j.state, j.problem = failed, fmt.Sprintf("it took longer than %s: choose fewer machines or a shorter stretch", b.cfg.Timeout)
	case ctx.Err() != nil:
		j.state = cancelled
	default:
		j.state, j.problem = failed, "the lake does not answer, or holds what it should not; the log says more"
		var much *lakehistory.TooMuch
		var none *nothing
		switch {
		case errors.As(err, &much):
			j.problem = much.Error()
		case errors.As(err, &none):
			j.problem = none.Error()
		}
		b.log.Warn("a trial of settings failed", zap.String("trial", j.id), zap.Error(err))
	}
}

// nothing: there is no history.
type nothing struct{ reason string }

func (e *nothing) Error() string { return e.reason }

func (b *bench) run(ctx context.Context, j *job, current streamprocessor.Config, id string, proposed streamprocessor.DetectionConfig) (*Result, error) {
	other := current
	other.Detection = proposed
	var err error
	if current, err = streamprocessor.WithModels(ctx, current); err != nil {
		return nil, err
	}
	if other, err = streamprocessor.WithModels(ctx, other); err != nil {
		return nil, err
	}
	q := &j.asked
	h := &lakehistory.History{
		Bucket: b.bucket, From: q.From.Add(-time.Duration(q.WarmUp)), To: q.To, MaxMachines: b.cfg.MaxMachines, MaxSamples: b.cfg.MaxSamples, MaxValues: b.cfg.MaxValues,
		Wanted: func(id string) bool { return j.owner.see.Has(id) && q.wants(id) },
		Progress: func(p float64) {
			b.mu.Lock()
			defer b.mu.Unlock()
			j.progress = p
		},
	}
	res, err := trial.Run(ctx, trial.Options{
		Source: h, From: q.From, Plain: true,
		Configs: []trial.Config{{Name: "before", Detection: current.Detection}, {Name: "after", Detection: other.Detection}},
		Schemas: func(context.Context, string) ([]string, error) { return nil, errors.New("the lake's rows have names") },
	})
	if err != nil {
		return nil, err
	}
	if len(res.Machines) == 0 {
		if h.Matched > 0 {
			return nil, &nothing{"the machines have no history in that stretch, but for what is only learned from"}
		}
		return nil, &nothing{"the lake has no readings of such machines in that stretch"}
	}
	out := resultOf(q, h, res, current.Revision)
	out.Base = id
	return out, nil
}

// wants tells whether a machine is asked for.
func (q *Request) wants(id string) bool {
	return len(q.Equipment) == 0 || slices.ContainsFunc(q.Equipment, func(p string) bool { ok, _ := path.Match(p, id); return ok })
}

// find gives a job that who may see.
func (b *bench) find(id string, who identity) *job {
	for _, j := range b.jobs {
		if j.id == id && (j.owner.name == who.name || who.see.All()) {
			return j
		}
	}
	return nil
}

func (b *bench) show(id string, who identity) (view, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.find(id, who)
	if j == nil {
		return view{}, false
	}
	return j.view(true), true
}

// list gives the newest first, without results.
func (b *bench) list(who identity) []view {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []view{}
	for _, j := range slices.Backward(b.jobs) {
		if b.find(j.id, who) != nil {
			out = append(out, j.view(false))
		}
	}
	return out
}

// giveUp cancels a trial; one that has ended stays as it is.
func (b *bench) giveUp(id string, who identity) (view, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.find(id, who)
	if j == nil {
		return view{}, false
	}
	j.cancel()
	return j.view(false), true
}

func (b *bench) close() error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.wg.Wait()
	if !first {
		return nil
	}
	return b.bucket.Close()
}
