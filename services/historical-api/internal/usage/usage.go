// Package usage finds what is unusual in hourly figures of people's and machines' weeks: how much (volume) and when (shape). It is given the figures and the time; it reads neither.
//
// Volume: an hour is held against the same hour of the same weekday of the last 30 days. Those are four values, too few for a deviation of their own; so it is drawn
// towards that of all weekdays' residuals at that hour of the day (an empirical Bayes estimate), and z is a prediction's: the mean's own uncertainty counts. Hours that stand out
// of the baseline itself do not count in it, or an anomaly would hide its repetition.
//
// A day's sum is held against the same weekday's sums in the same way, where its hours have said nothing.
//
// Shape: a day is a vector of its 24 hours, held against the mean vector of the same weekday by the cosine of the two; how near days are usually is learned from
// the days of the baseline, each held against the others. It does not see how much a day has, volume does not see that the same amount came at night.
package usage

import (
	"math"
	"slices"
	"time"
)

// Rules of the check.
type Rules struct {
	Days     int     // of the baseline
	Weeks    int     // fewest earlier weekdays to judge by
	Z        float64 // an hour stands out from here on
	Warning  float64 // of hours that stand out together
	Critical float64
	// Of a day's shape: how far its distance lies beyond the usual, in deviations of its logarithm, and the least distance that is of any account.
	ShapeWarning, ShapeCritical, ShapeLeast float64
	// Off are days that are neither judged nor learned from (holidays, stocktaking), by the place's date.
	Off map[Date]bool
}

// Date of a place's calendar.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

func date(t time.Time) Date {
	y, m, d := t.Date()
	return Date{y, m, d}
}

// DefaultRules are what the service ships with.
func DefaultRules() Rules {
	return Rules{Days: 30, Weeks: 3, Z: 3, Warning: 5.5, Critical: 7, ShapeWarning: 4, ShapeCritical: 5.5, ShapeLeast: 0.005}
}

// Kinds of findings, and severities.
const (
	Volume   = "volume"
	Shape    = "shape"
	Info     = "info"
	Warning  = "warning"
	Critical = "critical"
)

