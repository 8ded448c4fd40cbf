package query

import (
	"container/list"
	"sync"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

// cache keeps answers by question; of each the one to the lake as it was last. It is bounded by their bytes; the longest unused go first. Safe for concurrent use.
type cache struct {
	limit int64
	mu    sync.Mutex
	bytes int64
	order *list.List // of *kept, the one used last in front
	byKey map[[32]byte]*list.Element
}

type kept struct {
	key     [32]byte
	tables  []string
	version string
	answer  worker.Answer
	none    bool // no answer: only which tables it reads
}

// cost beside the answer itself.
const cost = 512

func newCache(limit int64) *cache {
	return &cache{limit: limit, order: list.New(), byKey: map[[32]byte]*list.Element{}}
}

func (c *cache) tables(key [32]byte) ([]string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return nil, false
	}
	return e.Value.(*kept).tables, true
}

func (c *cache) get(key [32]byte, version string) (worker.Answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return worker.Answer{}, false
	}
	k := e.Value.(*kept)
	if k.none || k.version != version {
		return worker.Answer{}, false
	}
	c.order.MoveToFront(e)
	return k.answer, true
}

func (c *cache) put(key [32]byte, tables []string, version string, a worker.Answer, volatile bool) {
	k := &kept{key: key, tables: tables, version: version, answer: a, none: volatile || int64(len(a.Body)) > c.limit/8}
	if k.none {
		k.answer = worker.Answer{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.byKey[key]; ok {
		c.remove(old)
	}
	c.byKey[key] = c.order.PushFront(k)
	c.bytes += k.size()
	for c.bytes > c.limit && c.order.Len() > 0 {
		c.remove(c.order.Back())
	}
}

func (k *kept) size() int64 { return int64(len(k.answer.Body)) + cost }

func (c *cache) remove(e *list.Element) {
	k := e.Value.(*kept)
	c.order.Remove(e)
	delete(c.byKey, k.key)
	c.bytes -= k.size()
}

func (c *cache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
