//go:build mutants

package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
	"github.com/tocsin-io/tocsin/deploy/proof/simulation/memnet"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// TestProtocol plays one scenario or seed in this process: choose it with -run '^TestProtocol$/^name$', never two at once. See package mutants, which
// asks them.
func TestProtocol(t *testing.T) {
	for _, s := range append(aimedScenarios(), Scenarios()...) {
		t.Run(s.Name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				opts := DefaultOptions(7, dir)
				if s.Shape != nil {
					s.Shape(&opts)
				}
				play(opts, s.Load, s.Run, nil, func(r *Result) { // nil: a bug that keeps a fault from showing is not caught by that
					r.Scenario = s.Name
					tell(t, r)
				})
			})
		})
	}
	t.Run("retention-passes-the-processor", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			w, err := NewWorld(DefaultOptions(7, dir))
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := retention(w); err != nil {
				t.Errorf("broken: %v", err)
			}
			tell(t, w.result)
		})
	})
	for seed := range uint64(10) {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				Play(Task{Seed: seed, Dir: dir}, func(r *Result) { tell(t, r) })
			})
		})
	}
}

// tell says what was found, one line for each kind and place.
func tell(t *testing.T, r *Result) {
	if b, err := json.MarshalIndent(r, "", " "); err == nil && os.Getenv("TOCSIN_SIM_DEBUG") != "" {
		t.Log(string(b))
	}
	t.Log(r)
	if r.Broken != "" {
		t.Errorf("broken: %s", r.Broken)
	}
	if r.Stall != nil {
		t.Errorf("stall: %s: %s", r.Stall.Diagnosis, r.Stall.Error)
	}
	type at struct{ kind, where string }
	counts, first := map[at]int{}, map[at]string{}
	for _, f := range r.Findings {
		k := at{f.Kind, f.Where}
		if counts[k] == 0 {
			first[k] = f.Detail
		}
		counts[k]++
	}
	keys := make([]at, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return counts[keys[i]] > counts[keys[j]] })
	for _, k := range keys {
		if k.kind == "refused" {
			t.Errorf("service stopped: %s: %s", k.where, first[k])
			continue
		}
		more := ""
		if counts[k] >= 20 { // the checker tells no more of one kind in one place
			more = " or more"
		}
		t.Errorf("history: %d%s %s in %s, the first: %s", counts[k], more, k.kind, k.where, first[k])
	}
}