// Finding is something unusual.
type Finding struct {
	Kind     string    `json:"kind"`
	Severity string    `json:"severity"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	// How far from the usual, in standard deviations; of several hours together.
	Z float64 `json:"z"`
	// Sums over the hours, of volume. Deviation is one standard deviation of the sum.
	Observed  float64 `json:"observed,omitempty"`
	Expected  float64 `json:"expected,omitempty"`
	Deviation float64 `json:"deviation,omitempty"`
	// Cosine to the usual day, of shape, and what it usually is.
	Similarity float64 `json:"similarity,omitempty"`
	Usual      float64 `json:"usual,omitempty"`
	// Fewest earlier weekdays that it was judged by.
	Weeks int `json:"weeks"`
}

// Result of a check: what is unusual, and of how many hours that could be said.
type Result struct {
	Findings []Finding
	Judged   int // hours
	Missing  int // hours without a figure
	Short    int // hours with a figure, without enough history to judge it by
	Off      int // hours of days that are not judged
}

// Series is hourly figures. Value i is of the hour that begins i hours after Start; NaN: there is none.
type Series struct {
	Start  time.Time
	Values []float64
}

func (s Series) at(t time.Time) float64 {
	d := t.Sub(s.Start)
	if d < 0 || d%time.Hour != 0 || int(d/time.Hour) >= len(s.Values) {
		return math.NaN()
	}
	return s.Values[d/time.Hour]
}

// Check judges the hours of [from, to) and the whole days in it, in the place's own time. Findings come in the order of their times. Hours without a figure are not
// judged; who counts must put zeros where nothing was counted. Cost: about 4 us an hour.
func Check(s Series, from, to time.Time, place *time.Location, r Rules) Result {
	return New(s, place, r).Check(from, to)
}

// Checker judges parts of one series; what it has judged once it remembers, so overlapping parts cost little more than their union. Not safe for concurrent use.
type Checker struct {
	series Series
	place  *time.Location
	rules  Rules
	hours  map[int64]hour      // by Unix time
	days   map[int64]judgedDay // by Unix time of their beginning
}

type judgedDay struct {
	shape, total       Finding
	hasShape, hasTotal bool
}

// New judges s, whose figures must not change any more.
func New(s Series, place *time.Location, r Rules) *Checker {
	return &Checker{series: s, place: place, rules: r, hours: map[int64]hour{}, days: map[int64]judgedDay{}}
}

// Check is as the function of the same name. No figure of to or later counts.
func (c *Checker) Check(from, to time.Time) Result {
	out := c.volume(from, to)
	day := midnight(from.In(c.place))
	if day.Before(from) {
		day = next(day)
	}
	for ; !next(day).After(to); day = next(day) {
		d, ok := c.days[day.Unix()]
		if !ok {
			d.shape, d.hasShape = c.shape(day)
			d.total, d.hasTotal = c.total(day)
			c.days[day.Unix()] = d
		}
		if d.hasShape {
			out.Findings = append(out.Findings, d.shape)
		}
		if d.hasTotal && !slices.ContainsFunc(out.Findings, d.total.within) {
			out.Findings = append(out.Findings, d.total)
		}
	}
	slices.SortStableFunc(out.Findings, func(a, b Finding) int { return a.From.Compare(b.From) })
	return out
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
}

func next(day time.Time) time.Time {
	return time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, day.Location())
}

// same is the hour of t, days earlier, by the wall clock there.
func (c *Checker) same(t time.Time, days int) time.Time {
	l := t.In(c.place)
	return time.Date(l.Year(), l.Month(), l.Day()-days, l.Hour(), l.Minute(), 0, 0, c.place)
}

// hour is what is usual at an hour.
type hour struct {
	mean, deviation float64 // of one new value
	weeks           int
}

// priorWeight is how many values the residuals of all weekdays are worth beside the weekday's own.
const priorWeight = 10

// outlying residuals are not learned from.
const outlying = 8

// usual is learned from the days before t's.
func (c *Checker) usual(t time.Time) hour {
	h, ok := c.hours[t.Unix()]
	if !ok {
		h = c.learn(t)
		c.hours[t.Unix()] = h
	}
	return h
}

func (c *Checker) learn(t time.Time) hour {
	bySlot := make([][]float64, 7)
	for d := 1; d <= c.rules.Days; d++ {
		if then := c.same(t, d); c.rules.Off[date(then)] {
			continue
		} else if v := c.series.at(then); !math.IsNaN(v) {
			bySlot[d%7] = append(bySlot[d%7], v)
		}
	}
	return estimate(bySlot)
}

// estimate is what is usual of the first slot, learned from all.
func estimate(bySlot [][]float64) hour {
	// What stands out among all residuals from their slots' medians does not count.
	var residuals []float64
	for _, vs := range bySlot {
		m := median(vs)
		for _, v := range vs {
			residuals = append(residuals, math.Abs(v-m))
		}
	}
	limit := outlying * 1.4826 * median(residuals)
	level := math.Abs(median(bySlot[0]))
	pool, freedom := 0.0, 0
	var own []float64
	for slot, vs := range bySlot {
		m := median(vs)
		kept := slices.DeleteFunc(slices.Clone(vs), func(v float64) bool { return limit > 0 && math.Abs(v-m) > limit })
		if slot == 0 {
			own = kept
		}
		if len(kept) > 1 {
			_, square := moments(kept)
			// Large figures vary more: between counts, whose variance grows as the mean, and shares, whose variance grows as its square.
			scale := 1.0
			if a := math.Abs(m); a > 0 && level > 0 {
				scale = math.Pow(min(16, max(1./16, level/a)), 1.5)
			}
			pool, freedom = pool+square*scale, freedom+len(kept)-1
		}
	}
	h := hour{weeks: len(own)}
	if len(own) == 0 || freedom == 0 {
		return h
	}
	mean, square := moments(own)
	variance := (priorWeight*pool/float64(freedom) + square) / float64(priorWeight+len(own)-1)
	// Figures that never vary would make anything infinitely unlikely.
	least := 0.02*math.Abs(mean) + 1e-9
	h.mean, h.deviation = mean, math.Sqrt(max(variance, least*least)*(1+1/float64(len(own))))
	return h
}

// moments are the mean and the sum of squares around it.
func moments(vs []float64) (mean, square float64) {
	for _, v := range vs {
		mean += v
	}
	mean /= float64(len(vs))
	for _, v := range vs {
		square += (v - mean) * (v - mean)
	}
	return mean, square
}

func median(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(vs))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// volume joins hours in a row that stand out in the same direction. Together they weigh as the sum of their z over the root of their number (Stouffer).
func (c *Checker) volume(from, to time.Time) Result {
	var out Result
	var run Finding
	var z, variance float64
	hours := 0
	end := func() {
		if hours == 0 {
			return
		}
		run.Z, run.Deviation = z/math.Sqrt(float64(hours)), math.Sqrt(variance)
		switch a := math.Abs(run.Z); {
		case a >= c.rules.Critical:
			run.Severity = Critical
		case a >= c.rules.Warning:
			run.Severity = Warning
		default:
			run.Severity = Info
		}
		out.Findings = append(out.Findings, run)
		hours = 0
	}
	for t := from.Truncate(time.Hour); t.Before(to); t = t.Add(time.Hour) {
		if t.Before(from) {
			continue
		}
		v := c.series.at(t)
		var h hour
		switch {
		case c.rules.Off[date(t.In(c.place))]:
			out.Off++
		case math.IsNaN(v):
			out.Missing++
		default:
			if h = c.usual(t); h.weeks >= c.rules.Weeks && h.deviation > 0 {
				out.Judged++
			} else {
				out.Short++
				h.deviation = 0
			}
		}
		if h.deviation == 0 {
			end()
			continue
		}
		one := (v - h.mean) / h.deviation
		if math.Abs(one) < c.rules.Z {
			end()
			continue
		}
		if hours > 0 && one*z < 0 {
			end()
		}
		if hours == 0 {
			run, z, variance = Finding{Kind: Volume, From: t.UTC(), Weeks: h.weeks}, 0, 0
		}
		hours++
		run.Weeks = min(run.Weeks, h.weeks)
		z, variance = z+one, variance+h.deviation*h.deviation
		run.To, run.Observed, run.Expected = t.Add(time.Hour).UTC(), run.Observed+v, run.Expected+h.mean
	}
	end()
	return out
}

// day is the figures of a local day by the hours of the clock; an hour that comes twice (the end of summer time) counts by its mean, one that does not come by its neighbours'.
// ok is false when more than two are missing.
func (c *Checker) day(day time.Time) (v [24]float64, ok bool) {
	var n [24]int
	for t := day; t.Before(next(day)); t = t.Add(time.Hour) {
		if x := c.series.at(t); !math.IsNaN(x) {
			h := t.In(c.place).Hour()
			v[h] += x
			n[h]++
		}
	}
	missing := 0
	for h := range v {
		if n[h] > 0 {
			v[h] /= float64(n[h])
		} else {
			missing++
		}
	}
	for h := range v {
		if n[h] == 0 {
			v[h] = (v[(h+23)%24] + v[(h+1)%24]) / 2
		}
	}
	return v, missing <= 2
}

// within tells whether hours of f are found to have too much, or too little, as the whole of it has.
func (f Finding) within(hours Finding) bool {
	return hours.Kind == Volume && hours.Severity != Info && hours.Z*f.Z > 0 && hours.From.Before(f.To) && f.From.Before(hours.To)
}

// total judges how much a day has in all: half of the usual all day long may be nothing much in any of its hours.
func (c *Checker) total(day time.Time) (Finding, bool) {
	today, ok := c.sum(day)
	if !ok {
		return Finding{}, false
	}
	bySlot := make([][]float64, 7)
	for d := 1; d <= c.rules.Days; d++ {
		if v, ok := c.sum(c.same(day, d)); ok {
			bySlot[d%7] = append(bySlot[d%7], v)
		}
	}
	usual := estimate(bySlot)
	if usual.weeks < c.rules.Weeks || usual.deviation == 0 {
		return Finding{}, false
	}
	f := Finding{
		Kind: Volume, Severity: Warning, From: day.UTC(), To: next(day).UTC(), Z: (today - usual.mean) / usual.deviation, Observed: today, Expected: usual.mean, Deviation: usual.deviation,
		Weeks: usual.weeks,
	}
	if math.Abs(f.Z) >= c.rules.Critical {
		f.Severity = Critical
	}
	return f, math.Abs(f.Z) >= c.rules.Warning
}

// sum of a day's figures; false when too many are missing, or the day is off.
func (c *Checker) sum(day time.Time) (float64, bool) {
	v, ok := c.day(day)
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum, ok && !c.rules.Off[date(day)]
}

// shape judges a day; false: it is as usual, or cannot be told.
func (c *Checker) shape(day time.Time) (Finding, bool) {
	today, ok := c.day(day)
	if !ok || c.rules.Off[date(day)] {
		return Finding{}, false
	}
	var bySlot [7][][24]float64
	for d := 1; d <= c.rules.Days; d++ {
		then := c.same(day, d)
		if v, ok := c.day(then); ok && !c.rules.Off[date(then)] {
			bySlot[d%7] = append(bySlot[d%7], v)
		}
	}
	if len(bySlot[0]) < c.rules.Weeks {
		return Finding{}, false
	}
	var usual []float64 // logarithms of distances
	for _, days := range bySlot {
		for i := range days {
			if others := slices.Delete(slices.Clone(days), i, i+1); len(others) >= 2 {
				usual = append(usual, math.Log(distance(days[i], typical(others))))
			}
		}
	}
	if len(usual) < 7 {
		return Finding{}, false
	}
	centre := median(usual)
	var spread []float64
	for _, u := range usual {
		spread = append(spread, math.Abs(u-centre))
	}
	// Of thirty distances the spread is known to a tenth or so; less than a factor of 1.3 is never usual.
	deviation := max(1.4826*median(spread), math.Log(1.3))
	d := distance(today, typical(bySlot[0]))
	z := (math.Log(d) - centre) / deviation
	if z < c.rules.ShapeWarning || d < c.rules.ShapeLeast {
		return Finding{}, false
	}
	f := Finding{Kind: Shape, Severity: Warning, From: day.UTC(), To: next(day).UTC(), Z: z, Similarity: 1 - d, Usual: 1 - math.Exp(centre), Weeks: len(bySlot[0])}
	if z >= c.rules.ShapeCritical {
		f.Severity = Critical
	}
	return f, true
}

// typical is the median of each hour: one odd day among four must not be the measure.
func typical(days [][24]float64) (m [24]float64) {
	column := make([]float64, len(days))
	for h := range m {
		for i := range days {
			column[i] = days[i][h]
		}
		m[h] = median(column)
	}
	return m
}

// distance is 1 - cosine, in (0, 2].
func distance(a, b [24]float64) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += a[i] * b[i]
		aa += a[i] * a[i]
		bb += b[i] * b[i]
	}
	const least = 1e-12
	if aa == 0 || bb == 0 {
		if aa == bb {
			return least
		}
		return 1
	}
	return max(least, 1-ab/math.Sqrt(aa*bb))
}

// Any tells whether there is a figure of [from, to).
func (c *Checker) Any(from, to time.Time) bool {
	for t := from; t.Before(to); t = t.Add(time.Hour) {
		if !math.IsNaN(c.series.at(t)) {
			return true
		}
	}
	return false
}
