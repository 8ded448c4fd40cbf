package simulation

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// tap looks at all that goes to and from the broker, and plays the rules that are set.
type tap struct {
	w *World

	mu    sync.Mutex
	rules []*rule
	lag   *markerLag
	spins map[spin]*spinCount
}

// spin is a client that asks the same again and again.
type spin struct {
	client string
	key    int16
}

type spinCount struct {
	at time.Time
	n  int
}

// tooOften is how many requests of a kind a client may make at one instant of virtual time: beyond it the clock would never go on.
const tooOften = 2000

// turning makes a client that does not wait between its requests wait a little: on a real network each would take its time.
func (t *tap) turning(client string, key int16, message []byte) {
	t.mu.Lock()
	now := time.Now()
	c := t.spins[spin{client, key}]
	if c == nil {
		c = &spinCount{}
		t.spins[spin{client, key}] = c
	}
	if !c.at.Equal(now) {
		c.at, c.n = now, 0
	}
	c.n++
	hot := c.n > tooOften
	if hot {
		c.n = 0
	}
	t.mu.Unlock()
	if hot {
		t.w.counted(fmt.Sprintf("spinning: %s %s answered %x", client, kmsg.Key(key).Name(), message[8:min(len(message), 24)]))
		t.w.pause(50 * time.Millisecond)
	}
}

// rule acts on Kafka requests or responses of some clients.
type rule struct {
	client string // "" any
	key    kmsg.Key
	left   int // so many times
	// onRequest is called when a request is about to reach the broker, onResponse when its answer is about to reach the client; false loses it.
	onRequest, onResponse func(client string) bool
}

func newTap(w *World) *tap { return &tap{w: w, spins: map[spin]*spinCount{}} }

func (t *tap) add(r *rule) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.left == 0 {
		r.left = 1
	}
	t.rules = append(t.rules, r)
}

func (t *tap) heal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules, t.lag = nil, nil
}

// pick takes the first rule that applies.
func (t *tap) pick(client string, key int16, response bool) func(string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, r := range t.rules {
		f := r.onRequest
		if response {
			f = r.onResponse
		}
		if f == nil || int16(r.key) != key || r.client != "" && r.client != client {
			continue
		}
		if r.left--; r.left == 0 {
			t.rules = append(t.rules[:i:i], t.rules[i+1:]...)
		}
		return f
	}
	return nil
}

// Request implements memnet.Tap.
func (t *tap) Request(client, _ string, key, version int16, message []byte) (note int, ok bool) {
	if f := t.pick(client, key, false); f != nil && !f(client) {
		t.w.trace.request(client, key, version, message, false)
		return 0, false
	}
	t.w.trace.request(client, key, version, message, true)
	t.mu.Lock()
	lag := t.lag
	t.mu.Unlock()
	if lag == nil {
		return 0, true
	}
	switch kmsg.Key(key) {
	case kmsg.EndTxn:
		lag.ending()
	case kmsg.ListOffsets:
		return int(isolation(version, message)), true
	}
	return 0, true
}

// isolation is the level that a ListOffsets request asks for: 1 is read_committed.
func isolation(version int16, message []byte) int8 {
	req := kmsg.NewPtrListOffsetsRequest()
	req.SetVersion(version)
	r := kbin.Reader{Src: message[12:]}
	r.NullableString() // client id
	if req.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := req.ReadFrom(r.Src); err != nil {
		panic("simulation: a ListOffsets request that cannot be read: " + err.Error())
	}
	return req.IsolationLevel
}

// Response implements memnet.Tap.
func (t *tap) Response(client, _ string, key, version int16, note int, message []byte) []byte {
	if f := t.pick(client, key, true); f != nil && !f(client) {
		t.w.trace.response(client, key, version, message, false)
		return nil
	}
	t.w.trace.response(client, key, version, message, true)
	t.turning(client, key, message)
	if kmsg.Key(key) != kmsg.Fetch && note != 1 {
		return message
	}
	t.mu.Lock()
	lag := t.lag
	t.mu.Unlock()
	switch {
	case lag == nil:
	case kmsg.Key(key) == kmsg.Fetch:
		return lag.cutFetch(version, message)
	case kmsg.Key(key) == kmsg.ListOffsets:
		return lag.cutOffsets(version, message)
	}
	return message
}

