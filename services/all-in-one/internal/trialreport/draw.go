package trialreport

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trial"
)

// machine is one machine's section.
type machine struct {
	Name, Words string
	Scores      []plot
	Sensors     []plot
	Calls       []call
	CallsLeft   int
}

// plot is one drawing of 1000 by 100 units, stretched to whatever room there is: texts stand beside it.
type plot struct {
	Caption, Tone, Class, Alt string
	YLabels, XLabels          []string
	Learning, Faults, Open    []band
	Area, Flags, Demand       string
	Pages                     []mark
}

type band struct {
	X, W  string
	Title string
}

type mark struct{ X, Class, Title string }

// call is one page, or two that are about the same.
type call struct {
	Class, At, Cause, Severity, Lasted string
	Badge, Tone, About, AboutTone      string
	Summary, Shift, Detectors          string
	Shares                             []share
}

type share struct{ Sensor, Width, Percent, Words string }

// decades is how rare the top of a score's drawing is: one in 10 to the power of it.
const decades = 12

// scale puts times between 0 and 1000.
type scale struct{ from, to time.Time }

func (s scale) x(t time.Time) float64 {
	all := s.to.Sub(s.from).Seconds()
	if all <= 0 {
		return 0
	}
	return 1000 * max(0, min(1, t.Sub(s.from).Seconds()/all))
}

func unit(x float64) string { return strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64) }

func (s scale) band(from, to time.Time, title string) band {
	a, b := s.x(from), s.x(to)
	return band{X: unit(a), W: unit(max(b-a, 1.2)), Title: title}
}

func drawMachine(r *trial.Result, m *trial.Machine) machine {
	s := scale{m.From, m.To}
	out := machine{Name: m.ID, Words: fmt.Sprintf("%s, %s to %s", count(int(m.Rows), "row"), stamp(m.From), stamp(m.To))}
	var faults []band
	for _, f := range r.Faults {
		if f.Machine == m.ID {
			faults = append(faults, s.band(f.Start, f.End, fmt.Sprintf("%s, %s to %s", f.Kind, stamp(f.Start), stamp(f.End))))
		}
	}
	var all []mark
	weight := map[string]float64{}
	for i, t := range r.Trials {
		p := drawScore(s, m.Scores[i])
		p.Caption, p.Tone, p.Class, p.Faults = t.Name, "", "score1", faults
		if len(r.Trials) == 2 {
			p.Tone = []string{"first", "second"}[i]
			p.Class = []string{"score1", "score2"}[i]
		}
		n := 0
		for _, pg := range t.Pages {
			if pg.Machine != m.ID {
				continue
			}
			n++
			k := mark{unit(s.x(pg.Said)), "page", fmt.Sprintf("%s: %s, %s", stamp(pg.Said), pg.Cause, pg.Severity)}
			p.Pages = append(p.Pages, k)
			switch {
			case len(r.Trials) == 1 || pg.Same != nil && i == 0:
				all = append(all, k)
			case pg.Same == nil: // in the colour of who says it alone
				k.Class = []string{"page1", "page2"}[i]
				all = append(all, k)
			}
			end := pg.Ended
			if end.IsZero() {
				end = m.To
			}
			p.Open = append(p.Open, s.band(pg.Said, end, ""))
			for _, c := range pg.Contributions {
				weight[c.Sensor] += c.Share
			}
		}
		p.Caption += ": " + count(n, "page")
		p.Alt = fmt.Sprintf("Score of %s under the %s configuration over time, with %s", m.ID, t.Name, count(n, "page"))
		out.Scores = append(out.Scores, p)
	}
	out.Sensors = drawSensors(s, m, weight, faults, all)
	out.Calls, out.CallsLeft = calls(r, m)
	return out
}

