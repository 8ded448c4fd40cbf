package report

import (
	"fmt"
	"html"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/accuracy/sets"
)

// Bars draws ours beside controls and anchors for each metric that has a goal, the goal as a line.
func (s *Set) Bars() string {
	const width, bar, label, span = 300, 14, 120, 130
	var b strings.Builder
	for i := range s.Metrics {
		m := &s.Metrics[i]
		if m.Goal == nil {
			continue
		}
		systems := s.with(m)
		top := *m.Goal
		for _, y := range systems {
			top = max(top, y.Values[m.Key])
		}
		height := (len(systems)+1)*(bar+3) + 8
		fmt.Fprintf(&b, `<svg class="bars" viewBox="0 0 %d %d" role="img"><text class="head" x="0" y="12">%s, goal %s</text>`, width, height, html.EscapeString(m.Title), html.EscapeString(goalText(m)))
		for k, y := range systems {
			v := y.Values[m.Key]
			at := (k + 1) * (bar + 3)
			class := "other"
			if k == 0 {
				class = "ours"
			}
			fmt.Fprintf(&b, `<text x="0" y="%d">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/><text x="%.1f" y="%d">%s</text>`,
				at+bar-3, html.EscapeString(y.Name), class, label, at, max(0, v)/top*span, bar, label+max(0, v)/top*span+4, at+bar-3, Number(m, y.Values))
		}
		fmt.Fprintf(&b, `<line class="goal" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/></svg>`, label+*m.Goal/top*span, label+*m.Goal/top*span, bar+1, height-6)
	}
	return b.String()
}

// with are ours, the controls and the anchors that have the metric.
func (s *Set) with(m *sets.Metric) []System {
	out := []System{{"Tocsin", s.Ours}}
	out = append(out, s.Controls...)
	for _, a := range s.Anchors {
		if _, ok := a.Values[m.Key]; ok {
			out = append(out, System{a.Name, a.Values})
		}
	}
	return out
}
