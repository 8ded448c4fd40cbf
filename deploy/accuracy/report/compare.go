package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
)

// Compare writes what changed from an earlier report to this one: each figure of the sets that both have, and the cases that moved most.
func (r *Report) Compare(w io.Writer, before *Report) {
	fmt.Fprintf(w, "against %s (%s)\n", before.Made.Format("2006-01-02 15:04:05"), before.Config)
	for _, s := range r.Sets {
		i := slices.IndexFunc(before.Sets, func(b *Set) bool { return b.Name == s.Name })
		if i < 0 {
			fmt.Fprintf(w, "%s: not in the earlier report\n", s.Name)
			continue
		}
		b := before.Sets[i]
		if b.Files != s.Files {
			fmt.Fprintf(w, "%s: %d files then, %d now: not comparable\n", s.Name, b.Files, s.Files)
			continue
		}
		lines := [][]string{{s.Name, "before", "now", "change", ""}}
		for k := range s.Metrics {
			m := &s.Metrics[k]
			lines = append(lines, []string{m.Title, Number(m, b.Ours), Number(m, s.Ours), change(m, b.Ours, s.Ours), verdict(m, b.Ours, s.Ours)})
		}
		table(w, lines)
		s.moved(w, b)
		fmt.Fprintln(w)
	}
}

// change of a metric with its sign.
func change(m *sets.Metric, before, now Values) string {
	a, okA := before[m.Key]
	b, okB := now[m.Key]
	if !okA || !okB || !differs(m, a, b) {
		return ""
	}
	s := strconv.FormatFloat(b-a, 'f', m.Digits, 64)
	if b > a {
		return "+" + s
	}
	return s
}

func verdict(m *sets.Metric, before, now Values) string {
	a, b := before[m.Key], now[m.Key]
	switch {
	case change(m, before, now) == "":
		return ""
	case (b < a) == m.Lower:
		return "better"
	}
	return "worse"
}

// differs beyond rounding.
func differs(m *sets.Metric, a, b float64) bool { return math.Abs(a-b) >= 0.5*math.Pow10(-m.Digits) }

// moved lists the cases whose first figure changed most.
func (s *Set) moved(w io.Writer, before *Set) {
	metrics := s.caseMetrics()
	if len(metrics) == 0 {
		return
	}
	type move struct {
		c, was Case
		m      *sets.Metric
		by     float64
	}
	var moves []move
	for _, c := range s.Cases {
		i := slices.IndexFunc(before.Cases, func(b Case) bool { return b.Name == c.Name })
		if i < 0 {
			continue
		}
		for _, m := range metrics {
			a, okA := before.Cases[i].Values[m.Key]
			b, okB := c.Values[m.Key]
			if okA && okB {
				if differs(m, a, b) {
					moves = append(moves, move{c, before.Cases[i], m, math.Abs(a - b)})
				}
				break
			}
		}
	}
	slices.SortStableFunc(moves, func(a, b move) int { return cmp.Compare(b.by, a.by) })
	lines := [][]string{{"moved most", "", "", "", ""}}
	for _, x := range moves[:min(5, len(moves))] {
		lines = append(lines, []string{x.c.Name, x.m.Title, Number(x.m, x.was.Values), Number(x.m, x.c.Values), verdict(x.m, x.was.Values, x.c.Values)})
	}
	if len(lines) > 1 {
		table(w, lines)
	}
}
