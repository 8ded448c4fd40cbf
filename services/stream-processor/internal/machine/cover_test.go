package machine

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/coverage"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/quality"
)

// states is "state reason: sensors" of each group.
func states(c *eventv1.MachineCoverage) string {
	var parts []string
	for _, g := range c.Groups {
		parts = append(parts, strings.TrimSpace(strings.ToLower(strings.TrimPrefix(g.State.String(), "COVERAGE_STATE_"))+" "+g.Reason)+": "+strings.Join(g.Sensors, " "))
	}
	return strings.Join(parts, "; ")
}

// steady lets a machine live for some samples, one a second.
func (r *rig) steady(s *signal, from, n int64, edit func(i int64, v []float32)) int64 {
	for i := from; i < from+n; i++ {
		v := s.next()
		if edit != nil {
			edit(i, v)
		}
		r.sample(epoch0+i*second, v...)
	}
	return from + n
}

func (r *rig) want(what, states_ string) {
	r.tb.Helper()
	if got := states(r.m.Coverage()); got != states_ {
		r.tb.Errorf("%s: %q, want %q", what, got, states_)
	}
}

func TestCoverageOfALife(t *testing.T) {
	low, high := 0.0, 100.0
	r := newRig(t, func(c *Config) { c.Quality.Ranges = append(c.Quality.Ranges, rangeFor("s0", low, high)) })
	s := newSignal(4)
	at := r.steady(s, 0, 60, nil)
	r.want("new", "learning new_machine: s0 s1 s2")
	if left := r.m.Coverage().LearningLeftUs; left < 200*second || left > 320*second {
		t.Errorf("learning for another %v", time.Duration(left)*time.Microsecond)
	}
	at = r.steady(s, at, 600, nil)
	r.want("learned", "judged: s0 s1 s2")
	at = r.steady(s, at, 40, func(_ int64, v []float32) { v[0] = 900 })
	r.want("out of range", "judged: s1 s2; bad_quality out_of_range: s0")
	at = r.steady(s, at, 60, func(_ int64, v []float32) { v[1] = 19.75 })
	r.want("stuck", "judged: s0 s2; bad_quality stuck: s1")
	at = r.steady(s, at, 40, func(_ int64, v []float32) { v[2] = float32(math.NaN()) })
	r.want("missing", "judged: s0 s1; bad_quality missing: s2")
	at = r.steady(s, at, 40, nil)
	r.want("again", "judged: s0 s1 s2")
	r.tick(r.logMS + 20_000)
	r.want("silent", "silent machine: s0 s1 s2")
	at = r.steady(s, at+20, 20, nil)
	r.want("back", "judged: s0 s1 s2")
	for i := range int64(5) { // the gateway's clock jumps
		v := s.next()
		r.seq++
		r.logMS += 1000
		r.apply(frameOf(r.seq, names(3), []int64{epoch0 + (at+i+3600)*second}, [][]float32{{v[0]}, {v[1]}, {v[2]}}))
	}
	r.want("ahead", "clock_wrong ahead: s0 s1 s2")
	if n := r.count("clock", eventv1.Phase_PHASE_STARTED); n != 1 || r.anomalies[len(r.anomalies)-1].Origin != eventv1.Origin_ORIGIN_CLOCK {
		t.Errorf("%d clock episodes", n)
	}
	if n := r.count("blind", eventv1.Phase_PHASE_STARTED); n != 0 {
		t.Errorf("%d blind episodes: other causes tell of all this", n)
	}
}

