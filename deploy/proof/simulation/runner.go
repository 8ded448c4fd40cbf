package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
)

// play runs a world in the current bubble: load for the given time while faults works on it, then quiet, rest and the check.
// done is given the result before the world is closed: what hangs then must not hide what was found.
// show, if not nil, says what a run that went well has not shown.
func play(opts Options, load time.Duration, faults func(context.Context, *World) error, show func(*Result) error, done func(*Result)) {
	wall := hostTime()
	w, err := NewWorld(opts)
	if err != nil {
		r := newResult(opts.Seed)
		r.Broken = err.Error()
		done(r)
		return
	}
	defer w.Close()
	under, calm := context.WithTimeout(w.ctx, load)
	defer calm()
	if !opts.Sound {
		w.running.Go(func() { w.ail(under) })
	}
	missed := faults(under, w)
	<-under.Done()
	w.heal()
	w.conclude()
	if missed == nil && show != nil && !w.result.Failed() {
		missed = show(w.result)
	}
	if missed != nil && w.result.Broken == "" {
		w.result.Broken = "shows nothing: " + missed.Error()
	}
	w.result.Virtual = w.since().Seconds()
	w.result.Wall = (hostTime() - wall).Seconds()
	done(w.result)
}

// heal ends all faults and lets the machines recover.
func (w *World) heal() {
	w.healLinks()
	w.tap.heal()
	w.storage.heal()
	w.pager.answer(0)
	w.pager.loseAnswers(0)
	w.pager.before(nil)
	for _, e := range w.edges {
		e.mood.Store(moodFine)
		e.cut.Store(false)
	}
	for _, p := range w.processes {
		p.start()
	}
}

const (
	// patience is how long the world may go without progress before that is a stall.
	patience = 3 * time.Minute
	// quietFor is how long senders are silent before the end is looked at: longer than alerts of silence take.
	quietFor = 20 * time.Second
)

// conclude brings the world to rest and checks it.
func (w *World) conclude() {
	healed := time.Now()
	if !w.awaitReady() {
		return
	}
	w.pause(15 * time.Second) // machines are well again and say so
	for _, e := range w.edges {
		e.quiet.Store(true)
	}
	if !w.awaitSenders() {
		return
	}
	w.pause(quietFor)
	world := w.history()
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Minute)
	defer cancel()
	if err := history.Settle(ctx, world, patience); err != nil {
		w.stalled(fmt.Errorf("settle: %w", err))
	}
	w.result.Settled = time.Since(healed).Seconds()
	world.Notifications = w.pager.notifications()
	w.pager.keys()
	report, err := history.Check(ctx, world)
	if err != nil {
		w.result.Broken = fmt.Sprintf("check: %v", err)
		return
	}
	for k, n := range report.Counts {
		w.result.Counts[k] += n
	}
	w.result.Findings = append(w.result.Findings, report.Findings...)
}

// awaitReady waits until every process says that it is ready.
func (w *World) awaitReady() bool {
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); w.pause(time.Second) {
		err = nil
		for _, p := range w.processes {
			if e := p.ready(); e != nil {
				err = fmt.Errorf("%s: %w", p.name, e)
				break
			}
		}
		if err == nil {
			return true
		}
	}
	w.stalled(fmt.Errorf("not ready %s after the last fault: %w", patience, err))
	return false
}

// awaitSenders waits until every frame that was begun is acknowledged.
func (w *World) awaitSenders() bool {
	waiting := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); w.pause(time.Second) {
		waiting = ""
		for _, e := range w.edges {
			if !e.idle.Load() {
				waiting = e.machine
			}
		}
		if waiting == "" {
			return true
		}
	}
	w.stalled(fmt.Errorf("%s gets no acknowledgement %s after the last fault", waiting, patience))
	return false
}

func (w *World) history() history.World {
	d, rules := detection(), w.writerConfig().Chunk
	return history.World{
		Kafka: w.kafkaAs(w.net.Node("judge")), Lake: w.lake, Detection: &d, Ledger: w.ledger, Notifications: w.pager.notifications(),
		Schemas: func(_ context.Context, id string) ([]string, error) {
			return nil, fmt.Errorf("no schema %q was registered", id)
		},
		Groups: history.DefaultGroups(), Chunk: &rules, NotifyWithin: 30 * time.Second, SendResolved: true, Outages: w.outages,
		Incidents: alertrouter.DefaultConfig().Incidents,
		Notes: func(context.Context) []string {
			var notes []string
			for _, p := range w.processes {
				say := "ready"
				if err := p.ready(); err != nil {
					say = err.Error()
				}
				notes = append(notes, p.name+": "+say)
			}
			return notes
		},
	}
}

// stalled notes what can be seen from outside.
func (w *World) stalled(err error) {
	s := &Stall{Error: err.Error(), Ready: map[string]string{}, Groups: map[string]string{}, Logs: map[string][]string{}}
	for _, p := range w.processes {
		say := "ready"
		if e := p.ready(); e != nil {
			say = e.Error()
		}
		s.Ready[p.name] = say
		s.Logs[p.name] = p.log.last(25)
	}
	groups := history.DefaultGroups()
	for _, g := range []string{groups.Processor, groups.Router, groups.Writer} {
		info := w.cluster.GroupInfo(g)
		if info == nil {
			s.Groups[g] = "does not exist"
			continue
		}
		text := fmt.Sprintf("%s, generation %d", info.State, info.Epoch)
		for _, m := range info.Members {
			id := m.MemberID
			if m.InstanceID != nil {
				id = *m.InstanceID
			}
			text += fmt.Sprintf("; %s has %d partitions", id, m.NumAssigned())
		}
		s.Groups[g] = text
		for topic, parts := range info.Commits {
			for _, p := range w.cluster.PartitionInfos(topic) {
				if c, ok := parts[p.Partition]; ok && c.Offset < p.HighWatermark {
					s.Lags = append(s.Lags, fmt.Sprintf("%s %s[%d]: committed %d of %d, last stable %d, committed at %s", g, topic, p.Partition, c.Offset, p.HighWatermark, p.LastStableOffset, c.At.UTC().Format("15:04:05")))
				}
			}
		}
	}
	s.Diagnosis = diagnose(s)
	w.result.Stall = s
}

func diagnose(s *Stall) string {
	for name, r := range s.Ready {
		if r != "ready" {
			return name + " says: " + r
		}
	}
	return "undiagnosed"
}
