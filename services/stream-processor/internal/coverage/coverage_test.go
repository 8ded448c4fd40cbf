package coverage

import (
	"math"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const windowUS = 5_000_000

func TestEveryReasonHasAStateAndAName(t *testing.T) {
	seen := map[string]Reason{}
	for r := range reasons {
		if _, ok := eventv1.CoverageState_name[int32(r.State())]; !ok || r.State() == eventv1.CoverageState_COVERAGE_STATE_UNSPECIFIED {
			t.Errorf("reason %d has state %v", r, r.State())
		}
		if key := r.State().String() + r.String(); r != Unheard { // which is as good as a new sensor
			if other, ok := seen[key]; ok {
				t.Errorf("reasons %d and %d are both %s", r, other, key)
			}
			seen[key] = r
		}
		if r.Sees() != (r.State() == eventv1.CoverageState_COVERAGE_STATE_JUDGED) {
			t.Errorf("%v: sees %t", r, r.Sees())
		}
	}
	if reasons.Valid() || !Judged.Valid() {
		t.Error("valid reasons")
	}
}

func TestSensorIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Sensor{}); n > 10 {
		t.Errorf("%d bytes for each sensor", n)
	}
}

// window k of a sensor with so many values.
func window(k int, count uint32) *Window {
	return &Window{StartUS: int64(k) * windowUS, EndUS: int64(k+1) * windowUS, Count: count, Opinion: true}
}

func TestReasons(t *testing.T) {
	c := DefaultConfig()
	for _, k := range []struct {
		name string
		edit func(*Window)
		seen Seen
		want Reason
	}{
		{"judged", func(*Window) {}, 0, Judged},
		{"uncertain", func(*Window) {}, SawUncertain, Uncertain},
		{"degraded", func(w *Window) { w.Degraded = true }, 0, StatisticsOnly},
		{"learning", func(w *Window) { w.Learning = true }, 0, WarmingUp},
		{"no opinion yet", func(w *Window) { w.Opinion = false }, 0, NewSensor},
		{"nobody to have one", func(w *Window) { w.Opinion, w.Alone = false, true }, 0, NoDetector},
		{"nobody any more", func(w *Window) { w.Opinion, w.Alone, w.Degraded = false, true, true }, 0, ModelFailed},
		{"only limits", func(w *Window) { w.Alone = true }, 0, Judged},
		{"stuck", func(w *Window) { w.Count, w.Unusable, w.Stuck = 1, 4, true }, 0, Stuck},
		{"few are bad", func(w *Window) { w.Unusable = 2 }, SawBadSource, Judged},
		{"bad", func(w *Window) { w.Count, w.Unusable = 0, 5 }, SawBadSource | SawMissing, BadSource},
		{"missing", func(w *Window) { w.Count, w.Unusable = 0, 5 }, SawMissing, Missing},
		{"out of range", func(w *Window) { w.Count, w.Unusable = 0, 5 }, SawBadSource | SawOutOfRange, OutOfRange},
		{"late", func(w *Window) { w.Count = 0 }, SawLate, AfterClose},
		{"some late", func(*Window) {}, SawLate, Judged},
		{"nothing for a moment", func(w *Window) { w.Count = 0 }, 0, Judged},
		{"shelved", func(w *Window) { w.Count, w.Shelved = 0, true }, SawLate, Shelved},
	} {
		var s Sensor
		s.Step(&c, window(0, 5))
		w := window(1, 5)
		k.edit(w)
		s.Note(k.seen)
		if changed := s.Step(&c, w); s.Reason() != k.want || changed != (k.want != Judged) {
			t.Errorf("%s: %d, changed %t", k.name, s.Reason(), changed)
		}
		if s.seen&allSeen != 0 {
			t.Errorf("%s: what was seen is not forgotten", k.name)
		}
	}
}

