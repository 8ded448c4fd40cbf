package supervised

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/gbdt"
)

// folds says in which fold each row is held out: rows of a group together, groups dealt out at random; without groups rows of each class apart, so that each fold has its share of a rare one.
func (p *problem) folds(t *feature.Table) ([]int, error) {
	r := rand.New(rand.NewPCG(p.spec.Boost.Seed, 0xf01d))
	out := make([]int, t.Rows)
	group := p.spec.Group
	if group == "" {
		group = p.spec.Recipe.Entity
	}
	if group == "" {
		for k := range max(1, len(p.classes)) {
			var at []int
			for i := range out {
				if p.class == nil || p.class[i] == k {
					at = append(at, i)
				}
			}
			r.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
			for i, row := range at {
				out[row] = i % p.spec.Folds
			}
		}
		return out, nil
	}
	i := slices.IndexFunc(t.Columns, func(c feature.Column) bool { return c.Name == group })
	if i < 0 || t.Columns[i].Texts == nil {
		return nil, &Error{group, "is missing, or holds no names"}
	}
	names := slices.Clone(t.Columns[i].Texts)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < p.spec.Folds {
		return nil, &Error{group, fmt.Sprintf("has %d names for %d folds", len(names), p.spec.Folds)}
	}
	of := make(map[string]int, len(names))
	for k, at := range r.Perm(len(names)) {
		of[names[at]] = k % p.spec.Folds
	}
	for row, name := range t.Columns[i].Texts {
		out[row] = of[name]
	}
	return out, nil
}

// validate learns from all folds but one and predicts that one, for each of them, and learns from the errors.
func (p *problem) validate(t *feature.Table, into *Predictor, done func(int)) error {
	fold, err := p.folds(t)
	if err != nil {
		return err
	}
	raw := make([][]float64, t.Rows)
	for k := range p.spec.Folds {
		var in, out []int
		for i, f := range fold {
			if f == k {
				out = append(out, i)
			} else {
				in = append(in, i)
			}
		}
		if len(out) == 0 {
			continue
		}
		f, m, err := p.fit(t, in)
		if err != nil {
			return fmt.Errorf("without fold %d: %w", k+1, err)
		}
		some, err := outputs(f, m, t.Pick(out))
		if err != nil {
			return err
		}
		for i, row := range out {
			raw[row] = some[i]
		}
		done(k + 1)
	}
	into.head.Quality = &Quality{Rows: t.Rows}
	if p.classes == nil {
		p.numbers(into, raw)
	} else {
		p.decide(into, raw)
	}
	return nil
}

// share of rows that an interval is to leave out on each side.
const tail = 0.05

// numbers learns how wide intervals are: quantiles of the errors of rows with about the same prediction (Mondrian conformal prediction, Vovk et al. 2005).
func (p *problem) numbers(into *Predictor, raw [][]float64) {
	const bands, least = 10, 40
	q := into.head.Quality
	order := make([]int, len(raw))
	for i := range order {
		order[i] = i
		d := p.y[i] - raw[i][0]
		q.RMSE += d * d
		q.MAE += math.Abs(d)
	}
	q.RMSE, q.MAE = math.Sqrt(q.RMSE/float64(len(raw))), q.MAE/float64(len(raw))
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case raw[a][0] < raw[b][0]:
			return -1
		case raw[a][0] > raw[b][0]:
			return 1
		}
		return 0
	})
	many := max(1, min(bands, len(order)/least))
	covered := 0
	for k := range many {
		rows := order[k*len(order)/many : (k+1)*len(order)/many]
		var errors []float64
		for _, i := range rows {
			errors = append(errors, p.y[i]-raw[i][0])
		}
		slices.Sort(errors)
		n := len(errors)
		// The conformal ranks, of n+1.
		low, high := max(0, int(tail*float64(n+1))-1), min(n-1, int(math.Ceil((1-tail)*float64(n+1)))-1)
		b := band{From: raw[rows[0]][0], Low: min(0, errors[low]), High: max(0, errors[high])}
		if k == 0 {
			b.From = -math.MaxFloat64
		}
		for _, e := range errors {
			if e >= b.Low && e <= b.High {
				covered++
			}
		}
		into.head.Bands = append(into.head.Bands, b)
	}
	q.Covered = float64(covered) / float64(len(raw))
}

// decide finds the probability from which the rarer of two classes is called, and counts.
func (p *problem) decide(into *Predictor, raw [][]float64) {
	q := into.head.Quality
	if len(p.classes) == 2 {
		ones := 0
		for _, c := range p.class {
			ones += c
		}
		if into.head.Rare = 1; 2*ones > len(p.class) {
			into.head.Rare = 0
		}
		into.head.Decide = 0.5
		best := -1.0
		const steps = 19 // coarse: a finer choice would be one of luck
		for s := 1; s <= steps; s++ {
			at := float64(s) / (steps + 1)
			f1 := p.f1(raw, into.head.Rare, at)
			// Of equal ones that nearest to a half.
			if f1 > best || f1 == best && math.Abs(at-0.5) < math.Abs(into.head.Decide-0.5) {
				if best = f1; p.spec.Objective == "f1" {
					into.head.Decide = at
				}
			}
		}
		q.F1 = p.f1(raw, into.head.Rare, into.head.Decide)
	}
	right := 0
	for i, r := range raw {
		if into.call(gbdt.Probabilities(nil, r)) == p.class[i] {
			right++
		}
	}
	q.Accuracy = float64(right) / float64(len(raw))
}

func (p *problem) f1(raw [][]float64, class int, from float64) float64 {
	hit, called, there := 0, 0, 0
	for i, r := range raw {
		is := p.class[i] == class
		says := gbdt.Probabilities(nil, r)[class] >= from
		if is {
			there++
		}
		if says {
			called++
		}
		if is && says {
			hit++
		}
	}
	if hit == 0 {
		return 0
	}
	return 2 * float64(hit) / float64(called+there)
}
