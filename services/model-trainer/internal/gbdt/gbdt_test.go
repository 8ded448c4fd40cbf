package gbdt

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func params(change func(*Params)) Params {
	p := DefaultParams()
	p.Trees, p.MinRows, p.L2 = 20, 1, 0
	if change != nil {
		change(&p)
	}
	return p
}

func one(m *Model, row ...float32) float64 {
	out := make([]float64, m.Outputs())
	m.Predict(out, row)
	return out[0]
}

// A single tree with a learning rate of 1 is a regression tree: its leaves are the means of their rows, its cut is the one of least squared error.
func TestOneTreeByHand(t *testing.T) {
	x := Matrix{6, [][]float32{{1, 2, 3, 4, 5, 6}, {1, 1, 1, 2, 2, 2}}}
	y := []float64{1, 1, 4, 10, 10, 10}
	p := params(func(p *Params) { p.Trees, p.LearningRate, p.Leaves = 1, 1, 3 })
	m, err := TrainNumber(x, y, p)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{1, 1, 4, 10, 10, 10} {
		if got := one(m, x.Columns[0][i], x.Columns[1][i]); math.Abs(got-want) > 1e-12 {
			t.Errorf("row %d: %v, want %v", i, got, want)
		}
	}
	// Both features part the rows equally well: the first one's cut is taken, half way. The second cut lies half way between 2 and 3.
	for v, want := range map[float32]float64{3.49: 4, 3.51: 10, 2.49: 1, 2.51: 4} {
		if got := one(m, v, 1.5); math.Abs(got-want) > 1e-12 {
			t.Errorf("%v: %v, want %v", v, got, want)
		}
	}
}

func TestShrinkageAndRegularisation(t *testing.T) {
	x, y := Matrix{4, [][]float32{{0, 0, 1, 1}}}, []float64{0, 0, 8, 8}
	p := params(func(p *Params) { p.Trees, p.LearningRate, p.Leaves, p.L2 = 1, 0.5, 2, 2 })
	m, err := TrainNumber(x, y, p)
	if err != nil {
		t.Fatal(err)
	}
	// mean 4, sum of residuals 8 over 2 rows and l2 = 2: 8/4 = 2, halved.
	if got := one(m, 1); got != 5 {
		t.Error(got)
	}
}

func TestMissingStandsBelowNumbers(t *testing.T) {
	nan := float32(math.NaN())
	x, y := Matrix{6, [][]float32{{nan, nan, -5, -4, 3, 4}}}, []float64{7, 7, 1, 1, 1, 1}
	m, err := TrainNumber(x, y, params(func(p *Params) { p.Trees, p.LearningRate = 1, 1 }))
	if err != nil {
		t.Fatal(err)
	}
	if one(m, nan) != 7 || one(m, -1e30) != 1 || one(m, 1e30) != 1 {
		t.Error(one(m, nan), one(m, -1e30), one(m, 1e30))
	}
}

func TestClasses(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	const n = 600
	x := Matrix{n, [][]float32{make([]float32, n), make([]float32, n)}}
	two, three := make([]int, n), make([]int, n)
	for i := range n {
		a, b := float32(r.NormFloat64()), float32(r.NormFloat64())
		x.Columns[0][i], x.Columns[1][i] = a, b
		if a*b > 0 { // no single cut tells
			two[i] = 1
		}
		switch {
		case a > 0.5:
			three[i] = 2
		case b > 0:
			three[i] = 1
		}
	}
	for classes, class := range map[int][]int{2: two, 3: three} {
		m, err := TrainClass(x, class, classes, params(func(p *Params) { p.Trees = 60; p.MinRows = 5 }))
		if err != nil {
			t.Fatal(err)
		}
		right := 0
		out := make([]float64, m.Outputs())
		for range n {
			a, b := float32(r.NormFloat64()), float32(r.NormFloat64())
			want := 0
			switch {
			case classes == 2 && a*b > 0:
				want = 1
			case classes == 3 && a > 0.5:
				want = 2
			case classes == 3 && b > 0:
				want = 1
			}
			m.Predict(out, []float32{a, b})
			p := Probabilities(nil, out)
			sum := 0.0
			for _, q := range p {
				sum += q
			}
			if len(p) != classes || math.Abs(sum-1) > 1e-12 {
				t.Fatalf("probabilities %v", p)
			}
			if slices.Index(p, slices.Max(p)) == want {
				right++
			}
		}
		if right < n*95/100 {
			t.Errorf("%d classes: %d of %d right", classes, right, n)
		}
	}
}

