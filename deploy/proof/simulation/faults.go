package simulation

import (
	"context"
	"strings"
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

// brokerError is what the broker may answer to one kind of request, whatever dies.
type brokerError struct {
	key kmsg.Key
	err *kerr.Error
}

var brokerErrors = []brokerError{
	{kmsg.Produce, kerr.NotLeaderForPartition},
	{kmsg.Produce, kerr.RequestTimedOut},
	{kmsg.Produce, kerr.NotEnoughReplicasAfterAppend},
	{kmsg.Produce, kerr.NotEnoughReplicas},
	{kmsg.Fetch, kerr.NotLeaderForPartition},
	{kmsg.Fetch, kerr.UnknownLeaderEpoch},
	{kmsg.ListOffsets, kerr.NotLeaderForPartition},
	{kmsg.ListOffsets, kerr.LeaderNotAvailable},
	{kmsg.EndTxn, kerr.NotCoordinator},
	{kmsg.EndTxn, kerr.CoordinatorLoadInProgress},
	{kmsg.EndTxn, kerr.ConcurrentTransactions},
	{kmsg.EndTxn, kerr.CoordinatorNotAvailable},
	{kmsg.InitProducerID, kerr.ConcurrentTransactions},
	{kmsg.InitProducerID, kerr.CoordinatorLoadInProgress},
	{kmsg.TxnOffsetCommit, kerr.NotCoordinator},
	{kmsg.TxnOffsetCommit, kerr.CoordinatorLoadInProgress},
	{kmsg.TxnOffsetCommit, kerr.RequestTimedOut},
	{kmsg.AddPartitionsToTxn, kerr.ConcurrentTransactions},
	{kmsg.AddOffsetsToTxn, kerr.ConcurrentTransactions},
	{kmsg.OffsetCommit, kerr.NotCoordinator},
	{kmsg.OffsetCommit, kerr.RequestTimedOut},
	{kmsg.OffsetCommit, kerr.CoordinatorLoadInProgress},
	{kmsg.OffsetFetch, kerr.UnstableOffsetCommit},
	{kmsg.OffsetFetch, kerr.NotCoordinator},
	{kmsg.OffsetFetch, kerr.CoordinatorLoadInProgress},
	{kmsg.Heartbeat, kerr.NotCoordinator},
	{kmsg.Heartbeat, kerr.RebalanceInProgress},
	{kmsg.Heartbeat, kerr.CoordinatorNotAvailable},
	{kmsg.JoinGroup, kerr.CoordinatorLoadInProgress},
	{kmsg.JoinGroup, kerr.NotCoordinator},
	{kmsg.SyncGroup, kerr.NotCoordinator},
	{kmsg.SyncGroup, kerr.RebalanceInProgress},
	{kmsg.FindCoordinator, kerr.CoordinatorNotAvailable},
}

// lossy are the requests whose answers, or which themselves, get lost.
var lossy = []kmsg.Key{
	kmsg.Produce, kmsg.Produce, kmsg.EndTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.TxnOffsetCommit, kmsg.OffsetCommit, kmsg.OffsetCommit, kmsg.Fetch,
	kmsg.ListOffsets, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.InitProducerID, kmsg.OffsetFetch, kmsg.Metadata, kmsg.FindCoordinator,
}

// broken installs an error of the broker, n times.
func (w *World) broken(f kfake.Fault) *kfake.FaultHandle {
	h := w.cluster.Fault(f)
	w.mu.Lock()
	w.handles = append(w.handles, h)
	w.mu.Unlock()
	return h
}

func (w *World) healLinks() {
	w.mu.Lock()
	handles := w.handles
	w.handles = nil
	w.mu.Unlock()
	for _, h := range handles {
		h.Remove()
	}
	w.net.Heal()
}

// link puts a fault on a link, both ways, for a while.
func (w *World) link(a, b string, f memnet.Fault, d time.Duration) {
	if strings.HasPrefix(a, "router") {
		w.mute(d)
	}
	w.net.Both(a, b, f)
	w.later(d, func() { w.net.Both(a, b, memnet.Fault{}) })
}

func (w *World) later(d time.Duration, f func()) {
	w.running.Go(func() {
		if w.pause(d) {
			f()
		}
	})
}

// member picks a process that speaks to Kafka.
func (w *World) member() *process { return w.processes[w.intn(len(w.processes))] }

func pick[T any](w *World, list []T) T { return list[w.intn(len(list))] }

// killAt kills the process when it sends a request of that kind (before it arrives) or when the answer is on its way back (after it was carried out).
func (w *World) killAt(p *process, key kmsg.Key, answered bool, then func()) {
	kill := func(string) bool {
		p.kill()
		if then != nil {
			then()
		}
		return false
	}
	r := &rule{client: p.name, key: key}
	if answered {
		r.onResponse = kill
	} else {
		r.onRequest = kill
	}
	w.tap.add(r)
}

// lose loses the next n requests of a kind, or their answers; the connection breaks.
func (w *World) lose(client string, key kmsg.Key, n int, answer bool) {
	r := &rule{client: client, key: key, left: n}
	gone := func(string) bool {
		w.injected("lost_" + what(answer) + "_" + key.Name())
		return false
	}
	if answer {
		r.onResponse = gone
	} else {
		r.onRequest = gone
	}
	w.tap.add(r)
}

func what(answer bool) string {
	if answer {
		return "answer"
	}
	return "request"
}

// remove is an operator, or a scaling down, that takes a static member out of its group: its partitions move at once, not when the session times out.
func (w *World) remove(p *process) {
	group := map[string]string{"processor": "stream-processor", "writer": "cold-path-writer", "router": "alert-router"}[p.kind]
	if group == "" {
		return
	}
	cl, err := w.client("operator")
	if err != nil {
		return
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	if _, err := kadm.NewClient(cl).LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs(p.name)); err == nil {
		w.injected("member_removed")
		if p.kind == "router" {
			w.mute(0)
		}
	}
}

// poison writes records that can never be judged.
func (w *World) poison() {
	cl, err := w.client("operator", kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	w.mu.Lock()
	w.poisons++
	n := w.poisons
	w.mu.Unlock()
	for _, machine := range []string{"pump-00", "pump-01", "pump-02"} {
		w.ledger.Sent(history.FrameRef{Gateway: "edge-9", Equipment: machine, Sequence: n})
	}
	good := frame.New("pump-00", "edge-9", n, time.Now(), sensors, []float32{1, 2, 3})
	unknown := frame.New("pump-01", "edge-9", n, time.Now(), nil, []float32{1, 2, 3})
	unknown.SchemaID = []byte("sha256-00000000000000000000000000000000")
	short := frame.New("pump-02", "edge-9", n, time.Now(), sensors, []float32{1, 2})
	bad := []*kgo.Record{
		{Key: []byte("pump-00"), Value: []byte("not a frame")},
		{Key: []byte("pump-03"), Value: good.AppendTo(nil)},
		{Key: []byte("pump-01"), Value: unknown.AppendTo(nil)},
		{Key: []byte("pump-02"), Value: short.AppendTo(nil)},
		{Key: nil, Value: nil},
	}
	r := bad[w.intn(len(bad))]
	r.Topic, r.Headers = topic.Frames, []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}}
	if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
		return
	}
	w.injected("poison_record")
}