// aimedScenarios put one rule of a protocol under strain, again and again: what a random run hits now and then must be hit every time, if it is to
// tell a protocol from its mutant.
func aimedScenarios() []Scenario {
	return []Scenario{
		aimed("processor-killed-in-its-transaction", func(ctx context.Context, w *World) {
			w.each(ctx, 12*time.Second, 25*time.Second, func(i int) {
				w.killAt(w.processors[i%2], []kmsg.Key{kmsg.EndTxn, kmsg.TxnOffsetCommit}[i/2%2], false, nil)
			})
		}),
		aimed("processor-killed-after-its-commit", func(ctx context.Context, w *World) {
			w.each(ctx, 12*time.Second, 25*time.Second, func(i int) {
				w.killAt(w.processors[i%2], kmsg.EndTxn, true, nil)
				if i%3 == 2 {
					w.running.Go(func() { w.edges[i%len(w.edges)].again(ctx) })
				}
			})
		}),
		aimed("processor-cannot-commit-its-offsets", func(ctx context.Context, w *World) {
			w.each(ctx, 8*time.Second, 16*time.Second, func(int) {
				w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Group: "stream-processor", Err: kerr.IllegalGeneration})
			})
		}),
		aimed("processor-cannot-write", func(ctx context.Context, w *World) {
			w.each(ctx, 8*time.Second, 16*time.Second, func(int) {
				w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Readings, Err: kerr.InvalidTimestamp})
			})
		}),
		aimed("processor-does-not-learn-how-its-transaction-ended", func(ctx context.Context, w *World) {
			w.each(ctx, 15*time.Second, 25*time.Second, func(i int) {
				f := kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TxnID: fmt.Sprintf("stream-processor/processor-%d", i%2), Err: kerr.UnknownServerError}
				if i/2%2 == 0 {
					f.Keys, f.Err = []kmsg.Key{kmsg.TxnOffsetCommit}, kerr.GroupAuthorizationFailed
				}
				w.broken(f)
			})
		}),
		aimed("partitions-move-between-processors", func(ctx context.Context, w *World) { w.move(ctx, w.processors) }),
		aimed("processors-take-over-while-markers-are-late", func(ctx context.Context, w *World) {
			w.lagMarkers(topic.State, 6*time.Second)
			w.each(ctx, 15*time.Second, 25*time.Second, func(i int) {
				p := w.processors[i%2]
				w.killAt(p, kmsg.EndTxn, true, func() { w.running.Go(func() { w.remove(p) }) })
			})
		}),
		aimed("fetch-errors-beside-records", func(ctx context.Context, w *World) {
			w.each(ctx, time.Second, 4*time.Second, func(i int) {
				w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic.Frames, Partitions: []int32{int32(i) % 3}, Err: kerr.UnknownServerError})
			})
		}),
		aimed("processors-begin-late", func(ctx context.Context, w *World) {
			for _, p := range w.processors {
				p.killAndHold()
			}
			w.pause(40 * time.Second)
			for _, p := range w.processors {
				p.start()
			}
		}),
		aimed("poison-across-restarts", func(ctx context.Context, w *World) {
			w.each(ctx, 3*time.Second, 7*time.Second, func(i int) {
				w.poison()
				if i%4 == 3 {
					w.killAt(w.processors[i/4%2], kmsg.EndTxn, true, nil)
				}
			})
		}),
		aimed("a-machine-of-many-gateways", func(ctx context.Context, w *World) {
			w.running.Go(func() { w.roam(ctx) })
			w.each(ctx, 12*time.Second, 25*time.Second, func(i int) { w.killAt(w.processors[i%2], kmsg.EndTxn, i%3 == 0, nil) })
		}),
		aimed("aborts-while-partitions-are-restored", func(ctx context.Context, w *World) {
			stays, leaves := w.processors[0], w.processors[1]
			w.each(ctx, 20*time.Second, 30*time.Second, func(int) {
				w.link(stays.name, brokerNode, memnet.Fault{Delay: 400 * time.Millisecond}, 25*time.Second)
				leaves.stop(true)
				w.pause(time.Second)
				w.remove(leaves)
				for range 4 {
					w.pause(2500 * time.Millisecond)
					w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Group: "stream-processor", Err: kerr.IllegalGeneration})
				}
				w.pause(15 * time.Second)
				leaves.start()
			})
		}),
		aimed("writer-killed-around-its-commit", func(ctx context.Context, w *World) {
			w.each(ctx, 10*time.Second, 20*time.Second, func(i int) { w.killAt(w.writers[i%2], kmsg.OffsetCommit, i/2%2 == 0, nil) })
		}),
		aimed("the-store-fails", func(ctx context.Context, w *World) {
			w.each(ctx, 5*time.Second, 15*time.Second, func(i int) { w.storage.plan(storageFaults[i%len(storageFaults)]) })
		}),
		{Name: "writer-killed-while-rows-wait", Load: 4 * time.Minute, Shape: quick, Run: rowsWait},
		aimed("writers-cut-otherwise-after-a-kill", func(ctx context.Context, w *World) {
			var armed atomic.Bool
			w.storage.mu.Lock()
			w.storage.after = func(string, string) {
				if armed.Swap(false) { // files are there whose offsets are not committed
					for _, p := range w.writers {
						p.killAndHold()
					}
				}
			}
			w.storage.mu.Unlock()
			w.each(ctx, 20*time.Second, 40*time.Second, func(i int) {
				armed.Store(true)
				for armed.Load() && ctx.Err() == nil {
					w.pause(time.Second)
				}
				w.pause(time.Second)
				w.opts.LakeInterval = []time.Duration{45 * time.Second, 75 * time.Second, time.Minute}[i%3]
				for _, p := range w.writers {
					p.start()
				}
			})
		}),
		aimed("partitions-move-between-writers", func(ctx context.Context, w *World) { w.move(ctx, w.writers) }),
		aimed("router-cannot-commit-its-offsets", func(ctx context.Context, w *World) {
			w.each(ctx, 5*time.Second, 10*time.Second, func(i int) {
				w.sicken(i)
				w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Group: "alert-router", Err: kerr.IllegalGeneration})
			})
		}),
		aimed("router-cannot-write", func(ctx context.Context, w *World) {
			w.each(ctx, 5*time.Second, 10*time.Second, func(i int) {
				w.sicken(i)
				w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Alerts, Err: kerr.InvalidRecord})
			})
		}),
		aimed("router-does-not-learn-how-its-transaction-ended", func(ctx context.Context, w *World) {
			w.each(ctx, 8*time.Second, 14*time.Second, func(i int) {
				w.sicken(i)
				f := kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TxnID: fmt.Sprintf("alert-router-router-%d", i%2), Err: kerr.UnknownServerError}
				if i/2%2 == 0 {
					f.Keys, f.Err = []kmsg.Key{kmsg.TxnOffsetCommit}, kerr.GroupAuthorizationFailed
				}
				w.broken(f)
			})
		}),
		aimed("router-killed-in-its-transaction", func(ctx context.Context, w *World) {
			w.each(ctx, 8*time.Second, 14*time.Second, func(i int) {
				w.sicken(i)
				w.killAt(w.routers[i%2], []kmsg.Key{kmsg.EndTxn, kmsg.TxnOffsetCommit}[i/2%2], false, nil)
			})
		}),
		aimed("router-killed-in-a-slow-transaction", func(ctx context.Context, w *World) {
			for _, p := range w.routers {
				w.link(p.name, brokerNode, memnet.Fault{Delay: 300 * time.Millisecond}, 6*time.Minute)
			}
			w.each(ctx, 12*time.Second, 20*time.Second, func(i int) {
				w.sicken(i)
				w.killAt(w.routers[i%2], kmsg.EndTxn, false, nil)
			})
		}),
		aimed("router-killed-with-open-alerts", func(ctx context.Context, w *World) {
			w.each(ctx, 10*time.Second, 20*time.Second, func(i int) {
				w.sicken(i)
				w.routers[i%2].kill()
			})
		}),
		aimed("routers-take-over-while-markers-are-late", func(ctx context.Context, w *World) {
			w.lagMarkers(topic.Alerts, 6*time.Second)
			w.each(ctx, 8*time.Second, 14*time.Second, func(i int) {
				w.sicken(i)
				p := w.routers[i%2]
				w.killAt(p, kmsg.EndTxn, true, func() { w.running.Go(func() { w.remove(p) }) })
			})
		}),
		aimed("gateway-killed-while-kafka-takes-a-frame", func(ctx context.Context, w *World) {
			w.each(ctx, 4*time.Second, 10*time.Second, func(i int) { w.killAt(w.gateways[i%2], kmsg.Produce, i%4 == 0, nil) })
		}),
		aimed("kafka-does-not-answer-gateways", func(ctx context.Context, w *World) {
			w.each(ctx, 25*time.Second, 40*time.Second, func(i int) {
				w.link(w.gateways[i%2].name, brokerNode, memnet.Fault{Hole: true}, 18*time.Second)
			})
		}),
		aimed("kafka-refuses-frames", func(ctx context.Context, w *World) {
			w.each(ctx, 2*time.Second, 6*time.Second, func(int) {
				w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Frames, Err: kerr.InvalidRecord})
			})
		}),
	}
}

