package consume

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/lake"
)

// position is where a partition goes on: the next file covers offsets from first on, and those before next hold no rows.
type position struct{ first, next int64 }

// A commit's metadata says which incarnation of the topic the offset is of, and the first offset that no file covers yet: behind
// it there may be ticks that were committed without a file.
const commitFormat = "tocsin.lake.v1 topic=%s first=%d"

func commitMetadata(src lake.Source, first int64) string {
	return fmt.Sprintf(commitFormat, hex.EncodeToString(src.TopicID[:]), first)
}

// ParseCommitMetadata is what a commit of this group says beside the offset: the topic's id (hexadecimal) and the first offset that no file
// covers. false: it is no commit of this group's members.
func ParseCommitMetadata(s string) (topicID string, first int64, ok bool) {
	if !strings.HasPrefix(s, "tocsin.lake.v1 ") {
		return "", 0, false
	}
	n, err := fmt.Sscanf(s, commitFormat, &topicID, &first)
	return topicID, first, err == nil && n == 2
}

// commit makes the group go on at next. It stands only if the partition is still ours: the broker refuses a
// former generation, and a revoke waits for this worker before it lets the partition go.
func (w *worker) commit(next int64) error {
	meta := commitMetadata(w.src, w.cut.First())
	return w.persist("commit", func(ctx context.Context) error {
		ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
			for i := range req.Topics {
				for j := range req.Topics[i].Partitions {
					req.Topics[i].Partitions[j].Metadata = &meta
				}
			}
			return nil
		})
		var result error
		w.g.cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{w.src.Topic: {w.src.Partition: {Epoch: -1, Offset: next}}},
			func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
				if result = err; err != nil || resp == nil {
					return
				}
				for _, t := range resp.Topics {
					for _, p := range t.Partitions {
						result = errors.Join(result, kerr.ErrorForCode(p.ErrorCode))
					}
				}
			})
		return result
	})
}

// isFinal: no retry helps.
func isFinal(err error) bool {
	return errors.Is(err, kerr.FencedInstanceID) || errors.Is(err, kerr.GroupAuthorizationFailed) ||
		errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.OffsetMetadataTooLarge)
}

// start decides where newly assigned partitions begin and starts their workers. kgo calls it before it fetches them.
//
// The committed offset is taken when it is of this incarnation of the topic. Without one (a new group, offsets that
// expired) the lake itself says how far it reaches; only an empty lake begins at the log's start.
func (g *Group) start(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	topics := make([]string, 0, len(offsets))
	for t := range offsets {
		topics = append(topics, t)
	}
	if len(topics) == 0 {
		return offsets, nil
	}
	select {
	case <-g.connected: // the client may call before Run has it
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	details, err := g.adm.ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("topic ids: %w", err)
	}
	committed, err := g.adm.FetchOffsetsForTopics(ctx, g.cfg.Group, topics...)
	if err != nil {
		return nil, fmt.Errorf("committed offsets: %w", err)
	}
	starts, err := g.adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("log starts: %w", err)
	}
	out := make(map[string]map[int32]kgo.Offset, len(offsets))
	for topicName, parts := range offsets {
		t, ok := g.tables[topicName]
		d, known := details[topicName]
		if !ok || !known || d.Err != nil {
			return nil, fmt.Errorf("topic %s: not known (%w)", topicName, d.Err)
		}
		src := lake.Source{Table: t.Name(), Topic: topicName, TopicID: d.ID}
		ends := &lakeEnds{g: g, src: src}
		out[topicName] = make(map[int32]kgo.Offset, len(parts))
		for p := range parts {
			src.Partition = p
			start, ok := starts.Lookup(topicName, p)
			if !ok || start.Err != nil {
				return nil, fmt.Errorf("log start of %s[%d]: %w", topicName, p, start.Err)
			}
			c, _ := committed.Lookup(topicName, p)
			pos, err := g.from(ctx, src, c, start.Offset, ends)
			if err != nil {
				return nil, err
			}
			out[topicName][p] = kgo.NewOffset().At(pos.next)
			g.own(src, t, pos)
		}
	}
	return out, nil
}

