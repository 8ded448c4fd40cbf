package feature

import (
	"fmt"
	"math"
	"strconv"
)

// Names are the features' names, in their order.
func (f *Features) Names() []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, c := range f.Recipe.Categories {
		add("%s", c)
	}
	for _, name := range f.Recipe.Series {
		for s := range f.segments(name) {
			add("mean(%s/%d)", name, s)
			add("sd(%s/%d)", name, s)
			add("above(%s/%d)", name, s)
		}
		for _, what := range []string{"mean", "sd", "min", "max", "slope"} {
			add("%s(%s)", what, name)
		}
	}
	if f.Recipe.Entity == "" {
		for _, s := range f.Sensors {
			add("%s", s)
		}
		for _, c := range f.Recipe.Context {
			add("%s", c)
		}
		for _, p := range f.Recipe.Pairs {
			for i := range f.Sensors {
				for j := i + 1; j < len(f.Sensors); j++ {
					add("%s(%s,%s)", p, f.Sensors[i], f.Sensors[j])
				}
			}
		}
		if f.standardised() {
			for _, j := range f.Moving {
				add("z(%s)", f.Sensors[j])
			}
		}
		return out
	}
	add("age")
	followed := make([]string, 0, len(f.Moving))
	for _, j := range f.Moving {
		followed = append(followed, f.Sensors[j])
	}
	var slow []string
	for k := range f.Indices {
		slow = append(slow, "index"+strconv.Itoa(k))
	}
	for c := range f.Components {
		slow = append(slow, "component"+strconv.Itoa(c))
	}
	followed = append(followed, slow...)
	for _, span := range f.Recipe.Spans {
		for _, name := range followed {
			add("mean%d(%s)", span, name)
		}
	}
	for _, name := range followed {
		add("mean(%s)", name)
	}
	for _, name := range followed {
		add("change(%s)", name)
	}
	for _, span := range f.Recipe.Spans {
		for _, name := range slow {
			add("slope%d(%s)", 2*span, name)
		}
	}
	return out
}

func (f *Features) segments(series string) int { return min(f.Recipe.Segments, f.Length[series]) }

// course is what is remembered of an entity's rows.
type course struct {
	rows   int
	order  float64
	weight []float64   // by span, of the moving means
	means  [][]float64 // by span, by value followed
	sums   []float64   // by value followed, of all rows
	recent [][]float64 // the newest rows of the slow values; a ring
}

// Apply makes the features of each row, feature by feature. Rows of an entity must stand in order. Memory: four bytes for each feature and row, and what is remembered of each entity.
func (f *Features) Apply(t *Table) ([][]float32, error) {
	in, err := f.inputs(t)
	if err != nil {
		return nil, err
	}
	names := f.Names()
	out := make([][]float32, len(names))
	for i := range out {
		out[i] = make([]float32, t.Rows)
	}
	courses := map[string]*course{}
	row := make([]float64, 0, len(names))
	for i := range t.Rows {
		row = f.still(row[:0], in, i)
		if f.Recipe.Entity != "" {
			c := courses[in.entity[i]]
			if c == nil {
				if len(courses) == maxEntities {
					return nil, &Error{f.Recipe.Entity, "has more than a million names"}
				}
				c = f.newCourse()
				courses[in.entity[i]] = c
			}
			if in.order != nil {
				if c.rows > 0 && !(in.order[i] > c.order) {
					return nil, &Error{f.Recipe.Order, fmt.Sprintf("row %d of %q does not follow the one before", i+1, in.entity[i])}
				}
				c.order = in.order[i]
			}
			row = f.follow(row, c, in, i)
		}
		for k, v := range row {
			out[k][i] = finite(v)
		}
	}
	return out, nil
}

// finite keeps a value inside of float32; NaN stays what it is: missing.
func finite(v float64) float32 {
	return float32(max(-math.MaxFloat32, min(v, math.MaxFloat32)))
}