// aimed is a scenario of six minutes with the default fleet.
func aimed(name string, faults func(context.Context, *World)) Scenario {
	return Scenario{Name: name, Load: 6 * time.Minute, Run: func(ctx context.Context, w *World) error {
		faults(ctx, w)
		return nil
	}}
}

// each calls f at random intervals until ctx ends.
func (w *World) each(ctx context.Context, lo, hi time.Duration, f func(i int)) {
	for i := 0; wait(ctx, w.between(lo, hi)) == nil; i++ {
		f(i)
	}
}

// move has one of two processes leave and come again, in good order, so that the other, which lives on, takes partitions, gives them away, and takes
// them again.
func (w *World) move(ctx context.Context, of []*process) {
	w.each(ctx, 15*time.Second, 25*time.Second, func(i int) {
		p := of[i/4%2]
		p.stop(true)
		w.pause(time.Second)
		w.remove(p)
		w.pause(w.between(10*time.Second, 20*time.Second))
		p.start()
	})
}

// hush has all senders be quiet, or not.
func (w *World) hush(quiet bool) {
	for _, e := range w.edges {
		e.quiet.Store(quiet)
	}
}

// sicken makes a machine run hot for a while, so that there are alerts.
func (w *World) sicken(i int) {
	e := w.edges[i%len(w.edges)]
	e.mood.Store(moodHot)
	w.later(w.between(10*time.Second, 45*time.Second), func() { e.mood.Store(moodFine) })
}

