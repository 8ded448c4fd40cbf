package ingestclient

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Against a model of a server: whatever is refused, and whenever, each machine's frames arrive once and in order, no more than the allowed
// number is in flight, and nothing is forgotten or kept.
func TestQueueKeepsOrderAndLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perMachine := rapid.IntRange(1, 4).Draw(t, "per machine")
		machines := rapid.IntRange(1, 4).Draw(t, "machines")
		b := newBackoff(time.Second, 8*time.Second)
		b.jitter = func() float64 { return 0.5 }
		q := newQueue(perMachine, b)
		now := time.Unix(0, 0)
		var flying []*item
		pushed := make([]uint64, machines)
		taken := make([]uint64, machines) // highest sequence that the server took, by machine
		inFlight := make([]int, machines)
		index := func(it *item) int {
			var i int
			_, _ = fmt.Sscanf(it.ref.EquipmentID, "m%d", &i)
			return i
		}
		// The server answers everything in flight, in order. After the first refusal it refuses the machine's later frames too,
		// which is what MaxInFlightPerMachine > 1 asks of it.
		answer := func(acks func() bool, alone bool) {
			refused := make([]bool, machines)
			for _, it := range flying {
				i := index(it)
				inFlight[i]--
				if refused[i] || !acks() {
					refused[i] = true
					q.giveBack(it, now, alone, 0)
					continue
				}
				if it.ref.Sequence != taken[i]+1 {
					t.Fatalf("machine %d: took %d after %d", i, it.ref.Sequence, taken[i])
				}
				taken[i]++
				q.settle(it, now)
			}
			flying = nil
		}
		send := func(frames int) {
			batch := q.take(now, nil, frames, 1000)
			for _, it := range batch {
				i := index(it)
				if inFlight[i]++; inFlight[i] > perMachine {
					t.Fatalf("machine %d: %d in flight, at most %d", i, inFlight[i], perMachine)
				}
			}
			flying = append(flying, batch...)
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				i := rapid.IntRange(0, machines-1).Draw(t, "machine")
				pushed[i]++
				q.push(&item{ref: Ref{"g", fmt.Sprintf("m%d", i), pushed[i]}, payload: make([]byte, 10)})
			},
			"send": func(t *rapid.T) { send(rapid.IntRange(1, 10).Draw(t, "frames")) },
			"answer": func(t *rapid.T) {
				answer(func() bool { return rapid.Bool().Draw(t, "ack") }, rapid.Bool().Draw(t, "alone"))
			},
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 10).Draw(t, "seconds")) * time.Second)
			},
		})
		for range 1000 {
			answer(func() bool { return true }, false)
			now = now.Add(time.Minute)
			send(100)
			if len(flying) == 0 {
				break
			}
		}
		for i := range pushed {
			if taken[i] != pushed[i] {
				t.Fatalf("machine %d: %d of %d frames arrived", i, taken[i], pushed[i])
			}
		}
		if len(q.machines) != 0 || q.frames != 0 || len(q.delayed) != 0 {
			t.Fatalf("empty queue still holds %d machines, %d frames, %d delayed", len(q.machines), q.frames, len(q.delayed))
		}
	})
}

func TestRefusedMachineDoesNotHoldUpOthers(t *testing.T) {
	q := newQueue(1, newBackoff(time.Second, time.Minute))
	now := time.Unix(0, 0)
	q.push(&item{ref: Ref{"g", "slow", 1}})
	q.push(&item{ref: Ref{"g", "fine", 1}})
	q.push(&item{ref: Ref{"g", "fine", 2}})
	batch := q.take(now, nil, 10, 1000)
	if len(batch) != 2 {
		t.Fatalf("took %d frames, want one of each machine", len(batch))
	}
	q.giveBack(batch[0], now, true, 30*time.Second)
	q.settle(batch[1], now)
	if batch = q.take(now, nil, 10, 1000); len(batch) != 1 || batch[0].ref.EquipmentID != "fine" {
		t.Fatalf("took %v, want the machine that was not refused", batch)
	}
	due := q.wakeDelayed(now)
	if wait := due.Sub(now); wait < 30*time.Second || wait > 38*time.Second {
		t.Fatalf("refused machine waits %s, the server asked for 30 s", wait)
	}
	if batch = q.take(due, nil, 10, 1000); len(batch) != 1 || batch[0].ref.EquipmentID != "slow" {
		t.Fatalf("took %v, want the refused frame once its time has come", batch)
	}
}

func TestBackoffIsBoundedAndJittered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jitter := rapid.Float64Range(0, 0.999).Draw(t, "jitter")
		b := backoff{min: 100 * time.Millisecond, max: 10 * time.Second, jitter: func() float64 { return jitter }}
		attempts := rapid.IntRange(0, 100000).Draw(t, "attempts")
		asked := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "asked"))
		d := b.delay(attempts, asked)
		if d < min(asked, maxRetryAfter) {
			t.Fatalf("waits %s, the server asked for %s", d, asked)
		}
		if d < 50*time.Millisecond || d > max(10*time.Second, maxRetryAfter*5/4) {
			t.Fatalf("waits %s: out of bounds", d)
		}
	})
}
