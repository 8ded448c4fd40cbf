package simulation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/deploy/proof/simulation/memnet"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Scenario is one schedule of faults, aimed at one step of a protocol.
type Scenario struct {
	Name string
	What string
	// Load is how long machines are at work, in virtual time.
	Load time.Duration
	// Long ones take too long for every test run.
	Long bool
	// Shape changes the world; nil: the default one.
	Shape func(*Options)
	// Run injects. Its error says that the fault did not come about, so that the run shows nothing.
	Run func(context.Context, *World) error
	// Show says what the run should have shown and has not, once it is checked; nil: nothing beside the promises.
	Show func(*Result) error
}

// Scenarios are all of them, in the order of the protocols' steps.
func Scenarios() []Scenario {
	return slices.Concat(processorScenarios(), routerScenarios(), edgeScenarios(), groupScenarios(), incidentScenarios())
}

// ScenarioByName finds one.
func ScenarioByName(name string) (Scenario, bool) {
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, true
		}
	}
	return Scenario{}, false
}

// slow has processes stay away until they are started.
func slow(o *Options) { o.Restart = [2]time.Duration{time.Hour, time.Hour} }

func quick(o *Options) { o.Restart = [2]time.Duration{200 * time.Millisecond, 400 * time.Millisecond} }

// repeatedly calls f every so often until n times or ctx ends.
func repeatedly(ctx context.Context, n int, every time.Duration, f func(i int)) {
	for i := range n {
		f(i)
		if wait(ctx, every) != nil {
			return
		}
	}
}

func hits(n int64, what string) error {
	if n == 0 {
		return fmt.Errorf("%s did not come about", what)
	}
	return nil
}

