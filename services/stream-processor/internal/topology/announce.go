package topology

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

const (
	// announceMachines bounds the machines whose configuration is asked to change in one second: taking another into force costs time inside a
	// transaction, which must not outlast its time-out.
	announceMachines = 5_000
	// announceAgain is when a partition is told again that has not followed. Telling twice is harmless.
	announceAgain = 10 * time.Second
)

// announced is what a partition was told last, and when.
type announced struct {
	config *detection.Config
	at     time.Time
}

// announce writes the fleet's detection configuration into owned partitions that are judged under another. Like ticks, what counts is only that it
// stands in the log: the partition takes it into force at that offset, whoever owns it when the record is read.
func (t *Topology) announce(ctx context.Context) {
	current := t.detections.Current()
	type candidate struct {
		id       int32
		machines int
	}
	var behind []candidate
	t.set(func() {
		for id, s := range t.slots {
			if s.part != nil && current.Replaces(s.inForce) {
				behind = append(behind, candidate{id, s.machines})
			} else {
				delete(t.told, id)
			}
		}
	})
	slices.SortFunc(behind, func(a, b candidate) int { return int(a.id - b.id) })
	budget := announceMachines
	for _, c := range behind {
		if last, ok := t.told[c.id]; ok && detection.Same(last.config, current) && time.Since(last.at) < announceAgain {
			continue
		}
		if budget <= 0 {
			return // the others follow in a second
		}
		budget -= max(1, c.machines)
		t.told[c.id] = announced{current, time.Now()}
		t.plain.TryProduce(ctx, configRecord(c.id, current), func(_ *kgo.Record, err error) {
			if err != nil && ctx.Err() == nil {
				t.log.Warn("detection configuration not written, trying again", zap.Int32("partition", c.id), zap.Error(err))
			}
		})
	}
}

// configRecord is the record at whose offset partition id takes c into force.
func configRecord(id int32, c *detection.Config) *kgo.Record {
	return &kgo.Record{Topic: topic.Frames, Partition: id, Value: c.Value(), Headers: []kgo.RecordHeader{
		{Key: topic.HeaderType, Value: []byte(topic.TypeDetection)},
		{Key: topic.HeaderID, Value: fmt.Appendf(nil, "detection/%d/%s", c.Revision, c.Fingerprint)},
	}}
}

// Reconfigure publishes another detection configuration under the rules of a start: see detection.Log.Settle. Safe to call while Run works; before, and
// after, it waits for Kafka until ctx ends.
func (t *Topology) Reconfigure(ctx context.Context, mine *detection.Config) error {
	_, err := t.detections.Settle(ctx, mine)
	return err
}

// Detections is the log of the fleet's configuration. It is read while Run works.
func (t *Topology) Detections() *detection.Log { return t.detections }

// Following counts the partitions that this instance has, and those of them that are judged under the fleet's configuration.
func (t *Topology) Following() (following, owned int) {
	current := t.detections.Current()
	t.set(func() {
		owned = len(t.slots)
		for _, s := range t.slots {
			if s.part != nil && s.inForce != nil && current != nil && detection.Same(s.inForce, current) {
				following++
			}
		}
	})
	return following, owned
}