// from is where one partition goes on.
func (g *Group) from(ctx context.Context, src lake.Source, c kadm.OffsetResponse, logStart int64, ends *lakeEnds) (position, error) {
	if c.Err != nil {
		return position{}, fmt.Errorf("committed offset of %s[%d]: %w", src.Topic, src.Partition, c.Err)
	}
	pos := position{first: c.At, next: c.At}
	id, first, ok := ParseCommitMetadata(c.Metadata)
	switch {
	case c.Topic == "" || c.At < 0 || ok && id != hex.EncodeToString(src.TopicID[:]):
		end, found, err := ends.of(ctx, src.Partition)
		if err != nil {
			return position{}, err
		}
		if !found {
			end = logStart
		}
		pos = position{first: end, next: end}
		g.log.Debug("no committed offset: going on from the lake's end, or the log's start", zap.String("topic", src.Topic),
			zap.Int32("partition", src.Partition), zap.Int64("offset", end), zap.Bool("from_lake", found))
	case ok && first <= c.At:
		pos.first = first
	}
	// A file was stored, its offset not committed, and maintenance has merged or removed it since: it cannot be found any more, only that it was.
	if end, err := ends.beyond(ctx, src.Partition, pos.first); err != nil {
		return position{}, err
	} else if end > pos.first {
		pos.first, pos.next = end, max(pos.next, end)
	}
	if pos.next >= logStart {
		return pos, nil
	}
	lost := logStart - pos.next
	g.watch.Lost(src.Table, lost)
	err := fmt.Errorf("%s[%d]: offsets [%d,%d) were removed by the topic's retention before they were stored", src.Topic, src.Partition, pos.next, logStart)
	if !g.cfg.SkipLost {
		err = fmt.Errorf("%w; set skip_lost to go on without them", err)
		g.fail(err)
		return position{}, err
	}
	g.log.Error("records are lost, going on behind them", zap.Error(err), zap.Int64("offsets", lost))
	// A new chunk begins behind the gap: the audit shall show it.
	return position{first: logStart, next: logStart}, nil
}

// lakeEnds finds how far the lake reaches, reading the table's list once for all partitions of one assignment.
type lakeEnds struct {
	g    *Group
	src  lake.Source
	last map[int32]lake.Object // the object with the largest first offset
	// covered are the offsets that maintenance has merged or removed.
	covered lake.Spans
}

// beyond is the first offset from the given one on that maintenance does not cover.
func (l *lakeEnds) beyond(ctx context.Context, partition int32, offset int64) (int64, error) {
	src := l.src
	src.Partition = partition
	if err := l.manifest(ctx); err != nil {
		return 0, err
	}
	for end, ok := l.covered.Holds(lake.SourceName(src), offset); ok; end, ok = l.covered.Holds(lake.SourceName(src), offset) {
		offset = end
	}
	return offset, nil
}

// manifest reads what maintenance covers, once.
func (l *lakeEnds) manifest(ctx context.Context) error {
	if l.covered != nil {
		return nil
	}
	return l.g.store.Retry(ctx, "manifest", func(ctx context.Context) error {
		m, err := lake.LoadManifest(ctx, l.g.bucket, l.src.Table)
		if err == nil {
			l.covered = m.Covered()
		}
		return err
	})
}

func (l *lakeEnds) of(ctx context.Context, partition int32) (end int64, found bool, err error) {
	if l.last == nil {
		if err := l.g.store.Retry(ctx, "list", l.read); err != nil {
			return 0, false, err
		}
	}
	if err := l.manifest(ctx); err != nil {
		return 0, false, err
	}
	src := l.src
	src.Partition = partition
	spans := l.covered[lake.SourceName(src)]
	if len(spans) > 0 {
		end, found = spans[len(spans)-1].End, true
	}
	o, ok := l.last[partition]
	if !ok || o.First < end {
		return end, found, nil
	}
	err = l.g.store.Retry(ctx, "head", func(ctx context.Context) error {
		info, err := l.g.bucket.Head(ctx, o.Key())
		if err == nil {
			o, err = o.WithMetadata(info.Metadata)
		}
		return err
	})
	if errors.Is(err, lake.ErrNoMetadata) {
		err = fmt.Errorf("%s: %w: cannot tell where the lake ends", o.Key(), err)
		l.g.fail(err)
	}
	return o.End, err == nil, err
}

func (l *lakeEnds) read(ctx context.Context) error {
	last := map[int32]lake.Object{}
	for info, err := range l.g.bucket.List(ctx, lake.Prefix(l.src.Table)) {
		if err != nil {
			return err
		}
		o, err := lake.ParseKey(info.Key)
		if err != nil || o.Topic != l.src.Topic || o.TopicID != l.src.TopicID {
			continue
		}
		if have, ok := last[o.Partition]; !ok || o.First > have.First {
			last[o.Partition] = o
		}
	}
	l.last = last
	return nil
}