func processorScenarios() []Scenario {
	return []Scenario{
		{
			Name: "clean", What: "no fault at all", Load: 3 * time.Minute,
			Run: func(context.Context, *World) error { return nil },
		},
		{
			Name: "abort-in-the-middle", What: "one output of a transaction is refused: it aborts, and the processor judges again from the state before", Load: 5 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				var n int
				repeatedly(ctx, 8, 25*time.Second, func(i int) {
					h := w.broken(kfake.Fault{
						Keys: []kmsg.Key{kmsg.Produce}, Topic: []string{topic.Readings, topic.Windows, topic.State, topic.Anomalies}[i%4], Err: kerr.InvalidRecord, Count: 1,
					})
					w.pause(10 * time.Second)
					n += h.Hits()
					h.Remove()
				})
				for range n {
					w.injected("produce_refused")
				}
				return hits(int64(n), "a refused output")
			},
		},
		{
			Name: "end-answer-lost", What: "the transaction stands, its answer is lost", Load: 4 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 6, 25*time.Second, func(i int) { w.lose(w.processors[i%2].name, kmsg.EndTxn, 1+i%3, true) })
				return w.came("lost_answer_EndTxn")
			},
		},
		{
			Name: "end-request-lost", What: "the end of a transaction does not reach the broker", Load: 4 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 6, 25*time.Second, func(i int) { w.lose(w.processors[i%2].name, kmsg.EndTxn, 1+i%3, false) })
				return w.came("lost_request_EndTxn")
			},
		},
		{
			Name: "killed-at-the-end", What: "a processor dies when the broker has its transaction's end, before the answer; another takes over while the markers are still being written, so the last stable offset lags", Load: 5 * time.Minute, Shape: slow,
			Run: func(ctx context.Context, w *World) error {
				lag := w.lagMarkers(topic.State, 4*time.Second)
				repeatedly(ctx, 5, 35*time.Second, func(i int) {
					dies := w.processors[i%2]
					done := make(chan struct{})
					w.killAt(dies, kmsg.EndTxn, true, func() { close(done) })
					select {
					case <-done:
					case <-ctx.Done():
						return
					}
					w.remove(dies) // the other one takes its partitions now
					w.pause(8 * time.Second)
					dies.start()
				})
				return hits(int64(lag.times()), "a reader that meets a marker that is not there yet")
			},
		},
		{
			Name: "killed-before-the-end", What: "a processor dies with a transaction open", Load: 4 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 8, 20*time.Second, func(i int) {
					w.killAt(w.processors[i%2], []kmsg.Key{kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.Produce, kmsg.AddPartitionsToTxn}[i%4], i%3 == 0, nil)
				})
				return w.came("kill_processor")
			},
		},
		{
			Name: "there-and-back", What: "partitions move from A to B and back to A, which still has their old states in memory", Load: 5 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 4, 40*time.Second, func(i int) {
					w.injected("zombie")
					w.link(w.processors[i%2].name, brokerNode, memnet.Fault{Hole: true}, 20*time.Second)
				})
				return nil
			},
		},
		{
			Name: "double-handover", What: "partitions move twice within the time-out of a transaction", Load: 5 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 5, 25*time.Second, func(i int) {
					a, b := w.processors[i%2], w.processors[(i+1)%2]
					a.kill()
					w.remove(a)
					w.pause(w.between(500*time.Millisecond, 3*time.Second))
					b.kill()
					w.remove(b)
				})
				return w.came("member_removed")
			},
		},
		{
			Name: "zombie-processor", What: "a processor is cut off beyond its session with a transaction open, and its requests arrive after the handover", Load: 5 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 4, 45*time.Second, func(i int) {
					w.injected("zombie")
					p := w.processors[i%2]
					held := make(chan struct{})
					w.tap.add(&rule{client: p.name, key: []kmsg.Key{kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.Produce}[i%3], onRequest: func(string) bool {
						w.net.Both(p.name, brokerNode, memnet.Fault{Hole: true})
						close(held)
						return true // it is under way, and arrives when the hole is healed
					}})
					select {
					case <-held:
					case <-ctx.Done():
						return
					}
					w.pause(25 * time.Second)
					w.net.Both(p.name, brokerNode, memnet.Fault{})
				})
				return nil
			},
		},
		{
			Name: "offsets-refused", What: "the offsets of a transaction are refused in every way that passes", Load: 4 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				n := 0
				list := []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.RequestTimedOut, kerr.CoordinatorNotAvailable}
				repeatedly(ctx, 8, 18*time.Second, func(i int) {
					h := w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Group: "stream-processor", Err: list[i%len(list)], Count: 2})
					w.pause(5 * time.Second)
					n += h.Hits()
					h.Remove()
				})
				for range n {
					w.injected("offsets_refused")
				}
				return hits(int64(n), "a refused offset commit")
			},
		},
		{
			Name: "restarts-across-ticks", What: "machines fall silent, and processors are restarted again and again while time is what judges them", Load: 6 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 20, 0, func(i int) {
					if i%5 == 0 {
						for j, e := range w.edges {
							if (j+i/5)%2 == 0 {
								e.mood.Store(moodSilent)
							} else {
								e.mood.Store(moodFine)
							}
						}
					}
					w.pause(w.between(5*time.Second, 12*time.Second))
					w.processors[i%2].kill()
				})
				return w.came("kill_processor")
			},
		},
		{
			Name: "repeats-across-restarts", What: "senders repeat what was acknowledged long ago, after the processors have restarted", Load: 6 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 5, 30*time.Second, func(i int) {
					for _, p := range w.processors {
						if i%2 == 0 {
							p.kill()
						} else {
							p.stop(false)
						}
					}
					for _, e := range w.edges {
						e.again(ctx)
					}
				})
				return w.happened("repeats_on_purpose")
			},
		},
		{
			Name: "broker-away", What: "the broker is away longer than a transaction may last", Load: 5 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 4, 45*time.Second, func(i int) { w.outage(time.Duration(5+7*i) * time.Second) })
				return nil
			},
		},
		{
			Name: "rebalance-storm", What: "members come and go faster than they can restore", Load: 5 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 8, 12*time.Second, func(int) { w.rebalances() })
				return w.came("member_removed")
			},
		},
		{
			Name: "poison", What: "records that can never be judged", Load: 3 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 12, 8*time.Second, func(int) { w.poison() })
				return w.came("poison_record")
			},
		},
	}
}