func random(t *rapid.T) (Matrix, []float64) {
	n, d := rapid.IntRange(2, 80).Draw(t, "rows"), rapid.IntRange(1, 5).Draw(t, "features")
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	m := Matrix{Rows: n}
	few := rapid.Bool().Draw(t, "few values")
	for range d {
		c := make([]float32, n)
		for i := range c {
			c[i] = float32(r.NormFloat64())
			if few {
				c[i] = float32(r.IntN(4))
			}
			if r.IntN(10) == 0 {
				c[i] = float32(math.NaN())
			}
		}
		m.Columns = append(m.Columns, c)
	}
	y := make([]float64, n)
	for i := range y {
		y[i] = 10 * r.NormFloat64()
	}
	return m, y
}

func rows(m Matrix) [][]float32 {
	out := make([][]float32, m.Rows)
	for i := range out {
		for _, c := range m.Columns {
			out[i] = append(out[i], c[i])
		}
	}
	return out
}

// Whatever the rows: the same bytes again and on any number of processors, the same predictions when read back, and none outside the target's range.
func TestProperties(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	rapid.Check(t, func(t *rapid.T) {
		x, y := random(t)
		p := params(func(p *Params) {
			p.Leaves = rapid.IntRange(2, 9).Draw(t, "leaves")
			p.MinRows = rapid.IntRange(1, 10).Draw(t, "min_rows")
			p.RowShare = rapid.Float64Range(0.3, 1).Draw(t, "row_share")
			p.FeatureShare = rapid.Float64Range(0.3, 1).Draw(t, "feature_share")
			p.Bins = rapid.SampledFrom([]int{0, 2, 7}).Draw(t, "bins")
		})
		runtime.GOMAXPROCS(1)
		m, err := TrainNumber(x, y, p)
		if err != nil {
			t.Fatal(err)
		}
		file := m.AppendTo(nil)
		runtime.GOMAXPROCS(4)
		again, err := TrainNumber(x, y, p)
		if err != nil || !bytes.Equal(again.AppendTo(nil), file) {
			t.Fatal("another model of the same rows", err)
		}
		back, rest, err := Decode(append(slices.Clone(file), 1, 2, 3))
		if err != nil || len(rest) != 3 || !bytes.Equal(back.AppendTo(nil), file) {
			t.Fatal("read back", err, len(rest))
		}
		low, high := slices.Min(y), slices.Max(y)
		span := high - low
		for _, row := range rows(x) {
			v := one(m, row...)
			if w := one(back, row...); math.Float64bits(v) != math.Float64bits(w) {
				t.Fatalf("%v, read back %v", v, w)
			}
			// With all rows in each tree every round moves towards the target, so nothing overshoots.
			if p.RowShare == 1 && (v < low-1e-9*span || v > high+1e-9*span) {
				t.Fatalf("%v is outside %v..%v", v, low, high)
			}
		}
	})
}

