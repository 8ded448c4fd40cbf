package trial

import (
	"math"
	"slices"
	"time"
)

// Month is what "per month" means: 30 days.
const Month = 30 * 24 * time.Hour

// Totals are the figures of one configuration.
type Totals struct {
	PerMonth Rate // pages per machine per month
	// False pages are about no known fault; nil where no faults are known.
	False *Rate
	// Found of all Faults.
	Found, Faults int
	// Delays of those found: from a fault's beginning to its page; negative: before.
	Median, Worst time.Duration
	Causes        []Group
	Kinds         []Group
}

// Rate is a number of pages, and what it means per machine and month. Low and High hold the true rate in 19 of 20 cases (Byar's approximation of Poisson limits; Breslow
// and Day 1987, volume II).
type Rate struct {
	N               int
	Rate, Low, High float64
}

// Group counts pages of one cause, or faults of one kind.
type Group struct {
	Name   string
	Pages  int
	Faults int
	Found  int
	Median time.Duration
}

func rate(n int, observed time.Duration) Rate {
	months := max(observed.Hours()/Month.Hours(), 1e-9)
	x, low := float64(n), 0.0
	if n > 0 {
		low = x * math.Pow(1-1/(9*x)-1.96/(3*math.Sqrt(x)), 3)
	}
	y := x + 1
	high := y * math.Pow(1-1/(9*y)+1.96/(3*math.Sqrt(y)), 3)
	return Rate{N: n, Rate: x / months, Low: max(0, low) / months, High: high / months}
}

func totals(r *Result, trial int) Totals {
	t := r.Trials[trial]
	out := Totals{PerMonth: rate(len(t.Pages), r.Observed), Faults: len(r.Faults)}
	wrong := 0
	causes, kinds := map[string]*Group{}, map[string]*Group{}
	group := func(in map[string]*Group, name string) *Group {
		if in[name] == nil {
			in[name] = &Group{Name: name}
		}
		return in[name]
	}
	for _, p := range t.Pages {
		if p.Fault == nil {
			wrong++
		}
		group(causes, p.Cause).Pages++
	}
	if r.Labelled {
		f := rate(wrong, r.Observed)
		out.False = &f
	}
	var all []time.Duration
	delays := map[string][]time.Duration{}
	for _, f := range r.Faults {
		g := group(kinds, f.Kind)
		g.Faults++
		if d, ok := f.Delay(trial); ok {
			g.Found++
			out.Found++
			all, delays[f.Kind] = append(all, d), append(delays[f.Kind], d)
		}
	}
	out.Median = Median(all)
	if len(all) > 0 {
		out.Worst = slices.Max(all)
	}
	for name, g := range kinds {
		g.Median = Median(delays[name])
	}
	out.Causes, out.Kinds = sorted(causes), sorted(kinds)
	return out
}

func sorted(in map[string]*Group) []Group {
	var out []Group
	for _, g := range in {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// Median of a list that it sorts; 0 of none.
func Median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}
