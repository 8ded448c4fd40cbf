package machine

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

type sent struct {
	seq  uint64
	base int64 // seconds
	want sequenceVerdict
}

func TestSequences(t *testing.T) {
	const now = 1_000_000 // seconds
	run := func(from, to uint64, base int64) []sent {
		var out []sent
		for n := from; n <= to; n++ {
			out = append(out, sent{n, base + int64(n-from), fresh})
		}
		return out
	}
	join := func(parts ...[]sent) []sent {
		var out []sent
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	for name, frames := range map[string][]sent{
		"in order, repeated":               {{1, 1, fresh}, {2, 2, fresh}, {2, 2, repeated}, {1, 1, repeated}, {3, 3, fresh}},
		"reordered":                        {{5, 5, fresh}, {3, 3, fresh}, {4, 4, fresh}, {3, 3, repeated}, {1, 1, fresh}},
		"first number is large":            {{1 << 60, 1, fresh}, {1<<60 - 3, 0, fresh}, {1 << 60, 1, repeated}},
		"a jump far ahead":                 {{1, 1, fresh}, {1_000_000, 2, fresh}, {1, 1, repeated}, {999_999, 2, fresh}},
		"same number, other content":       {{1, 1, fresh}, {2, 2, fresh}, {2, 9, repeated}, {1, 9, repeated}},
		"zero":                             {{0, 1, fresh}, {0, 1, repeated}, {1, 2, fresh}},
		"counter lost, short life":         join(run(1, 100, 100), []sent{{1, 300, counterReset}, {2, 301, fresh}, {1, 300, repeated}, {3, 302, fresh}}),
		"counter lost, first one late":     join(run(1, 100, 100), []sent{{2, 301, counterReset}, {1, 300, fresh}, {3, 302, fresh}}),
		"counter lost, long life":          join(run(1, 3000, 100), []sent{{1, 5000, counterReset}, {2, 5001, fresh}}),
		"counter lost, seen in its middle": join(run(1, 3000, 100), []sent{{700, 5000, counterReset}, {701, 5001, fresh}}),
		"straggler of the life before":     join(run(1, 100, 100), []sent{{1, 300, counterReset}, {90, 189, repeated}, {100, 199, repeated}, {2, 301, fresh}}),
		"very old repeat":                  join(run(1, 3000, 100), []sent{{5, 104, repeated}, {3000, 3099, repeated}}),
		"repeat from the future":           join([]sent{{1, 10 * now, fresh}}, run(2, 3000, 100), []sent{{1, 10 * now, repeated}}),
		"lost after one from the future":   join(run(1, 1500, 100), []sent{{1501, 10 * now, fresh}}, []sent{{1, 2000, counterReset}}),
		"young counter, low number again":  join(run(1, 10, 100), []sent{{1, 300, repeated}}),
	} {
		t.Run(name, func(t *testing.T) {
			var s sequences
			for i, f := range frames {
				if got := s.accept([]byte("g"), f.seq, f.base*second, now*second, 8, false); got != f.want {
					t.Fatalf("frame %d (%d at %d s): verdict %d, want %d", i, f.seq, f.base, got, f.want)
				}
			}
		})
	}
}

func TestGatewaysDoNotMeet(t *testing.T) {
	var s sequences
	for _, g := range []string{"a", "b", "c"} {
		if s.accept([]byte(g), 1, 0, second, 2, false) != fresh {
			t.Fatalf("first frame of %s", g)
		}
	}
	if len(s.gateways) != 2 {
		t.Fatalf("%d gateways are remembered, want 2", len(s.gateways))
	}
	if s.accept([]byte("c"), 1, 0, second, 2, false) != repeated || s.accept([]byte("b"), 1, 0, second, 2, false) != repeated {
		t.Fatal("the two newest gateways must be remembered")
	}
}

// Against a model that remembers everything: nothing is accepted twice, and whatever is at most a window behind is accepted once.
func TestSequencesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s sequences
		seen := map[uint64]bool{}
		highest := uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "frames") {
			seq := rapid.Uint64Range(1, 3000).Draw(t, "seq")
			if rapid.Bool().Draw(t, "near") {
				seq = highest + rapid.Uint64Range(1, 60).Draw(t, "step")
				seq -= min(seq-1, 30)
			}
			got := s.accept([]byte("g"), seq, int64(seq)*second, 1e6*second, 8, false) // time grows with the number: an honest gateway
			switch {
			case seen[seq] && got != repeated:
				t.Fatalf("%d accepted twice", seq)
			case !seen[seq] && seq+sequenceWindow > highest && got != fresh:
				t.Fatalf("%d refused, highest %d", seq, highest)
			}
			if got == fresh {
				seen[seq] = true
				highest = max(highest, seq)
			}
		}
	})
}

// What comes back from the dead letters was never counted. Below the bitmap that is believed, and changes nothing of what is known.
func TestReturnedFrames(t *testing.T) {
	var s sequences
	accept := func(seq uint64, returned bool) sequenceVerdict {
		return s.accept([]byte("g"), seq, int64(seq)*second, 1e6*second, 8, returned)
	}
	for seq := uint64(5000); seq < 5100; seq++ {
		accept(seq, false)
	}
	before := s.appendState(nil)
	if accept(40, false) != repeated {
		t.Error("an old frame from its sender is not taken for a repeat")
	}
	if accept(40, true) != fresh {
		t.Error("an old frame from the dead letters is taken for a repeat")
	}
	if accept(5050, true) != repeated {
		t.Error("a frame that was counted is counted again")
	}
	after := s.appendState(nil)
	if !bytes.Equal(before[8:], after[8:]) { // but for the order of use
		t.Error("an old frame that came back changed what is known of the newer ones")
	}
}

// Gaps keep 12 bits and their order.
func TestCoarseMilliseconds(t *testing.T) {
	last := coarseMS(0)
	for _, ms := range []int64{0, 1, 999, 2047, 2048, 4095, 5000, 8192, 60_000, 86_400_000, 1 << 40, 1 << 41, 1 << 60} {
		c := coarseOf(ms)
		got, want := c.ms(), min(ms, 1<<41)
		if got > want || want-got > want>>11 || (ms < 1<<12 || ms == 5000 || ms == 60_000) && got != ms || c < last {
			t.Errorf("%d ms are kept as %d", ms, got)
		}
		last = c
	}
}