// A change of a feature's values that keeps their order changes no prediction for training rows: trees see order only.
func TestOrderIsAllThatCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := random(t)
		p := params(nil)
		m, err := TrainNumber(x, y, p)
		if err != nil {
			t.Fatal(err)
		}
		other := Matrix{Rows: x.Rows}
		for _, c := range x.Columns {
			o := make([]float32, len(c))
			for i, v := range c {
				o[i] = 8 * v
			}
			other.Columns = append(other.Columns, o)
		}
		n, err := TrainNumber(other, y, p)
		if err != nil {
			t.Fatal(err)
		}
		a, b := rows(x), rows(other)
		for i := range a {
			if v, w := one(m, a[i]...), one(n, b[i]...); v != w {
				t.Fatalf("row %d: %v and %v", i, v, w)
			}
		}
	})
}

// More rounds never fit the training rows worse.
func TestBoostingLowersTheError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := random(t)
		last := math.Inf(1)
		for _, trees := range []int{1, 5, 20} {
			m, err := TrainNumber(x, y, params(func(p *Params) { p.Trees = trees }))
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for i, row := range rows(x) {
				d := one(m, row...) - y[i]
				sum += d * d
			}
			if sum > last*(1+1e-9) {
				t.Fatalf("%d trees: squared error %v, before %v", trees, sum, last)
			}
			last = sum
		}
	})
}

func TestRefusals(t *testing.T) {
	good := Matrix{2, [][]float32{{1, 2}}}
	for what, f := range map[string]func() error{
		"no rows": func() error {
			_, err := TrainNumber(Matrix{1, [][]float32{{1}}}, []float64{1}, params(nil))
			return err
		},
		"no features": func() error { _, err := TrainNumber(Matrix{2, nil}, []float64{1, 2}, params(nil)); return err },
		"short column": func() error {
			_, err := TrainNumber(Matrix{2, [][]float32{{1}}}, []float64{1, 2}, params(nil))
			return err
		},
		"short target":  func() error { _, err := TrainNumber(good, []float64{1}, params(nil)); return err },
		"NaN target":    func() error { _, err := TrainNumber(good, []float64{1, math.NaN()}, params(nil)); return err },
		"one class":     func() error { _, err := TrainClass(good, []int{0, 0}, 1, params(nil)); return err },
		"unknown class": func() error { _, err := TrainClass(good, []int{0, 2}, 2, params(nil)); return err },
		"trees":         func() error { _, err := TrainNumber(good, []float64{1, 2}, Params{}); return err },
	} {
		if f() == nil {
			t.Error(what)
		}
	}
}

func FuzzDecode(f *testing.F) {
	x, y := Matrix{6, [][]float32{{1, 2, 3, 4, 5, 6}, {1, 1, 1, 2, 2, 2}}}, []float64{1, 1, 4, 10, 10, 10}
	m, err := TrainNumber(x, y, params(nil))
	if err != nil {
		f.Fatal(err)
	}
	c, err := TrainClass(x, []int{0, 1, 2, 0, 1, 2}, 3, params(nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.AppendTo(nil))
	f.Add(c.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, _, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		out := make([]float64, m.Outputs())
		m.Predict(out, make([]float32, m.Features())) // ends, and stays inside
	})
}

func BenchmarkTrain(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n, d = 50_000, 50
	x, y := Matrix{Rows: n}, make([]float64, n)
	for range d {
		c := make([]float32, n)
		for i := range c {
			c[i] = float32(r.NormFloat64())
			y[i] += float64(c[i])
		}
		x.Columns = append(x.Columns, c)
	}
	p := DefaultParams()
	p.Trees = 20
	for b.Loop() {
		if _, err := TrainNumber(x, y, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPredict(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	x, y := Matrix{Rows: 5000}, make([]float64, 5000)
	for range 20 {
		c := make([]float32, len(y))
		for i := range c {
			c[i] = float32(r.NormFloat64())
			y[i] += float64(c[i])
		}
		x.Columns = append(x.Columns, c)
	}
	m, err := TrainNumber(x, y, DefaultParams())
	if err != nil {
		b.Fatal(err)
	}
	all, out := rows(x), make([]float64, 1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		m.Predict(out, all[i%len(all)])
		i++
	}
}
