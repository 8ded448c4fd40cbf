package live

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is a frame of one sample, so many ms after epoch.
func at(ms int64, sensors []string, values ...float32) *frame.Frame {
	return frame.New("m", "g", 1, epoch.Add(time.Duration(ms)*time.Millisecond), sensors, values)
}

// shown is what a watch tells from the beginning.
func shown(w *Watch) map[string]Sample {
	out := map[string]Sample{}
	samples, _ := w.Since(nil, 0)
	for _, s := range samples {
		out[s.Sensor] = s
	}
	return out
}

func TestNewestWins(t *testing.T) {
	b := NewBoard()
	w := b.Watch("m")
	defer w.Stop()
	m := b.watched([]byte("m"))
	ab := []string{"a", "b"}
	for ms := range int64(100) {
		m.take(at(ms, ab, float32(ms), -float32(ms)), nil, ms)
	}
	samples, version := w.Since(nil, 0)
	if len(samples) != 2 || shown(w)["a"].Value != 99 || shown(w)["b"].Value != -99 {
		t.Fatalf("%+v", samples)
	}
	if again, v := w.Since(nil, version); len(again) != 0 || v != version {
		t.Errorf("told again: %+v", again)
	}
	m.take(at(100, []string{"b"}, 7), nil, 100)
	if news, _ := w.Since(nil, version); len(news) != 1 || news[0].Sensor != "b" || news[0].Value != 7 {
		t.Errorf("%+v", news)
	}
}

// What is earlier than what is shown came late. But a clock that was ahead for one frame does not hold up those that follow for long.
func TestLateIsNotShown(t *testing.T) {
	b := NewBoard()
	w := b.Watch("m")
	defer w.Stop()
	m := b.watched([]byte("m"))
	a := []string{"a"}
	m.take(at(1000, a, 1), nil, 1000)
	_, version := w.Since(nil, 0)
	m.take(at(500, a, 2), nil, 1500)
	if news, _ := w.Since(nil, version); len(news) != 0 || shown(w)["a"].Value != 1 {
		t.Errorf("a late value is shown: %+v", news)
	}
	m.take(at(299_000, a, 3), nil, 2000)
	m.take(at(2500, a, 4), nil, 2500)
	if v := shown(w)["a"].Value; v != 3 {
		t.Errorf("%v", v)
	}
	m.take(at(5500, a, 5), nil, 5500)
	if v := shown(w)["a"].Value; v != 5 {
		t.Errorf("held up by a clock that was ahead: %v", v)
	}
}

// Of many samples the last is shown, and what is no value as none.
func TestSamplesAndQuality(t *testing.T) {
	b := NewBoard()
	w := b.Watch("m")
	defer w.Stop()
	f := at(0, []string{"good", "nan", "bad", "doubted"}, 0, 1, 0, float32(math.NaN()), 0, 3, 0, 4)
	f.OffsetsUS = []uint64{0, 1_000_000}
	f.Qualities = []uint8{0, 0, 0, frame.QualityMissing, 0, frame.QualityBad, 0, frame.QualityUncertain}
	if err := frame.Validate(f, frame.Limits{MaxValues: 100}); err != nil {
		t.Fatal(err)
	}
	b.watched([]byte("m")).take(f, nil, 0)
	got := shown(w)
	for name, usable := range map[string]bool{"good": true, "nan": false, "bad": false, "doubted": true} {
		s := got[name]
		if s.Usable() != usable || s.TimeUS != epoch.Add(time.Second).UnixMicro() {
			t.Errorf("%+v", s)
		}
	}
	if got["good"].Value != 1 || got["good"].Quality != frame.QualityGood || got["doubted"].Quality != frame.QualityUncertain {
		t.Errorf("%+v", got)
	}
	b.watched([]byte("m")).take(at(2000, []string{"good"}, float32(math.NaN())), nil, 2000) // without codes
	if s := shown(w)["good"]; s.Quality != frame.QualityMissing {
		t.Errorf("%+v", s)
	}
}

// Of a wide machine only what is looked at is kept.
func TestWide(t *testing.T) {
	b := NewBoard()
	w := b.Watch("m")
	defer w.Stop()
	m := b.watched([]byte("m"))
	names := make([]string, 25_000)
	for i := range names {
		names[i] = fmt.Sprintf("s%05d", i)
	}
	values := make([]float32, len(names))
	values[20_000] = 5
	f := frame.New("m", "g", 1, epoch, nil, values)
	f.SchemaID = []byte("schema")
	m.take(f, names, 0)
	if got := shown(w); len(got) != MaxSensors || len(m.cells) != MaxSensors {
		t.Fatalf("%d sensors, %d kept", len(got), len(m.cells))
	}
	w.Keep(map[string]bool{"s20000": true, "gone": true})
	if len(m.cells) != 2 {
		t.Errorf("%d sensors are kept", len(m.cells))
	}
	m.take(f, names, 0)
	if got := shown(w); len(got) != 1 || got["s20000"].Value != 5 {
		t.Errorf("%+v", got)
	}
	other := b.Watch("m")
	other.Keep(map[string]bool{"s00001": true})
	m.take(f, names, 0)
	if got := shown(other); len(got) != 1 || len(shown(w)) != 1 {
		t.Errorf("%+v", got)
	}
	other.Stop()
	if len(m.cells) != 2 {
		t.Errorf("%d sensors are kept for one who has gone", len(m.cells))
	}
	if n := testing.AllocsPerRun(10, func() { m.take(f, names, 0) }); n != 0 {
		t.Errorf("a frame allocates %v times", n)
	}
}

func TestWatchesComeAndGo(t *testing.T) {
	b := NewBoard()
	told := func() bool {
		select {
		case <-b.Changed():
			return true
		default:
			return false
		}
	}
	one, two := b.Watch("m"), b.Watch("m")
	if !told() || told() || !slices.Equal(b.Machines(), []string{"m"}) {
		t.Error("the first watch is told of, once")
	}
	one.Stop()
	one.Stop()
	if told() || b.Count() != 1 {
		t.Error("somebody still looks")
	}
	one.Keep(map[string]bool{"x": true}) // after its end: nothing
	two.Stop()
	if !told() || b.Count() != 0 || b.watched([]byte("m")) != nil {
		t.Error("nobody looks any more")
	}
	third := b.Watch("m")
	defer third.Stop()
	if got := shown(third); len(got) != 0 {
		t.Errorf("what was known before is shown: %+v", got)
	}
}

func TestConcurrent(t *testing.T) {
	b := NewBoard()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				w := b.Watch(fmt.Sprint("m", i%3))
				w.Keep(map[string]bool{"a": true})
				if m := b.watched([]byte("m1")); m != nil {
					m.take(at(int64(i), []string{"a", "b"}, 1, 2), nil, int64(g))
				}
				w.Since(nil, 0)
				w.Stop()
			}
		})
	}
	wg.Wait()
	if b.Count() != 0 {
		t.Error("watches are left")
	}
}
