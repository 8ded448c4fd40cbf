package simulation

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/deploy/proof/simulation/memnet"
)

// edgeScenarios are those of both ends: gateways and the lake.
func edgeScenarios() []Scenario {
	return []Scenario{
		{
			Name: "gateway-killed-in-flight", What: "a gateway dies when Kafka has a frame and its sender has no answer", Load: 4 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 12, 12*time.Second, func(i int) { w.killAt(w.gateways[i%2], kmsg.Produce, i%3 != 0, nil) })
				return w.came("kill_gateway")
			},
		},
		{
			Name: "gateway-answer-lost", What: "Kafka has a frame, and the gateway does not learn it", Load: 4 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 10, 12*time.Second, func(i int) { w.lose(w.gateways[i%2].name, kmsg.Produce, 1+i%3, i%4 != 0) })
				return w.came("lost_answer_Produce")
			},
		},
		{
			Name: "sender-cut-off", What: "senders lose the answers of gateways", Load: 4 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 10, 10*time.Second, func(i int) {
					e := w.edges[i%len(w.edges)]
					for _, g := range w.gateways {
						w.injected("one_way_hole")
						w.net.Set(g.name, e.node.Name(), memnet.Fault{Hole: true})
						w.later(25*time.Second, func() { w.net.Set(g.name, e.node.Name(), memnet.Fault{}) })
					}
				})
				return w.happened("sender_retries")
			},
		},
		{
			Name: "writer-killed-after-put", What: "a writer dies when a file is in the lake and its offset is not committed", Load: 5 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				kills := w.atFile(func(writer *process) { writer.kill() }, nil)
				<-ctx.Done()
				return hits(kills.Load(), "a stored file")
			},
		},
		{
			Name: "writer-killed-before-put", What: "a writer dies when a file is about to be stored", Load: 5 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				kills := w.atFile(nil, func(writer *process) storageFault {
					writer.kill()
					return faultUnavailable
				})
				<-ctx.Done()
				return hits(kills.Load(), "a file to store")
			},
		},
		{
			Name: "writer-killed-at-commit", What: "a writer dies around the commit of its offsets", Load: 5 * time.Minute, Shape: quick,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 10, 20*time.Second, func(i int) { w.killAt(w.writers[i%2], kmsg.OffsetCommit, i%2 == 0, nil) })
				return w.came("kill_writer")
			},
		},
		{
			Name: "put-answer-lost", What: "files are stored and the writer is told that they are not", Load: 4 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				n := w.atFile(nil, func(*process) storageFault { return faultLost })
				<-ctx.Done()
				return hits(n.Load(), "a lost answer")
			},
		},
		{
			Name: "put-412-on-own-retry", What: "the store's client tries again by itself and is told that the file exists", Load: 4 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				n := w.atFile(nil, func(*process) storageFault { return faultOwnRetry })
				<-ctx.Done()
				return hits(n.Load(), "a 412")
			},
		},
		{
			Name: "put-409", What: "the store answers that another write is under way", Load: 4 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				n := w.atFile(nil, func(*process) storageFault { return faultConflict })
				<-ctx.Done()
				return hits(n.Load(), "a 409")
			},
		},
		{
			Name: "zombie-writer", What: "a writer is cut off while a file is on its way; the file arrives after another writer has stored the same", Load: 6 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				var once sync.Map
				n := w.atFile(nil, func(writer *process) storageFault {
					if _, again := once.LoadOrStore(writer.name, true); again {
						return ""
					}
					w.injected("zombie")
					w.link(writer.name, brokerNode, memnet.Fault{Hole: true}, 30*time.Second)
					return faultLate
				})
				repeatedly(ctx, 3, 90*time.Second, func(int) { once.Clear() })
				return hits(n.Load(), "a late upload")
			},
		},
		{
			Name: "store-away", What: "the store does not answer for minutes", Load: 6 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 2, time.Minute, func(int) {
					w.injected("s3_outage")
					w.storage.setDown(true)
					w.pause(100 * time.Second)
					w.storage.setDown(false)
				})
				return nil
			},
		},
		{
			Name: "writer-there-and-back", What: "partitions move to another writer and back with chunks open", Load: 5 * time.Minute,
			Run: func(ctx context.Context, w *World) error {
				repeatedly(ctx, 4, 45*time.Second, func(i int) {
					w.injected("zombie")
					w.link(w.writers[i%2].name, brokerNode, memnet.Fault{Hole: true}, 20*time.Second)
				})
				return nil
			},
		},
	}
}

// atFile calls after for every third file that was stored, or asks before what is to become of it; the count is of those calls.
func (w *World) atFile(after func(*process), before func(*process) storageFault) *atomic.Int64 {
	var files, calls atomic.Int64
	by := map[string]*process{}
	for _, p := range w.writers {
		by[p.name] = p
	}
	w.storage.mu.Lock()
	defer w.storage.mu.Unlock()
	if after != nil {
		w.storage.after = func(writer, key string) {
			if isFile(key) && files.Add(1)%3 == 1 {
				calls.Add(1)
				after(by[writer])
			}
		}
	}
	if before != nil {
		w.storage.hook = func(writer, key string) storageFault {
			if !isFile(key) || files.Add(1)%3 != 1 {
				return ""
			}
			calls.Add(1)
			return before(by[writer])
		}
	}
	return &calls
}
