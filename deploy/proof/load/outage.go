package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// OutageConfig sizes the scenario.
type OutageConfig struct {
	// Away is how long the webhook takes nothing.
	Away time.Duration
	// Kills of the router (SIGKILL) in that time, and After in the moments that follow.
	Kills, After int
	// Rate is alerts a second that begin, from Before the outage until it ends.
	Rate   float64
	Before time.Duration
	// Short alerts last so long, the others until the end of the run. One in three is short.
	Short time.Duration
	// Interval is the routing's group_interval.
	Interval time.Duration
	// Open: the webhook never refuses connections. Where many programs come and go, another one might be given its port meanwhile.
	Open bool
	// Patience for what must come after the outage.
	Patience time.Duration
	Journal  string
	Seed     uint64
}

// DefaultOutage is what is recorded. An hour is asked with Away.
func DefaultOutage() OutageConfig {
	return OutageConfig{
		Away: 20 * time.Minute, Kills: 50, After: 4, Rate: 1, Before: time.Minute, Short: 40 * time.Second, Interval: 15 * time.Second, Patience: 5 * time.Minute, Journal: SQLite, Seed: 1,
	}
}

// RouterNeeds are the components that a router with such a journal runs on.
func RouterNeeds(journal string) []string {
	if journal == PostgreSQL {
		return []string{"kafka", "postgres", "alert-router"}
	}
	return []string{"kafka", "alert-router"}
}

// outageModes are the ways in which the webhook fails, in turn.
func outageModes() []hookMode { return []hookMode{hookClosed, hookRefuses, hookHangs, hookCuts} }

// OutageMeasured is what came out.
type OutageMeasured struct {
	AwayS     float64        `json:"receiver_away_s"`
	Modes     map[string]int `json:"ways_of_failing_s"`
	Kills     int            `json:"router_killed_meanwhile"`
	KillsPast int            `json:"router_killed_after"`
	Own       int            `json:"router_ended_by_itself"`
	Alerts    int            `json:"alerts"`
	Standing  int            `json:"stood_when_the_receiver_came_back"`
	// Missed: stood then, and nobody was told by the end.
	Missed int `json:"missed"`
	// EndsMissed: people were told that it stands, and not that it has ended.
	EndsMissed int `json:"ends_missed"`
	// Gone: began and ended while nobody could be told; in the journal. EndTold: of those, of some the end was told, because the webhook may have had the beginning.
	Gone     int     `json:"began_and_ended_in_the_outage"`
	EndTold  int     `json:"of_those_told_that_it_has_ended"`
	LastS    float64 `json:"last_one_told_after_s"`
	P50      float64 `json:"told_after_p50_s"`
	Messages int     `json:"different_messages"`
	Tried    int     `json:"requests"`
	Repeated int     `json:"messages_sent_more_than_once"`
	Most     int     `json:"most_requests_of_one_message"`
	// OtherKey: one message came under several keys. SameKey: one key stands for several messages.
	OtherKey int             `json:"messages_with_several_keys"`
	SameKey  int             `json:"keys_of_several_messages"`
	NoKey    int             `json:"requests_without_a_key"`
	Twice    int             `json:"messages_taken_twice"`
	Journal  JournalMeasured `json:"journal"`
}

type outageRun struct {
	*World
	cfg    OutageConfig
	hook   *hook
	out    OutageMeasured
	report *Report

	mu   sync.Mutex
	list []*episode
	back time.Time // when the webhook took messages again
}

// Outage runs the scenario. The error says that it could not be carried out; broken promises are in the report.
func Outage(ctx context.Context, w *World, cfg OutageConfig) (rep *Report, err error) {
	o := &outageRun{World: w, cfg: cfg, report: newReport("outage", fmt.Sprintf("a receiver is away for %s and the router is killed %d times meanwhile: nobody misses an alert, and repeats carry the same key", cfg.Away, cfg.Kills), cfg)}
	if o.hook, err = startHook(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.hook.close()) }()
	undo, err := o.router(outageRouting(o.hook.url(), cfg.Interval), RouterSetting{Journal: cfg.Journal, Incidents: true})
	if err != nil {
		return nil, err
	}
	defer undo()
	if err := w.Stack.Up(ctx); err != nil {
		return nil, err
	}
	pids, err := w.pids(ctx, "kafka-1")
	if err != nil {
		return nil, err
	}
	cpu := startShare(pids)
	if err := o.run(ctx); err != nil {
		return nil, fmt.Errorf("outage: %w", err)
	}
	o.report.Machine.OthersCPU = cpu.end()["others"] // the router among them: it is another process each time
	o.judge()
	o.report.end(o.out)
	return o.report, nil
}

