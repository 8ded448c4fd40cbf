package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Fresh brings up a new stack of the named components, and takes it down.
type Fresh func(ctx context.Context, only []string) (w *World, down func() error, err error)

// PagesConfig sizes the scenario.
type PagesConfig struct {
	// Runs at a steady rate of PerS alerts a second for Length, each alert standing for Stands.
	Runs   []PagesRun
	PerS   int
	Stands time.Duration
	// Interval is the routing's group_interval: an end is told within it.
	Interval time.Duration
	// Target bounds the 99th percentile from Kafka to the webhook.
	Target   time.Duration
	Patience time.Duration
	// Profile is a folder for the router's profiles; empty: none.
	Profile string `json:"-"`
}

// PagesRun is one run of the scenario.
type PagesRun struct {
	RouterSetting
	Length time.Duration
	// AtOnce: the alerts of a second come in its first moment, as when windows close together; else evenly.
	AtOnce bool
}

// DefaultPages is what is recorded.
func DefaultPages() PagesConfig {
	return PagesConfig{
		Runs: []PagesRun{
			{RouterSetting{SQLite, true}, 3 * time.Minute, false},
			{RouterSetting{SQLite, true}, time.Minute, true},
			{RouterSetting{SQLite, false}, time.Minute, false},
			{RouterSetting{PostgreSQL, true}, time.Minute, false},
		},
		PerS: 100, Stands: 10 * time.Second, Interval: 5 * time.Second, Target: time.Second, Patience: 2 * time.Minute,
	}
}

// PagesMeasured is what came out of one run.
type PagesMeasured struct {
	RouterSetting
	AtOnce      bool    `json:"each_second_at_once"`
	Alerts      int     `json:"alerts"`
	Seconds     float64 `json:"seconds"`
	Untold      int     `json:"alerts_nobody_was_told_of"`
	EndsUntold  int     `json:"ends_nobody_was_told_of"`
	P50         float64 `json:"kafka_to_webhook_p50_ms"`
	P99         float64 `json:"kafka_to_webhook_p99_ms"`
	P999        float64 `json:"kafka_to_webhook_p999_ms"`
	Max         float64 `json:"kafka_to_webhook_max_ms"`
	Messages    int     `json:"messages"`
	RouterCPU   float64 `json:"router_cpu_percent_of_one_core"`
	RouterMB    int64   `json:"router_peak_mb"`
	JournalLagS float64 `json:"journal_complete_after_s"`
	OthersCPU   float64 `json:"others_cpu_percent"`
	Journal     JournalMeasured
}

// Pages measures from an anomaly's record being handed to the Kafka client to its page at the webhook, with group_wait 0s and a group for each alert.
func Pages(ctx context.Context, fresh Fresh, cfg PagesConfig) (*Report, error) {
	r := newReport("pages", fmt.Sprintf("at %d alerts/s an anomaly in Kafka is a page at the receiver within %s (p99), each once in the journal", cfg.PerS, cfg.Target), cfg)
	var out []PagesMeasured
	for i, run := range cfg.Runs {
		m, err := onFresh(ctx, fresh, run.Journal, func(w *World) (PagesMeasured, error) { return w.pages(ctx, cfg, run, fmt.Sprintf("p%d", i)) })
		if err != nil {
			return nil, fmt.Errorf("pages: run %d: %w", i+1, err)
		}
		out = append(out, m)
		what := fmt.Sprintf("run %d (%s)", i+1, m.name())
		r.brokenIf(m.Untold > 0, "%s: nobody was told of %d alerts", what, m.Untold)
		r.brokenIf(m.EndsUntold > 0, "%s: nobody was told of the end of %d alerts", what, m.EndsUntold)
		r.brokenIf(m.P99 > float64(cfg.Target.Milliseconds()), "%s: p99 is %.0f ms", what, m.P99)
		r.brokenIf(m.Journal.Held > 0, "%s: %d alerts were held back", what, m.Journal.Held)
		m.Journal.judge(r, what)
		r.Machine.OthersCPU = max(r.Machine.OthersCPU, m.OthersCPU)
		r.row(m.name(), fmt.Sprint(m.Alerts, " alerts"), fmt.Sprintf("p50 %.0f ms", m.P50), fmt.Sprintf("p99 %.0f ms", m.P99), fmt.Sprintf("max %.0f ms", m.Max), fmt.Sprintf("untold %d", m.Untold),
			fmt.Sprintf("journal rows %d of %d", m.Journal.Rows, m.Journal.Events), fmt.Sprintf("router %.0f %% of a core, %d MB", m.RouterCPU, m.RouterMB))
	}
	r.end(out)
	return r, nil
}