// storm injects random faults until ctx ends.
func storm(ctx context.Context, w *World) {
	for wait(ctx, w.between(2*time.Second, 25*time.Second)) == nil {
		w.inject()
		if w.float() < 0.25 { // two at once
			w.inject()
		}
	}
}

// inject draws one fault.
func (w *World) inject() {
	p := w.member()
	switch w.intn(22) {
	case 0, 1, 2:
		p.kill()
	case 3:
		for _, q := range w.processes {
			if q.kind == p.kind {
				q.kill()
			}
		}
	case 4:
		w.injected("zombie")
		w.link(p.name, brokerNode, memnet.Fault{Hole: true}, w.between(13*time.Second, 45*time.Second))
	case 5:
		w.injected("one_way_hole")
		from, to := p.name, brokerNode
		if w.float() < 0.5 {
			from, to = to, from
		}
		w.net.Set(from, to, memnet.Fault{Hole: true})
		if p.kind == "router" {
			w.mute(30 * time.Second)
		}
		w.later(w.between(2*time.Second, 30*time.Second), func() { w.net.Set(from, to, memnet.Fault{}) })
	case 6:
		w.injected("link_cut")
		w.link(p.name, brokerNode, memnet.Fault{Cut: true}, w.between(time.Second, 25*time.Second))
	case 7:
		w.injected("link_reset")
		w.net.Reset(p.name, brokerNode)
	case 8:
		w.injected("link_delay")
		w.link(p.name, brokerNode, memnet.Fault{Delay: w.between(50*time.Millisecond, 3*time.Second)}, w.between(5*time.Second, 20*time.Second))
	case 9, 10:
		w.lose(p.name, pick(w, lossy), 1+w.intn(2), true)
	case 11:
		w.lose(p.name, pick(w, lossy), 1+w.intn(2), false)
	case 12, 13:
		w.injected("kill_at_request")
		w.killAt(p, pick(w, lossy), w.float() < 0.5, nil)
	case 14, 15:
		e := pick(w, brokerErrors)
		w.injected("broker_" + e.key.Name() + "_" + e.err.Message)
		w.broken(kfake.Fault{Keys: []kmsg.Key{e.key}, Err: e.err, Count: 1 + w.intn(3)})
	case 16:
		w.rebalances()
	case 17:
		if w.float() < 0.3 {
			w.injected("s3_outage")
			w.storage.setDown(true)
			w.later(w.between(20*time.Second, 2*time.Minute), func() { w.storage.setDown(false) })
			break
		}
		for range 1 + w.intn(3) {
			w.storage.plan(pick(w, storageFaults))
		}
	case 18:
		switch w.intn(3) {
		case 0:
			w.injected("pager_500")
			w.pager.refuse(w.between(5*time.Second, time.Minute))
		case 1:
			w.injected("pager_answer_lost")
			w.pager.loseAnswers(1 + w.intn(2))
		default:
			w.injected("pager_unreachable")
			r := pick(w, w.routers)
			w.link(r.name, pagerNode, memnet.Fault{Cut: true}, w.between(5*time.Second, time.Minute))
		}
	case 19:
		w.injected("late_markers")
		w.lagMarkers(pick(w, []string{topic.State, topic.State, topic.Alerts}), w.between(time.Second, 8*time.Second))
	case 20:
		w.poison()
	case 21:
		w.outage(w.between(time.Second, 20*time.Second))
	}
}

