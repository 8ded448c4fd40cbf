package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is out/budget.json.
type report struct {
	Rate       float64     `json:"samples_per_second"`
	Window     string      `json:"window_length"`
	Commission string      `json:"commissioning"`
	Days       float64     `json:"days_per_machine"`
	Machines   int         `json:"machines"`
	Seed       uint64      `json:"seed"`
	Scenarios  []scenario  `json:"scenarios"`
	Budgets    []budgetRow `json:"budgets,omitempty"`
	Faults     []faultRow  `json:"faults,omitempty"`
	Seconds    float64     `json:"seconds"`
	month      time.Duration
}

// budgetRow is one budget's pages beside those asked for. A ratio of 1 is what was asked for.
type budgetRow struct {
	Budget     float64        `json:"budget_per_machine_month"`
	Asked      float64        `json:"pages_asked"`
	Given      int            `json:"pages_given"`
	Ratio      float64        `json:"ratio"`
	RatioLow   float64        `json:"ratio_low_95"`
	RatioHigh  float64        `json:"ratio_high_95"`
	WithinTwo  bool           `json:"within_factor_2"`
	ByScenario map[string]int `json:"pages_by_scenario"`
	ByCause    map[string]int `json:"pages_by_cause"`
	WorstOf1   int            `json:"most_pages_of_one_machine"`
	Early      int            `json:"pages_while_commissioning"`
	Pages      []page         `json:"pages"`
}

type faultRow struct {
	Fault      string         `json:"fault"`
	Injected   int            `json:"injected"`
	Masked     int            `json:"masked_by_an_open_episode"`
	Detected   int            `json:"detected"`
	Median     float64        `json:"median_delay_seconds"`
	P90        float64        `json:"p90_delay_seconds"`
	ByScenario map[string]int `json:"detected_by_scenario"`
}

func newReport(o *options, list []scenario, seed uint64) *report {
	machines := 0
	for i := range list {
		machines += list[i].machines()
	}
	return &report{
		Rate: o.rate, Window: o.window.String(), Commission: o.commission.String(), Days: o.month.Hours() / 24,
		Machines: machines, Seed: seed, Scenarios: list, month: o.month,
	}
}

// sound counts every page, of whatever cause: nothing was wrong.
func (r *report) sound(o *options, list []scenario, pages [][][]page) {
	for b, budget := range o.budgets {
		row := budgetRow{
			Budget: budget, Asked: budget * float64(r.Machines) * o.month.Hours() / (30 * 24),
			ByScenario: map[string]int{}, ByCause: map[string]int{}, Pages: []page{},
		}
		of := map[string]int{}
		for i := range list {
			row.ByScenario[list[i].Name] = 0
			for _, p := range pages[i][b] {
				row.Pages = append(row.Pages, p)
				if p.early {
					row.Early++
					continue
				}
				row.Given++
				row.ByScenario[p.Scenario]++
				row.ByCause[p.Cause]++
				of[p.Scenario+p.Machine]++
			}
		}
		for _, n := range of {
			row.WorstOf1 = max(row.WorstOf1, n)
		}
		low, high := poissonBounds(row.Given)
		row.Ratio, row.RatioLow, row.RatioHigh = float64(row.Given)/row.Asked, low/row.Asked, high/row.Asked
		row.WithinTwo = row.Ratio >= 0.5 && row.Ratio <= 2
		r.Budgets = append(r.Budgets, row)
	}
}

func (r *report) faults(list []scenario, outcomes [][]outcome) {
	for k, t := range trials() {
		row := faultRow{Fault: t.name, ByScenario: map[string]int{}}
		var delays []float64
		for i, sc := range list {
			for _, f := range outcomes[i] {
				if f.trial != k {
					continue
				}
				row.Injected++
				switch {
				case f.detected:
					row.Detected++
					row.ByScenario[sc.Name]++
					delays = append(delays, f.delay.Seconds())
				case f.masked:
					row.Masked++
				}
			}
		}
		slices.Sort(delays)
		if len(delays) > 0 {
			row.Median, row.P90 = quantile(delays, 0.5), quantile(delays, 0.9)
		}
		r.Faults = append(r.Faults, row)
	}
}

func (r *report) print(to io.Writer, verbose bool) {
	fmt.Fprintf(to, "%d machines of five kinds, %.0f days each after %s of getting to know them; %g samples a second, windows of %s, seed %d; %.0f s\n",
		r.Machines, r.Days, r.Commission, r.Rate, r.Window, r.Seed, r.Seconds)
	for i := range r.Scenarios {
		fmt.Fprintf(to, "  %s: %s\n", r.Scenarios[i].Name, r.Scenarios[i].What)
	}
	w := tabwriter.NewWriter(to, 2, 8, 2, ' ', 0)
	if len(r.Budgets) > 0 {
		fmt.Fprint(w, "\nbudget\tasked\tgiven\tratio\t95 %\twithin 2x\tworst machine\tearly\tby scenario\tby cause\n")
		for i := range r.Budgets {
			b := &r.Budgets[i]
			fmt.Fprintf(w, "%g\t%.1f\t%d\t%.2f\t%.2f-%.2f\t%t\t%d\t%d\t%s\t%s\n", b.Budget, b.Asked, b.Given, b.Ratio, b.RatioLow, b.RatioHigh, b.WithinTwo, b.WorstOf1, b.Early,
				listed(b.ByScenario), listed(b.ByCause))
		}
	}
	if len(r.Faults) > 0 {
		fmt.Fprint(w, "\nfault (budget 1)\tinjected\tdetected\tmasked\tmedian delay\t90 %\tby scenario\n")
		for i := range r.Faults {
			f := &r.Faults[i]
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.0f s\t%.0f s\t%s\n", f.Fault, f.Injected, f.Detected, f.Masked, f.Median, f.P90, listed(f.ByScenario))
		}
	}
	w.Flush()
	if !verbose {
		return
	}
	for i := range r.Budgets {
		for _, p := range r.Budgets[i].Pages {
			early := ""
			if p.early {
				early = " (early)"
			}
			fmt.Fprintf(to, "%g %s %s %s%s %s %.9f: %s\n", r.Budgets[i].Budget, p.Scenario, p.Machine, p.At.Format("01-02 15:04:05"), early, p.Cause, p.Score, p.Summary)
		}
	}
}

func listed(m map[string]int) string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for i, k := range keys {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d", k, m[k])
	}
	return b.String()
}
