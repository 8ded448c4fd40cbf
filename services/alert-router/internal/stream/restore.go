package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/incident"
)

// restoreMark stands before the offset in the metadata of a commit. Whatever else is found there is ignored, and
// the whole retention is read.
const restoreMark = "tocsin-restore-from="

func restoreMetadata(offset int64) string { return restoreMark + strconv.FormatInt(offset, 10) }

func parseRestore(metadata string) int64 {
	s, ok := strings.CutPrefix(metadata, restoreMark)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// rebuild reads the books of some partitions from alert.events.v1. It works through a client of its own, because
// the group's client is mid-session. It waits for transactions that are still open below the end.
func (c *Consumer) rebuild(ctx context.Context, ps []int32) (map[int32]*partition, error) {
	starts, ends, err := c.bounds(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[int32]*partition, len(ps))
	waiting := make(map[int32]int64) // partition -> end
	from := make(map[int32]kgo.Offset)
	for _, p := range ps {
		start, end := starts[p], ends[p]
		out[p] = &partition{id: p, book: incident.NewBook(), next: end}
		if start < end {
			waiting[p] = end
			from[p] = kgo.NewOffset().At(start)
		}
	}
	if len(waiting) == 0 {
		return out, nil
	}
	base, err := c.kafka.Options(c.log)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(base,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic.Alerts: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The last thing in a partition is mostly a transaction's marker: without seeing it, the end is never reached.
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(200*time.Millisecond),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	return out, c.readTo(ctx, cl, out, waiting)
}

func (c *Consumer) readTo(ctx context.Context, cl *kgo.Client, parts map[int32]*partition, waiting map[int32]int64) error {
	for len(waiting) > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, fe := range fetches.Errors() {
			var lost *kgo.ErrDataLoss
			if errors.As(fe.Err, &lost) {
				return fmt.Errorf("%s changed while it was read: %w", topic.Alerts, fe.Err)
			}
			c.count.fetchErrors.Inc()
			c.log.Warn("fetch failed, will be tried again", zap.Int32("partition", fe.Partition), zap.Error(fe.Err))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if end, ok := waiting[r.Partition]; ok {
				c.replay(parts[r.Partition].book, r)
				if r.Offset+1 >= end {
					delete(waiting, r.Partition)
				}
			}
		})
	}
	return nil
}

// replay takes one record of alert.events.v1 into a book.
func (c *Consumer) replay(book *incident.Book, r *kgo.Record) {
	if r.Attrs.IsControl() {
		return
	}
	book.Advance(r.Timestamp.UnixMilli())
	// An event that was given back to the lake's writer stands twice; here the first counts.
	if topic.Type(r) != topic.TypeAlert || !dlq.IsFor(r, dlq.Router) {
		return
	}
	var ev eventv1.AlertEvent
	if err := proto.Unmarshal(r.Value, &ev); err != nil {
		c.count.unreadable.Inc()
		c.log.Error("alert event unreadable, passed over", zap.Int32("partition", r.Partition), zap.Int64("offset", r.Offset), zap.Error(err))
		return
	}
	book.Restore(&ev, r.Offset)
}

// bounds gives for each partition of alert.events.v1 where to start reading and the end to reach.
func (c *Consumer) bounds(ctx context.Context) (starts, ends map[int32]int64, err error) {
	// End offsets as a read_uncommitted reader sees them: including transactions not yet decided.
	high, err := c.adm.ListEndOffsets(ctx, topic.Alerts)
	if err == nil {
		err = high.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("end of %s: %w", topic.Alerts, err)
	}
	low, err := c.adm.ListStartOffsets(ctx, topic.Alerts)
	if err == nil {
		err = low.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("start of %s: %w", topic.Alerts, err)
	}
	marks, err := c.adm.FetchOffsets(ctx, c.cfg.GroupID)
	if err != nil {
		return nil, nil, fmt.Errorf("committed offsets of %s: %w", c.cfg.GroupID, err)
	}
	starts, ends = make(map[int32]int64), make(map[int32]int64)
	high.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	low.Each(func(o kadm.ListedOffset) { starts[o.Partition] = o.Offset })
	for p, end := range ends {
		// A mark beyond the end is of another topic's life (it was made anew): read all.
		if o, ok := marks.Lookup(topic.Anomalies, p); ok && o.Err == nil {
			if mark := parseRestore(o.Metadata); mark <= end {
				starts[p] = max(starts[p], mark)
			}
		}
	}
	return starts, ends, nil
}
