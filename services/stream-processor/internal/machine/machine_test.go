package machine

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

const (
	onTime      = eventv1.Disposition_DISPOSITION_ON_TIME
	late        = eventv1.Disposition_DISPOSITION_LATE
	tooLate     = eventv1.Disposition_DISPOSITION_TOO_LATE
	quarantined = eventv1.Disposition_DISPOSITION_QUARANTINED

	started = eventv1.Phase_PHASE_STARTED
	ongoing = eventv1.Phase_PHASE_ONGOING
	ended   = eventv1.Phase_PHASE_ENDED
)

func TestLateRowsCorrectHistoryAndNeverPage(t *testing.T) {
	r, s := newRig(t, nil), newSignal(3)
	for i := range int64(1000) {
		r.sample(epoch0+i*second, s.next()...)
	}
	before, windows := r.starts(), len(r.windows)
	start := epoch0 + 980*second
	want := r.windows[len(r.windows)-3]
	for i, w := range r.windows {
		if w.StartUS == start {
			want = r.windows[i]
		}
	}
	out := r.sample(start+second/2, 1e6, -1e6, 1e6)
	if out.Dispositions[0] != late || len(out.Windows) != 1 {
		t.Fatalf("%v, %d windows", out.Dispositions, len(out.Windows))
	}
	w := out.Windows[0]
	if w.Revision != want.Revision+1 || w.StartUS != start || w.Sensors[0].Count != want.Sensors[0].Count+1 || w.Sensors[0].Max != 1e6 || w.Score != want.Score {
		t.Fatalf("correction %+v of %+v", w, want)
	}
	if d := r.sample(epoch0+100*second, 1, 1, 1).Dispositions[0]; d != tooLate {
		t.Fatalf("old row is %v", d)
	}
	for i := int64(1000); i < 1200; i++ {
		r.sample(epoch0+i*second, s.next()...)
	}
	if r.starts() != before {
		t.Fatalf("late rows paged: %s", r.anomalies[len(r.anomalies)-1].Summary)
	}
	if len(r.windows) <= windows {
		t.Fatal("no windows after late rows")
	}
}

func TestRowsFromTheFutureAreQuarantined(t *testing.T) {
	r := newRig(t, nil)
	r.sample(epoch0, 1)
	r.seq++
	ahead := epoch0 + 301*second
	out := r.apply(frameOf(r.seq, names(1), []int64{epoch0 + second, ahead, ahead + second}, [][]float32{{1, 2, 3}}))
	if want := []eventv1.Disposition{onTime, quarantined, quarantined}; !slices.Equal(out.Dispositions, want) {
		t.Fatalf("%v, want %v", out.Dispositions, want)
	}
	if out := r.sample(epoch0+2*second, 1); out.Dispositions[0] != onTime {
		t.Fatalf("the quarantined rows moved the watermark: %v", out.Dispositions)
	}
}

func TestHistoricDataIsJudgedAsItWas(t *testing.T) {
	r := newRig(t, nil)
	r.logMS = epoch0 / 1000
	for i := range int64(30) {
		r.seq++
		at := 86_400*second + i*second // 1970
		if out := r.apply(frameOf(r.seq, names(1), []int64{at}, [][]float32{{1}})); out.Dispositions[0] != onTime {
			t.Fatalf("row %d is %v", i, out.Dispositions)
		}
	}
	if len(r.windows) != 5 || r.count("clock", started) != 0 {
		t.Fatalf("%d windows, %d clock episodes", len(r.windows), r.count("clock", started))
	}
}

func TestIdleMachineIsJudgedAndRowsInOrderStillCount(t *testing.T) {
	r := newRig(t, nil)
	for i := range int64(8) {
		r.sample(epoch0+i*second, 1)
	}
	if n := len(r.windows); n != 1 {
		t.Fatalf("%d windows, want 1", n)
	}
	deadline := r.m.NextDeadline()
	if want := r.logMS + 10_000; deadline != want {
		t.Fatalf("deadline %d, want %d", deadline, want)
	}
	if out := r.tick(deadline - 1); len(out.Windows) > 0 {
		t.Fatal("flushed before its time")
	}
	out := r.tick(deadline)
	if len(out.Windows) != 1 || out.Windows[0].Sensors[0].Count != 3 || out.Windows[0].Revision != 0 {
		t.Fatalf("flush gave %+v", out.Windows)
	}
	if d := r.sample(epoch0+8*second, 5).Dispositions[0]; d != onTime {
		t.Fatalf("row in order after the flush is %v", d)
	}
	r.windows = nil
	for i := int64(9); i < 20; i++ {
		r.sample(epoch0+i*second, 1)
	}
	w := r.windows[0]
	if w.StartUS != epoch0+5*second || w.Revision != 1 || w.Sensors[0].Count != 5 || w.Sensors[0].Max != 5 {
		t.Fatalf("corrected window %+v", w)
	}
}

