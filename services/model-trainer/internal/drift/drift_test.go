package drift

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

const ref = "press@0123456789ab"

var begin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// world draws rows of three features, whose mean stands for a score.
type world struct {
	r     *rand.Rand
	state [3]float64
	phi   float64 // how much of a row is that before it
	shift [3]float64
	scale [3]float64
	day   float64 // how far the course of a day goes
}

func newWorld(seed uint64, phi float64) *world {
	return &world{r: rand.New(rand.NewPCG(seed, 7)), phi: phi, scale: [3]float64{1, 1, 1}}
}

// next is a row at a time, in its share of a day.
func (w *world) next(day float64) (row []float32, score float64) {
	for i := range w.state {
		w.state[i] = w.phi*w.state[i] + math.Sqrt(1-w.phi*w.phi)*w.r.NormFloat64()
		v := 50 + 4*(w.shift[i]+w.scale[i]*w.state[i]+w.day*math.Sin(2*math.Pi*day))
		row = append(row, float32(v))
		score += math.Abs(v-50) / 100
	}
	return row, score
}

// trained is the reference of that many rows of other days.
func trained(seed uint64, rows int) *Model {
	w := newWorld(seed, 0)
	var values []float32
	var scores []float64
	for range rows {
		row, score := w.next(w.r.Float64())
		values, scores = append(values, row...), append(scores, score)
	}
	return &Model{ref, []string{"pressure", "temperature", "speed"}, modelfile.LearnReference(values, 3, scores)}
}

// live counts hours of windows of w, so many an hour, into a book.
func live(m *Model, w *world, hours, each int) *Book {
	b := NewBook()
	t := m.Reference.NewTally()
	n := uint64(0)
	for i := range hours * each {
		at := begin.Add(time.Duration(i) * time.Hour / time.Duration(each))
		row, score := w.next(float64(i) / float64(each) / 24)
		m.Reference.Counter().Count(&t, float32(score), row)
		if n++; n == 10 || i == hours*each-1 {
			b.Count(record(m, &t, n, at))
			t, n = m.Reference.NewTally(), 0
		}
	}
	return b
}

func record(m *Model, t *modelfile.Tally, n uint64, at time.Time) *eventv1.ModelInputs {
	return &eventv1.ModelInputs{Model: m.Ref, UntilMs: at.UnixMilli(), Windows: n, Format: uint32(m.Reference.Format), Bins: t.Bins, Moved: t.Moved, Squares: t.Squares}
}

// Where nothing has changed, nothing is found but once in some hundred looks, whether windows are independent or follow each other for hours (the last: 3.3 hours of correlation in a day, where a look is nearly always "too few").
func TestNoShiftNoDrift(t *testing.T) {
	const looks = 150
	for _, c := range []struct {
		phi         float64
		hours, each int
		day         float64
	}{{0, 24, 100, 0}, {0, 24, 10, 0}, {0.9, 24, 100, 0}, {0.99, 24, 200, 0}, {0.999, 24, 300, 0}} {
		m := trained(99, 2000)
		found, few := 0, 0
		worst := 0.0
		for seed := range uint64(looks) {
			w := newWorld(seed, c.phi)
			for i := range w.state {
				w.state[i] = w.r.NormFloat64()
			}
			v := live(m, w, c.hours, c.each).Judge(m, begin, begin.Add(24*time.Hour))
			if v.State == Moved || v.State == Drifted {
				found++
			}
			if v.State == TooFew {
				few++
			}
			for _, x := range v.Variables {
				if x.changed() {
					worst = max(worst, x.PSI)
				}
			}
		}
		t.Logf("phi %v, %d windows an hour: %d of %d looks, %d too few, worst PSI %.2f", c.phi, c.each, found, looks, few, worst)
		if found > looks/25 {
			t.Errorf("phi %v, %d windows an hour: %d of %d looks find something where nothing is", c.phi, c.each, found, looks)
		}
	}
}

// What has moved is found, named, and by how much is said; what has not is not blamed.
func TestShiftIsNamed(t *testing.T) {
	m := trained(99, 5000)
	for seed := range uint64(20) {
		w := newWorld(seed, 0.5)
		w.shift[1] = 1.3
		w.scale[2] = 2
		v := live(m, w, 24, 200).Judge(m, begin, begin.Add(24*time.Hour))
		temperature, speed, pressure := find(v, "temperature"), find(v, "speed"), find(v, "pressure")
		if v.State != Drifted || temperature.State != Drifted || math.Abs(*temperature.Shift-1.3) > 0.1 || speed.State == Stable || math.Abs(*speed.Spread-2) > 0.2 || pressure.State != Stable || v.PSI < 0.5 {
			t.Fatalf("seed %d: %+v", seed, v)
		}
		if v.Variables[0].Name != "temperature" || !strings.Contains(v.Says, "temperature has moved up by 1.") || !strings.Contains(v.Says, "4,800 windows in 24 hours") || !strings.Contains(speed.Says, "varies 2.") && !strings.Contains(speed.Says, "varies 1.9") {
			t.Fatal(v.Says)
		}
		if len(temperature.Course) != mostBatches || temperature.Course[3].Windows < 100 || temperature.Course[3].PSI < psiDrifted {
			t.Fatal(temperature.Course)
		}
	}
}