// still appends what depends on the row alone.
func (f *Features) still(dst []float64, in *inputs, i int) []float64 {
	for _, c := range in.categories {
		dst = append(dst, c[i])
	}
	for s, name := range f.Recipe.Series {
		dst = shape(dst, in.series[s], i, f.segments(name))
	}
	if f.Recipe.Entity != "" {
		return dst
	}
	for _, c := range in.sensors {
		dst = append(dst, c[i])
	}
	for _, c := range in.context {
		dst = append(dst, c[i])
	}
	for _, p := range f.Recipe.Pairs {
		for a := range in.sensors {
			for b := a + 1; b < len(in.sensors); b++ {
				x, y := in.sensors[a][i], in.sensors[b][i]
				switch p {
				case "product":
					x *= y
				case "difference":
					x -= y
				default:
					if x /= y; math.IsInf(x, 0) {
						x = math.NaN()
					}
				}
				dst = append(dst, x)
			}
		}
	}
	if f.standardised() {
		dst = f.standardise(dst, in, i, f.Regimes.of(in.context, i))
	}
	return dst
}

// shape appends what a course in one row looks like: level and spread of its segments, beside those of the whole.
func shape(dst []float64, series [][]float64, i, segments int) []float64 {
	n := len(series)
	low, high := math.Inf(1), math.Inf(-1)
	mean, sd := moments(series, i)
	slope, square := 0.0, 0.0
	for k, c := range series {
		v, x := c[i], float64(k)-float64(n-1)/2
		low, high = min(low, v), max(high, v)
		slope += x * v
		square += x * x
	}
	for s := range segments {
		m, d := moments(series[s*n/segments:(s+1)*n/segments], i)
		dst = append(dst, m, d, m-mean)
	}
	return append(dst, mean, sd, low, high, slope/square)
}

func moments(series [][]float64, i int) (mean, sd float64) {
	for k, c := range series {
		mean += (c[i] - mean) / float64(k+1)
	}
	for _, c := range series {
		sd += (c[i] - mean) * (c[i] - mean)
	}
	return mean, math.Sqrt(sd / float64(len(series)))
}

func (f *Features) newCourse() *course {
	followed, slow := len(f.Moving)+len(f.Indices)+len(f.Components), len(f.Indices)+len(f.Components)
	c := &course{weight: make([]float64, len(f.Recipe.Spans)), sums: make([]float64, followed)}
	for range f.Recipe.Spans {
		c.means = append(c.means, make([]float64, followed))
	}
	if slow > 0 {
		c.recent = make([][]float64, 2*f.Recipe.Spans[len(f.Recipe.Spans)-1])
	}
	return c
}

// follow takes the row into the course and appends what the course has come to.
func (f *Features) follow(dst []float64, c *course, in *inputs, i int) []float64 {
	regime := f.Regimes.of(in.context, i)
	z := f.standardise(make([]float64, 0, len(c.sums)), in, i, regime)
	sensors := z
	for _, byRegime := range f.Indices {
		z = append(z, byRegime[regime].of(sensors))
	}
	for k := range f.Components {
		z = append(z, f.Components[k].of(sensors))
	}
	c.rows++
	dst = append(dst, float64(c.rows))
	for s, span := range f.Recipe.Spans {
		// An exponentially weighted mean that is a plain mean at the beginning.
		a := 2 / (float64(span) + 1)
		c.weight[s] = c.weight[s]*(1-a) + a
		step := a / c.weight[s]
		for k, v := range z {
			c.means[s][k] += step * (v - c.means[s][k])
			dst = append(dst, c.means[s][k])
		}
	}
	for k, v := range z {
		c.sums[k] += v
		dst = append(dst, c.sums[k]/float64(c.rows))
	}
	first, last := c.means[0], c.means[len(c.means)-1]
	for k := range z {
		dst = append(dst, first[k]-last[k])
	}
	if slow := z[len(sensors):]; len(slow) > 0 {
		c.recent[(c.rows-1)%len(c.recent)] = slow
		for _, span := range f.Recipe.Spans {
			dst = c.slopes(dst, 2*span, len(slow))
		}
	}
	return dst
}

// slopes appends the least-squares slopes over the newest rows, 0 while there are few.
func (c *course) slopes(dst []float64, window, values int) []float64 {
	const least = 8
	n := min(window, c.rows)
	start := len(dst)
	for range values {
		dst = append(dst, 0)
	}
	if n < least {
		return dst
	}
	square := 0.0
	for k := range n {
		x := float64(k) - float64(n-1)/2
		square += x * x
		row := c.recent[(c.rows-n+k)%len(c.recent)]
		for j, v := range row {
			dst[start+j] += x * v
		}
	}
	for j := range values {
		dst[start+j] /= square
	}
	return dst
}
