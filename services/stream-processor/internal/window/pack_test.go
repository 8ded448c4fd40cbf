package window

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
	"pgregory.net/rapid"
)

func drawPane(t *rapid.T, sensors int) *Pane {
	p := &Pane{StartUS: 5, State: Closed, Columns: new(Columns)}
	p.Grow(sensors)
	together := rapid.Bool().Draw(t, "sampled together")
	most := rapid.SampledFrom([]int{2, 6, 300}).Draw(t, "most")
	offset := rapid.Float32Range(-1e6, 1e6).Draw(t, "offset")
	n := rapid.IntRange(0, most).Draw(t, "values")
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	for i := range sensors {
		if !together {
			n = r.IntN(most + 1)
		}
		for k := range n {
			p.Accums[i].Add(offset+float32(100*r.NormFloat64()), uint32(k))
		}
		if !together && r.IntN(2) == 0 {
			p.Accums[i].Reject()
			p.SetStuck(i)
		}
	}
	return p
}

func drawMark(t *rapid.T) Mark {
	m := Mark{Surprise: rapid.Float32Range(0.001, 500).Draw(t, "surprise"), Low: rapid.Float32Range(-1e6, 1e6).Draw(t, "low")}
	m.High = m.Low + rapid.Float32Range(0, 1e4).Draw(t, "width")
	nan := float32(math.NaN())
	switch rapid.IntRange(0, 3).Draw(t, "open") {
	case 1:
		m.Low = nan
	case 2:
		m.High = nan
	case 3:
		m.Low, m.High = nan, nan
	}
	return m
}

func close32(a, b float32, relative float64) bool {
	return a != a && b != b || math.Abs(float64(a-b)) <= relative*max(math.Abs(float64(a)), math.Abs(float64(b)))
}

func TestWhatIsPackedComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var pool Pool
		sensors := rapid.SampledFrom([]int{1, 2, 3, 66}).Draw(t, "sensors")
		p := drawPane(t, sensors)
		before, stuck := slices.Clone(p.Accums), make([]bool, sensors)
		for i := range stuck {
			stuck[i] = p.Stuck(i)
		}
		var marks []Mark
		if rapid.Bool().Draw(t, "judged") {
			m := drawMark(t)
			for range sensors {
				m.Low, m.High = m.Low*1.1, m.High*1.1
				r := m
				r.Round()
				// Half a step of the width, and what a float32 of that size can be off by.
				slack := math.Abs(float64(m.High-m.Low))/256 + 0.1 + 0x1p-22*max(math.Abs(float64(m.Low)), math.Abs(float64(m.High)))
				if !close32(m.Surprise, r.Surprise, 1e-3) || math.Abs(float64(m.Low-r.Low)) > slack || math.Abs(float64(m.High-r.High)) > slack ||
					(m.Low == m.Low) != (r.Low == r.Low) || (m.High == m.High) != (r.High == r.High) {
					t.Fatalf("%+v rounded to %+v", m, r)
				}
				marks = append(marks, r)
			}
		}
		opinions := rapid.SliceOfN(rapid.Uint8(), 0, 9).Draw(t, "opinions")
		p.Pack(&pool, marks, opinions)

		var again Pane
		in := codec.NewReader(append(codec.AppendU32(nil, uint32(len(p.packed))), p.packed...))
		again.restorePacked(in, sensors)
		if in.Err() != nil {
			t.Fatal(in.Err())
		}
		for _, q := range []*Pane{p, &again} {
			if !slices.Equal(q.Opinions(), opinions) {
				t.Fatalf("opinions %v, not %v", q.Opinions(), opinions)
			}
			st := q.Statistics()
			for i := range before {
				if got, want := st.Of(i), before[i].Stats(); !alike(got, want) {
					t.Fatalf("sensor %d: %+v, not %+v", i, got, want)
				}
			}
			if st := st.Of(sensors); st.Count != 0 || st.Mean == st.Mean {
				t.Fatalf("statistics of an unknown sensor: %+v", st)
			}
			q.Unpack(&pool, sensors+1)
			if len(q.Accums) != sensors+1 || len(q.Marks) != len(marks) {
				t.Fatalf("%d sensors, %d marks", len(q.Accums), len(q.Marks))
			}
			for i := range before {
				if got, want := q.Accums[i].Stats(), before[i].Stats(); !alike(got, want) || q.Accums[i].lastAt != before[i].lastAt || q.Stuck(i) != stuck[i] {
					t.Fatalf("sensor %d: %+v, not %+v", i, got, want)
				}
			}
			for i, m := range marks {
				if g := q.Marks[i]; !close32(g.Surprise, m.Surprise, 0) || !close32(g.Low, m.Low, 1e-6) && math.Abs(float64(g.Low-m.Low)) > 1e-6*float64(m.High-m.Low) {
					t.Fatalf("mark %+v, not %+v", g, m)
				}
			}
			packed := slices.Clone(q.packed)
			q.Accums = q.Accums[:sensors]
			q.Pack(&pool, slices.Clone(q.Marks), opinions)
			if len(marks) == 0 && !slices.Equal(packed, q.packed) {
				t.Fatal("packed again it is otherwise")
			}
		}
	})
}

func alike(a, b Stats) bool {
	near := func(x, y, relative float64) bool { return x != x && y != y || math.Abs(x-y) <= relative*math.Abs(y) }
	return a.Count == b.Count && a.Unusable == b.Unusable && near(a.Mean, b.Mean, 1e-10) && near(a.Stddev, b.Stddev, 1e-6) &&
		near(a.Min, b.Min, 0) && near(a.Max, b.Max, 0) && near(a.Last, b.Last, 0)
}

// Whatever bytes come for a packed pane, they are refused or can be worked with.
func FuzzPacked(f *testing.F) {
	var pool Pool
	p := &Pane{Columns: new(Columns)}
	p.Grow(3)
	p.Accums[1].Add(4, 5)
	p.SetStuck(2)
	p.Pack(&pool, make([]Mark, 3), []uint8{1, 2})
	f.Add(p.packed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var pool Pool
		var p Pane
		r := codec.NewReader(append(codec.AppendU32(nil, uint32(len(b))), b...))
		if p.restorePacked(r, 100); r.Err() != nil {
			return
		}
		st := p.Statistics()
		st.Of(0)
		p.Opinions()
		p.Unpack(&pool, 100)
		p.Accums[99].Add(1, 1)
		p.Stuck(99)
		p.Pack(&pool, p.Marks, nil)
	})
}