func find(v Verdict, name string) *Variable {
	for i := range v.Variables {
		if v.Variables[i].Name == name {
			return &v.Variables[i]
		}
	}
	return nil
}

// The course of a day alone is no drift: in a few hours of it everything lies elsewhere, but so few stretches say nothing of other days.
func TestADayIsNotADrift(t *testing.T) {
	w := newWorld(5, 0)
	w.day = 1
	var values []float32
	var scores []float64
	for i := range 5000 {
		row, score := w.next(float64(i) / 5000)
		values, scores = append(values, row...), append(scores, score)
	}
	m := &Model{ref, []string{"pressure", "temperature", "speed"}, modelfile.LearnReference(values, 3, scores)}
	for seed := range uint64(30) {
		w := newWorld(seed, 0)
		w.day = 1
		if v := live(m, w, 24, 100).Judge(m, begin, begin.Add(24*time.Hour)); (Variable{State: v.State}).changed() {
			t.Fatalf("seed %d: %s", seed, v.Says)
		}
	}
}

// Few windows, few stretches of time, no reference, nobody: each is said, and never a figure.
func TestWhatCannotBeTold(t *testing.T) {
	m := trained(99, 2000)
	w := newWorld(1, 0)
	w.shift[0] = 3
	to := begin.Add(24 * time.Hour)
	if v := live(m, w, 24, 20).Judge(m, begin, begin.Add(4*time.Hour)); v.State != TooFew || v.PSI != 0 || !strings.Contains(v.Says, "of the 10 stretches") {
		t.Errorf("%+v", v)
	}
	if v := live(m, newWorld(1, 0.99), 24, 20).Judge(m, begin, to); v.State != TooFew || !strings.Contains(v.Says, "too few to tell") {
		t.Errorf("%+v", v)
	}
	b := live(m, w, 24, 100)
	if v := b.Judge(&Model{Ref: ref, Features: m.Features}, begin, to); v.State != NoReference || v.Windows != 2400 || v.Score != nil || v.Variables != nil {
		t.Errorf("%+v", v)
	}
	if v := b.Judge(&Model{"other@0123456789ab", m.Features, m.Reference}, begin, to); v.State != NoWindows || v.Windows != 0 {
		t.Errorf("%+v", v)
	}
	if v := b.Judge(m, to.Add(24*time.Hour), to.Add(48*time.Hour)); v.State != NoWindows {
		t.Errorf("%+v", v)
	}
}

// A feature that was always the same is watched too.
func TestAConstantThatChanges(t *testing.T) {
	values, scores := make([]float32, 500), make([]float64, 500)
	for i := range values {
		values[i], scores[i] = 3.2, float64(i)/1000
	}
	m := &Model{ref, []string{"setpoint"}, modelfile.LearnReference(values, 1, scores)}
	r := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		changed float64
		want    State
		says    string
	}{{0, Stable, "as in training"}, {0.3, Drifted, "setpoint was always 3.2 in training, and is in 70 % of the windows"}} {
		b := NewBook()
		for i := range 2400 {
			tally := m.Reference.NewTally()
			v := float32(3.2)
			if i%10 < int(10*c.changed) {
				v = 3.3
			}
			m.Reference.Counter().Count(&tally, float32(r.Float64()/2), []float32{v})
			b.Count(record(m, &tally, 1, begin.Add(time.Duration(i)*time.Minute/2)))
		}
		v := b.Judge(m, begin, begin.Add(24*time.Hour))
		if v.State != c.want || !strings.Contains(v.Says, c.says) {
			t.Errorf("%+v", v)
		}
	}
}