func TestConstantAndMissingInput(t *testing.T) {
	r := newRig(t, nil)
	nan := float32(math.NaN())
	for i := range int64(3000) {
		out := r.sample(epoch0+i*second, 0, 42.5, float32(i/1000), nan)
		if v := out.Validities; len(v) != 4 || v[3] != eventv1.Validity_VALIDITY_MISSING || v[1] != eventv1.Validity_VALIDITY_GOOD {
			t.Fatalf("validities %v", v)
		}
	}
	for _, a := range r.anomalies {
		if a.Cause != "bad_quality" {
			t.Fatalf("constant input: %s", a.Summary)
		}
	}
	if r.count("bad_quality", started) != 1 || r.anomalies[0].Contributions[0].Sensor != "s3" {
		t.Fatalf("%d bad_quality episodes", r.count("bad_quality", started))
	}
}

func TestLimits(t *testing.T) {
	high, critical, rate := 80.0, 90.0, 5.0
	r := newRig(t, func(c *Config) {
		c.Detect.Limits = append(c.Detect.Limits, limitFor("s0", &high, &critical), rateFor("s?", &rate))
	})
	step := func(i int64, v float32) { r.sample(epoch0+i*5*second, v, 0) }
	for i := range int64(4) {
		step(i, 70)
	}
	step(4, 85)
	step(5, 95)
	step(6, 95)
	step(7, 70)
	if r.count("limit", started) != 1 || r.anomalies[0].Severity != eventv1.Severity_SEVERITY_WARNING {
		t.Fatalf("%v", r.anomalies)
	}
	if a := r.anomalies[1]; a.Phase != ongoing || a.Severity != eventv1.Severity_SEVERITY_CRITICAL {
		t.Fatalf("%v", a)
	}
	if want := "s0 85 is above the allowed at most 80"; r.anomalies[0].Summary != want {
		t.Fatalf("%q, want %q", r.anomalies[0].Summary, want)
	}
	for i := int64(8); i < 20; i++ {
		step(i, 70)
	}
	if r.count("limit", ended) != 1 {
		t.Fatalf("%v", r.anomalies)
	}
	r.anomalies = nil
	r.sample(epoch0+20*5*second, 70, 40)
	step(21, 70)
	step(22, 70)
	if r.count("limit", started) != 1 || r.anomalies[0].Contributions[0].Sensor != "s1" {
		t.Fatalf("jump not seen: %v", r.anomalies)
	}
}

func TestStuckSensor(t *testing.T) {
	r, s := newRig(t, nil), newSignal(2)
	for i := range int64(900) {
		v := s.next()
		if i >= 600 && i < 800 {
			v[1] = 21.25
		}
		out := r.sample(epoch0+i*second, v...)
		if i == 700 && (len(out.Validities) != 3 || out.Validities[1] != eventv1.Validity_VALIDITY_FLATLINE) {
			t.Fatalf("validities %v", out.Validities)
		}
	}
	if r.count("flatline", started) != 1 || r.count("flatline", ended) != 1 {
		t.Fatalf("%d started, %d ended", r.count("flatline", started), r.count("flatline", ended))
	}
	if a := r.anomalies[0]; a.Contributions[0].Sensor != "s1" || a.Summary != "s1 is stuck at 21.25" || a.ObservedUs > epoch0+650*second {
		t.Fatalf("%v", a)
	}
}

