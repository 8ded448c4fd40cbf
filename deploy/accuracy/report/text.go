package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
)

// Print writes the tables.
func (r *Report) Print(w io.Writer) {
	for _, s := range r.Sets {
		s.print(w)
	}
	for _, m := range r.Missing {
		fmt.Fprintf(w, "%s: NOT JUDGED: %s\n  it needs %s below the data root\n\n", m.Name, m.Reason, m.Layout)
	}
	met, goals := r.Goals()
	fmt.Fprintf(w, "%d of %d goals met", met, goals)
	if r.Partial {
		fmt.Fprint(w, " (over some of the files only)")
	}
	fmt.Fprintf(w, "; configuration: %s; %.0f s. Controls: %s.\n", r.Config, r.Seconds, r.Controls)
}

// Goals counts those met and all.
func (r *Report) Goals() (met, goals int) {
	for _, s := range r.Sets {
		for i := range s.Metrics {
			if gap, ok := Gap(&s.Metrics[i], s.Ours); ok {
				goals++
				if gap == 0 {
					met++
				}
			}
		}
	}
	return met, goals
}

func (s *Set) print(w io.Writer) {
	fmt.Fprintf(w, "%s  (%s: %d files, %d rows)\n", s.Title, s.Name, s.Files, s.Rows)
	head, goals, gaps := []string{""}, []string{"goal"}, []string{"gap"}
	for i := range s.Metrics {
		m := &s.Metrics[i]
		head, goals, gaps = append(head, m.Title), append(goals, goalText(m)), append(gaps, gapText(m, s.Ours))
	}
	lines := [][]string{head, s.line("Tocsin", s.Ours), goals, gaps}
	for _, c := range s.Controls {
		lines = append(lines, s.line(c.Name, c.Values))
	}
	for _, a := range s.Anchors {
		lines = append(lines, s.line(a.Name, a.Values))
	}
	table(w, lines)
	fmt.Fprintln(w)
}

// PrintCases writes each file's figures.
func (r *Report) PrintCases(w io.Writer) {
	for _, s := range r.Sets {
		metrics := s.caseMetrics()
		head := []string{s.Name}
		for _, m := range metrics {
			head = append(head, m.Title)
		}
		lines := [][]string{append(head, "")}
		for _, c := range s.Cases {
			line := []string{c.Name}
			for _, m := range metrics {
				line = append(line, Number(m, c.Values))
			}
			lines = append(lines, append(line, c.Note))
		}
		table(w, lines)
		fmt.Fprintln(w)
	}
}

// caseMetrics are those that some case has.
func (s *Set) caseMetrics() []*sets.Metric {
	var out []*sets.Metric
	for i := range s.Metrics {
		for _, c := range s.Cases {
			if _, ok := c.Values[s.Metrics[i].Key]; ok {
				out = append(out, &s.Metrics[i])
				break
			}
		}
	}
	return out
}

func (s *Set) line(name string, values Values) []string {
	out := []string{name}
	for i := range s.Metrics {
		out = append(out, Number(&s.Metrics[i], values))
	}
	return out
}

// Number is a metric's value as text, empty when there is none.
func Number(m *sets.Metric, values Values) string {
	v, ok := values[m.Key]
	if !ok {
		return ""
	}
	return strconv.FormatFloat(v, 'f', m.Digits, 64)
}

func goalText(m *sets.Metric) string {
	switch {
	case m.Goal == nil:
		return ""
	case m.Lower:
		return "<=" + strconv.FormatFloat(*m.Goal, 'f', m.Digits, 64)
	}
	return ">=" + strconv.FormatFloat(*m.Goal, 'f', m.Digits, 64)
}

func gapText(m *sets.Metric, values Values) string {
	gap, ok := Gap(m, values)
	switch {
	case !ok:
		return ""
	case gap == 0:
		return "met"
	case m.Lower:
		return "+" + strconv.FormatFloat(gap, 'f', m.Digits, 64)
	}
	return "-" + strconv.FormatFloat(gap, 'f', m.Digits, 64)
}

// table aligns the first column to the left, the others to the right, and leaves a last column of prose as it is.
func table(w io.Writer, lines [][]string) {
	widths := make([]int, 0, 16)
	for _, l := range lines {
		for i, cell := range l {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, l := range lines {
		b.Reset()
		for i, cell := range l {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			switch {
			case i == 0:
				b.WriteString("  " + cell + pad)
			case lines[0][i] == "":
				b.WriteString("  " + cell)
			default:
				b.WriteString("  " + pad + cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