func TestSensorIsHeldAgainstItsOwnHabit(t *testing.T) {
	c := DefaultConfig()
	for _, every := range []int{1, 2, 12, 60, 500} {
		var s Sensor
		k := 0
		for ; k < 12*every; k++ {
			s.Step(&c, window(k, map[bool]uint32{true: 1}[k%every == 0]))
			if s.Reason() != Judged {
				t.Fatalf("every %d: %d in window %d", every, s.Reason(), k)
			}
		}
		heard := k - every
		for ; s.Reason() != SensorSilent && k < 1_000_000; k++ {
			s.Step(&c, window(k, 0))
		}
		least := int(c.SensorMin.Microseconds() / windowUS)
		if silent := k - heard; silent < max(least, 5*(every-1)) || silent > max(least, 5*(every-1))+3 {
			t.Errorf("every %d windows: silent after %d", every, silent)
		}
		if s.UntilUS() != int64(heard+1)*windowUS || s.BlindFor(int64(k)*windowUS) != int64(k-heard-1)*windowUS {
			t.Errorf("every %d: judged until %d, heard last in window %d", every, s.UntilUS()/windowUS, heard)
		}
	}
}

// An outage teaches a sensor little: the next one is noticed nearly as soon.
func TestSilenceIsNotLearned(t *testing.T) {
	c := DefaultConfig()
	var s Sensor
	k := 0
	for range 3 {
		for range 300 {
			s.Step(&c, window(k, 1))
			k++
		}
		for range 1000 {
			s.Step(&c, window(k, 0))
			k++
		}
		if blind := s.BlindFor(int64(k) * windowUS); s.Reason() != SensorSilent || blind != 1000*windowUS {
			t.Fatalf("%d, blind for %d", s.Reason(), blind)
		}
	}
	for range 200 {
		s.Step(&c, window(k, 1))
		k++
	}
	n := 0
	for ; s.Reason() != SensorSilent; n++ {
		s.Step(&c, window(k, 0))
		k++
	}
	if n > 12 {
		t.Errorf("noticed after %d windows", n)
	}
}

func TestTimesThatDoNotFitAreNoBlindness(t *testing.T) {
	c := DefaultConfig()
	for _, at := range []int64{-1 << 60, -5_000_000, 1 << 60} {
		var s Sensor
		s.Step(&c, &Window{StartUS: at, EndUS: at + windowUS, Count: 1, Opinion: true})
		if n := s.BlindFor(at + 2*windowUS); n < 0 || n > 2*windowUS {
			t.Errorf("at %d: blind for %d", at, n)
		}
	}
}

func TestStatesComeBack(t *testing.T) {
	c := DefaultConfig()
	rapid.Check(t, func(t *rapid.T) {
		var s Sensor
		var l Lag
		for k := range rapid.IntRange(0, 60).Draw(t, "windows") {
			s.Note(Seen(rapid.IntRange(0, int(allSeen)).Draw(t, "seen")))
			w := window(k, uint32(rapid.IntRange(0, 2).Draw(t, "count")))
			w.Unusable, w.Learning, w.Opinion = uint32(rapid.IntRange(0, 2).Draw(t, "unusable")), rapid.Bool().Draw(t, "learning"), rapid.Bool().Draw(t, "opinion")
			s.Step(&c, w)
			l.Note(&c, int64(k)*30_000, rapid.Int64Range(0, 1_000_000).Draw(t, "lag"))
			state := l.AppendState(s.AppendState(nil))
			var s2 Sensor
			var l2 Lag
			r := codec.NewReader(state)
			s2.RestoreState(r)
			l2.RestoreState(r)
			if r.Err() != nil || r.Remaining() != 0 || s2 != s || l2 != l {
				t.Fatalf("%v: %+v and %+v came back as %+v and %+v", r.Err(), s, l, s2, l2)
			}
		}
	})
}

func FuzzRestore(f *testing.F) {
	var s Sensor
	var l Lag
	f.Add(l.AppendState(s.AppendState(nil)))
	c := DefaultConfig()
	f.Fuzz(func(_ *testing.T, b []byte) {
		var s Sensor
		var l Lag
		r := codec.NewReader(b)
		s.RestoreState(r)
		l.RestoreState(r)
		for k := range 20 {
			s.Step(&c, window(k, uint32(k%2)))
			_ = s.Reason().String()
			l.Note(&c, int64(k)*100_000, 1_000_000)
		}
	})
}