func (m PagesMeasured) name() string {
	s := m.RouterSetting.String()
	if m.AtOnce {
		s += ", each second at once"
	}
	return s
}

// String says how the router is set up.
func (s RouterSetting) String() string {
	if s.Incidents {
		return s.Journal + ", incidents on"
	}
	return s.Journal + ", incidents off"
}

func onFresh[T any](ctx context.Context, fresh Fresh, journal string, run func(*World) (T, error)) (out T, err error) {
	w, down, err := fresh(ctx, RouterNeeds(journal))
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, down()) }()
	return run(w)
}

// eachRouting has every alert be a group of its own, told at once.
func eachRouting(url string, interval time.Duration) string {
	return `route:
  receiver: people
  group_by: [equipment_id, cause]
  group_wait: 0s
  group_interval: ` + interval.String() + `
  repeat_interval: 4h
receivers:
  - name: people
    webhook_configs:
      - {url: "` + url + `", send_resolved: true}
`
}

func (w *World) pages(ctx context.Context, cfg PagesConfig, run PagesRun, prefix string) (m PagesMeasured, err error) {
	m.RouterSetting, m.AtOnce = run.RouterSetting, run.AtOnce
	h, err := startHook()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	undo, err := w.router(eachRouting(h.url(), cfg.Interval), run.RouterSetting)
	if err != nil {
		return m, err
	}
	defer undo()
	if err := w.Stack.Up(ctx); err != nil {
		return m, err
	}
	pids, err := w.pids(ctx, "alert-router")
	if err != nil {
		return m, err
	}
	cpu := startShare(pids)
	w.watch(pids)
	defer w.watch(nil)
	stopProfile := w.profile(ctx, cfg.Profile, prefix, run.Length)
	defer stopProfile()
	list, err := w.steady(ctx, h, prefix, cfg, run)
	if err != nil {
		return m, err
	}
	fed := time.Now()
	m.Alerts, m.Seconds = len(list), fed.Sub(list[0].started).Seconds()
	if m.JournalLagS, err = w.journalHas(ctx, run.Journal, prefix, 2*len(list), fed, cfg.Patience); err != nil {
		return m, err
	}
	if err := w.toldAll(ctx, h, list, cfg.Patience, true); err != nil {
		return m, err
	}
	m.latencies(h, list)
	m.RouterMB = peakMB(pids["alert-router"])
	share := cpu.end()
	m.OthersCPU = share["others"]
	m.RouterCPU = math.Round(share["alert-router"] * float64(runtime.NumCPU()))
	m.Messages, _ = h.traffic()
	stopProfile()
	if err := w.Stack.Stop(ctx, "alert-router"); err != nil {
		return m, err
	}
	m.Journal, err = w.compareJournal(ctx, run.Journal, prefix)
	return m, err
}

// steady begins alerts at a steady rate and ends each after its time; it returns when all have ended.
func (w *World) steady(ctx context.Context, h *hook, prefix string, cfg PagesConfig, run PagesRun) ([]*episode, error) {
	cl, err := w.producer(0)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ticking, stop := context.WithCancel(ctx)
	ticks := make(chan error, 1)
	go func() { ticks <- w.ticking(ticking) }()
	list, err := w.beginAndEnd(ctx, h, cl, prefix, cfg, run)
	stop()
	return list, errors.Join(err, <-ticks, cl.Flush(ctx))
}