// outageRouting tells of critical alerts one by one, of the others by line, as most people do.
func outageRouting(url string, interval time.Duration) string {
	return `route:
  receiver: people
  group_by: [gateway_id]
  group_wait: 2s
  group_interval: ` + interval.String() + `
  repeat_interval: 4h
  routes:
    - matchers: [severity="critical"]
      group_by: [equipment_id, cause]
      group_wait: 0s
receivers:
  - name: people
    webhook_configs:
      - {url: "` + url + `", send_resolved: true, timeout: 5s}
`
}

// run is the whole of it: fed before, through the outage and until the end, then everything ends.
func (o *outageRun) run(ctx context.Context) error {
	cl, err := o.producer(0)
	if err != nil {
		return err
	}
	defer cl.Close()
	feeding, stop := context.WithCancel(ctx)
	keeping, let := context.WithCancel(ctx)
	var bg sync.WaitGroup
	defer func() { stop(); let(); bg.Wait() }()
	errs := make(chan error, 3)
	bg.Go(func() { o.keep(keeping) })
	bg.Go(func() { errs <- o.feed(feeding, cl) })
	bg.Go(func() { errs <- o.ticking(feeding) })
	if err := o.pause(ctx, o.cfg.Before); err != nil {
		return err
	}
	if err := o.outage(ctx); err != nil {
		return err
	}
	if err := o.afterwards(ctx); err != nil {
		return err
	}
	// Everything that stands ends.
	var p produced
	o.mu.Lock()
	list := slices.Clone(o.list)
	o.mu.Unlock()
	o.standing(list)
	for _, e := range list {
		if e.ended.IsZero() {
			if err := e.end(ctx, cl, &p, time.Now()); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(cl.Flush(ctx), p.err()); err != nil {
		return err
	}
	if err := o.ended(ctx, list); err != nil {
		return err
	}
	stop()
	if err := errors.Join(<-errs, <-errs); err != nil {
		return err
	}
	let()
	if err := o.settled(ctx, len(list)); err != nil {
		return err
	}
	o.read(list)
	o.out.Journal, err = o.compareJournal(ctx, o.cfg.Journal, "o")
	return err
}

func (o *outageRun) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// feed begins alerts, and ends the short ones, until ctx ends or the outage is over.
func (o *outageRun) feed(ctx context.Context, cl *kgo.Client) error {
	every := time.NewTicker(time.Duration(float64(time.Second) / o.cfg.Rate))
	defer every.Stop()
	var p produced
	var short []*episode
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return p.err()
		case <-every.C:
		}
		now := time.Now()
		o.mu.Lock()
		over := !o.back.IsZero()
		var err error
		if !over {
			e := newEpisode("o", n, 20, now)
			o.list = append(o.list, e)
			if n%3 == 1 {
				short = append(short, e)
			}
			err = e.begin(context.WithoutCancel(ctx), cl, &p)
			for len(short) > 0 && now.Sub(short[0].started) > o.cfg.Short && err == nil {
				err = short[0].end(context.WithoutCancel(ctx), cl, &p, now)
				short = short[1:]
			}
		}
		o.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// keep starts the router whenever it does not run, as an orchestrator does.
func (o *outageRun) keep(ctx context.Context) {
	for {
		_ = o.Stack.Wait(ctx, "alert-router")
		if ctx.Err() != nil {
			return
		}
		o.mu.Lock()
		o.out.Own++ // less those that were asked for
		o.mu.Unlock()
		_ = o.Stack.Start(ctx, "alert-router") // that it is not healthy yet, or died again: the next turn
	}
}

func (o *outageRun) kill(n *int) error {
	err := o.Stack.Kill("alert-router", syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		return nil // between two lives
	}
	if err == nil {
		*n++
	}
	return err
}

// outage has the webhook fail in one way after another while the router is killed again and again, each time at another moment of its life.
func (o *outageRun) outage(ctx context.Context) error {
	rnd := rand.New(rand.NewPCG(o.cfg.Seed, 1))
	modes := outageModes()
	if o.cfg.Open {
		modes = modes[1:]
	}
	o.out.Modes = map[string]int{}
	began := time.Now()
	mean := o.cfg.Away / time.Duration(o.cfg.Kills+1)
	next := began.Add(mean)
	turn := o.cfg.Away / time.Duration(2*len(modes)) // each way twice
	for i := 0; time.Since(began) < o.cfg.Away || o.out.Kills < o.cfg.Kills; i++ {
		m := modes[i%len(modes)]
		o.say("the webhook %s; %d kills so far", m, o.out.Kills)
		if err := o.hook.set(ctx, m); err != nil {
			return err
		}
		until := time.Now().Add(turn)
		for time.Now().Before(until) {
			if err := o.pause(ctx, min(time.Until(until), max(time.Until(next), 0))); err != nil {
				return err
			}
			if time.Now().Before(next) {
				continue
			}
			was := o.out.Kills
			if err := o.kill(&o.out.Kills); err != nil {
				return err
			}
			if o.out.Kills == was {
				next = time.Now().Add(100 * time.Millisecond)
				continue
			}
			next = began.Add(mean * time.Duration(o.out.Kills+1)).Add(time.Duration((rnd.Float64() - 0.5) * 0.8 * float64(mean)))
			if o.out.Kills == o.cfg.Kills {
				next = began.Add(o.cfg.Away + time.Hour)
			}
		}
		o.out.Modes[string(m)] += int(turn.Seconds())
	}
	o.mu.Lock()
	o.back = time.Now()
	o.mu.Unlock()
	if err := o.hook.set(ctx, hookWorks); err != nil {
		return err
	}
	o.out.AwayS = o.back.Sub(began).Seconds()
	o.say("the webhook works again after %.0f s and %d kills", o.out.AwayS, o.out.Kills)
	return nil
}

// afterwards kills the router while it tells what it owes, then waits until everything that stands has been told.
func (o *outageRun) afterwards(ctx context.Context) error {
	for range o.cfg.After {
		if err := o.pause(ctx, min(5*time.Second, o.cfg.Away/10)); err != nil {
			return err
		}
		if err := o.kill(&o.out.KillsPast); err != nil {
			return err
		}
	}
	o.mu.Lock()
	var stand []*episode
	for _, e := range o.list {
		if e.ended.IsZero() {
			stand = append(stand, e)
		}
	}
	o.mu.Unlock()
	err := o.until(ctx, o.cfg.Patience, "all that stands has been told", func() (bool, error) {
		n, err := o.hook.count(stand, false)
		return n == len(stand), err
	})
	if ctx.Err() == nil && err != nil {
		o.say("%v", err) // the report counts who is missing
		return nil
	}
	return err
}

// standing counts what stood when the webhook came back, and when each was told.
func (o *outageRun) standing(list []*episode) {
	var after []float64
	for _, e := range list {
		o.out.Alerts++
		at, told := o.hook.told(e, false)
		switch {
		case !e.ended.IsZero() && e.ended.Before(o.back) && !told:
			o.out.Gone++
		case e.ended.IsZero() || e.ended.After(o.back):
			o.out.Standing++
			if !told {
				o.out.Missed++
			} else if at.After(o.back) {
				after = append(after, at.Sub(o.back).Seconds())
			}
		}
	}
	slices.Sort(after)
	o.out.P50, o.out.LastS = quantile(after, 0.5), quantile(after, 1)
}

// ended waits until the end of everything that people were told of has been told too.
func (o *outageRun) ended(ctx context.Context, list []*episode) error {
	var owed []*episode
	for _, e := range list {
		if _, ok := o.hook.told(e, false); ok {
			owed = append(owed, e)
		}
	}
	err := o.until(ctx, o.cfg.Patience, "the end of all that was told has been told", func() (bool, error) {
		n, err := o.hook.count(owed, true)
		return n == len(owed), err
	})
	if ctx.Err() != nil {
		return err
	}
	n, bad := o.hook.count(owed, true)
	o.out.EndsMissed = len(owed) - n
	return bad
}

// settled waits until the journal has every beginning and end, then stops the router.
func (o *outageRun) settled(ctx context.Context, alerts int) error {
	db, err := o.journal(o.cfg.Journal)
	if err != nil {
		return err
	}
	err = o.until(ctx, o.cfg.Patience, "the journal has every transition", func() (bool, error) {
		n, err := written(ctx, db, "o")
		return n >= 2*alerts, err
	})
	return errors.Join(err, db.Close(), o.Stack.Stop(ctx, "alert-router"))
}

// read compares every request with every other: what says the same carries one key.
func (o *outageRun) read(list []*episode) {
	keys := map[string]map[string]bool{} // by message
	contents := map[string]map[string]bool{}
	tried, taken := map[string]int{}, map[string]int{}
	for _, c := range o.hook.all() {
		o.out.Tried++
		if c.key == "" {
			o.out.NoKey++
		}
		slices.SortFunc(c.pages, func(a, b page) int { return strings.Compare(a.alert, b.alert) })
		what := fmt.Sprint(c.group, c.pages)
		for m, v := range map[*map[string]map[string]bool][2]string{&keys: {what, c.key}, &contents: {c.key, what}} {
			if (*m)[v[0]] == nil {
				(*m)[v[0]] = map[string]bool{}
			}
			(*m)[v[0]][v[1]] = true
		}
		tried[what]++
		o.out.Most = max(o.out.Most, tried[what])
		if c.mode == hookWorks {
			taken[what]++
		}
	}
	o.out.Messages = len(keys)
	for _, k := range keys {
		o.out.OtherKey += cmp.Compare(len(k), 1)
	}
	for _, c := range contents {
		o.out.SameKey += cmp.Compare(len(c), 1)
	}
	for what, n := range tried {
		if n > 1 {
			o.out.Repeated++
		}
		if taken[what] > 1 {
			o.out.Twice++
		}
	}
	for _, e := range list {
		if _, told := o.hook.told(e, false); told || e.ended.After(o.back) {
			continue
		}
		if _, end := o.hook.told(e, true); end {
			o.out.EndTold++
		}
	}
	o.mu.Lock()
	o.out.Own = max(0, o.out.Own-o.out.Kills-o.out.KillsPast)
	o.mu.Unlock()
}

func (o *outageRun) judge() {
	m, r := o.out, o.report
	r.brokenIf(m.Kills < o.cfg.Kills, "the router was killed %d times, not %d", m.Kills, o.cfg.Kills)
	r.brokenIf(m.Missed > 0, "nobody was told of %d alerts that stood", m.Missed)
	r.brokenIf(m.EndsMissed > 0, "nobody was told of the end of %d alerts that people were told of", m.EndsMissed)
	r.brokenIf(m.OtherKey > 0, "%d messages came under several keys", m.OtherKey)
	r.brokenIf(m.SameKey > 0, "%d keys stand for several messages", m.SameKey)
	r.brokenIf(m.NoKey > 0, "%d requests had no key", m.NoKey)
	r.brokenIf(m.Repeated == 0, "no message was sent twice: the run shows nothing")
	m.Journal.judge(r, "journal")
	r.row("receiver away", fmt.Sprintf("%.0f s", m.AwayS), "router killed", m.Kills, "and after it", m.KillsPast, "ended by itself", m.Own)
	r.row("alerts", m.Alerts, "stood at the end of the outage", m.Standing, "missed", m.Missed, "ends missed", m.EndsMissed)
	r.row("began and ended in the outage", m.Gone, "of those told of the end", m.EndTold)
	r.row("told after", fmt.Sprintf("%.1f s p50", m.P50), fmt.Sprintf("%.1f s last", m.LastS))
	r.row("messages", m.Messages, "sent more than once", m.Repeated, "requests", m.Tried, "most of one", m.Most)
	r.row("several keys", m.OtherKey, "keys of several", m.SameKey, "without", m.NoKey, "taken twice", m.Twice)
	r.row("journal rows", m.Journal.Rows, "events", m.Journal.Events, "without a row", m.Journal.Missing, "rows without event", m.Journal.Beyond)
}

// RouterSetting is how the router is set up in a run.
type RouterSetting struct {
	Journal string `json:"journal"`
	// Incidents: the rules that hold alerts back are on, with a flood limit high enough for the run; off: all alerts are told one by one.
	Incidents bool `json:"incidents"`
}

// router has routers that are started from now on route to a webhook, until undo is called.
func (w *World) router(routing string, s RouterSetting) (undo func(), err error) {
	file := filepath.Join(filepath.Dir(w.Stack.ConfigFile()), "routing.yml")
	if err := os.WriteFile(file, []byte(routing), 0o644); err != nil {
		return nil, err
	}
	env := map[string]string{
		"TOCSIN_ALERT_ROUTER_ROUTING_FILE": file, "TOCSIN_ALERT_ROUTER_EGRESS_ALLOW": "127.0.0.1", "TOCSIN_ALERT_ROUTER_JOURNAL_URL": "",
		"TOCSIN_ALERT_ROUTER_INCIDENTS_FLOOD_COUNT": "100000", "TOCSIN_ALERT_ROUTER_HTTP_PPROF": "true",
	}
	if s.Journal == PostgreSQL {
		env["TOCSIN_ALERT_ROUTER_JOURNAL_URL"] = w.Stack.PostgresURL("tocsin")
	}
	if !s.Incidents {
		for _, k := range []string{"FLOOD_COUNT", "RATE_COUNT", "CHATTER_COUNT"} {
			env["TOCSIN_ALERT_ROUTER_INCIDENTS_"+k] = "0"
		}
		env["TOCSIN_ALERT_ROUTER_INCIDENTS_GATEWAYS"], env["TOCSIN_ALERT_ROUTER_INCIDENTS_COOLDOWN"] = "false", "0s"
	}
	return withEnv(env)
}
