package consume

import (
	"sync"
	"time"
)

// memory bounds the bytes of records held by all partitions together.
//
// Chunks must not depend on memory, so nothing is written early. Above the limit only the partition that
// holds most, so is nearest to its end, goes on; the others are paused. It ends its chunk by rows, bytes or time at the
// latest, its memory is free, and the next one goes on. So at most one chunk and one fetch per partition lie above the limit.
// If the one that goes on gets no records (its topic's writer is down), it drops what it holds
// and reads it again later: chunks are pure, so that costs time only.
type memory struct {
	limit int64

	mu     sync.Mutex
	used   int64
	held   map[*worker]int64
	over   bool
	runner *worker
	since  time.Time // when the runner was chosen or last grew
	size   int64     // what it held then
}

func newMemory(limit int64) *memory { return &memory{limit: limit, held: map[*worker]int64{}} }

// update takes note of how many bytes w holds now.
func (m *memory) update(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes := w.holds()
	m.used += bytes - m.held[w]
	m.held[w] = bytes
	m.decide()
}

// forget leaves out a worker that has ended.
func (m *memory) forget(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= m.held[w]
	delete(m.held, w)
	if m.runner == w {
		m.runner = nil
	}
	m.decide()
}

func (m *memory) total() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// decide pauses and resumes. Lock order: memory.mu before worker.mu.
func (m *memory) decide() {
	if !m.over {
		if m.used > m.limit {
			m.over = true
			m.choose()
		}
		return
	}
	if m.used < m.limit/4*3 { // some room, or it would flap
		m.over, m.runner = false, nil
		for w := range m.held {
			w.pauseFor(causeMemory, false)
		}
		return
	}
	m.choose()
}

// choose lets the partition that holds most go on, and only it.
func (m *memory) choose() {
	best := m.runner
	for w, n := range m.held {
		if best == nil || n > m.held[best] {
			best = w
		}
	}
	if best != m.runner {
		m.runner, m.since, m.size = best, time.Now(), m.held[best]
	} else if best != nil && m.held[best] != m.size {
		m.since, m.size = time.Now(), m.held[best]
	}
	for w := range m.held {
		w.pauseFor(causeMemory, w != m.runner)
	}
}

// relieve makes a runner that does not get on give its memory back.
func (m *memory) relieve(patience time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.over || m.runner == nil || time.Since(m.since) < patience || m.runner.busy() {
		return
	}
	m.since = time.Now()
	m.runner.giveBack()
}