// beginAndEnd ends no alert that nobody has been told of yet, as long as the patience lasts: on a machine that stands still for a second it would rightly never be told.
func (w *World) beginAndEnd(ctx context.Context, h *hook, cl *kgo.Client, prefix string, cfg PagesConfig, run PagesRun) (list []*episode, err error) {
	var p produced
	total := cfg.PerS * int(run.Length/time.Second)
	began, ended := time.Now(), 0
	gap := time.Second / time.Duration(cfg.PerS)
	turn := time.NewTicker(gap / 4)
	defer turn.Stop()
	for ended < total && ctx.Err() == nil && err == nil && p.err() == nil {
		if err = w.gone(); err != nil {
			break
		}
		now := time.Now()
		for n := len(list); n < total && err == nil; n = len(list) {
			due := began.Add(time.Duration(n) * gap)
			if run.AtOnce {
				due = began.Add(time.Duration(n/cfg.PerS) * time.Second)
			}
			if due.After(now) {
				break
			}
			e := newEpisode(prefix, n, 50, time.Now())
			list = append(list, e)
			err = e.begin(ctx, cl, &p)
		}
		for ended < len(list) && err == nil && now.Sub(list[ended].started) >= cfg.Stands {
			if _, told := h.told(list[ended], false); !told && now.Sub(list[ended].started) < cfg.Stands+cfg.Patience {
				break
			}
			err = list[ended].end(ctx, cl, &p, time.Now())
			ended++
		}
		select {
		case <-ctx.Done():
		case <-turn.C:
		}
	}
	return list, errors.Join(err, ctx.Err(), p.err())
}

// latencies are of the first page of each alert.
func (m *PagesMeasured) latencies(h *hook, list []*episode) {
	var ms []float64
	for _, e := range list {
		at, ok := h.told(e, false)
		if !ok {
			m.Untold++
			continue
		}
		ms = append(ms, float64(at.Sub(e.started).Microseconds())/1000)
		if _, ok := h.told(e, true); !ok {
			m.EndsUntold++
		}
	}
	slices.Sort(ms)
	m.P50, m.P99, m.P999, m.Max = quantile(ms, 0.5), quantile(ms, 0.99), quantile(ms, 0.999), quantile(ms, 1)
}

// toldAll waits until people have been told of every alert, or of their ends; what is missing after the patience is for the caller to count.
func (w *World) toldAll(ctx context.Context, h *hook, list []*episode, patience time.Duration, resolved bool) error {
	err := w.until(ctx, patience, "all have been told", func() (bool, error) {
		n, err := h.count(list, resolved)
		return n == len(list), err
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		w.say("%v", err)
		return nil
	}
	return err
}

// journalHas waits until the journal has so many rows; it says how long after since that was.
func (w *World) journalHas(ctx context.Context, kind, prefix string, rows int, since time.Time, patience time.Duration) (float64, error) {
	db, err := w.journal(kind)
	if err != nil {
		return 0, err
	}
	var next time.Time // counting is work for the journal too: once a second
	err = w.until(ctx, patience, fmt.Sprintf("the journal has %d rows", rows), func() (bool, error) {
		if time.Now().Before(next) {
			return false, nil
		}
		next = time.Now().Add(time.Second)
		n, err := written(ctx, db, prefix)
		return n >= rows, err
	})
	return time.Since(since).Seconds(), errors.Join(err, db.Close())
}

// profile takes a CPU profile of the router, and its heap at the end, into dir; empty: nothing.
func (w *World) profile(ctx context.Context, dir, name string, length time.Duration) (stop func()) {
	if dir == "" {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.keepProfile(ctx, filepath.Join(dir, name+".cpu"), fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(length.Seconds()))))
	}()
	return func() {
		<-done
		w.keepProfile(ctx, filepath.Join(dir, name+".heap"), "/debug/pprof/heap")
	}
}

func (w *World) keepProfile(ctx context.Context, file, path string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url("alert-router", path), http.NoBody)
	if err != nil {
		return
	}
	client := http.Client{Timeout: 5 * time.Minute}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = res.Body.Close() }()
	if f, err := os.Create(file); err == nil {
		_, _ = f.ReadFrom(res.Body)
		_ = f.Close()
	}
}
