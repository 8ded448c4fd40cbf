// Package trialreport draws what a trial of detection configurations came to as one HTML file: no network, no script, fit for a phone and for paper.
package trialreport

import (
	"crypto/sha256"
	_ "embed" // template and style
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trial"
)

//go:embed style.css
var style string

//go:embed report.html
var page string

const (
	// maxMachines and maxCalls bound what is drawn: the file stays some megabytes.
	maxMachines = 30
	maxCalls    = 40
	maxFleet    = 100
	maxSensors  = 6
	maxMissed   = 20
)

// Options of a report.
type Options struct {
	// Build that judged.
	Build string
}

// Write draws the result. The same result gives the same bytes.
func Write(w io.Writer, r *trial.Result, opt Options) error {
	t, err := template.New("report").Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, view(r, opt))
}

// report is what the template shows.
type report struct {
	Title, Hash          string
	CSS                  template.CSS
	History, Verdict     string
	Tiles                []tile
	Caution              string
	Changes              []trial.Change
	Names                []string
	Labelled             bool
	Kinds, Causes, Fleet []line
	Missed               []string
	FleetLeft            int
	Machines             []machine
	MachinesLeft         int
	Footer               string
}

type tile struct{ Name, First, Second, Tone, Note string }

type line struct {
	Name  string
	Cells []string
}

func view(r *trial.Result, opt Options) *report {
	sum := sha256.Sum256([]byte(style))
	v := &report{
		Title: "Backtest", Hash: base64.StdEncoding.EncodeToString(sum[:]), CSS: template.CSS(style), //nolint:gosec // ours
		History: history(r), Verdict: Verdict(r), Tiles: tiles(r), Caution: caution(r), Changes: r.Changes, Labelled: r.Labelled,
		Footer: "Judged by the code that runs in production" + by(opt.Build) + ". Scores are drawn as chances: the higher, the rarer while nothing is wrong.",
	}
	if len(r.Trials) == 2 {
		v.Title = "Backtest: what the change would do"
	}
	for _, t := range r.Trials {
		v.Names = append(v.Names, t.Name)
	}
	v.Kinds, v.Missed = kinds(r)
	v.Causes = causes(r)
	v.Fleet, v.FleetLeft = fleet(r)
	var shown []*trial.Machine
	for _, m := range r.Machines {
		if m.Scores != nil {
			shown = append(shown, m)
		}
	}
	weight := interest(r)
	slices.SortStableFunc(shown, func(a, b *trial.Machine) int { return weight[b.ID] - weight[a.ID] })
	n := min(len(shown), maxMachines)
	v.MachinesLeft = len(r.Machines) - n
	for _, m := range shown[:n] {
		v.Machines = append(v.Machines, drawMachine(r, m))
	}
	return v
}

func by(build string) string {
	if build == "" {
		return ""
	}
	return ", " + build
}

// interest orders machines: those on which the configurations differ come first, then those with pages and faults.
func interest(r *trial.Result) map[string]int {
	w := map[string]int{}
	for _, t := range r.Trials {
		for _, p := range t.Pages {
			w[p.Machine] += 10
			if p.Same == nil && len(r.Trials) == 2 {
				w[p.Machine] += 1000
			}
		}
	}
	for _, f := range r.Faults {
		w[f.Machine] += 5
	}
	return w
}

func history(r *trial.Result) string {
	var names []string
	for _, in := range r.Inputs {
		if !strings.Contains(in, "://") {
			in = filepath.Base(in)
		}
		names = append(names, in)
	}
	inputs := strings.Join(names, ", ")
	if len(names) > 3 {
		inputs = fmt.Sprintf("%s and %d more", strings.Join(names[:2], ", "), len(names)-2)
	}
	return fmt.Sprintf("%s: %s of %s, %s to %s; %s observed.", inputs, count(int(r.Rows), "row"), count(len(r.Machines), "machine"),
		stamp(r.From), stamp(r.To), Duration(r.Observed))
}

