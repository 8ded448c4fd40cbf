// Package hops measures how long records take from one place of the pipeline to the next, over the last minute.
package hops

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Hop is a way from one place to the next.
type Hop int

// The hops, as far as the records that are followed tell. Times of Kafka are its brokers', so only Shown and Delivered compare two machines' clocks with ours.
const (
	// Gathered: from a window's end, by the machine's clock, to the broker's time of the frame that closed it. It holds the way to the broker and the allowed lateness.
	Gathered Hop = iota
	// Judged: from the frame that closed a window to the window.
	Judged
	// Reported: from the frame that was judged to the report of its anomaly.
	Reported
	// Routed: from the report to the alert.
	Routed
	// Delivered: from a window in Kafka to here.
	Delivered
	// Shown: from the frame that closed a window to the message that tells the page of it.
	Shown
	hops
)

// Names of the hops in the API.
var Names = [hops]string{"gathered", "judged", "reported", "routed", "delivered", "shown"}

const (
	// period is how far back the figures look, in slots that are forgotten one by one.
	slots  = 12
	length = 5 * time.Second
	// Buckets are four to an octave of milliseconds: a figure is right to a fifth.
	perOctave = 4
	buckets   = 26 * perOctave
	// What took longer is of another time: the past is replayed, or a machine's clock is wrong.
	longest = 6 * time.Hour
)

// Recorder counts. Safe for concurrent use; memory is fixed (30 KB), and Add takes a tenth of a microsecond.
type Recorder struct {
	live atomic.Bool
	mu   sync.Mutex
	ring [slots]slot
}

type slot struct {
	number int64
	counts [hops][buckets]uint32
	worst  [hops]time.Duration
	total  [hops]uint64
}

// Figures are what is known of a hop; Count 0: nothing.
type Figures struct {
	Hop                Hop
	Count              uint64
	P50, P90, P99, Max time.Duration
}

func bucket(d time.Duration) int {
	ms := uint64(max(d.Milliseconds(), 0))
	if ms < perOctave {
		return int(ms)
	}
	octave := bits.Len64(ms) - 3 // ms has the two bits after its first in the bucket's name
	return min(octave*perOctave+int(ms>>octave), buckets-1)
}

// most is the largest duration of a bucket.
func most(b int) time.Duration {
	if b < 2*perOctave {
		return time.Duration(b) * time.Millisecond
	}
	octave := b/perOctave - 1
	return time.Duration((b%perOctave+perOctave+1)<<octave-1) * time.Millisecond
}

// Start begins to count: before it the past is read, which says nothing.
func (r *Recorder) Start() { r.live.Store(true) }

// Live tells whether it counts.
func (r *Recorder) Live() bool { return r.live.Load() }

// Add notes that something took d; now is the clock's. What is negative counts as nothing at all: clocks differ.
func (r *Recorder) Add(h Hop, d time.Duration, now time.Time) {
	if d > longest || !r.live.Load() {
		return
	}
	d = max(d, 0)
	number := now.UnixNano() / int64(length)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.ring[number%slots]
	if s.number != number {
		*s = slot{number: number}
	}
	s.counts[h][bucket(d)]++
	s.total[h]++
	s.worst[h] = max(s.worst[h], d)
}

// Read gives the figures of each hop over the last minute.
func (r *Recorder) Read(now time.Time) [hops]Figures {
	var out [hops]Figures
	var sum [hops][buckets]uint64
	number := now.UnixNano() / int64(length)
	r.mu.Lock()
	for i := range r.ring {
		s := &r.ring[i]
		if s.number <= number-slots || s.number > number {
			continue
		}
		for h := range hops {
			out[h].Count += s.total[h]
			out[h].Max = max(out[h].Max, s.worst[h])
			for b, n := range s.counts[h] {
				sum[h][b] += uint64(n)
			}
		}
	}
	r.mu.Unlock()
	for h := range hops {
		f := &out[h]
		f.Hop = h
		f.P50, f.P90, f.P99 = quantile(&sum[h], f, 0.5), quantile(&sum[h], f, 0.9), quantile(&sum[h], f, 0.99)
	}
	return out
}

func quantile(counts *[buckets]uint64, f *Figures, q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(f.Count)))
	var seen uint64
	for b, n := range counts {
		if seen += n; seen >= rank && n > 0 {
			return min(most(b), f.Max)
		}
	}
	return f.Max
}
