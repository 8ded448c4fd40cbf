package breaker

import (
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

func TestLifeOfABreaker(t *testing.T) {
	c := Config{Wait: 10, Trial: 4, MuteWindows: 3, DriftPages: 2, MaxBytes: 1 << 20, MachineMax: 1 << 20}
	var none *Breaker
	if !none.Counts() || !none.Asked() || none.OnTrial() || none.Cause() != None {
		t.Fatal("a breaker that is not there is not closed")
	}
	var b Breaker
	passed := func(n int) (begun int) {
		for i := 1; ; i++ {
			if begin, _ := b.Passed(&c); begin {
				return i
			}
			if i == n {
				return 0
			}
		}
	}
	wait := 10
	for failure := range 9 {
		b.Trip(&c, Panic, int64(failure+1)*100)
		if b.Counts() || b.Asked() || b.Cause() != Panic || b.SinceUS() != 100 {
			t.Fatalf("%+v", b)
		}
		if n := passed(10_000); n != wait {
			t.Fatalf("failure %d: a trial after %d windows, want %d", failure, n, wait)
		}
		if !b.OnTrial() || !b.Asked() || b.Counts() {
			t.Fatalf("%+v", b)
		}
		wait = min(2*wait, 640)
	}
	passed(4)
	if !b.Counts() || !b.Asked() {
		t.Fatalf("after the trial %+v", b)
	}
	for n := 0; ; n++ {
		if _, done := b.Passed(&c); done {
			if n < 600 {
				t.Errorf("failures are forgotten after %d windows", n)
			}
			break
		}
	}
	if b != (Breaker{sinceUS: 100}) {
		t.Errorf("%+v is remembered", b)
	}
	b.Trip(&c, Drift, 7)
	if b.Counts() || !b.Asked() || b.SinceUS() != 7 {
		t.Errorf("one set aside for drift goes on learning: %+v", b)
	}
}

func TestMuteAndAlone(t *testing.T) {
	c := Config{Wait: 10, Trial: 4, MuteWindows: 3, DriftPages: 2}
	var b Breaker
	for i, spoke := range []bool{false, false, true, false, false, false} {
		if got := b.Spoke(&c, spoke); got != (i == 5) {
			t.Errorf("window %d: mute %t", i, got)
		}
	}
	b = Breaker{}
	for i, page := range []bool{true, true, true, false, true} { // two pages; the budget allows next to nothing
		if got := b.Alone(&c, page, 1e-6); got {
			t.Errorf("window %d: set aside", i)
		}
	}
	b.Alone(&c, false, 1e-6)
	if !b.Alone(&c, true, 1e-6) {
		t.Error("the third page is one too many")
	}
	b = Breaker{}
	for i := range 10_000 { // within the budget
		if b.Alone(&c, i%10 == 0, 0.1) {
			t.Fatal("set aside within its budget")
		}
	}
}

func TestStateComesBack(t *testing.T) {
	if n := unsafe.Sizeof(Breaker{}); n > 32 {
		t.Errorf("%d bytes", n)
	}
	c := DefaultConfig()
	c.Wait, c.Trial, c.MuteWindows = 5, 3, 4
	rapid.Check(t, func(t *rapid.T) {
		var b Breaker
		for i := range rapid.IntRange(0, 60).Draw(t, "windows") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				b.Trip(&c, Cause(rapid.IntRange(1, int(causes)-1).Draw(t, "why")), int64(i))
			case 1, 2:
				b.Spoke(&c, false)
			case 3, 4:
				b.Alone(&c, rapid.Bool().Draw(t, "page"), 0.01)
			default:
				b.Passed(&c)
			}
			state := b.AppendState(nil)
			var again Breaker
			r := codec.NewReader(state)
			if again.RestoreState(r); r.Err() != nil || r.Remaining() != 0 || again != b || len(state) != StateSize {
				t.Fatalf("%+v came back as %+v: %v", b, again, r.Err())
			}
		}
	})
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, edit := range []func(*Config){
		func(c *Config) { c.Wait = 0 }, func(c *Config) { c.Trial = 0 }, func(c *Config) { c.MuteWindows = -1 },
		func(c *Config) { c.DriftPages = -1 }, func(c *Config) { c.MaxBytes = 0 }, func(c *Config) { c.MachineMax = 0 },
	} {
		c := DefaultConfig()
		if edit(&c); c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	for c := range causes + 1 {
		if c.String() == "" || c.Text() == "" {
			t.Errorf("cause %d has no name", c)
		}
	}
}
