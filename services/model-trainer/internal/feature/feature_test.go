package feature_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet is machines that wear, under loads that are changed from row to row: entity, order, load, two sensors that depend on load and wear, one that is noise, one that is constant.
func fleet(seed uint64, machines, rows int) (*feature.Table, []float64) {
	r := rand.New(rand.NewPCG(seed, 9))
	t := &feature.Table{}
	for _, name := range []string{"machine", "at", "load", "a", "b", "noise", "constant", "left"} {
		t.Columns = append(t.Columns, feature.Column{Name: name})
	}
	var left []float64
	for m := range machines {
		life := rows/2 + r.IntN(rows/2)
		for i := range life {
			wear := float64(i) / float64(life)
			load := float64(r.IntN(3)) * 10
			add := func(k int, v float64) { t.Columns[k].Numbers = append(t.Columns[k].Numbers, v) }
			t.Columns[0].Texts = append(t.Columns[0].Texts, fmt.Sprint("m", m))
			add(1, float64(i))
			add(2, load+0.01*r.NormFloat64())
			add(3, 100+7*load+3*wear+0.3*r.NormFloat64())
			add(4, 5-load/4-wear*wear+0.1*r.NormFloat64())
			add(5, r.NormFloat64())
			add(6, 42)
			left = append(left, float64(life-i))
			add(7, left[len(left)-1])
			t.Rows++
		}
	}
	return t, left
}

func recipe() feature.Recipe {
	return feature.Recipe{Entity: "machine", Order: "at", Context: []string{"load"}, Spans: []int{3, 9}}
}

func column(t *testing.T, f *feature.Features, out [][]float32, name string) []float32 {
	t.Helper()
	i := slices.Index(f.Names(), name)
	if i < 0 {
		t.Fatalf("no feature %q among %q", name, f.Names())
	}
	return out[i]
}

func correlation(a []float32, b []float64) float64 {
	var n, ma, mb, saa, sbb, sab float64
	for i := range a {
		n++
		ma += (float64(a[i]) - ma) / n
		mb += (b[i] - mb) / n
	}
	for i := range a {
		x, y := float64(a[i])-ma, b[i]-mb
		saa, sbb, sab = saa+x*x, sbb+y*y, sab+x*y
	}
	return sab / math.Sqrt(saa*sbb)
}

// The load moves sensors ten times as far as wear does; its three settings are found, and beneath them the wear is seen.
func TestRegimesAreFoundAndTakenOut(t *testing.T) {
	table, left := fleet(1, 20, 200)
	f, err := feature.Learn(recipe(), table, "left", feature.NumberTarget(left))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.Regimes.Keys); n != 3 {
		t.Errorf("%d regimes: %q", n, f.Regimes.Keys)
	}
	out, err := f.Apply(table)
	if err != nil {
		t.Fatal(err)
	}
	sensor, index := math.Abs(correlation(column(t, f, out, "mean9(a)"), left)), correlation(column(t, f, out, "mean9(index0)"), left)
	if sensor < 0.5 || index < 0.85 {
		t.Errorf("correlation of a sensor with what is left %v, of the index %v", sensor, index)
	}
	if slices.ContainsFunc(f.Names(), func(s string) bool { return strings.Contains(s, "constant") || strings.Contains(s, "left") }) {
		t.Errorf("a constant or the target among %q", f.Names())
	}
	if age := column(t, f, out, "age"); age[0] != 1 || age[10] != 11 {
		t.Error(age[:11])
	}
}

// No row knows what comes after it, and no machine of another.
func TestFeaturesAreCausal(t *testing.T) {
	table, left := fleet(2, 4, 60)
	f, err := feature.Learn(recipe(), table, "left", feature.NumberTarget(left))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := f.Apply(table)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		// Some rows from the front of each machine, the machines' rows interleaved at random.
		keep := rapid.IntRange(1, table.Rows).Draw(t, "rows")
		queues := map[string][]int{}
		for i := range keep {
			name := table.Columns[0].Texts[i]
			queues[name] = append(queues[name], i)
		}
		var order []int
		for len(order) < keep {
			name := fmt.Sprint("m", rapid.IntRange(0, 3).Draw(t, "next"))
			if q := queues[name]; len(q) > 0 {
				order, queues[name] = append(order, q[0]), q[1:]
			} else {
				for _, n := range []string{"m0", "m1", "m2", "m3"} {
					order = append(order, queues[n]...)
					queues[n] = nil
				}
			}
		}
		some, err := f.Apply(table.Pick(order))
		if err != nil {
			t.Fatal(err)
		}
		for k := range some {
			for at, row := range order {
				if math.Float32bits(some[k][at]) != math.Float32bits(whole[k][row]) {
					t.Fatalf("%s of row %d: %v, with the rest of the table %v", f.Names()[k], row, some[k][at], whole[k][row])
				}
			}
		}
	})
}