// Verdict is the result in a sentence or two.
func Verdict(r *trial.Result) string {
	t := r.Trials[0]
	if len(r.Trials) == 1 {
		s := fmt.Sprintf("%s: %s per machine and month.", count(len(t.Pages), "page"), Figure(t.PerMonth.Rate))
		if r.Labelled {
			s += fmt.Sprintf(" %s", foundOf(t))
		}
		return s
	}
	u := r.Trials[1]
	gone, fresh := unpaired(t), unpaired(u)
	if gone+fresh == 0 && t.Found == u.Found {
		return fmt.Sprintf("Both give the same %s%s", count(len(t.Pages), "page"), shifted(t)) + medians(t, u)
	}
	s := fmt.Sprintf("The proposed configuration would have given %s instead of %d: ", count(len(u.Pages), "page"), len(t.Pages))
	switch {
	case gone > 0 && fresh > 0:
		s += fmt.Sprintf("%d %s and %d %s.", gone, plural(gone, "disappears", "disappear"), fresh, plural(fresh, "appears", "appear"))
	case gone > 0:
		s += fmt.Sprintf("%d %s, none appears.", gone, plural(gone, "disappears", "disappear"))
	default:
		s += fmt.Sprintf("%d %s, none disappears.", fresh, plural(fresh, "appears", "appear"))
	}
	if !r.Labelled {
		return s
	}
	lost, won := 0, 0
	for _, f := range r.Faults {
		_, a := f.Delay(0)
		_, b := f.Delay(1)
		switch {
		case a && !b:
			lost++
		case b && !a:
			won++
		}
	}
	switch {
	case lost == 0 && won == 0:
		s += fmt.Sprintf(" Both find the same %d of %s.", t.Found, count(len(r.Faults), "fault"))
	default:
		s += fmt.Sprintf(" Of %s it finds %d instead of %d (%d newly found, %d newly missed).", count(len(r.Faults), "fault"), u.Found, t.Found, won, lost)
	}
	return s + medians(t, u)
}

// shifted says how many pages come at another time under the other configuration.
func shifted(t *trial.Trial) string {
	n := 0
	for _, p := range t.Pages {
		if !p.Same.Said.Equal(p.Said) {
			n++
		}
	}
	if n == 0 {
		return " at the same times."
	}
	return fmt.Sprintf(", %d of them at another time.", n)
}

func medians(t, u *trial.Trial) string {
	if t.Found == 0 || u.Found == 0 || t.Median == u.Median {
		return ""
	}
	return fmt.Sprintf(" The median delay goes from %s to %s.", Duration(t.Median), Duration(u.Median))
}

func foundOf(t *trial.Trial) string {
	if t.Totals.Faults == 0 {
		return "No fault lies in the history."
	}
	s := fmt.Sprintf("%d of %s found", t.Found, count(t.Totals.Faults, "fault"))
	if t.Found > 0 {
		s += fmt.Sprintf(", %s after their beginning in the median", Duration(t.Median))
	}
	return s + "."
}

func unpaired(t *trial.Trial) int {
	n := 0
	for _, p := range t.Pages {
		if p.Same == nil {
			n++
		}
	}
	return n
}

func tiles(r *trial.Result) []tile {
	make1 := func(name, note string, less bool, value func(*trial.Trial) (string, float64)) tile {
		a, x := value(r.Trials[0])
		t := tile{Name: name, First: a, Note: note}
		if len(r.Trials) == 2 {
			b, y := value(r.Trials[1])
			t.Second = b
			switch {
			case a == b:
			case (y < x) == less:
				t.Tone = "good"
			default:
				t.Tone = "bad"
			}
		}
		return t
	}
	last := r.Trials[len(r.Trials)-1]
	out := []tile{make1("Pages per machine and month", "19 of 20: "+Figure(last.PerMonth.Low)+" to "+Figure(last.PerMonth.High), true, func(t *trial.Trial) (string, float64) {
		return Figure(t.PerMonth.Rate), t.PerMonth.Rate
	})}
	if !r.Labelled {
		return append(out, make1("Pages", "in all of the history", true, func(t *trial.Trial) (string, float64) { return fmt.Sprint(len(t.Pages)), float64(len(t.Pages)) }))
	}
	out = append(out,
		make1("False pages per machine and month", fmt.Sprintf("%d about no known fault; 19 of 20: %s to %s", last.False.N, Figure(last.False.Low), Figure(last.False.High)), true,
			func(t *trial.Trial) (string, float64) { return Figure(t.False.Rate), t.False.Rate }),
		make1("Faults missed", "of "+count(len(r.Faults), "known fault"), true, func(t *trial.Trial) (string, float64) {
			return fmt.Sprint(t.Totals.Faults - t.Found), float64(t.Totals.Faults - t.Found)
		}),
		make1("Median delay", "worst "+Duration(last.Worst), true, func(t *trial.Trial) (string, float64) {
			if t.Found == 0 {
				return "-", 0
			}
			return Duration(t.Median), t.Median.Seconds()
		}))
	return out
}

