package ingestclient

import (
	"container/heap"
	"time"
)

// item is a frame on its way.
type item struct {
	ref     Ref
	payload []byte // an encoded SensorFrame
	sent    bool   // it was sent before
	sentAt  time.Time
	m       *machine
}

// machine is the queue of one (gateway, machine). Frames leave from its head, and come back to its head.
type machine struct {
	queue    []*item
	inFlight int
	// refused are frames that came back while others were still in flight. Nothing more is sent until those are settled: only
	// then do the refused go back to the head, in their order.
	refused  []*item
	attempts int       // tries in a row that failed
	until    time.Time // not before; zero when free
	hint     time.Duration
	place    place
}

// place says which of the queue's two lists a machine stands in, so that it never stands in both.
type place uint8

const (
	nowhere place = iota
	inReady
	inDelayed
)

type machineKey struct{ gateway, equipment string }

// queue holds the frames of one lane and decides which may go. It reads no clock (callers pass now) and is not safe for
// concurrent use. Each operation costs O(1), or O(log machines waiting) where a delay is involved.
type queue struct {
	perMachine int
	backoff    backoff
	machines   map[machineKey]*machine
	ready      fifo[*machine]
	delayed    delayHeap
	frames     int // queued or refused, not in flight
}

func newQueue(perMachine int, b backoff) *queue {
	return &queue{perMachine: perMachine, backoff: b, machines: make(map[machineKey]*machine)}
}

func (q *queue) push(it *item) {
	key := machineKey{it.ref.GatewayID, it.ref.EquipmentID}
	m := q.machines[key]
	if m == nil {
		m = &machine{}
		q.machines[key] = m
	}
	it.m = m
	m.queue = append(m.queue, it)
	q.frames++
	q.place(m)
}

// place puts a machine where it now belongs, or forgets it when it has nothing left.
func (q *queue) place(m *machine) {
	if m.place != nowhere || len(m.refused) > 0 {
		return
	}
	if len(m.queue) == 0 {
		return // nothing to do
	}
	if !m.until.IsZero() {
		m.place = inDelayed
		heap.Push(&q.delayed, m)
		return
	}
	if m.inFlight < q.perMachine {
		m.place = inReady
		q.ready.push(m)
	}
}

// wakeDelayed moves machines whose delay is over, and says when the next one is (zero: none waits).
func (q *queue) wakeDelayed(now time.Time) time.Time {
	for len(q.delayed) > 0 {
		m := q.delayed[0]
		if m.until.After(now) {
			return m.until
		}
		heap.Pop(&q.delayed)
		m.place, m.until = nowhere, time.Time{}
		q.place(m)
	}
	return time.Time{}
}

// take moves up to maxFrames frames of together about maxBytes into flight, appended to dst: at least one, if any is
// ready. Machines take turns; one machine's frames are in order.
func (q *queue) take(now time.Time, dst []*item, maxFrames, maxBytes int) []*item {
	q.wakeDelayed(now)
	for q.ready.len() > 0 && maxFrames > 0 {
		m := q.ready.pop()
		m.place = nowhere
		if !m.until.After(now) {
			m.until = time.Time{}
		}
		if len(m.refused) > 0 || !m.until.IsZero() {
			// Something came back since it was found ready; what is queued must wait behind that.
			q.place(m)
			continue
		}
		for len(m.queue) > 0 && m.inFlight < q.perMachine && maxFrames > 0 {
			it := m.queue[0]
			if len(dst) > 0 && len(it.payload) > maxBytes {
				q.place(m)
				return dst
			}
			maxFrames--
			maxBytes -= len(it.payload)
			m.queue[0] = nil
			m.queue = m.queue[1:]
			m.inFlight++
			q.frames--
			dst = append(dst, it)
		}
		q.place(m)
	}
	return dst
}

// settle takes a frame out of flight for good: acknowledged or rejected.
func (q *queue) settle(it *item, now time.Time) {
	m := it.m
	m.inFlight--
	if len(m.refused) == 0 {
		m.attempts = 0
	}
	q.landed(it, now)
}

// giveBack takes a frame out of flight, to be sent again. Frames of a machine must be given back in the order in which they were
// taken. alone says that the machine itself is to wait (and at least after); otherwise the lane as a whole does.
func (q *queue) giveBack(it *item, now time.Time, alone bool, after time.Duration) {
	m := it.m
	m.inFlight--
	it.sent = true
	m.refused = append(m.refused, it)
	q.frames++
	if alone {
		m.hint = max(m.hint, after, 1)
	}
	q.landed(it, now)
}

// landed runs when a frame is no longer in flight.
func (q *queue) landed(it *item, now time.Time) {
	m := it.m
	if m.inFlight == 0 && len(m.refused) > 0 {
		m.queue = append(m.refused, m.queue...)
		m.refused = nil
		if m.hint > 0 {
			m.until = now.Add(q.backoff.delay(m.attempts, m.hint))
			m.attempts++
			m.hint = 0
		}
	}
	q.place(m)
	if m.inFlight == 0 && len(m.queue) == 0 && len(m.refused) == 0 {
		key := machineKey{it.ref.GatewayID, it.ref.EquipmentID}
		delete(q.machines, key)
	}
}

// fifo is a queue that gives its memory back as it drains.
type fifo[T comparable] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }
func (f *fifo[T]) push(v T) { f.items = append(f.items, v) }

func (f *fifo[T]) pop() T {
	var zero T
	v := f.items[f.head]
	f.items[f.head] = zero
	f.head++
	switch {
	case f.head == len(f.items):
		f.items, f.head = f.items[:0], 0
	case f.head >= 1024 && f.head*2 >= len(f.items):
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	return v
}

type delayHeap []*machine

func (h delayHeap) Len() int           { return len(h) }
func (h delayHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h delayHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *delayHeap) Push(x any)        { *h = append(*h, x.(*machine)) }

func (h *delayHeap) Pop() any {
	old := *h
	m := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return m
}