func TestLagTellsThreeThingsApart(t *testing.T) {
	c := DefaultConfig()
	for _, k := range []struct {
		name        string
		first, each int64 // ms of lag, and by how much it grows in a second
		want        Reason
		wrong       bool
	}{
		{"clock", 3_600_000, 0, ClockBehind, true},
		{"clock that drifts", 3_600_000, 100, ClockBehind, true},
		{"drains", 3_600_000, -1000, Backlog, false},
		{"drains slowly", 3_600_000, -300, Backlog, false},
		{"grows", 200_000, 400, FallingBehind, true},
	} {
		var l Lag
		for i := range int64(400) {
			l.Note(&c, 1_000_000+i*1000, k.first+i*k.each)
			if r, _, ok := l.Late(); i < 100 && (!ok || r != Backlog) {
				t.Fatalf("%s: %d after %d s", k.name, r, i)
			}
		}
		if r, behind, ok := l.Late(); !ok || r != k.want || l.Wrong() != k.wrong || behind != k.first+399*k.each {
			t.Errorf("%s: %d, %d ms", k.name, r, behind)
		}
		l.Note(&c, 2_000_000, 1000)
		if _, _, ok := l.Late(); ok || l.Wrong() {
			t.Errorf("%s: in time, and still late", k.name)
		}
	}
}

func TestGateway(t *testing.T) {
	const minMS, now = 15_000, 1_000_000
	machines := func(n int, ago, interval int64) []Heard {
		out := make([]Heard, n)
		for i := range out {
			out[i] = Heard{LastMS: now - ago - int64(i%10)*100, IntervalMS: interval, Known: true}
		}
		return out
	}
	for _, k := range []struct {
		name     string
		behind   []Heard
		machines int
		silent   bool
	}{
		{"all stopped", machines(180, 15_000, 1000), 180, true},
		{"one machine", machines(1, 100_000, 1000), 1, false},
		{"all send", machines(180, 500, 1000), 0, false},
		{"two stopped, the others send", append(machines(2, 15_000, 1000), machines(178, 300, 1000)...), 0, false},
		{"two stopped, rare ones were heard since", append(machines(2, 15_000, 1000), machines(5, 2_000, 60_000)...), 0, false},
		{"all stopped, some are rare", append(machines(20, 15_000, 1000), machines(5, 40_000, 60_000)...), 20, true},
		{"one was silent before", append(machines(20, 15_000, 1000), Heard{LastMS: 1, IntervalMS: 1000, Known: true}), 20, true},
		{"new machines", []Heard{{LastMS: now - 20_000}, {LastMS: now - 20_000}}, 0, false},
		{"none", nil, 0, false},
	} {
		var g Gateway
		for _, h := range k.behind {
			g.Hear(h)
		}
		for _, h := range k.behind {
			g.Count(h, now, minMS)
		}
		if n, silent := g.Silent(now); silent != k.silent || silent && n != k.machines || g.Machines() != len(k.behind) {
			t.Errorf("%s: %d of %d machines, silent %t", k.name, n, g.Machines(), silent)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Config){
		"blind_after":        func(c *Config) { c.BlindAfter = -1 },
		"sensor_min":         func(c *Config) { c.SensorMin = 0 },
		"late_after":         func(c *Config) { c.LateAfter = 1 },
		"report_every":       func(c *Config) { c.ReportEvery = 0 },
		"sensor_factor":      func(c *Config) { c.SensorFactor = math.NaN() },
		"shelved[0].machine": func(c *Config) { c.Shelved = []Shelf{{Sensor: "*"}} },
		"shelved[0].sensor":  func(c *Config) { c.Shelved = []Shelf{{Machine: "*", Sensor: "["}} },
		"shelved[0].until":   func(c *Config) { c.Shelved = []Shelf{{Machine: "*", Sensor: "*", Until: "tomorrow"}} },
		"shelved":            func(c *Config) { c.Shelved = make([]Shelf, maxShelved+1) },
	} {
		c := DefaultConfig()
		edit(&c)
		if err := c.Validate(); err == nil || len(err.Error()) <= len(name) || err.Error()[:len(name)+1] != name+":" {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := DefaultConfig()
	c.Shelved = []Shelf{{Machine: "pump-*", Sensor: "flow"}, {Machine: "*", Sensor: "temp*", Until: "2026-01-01T00:00:00Z"}}
	s := c.ShelvesOf("pump-1")
	if _, ever, ok := s.Until("flow"); !ever || !ok {
		t.Error("flow is not shelved")
	}
	if at, ever, ok := s.Until("temp_oil"); ever || !ok || time.UnixMicro(at).UTC().Year() != 2026 {
		t.Error("temp_oil is not shelved until 2026")
	}
	if _, _, ok := s.Until("speed"); ok || c.ShelvesOf("fan") == nil || len(c.ShelvesOf("fan")) != 1 {
		t.Error("what is not named is shelved")
	}
}
