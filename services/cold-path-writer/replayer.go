package coldpathwriter

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/chunk"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/consume"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// ChunkRules say when a file ends.
type ChunkRules = chunk.Rules

// LakeFile is one file of the lake as its key and its metadata tell: the rows of the offsets [First, End).
type LakeFile struct {
	Key        string
	Table      string
	Topic      string
	TopicID    [16]byte
	Partition  int32
	First, End int64
	Rows       int64
	// Hash is the sum of the rows' hashes.
	Hash uint64
}

// LakeFiles yields the files of a table in the order of their keys, at the cost of one Head each. What Audit would call foreign, or without metadata, is passed
// over. An error ends it.
func LakeFiles(ctx context.Context, bucket objstore.Bucket, tableName string) iter.Seq2[LakeFile, error] {
	return func(yield func(LakeFile, error) bool) {
		for info, err := range bucket.List(ctx, lake.Prefix(tableName)) {
			if err != nil {
				yield(LakeFile{}, err)
				return
			}
			o, err := lake.ParseKey(info.Key)
			if err != nil {
				continue
			}
			head, err := bucket.Head(ctx, info.Key)
			switch {
			case errors.Is(err, objstore.ErrNotFound): // removed since it was listed
				continue
			case err != nil:
				yield(LakeFile{}, fmt.Errorf("%s: %w", info.Key, err))
				return
			}
			if o, err = o.WithMetadata(head.Metadata); err != nil {
				continue
			}
			if !yield(LakeFile{
				Key: info.Key, Table: o.Table, Topic: o.Topic, TopicID: o.TopicID, Partition: o.Partition,
				First: o.First, End: o.End, Rows: o.Rows, Hash: o.Hash,
			}, nil) {
				return
			}
		}
	}
}

// Claim is what a commit of the writer's group says of one partition: every row below first is in a file. false: not one of its commits.
func Claim(metadata string) (topicID [16]byte, first int64, ok bool) {
	id, first, ok := consume.ParseCommitMetadata(metadata)
	if !ok {
		return topicID, 0, false
	}
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != len(topicID) {
		return topicID, 0, false
	}
	copy(topicID[:], raw)
	return topicID, first, true
}

// ErrPoison marks a record that becomes a dead letter instead of rows.
var ErrPoison = table.ErrPoison

// Rows tells what the writer makes of records, without files. Safe for concurrent use.
type Rows struct{ tables map[string]table.Table }

// NewRows resolves wide frames by schemas: an unknown id is schema.ErrUnknown.
func NewRows(schemas func(ctx context.Context, id string) ([]string, error)) *Rows {
	r := &Rows{tables: map[string]table.Table{}}
	for _, t := range table.All(resolver(schemas)) {
		r.tables[t.Topic()] = t
	}
	return r
}

// Tables are the names of the tables by topic.
func (r *Rows) Tables() map[string]string {
	out := make(map[string]string, len(r.tables))
	for name, t := range r.tables {
		out[name] = t.Name()
	}
	return out
}

// idle tells what moves time only: ticks, and what was given back to another consumer.
func idle(rec *kgo.Record) bool { return topic.IsTick(rec) || !dlq.IsFor(rec, dlq.Writer) }

// Of is the number of rows that rec gives, and the sum of their hashes; a tick gives none. ErrPoison: it gives a dead letter.
func (r *Rows) Of(ctx context.Context, rec *kgo.Record) (rows int64, hash uint64, err error) {
	t := r.tables[rec.Topic]
	if t == nil {
		return 0, 0, fmt.Errorf("%s has no table", rec.Topic)
	}
	if idle(rec) {
		return 0, 0, nil
	}
	if typ := topic.Type(rec); typ != "" && typ != t.Type() {
		return 0, 0, fmt.Errorf("%w: %s %q is not %q", ErrPoison, topic.HeaderType, typ, t.Type())
	}
	s, ok := t.(table.Summer)
	if !ok {
		return 0, 0, fmt.Errorf("table %s cannot sum", t.Name())
	}
	return s.Sum(ctx, table.Record{Offset: rec.Offset, TimeMS: rec.Timestamp.UnixMilli(), Value: rec.Value})
}

// Cutter says where files end, by the rules that the writer uses. Not safe for concurrent use.
type Cutter struct{ c *chunk.Cutter }

// NewCutter begins with a file that covers offsets from first on.
func NewCutter(rules ChunkRules, first int64) *Cutter { return &Cutter{chunk.New(rules, first, first)} }

// Ends takes the next record, which gives so many rows, and tells whether a file has ended before or after it.
func (c *Cutter) Ends(rec *kgo.Record, rows int64) bool {
	r := chunk.Record{Offset: rec.Offset, TimeMS: rec.Timestamp.UnixMilli(), Tick: idle(rec), Rows: rows, Bytes: int64(len(rec.Value))}
	ended := c.c.EndsBefore(r)
	if ended {
		ended = c.c.End(r.Offset).Rows > 0
	}
	if c.c.Add(r) {
		ended = c.c.End(c.c.Next()).Rows > 0 || ended
	}
	return ended
}

// resolver is a look-up as tables ask it.
type resolver func(context.Context, string) ([]string, error)

func (r resolver) Sensors(ctx context.Context, id string) ([]string, error) {
	names, err := r(ctx, id)
	if errors.Is(err, schema.ErrUnknown) {
		return nil, nil
	}
	return names, err
}
