package replay

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/ingestclient"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// kafka sends the frames that a topic of another cluster holds now, unchanged; ticks and what is no frame are passed over.
func (r *runner) kafka(ctx context.Context, brokers []string, name string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	left, err := kafka.ExtentOf(ctx, kadm.NewClient(cl), name)
	if err != nil {
		return err
	}
	var f frame.Frame
	for !left.Done() {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return err
		}
		for it := fs.RecordIter(); !it.Done(); {
			rec := it.Next()
			if !left.Meet(rec) || topic.IsTick(rec) || topic.IsControl(rec) || f.Unmarshal(rec.Value) != nil {
				continue
			}
			ref := ingestclient.Ref{EquipmentID: string(f.EquipmentID), GatewayID: string(f.GatewayID), Sequence: f.Sequence}
			if err := r.cl.SendEncoded(ctx, ref, rec.Value); err != nil {
				return err
			}
			r.sum.Rows++
			r.sum.Values += len(f.Values)
			r.seen(time.UnixMicro(f.BaseTimeUS))
		}
		if r.opt.Progress != nil {
			r.opt.Progress(r.input, left.Met, left.Total)
		}
	}
	return nil
}
