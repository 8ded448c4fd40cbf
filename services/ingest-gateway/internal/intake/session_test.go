package intake

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/frame"
)

// wire is one stream between a sender and the gateway: what was sent and not read, read and not answered, written and not yet failed or kept.
type wire struct {
	s       *Session
	now     time.Time
	sent    []uint64
	answers []*answer
	buffer  []*answer // with the Kafka client
	kafka   []uint64
}

type answer struct {
	sequence uint64
	known    bool
	again    bool
}

// read takes the next frame in, as Intake.submit does; refuse is what admission says.
func (w *wire) read(refuse bool) {
	n := w.sent[0]
	w.sent = w.sent[1:]
	a := &answer{sequence: n}
	w.answers = append(w.answers, a)
	f := &frame.Frame{GatewayID: []byte("g"), EquipmentID: []byte("m"), Sequence: n}
	if _, yes := w.s.behind(f, w.now); yes {
		a.known, a.again = true, true
		return
	}
	if refuse {
		w.refuse(a)
		return
	}
	w.buffer = append(w.buffer, a)
}

func (w *wire) refuse(a *answer) {
	a.known, a.again = true, true
	w.s.hold(&Outcome{GatewayID: "g", EquipmentID: "m", Sequence: a.sequence, Cause: Overloaded, RetryAfter: time.Second}, w.now)
}

// settle ends what the Kafka client holds: it keeps or loses all of a partition.
func (w *wire) settle(lost bool) {
	for _, a := range w.buffer {
		if lost {
			w.refuse(a)
			continue
		}
		a.known = true
		w.kafka = append(w.kafka, a.sequence)
	}
	w.buffer = nil
}

// Whatever is refused, by admission or by Kafka, and however eagerly the sender goes on: a frame is in Kafka only after all before it.
func TestStreamKeepsTheOrderOfAMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &wire{s: (&Intake{}).Stream(nil), now: time.Unix(1, 0)}
		// An eager sender sends a refused frame again at once; a patient one first waits for all answers.
		patient := rapid.Bool().Draw(t, "patient")
		total := uint64(rapid.IntRange(1, 30).Draw(t, "frames"))
		step := uint64(rapid.IntRange(1, 3).Draw(t, "step"))
		next, outstanding := uint64(0), 0
		var refused []uint64
		do := func(op int) {
			switch {
			case op == 0 && next < total && len(refused) == 0:
				w.sent = append(w.sent, next*step)
				next++
				outstanding++
			case op <= 2 && len(w.sent) > 0:
				w.read(op == 1)
			case op == 3 || op == 4:
				w.settle(op == 3)
			}
			for len(w.answers) > 0 && w.answers[0].known {
				if a := w.answers[0]; a.again {
					refused = append(refused, a.sequence)
				}
				w.answers = w.answers[1:]
				outstanding--
			}
			if !patient || outstanding == 0 {
				w.sent = append(w.sent, refused...)
				outstanding += len(refused)
				refused = nil
			}
		}
		for _, op := range rapid.SliceOfN(rapid.IntRange(0, 5), 0, 200).Draw(t, "ops") {
			do(op)
		}
		for i := 0; i < 10_000 && (next < total || outstanding > 0); i++ { // nothing is refused any more
			do([]int{0, 2, 4}[i%3])
		}
		want := uint64(0)
		for _, n := range w.kafka {
			if n/step > want {
				t.Fatalf("%d is in Kafka before %d: %v", n, want*step, w.kafka)
			}
			want = max(want, n/step+1)
		}
		if want != total {
			t.Fatalf("%d of %d frames arrived: %v", want, total, w.kafka)
		}
		if len(w.s.held) != 0 {
			t.Fatalf("still held back: %v", w.s.held)
		}
	})
}

// A sender that gives a refused frame up gets its machine back, and one that begins to count anew at once.
func TestHoldEnds(t *testing.T) {
	w := &wire{s: (&Intake{}).Stream(nil), now: time.Unix(1, 0), sent: []uint64{10, 11, 12, 3, 13}}
	w.read(true)
	w.read(false) // behind 10
	w.now = w.now.Add(holdLapses + time.Second)
	w.read(false)
	w.read(true)
	w.sent = append(w.sent, 0, 3)
	w.read(false) // 13, behind 3
	w.read(false) // 0: below what was refused
	w.settle(false)
	if got := fmt.Sprint(w.kafka); got != "[12 0]" {
		t.Fatal(got)
	}
}

func TestRequestHoldsAMachineToItsEnd(t *testing.T) {
	w := &wire{s: (&Intake{}).Request(nil), sent: []uint64{1, 2, 1, 0}}
	w.read(true)
	for len(w.sent) > 0 {
		w.read(false)
	}
	other := &frame.Frame{GatewayID: []byte("g"), EquipmentID: []byte("n"), Sequence: 5}
	if _, yes := w.s.behind(other, w.now); yes || len(w.buffer) != 0 {
		t.Fatalf("another machine is held back: %v; taken: %v", yes, w.buffer)
	}
}

func TestHeldMachinesAreBounded(t *testing.T) {
	s, now := (&Intake{}).Stream(nil), time.Unix(1, 0)
	hold := func(i int) {
		s.hold(&Outcome{GatewayID: "g", EquipmentID: fmt.Sprint(i), Sequence: 1, Cause: Overloaded}, now)
	}
	for i := range maxHeld {
		hold(i)
	}
	if s.Full() {
		t.Fatal("full too early")
	}
	hold(maxHeld)
	f := &frame.Frame{GatewayID: []byte("g"), EquipmentID: []byte(fmt.Sprint(maxHeld)), Sequence: 2}
	if _, yes := s.behind(f, now); !s.Full() || !yes || len(s.held) != maxHeld {
		t.Fatalf("full: %v, refused: %v, held: %d", s.Full(), yes, len(s.held))
	}
	s, now = (&Intake{}).Stream(nil), time.Unix(1, 0)
	for i := range maxHeld {
		hold(i)
	}
	now = now.Add(holdLapses + time.Second)
	if hold(maxHeld); s.Full() || len(s.held) != 1 {
		t.Fatalf("what lapsed still takes place: %d", len(s.held))
	}
}
