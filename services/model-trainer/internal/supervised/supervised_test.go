package supervised_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/supervised"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet is machines that wear until they fail; what is left is the target.
func fleet(seed uint64, machines int) *feature.Table {
	r := rand.New(rand.NewPCG(seed, 9))
	t := &feature.Table{}
	for _, name := range []string{"machine", "at", "load", "a", "b", "left"} {
		t.Columns = append(t.Columns, feature.Column{Name: name})
	}
	for m := range machines {
		life := 60 + r.IntN(60)
		for i := range life {
			wear, load := math.Pow(float64(i)/float64(life), 2), float64(r.IntN(3))*10
			t.Columns[0].Texts = append(t.Columns[0].Texts, fmt.Sprint("m", m))
			for k, v := range []float64{float64(i), load, 7*load + 3*wear + 0.3*r.NormFloat64(), -load/4 - wear + 0.1*r.NormFloat64(), float64(life - i - 1)} {
				t.Columns[k+1].Numbers = append(t.Columns[k+1].Numbers, v)
			}
			t.Rows++
		}
	}
	return t
}

func life() supervised.Spec {
	s := supervised.DefaultSpec()
	s.Target, s.Cap, s.Folds = "left", 50, 3
	s.Recipe = feature.Recipe{Entity: "machine", Order: "at", Context: []string{"load"}, Spans: []int{5, 15}}
	s.Boost.Trees, s.Boost.Leaves = 60, 7
	return s
}

// What the cross-validation promises holds for machines that were never seen: error and coverage of the intervals.
func TestRemainingLife(t *testing.T) {
	var told []float64
	p, err := supervised.Train(fleet(1, 60), life(), func(share float64) { told = append(told, share) })
	if err != nil {
		t.Fatal(err)
	}
	if len(told) != 4 || told[3] != 1 {
		t.Errorf("progress %v", told)
	}
	q := p.Quality()
	if q == nil || q.RMSE > 8 || q.RMSE < 1 || math.Abs(q.Covered-0.9) > 0.03 {
		t.Fatalf("%+v", q)
	}
	unseen := fleet(2, 30)
	said, err := p.Predict(unseen, false)
	if err != nil {
		t.Fatal(err)
	}
	sum, inside := 0.0, 0
	for _, s := range said {
		truth := min(unseen.Columns[5].Numbers[s.Row], 50)
		sum += (s.Value - truth) * (s.Value - truth)
		if truth >= s.Low && truth <= s.High {
			inside++
		}
	}
	rmse, covered := math.Sqrt(sum/float64(len(said))), float64(inside)/float64(len(said))
	if rmse > 1.25*q.RMSE || covered < 0.85 || covered > 0.95 {
		t.Errorf("unseen: RMSE %v (promised %v), covered %v", rmse, q.RMSE, covered)
	}
	last, err := p.Predict(unseen, true)
	if err != nil || len(last) != 30 {
		t.Fatal(len(last), err)
	}
	for _, s := range last { // machines that fail next
		if s.Value != said[s.Row].Value || s.Value > 15 {
			t.Errorf("row %d: %+v alone, %+v among all", s.Row, s, said[s.Row])
		}
	}
}

// rows of three kinds, and a rare one that depends on a product of two columns.
func rows(seed uint64, n int) *feature.Table {
	r := rand.New(rand.NewPCG(seed, 9))
	t := &feature.Table{Rows: n, Columns: []feature.Column{{Name: "x"}, {Name: "y"}, {Name: "kind"}, {Name: "state"}}}
	for range n {
		x, y, kind := 10*r.Float64(), 10*r.Float64(), []string{"L", "M", "H"}[r.IntN(3)]
		limit := map[string]float64{"L": 60, "M": 70, "H": 80}[kind]
		state := "ok"
		if x*y > limit {
			state = "failed"
		}
		t.Columns[0].Numbers, t.Columns[1].Numbers = append(t.Columns[0].Numbers, x), append(t.Columns[1].Numbers, y)
		t.Columns[2].Texts, t.Columns[3].Texts = append(t.Columns[2].Texts, kind), append(t.Columns[3].Texts, state)
	}
	return t
}