// drawScore draws a course of scores: rarity in decades upwards.
func drawScore(s scale, course *trial.Series) plot {
	p := plot{YLabels: []string{"10¹²", "10⁹", "10⁶", "1000", "1"}, XLabels: times(s)}
	height := func(surprise float64) float64 { return 100 - 100*max(0, min(1, surprise/math.Ln10/decades)) }
	var area, flags, demand strings.Builder
	pen := 0.0 // where the demand's line ended
	steps(course, func(from, to time.Time, q trial.Point) {
		a, b := s.x(from), s.x(to)
		if b <= a {
			return
		}
		if q.Learning {
			p.Learning = joined(p.Learning, a, b)
			return
		}
		y := height(q.Surprise)
		fmt.Fprintf(&area, "M%s 100V%sH%sV100Z", unit(a), unit(y), unit(b))
		if q.Flagged > 0 {
			fmt.Fprintf(&flags, "M%s 100V%sH%sV100Z", unit(a), unit(y), unit(b))
		}
		if q.Demand > 0 {
			verb := "L"
			if demand.Len() == 0 || a-pen > 3 {
				verb = "M"
			}
			fmt.Fprintf(&demand, "%s%s %sH%s", verb, unit(a), unit(height(q.Demand)), unit(b))
			pen = b
		}
	})
	p.Area, p.Flags, p.Demand = area.String(), flags.String(), demand.String()
	return p
}

// joined lengthens the last band, or begins another.
func joined(list []band, a, b float64) []band {
	if n := len(list); n > 0 {
		x, _ := strconv.ParseFloat(list[n-1].X, 64)
		w, _ := strconv.ParseFloat(list[n-1].W, 64)
		if a-(x+w) < 3 {
			list[n-1].W = unit(b - x)
			return list
		}
	}
	return append(list, band{X: unit(a), W: unit(b - a)})
}

// steps calls each for every bucket with windows, stretched to the next where that is not far: windows are rarer than buckets in short histories.
func steps(course *trial.Series, each func(from, to time.Time, q trial.Point)) {
	var filled []int
	for i := range course.Points {
		if course.Points[i].Windows > 0 {
			filled = append(filled, i)
		}
	}
	usual := typical(filled)
	for n, i := range filled {
		to := i + usual
		if n+1 < len(filled) && filled[n+1]-i <= 4*usual {
			to = filled[n+1]
		}
		each(course.Time(i), course.Time(to), course.Points[i])
	}
}

// typical is the median distance of neighbours.
func typical(filled []int) int {
	var gaps []int
	for i := 1; i < len(filled); i++ {
		gaps = append(gaps, filled[i]-filled[i-1])
	}
	if len(gaps) == 0 {
		return 1
	}
	slices.Sort(gaps)
	return gaps[len(gaps)/2]
}

