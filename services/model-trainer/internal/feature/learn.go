package feature

import (
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/gonum/mat"
)

// Target is what is to be learned: one value for each row; for classes one column of 0 and 1 for each class but the first.
type Target [][]float64

// NumberTarget follows a number as a whole, and its lowest quarter once more: there it matters most, and there sensors often move otherwise.
func NumberTarget(y []float64) Target {
	sorted := slices.Clone(y)
	slices.Sort(sorted)
	low := make([]float64, len(y))
	quarter := 0.0
	if len(sorted) > 0 {
		quarter = sorted[len(sorted)/4]
	}
	for i, v := range y {
		if v <= quarter {
			low[i] = 1
		}
	}
	return Target{y, low}
}

// ClassTarget has a column for each class; for two classes one.
func ClassTarget(class []int, classes int) Target {
	var t Target
	for k := range classes {
		if classes == 2 && k == 0 {
			continue
		}
		c := make([]float64, len(class))
		for i, v := range class {
			if v == k {
				c[i] = 1
			}
		}
		t = append(t, c)
	}
	return t
}

// scale is what is usual of a sensor in a regime; Per 0: it does not move there.
type scale struct {
	Mean float64 `json:"mean"`
	Per  float64 `json:"per"` // 1/deviation
}

// linear is a weighted sum of standardised sensors.
type linear struct {
	Weights []float64 `json:"weights"`
	Offset  float64   `json:"offset"`
}

// Features is what was learned of a table: it makes rows of features. Any number of goroutines may use it at once. Its exported fields are for encoding only.
type Features struct {
	Recipe     Recipe              `json:"recipe"`
	Sensors    []string            `json:"sensors"`
	Moving     []int               `json:"moving,omitempty"` // sensors that are not constant everywhere
	Categories map[string][]string `json:"categories,omitempty"`
	Length     map[string]int      `json:"length,omitempty"` // of each series
	Regimes    regimes             `json:"regimes"`
	Scales     [][]scale           `json:"scales,omitempty"`     // by regime, by moving sensor
	Indices    [][]linear          `json:"indices,omitempty"`    // by target, by regime
	Components []linear            `json:"components,omitempty"` // of all regimes
}

const clip = 8 // deviations: what is further off says no more than that it is far off

// Learn finds regimes, scales, indices and components in training rows. target names the column that must not be used.
func Learn(r Recipe, t *Table, target string, y Target) (*Features, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	r = r.withDefaults()
	f := &Features{Recipe: r, Sensors: r.sensors(t, target), Categories: map[string][]string{}, Length: map[string]int{}}
	for _, name := range r.Categories {
		texts, err := t.texts(name)
		if err != nil {
			return nil, err
		}
		names := slices.Clone(texts)
		slices.Sort(names)
		if names = slices.Compact(names); len(names) > 1000 {
			return nil, &Error{name, "has more than 1000 names"}
		}
		f.Categories[name] = names
	}
	if err := f.lengths(t); err != nil {
		return nil, err
	}
	in, err := f.inputs(t)
	if err != nil {
		return nil, err
	}
	if len(r.Pairs) > 0 && len(f.Sensors) > maxPaired {
		return nil, &Error{f.Sensors[maxPaired], "pairs are made of 64 columns at most"}
	}
	f.Regimes.learn(in.context, r.Context, t.Rows)
	if f.standardised() {
		f.learnScales(in)
		if f.Recipe.Entity != "" && len(f.Moving) <= maxIndexed {
			f.learnIndices(in, y)
			f.learnComponents(in)
		}
	}
	if n := len(f.Names()); n == 0 || n > maxFeatures {
		return nil, &Error{target, "no column is left to learn from, or more than 20,000 features would be made: " + strconv.Itoa(n)}
	}
	return f, nil
}

// standardised tells whether sensors are held against what is usual under their load.
func (f *Features) standardised() bool { return f.Recipe.Entity != "" || len(f.Recipe.Context) > 0 }

