package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"sort"
	"testing"
)

// crowd is rows of d normal columns with a daily course; the last share of them is far away.
func crowd(seed uint64, n, d int, odd float64) (*Table, []bool) {
	r := rand.New(rand.NewPCG(seed, 9))
	t := &Table{}
	for j := range d {
		t.Columns = append(t.Columns, string(rune('a'+j)))
	}
	isOdd := make([]bool, n)
	for i := range n {
		isOdd[i] = r.Float64() < odd
		for j := range d {
			v := r.NormFloat64() + 0.5*math.Sin(2*math.Pi*float64(i%24)/24)
			if isOdd[i] {
				v += 5 * math.Copysign(1, r.NormFloat64())
			}
			t.Values = append(t.Values, float32(v*float64(j+1)+100))
		}
	}
	return t, isOdd
}

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

// quick are parameters that the race detector can wait for.
func quick(algorithm string) json.RawMessage {
	switch algorithm {
	case OneClassSVM:
		return json.RawMessage(`{"width":64,"epochs":4}`)
	case IsolationForest:
		return json.RawMessage(`{"trees":50}`)
	}
	return nil
}

// TestEveryAlgorithm: each finds what is far away, gives scores in [0, 1] and the same model for the same input, comes back from its file bit for bit, and
// leaves about the asked share of usual rows outside.
func TestEveryAlgorithm(t *testing.T) {
	for _, algorithm := range Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			train, _ := crowd(1, 480, 5, 0)
			m, err := Train(algorithm, train, quick(algorithm), 0.02, 0)
			if err != nil {
				t.Fatal(err)
			}
			test, odd := crowd(2, 480, 5, 0.1)
			scores := make([]float64, test.Rows())
			if err := m.Score(scores, test); err != nil {
				t.Fatal(err)
			}
			if a := auc(scores, odd); a < 0.95 {
				t.Errorf("area under the curve %.3f", a)
			} else {
				t.Logf("area under the curve %.4f, threshold %.3f", a, m.Threshold)
			}
			found, alarms := 0, 0
			for i, s := range scores {
				if !(s >= 0 && s <= 1) {
					t.Fatalf("row %d: score %v", i, s)
				}
				if p := m.PValue(s); !(p > 0 && p <= 1) {
					t.Fatalf("row %d: p-value %v", i, p)
				}
				if s >= m.Threshold {
					if odd[i] {
						found++
					} else {
						alarms++
					}
				}
			}
			if found < 25 || alarms > 40 {
				t.Errorf("%d of about 48 found, %d false", found, alarms)
			}
			again, err := Train(algorithm, train, quick(algorithm), 0.02, 0)
			if err != nil || again.Version() != m.Version() {
				t.Errorf("trained again: version %s, not %s (%v)", again.Version(), m.Version(), err)
			}
			file := m.AppendTo(nil)
			back, err := Decode(file)
			if err != nil {
				t.Fatal(err)
			}
			other := make([]float64, len(scores))
			if err := back.Score(other, test); err != nil {
				t.Fatal(err)
			}
			for i := range other {
				if other[i] != scores[i] {
					t.Fatalf("row %d: %v read back, %v before", i, other[i], scores[i])
				}
			}
			if back.Version() != m.Version() || !bytes.Equal(file, back.AppendTo(nil)) {
				t.Error("read back it is another")
			}
			for n := range len(file) { // cut off anywhere it is refused
				if n%(len(file)/50+1) == 0 {
					if _, err := Decode(file[:n]); !errors.Is(err, ErrCorrupt) {
						t.Fatalf("cut off at %d: %v", n, err)
					}
				}
			}
		})
	}
}

// TestConstantColumns: columns that never change, and rows that are all equal, give models that work.
func TestConstantColumns(t *testing.T) {
	for _, algorithm := range Algorithms() {
		train, _ := crowd(3, 200, 3, 0)
		for i := range train.Values {
			if i%3 != 0 {
				train.Values[i] = 7
			}
		}
		for _, all := range []bool{false, true} {
			if all {
				for i := range train.Values {
					train.Values[i] = 7
				}
			}
			m, err := Train(algorithm, train, quick(algorithm), 0, 0)
			if err != nil {
				t.Fatalf("%s: %v", algorithm, err)
			}
			scores := make([]float64, train.Rows())
			if err := m.Score(scores, train); err != nil {
				t.Fatal(err)
			}
			for i, s := range scores {
				if !(s >= 0 && s <= 1) || s >= m.Threshold {
					t.Fatalf("%s: row %d: score %v at a threshold of %v", algorithm, i, s, m.Threshold)
				}
			}
		}
	}
}

func TestErrorsNameTheField(t *testing.T) {
	train, _ := crowd(1, 100, 2, 0)
	for _, c := range []struct {
		algorithm, parameters string
		contamination         float64
		field                 string
	}{
		{"forest", "", 0, "algorithm"},
		{IsolationForest, `{"trees":0}`, 0, "parameters"},
		{IsolationForest, `{"tree":10}`, 0, "parameters"},
		{LOF, `{"neighbours":1000}`, 0, "parameters"},
		{LOF, `{"neighbours":200}`, 0, "data"},
		{OneClassSVM, `{"nu":2}`, 0, "parameters"},
		{Seasonal, `{"period":60}`, 0, "data"},
		{IsolationForest, ``, 0.9, "contamination"},
	} {
		var given json.RawMessage
		if c.parameters != "" {
			given = json.RawMessage(c.parameters)
		}
		var p *ParameterError
		if _, err := Train(c.algorithm, train, given, c.contamination, 0); !errors.As(err, &p) || p.Field != c.field {
			t.Errorf("%+v: %v", c, err)
		}
	}
	train.Steps = make([]int, 100)
	var p *ParameterError
	if _, err := Train(Seasonal, train, nil, 0, 1); !errors.As(err, &p) || p.Field != "data" {
		t.Errorf("rows with gaps: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	train, _ := crowd(1, 80, 2, 0)
	for algorithm, parameters := range map[string]string{
		IsolationForest: `{"trees":2,"subsample":16}`, LOF: `{"neighbours":3}`, OneClassSVM: `{"width":16}`, Seasonal: `{"period":4}`,
	} {
		m, err := Train(algorithm, train, json.RawMessage(parameters), 0.1, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if d := len(m.Features); d < 50 {
			scores := make([]float64, 3)
			if err := m.Score(scores, &Table{Columns: m.Features, Values: make([]float32, 3*d)}); err != nil {
				t.Fatal(err)
			}
			for _, s := range scores {
				m.PValue(s)
			}
		}
	})
}