// roam sends the frames of one machine that changes its gateway all the time, more of them than the judge remembers.
func (w *World) roam(ctx context.Context) {
	cl, err := w.client("roamer")
	if err != nil {
		panic(err)
	}
	defer cl.Close()
	const machine, gateways = "crane-01", 12
	for n := 0; wait(ctx, time.Second) == nil; n++ {
		ref := history.FrameRef{Gateway: fmt.Sprintf("roam-%02d", n%gateways), Equipment: machine, Sequence: uint64(n/gateways + 1)}
		f := frame.New(machine, ref.Gateway, ref.Sequence, time.Now(), sensors, []float32{5, 60, 1 + float32(n%7)/10})
		w.ledger.Sent(ref)
		err := cl.ProduceSync(w.ctx, &kgo.Record{Topic: topic.Frames, Key: []byte(machine), Value: f.AppendTo(nil), Headers: []kgo.RecordHeader{
			{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: f.AppendID(nil)},
		}}).FirstErr()
		if err == nil {
			w.ledger.Acked(ref)
		}
	}
}

// rowsWait has writers see ticks from the middle of a minute on, so that in the middle of the next, where a file is open, they could move their
// offsets past its rows; then it kills them. Files end with the minute.
func rowsWait(ctx context.Context, w *World) error {
	w.hush(true)
	for _, p := range w.processors { // who write the ticks
		p.killAndHold()
	}
	for _, step := range []struct {
		second int
		do     func()
	}{
		{33, func() {
			for _, p := range w.processors {
				p.start()
			}
		}},
		{15, func() { w.hush(false) }},
		{24, func() { w.hush(true) }},
		{52, w.killWriters},
		{10, func() { w.hush(false) }},
	} {
		for time.Now().Second() != step.second {
			if err := wait(ctx, time.Second); err != nil {
				return err
			}
		}
		step.do()
	}
	return w.came("kill_writer")
}

func (w *World) killWriters() {
	for _, p := range w.writers {
		p.kill()
	}
}

// killAndHold kills and keeps it away until start.
func (p *process) killAndHold() {
	p.mu.Lock()
	p.paused = true
	p.mu.Unlock()
	p.kill()
}

// retention removes frames that the processors, which are cut off for a moment, have not read. They must say so and stop: nothing may jump over
// them. Nothing can come to rest after that, so the usual end is not looked at.
func retention(w *World) error {
	w.pause(time.Minute)
	cl, err := w.client("operator")
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, p := range w.processors {
		w.link(p.name, brokerNode, memnet.Fault{Hole: true}, sessionTimeout-3*time.Second)
	}
	w.pause(sessionTimeout - 4*time.Second)
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(w.ctx, topic.Frames)
	if err != nil {
		return err
	}
	if _, err := adm.DeleteRecords(w.ctx, ends.Offsets()); err != nil {
		return err
	}
	w.pause(time.Minute)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.result.Findings {
		if strings.Contains(f.Detail, "no longer in the log") {
			w.result.Findings = nil // as it must be
			return nil
		}
	}
	w.result.Findings = append(w.result.Findings, history.Finding{Kind: history.Lost, Where: topic.Frames, Detail: "frames that retention removed were passed over in silence"})
	return nil
}
