package lakeproof

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The page's recipes are found, with the places that a run puts its own folders into.
func TestRecipesOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/LAKE.md")
	if err != nil {
		t.Fatal(err)
	}
	all := recipesOf(string(page))
	want := []string{"ClickHouse", "DuckDB", "Spark", "Spark, Iceberg", "pyarrow", "pyiceberg"}
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, want) {
		t.Errorf("recipes %q, want %q", got, want)
	}
	for name, code := range all {
		lines := strings.Split(strings.TrimSpace(code), "\n")
		if !strings.Contains(code, exampleDir) || !strings.HasPrefix(lines[len(lines)-1], "print(") || strings.HasPrefix(lines[0], " ") {
			t.Errorf("%s:\n%s", name, code)
		}
	}
}

// The sums are those of the values, and tell which value stands where.
func TestTruthTellsPlaces(t *testing.T) {
	s := Sizes{Machines: 2, Sensors: 3, Frames: 4, Samples: 50}
	begin := time.Unix(1_700_000_000, 0)
	truth := s.truth(begin, begin.UnixMicro())
	if len(truth) != 6 || s.Readings() != 1200 {
		t.Fatalf("%d groups, %d readings", len(truth), s.Readings())
	}
	missed, sums := int64(0), map[string]bool{}
	for _, g := range truth {
		if g[2] != int64(200) || g[6] != int64(199*200/2*1_000_000) {
			t.Errorf("%v", g)
		}
		missed += 200 - g[3].(int64)
		sums[fmt.Sprint(g[4], g[5])] = true
	}
	if missed == 0 || missed > 60 || len(sums) != 6 {
		t.Errorf("%d values missing, %d different sums", missed, len(sums))
	}
	for m := range s.Machines {
		for seq := range s.Frames {
			if v, _ := eighths(m, 0, seq, 0); v < -800 || v > 800 {
				t.Errorf("value %d", v)
			}
		}
	}
}

// Engines that disagree are named with the figure.
func TestDisagreementIsBroken(t *testing.T) {
	r := newReport(DefaultConfig())
	one := func(rows int) found {
		return found{Tables: map[string]map[string]any{"windows": {"rows": rows, "sum(count)": 7}}}
	}
	(&Phase{Name: "x"}).compare(r, map[string]found{"A": one(1), "B": one(1)}, []string{"windows"})
	if len(r.Broken) != 0 {
		t.Errorf("%q", r.Broken)
	}
	(&Phase{Name: "x"}).compare(r, map[string]found{"A": one(1), "B": one(2)}, []string{"windows"})
	if len(r.Broken) != 1 || !strings.Contains(r.Broken[0], `"rows":2`) {
		t.Errorf("%q", r.Broken)
	}
}