// Written and read back, the same features to the bit.
func TestEncodingKeepsEveryBit(t *testing.T) {
	table, left := fleet(3, 5, 80)
	for _, r := range []feature.Recipe{recipe(), {Ignore: []string{"machine"}, Context: []string{"load"}, Pairs: []string{"product", "difference", "ratio"}}} {
		f, err := feature.Learn(r, table, "left", feature.NumberTarget(left))
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		back := &feature.Features{}
		if err := json.Unmarshal(b, back); err != nil {
			t.Fatal(err)
		}
		if err := back.Check(); err != nil {
			t.Fatal(err)
		}
		x, err1 := f.Apply(table)
		y, err2 := back.Apply(table)
		if err1 != nil || err2 != nil || len(x) != len(f.Names()) {
			t.Fatal(err1, err2, len(x), len(f.Names()))
		}
		for k := range x {
			for i := range x[k] {
				if math.Float32bits(x[k][i]) != math.Float32bits(y[k][i]) {
					t.Fatalf("%s of row %d", f.Names()[k], i)
				}
			}
		}
	}
}

func TestShapesAndPairs(t *testing.T) {
	num := func(name string, v ...float64) feature.Column { return feature.Column{Name: name, Numbers: v} }
	table := &feature.Table{Rows: 2, Columns: []feature.Column{
		num("s.0", 1, 0), num("s.1", 3, 0), num("s.2", 5, 0), num("s.3", 7, 0), num("x", 6, 1), num("y", 3, 0), {Name: "kind", Texts: []string{"b", "a"}}, num("t", 0, 1),
	}}
	f, err := feature.Learn(feature.Recipe{Series: []string{"s"}, Segments: 2, Categories: []string{"kind"}, Pairs: []string{"product", "difference", "ratio"}}, table, "t", feature.NumberTarget([]float64{0, 1}))
	if err != nil {
		t.Fatal(err)
	}
	table.Columns[6].Texts[1] = "never seen"
	out, err := f.Apply(table)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float32{
		"mean(s/0)": 2, "sd(s/0)": 1, "above(s/0)": -2, "mean(s/1)": 6, "mean(s)": 4, "min(s)": 1, "max(s)": 7, "slope(s)": 2, "kind": 1, "x": 6, "product(x,y)": 18, "difference(x,y)": 3, "ratio(x,y)": 2,
	} {
		if got := column(t, f, out, name)[0]; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"kind", "ratio(x,y)"} {
		if got := column(t, f, out, name)[1]; got == got {
			t.Errorf("%s: %v, want it missing", name, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	table, left := fleet(4, 2, 40)
	y := feature.NumberTarget(left)
	for want, r := range map[string]feature.Recipe{
		`"nowhere": is missing`: {Entity: "machine", Context: []string{"nowhere"}},
		`"a": holds numbers`:    {Entity: "a", Ignore: []string{"machine"}},
		`"machine": holds text`: {Context: []string{"load"}},
		"order: given":          {Order: "at"},
		"spans[1]":              {Spans: []int{3, 3}},
		"pairs[0]":              {Pairs: []string{"sum"}},
		"context: \"machine\"":  {Entity: "machine", Context: []string{"machine"}},
		`"s.1": is missing`:     {Entity: "machine", Series: []string{"s"}},
	} {
		if _, err := feature.Learn(r, table, "left", y); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	f, err := feature.Learn(recipe(), table, "left", y)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(table.Columns[1].Numbers)
	if _, err := f.Apply(table); err == nil || !strings.Contains(err.Error(), `"at"`) {
		t.Error("rows that do not follow each other:", err)
	}
}

// A scale of values is no setting, noise about one value is none, an on/off switch is one.
func TestLevels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for what, c := range map[string]struct {
		value func() float64
		want  int
	}{
		"noise":        {func() float64 { return 0.001 * math.Round(1000*0.002*r.NormFloat64()) }, 1},
		"a scale":      {func() float64 { return 100 * r.Float64() }, 1},
		"a switch":     {func() float64 { return float64(r.IntN(2)) }, 2},
		"six settings": {func() float64 { return []float64{0, 10, 20, 25, 35, 42}[r.IntN(6)] + 0.003*r.Float64() }, 6},
	} {
		table := &feature.Table{Rows: 2000, Columns: []feature.Column{{Name: "c"}, {Name: "x"}}}
		y := make([]float64, table.Rows)
		for range y {
			table.Columns[0].Numbers = append(table.Columns[0].Numbers, c.value())
			table.Columns[1].Numbers = append(table.Columns[1].Numbers, r.NormFloat64())
		}
		f, err := feature.Learn(feature.Recipe{Context: []string{"c"}}, table, "y", feature.NumberTarget(y))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(f.Regimes.Keys); got != c.want {
			t.Errorf("%s: %d regimes, want %d", what, got, c.want)
		}
	}
}
