package usage

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

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

// TestSeeded states precision and recall by day over series that no rule was fitted to (their seeds lie elsewhere than those looked at while the rules were made).
func TestSeeded(t *testing.T) {
	const series = 25
	type count struct{ found, missed, wrong int }
	at := map[string]*count{Warning: {}, Critical: {}}
	kinds := map[string]*count{}
	for seed := range uint64(series) {
		g := generate(2_000_000 + seed)
		found := map[int]string{}
		for _, f := range Check(g.series, began, began.AddDate(0, 0, days), time.UTC, DefaultRules()).Findings {
			if d := int(f.From.Sub(began).Hours() / 24); f.Severity == Critical || f.Severity == Warning && found[d] == "" {
				found[d] = f.Severity
			}
		}
		for d, kind := range g.truth {
			if kinds[kind] == nil {
				kinds[kind] = &count{}
			}
			switch found[d] {
			case "":
				kinds[kind].missed++
				at[Warning].missed++
				at[Critical].missed++
			case Warning:
				kinds[kind].found++
				at[Warning].found++
				at[Critical].missed++
			case Critical:
				kinds[kind].found++
				at[Warning].found++
				at[Critical].found++
			}
		}
		for d, severity := range found {
			if g.truth[d] == "" {
				at[Warning].wrong++
				if severity == Critical {
					at[Critical].wrong++
				}
			}
		}
	}
	for severity, c := range at {
		precision, recall := float64(c.found)/float64(c.found+c.wrong), float64(c.found)/float64(c.found+c.missed)
		t.Logf("%s and above: precision %.3f, recall %.3f (%d found, %d missed, %d wrong in %d series of %d days)", severity, precision, recall, c.found, c.missed, c.wrong, series, days)
		if least := map[string]float64{Warning: 0.8, Critical: 0.9}[severity]; precision < least {
			t.Errorf("%s: precision below %v", severity, least)
		}
		if least := map[string]float64{Warning: 0.9, Critical: 0.8}[severity]; recall < least {
			t.Errorf("%s: recall below %v", severity, least)
		}
	}
	for kind, c := range kinds {
		t.Logf("%-8s %d of %d found", kind, c.found, c.found+c.missed)
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
		t.Skip("NOT TESTED: no time zones here")
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
