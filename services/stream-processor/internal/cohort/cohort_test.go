package cohort

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

func TestMergeIsRobustAndWide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		n := rapid.IntRange(5, Most).Draw(t, "sisters")
		list := make([]detect.Usual, n)
		for i := range list {
			list[i] = detect.Usual{Mean: 100 + 4*r.NormFloat64(), Variance: 1 + r.Float64(), Count: 5}
		}
		for i := range (n - 1) / 4 { // one in four is off
			list[i].Mean, list[i].Variance = 1e6*r.NormFloat64(), 1e9
		}
		shuffled := slices.Clone(list)
		r.Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		a, ok := Merge(list, 3)
		b, _ := Merge(shuffled, 3)
		if !ok || a != b {
			t.Fatalf("%+v and %+v of the same sisters", a, b)
		}
		if math.Abs(a.Mean-100) > 12 || a.Variance > 40*40 || a.Variance < 1 || a.Count != 5 {
			t.Fatalf("%+v of %v", a, list)
		}
	})
}

func TestFewSistersTellNothing(t *testing.T) {
	if _, ok := Merge(make([]detect.Usual, 2), 1); ok {
		t.Error("two sisters have a median")
	}
	if _, ok := Merge([]detect.Usual{{Mean: math.NaN()}, {Mean: math.NaN()}, {}}, 3); ok {
		t.Error("no number was lent")
	}
}

func TestClass(t *testing.T) {
	if Class([]string{"a", "b"}) != Class([]string{"b", "a"}) || Class([]string{"ab"}) == Class([]string{"a", "b"}) {
		t.Error("a class is a set of names")
	}
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	for _, edit := range []func(*Config){func(c *Config) { c.Sisters = 2 }, func(c *Config) { c.Known = 1 }} {
		c := DefaultConfig()
		if edit(&c); c.Validate() == nil {
			t.Errorf("%+v is valid", c)
		}
	}
}
