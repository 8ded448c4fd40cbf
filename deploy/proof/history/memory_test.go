package history

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// memory is a source that holds what a run left behind, to be corrupted.
type memory struct {
	topics  map[string]map[int32][]*kgo.Record // committed records only
	ends    map[string]map[int32]interval
	offsets map[string]map[string]map[int32]position
	ids     map[string]kadm.TopicID
}

// take copies everything that the checker reads.
func take(t *testing.T, w *World) *memory {
	t.Helper()
	ctx := t.Context()
	b, err := connect(w)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	m := &memory{topics: map[string]map[int32][]*kgo.Record{}, ends: map[string]map[int32]interval{}, offsets: map[string]map[string]map[int32]position{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m.ids, err = b.topicIDs(ctx)
	must(err)
	for _, g := range []string{w.Groups.Processor, w.Groups.Router, w.Groups.Writer} {
		m.offsets[g], err = b.committed(ctx, g)
		must(err)
	}
	for _, s := range topic.All() {
		m.ends[s.Name], err = b.bounds(ctx, s.Name)
		must(err)
		m.topics[s.Name] = map[int32][]*kgo.Record{}
		for id, in := range m.ends[s.Name] {
			_, err := b.read(ctx, s.Name, id, in, func(r *kgo.Record) error {
				m.topics[s.Name][id] = append(m.topics[s.Name][id], r)
				return nil
			})
			must(err)
		}
	}
	return m
}

// clone shares records, which must be copied before they are changed.
func (m *memory) clone() *memory {
	c := &memory{topics: map[string]map[int32][]*kgo.Record{}, ends: map[string]map[int32]interval{}, offsets: map[string]map[string]map[int32]position{}, ids: m.ids}
	for name, parts := range m.topics {
		c.topics[name] = map[int32][]*kgo.Record{}
		for id, rs := range parts {
			c.topics[name][id] = slices.Clone(rs)
		}
		c.ends[name] = maps.Clone(m.ends[name])
	}
	for g, ts := range m.offsets {
		c.offsets[g] = map[string]map[int32]position{}
		for name, parts := range ts {
			c.offsets[g][name] = maps.Clone(parts)
		}
	}
	return c
}

func (m *memory) bounds(_ context.Context, name string) (map[int32]interval, error) {
	return maps.Clone(m.ends[name]), nil
}

func (m *memory) committed(_ context.Context, group string) (map[string]map[int32]position, error) {
	return m.offsets[group], nil
}

func (m *memory) read(_ context.Context, name string, id int32, in interval, each func(*kgo.Record) error) (span, error) {
	var s span
	for _, r := range m.topics[name][id] {
		if r.Offset < in.from || r.Offset >= in.to {
			continue
		}
		s.records++
		if err := each(r); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (m *memory) topicIDs(context.Context) (map[string]kadm.TopicID, error) { return m.ids, nil }

// bucket is a store in memory.
type bucket struct {
	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	data     []byte
	metadata map[string]string
}

var _ objstore.Bucket = (*bucket)(nil)

func newBucket() *bucket { return &bucket{objects: map[string]object{}} }

func (b *bucket) clone() *bucket {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &bucket{objects: maps.Clone(b.objects)}
}

func (b *bucket) PutIfAbsent(_ context.Context, key string, data []byte, metadata map[string]string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.objects[key]; ok {
		return objstore.ErrExists
	}
	b.objects[key] = object{slices.Clone(data), maps.Clone(metadata)}
	return nil
}

func (b *bucket) Get(_ context.Context, key string, _ int64) ([]byte, objstore.Info, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return nil, objstore.Info{}, fmt.Errorf("%w: %s", objstore.ErrNotFound, key)
	}
	return o.data, objstore.Info{Key: key, Size: int64(len(o.data)), Metadata: o.metadata}, nil
}

func (b *bucket) GetRange(ctx context.Context, key string, off, length int64) ([]byte, error) {
	data, _, err := b.Get(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	if off < 0 || length < 1 || off > int64(len(data))-length {
		return nil, io.ErrUnexpectedEOF
	}
	return data[off : off+length], nil
}

func (b *bucket) Head(ctx context.Context, key string) (objstore.Info, error) {
	_, info, err := b.Get(ctx, key, 0)
	return info, err
}

func (b *bucket) List(_ context.Context, prefix string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		for _, k := range b.keys(prefix) {
			b.mu.Lock()
			o := b.objects[k]
			b.mu.Unlock()
			if !yield(objstore.Info{Key: k, Size: int64(len(o.data))}, nil) {
				return
			}
		}
	}
}

func (b *bucket) keys(prefix string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for k := range b.objects {
		if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func (b *bucket) Delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, key)
	return nil
}

func (b *bucket) Close() error { return nil }
