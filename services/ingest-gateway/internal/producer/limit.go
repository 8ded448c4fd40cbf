package producer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Kafka refuses a batch whole when it is larger than the topic's max.message.bytes, and then blames all records in it. So batches are kept
// as small as the topic wants them, and a record is only told that it is too large when it alone is.

const (
	// maxBatch is max.message.bytes of the topic as Tocsin makes it. More is of no use.
	maxBatch = 8 << 20
	// batchOverhead is what a batch adds to its records: the header of a v2 batch, and the client's own four bytes of length.
	batchOverhead = 65
	// recordOverhead is the most that a record adds to key, value and headers in a batch of its own.
	recordOverhead = 32
	// minBatch: less than this is a mistake in the topic's configuration, and no client can work with it.
	minBatch = 1 << 10
)

// wireSize is the most that a batch of this record alone takes, uncompressed.
func wireSize(r *kgo.Record) int64 {
	n := batchOverhead + recordOverhead + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + 10
	}
	return int64(n)
}

// current is the client in use.
func (p *Producer) current() *kgo.Client {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.cl
}

// adapt asks what the topic takes and, if that is another size than our batches', exchanges the client. Frames that come
// meanwhile are answered "not now"; those under way get their verdict from the old client first, so that none of a machine
// overtakes another. Takes up to the produce time-out. For Run only.
func (p *Producer) adapt(ctx context.Context) {
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	limit, err := topicLimit(ask, kadm.NewClient(p.current()))
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			p.log.Warn("cannot find out how large batches may be (the gateway needs DescribeConfigs on the topic)", zap.Int64("bytes", p.limit), zap.Error(err))
		}
		return
	}
	if limit = min(limit, maxBatch); limit == p.limit {
		return
	}
	next, err := p.client(limit)
	if err != nil {
		p.log.Error("exchange the producer", zap.Error(err))
		return
	}
	p.mu.Lock()
	old := p.cl
	flush, cancel := context.WithTimeout(ctx, p.cfg.Timeout+time.Second)
	err = old.Flush(flush)
	cancel()
	was := p.limit
	p.cl, p.limit = next, limit
	p.mu.Unlock()
	old.Close() // what the flush left is told "not now"
	p.log.Warn("the topic takes batches of another size", zap.String("topic", topic.Frames), zap.Int64("bytes", limit), zap.Int64("were", was), zap.NamedError("flush", err))
}

// topicLimit is max.message.bytes of the frames' topic.
func topicLimit(ctx context.Context, adm *kadm.Client) (int64, error) {
	found, err := adm.DescribeTopicConfigs(ctx, topic.Frames)
	if err != nil {
		return 0, fmt.Errorf("configuration of %s: %w", topic.Frames, err)
	}
	for _, rc := range found {
		if rc.Err != nil {
			return 0, fmt.Errorf("configuration of %s: %w", topic.Frames, rc.Err)
		}
		for _, c := range rc.Configs {
			if c.Key != "max.message.bytes" {
				continue
			}
			n, err := strconv.ParseInt(c.MaybeValue(), 10, 32)
			if err != nil {
				return 0, fmt.Errorf("max.message.bytes of %s: %w", topic.Frames, err)
			}
			return max(n, minBatch), nil
		}
	}
	return 0, errors.New("max.message.bytes of " + topic.Frames + " is not told")
}