// drawSensors draws the sensors that the pages name most, or the first ones.
func drawSensors(s scale, m *trial.Machine, weight map[string]float64, faults []band, pages []mark) []plot {
	list := slices.Clone(m.Sensors)
	slices.SortStableFunc(list, func(a, b *trial.Envelope) int {
		switch x, y := weight[a.Sensor], weight[b.Sensor]; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	var out []plot
	for _, e := range list[:min(len(list), maxSensors)] {
		low, high, filled := math.Inf(1), math.Inf(-1), []int{}
		for i, g := range e.Ranges {
			if g.N > 0 {
				low, high, filled = min(low, float64(g.Low)), max(high, float64(g.High)), append(filled, i)
			}
		}
		if len(filled) == 0 {
			continue
		}
		y := func(v float64) string {
			if high == low {
				return "50"
			}
			return unit(96 - 92*(v-low)/(high-low))
		}
		usual := typical(filled)
		var area strings.Builder
		for at := 0; at < len(filled); {
			end := at + 1
			for end < len(filled) && filled[end]-filled[end-1] <= 4*usual {
				end++
			}
			for i, b := range filled[at:end] {
				fmt.Fprintf(&area, "%s%s %s", verb(i), unit(s.x(e.Time(b))), y(float64(e.Ranges[b].High)))
			}
			for i := end - 1; i >= at; i-- {
				fmt.Fprintf(&area, "L%s %s", unit(s.x(e.Time(filled[i]))), y(float64(e.Ranges[filled[i]].Low)))
			}
			area.WriteString("Z")
			at = end
		}
		out = append(out, plot{
			Caption: e.Sensor, Alt: fmt.Sprintf("%s of %s over time, between %s and %s", e.Sensor, m.ID, value(low), value(high)),
			YLabels: []string{value(high), value(low)}, XLabels: ends(s), Area: area.String(), Faults: faults, Pages: pages,
		})
	}
	return out
}

func verb(i int) string {
	if i == 0 {
		return "M"
	}
	return "L"
}

// times are five marks along the axis.
func times(s scale) []string {
	layout := layoutOf(s)
	var out []string
	for i := range 5 {
		out = append(out, s.from.Add(s.to.Sub(s.from)*time.Duration(i)/4).UTC().Format(layout))
	}
	return out
}

func ends(s scale) []string {
	layout := layoutOf(s)
	return []string{s.from.UTC().Format(layout), s.to.UTC().Format(layout)}
}

func layoutOf(s scale) string {
	switch d := s.to.Sub(s.from); {
	case d < 10*time.Minute:
		return "15:04:05"
	case d < 36*time.Hour:
		return "15:04"
	case d < 300*24*time.Hour:
		return "Jan 2"
	}
	return "Jan 2006"
}

// calls lists the machine's pages in the order of their times; what both configurations say is one entry.
func calls(r *trial.Result, m *trial.Machine) (out []call, left int) {
	type entry struct {
		page  *trial.Page
		trial int
	}
	var list []entry
	for i, t := range r.Trials {
		for _, p := range t.Pages {
			if p.Machine == m.ID && (i == 0 || p.Same == nil) {
				list = append(list, entry{p, i})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b entry) int { return a.page.Said.Compare(b.page.Said) })
	n := min(len(list), maxCalls)
	for _, e := range list[:n] {
		out = append(out, drawCall(r, e.page, e.trial))
	}
	return out, len(list) - n
}

func drawCall(r *trial.Result, p *trial.Page, of int) call {
	c := call{
		At: stamp(p.Said), Cause: strings.ReplaceAll(p.Cause, "_", " "), Severity: p.Severity, Lasted: "stands at the end", Summary: p.Summary,
	}
	if !p.Ended.IsZero() {
		c.Lasted = "stood for " + Duration(p.Ended.Sub(p.Said))
	}
	if len(r.Trials) == 2 {
		switch {
		case p.Same != nil:
			if d := p.Same.Said.Sub(p.Said); d != 0 {
				word := "later"
				if d < 0 {
					d, word = -d, "earlier"
				}
				c.Shift = fmt.Sprintf("The proposed configuration says so %s %s.", Duration(d), word)
			}
		case of == 0:
			c.Class, c.Badge, c.Tone = "gone", "only "+r.Trials[0].Name, "first"
		default:
			c.Class, c.Badge, c.Tone = "new", "only "+r.Trials[1].Name, "second"
		}
	}
	switch {
	case p.Fault != nil:
		d := p.Said.Sub(p.Fault.Start)
		c.About, c.AboutTone = fmt.Sprintf("%s, after %s", p.Fault.Kind, Duration(d)), "good"
		if d < 0 {
			c.About = fmt.Sprintf("%s, %s", p.Fault.Kind, Duration(d))
		}
	case r.Labelled:
		c.About, c.AboutTone = "no known fault", "bad"
	}
	if len(p.Detectors) > 0 {
		c.Detectors = "Detectors: " + strings.Join(p.Detectors, ", ")
	}
	for _, k := range p.Contributions {
		c.Shares = append(c.Shares, share{Sensor: k.Sensor, Width: unit(100 * k.Share), Percent: percent(k.Share), Words: expected(k)})
	}
	return c
}

func expected(k trial.Contribution) string {
	if k.Observed != k.Observed {
		return k.Detector
	}
	s := value(k.Observed)
	if k.Statistic == "stddev" {
		s = "spread " + s
	}
	switch {
	case k.Low == k.Low && k.High == k.High:
		s += ", expected " + value(k.Low) + " to " + value(k.High)
	case k.High == k.High:
		s += ", at most " + value(k.High)
	case k.Low == k.Low:
		s += ", at least " + value(k.Low)
	}
	return s + " (" + k.Detector + ")"
}
