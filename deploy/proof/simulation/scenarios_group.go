package simulation

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/deploy/proof/simulation/memnet"
)

// groupScenarios are those of members that the group has forgotten.
func groupScenarios() []Scenario {
	return []Scenario{
		{
			Name: "forgotten-processor", Load: 6 * time.Minute, Shape: quick,
			What: "a processor is forgotten by its group while it joins, and given back what another has judged meanwhile, without a word from its Kafka client",
			Run: func(ctx context.Context, w *World) error {
				return w.forgets(ctx, "stream-processor", w.processors)
			},
		},
		{
			Name: "forgotten-router", Load: 6 * time.Minute, Shape: quick,
			What: "a router is forgotten by its group while it joins, and given back the alerts that another has looked after meanwhile",
			Run: func(ctx context.Context, w *World) error {
				return w.forgets(ctx, "alert-router", w.routers)
			},
		},
	}
}

// forgets has a group forget its members, one after the other. The other member leaves, so that the group joins anew; the join of the first hangs until its session
// has timed out, and the other one has all partitions. Then the first is told that nobody knows it, joins under a new id, and is sent to join once more before it
// hears what it has been given: franz-go v1.22.2 then claims what it had before its time-out as if it were of now. An operator stops the other one.
func (w *World) forgets(ctx context.Context, group string, of []*process) error {
	refused := 0
	repeatedly(ctx, 5, 15*time.Second, func(i int) {
		first, other := of[i%len(of)], of[(i+1)%len(of)]
		joins := make(chan struct{})
		w.tap.add(&rule{client: first.name, key: kmsg.JoinGroup, onRequest: func(string) bool {
			w.net.Both(first.name, brokerNode, memnet.Fault{Hole: true})
			close(joins)
			return true // it is under way
		}})
		w.remove(other)
		select {
		case <-joins:
		case <-ctx.Done():
			return
		}
		w.injected("zombie")
		if first.kind == "router" {
			w.mute(30 * time.Second)
		}
		w.pause(sessionTimeout + 3*time.Second) // less than the client waits for an answer to its join
		h := w.broken(kfake.Fault{Keys: []kmsg.Key{kmsg.SyncGroup}, Group: group, Err: kerr.RebalanceInProgress, Count: 1, When: func(req kmsg.Request) bool {
			r := req.(*kmsg.SyncGroupRequest)
			return r.InstanceID != nil && *r.InstanceID == first.name
		}})
		w.net.Both(first.name, brokerNode, memnet.Fault{})
		w.pause(8 * time.Second)
		refused += h.Hits()
		h.Remove()
	})
	return hits(int64(refused), "a member that joins twice")
}
