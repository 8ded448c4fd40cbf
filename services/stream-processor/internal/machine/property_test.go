package machine

import (
	"bytes"
	"math"
	"sort"
	"testing"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// life is a stream of samples with what happens in life: gaps, disorder, missing values, faults, silence.
type life struct {
	at     []int64
	values [][]float32 // by sample
	codes  [][]uint8
}

func drawLife(t *rapid.T) life {
	s := newSignal(rapid.Uint64().Draw(t, "seed"))
	n := rapid.IntRange(1, 900).Draw(t, "samples")
	step := rapid.SampledFrom([]int64{200_000, second, 3 * second, 70 * second}).Draw(t, "step")
	faultAt := rapid.IntRange(0, 900).Draw(t, "fault at")
	kind := rapid.IntRange(0, 4).Draw(t, "fault")
	base := rapid.SampledFrom([]int64{epoch0, 0, -1000 * second, 86_400 * second}).Draw(t, "base")
	var l life
	for i := range n {
		base += step
		if s.r.IntN(50) == 0 {
			base += int64(s.r.IntN(40)) * second
		}
		v, q := s.next(), []uint8{1, 1, 1}
		if i >= faultAt {
			switch kind {
			case 1:
				v[0] += 20
			case 2:
				v[0] = v[0]*8 - 350
			case 3:
				v[1] = 12.5
			case 4:
				q[2] = 3
			}
		}
		switch s.r.IntN(60) {
		case 0:
			v[0] = float32(math.NaN())
		case 1:
			q[1] = 4
		case 2:
			q[0] = 2
		}
		l.at, l.values, l.codes = append(l.at, base), append(l.values, v), append(l.codes, q)
	}
	return l
}

// frames cuts the life into frames of the given sizes, repeated.
func (l *life) frames(sizes []int) []*frame.Frame {
	var out []*frame.Frame
	for i, k := 0, 0; i < len(l.at); k++ {
		n := min(sizes[k%len(sizes)], len(l.at)-i)
		columns, codes := make([][]float32, 3), []uint8(nil)
		for s := range columns {
			for t := i; t < i+n; t++ {
				columns[s] = append(columns[s], l.values[t][s])
				codes = append(codes, l.codes[t][s])
			}
		}
		f := frameOf(uint64(k+1), names(3), l.at[i:i+n], columns)
		f.Qualities = codes
		out = append(out, f)
		i += n
	}
	return out
}

func TestFrameSizeDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		run := func(sizes []int) string {
			r := newRig(tbOf(t), nil)
			r.logMS = max(epoch0, l.at[len(l.at)-1]) / 1000 // one log time: frames are only a way to pack samples
			for _, f := range l.frames(sizes) {
				r.apply(f)
			}
			return show(r.windows, r.anomalies, false)
		}
		sizes := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 6).Draw(t, "sizes")
		if one, many := run([]int{1}), run(sizes); one != many {
			t.Fatalf("one by one:\n%s\nin frames of %v:\n%s", one, sizes, many)
		}
	})
}

func tbOf(t *rapid.T) testing.TB { return fatal{t: t} }

// fatal lends a rapid.T where a testing.TB is wanted; only Fatal is called.
type fatal struct {
	testing.TB
	t *rapid.T
}

func (f fatal) Fatal(args ...any) { f.t.Fatal(args...) }