// caution is said where the history is short.
func caution(r *trial.Result) string {
	var s []string
	if months := r.Observed.Hours() / trial.Month.Hours(); months < 1 {
		s = append(s, fmt.Sprintf("Only %s machine-months were observed: what is said per month is drawn out from that.", Figure(months)))
	}
	if r.Outside > 0 {
		s = append(s, fmt.Sprintf("%s outside of what was judged and %s not count.", count(r.Outside, "fault lies", "faults lie"), plural(r.Outside, "does", "do")))
	}
	return strings.Join(s, " ")
}

func kinds(r *trial.Result) ([]line, []string) {
	if len(r.Faults) == 0 {
		return nil, nil
	}
	var out []line
	for i, k := range r.Trials[0].Kinds {
		l := line{Name: k.Name, Cells: []string{fmt.Sprint(k.Faults)}}
		for _, t := range r.Trials {
			g := t.Kinds[i]
			delay := "-"
			if g.Found > 0 {
				delay = Duration(g.Median)
			}
			l.Cells = append(l.Cells, fmt.Sprint(g.Found), delay)
		}
		out = append(out, l)
	}
	var missed []string
	for _, f := range r.Faults {
		var by []string
		for i, t := range r.Trials {
			if _, ok := f.Delay(i); !ok {
				by = append(by, t.Name)
			}
		}
		if len(by) == 0 {
			continue
		}
		if len(missed) == maxMissed {
			missed = append(missed, "and more")
			break
		}
		missed = append(missed, fmt.Sprintf("Missed by %s: %s on %s, %s to %s.", strings.Join(by, " and "), f.Kind, f.Machine, stamp(f.Start), stamp(f.End)))
	}
	return out, missed
}

func causes(r *trial.Result) []line {
	at := map[string]int{}
	var out []line
	for i, t := range r.Trials {
		for _, c := range t.Causes {
			n, ok := at[c.Name]
			if !ok {
				n = len(out)
				at[c.Name] = n
				out = append(out, line{Name: c.Name, Cells: slices.Repeat([]string{"0"}, len(r.Trials))})
			}
			out[n].Cells[i] = fmt.Sprint(c.Pages)
		}
	}
	slices.SortFunc(out, func(a, b line) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// fleet lists the machines, when there are several.
func fleet(r *trial.Result) (out []line, left int) {
	if len(r.Machines) < 2 {
		return nil, 0
	}
	weight := interest(r)
	list := slices.Clone(r.Machines)
	slices.SortStableFunc(list, func(a, b *trial.Machine) int { return weight[b.ID] - weight[a.ID] })
	pages, found, faults := make([]map[string]int, len(r.Trials)), make([]map[string]int, len(r.Trials)), map[string]int{}
	for i, t := range r.Trials {
		pages[i], found[i] = map[string]int{}, map[string]int{}
		for _, p := range t.Pages {
			pages[i][p.Machine]++
		}
	}
	for _, f := range r.Faults {
		faults[f.Machine]++
		for i := range r.Trials {
			if _, ok := f.Delay(i); ok {
				found[i][f.Machine]++
			}
		}
	}
	n := min(len(list), maxFleet)
	for _, m := range list[:n] {
		l := line{Name: m.ID}
		for i := range r.Trials {
			l.Cells = append(l.Cells, fmt.Sprint(pages[i][m.ID]))
			if r.Labelled {
				l.Cells = append(l.Cells, fmt.Sprintf("%d of %d", found[i][m.ID], faults[m.ID]))
			}
		}
		out = append(out, l)
	}
	return out, len(list) - n
}