// outage cuts the broker off from every process, as a restart does.
func (w *World) outage(d time.Duration) {
	w.injected("broker_away")
	for _, p := range w.processes {
		w.link(p.name, brokerNode, memnet.Fault{Cut: true}, d)
	}
}

// rebalances moves partitions about: members are taken out and come back, or stop and start, faster than a transaction times out.
func (w *World) rebalances() {
	w.injected("rebalance_storm")
	of := pick(w, [][]*process{w.processors, w.writers, w.routers})
	for range 2 + w.intn(4) {
		p := pick(w, of)
		switch w.intn(3) {
		case 0:
			p.stop(false)
		case 1:
			p.kill()
		}
		w.remove(p)
		if !w.pause(w.between(200*time.Millisecond, 4*time.Second)) {
			return
		}
	}
}

// again sends frames once more that were acknowledged long ago, as a sender does that has forgotten.
func (e *edge) again(ctx context.Context) {
	e.mu.Lock()
	kept := append([]sent(nil), e.kept...)
	e.mu.Unlock()
	for _, s := range kept {
		e.w.ledger.Sent(history.FrameRef{Gateway: e.gateway, Equipment: e.machine, Sequence: s.sequence})
		if status, err := e.post(ctx, s.body); err == nil && status == 200 {
			e.w.counted("repeats_on_purpose")
		}
	}
}