func routerScenarios() []Scenario {
	return []Scenario{
		{
			Name: "router-abort", What: "the router's transaction aborts: its books must not be ahead of the log", Load: 6 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				n := 0
				h := w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Alerts, Err: kerr.InvalidRecord, Count: -1, When: func(kmsg.Request) bool {
					n++
					return n%7 == 0
				}})
				<-ctx.Done()
				for range h.Hits() {
					w.injected("produce_refused")
				}
				return hits(int64(h.Hits()), "a refused alert event")
			},
		},
		{
			Name: "router-killed-before-notifying", What: "a router dies when an alert stands in the log and nobody has been told", Load: 6 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				var kills atomic.Int64
				w.pager.before(func() bool {
					if kills.Load() >= 10 || w.float() < 0.4 {
						return true
					}
					kills.Add(1)
					w.later(0, func() {
						for _, r := range w.routers {
							r.kill()
						}
					})
					return false
				})
				<-ctx.Done()
				w.pager.before(nil)
				return hits(kills.Load(), "a notification under way")
			},
		},
		{
			Name: "router-killed-at-the-end", What: "a router dies around the end of its transaction; another takes over while the markers lag", Load: 6 * time.Minute, Shape: slow,
			Run: func(ctx context.Context, w *World) error {
				w.lagMarkers(topic.Alerts, 4*time.Second)
				repeatedly(ctx, 6, 25*time.Second, func(i int) {
					r := w.routers[i%2]
					done := make(chan struct{})
					w.killAt(r, kmsg.EndTxn, i%3 != 0, func() { close(done) })
					select {
					case <-done:
					case <-ctx.Done():
						return
					}
					w.remove(r)
					w.pause(6 * time.Second)
					r.start()
				})
				return w.came("kill_router")
			},
		},
		{
			Name: "router-there-and-back", What: "alerts' partitions move to another router and back", Load: 6 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 5, 40*time.Second, func(i int) {
					w.injected("zombie")
					w.link(w.routers[i%2].name, brokerNode, memnet.Fault{Hole: true}, 20*time.Second)
				})
				return nil
			},
		},
		{
			Name: "pager-refuses", What: "the receiver answers 500, or takes a notification and its answer is lost, or cannot be reached", Load: 6 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 6, 30*time.Second, func(i int) {
					switch i % 3 {
					case 0:
						w.injected("pager_500")
						w.pager.refuse(25 * time.Second)
					case 1:
						w.injected("pager_answer_lost")
						w.pager.loseAnswers(2)
					default:
						for _, r := range w.routers {
							w.injected("pager_unreachable")
							w.link(r.name, pagerNode, memnet.Fault{Cut: true}, 25*time.Second)
						}
					}
				})
				return nil
			},
		},
		{
			Name: "pager-says-nothing", What: "the receiver takes notifications and does not answer, until the alerts have ended: who was woken must hear of the end", Load: 5 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 3, 0, func(i int) {
					w.injected("pager_answer_lost")
					w.pager.loseAnswers(math.MaxInt)
					for j, e := range w.edges {
						if j%3 == i {
							e.mood.Store(moodHot)
						}
					}
					w.pause(25 * time.Second)
					for _, e := range w.edges {
						e.mood.Store(moodFine)
					}
					w.pause(40 * time.Second) // long enough for the alerts to end
					w.pager.loseAnswers(0)
					w.pause(15 * time.Second)
				})
				return hits(int64(len(w.pager.notifications())), "a notification")
			},
		},
	}
}

var errNeverCame = errors.New("did not come about")

// came says whether a fault was injected at all.
func (w *World) came(kind string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.result.Faults[kind] == 0 {
		return fmt.Errorf("%s: %w", kind, errNeverCame)
	}
	return nil
}

func (w *World) happened(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.result.Counts[what] == 0 {
		return fmt.Errorf("%s: %w", what, errNeverCame)
	}
	return nil
}
