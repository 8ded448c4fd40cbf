// Package pipeline answers how the whole of Tocsin does: how long each hop takes, what waits for whom, what was set aside, and whether the other services are ready.
package pipeline

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/backlog"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/forward"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hops"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

// Fresh is how long an answer is good for: however many ask, the services are asked once in this time.
const Fresh = 3 * time.Second

// patience is how long services may take to say that they are ready.
const patience = 2 * time.Second

// Targets by hop, where there is one: within it 99 of 100 records are to be. They are those of the alert rules.
var targets = map[hops.Hop]time.Duration{hops.Judged: 5 * time.Second, hops.Reported: 5 * time.Second, hops.Routed: 10 * time.Second, hops.Delivered: time.Second}

// Sources are where the figures come from.
type Sources struct {
	Hops     func(now time.Time) []hops.Figures
	Backlog  func() backlog.Report
	Flow     func() wire.Flow
	Services func(ctx context.Context) []forward.Readiness
	Ready    func() error
}

// Desk answers. Safe for concurrent use.
type Desk struct {
	from Sources

	mu   sync.Mutex // held while the services are asked, so that they are asked once
	at   time.Time
	body []byte
}

// New makes a desk.
func New(from Sources) *Desk { return &Desk{from: from} }

type hop struct {
	Hop      string `json:"hop"`
	Count    uint64 `json:"count"`
	P50      int64  `json:"p50_ms"`
	P90      int64  `json:"p90_ms"`
	P99      int64  `json:"p99_ms"`
	Max      int64  `json:"max_ms"`
	TargetMS int64  `json:"target_ms"`
}

type lag struct {
	Group   string `json:"group"`
	Topic   string `json:"topic"`
	Records int64  `json:"records"`
	Members int    `json:"members"`
}

type letters struct {
	Topic   string `json:"topic"`
	Records int64  `json:"records"`
}

type serviceState struct {
	Service string `json:"service"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason"`
	TookMS  int64  `json:"took_ms"`
}

type rates struct {
	Windows float64 `json:"windows_per_second"`
	Reports float64 `json:"anomaly_reports_per_second"`
}

type health struct {
	AtMS        int64          `json:"at_ms"`
	Hops        []hop          `json:"hops"`
	BacklogAtMS int64          `json:"backlog_at_ms"`
	Lags        []lag          `json:"lags"`
	DeadLetters []letters      `json:"dead_letters"`
	Services    []serviceState `json:"services"`
	Rates       rates          `json:"rates"`
	LogTimeMS   int64          `json:"log_time_ms"`
	CaughtUp    bool           `json:"caught_up"`
}

// Serve answers GET /v1/health/pipeline. What it tells is of no machine, so everybody who is let in is told the same.
func (d *Desk) Serve(w http.ResponseWriter, r *http.Request, _ *gate.Identity) {
	body := d.answer(r.Context())
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) // the client is gone: nothing left to tell it
}

func (d *Desk) answer(ctx context.Context) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); d.body == nil || now.Sub(d.at) > Fresh {
		// Not the first asker's to give up: others wait for the same answer.
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		b, _ := json.Marshal(d.look(ask, now)) // numbers and strings always marshal
		d.body, d.at = append(b, '\n'), time.Now()
	}
	return d.body
}

func (d *Desk) look(ctx context.Context, now time.Time) *health {
	flow, waits := d.from.Flow(), d.from.Backlog()
	out := &health{
		AtMS: now.UnixMilli(), Hops: []hop{}, Lags: []lag{}, DeadLetters: []letters{}, Services: []serviceState{},
		Rates: rates{flow.WindowsPerSecond, flow.ReportsPerSecond}, LogTimeMS: flow.LogTimeMS, CaughtUp: flow.CaughtUp,
	}
	for _, f := range d.from.Hops(now) {
		out.Hops = append(out.Hops, hop{
			hops.Names[f.Hop], f.Count, f.P50.Milliseconds(), f.P90.Milliseconds(), f.P99.Milliseconds(), f.Max.Milliseconds(), targets[f.Hop].Milliseconds(),
		})
	}
	if !waits.At.IsZero() {
		out.BacklogAtMS = waits.At.UnixMilli()
	}
	for _, l := range waits.Lags {
		out.Lags = append(out.Lags, lag(l))
	}
	for _, l := range waits.Letters {
		out.DeadLetters = append(out.DeadLetters, letters(l))
	}
	own := serviceState{Service: "realtime-api", Ready: true}
	if err := d.from.Ready(); err != nil {
		own.Ready, own.Reason = false, err.Error()
	}
	out.Services = append(out.Services, own)
	for _, s := range d.from.Services(ctx) {
		out.Services = append(out.Services, serviceState{s.Name, s.Ready, s.Reason, s.Took.Milliseconds()})
	}
	return out
}
