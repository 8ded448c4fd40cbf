// Package feature makes what a supervised model learns from, of tables as they are recorded: how far each sensor is from what is usual under the present load, how that has moved over several spans,
// indices of many sensors that follow the target best, shapes of short recorded courses, products and differences of columns.
//
// All features are causal: a row's depend on it and on the rows of its entity before it, and on what was learned from training rows; never on what comes after. No I/O, no clock, nothing random.
package feature

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Recipe says which columns are what. Columns that it does not name are taken as numbers.
type Recipe struct {
	// Entity is the column that names the machine or run that a row is of. Empty: each row stands by itself.
	Entity string `json:"entity,omitempty"`
	// Order is the column by which rows of an entity follow each other; it must rise. Empty: rows stand in order.
	Order string `json:"order,omitempty"`
	// Context are columns that say what the machine is asked to do (load, speed, altitude). Their levels are found, and each combination is a regime in which sensors have a mean and a spread of their own.
	Context []string `json:"context,omitempty"`
	// Categories are columns of names. Other columns that hold text are errors.
	Categories []string `json:"categories,omitempty"`
	// Ignore are columns that are not used.
	Ignore []string `json:"ignore,omitempty"`
	// Series are courses that a row holds: the columns "<name>.0", "<name>.1" and so on.
	Series []string `json:"series,omitempty"`
	// Segments that a series is cut into; default 10.
	Segments int `json:"segments,omitempty"`
	// Pairs of columns that are combined: "product", "difference", "ratio".
	Pairs []string `json:"pairs,omitempty"`
	// Spans of the moving means of an entity's rows, rising; default 10, 20, 40, 80. Slopes are taken over twice as many rows.
	Spans []int `json:"spans,omitempty"`
	// Components is the number of principal components of the sensors whose course is followed; default 4, -1: none.
	Components int `json:"components,omitempty"`
}

// Bounds.
const (
	MaxColumns  = 10_000
	maxPaired   = 64
	maxIndexed  = 512 // columns that indices and components are made of
	maxSpan     = 10_000
	maxFeatures = 20_000
	maxEntities = 1_000_000
)

// withDefaults fills in what is not said.
func (r Recipe) withDefaults() Recipe {
	if r.Segments == 0 {
		r.Segments = 10
	}
	if len(r.Spans) == 0 {
		r.Spans = []int{10, 20, 40, 80}
	}
	if r.Components == 0 {
		r.Components = 4
	}
	return r
}

// Validate names the field that is wrong.
func (r Recipe) Validate() error {
	r = r.withDefaults()
	switch {
	case r.Order != "" && r.Entity == "":
		return errors.New("order: given without entity")
	case r.Segments < 1 || r.Segments > 1000:
		return fmt.Errorf("segments: %d is not between 1 and 1000", r.Segments)
	case r.Components < -1 || r.Components > 64:
		return fmt.Errorf("components: %d is not between -1 and 64", r.Components)
	case len(r.Spans) > 16:
		return fmt.Errorf("spans: %d are more than 16", len(r.Spans))
	}
	for i, s := range r.Spans {
		if s < 1 || s > maxSpan || i > 0 && s <= r.Spans[i-1] {
			return fmt.Errorf("spans[%d]: %d is not between 1 and %d, or not above the one before", i, s, maxSpan)
		}
	}
	for i, p := range r.Pairs {
		if !slices.Contains([]string{"product", "difference", "ratio"}, p) {
			return fmt.Errorf("pairs[%d]: %q is none of product, difference, ratio", i, p)
		}
	}
	seen := map[string]string{}
	for _, list := range []struct {
		field string
		names []string
	}{{"entity", given(r.Entity)}, {"order", given(r.Order)}, {"context", r.Context}, {"categories", r.Categories}, {"ignore", r.Ignore}} {
		for _, n := range list.names {
			if n == "" {
				return fmt.Errorf("%s: an empty name", list.field)
			}
			if other := seen[n]; other != "" {
				return fmt.Errorf("%s: %q is in %s already", list.field, n, other)
			}
			seen[n] = list.field
		}
	}
	return nil
}

func given(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// Texts are the columns that hold names, not numbers.
func (r Recipe) Texts() []string { return append(given(r.Entity), r.Categories...) }

// Column is a column of a table: numbers, NaN where one is missing, or texts.
type Column struct {
	Name    string
	Numbers []float64
	Texts   []string
}

// Table is columns of the same length.
type Table struct {
	Rows    int
	Columns []Column
}

// Error is a column that is not what the recipe says.
type Error struct{ Column, Reason string }

func (e *Error) Error() string { return fmt.Sprintf("column %q: %s", e.Column, e.Reason) }

func (t *Table) numbers(name string) ([]float64, error) {
	for _, c := range t.Columns {
		if c.Name == name {
			if c.Numbers == nil && t.Rows > 0 {
				return nil, &Error{name, "holds text, not numbers"}
			}
			return c.Numbers, nil
		}
	}
	return nil, &Error{name, "is missing"}
}

func (t *Table) texts(name string) ([]string, error) {
	for _, c := range t.Columns {
		if c.Name == name {
			if c.Texts == nil && t.Rows > 0 {
				return nil, &Error{name, "holds numbers, not text"}
			}
			return c.Texts, nil
		}
	}
	return nil, &Error{name, "is missing"}
}

// sensors are the columns that remain, series left out, in the table's order.
func (r Recipe) sensors(t *Table, target string) []string {
	var out []string
	named := slices.Concat(given(r.Entity), given(r.Order), r.Context, r.Categories, r.Ignore, []string{target})
	for _, c := range t.Columns {
		if !slices.Contains(named, c.Name) && !r.inSeries(c.Name) {
			out = append(out, c.Name)
		}
	}
	return out
}

func (r Recipe) inSeries(column string) bool {
	name, at, ok := cutLast(column)
	return ok && at != "" && strings.Trim(at, "0123456789") == "" && slices.Contains(r.Series, name)
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