// markerLag makes the end markers of transactions reach one topic late, as on a real cluster, where the coordinator has decided and the group's
// offsets are there while a partition's marker is still being written. The embedded broker ends a transaction in one step.
// Until a marker is there, read_committed readers see the partition end where the transaction begins.
type markerLag struct {
	w     *World
	topic string
	id    [16]byte
	late  time.Duration

	mu    sync.Mutex
	stood map[int32]hidden
	shown int // answers that showed less
}

type hidden struct {
	from  int64
	until time.Time
}

func (w *World) lagMarkers(topic string, late time.Duration) *markerLag {
	l := &markerLag{w: w, topic: topic, late: late, stood: map[int32]hidden{}}
	if info := w.cluster.TopicInfo(topic); info != nil {
		l.id = info.TopicID
	}
	w.tap.mu.Lock()
	w.tap.lag = l
	w.tap.mu.Unlock()
	return l
}

// ending notes where the transactions begin that are open now: one of them is about to end.
func (l *markerLag) ending() {
	for _, p := range l.w.cluster.PartitionInfos(l.topic) {
		if p.LastStableOffset < p.HighWatermark {
			l.mu.Lock()
			if h, ok := l.stood[p.Partition]; !ok || time.Now().After(h.until) {
				l.stood[p.Partition] = hidden{from: p.LastStableOffset, until: time.Now().Add(l.late)}
			}
			l.mu.Unlock()
		}
	}
}

// times is how often a reader was shown less.
func (l *markerLag) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shown
}

func (l *markerLag) hides(partition int32) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.stood[partition]
	if !ok || !time.Now().Before(h.until) {
		return 0, false
	}
	l.shown++
	return h.from, true
}

// cutFetch hides records and end from a reader. Nobody reads these topics uncommitted.
func (l *markerLag) cutFetch(version int16, message []byte) []byte {
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(version)
	hid := false
	out := rewrite(resp, message, func() (changed bool) {
		defer func() { hid = changed }()
		for i := range resp.Topics {
			t := &resp.Topics[i]
			if t.Topic != l.topic && t.TopicID != l.id {
				continue
			}
			for j := range t.Partitions {
				p := &t.Partitions[j]
				if from, hiding := l.hides(p.Partition); hiding {
					p.LastStableOffset = min(p.LastStableOffset, from)
					p.RecordBatches = before(p.RecordBatches, from)
					changed = true
				}
			}
		}
		return changed
	})
	if hid {
		// The broker has answered at once, with what is hidden here; a real one would have waited for more.
		l.w.pause(100 * time.Millisecond)
	}
	return out
}

// cutOffsets answers the last stable offset to who asks read_committed for the end.
func (l *markerLag) cutOffsets(version int16, message []byte) []byte {
	resp := kmsg.NewPtrListOffsetsResponse()
	resp.SetVersion(version)
	return rewrite(resp, message, func() (changed bool) {
		for i := range resp.Topics {
			if resp.Topics[i].Topic != l.topic {
				continue
			}
			for j := range resp.Topics[i].Partitions {
				p := &resp.Topics[i].Partitions[j]
				if from, hiding := l.hides(p.Partition); hiding && p.Offset > from {
					p.Offset = from
					changed = true
				}
			}
		}
		return changed
	})
}

// rewrite decodes a response, has it changed, and encodes it again.
func rewrite(resp kmsg.Response, message []byte, change func() bool) []byte {
	head := 8 // length and correlation id
	if resp.IsFlexible() {
		head++ // no tagged fields
	}
	if err := resp.ReadFrom(message[head:]); err != nil {
		panic("simulation: a response that cannot be read: " + err.Error())
	}
	if !change() {
		return message
	}
	out := resp.AppendTo(append([]byte(nil), message[:head]...))
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

// before is the batches that begin before the offset.
func before(batches []byte, offset int64) []byte {
	at := 0
	for at+12 <= len(batches) && int64(binary.BigEndian.Uint64(batches[at:])) < offset {
		at += 12 + int(binary.BigEndian.Uint32(batches[at+8:]))
	}
	return batches[:min(at, len(batches))]
}