func TestRestoredMachineGoesOnAsIfNothingHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		frames := l.frames(rapid.SliceOfN(rapid.IntRange(1, 9), 1, 4).Draw(t, "sizes"))
		every := rapid.IntRange(1, 25).Draw(t, "restore every")
		straight, broken := newRig(tbOf(t), nil), newRig(tbOf(t), nil)
		for i, f := range frames {
			now := sampleUS(f, f.Samples()-1) / 1000
			for _, r := range []*rig{straight, broken} {
				r.logMS = max(r.logMS, now)
				r.apply(f)
				if i%7 == 0 {
					r.tick(now + 12_000*int64(i%3))
				}
			}
			if i%every != 0 {
				continue
			}
			snap := broken.m.AppendSnapshot(nil)
			m, err := Restore(broken.cfg, "pump-1", snap)
			if err != nil {
				t.Fatal(err)
			}
			if again := m.AppendSnapshot([]byte("x")); !bytes.Equal(again[1:], snap) {
				t.Fatalf("snapshot of the restored machine differs after frame %d", i)
			}
			if got, want := *m.Current(), *broken.m.Current(); !sameVerdict(&got, &want) || m.NextDeadline() != broken.m.NextDeadline() {
				t.Fatalf("verdict or deadline differs after frame %d: %+v, want %+v", i, got, want)
			}
			broken.m = m
		}
		if a, b := show(straight.windows, straight.anomalies, false), show(broken.windows, broken.anomalies, false); a != b {
			t.Fatalf("straight:\n%s\nrestored:\n%s", a, b)
		}
		if !bytes.Equal(straight.m.AppendSnapshot(nil), broken.m.AppendSnapshot(nil)) {
			t.Fatal("final snapshots differ")
		}
	})
}

func sameVerdict(a, b *Verdict) bool {
	if a.Score != b.Score || a.Flag != b.Flag || a.Severity != b.Severity || a.Learning != b.Learning || len(a.Contributions) != len(b.Contributions) {
		return false
	}
	for i := range a.Contributions {
		if a.Contributions[i].Sensor != b.Contributions[i].Sensor || a.Contributions[i].Share != b.Contributions[i].Share {
			return false
		}
	}
	return true
}

func TestTicksChangeWhenNotWhat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		frames := l.frames([]int{1})
		few, many := newRig(tbOf(t), nil), newRig(tbOf(t), nil)
		start := max(epoch0, l.at[0]) / 1000
		for _, f := range frames {
			now := start + (f.BaseTimeUS-l.at[0])/1000
			for at := many.logMS + 1000; at < now && at < many.logMS+100_000; at += 1000 {
				deadline := many.m.NextDeadline()
				if out := many.tick(at); at < deadline && (len(out.Windows) > 0 || len(out.Anomalies) > 0) {
					t.Fatalf("tick at %d spoke before the deadline %d", at, deadline)
				}
				if after := many.m.NextDeadline(); after < deadline {
					t.Fatalf("deadline fell from %d to %d by a tick", deadline, after)
				}
			}
			few.logMS, many.logMS = now, now
			few.apply(f)
			many.apply(f)
		}
		few.tick(few.logMS + 1_000_000)
		for at := many.logMS; at <= few.logMS; at += 1000 {
			many.tick(at)
		}
		if a, b := show(few.windows, few.anomalies, true), show(many.windows, many.anomalies, true); a != b {
			t.Fatalf("without ticks:\n%s\nwith:\n%s", a, b)
		}
	})
}

func TestRepeatsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		r := newRig(tbOf(t), nil)
		r.logMS = max(epoch0, l.at[len(l.at)-1]) / 1000
		frames := l.frames([]int{3})
		for i, f := range frames {
			if r.apply(f).Duplicate {
				t.Fatalf("frame %d is taken for a repeat", i)
			}
			before := r.m.AppendSnapshot(nil)
			for _, again := range []*frame.Frame{f, frames[i/2], frames[0]} {
				out := r.apply(again)
				if !out.Duplicate || len(out.Windows)+len(out.Anomalies)+len(out.Dispositions) > 0 {
					t.Fatalf("repeat after frame %d is not recognised", i)
				}
			}
			if !bytes.Equal(before, r.m.AppendSnapshot(nil)) {
				t.Fatalf("a repeat after frame %d changed the machine", i)
			}
		}
	})
}

func TestOrderWithinLatenessDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "samples")
		s := newSignal(rapid.Uint64().Draw(t, "seed"))
		type item struct {
			at, arrives int64
			v           []float32
		}
		items := make([]item, n)
		for i := range items {
			at := epoch0 + int64(i)*300_000
			items[i] = item{at: at, arrives: at + s.r.Int64N(2*second), v: s.next()}
		}
		run := func() []Window {
			r := newRig(tbOf(t), nil)
			r.logMS = (epoch0 + 3600*second) / 1000
			for i, it := range items {
				columns := [][]float32{{it.v[0]}, {it.v[1]}, {it.v[2]}}
				out := r.apply(frameOf(uint64(i+1), names(3), []int64{it.at}, columns))
				if d := out.Dispositions[0]; d != eventv1.Disposition_DISPOSITION_ON_TIME {
					t.Fatalf("sample %d is %v", i, d)
				}
			}
			r.tick(r.logMS + 11_000)
			return r.windows
		}
		inOrder := run()
		sort.SliceStable(items, func(i, j int) bool { return items[i].arrives < items[j].arrives })
		shuffled := run()
		if len(inOrder) != len(shuffled) {
			t.Fatalf("%d windows in order, %d shuffled", len(inOrder), len(shuffled))
		}
		for i := range inOrder {
			for k := range inOrder[i].Sensors {
				a, b := inOrder[i].Sensors[k], shuffled[i].Sensors[k]
				if a.Count != b.Count || a.Min != b.Min || a.Max != b.Max || a.Last != b.Last || math.Abs(a.Mean-b.Mean) > 1e-9 || math.Abs(a.Stddev-b.Stddev) > 1e-9 {
					t.Fatalf("window %d: %+v, shuffled %+v", i, a, b)
				}
			}
		}
	})
}

func TestWindowsAreTheStatisticsOfTheirValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		r := newRig(tbOf(t), func(c *Config) { c.Quality.Flatline.Enabled = false })
		r.logMS = max(epoch0, l.at[len(l.at)-1]) / 1000
		for _, f := range l.frames([]int{4, 1}) {
			r.apply(f)
		}
		r.tick(r.logMS + 11_000)
		total := 0
		for _, w := range r.windows {
			if w.StartUS%(5*second) != 0 || w.EndUS != w.StartUS+5*second {
				t.Fatalf("window %d to %d", w.StartUS, w.EndUS)
			}
			for s, sw := range w.Sensors {
				var values []float64
				unusable := uint32(0)
				for i, at := range l.at {
					if at < w.StartUS || at >= w.EndUS {
						continue
					}
					if v := l.values[i][s]; v != v || l.codes[i][s] > 2 {
						unusable++
					} else {
						values = append(values, float64(v))
					}
				}
				total += len(values) + int(unusable)
				if int(sw.Count) != len(values) || sw.Unusable != unusable {
					t.Fatalf("%s has %d and %d, want %d and %d", sw.Sensor, sw.Count, sw.Unusable, len(values), unusable)
				}
				if len(values) == 0 {
					if sw.Mean == sw.Mean {
						t.Fatal("mean of nothing")
					}
					continue
				}
				var sum, square float64
				for _, v := range values {
					sum += v
				}
				mean := sum / float64(len(values))
				for _, v := range values {
					square += (v - mean) * (v - mean)
				}
				if math.Abs(sw.Mean-mean) > 1e-9 || math.Abs(sw.Stddev-math.Sqrt(square/float64(len(values)))) > 1e-9 || sw.Last != values[len(values)-1] {
					t.Fatalf("%+v, values %v", sw, values)
				}
			}
		}
		if total != 3*len(l.at) {
			t.Fatalf("windows hold %d values of %d", total, 3*len(l.at))
		}
	})
}

func TestUnitsDoNotMatter(t *testing.T) {
	run := func(scale float32) []Window {
		r, s := newRig(t, nil), newSignal(7)
		for i := range int64(2000) {
			v := s.next()
			if i > 1500 {
				v[0] += 4
			}
			for k := range v {
				v[k] *= scale
			}
			r.sample(epoch0+i*second, v...)
		}
		return r.windows
	}
	one, milli := run(1), run(1.0/1024)
	for i := range one {
		// Usual distances are kept as rounded logarithms.
		if a, b := -math.Log1p(-one[i].Score), -math.Log1p(-milli[i].Score); math.Abs(a-b) > 0.2 {
			t.Fatalf("window %d has a surprise of %v, in other units %v", i, a, b)
		}
	}
}
