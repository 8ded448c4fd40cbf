package feature

import (
	"errors"
	"slices"
	"strconv"
)

// Pick is the table of the rows at the given places.
func (t *Table) Pick(rows []int) *Table {
	out := &Table{Rows: len(rows)}
	for _, c := range t.Columns {
		n := Column{Name: c.Name}
		if c.Texts != nil {
			n.Texts = make([]string, len(rows))
			for i, r := range rows {
				n.Texts[i] = c.Texts[r]
			}
		} else {
			n.Numbers = make([]float64, len(rows))
			for i, r := range rows {
				n.Numbers[i] = c.Numbers[r]
			}
		}
		out.Columns = append(out.Columns, n)
	}
	return out
}

// Text is a name in a column of names; "" when there is no such column.
func (t *Table) Text(column string, row int) string {
	if texts, err := t.texts(column); err == nil {
		return texts[row]
	}
	return ""
}

// Last are the places of each entity's last row, in the order of the entities' first ones.
func (t *Table) Last(entity string) []int {
	names, err := t.texts(entity)
	if err != nil {
		return nil
	}
	place := map[string]int{}
	var out []int
	for i, name := range names {
		at, ok := place[name]
		if !ok {
			at = len(out)
			place[name] = at
			out = append(out, 0)
		}
		out[at] = i
	}
	return out
}

// Inputs are the columns that a table must have for Apply.
func (f *Features) Inputs() []string {
	out := slices.Concat(given(f.Recipe.Entity), given(f.Recipe.Order), f.Recipe.Context, f.Recipe.Categories, f.Sensors)
	for _, s := range f.Recipe.Series {
		for i := range f.Length[s] {
			out = append(out, s+"."+strconv.Itoa(i))
		}
	}
	return out
}

// Check tells whether the parts fit each other: Apply of what was read from a file must not leave its arrays.
func (f *Features) Check() error {
	bad := errors.New("the parts of the features do not fit")
	if err := f.Recipe.Validate(); err != nil {
		return err
	}
	d, many := len(f.Moving), f.Regimes.many()
	if len(f.Regimes.Levels) != len(f.Recipe.Context) || !slices.IsSorted(f.Regimes.Keys) || len(f.Sensors) > MaxColumns || len(f.Recipe.Spans) == 0 || f.Recipe.Segments < 1 {
		return bad
	}
	for _, j := range f.Moving {
		if j < 0 || j >= len(f.Sensors) {
			return bad
		}
	}
	if f.standardised() != (f.Scales != nil) || f.Scales != nil && len(f.Scales) != many {
		return bad
	}
	for _, s := range f.Scales {
		if len(s) != d {
			return bad
		}
	}
	for _, byRegime := range f.Indices {
		if len(byRegime) != many || slices.ContainsFunc(byRegime, func(l linear) bool { return len(l.Weights) != d }) {
			return bad
		}
	}
	if slices.ContainsFunc(f.Components, func(l linear) bool { return len(l.Weights) != d }) {
		return bad
	}
	for _, s := range f.Recipe.Series {
		if n := f.Length[s]; n < 2 || n > MaxColumns {
			return bad
		}
	}
	for _, l := range f.Regimes.Levels {
		if !slices.IsSorted(l.Cuts) {
			return bad
		}
	}
	if len(f.Recipe.Pairs) > 0 && len(f.Sensors) > maxPaired {
		return bad
	}
	return nil
}