// A sensor that disappears while others arrive, and one whose values come when its windows are closed.
func TestBlindSensors(t *testing.T) {
	for name, c := range map[string]struct {
		late         int64 // seconds by which s2 comes late; 0: it does not come
		states, says string
	}{
		"gone": {0, "judged: s0 s1; silent sensor: s2", "s2 sends nothing, while others of the machine do"},
		"late": {12, "judged: s0 s1; late after_close: s2", "s2 comes too late to be judged: its windows are closed by the others' samples"},
		"very": {50, "judged: s0 s1; late after_close: s2", "s2 comes too late to be judged: its windows are closed by the others' samples"},
	} {
		r, s := newRig(t, nil), newSignal(9)
		at := r.steady(s, 0, 500, nil)
		for i := at; i < at+120; i++ {
			v := s.next()
			r.sample(epoch0+i*second, v[0], v[1])
			if c.late > 0 {
				r.seq++
				f := frameOf(r.seq, [][]byte{[]byte("s2")}, []int64{epoch0 + (i-c.late)*second}, [][]float32{{v[2]}})
				r.apply(f)
			}
		}
		r.want(name, c.states)
		if n := r.count("blind", eventv1.Phase_PHASE_STARTED); n != 1 {
			t.Fatalf("%s: %d blind episodes", name, n)
		}
		a := r.anomalies[len(r.anomalies)-1]
		if a.Cause != "blind" || a.Origin != eventv1.Origin_ORIGIN_SENSOR || !strings.HasPrefix(a.Summary, c.says) || len(a.Contributions) != 1 || a.Contributions[0].Sensor != "s2" ||
			a.Severity != eventv1.Severity_SEVERITY_WARNING {
			t.Errorf("%s: %v", name, a)
		}
		if c.late > 0 {
			continue
		}
		r.tick(r.logMS + 60_000) // the machine falls silent: nothing is resolved by that
		if n := r.count("blind", eventv1.Phase_PHASE_ENDED); n != 0 {
			t.Errorf("%s: a silent machine ended the episode", name)
		}
		r.steady(s, at+200, 60, nil)
		r.want(name+", back", "judged: s0 s1 s2")
		if n := r.count("blind", eventv1.Phase_PHASE_ENDED); n != 1 {
			t.Errorf("%s: %d ends", name, n)
		}
	}
}

// A sensor that sends once in two minutes beside others that send every second is never silent for it.
func TestRareSensorIsNotSilent(t *testing.T) {
	r, s := newRig(t, nil), newSignal(9)
	for i := range int64(4000) {
		v := s.next()
		if i%120 == 0 {
			r.sample(epoch0+i*second, v...)
		} else {
			r.sample(epoch0+i*second, v[0], v[1])
		}
		if c := states(r.m.Coverage()); strings.Contains(c, "silent") {
			t.Fatalf("after %d s: %s", i, c)
		}
	}
	for i := int64(4000); i < 5200; i++ {
		v := s.next()
		r.sample(epoch0+i*second, v[0], v[1])
	}
	r.want("gone", "judged: s0 s1; silent sensor: s2")
}

func TestOldSamples(t *testing.T) {
	for name, c := range map[string]struct {
		age    func(passed int64) int64 // seconds, by the seconds that passed
		states string
		says   string // empty: no episode
		origin eventv1.Origin
	}{
		"clock behind":   {func(int64) int64 { return 3600 }, "clock_wrong behind: s0 s1 s2", "samples of this machine are always 1h0m", eventv1.Origin_ORIGIN_CLOCK},
		"line too slow":  {func(i int64) int64 { return 600 + i/2 }, "late falling_behind: s0 s1 s2", "samples of this machine come ", eventv1.Origin_ORIGIN_GATEWAY},
		"backlog drains": {func(i int64) int64 { return max(0, 3600-i) }, "late backlog: s0 s1 s2", "", 0},
		"in time":        {func(int64) int64 { return 3 }, "learning new_machine: s0 s1 s2", "", 0},
	} {
		r, s := newRig(t, nil), newSignal(9)
		event := int64(0)
		for i := range int64(280) {
			r.logMS = epoch0/1000 + (10_000+i)*1000
			for ; event <= 10_000+i-c.age(i); event++ {
				if event > 10_000+i-c.age(i)-2 {
					r.seq++
					v := s.next()
					r.apply(frameOf(r.seq, names(3), []int64{epoch0 + event*second}, [][]float32{{v[0]}, {v[1]}, {v[2]}}))
				}
			}
		}
		r.want(name, c.states)
		switch n := r.count("clock", eventv1.Phase_PHASE_STARTED); {
		case c.says == "" && n != 0:
			t.Errorf("%s: %d episodes: %q", name, n, r.anomalies[0].Summary)
		case c.says == "":
		case n != 1:
			t.Errorf("%s: %d episodes", name, n)
		default:
			if a := r.anomalies[0]; !strings.HasPrefix(a.Summary, c.says) || a.Origin != c.origin {
				t.Errorf("%s: %v %q", name, a.Origin, a.Summary)
			}
		}
	}
}