func TestSilence(t *testing.T) {
	r := newRig(t, nil)
	for i := range int64(20) {
		r.sample(epoch0+i*5*second, 1)
	}
	last := r.logMS
	r.tick(last + 24_999)
	if len(r.anomalies) > 0 {
		t.Fatalf("silent too soon: %v", r.anomalies)
	}
	if got := r.m.NextDeadline(); got != last+25_000 {
		t.Fatalf("deadline in %d ms, want 25000", got-last)
	}
	r.tick(last + 25_000)
	if r.count("silence", started) != 1 {
		t.Fatalf("%v", r.anomalies)
	}
	r.tick(last + 299_999)
	if r.count("silence", ongoing) != 0 {
		t.Fatal("critical too soon")
	}
	r.tick(last + 300_000)
	if a := r.anomalies[len(r.anomalies)-1]; a.Phase != ongoing || a.Severity != eventv1.Severity_SEVERITY_CRITICAL {
		t.Fatalf("%v", a)
	}
	if r.m.NextDeadline() != math.MaxInt64 {
		t.Fatal("a silent machine wants no more ticks")
	}
	r.sample(epoch0+500*second, 1)
	if r.count("silence", ended) != 1 {
		t.Fatalf("%v", r.anomalies)
	}
	// The next silence is another episode, even if no newer data came in between.
	r.tick(r.logMS + 3_600_000)
	if ids := episodes(r.anomalies); len(ids) != 2 {
		t.Fatalf("episodes %v", ids)
	}
}

func episodes(list []*eventv1.Anomaly) map[string]int {
	ids := map[string]int{}
	for _, a := range list {
		ids[a.EpisodeId]++
	}
	return ids
}

func TestSilenceFreezesOtherEpisodes(t *testing.T) {
	critical := 90.0
	r := newRig(t, func(c *Config) { c.Detect.Limits = append(c.Detect.Limits, limitFor("*", nil, &critical)) })
	for i := range int64(20) {
		r.sample(epoch0+i*second, 95)
	}
	r.tick(r.logMS + 3_600_000)
	if r.count("limit", started) != 1 || r.count("limit", ended) != 0 || r.count("silence", started) != 1 {
		t.Fatalf("%v", r.anomalies)
	}
}

func TestBurstyGatewayIsNotSilent(t *testing.T) {
	r := newRig(t, nil)
	for minute := range int64(20) {
		for i := range int64(12) {
			r.logMS = epoch0/1000 + minute*60_000 + i
			r.seq++
			r.apply(frameOf(r.seq, names(1), []int64{epoch0 + (minute*12+i)*5*second}, [][]float32{{1}}))
		}
		if minute < 4 {
			continue
		}
		r.anomalies = nil
		r.tick(r.logMS + 59_000)
		if r.count("silence", started) > 0 {
			t.Fatalf("minute %d: silent", minute)
		}
	}
}

func TestClock(t *testing.T) {
	r := newRig(t, nil)
	send := func(i, ahead int64) {
		r.logMS = epoch0/1000 + i*1000
		r.seq++
		r.apply(frameOf(r.seq, names(1), []int64{epoch0 + (i+ahead)*second}, [][]float32{{1}}))
	}
	send(0, 0)
	send(1, 400)
	send(2, 400)
	send(3, 0)
	send(4, -100_000) // behind is no fault
	for i := int64(5); i < 9; i++ {
		send(i, 86_400)
	}
	if r.count("clock", started) != 1 {
		t.Fatalf("%v", r.anomalies)
	}
	for i := int64(9); i < 13; i++ {
		send(i, 0)
	}
	if r.count("clock", ended) != 1 || r.starts() != 1 {
		t.Fatalf("%v", r.anomalies)
	}
}

