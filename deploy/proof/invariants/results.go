package invariants

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// placeholder is {path} in a text.
var placeholder = regexp.MustCompile(`\{([^{}]+)\}`)

// results is the content of one file of docs/results.
type results struct {
	name string
	root any
}

func readResults(path, name string) (*results, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber() // figures are shown as they were written
	r := &results{name: name}
	if err := dec.Decode(&r.root); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

var step = regexp.MustCompile(`^([^\[\]]*)(?:\[([^=\]]+)=([^\]]*)\])?$`)

// steps cuts a path at its dots, not at those within brackets.
func steps(path string) []string {
	var out []string
	depth, from := 0, 0
	for i, c := range path {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == '.' && depth == 0:
			out = append(out, path[from:i])
			from = i + 1
		}
	}
	return append(out, path[from:])
}

// at is what stands at a path.
func (r *results) at(path string) (any, error) {
	v := r.root
	for _, s := range steps(path) {
		if s == "#" || strings.HasPrefix(s, "+") {
			n, ok := aggregate(v, s)
			if !ok {
				return nil, fmt.Errorf("%s: nothing to count at %q", r.name, path)
			}
			v = n
			continue
		}
		m := step.FindStringSubmatch(s)
		if m == nil {
			return nil, fmt.Errorf("%s: %q is not a path", r.name, path)
		}
		if m[1] != "" {
			object, ok := v.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("%s: nothing at %q", r.name, path)
			}
			if v, ok = object[m[1]]; !ok {
				return nil, fmt.Errorf("%s: nothing at %q", r.name, path)
			}
		}
		if m[2] != "" {
			list, _ := v.([]any)
			found := false
			for _, e := range list {
				if o, ok := e.(map[string]any); ok && fmt.Sprint(o[m[2]]) == m[3] {
					v, found = e, true
					break
				}
			}
			if !found {
				return nil, fmt.Errorf("%s: nothing at %q", r.name, path)
			}
		}
	}
	return v, nil
}

// aggregate counts the elements of a list or object ("#"), or adds up the numbers in it ("+"), or those in a field of its elements ("+field").
// What is not there (JSON null) has no elements.
func aggregate(v any, how string) (json.Number, bool) {
	var elements []any
	switch v := v.(type) {
	case nil:
	case []any:
		elements = v
	case map[string]any:
		for _, e := range v {
			elements = append(elements, e)
		}
	default:
		return "", false
	}
	if how == "#" {
		return json.Number(strconv.Itoa(len(elements))), true
	}
	sum := 0.0
	for _, e := range elements {
		if field := how[1:]; field != "" {
			o, ok := e.(map[string]any)
			if !ok {
				return "", false
			}
			if e, ok = o[field]; !ok {
				return "", false
			}
		}
		n, ok := e.(json.Number)
		if !ok {
			return "", false
		}
		f, err := n.Float64()
		if err != nil {
			return "", false
		}
		sum += f
	}
	return json.Number(strconv.FormatFloat(sum, 'f', -1, 64)), true
}

// text replaces each {path}.
func (r *results) text(s string) (string, error) {
	var failed error
	out := placeholder.ReplaceAllStringFunc(s, func(m string) string {
		v, err := r.at(m[1 : len(m)-1])
		if err != nil && failed == nil {
			failed = err
		}
		return show(v)
	})
	return out, failed
}

// show writes a value for people: numbers with at most three digits after the point.
func show(v any) string {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil || f == float64(int64(f)) {
			return grouped(strings.TrimSuffix(v.String(), ".0"))
		}
		digits := 1
		if f < 10 && f > -10 {
			digits = 3
		}
		return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(f, 'f', digits, 64), "0"), ".")
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = show(v[i])
		}
		return strings.Join(parts, ", ")
	case nil:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// grouped puts a comma between groups of three digits.
func grouped(s string) string {
	for _, c := range s {
		if c < '0' || c > '9' {
			return s
		}
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// date is the day that stands at a path.
func (r *results) date(path string) (string, error) {
	v, err := r.at(path)
	if err != nil {
		return "not noted", nil //nolint:nilerr // the page says so
	}
	t, err := time.Parse(time.RFC3339, fmt.Sprint(v))
	if err != nil {
		return "", fmt.Errorf("%s: %q is not a time: %w", r.name, path, err)
	}
	return t.UTC().Format(time.DateOnly), nil
}

var condition = regexp.MustCompile(`^(.+?)(<=|>=|=)([^=\]\[]*)$`)

// holds tells whether "path=value", "path<=value" or "path>=value" is true. The value may be a path in braces.
func (r *results) holds(cond string) (bool, error) {
	m := condition.FindStringSubmatch(cond)
	// An = within brackets belongs to the path.
	if i := strings.LastIndexByte(cond, ']'); i >= 0 {
		if rest := condition.FindStringSubmatch("x" + cond[i+1:]); rest != nil {
			m = []string{cond, cond[:i+1] + rest[1][1:], rest[2], rest[3]}
		}
	}
	if m == nil {
		return false, fmt.Errorf("%s: %q is not a condition", r.name, cond)
	}
	v, err := r.at(m[1])
	if err != nil {
		return false, err
	}
	want := m[3]
	if p := placeholder.FindStringSubmatch(want); p != nil {
		w, err := r.at(p[1])
		if err != nil {
			return false, err
		}
		want = fmt.Sprint(w)
	}
	if m[2] == "=" {
		return fmt.Sprint(v) == want, nil
	}
	a, errA := strconv.ParseFloat(fmt.Sprint(v), 64)
	b, errB := strconv.ParseFloat(want, 64)
	if errA != nil || errB != nil {
		return false, fmt.Errorf("%s: %q does not compare numbers", r.name, cond)
	}
	if m[2] == "<=" {
		return a <= b, nil
	}
	return a >= b, nil
}