// A shelved sensor is neither judged nor learned from nor reported; its statistics are written all the same.
func TestShelvedSensor(t *testing.T) {
	run := func(until string) *rig {
		r := newRig(t, func(c *Config) {
			c.Coverage.Shelved = append(c.Coverage.Shelved, coverage.Shelf{Machine: "pump-*", Sensor: "s1", Until: until})
		})
		s := newSignal(4)
		at := r.steady(s, 0, 700, nil)
		at = r.steady(s, at, 100, func(_ int64, v []float32) { v[1] += 100 })
		r.steady(s, at, 100, func(_ int64, v []float32) { v[1] = 12.5 })
		return r
	}
	r := run("")
	r.want("shelved", "judged: s0 s2; shelved: s1")
	if len(r.anomalies) > 0 {
		t.Errorf("%v", r.anomalies[0])
	}
	if w := r.windows[len(r.windows)-1]; w.Sensors[1].Sensor != "s1" || w.Sensors[1].Score != 0 || w.Sensors[1].Unusable == 0 {
		t.Errorf("%+v", w.Sensors[1])
	}
	r = run(time.UnixMicro(epoch0 + 100*second).UTC().Format(time.RFC3339))
	r.want("no longer", "judged: s0 s2; bad_quality stuck: s1")
	if r.starts() == 0 {
		t.Error("judged again, and nothing is said")
	}
}

func TestSensorsBeyondTheLimitAreCounted(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxSensors = 2 })
	r.steady(newSignal(1), 0, 700, nil)
	c := r.m.Coverage()
	if states(c) != "judged: s0 s1; refused sensors: " || c.Groups[1].Count != 1 {
		t.Errorf("%v", c)
	}
	counts := make([]int, 12)
	r.m.Census(counts)
	if counts[eventv1.CoverageState_COVERAGE_STATE_JUDGED] != 2 || counts[eventv1.CoverageState_COVERAGE_STATE_REFUSED] != 1 {
		t.Error(counts)
	}
}

// Coverage records are the same however often the machine is restored on its way, come no faster than asked, and the last one says what holds.
func TestCoverageRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		frames := l.frames(rapid.SliceOfN(rapid.IntRange(1, 9), 1, 4).Draw(t, "sizes"))
		every := rapid.IntRange(1, 25).Draw(t, "restore every")
		straight, broken := newRig(tbOf(t), nil), newRig(tbOf(t), nil)
		var records [2][]*eventv1.MachineCoverage
		step := func(i int, f *frame.Frame, now int64) {
			for k, r := range []*rig{straight, broken} {
				r.logMS = max(r.logMS, now)
				records[k] = append(records[k], r.apply(f).Coverage...)
				records[k] = append(records[k], r.tick(now+15_000*int64(i%3)).Coverage...)
				if i%11 == 5 {
					r.m.Refused()
				}
			}
		}
		for i, f := range frames {
			step(i, f, sampleUS(f, f.Samples()-1)/1000)
			if i%every == 0 {
				m, err := Restore(broken.cfg, "pump-1", broken.m.AppendSnapshot(nil))
				if err != nil {
					t.Fatal(err)
				}
				broken.m = m
			}
		}
		a, b := records[0], records[1]
		if len(a) != len(b) || !bytes.Equal(straight.m.AppendSnapshot(nil), broken.m.AppendSnapshot(nil)) {
			t.Fatalf("%d records, restored %d", len(a), len(b))
		}
		for i := range a {
			if !proto.Equal(a[i], b[i]) {
				t.Fatalf("record %d: %v, restored %v", i, a[i], b[i])
			}
			if i > 0 && a[i].AtMs-a[i-1].AtMs < straight.cfg.Coverage.ReportEvery.Milliseconds() {
				t.Fatalf("records at %d and %d", a[i-1].AtMs, a[i].AtMs)
			}
			total := 0
			for _, g := range a[i].Groups {
				if total += int(g.Count); len(g.Sensors) != int(g.Count) || len(g.JudgedUntilUs) != len(g.Sensors) || g.State == 0 {
					t.Fatalf("%v", g)
				}
			}
			if total != 3 {
				t.Fatalf("%d sensors in %v", total, a[i])
			}
		}
		out := straight.tick(straight.logMS + 3_600_000)
		last := append(a, out.Coverage...) //nolint:gocritic // a is not used again
		if len(last) > 0 && states(last[len(last)-1]) != states(straight.m.Coverage()) {
			t.Fatalf("the last record says %q, the machine %q", states(last[len(last)-1]), states(straight.m.Coverage()))
		}
		if straight.m.NextDeadline() != math.MaxInt64 {
			t.Fatal("a machine of which all is said wants ticks")
		}
	})
}

func rangeFor(sensor string, low, high float64) quality.Range {
	return quality.Range{Sensor: sensor, Low: &low, High: &high}
}