func state() supervised.Spec {
	s := supervised.DefaultSpec()
	s.Target, s.Task, s.Objective = "state", supervised.Classification, "f1"
	s.Recipe = feature.Recipe{Categories: []string{"kind"}, Pairs: []string{"product"}}
	s.Boost.Trees, s.Boost.MinRows = 60, 3
	return s
}

func TestRareClass(t *testing.T) {
	p, err := supervised.Train(rows(1, 3000), state(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if q := p.Quality(); q.F1 < 0.95 || q.Accuracy < 0.98 {
		t.Errorf("%+v", q)
	}
	unseen := rows(2, 2000)
	said, err := p.Predict(unseen, true) // rows are no entities: all of them
	if err != nil || len(said) != 2000 {
		t.Fatal(len(said), err)
	}
	right := 0
	for _, s := range said {
		if p.Classes()[s.Class] == unseen.Columns[3].Texts[s.Row] {
			right++
		}
	}
	if right < 1960 {
		t.Errorf("%d of 2000 right", right)
	}
}

// The same table gives the same bytes; read back, the model says the same to the bit and has the same bytes.
func TestSameBytes(t *testing.T) {
	for name, c := range map[string]struct {
		table *feature.Table
		spec  supervised.Spec
	}{"life": {fleet(3, 12), life()}, "state": {rows(3, 400), state()}} {
		c.spec.Boost.Trees, c.spec.Boost.RowShare, c.spec.Boost.FeatureShare = 10, 0.7, 0.5
		p, err := supervised.Train(c.table, c.spec, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		again, err := supervised.Train(c.table, c.spec, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		file := p.AppendTo(nil)
		if !bytes.Equal(file, again.AppendTo(nil)) {
			t.Errorf("%s: other bytes", name)
		}
		back, err := supervised.Decode(file)
		if err != nil {
			t.Fatal(name, err)
		}
		if !bytes.Equal(back.AppendTo(nil), file) {
			t.Errorf("%s: other bytes when read back", name)
		}
		a, err1 := p.Predict(c.table, false)
		b, err2 := back.Predict(c.table, false)
		if err1 != nil || err2 != nil || fmt.Sprintf("%x", a) != fmt.Sprintf("%x", b) {
			t.Errorf("%s: other predictions when read back: %v %v", name, err1, err2)
		}
	}
}

func TestRefusals(t *testing.T) {
	table := fleet(5, 6)
	for want, change := range map[string]func(*supervised.Spec){
		"target: is missing":    func(s *supervised.Spec) { s.Target = "" },
		`"nowhere": is missing`: func(s *supervised.Spec) { s.Target = "nowhere" },
		"task":                  func(s *supervised.Spec) { s.Task = "clustering" },
		"cap":                   func(s *supervised.Spec) { s.Task = supervised.Classification },
		"folds":                 func(s *supervised.Spec) { s.Folds = 0 },
		"names for 50 folds":    func(s *supervised.Spec) { s.Folds = 50 },
		"objective":             func(s *supervised.Spec) { s.Objective = "luck" },
		"boost.trees":           func(s *supervised.Spec) { s.Boost.Trees = 0 },
		"recipe.spans":          func(s *supervised.Spec) { s.Recipe.Spans = []int{0} },
		"another part":          func(s *supervised.Spec) { s.Target = "load" },
	} {
		s := life()
		change(&s)
		if _, err := supervised.Train(table, s, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	s := life()
	s.Boost.Trees, s.Folds = 2, 1
	t := fleet(6, 3)
	p, err := supervised.Train(t, s, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.AppendTo(nil))
	f.Fuzz(func(tt *testing.T, b []byte) {
		p, err := supervised.Decode(b)
		if err != nil {
			if !errors.Is(err, supervised.ErrCorrupt) {
				tt.Fatal(err)
			}
			return
		}
		_, _ = p.Predict(t, false) // ends, and stays inside
	})
}