// Counts of partitions, in any order, are those of the whole.
func TestCountsAddUp(t *testing.T) {
	m := trained(3, 300)
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, 5).Draw(t, "partitions")
		n := rapid.IntRange(1, 200).Draw(t, "windows")
		w := newWorld(rapid.Uint64().Draw(t, "seed"), 0.3)
		whole, parts := NewBook(), NewBook()
		var records []*eventv1.ModelInputs
		for i := range n {
			tally := m.Reference.NewTally()
			row, score := w.next(0)
			m.Reference.Counter().Count(&tally, float32(score), row)
			at := begin.Add(time.Duration(i) * 7 * time.Minute)
			whole.Count(record(m, &tally, 1, at))
			one := record(m, &tally, 1, at)
			one.Partition = int32(i % partitions)
			records = append(records, one)
		}
		for _, i := range rapid.Permutation(indices(n)).Draw(t, "order") {
			parts.Count(records[i])
		}
		to := begin.Add(48 * time.Hour)
		if a, b := fmt.Sprintf("%+v", plain(whole.Judge(m, begin, to))), fmt.Sprintf("%+v", plain(parts.Judge(m, begin, to))); a != b {
			t.Fatalf("%s\n%s", a, b)
		}
	})
}

// plain has no pointers, to be compared as text.
func plain(v Verdict) []any {
	out := []any{v.State, v.Windows, v.Says, v.PSI, *v.Score.Shift, v.Score.Now}
	for _, x := range v.Variables {
		out = append(out, x.Name, x.State, x.PSI, x.Worth, *x.Shift, *x.Spread, x.Now, x.Course)
	}
	return out
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// What is kept is bounded, whatever comes.
func TestABookIsBounded(t *testing.T) {
	m := trained(3, 300)
	tally := m.Reference.NewTally()
	m.Reference.Counter().Count(&tally, 0.5, []float32{50, 50, 50})
	b := NewBook()
	for i := range maxSlots + 50 {
		b.Count(record(m, &tally, 1, begin.Add(time.Duration(i)*5*time.Minute)))
	}
	b.Count(record(m, &tally, 1, begin)) // of a time that is forgotten
	if slots := b.models[ref]; len(slots) != maxSlots || slots[0].number != begin.UnixMilli()/slotMS+50 {
		t.Error(len(slots))
	}
	for i := range maxModels + 5 {
		other := *m
		other.Ref = fmt.Sprintf("m%d@0123456789ab", i)
		b.Count(record(&other, &tally, 1, begin.Add(time.Duration(i)*time.Hour*10_000)))
	}
	if len(b.models) != maxModels {
		t.Error(len(b.models))
	}
	huge := record(m, &modelfile.Tally{Bins: make([]uint64, maxBins+1), Moved: tally.Moved, Squares: tally.Squares}, 1, begin.Add(time.Hour*1_000_000))
	huge.Model = "huge@0123456789ab"
	b.Count(huge)
	if len(b.Models("huge", begin, begin.Add(time.Hour*2_000_000))) != 0 {
		t.Error("a record that cannot be one was counted")
	}
	b.Reset()
	if len(b.models) != 0 || !b.Until().IsZero() {
		t.Error("something is left")
	}
}

func TestModelsByName(t *testing.T) {
	m := trained(3, 300)
	b := NewBook()
	tally := m.Reference.NewTally()
	for _, name := range []string{"a@000000000001", "a@000000000002", "b@000000000001"} {
		one := *m
		one.Ref = name
		b.Count(record(&one, &tally, 1, begin))
	}
	for of, want := range map[string][]string{"": {"a@000000000001", "a@000000000002", "b@000000000001"}, "a": {"a@000000000001", "a@000000000002"}, "a@000000000002": {"a@000000000002"}, "c": nil} {
		if got := b.Models(of, begin.Add(-time.Hour), begin.Add(time.Hour)); !slices.Equal(got, want) {
			t.Error(of, got)
		}
	}
}

// While builds that count differently are exchanged, nothing is mixed.
func TestOtherFormats(t *testing.T) {
	m := trained(3, 300)
	b := live(m, newWorld(1, 0), 24, 20)
	before := b.Judge(m, begin, begin.Add(24*time.Hour))
	b.Count(&eventv1.ModelInputs{Model: ref, UntilMs: begin.Add(time.Hour).UnixMilli(), Windows: 5, Format: 9, Bins: []uint64{1, 2}, Moved: []int64{3}, Squares: []uint64{4}})
	after := b.Judge(m, begin, begin.Add(24*time.Hour))
	if after.Windows != before.Windows+5 || after.Score.Worth != before.Score.Worth {
		t.Errorf("%+v\n%+v", before, after)
	}
}

func TestRetrainCommand(t *testing.T) {
	got := RetrainCommand(ref, "isolation_forest", []string{"oil pressure", "it's"}, []byte(`{"trees":50}`), begin, begin.Add(time.Hour))
	if want := `tocsin models train press --algorithm isolation_forest --from 2026-03-01T00:00:00Z --to 2026-03-01T01:00:00Z --sensors 'oil pressure,it'\''s' --parameters '{"trees":50}'`; got != want {
		t.Error(got)
	}
	if wide := RetrainCommand(ref, "isolation_forest", make([]string, 10_000), nil, begin, begin); len(wide) > 200 {
		t.Error(len(wide))
	}
}