func (f *Features) lengths(t *Table) error {
	for _, name := range f.Recipe.Series {
		n := 0
		for n < MaxColumns {
			if !slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Name == name+"."+strconv.Itoa(n) }) {
				break
			}
			n++
		}
		if n < 2 {
			return &Error{name + ".1", "is missing: a series has at least two columns"}
		}
		f.Length[name] = n
	}
	return nil
}

// inputs are a table's columns where they are needed.
type inputs struct {
	rows       int
	entity     []string
	order      []float64
	context    [][]float64
	sensors    [][]float64
	categories [][]float64 // number of the name; NaN for one that is not known
	series     [][][]float64
}

func (f *Features) inputs(t *Table) (*inputs, error) {
	in := &inputs{rows: t.Rows}
	var err error
	get := func(name string) []float64 {
		if err != nil {
			return nil
		}
		var c []float64
		c, err = t.numbers(name)
		return c
	}
	for _, name := range f.Recipe.Context {
		in.context = append(in.context, get(name))
	}
	for _, name := range f.Sensors {
		in.sensors = append(in.sensors, get(name))
	}
	for _, name := range f.Recipe.Series {
		var s [][]float64
		for i := range f.Length[name] {
			s = append(s, get(name+"."+strconv.Itoa(i)))
		}
		in.series = append(in.series, s)
	}
	if f.Recipe.Order != "" {
		in.order = get(f.Recipe.Order)
	}
	if err != nil {
		return nil, err
	}
	if f.Recipe.Entity != "" {
		if in.entity, err = t.texts(f.Recipe.Entity); err != nil {
			return nil, err
		}
	}
	for _, name := range f.Recipe.Categories {
		texts, err := t.texts(name)
		if err != nil {
			return nil, err
		}
		codes := make([]float64, t.Rows)
		for i, text := range texts {
			at, ok := slices.BinarySearch(f.Categories[name], text)
			if codes[i] = float64(at); !ok {
				codes[i] = math.NaN()
			}
		}
		in.categories = append(in.categories, codes)
	}
	return in, nil
}

// learnScales finds mean and deviation of each sensor in each regime; where a regime is none of those known, those of all rows.
func (f *Features) learnScales(in *inputs) {
	many := f.Regimes.many()
	type sums struct{ n, mean, m2 float64 }
	add := func(s *sums, v float64) {
		s.n++
		d := v - s.mean
		s.mean += d / s.n
		s.m2 += d * (v - s.mean)
	}
	regime := make([]int, in.rows)
	for i := range regime {
		regime[i] = f.Regimes.of(in.context, i)
	}
	all := make([][]scale, many)
	moves := make([]bool, len(f.Sensors))
	for j, column := range in.sensors {
		by, whole := make([]sums, many), sums{}
		for i, v := range column {
			if !math.IsNaN(v) {
				add(&by[regime[i]], v)
				add(&whole, v)
			}
		}
		by[many-1] = whole
		for g, s := range by {
			e := scale{Mean: s.mean}
			if s.n > 1 {
				if d := math.Sqrt(s.m2 / s.n); d > 1e-9+1e-6*math.Abs(s.mean) {
					e.Per, moves[j] = 1/d, true
				}
			}
			all[g] = append(all[g], e)
		}
	}
	for j, m := range moves {
		if m {
			f.Moving = append(f.Moving, j)
		}
	}
	for _, row := range all {
		var kept []scale
		for _, j := range f.Moving {
			kept = append(kept, row[j])
		}
		f.Scales = append(f.Scales, kept)
	}
}

// standardise appends a row's moving sensors in deviations from what is usual in its regime.
func (f *Features) standardise(dst []float64, in *inputs, row, regime int) []float64 {
	for k, j := range f.Moving {
		s, v := f.Scales[regime][k], in.sensors[j][row]
		z := 0.0
		if !math.IsNaN(v) {
			z = max(-clip, min((v-s.Mean)*s.Per, clip))
		}
		dst = append(dst, z)
	}
	return dst
}

const ridge = 10 // rows' worth of belief that a weight is 0