func TestMalformedFrames(t *testing.T) {
	r := newRig(t, nil)
	for i, f := range []*frame.Frame{
		frameOf(1, names(2), []int64{epoch0}, [][]float32{{1}}),
		frameOf(2, names(1), []int64{epoch0, epoch0 + 1}, [][]float32{{1}}),
		frameOf(3, nil, []int64{epoch0}, nil),
	} {
		if out := r.apply(f); !out.Malformed || len(out.Dispositions) > 0 {
			t.Fatalf("frame %d passed", i)
		}
	}
	// Times at the ends of the scale neither panic nor hang, and the machine recovers from none of them wrongly.
	for i, at := range []int64{math.MinInt64, -1, 0, math.MaxInt64} {
		r.apply(frameOf(uint64(10+i), names(1), []int64{at}, [][]float32{{1}}))
	}
	f := frameOf(20, names(1), []int64{epoch0, epoch0}, [][]float32{{1, 2}})
	f.OffsetsUS[1] = math.MaxUint64
	r.apply(f)
	r.tick(math.MaxInt64)
	if _, err := Restore(r.cfg, "pump-1", r.m.AppendSnapshot(nil)); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxSensors = 10 })
	for i := range int64(300) {
		f := frameOf(uint64(i+1), names(12)[i%3:], []int64{epoch0 + i*second}, nil)
		f.Values = make([]float32, len(f.Sensors))
		f.GatewayID = []byte{byte('a' + i%26)}
		out := r.apply(f)
		if i > 3 && out.Unjudged == 0 {
			t.Fatal("sensors beyond the limit are judged")
		}
	}
	if n := r.m.SensorCount(); n != 10 {
		t.Fatalf("%d sensors", n)
	}
	if n := r.m.panes.Len(); n > r.cfg.KeptWindows+2 {
		t.Fatalf("%d panes", n)
	}
	if n := len(r.m.sequences.gateways); n > r.cfg.MaxGateways {
		t.Fatalf("%d gateways", n)
	}
}

func TestProvisionalSeesTheOpenWindowAndChangesNothing(t *testing.T) {
	r, s := newRig(t, nil), newSignal(4)
	rare := func(i int64, v []float32) { r.sample(epoch0+i*300*second, v...) } // one row per window, as in files
	for i := range int64(200) {
		rare(i, s.next())
		if p := r.m.Provisional(&r.out); i > 80 && p.Flag {
			t.Fatalf("row %d is flagged: %+v", i, p)
		}
	}
	v := s.next()
	v[0] += 60
	rare(200, v)
	before := string(r.m.AppendSnapshot(nil))
	p := r.m.Provisional(&r.out)
	if !p.Flag || p.Contributions[0].Sensor != "s0" || p.WindowStartUS != epoch0+200*300*second {
		t.Fatalf("%+v", p)
	}
	if c := r.m.Current(); c.Flag {
		t.Fatalf("judged already: %+v", c)
	}
	if before != string(r.m.AppendSnapshot(nil)) {
		t.Fatal("Provisional changed the machine")
	}
}

func TestWindowsAMonth(t *testing.T) {
	r, s := newRig(t, nil), newSignal(4)
	for i := range int64(400) {
		r.sample(epoch0+i*300*second, s.next()...)
	}
	if p := time.Duration(r.m.periodUS) * time.Microsecond; p != 5*time.Minute {
		t.Fatalf("learned one window every %v, want 5m", p)
	}
	if got, want := r.m.pageSurprise(), math.Log(30*24*12); math.Abs(got-want) > 1e-9 {
		t.Fatalf("page at %v, want %v", got, want)
	}
}

func TestLateRowsAreNotLearned(t *testing.T) {
	learned := func(straggler bool) uint32 {
		r, s := newRig(t, nil), newSignal(6)
		for i := range int64(200) {
			r.sample(epoch0+i*second, s.next()...)
			if straggler && i == 100 {
				r.sample(epoch0+90*second, 49, 20, 3)
			}
		}
		return r.m.learned
	}
	if without, with := learned(false), learned(true); with != without-1 {
		t.Fatalf("%d windows learned with a straggler in one, %d without", with, without)
	}
}

func TestFlushedWindowCountsOnce(t *testing.T) {
	r, s := newRig(t, func(c *Config) { c.Episodes.CriticalWindows = 2 }), newSignal(6)
	for i := range int64(600) {
		r.sample(epoch0+i*second, s.next()...)
	}
	spike := func(i int64) {
		v := s.next()
		v[0] += 300
		r.sample(epoch0+i*second, v...)
	}
	spike(600)
	r.tick(r.logMS + 10_000) // judged with one row
	spike(601)
	for i := int64(605); i < 700; i++ {
		r.sample(epoch0+i*second, s.next()...)
	}
	if r.count("behaviour", started) != 1 {
		t.Fatalf("%d episodes", r.count("behaviour", started))
	}
	for _, a := range r.anomalies {
		if a.Severity > eventv1.Severity_SEVERITY_WARNING {
			t.Fatalf("one window is taken for two: %v", a)
		}
	}
}
