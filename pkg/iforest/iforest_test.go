package iforest

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"sort"
	"testing"

	"pgregory.net/rapid"
)

// crowd is n rows of a normal crowd, the last share of which are far away.
func crowd(seed uint64, n, features int, odd float64) (rows []float32, isOdd []bool) {
	r := rand.New(rand.NewPCG(seed, 3))
	for i := range n {
		far := float64(i) >= float64(n)*(1-odd)
		for range features {
			v := r.NormFloat64()
			if far {
				v = v*2 + 3*math.Copysign(1, r.NormFloat64())
			}
			rows = append(rows, float32(v))
		}
		isOdd = append(isOdd, far)
	}
	return rows, isOdd
}

// auc is the area under the ROC curve (Mann-Whitney).
func auc(score []float64, odd []bool) float64 {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(a, b int) bool { return score[order[a]] < score[order[b]] })
	var below, sum, many float64
	for _, i := range order {
		if odd[i] {
			sum += below
			many++
		} else {
			below++
		}
	}
	return sum / (below * many)
}

func TestFindsTheOdd(t *testing.T) {
	train, _ := crowd(1, 3000, 10, 0)
	f, err := Train(train, 10, DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	rows, odd := crowd(2, 2000, 10, 0.1)
	score := make([]float64, len(odd))
	f.Score(score, rows)
	if a := auc(score, odd); a < 0.99 {
		t.Fatalf("area under the curve %.3f", a)
	}
	for i, s := range score {
		if !(s > 0 && s <= 1) {
			t.Fatalf("row %d: score %v", i, s)
		}
	}
}

// TestBatchEqualsSingle: a row's score is the same, bit for bit, alone and in any batch.
func TestBatchEqualsSingle(t *testing.T) {
	for _, c := range []struct{ trees, features int }{{1, 4}, {3, 4}, {100, 4}, {7, 1}, {7, 70}, {5, 256}, {5, 257}} {
		features := c.features
		train, _ := crowd(1, 500, features, 0)
		p := DefaultParams()
		p.Trees = c.trees
		f, err := Train(train, features, p)
		if err != nil {
			t.Fatal(err)
		}
		rows, _ := crowd(2, 300, features, 0.2)
		odd := []float32{float32(math.NaN()), float32(math.Copysign(math.NaN(), -1)), float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1)), math.MaxFloat32, -math.MaxFloat32}
		for i := range rows {
			if i%17 == 3 {
				rows[i] = odd[i/17%len(odd)]
			}
		}
		one := make([]float64, 1)
		for n := 0; n < 300; n += 1 + n/40 {
			batch := make([]float64, n)
			f.Score(batch, rows)
			for i := range batch {
				if f.Score(one, rows[i*features:(i+1)*features]); one[0] != batch[i] {
					t.Fatalf("row %d of %d: %v in the batch, %v alone", i, n, batch[i], one[0])
				}
			}
		}
	}
}

func TestSameInputSameForest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		features := rapid.IntRange(1, 6).Draw(rt, "features")
		n := rapid.IntRange(2, 80).Draw(rt, "rows")
		rows := rapid.SliceOfN(rapid.Float32Range(-3, 3), n*features, n*features).Draw(rt, "values")
		if rapid.Bool().Draw(rt, "coarse") { // ties and constants
			for i := range rows {
				rows[i] = float32(math.Round(float64(rows[i])))
			}
		}
		p := Params{Trees: 5, Subsample: rapid.IntRange(2, 64).Draw(rt, "subsample"), Seed: rapid.Uint64().Draw(rt, "seed")}
		a, err := Train(rows, features, p)
		if err != nil {
			rt.Fatal(err)
		}
		b, _ := Train(rows, features, p)
		enc := a.AppendTo(nil)
		if !bytes.Equal(enc, b.AppendTo(nil)) {
			rt.Fatal("another forest of the same input")
		}
		back, err := Decode(enc)
		if err != nil || !bytes.Equal(enc, back.AppendTo(nil)) {
			rt.Fatalf("read back: %v", err)
		}
		x, y := make([]float64, n), make([]float64, n)
		a.Score(x, rows)
		back.Score(y, rows)
		for i := range x {
			if x[i] != y[i] || !(x[i] > 0 && x[i] <= 1) {
				rt.Fatalf("row %d: %v and %v", i, x[i], y[i])
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	rows, _ := crowd(1, 20, 2, 0)
	forest, err := Train(rows, 2, Params{Trees: 2, Subsample: 8, Seed: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(forest.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if m.Features() < 100 {
			m.Score(make([]float64, 9), make([]float32, 9*m.Features()))
		}
	})
}

func TestScoringDoesNotAllocate(t *testing.T) {
	rows, _ := crowd(1, 500, 10, 0)
	f, err := Train(rows, 10, DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float64, 101)
	if n := testing.AllocsPerRun(20, func() { f.Score(dst, rows) }); n > 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkScore(b *testing.B) {
	rows, _ := crowd(1, 4096, 10, 0)
	f, err := Train(rows, 10, DefaultParams())
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 100, 4096} {
		dst := make([]float64, n)
		b.Run("", func(b *testing.B) {
			for b.Loop() {
				f.Score(dst, rows)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/row")
		})
	}
}
