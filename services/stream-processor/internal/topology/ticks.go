package topology

import (
	"context"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// tickLoop writes a tick into each owned partition of the input every second. Only that a tick stands in the log counts, not who
// wrote it or when: its time is the broker's. Ticks of a former owner do no harm.
func (t *Topology) tickLoop(ctx context.Context) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		t.announce(ctx)
		for _, id := range t.owned() {
			r := &kgo.Record{
				Topic: topic.Frames, Partition: id, Value: appendVarint(nil, 1, uint64(uint32(id))),
				Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}, {Key: topic.HeaderID, Value: []byte("tick/" + strconv.Itoa(int(id)))}},
			}
			// Try: when the broker is away a tick is worth nothing later, and must not queue up.
			t.plain.TryProduce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil && ctx.Err() == nil {
					t.log.Debug("tick not written", zap.Int32("partition", id), zap.Error(err))
				}
			})
		}
	}
}
