package replay

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/ingestclient"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// kafka sends the frames that a topic of another cluster holds now, unchanged; ticks and what is no frame are passed over.
// Control records are read too: the end of a transaction may be the last thing before the topic's end.
func (r *runner) kafka(ctx context.Context, brokers []string, name string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(ctx, name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("end of the topic: %w", err)
	}
	starts, err := adm.ListStartOffsets(ctx, name)
	if err != nil {
		return fmt.Errorf("start of the topic: %w", err)
	}
	left := map[int32]int64{} // partition -> end
	var total, done int64
	ends.Each(func(o kadm.ListedOffset) {
		s, _ := starts.Lookup(name, o.Partition)
		if o.Offset > s.Offset {
			left[o.Partition] = o.Offset
			total += o.Offset - s.Offset
		}
	})
	var f frame.Frame
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return err
		}
		for it := fs.RecordIter(); !it.Done(); {
			rec := it.Next()
			end, wanted := left[rec.Partition]
			if !wanted {
				continue
			}
			done++
			if rec.Offset >= end-1 {
				delete(left, rec.Partition)
			}
			if rec.Offset >= end || rec.Attrs.IsControl() || topic.IsTick(rec) || topic.IsControl(rec) || f.Unmarshal(rec.Value) != nil {
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
			r.opt.Progress(r.input, done, total)
		}
	}
	return nil
}
