package usage

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
	_ "time/tzdata" // for a machine that has no time zones

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage/usagetest"
)

type seeded struct {
	series Series
	truth  map[int]string
}

var began = time.Date(2026, 8, 3, 0, 0, 0, 0, time.UTC) // a Monday

const days = usagetest.Days

func generate(seed uint64) seeded {
	g := usagetest.Generate(seed)
	return seeded{Series{Start: began, Values: g.Values}, g.Truth}
}

// TestSeeded states precision and recall by day, over series that the rules were looked at with while they were made, and over others. TOCSIN_CHECKS_SERIES asks for more of each (make
// lake-checks), TOCSIN_CHECKS_OUT for a file with the figures.
func TestSeeded(t *testing.T) {
	series := 10
	if n, err := strconv.Atoi(os.Getenv("TOCSIN_CHECKS_SERIES")); err == nil {
		series = n
	}
	type line struct {
		Seeds     string                     `json:"seeds"`
		Severity  string                     `json:"severity"`
		Series    int                        `json:"series"`
		Precision float64                    `json:"precision"`
		Recall    float64                    `json:"recall"`
		Days      usagetest.Score            `json:"days"`
		Kinds     map[string]usagetest.Score `json:"kinds"`
	}
	var table []line
	for _, seeds := range []struct {
		name  string
		first uint64
	}{{"developed on", 1000}, {"fresh", 5_000_000}} {
		lines := []line{{Seeds: seeds.name, Severity: Warning}, {Seeds: seeds.name, Severity: Critical}}
		for i := range lines {
			lines[i].Series, lines[i].Kinds = series, map[string]usagetest.Score{}
		}
		for n := range series {
			g := generate(seeds.first + uint64(n))
			found := Check(g.series, began.AddDate(0, 0, usagetest.Learning), began.AddDate(0, 0, days), time.UTC, DefaultRules()).Findings
			for i := range lines {
				said := map[int]bool{}
				for _, f := range found {
					if f.Severity == Critical || f.Severity == lines[i].Severity {
						said[int(f.From.Sub(began).Hours()/24)] = true
					}
				}
				lines[i].Days.Add(g.truth, said)
				for d, kind := range g.truth {
					k := lines[i].Kinds[kind]
					k.Add(map[int]string{d: kind}, map[int]bool{d: said[d]})
					lines[i].Kinds[kind] = k
				}
			}
		}
		table = append(table, lines...)
	}
	for i := range table {
		l := &table[i]
		l.Precision, l.Recall = l.Days.Precision(), l.Days.Recall()
		t.Logf("%-12s %-8s and above: precision %.3f, recall %.3f: %+v of %d series; %+v", l.Seeds, l.Severity, l.Precision, l.Recall, l.Days, l.Series, l.Kinds)
		if least := map[string]float64{Warning: 0.8, Critical: 0.9}[l.Severity]; l.Precision < least {
			t.Errorf("%s, %s: precision below %v", l.Seeds, l.Severity, least)
		}
		if least := map[string]float64{Warning: 0.9, Critical: 0.85}[l.Severity]; l.Recall < least {
			t.Errorf("%s, %s: recall below %v", l.Seeds, l.Severity, least)
		}
	}
	if out := os.Getenv("TOCSIN_CHECKS_OUT"); out != "" {
		b, err := json.MarshalIndent(map[string]any{"seeded": table}, "", "  ")
		if err == nil {
			err = os.WriteFile(out, append(b, '\n'), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// Judging hour by hour and day by day, as it is done on schedule, finds what judging all at once does, but for runs of hours that are cut; and what comes later changes nothing.
func TestLaterFiguresChangeNothing(t *testing.T) {
	g := generate(7)
	end := began.AddDate(0, 0, 60)
	cut := Series{began, g.series.Values[:60*24]}
	a := Check(g.series, began, end, time.UTC, DefaultRules()).Findings
	b := Check(cut, began, end, time.UTC, DefaultRules()).Findings
	if len(a) != len(b) {
		t.Fatalf("%d and %d findings", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			t.Errorf("%+v, %+v", a[i], b[i])
		}
	}
}

// Whatever the figures, no finding is nonsense, and steady figures have none.
func TestAnyFigures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(rapid.Float64Range(-1e12, 1e12), rapid.Just(0.0), rapid.Just(math.NaN()), rapid.Float64Range(0, 10)), 0, 40*24).Draw(t, "values")
		from := began.Add(time.Duration(rapid.IntRange(-48, 24*40).Draw(t, "from")) * time.Hour)
		place := time.FixedZone("x", rapid.IntRange(-12, 12).Draw(t, "zone")*3600)
		for _, f := range Check(Series{began, values}, from, from.Add(72*time.Hour), place, DefaultRules()).Findings {
			if math.IsNaN(f.Z) || !f.From.Before(f.To) || f.From.Before(from.Truncate(time.Hour)) || f.Kind == Volume && math.Abs(f.Z) < 3-1e-9 {
				t.Fatalf("%+v", f)
			}
		}
	})
	steady := Series{began, make([]float64, 60*24)}
	for i := range steady.Values {
		steady.Values[i] = 5
	}
	if f := Check(steady, began, began.AddDate(0, 0, 60), time.UTC, DefaultRules()).Findings; len(f) > 0 {
		t.Error(f)
	}
}

// The clock's change is no anomaly: hours are those of the place.
func TestSummerTimeEnds(t *testing.T) {
	place, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	s := Series{began, make([]float64, days*24)}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range s.Values {
		h := began.Add(time.Duration(i) * time.Hour).In(place).Hour()
		if s.Values[i] = 10; h >= 8 && h < 17 {
			s.Values[i] = 200 * (1 + 0.05*r.NormFloat64())
		}
	}
	for _, f := range Check(s, began, began.AddDate(0, 0, days), place, DefaultRules()).Findings {
		if f.Severity != Info {
			t.Errorf("%+v", f)
		}
	}
}