// learnIndices fits, for each target and regime, the weighted sum of sensors that follows it best: ridge regression (Hoerl and Kennard 1970). One number with little noise, whose course says more than those of all sensors.
func (f *Features) learnIndices(in *inputs, y Target) {
	d, many := len(f.Moving), f.Regimes.many()
	if d == 0 {
		return
	}
	regime := make([]int, in.rows)
	count := make([]int, many)
	for i := range regime {
		regime[i] = f.Regimes.of(in.context, i)
		count[regime[i]]++
	}
	f.Indices = make([][]linear, len(y))
	for g := range many {
		whole := g == many-1 || count[g] < 50+3*d // of all rows, where a regime has too few
		gram := mat.NewSymDense(d, nil)
		mean, n := make([]float64, d), 0.0
		targets, cross := make([]float64, len(y)), make([][]float64, len(y))
		for k := range cross {
			cross[k] = make([]float64, d)
		}
		var z []float64
		each := func(visit func(i int)) {
			for i, r := range regime {
				if whole || r == g {
					z = f.standardise(z[:0], in, i, r)
					visit(i)
				}
			}
		}
		each(func(i int) {
			n++
			for j, v := range z {
				mean[j] += (v - mean[j]) / n
			}
			for k := range y {
				targets[k] += (y[k][i] - targets[k]) / n
			}
		})
		sums := make([]float64, d*d)
		each(func(i int) {
			for a := range z {
				z[a] -= mean[a]
			}
			for a, v := range z {
				row := sums[a*d : a*d+d]
				for b := a; b < d; b++ {
					row[b] += v * z[b]
				}
				for k := range y {
					cross[k][a] += v * (y[k][i] - targets[k])
				}
			}
		})
		for a := range d {
			for b := a; b < d; b++ {
				gram.SetSym(a, b, sums[a*d+b])
			}
			gram.SetSym(a, a, sums[a*d+a]+ridge)
		}
		var chol mat.Cholesky
		ok := chol.Factorize(gram)
		for k := range y {
			l := linear{Weights: make([]float64, d)}
			w := mat.NewVecDense(d, nil)
			if ok && chol.SolveVecTo(w, mat.NewVecDense(d, cross[k])) == nil {
				for a := range d {
					if v := w.AtVec(a); !math.IsNaN(v) && !math.IsInf(v, 0) {
						l.Weights[a] = v
						l.Offset -= v * mean[a]
					}
				}
			}
			f.Indices[k] = append(f.Indices[k], l)
		}
	}
}

// learnComponents finds the directions in which the sensors move together (Pearson 1901).
func (f *Features) learnComponents(in *inputs) {
	d := len(f.Moving)
	many := min(f.Recipe.Components, d)
	if many < 1 {
		return
	}
	mean, sums, n := make([]float64, d), make([]float64, d*d), 0.0
	var z []float64
	for i := range in.rows {
		z = f.standardise(z[:0], in, i, f.Regimes.of(in.context, i))
		n++
		for j, v := range z {
			mean[j] += (v - mean[j]) / n
		}
	}
	for i := range in.rows {
		z = f.standardise(z[:0], in, i, f.Regimes.of(in.context, i))
		for a := range z {
			z[a] -= mean[a]
		}
		for a, v := range z {
			for b := a; b < d; b++ {
				sums[a*d+b] += v * z[b]
			}
		}
	}
	cov := mat.NewSymDense(d, nil)
	for a := range d {
		for b := a; b < d; b++ {
			cov.SetSym(a, b, sums[a*d+b]/n)
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(cov, true) {
		return
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	for c := range many {
		l := linear{Weights: make([]float64, d)}
		sign, most := 1.0, 0.0
		for a := range d {
			v := vectors.At(a, d-1-c) // eigenvalues rise
			if math.Abs(v) > most {
				most, sign = math.Abs(v), math.Copysign(1, v)
			}
			l.Weights[a] = v
		}
		for a := range l.Weights {
			l.Weights[a] *= sign // the largest weight is positive: the sign has no meaning of its own
			l.Offset -= l.Weights[a] * mean[a]
		}
		f.Components = append(f.Components, l)
	}
}

func (l *linear) of(z []float64) float64 {
	v := l.Offset
	for i, w := range l.Weights {
		v += w * z[i]
	}
	return v
}
