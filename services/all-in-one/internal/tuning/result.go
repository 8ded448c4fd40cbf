package tuning

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/lakehistory"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trial"
)

const (
	// lead and grace: a page is about an alert of the past if it is said from so long before it began to so long after it ended.
	lead  = 10 * time.Minute
	grace = 2 * time.Minute
	// maxPages of a result are listed, those that only one of the two would give first.
	maxPages = 1000
)

type view struct {
	ID       string     `json:"id"`
	State    string     `json:"state"`
	Progress float64    `json:"progress"`
	By       string     `json:"by,omitempty"`
	Created  time.Time  `json:"created_at"`
	Ended    *time.Time `json:"ended_at,omitempty"`
	Problem  string     `json:"problem,omitempty"`
	Request  Request    `json:"request"`
	Result   *Result    `json:"result,omitempty"`
}

func (j *job) view(whole bool) view {
	v := view{ID: j.id, State: j.state, Progress: j.progress, By: j.owner.name, Created: j.created, Problem: j.problem, Request: j.asked}
	if !j.ended.IsZero() {
		v.Ended = &j.ended
	}
	if whole {
		v.Result = j.result
	} else {
		v.Request.Alerts = nil
	}
	return v
}

// Result is what a trial found.
type Result struct {
	History History       `json:"history"`
	Before  Side          `json:"before"`
	After   Side          `json:"after"`
	Alerts  []Judged      `json:"alerts"`
	Pages   []Page        `json:"pages"`
	Omitted int           `json:"pages_omitted,omitempty"`
	Changes []trialChange `json:"changes"`
	// Base is the id of the revision that it was tried against: what a change is applied to. Empty: it was not known.
	Base string `json:"base,omitempty"`
	// YAML is what to put into the fleet file to apply it.
	YAML string `json:"yaml"`
}

type trialChange struct {
	Key      string `json:"key"`
	Current  string `json:"current"`
	Proposed string `json:"proposed"`
}

// History says what was judged.
type History struct {
	From            *time.Time `json:"from"` // the first sample that was not only learned from
	To              *time.Time `json:"to"`
	Machines        int        `json:"machines"`
	MachinesMatched int        `json:"machines_matched"`
	Samples         int64      `json:"samples"`
	ObservedSeconds float64    `json:"observed_seconds"` // of all machines together
	CutAt           *time.Time `json:"cut_at,omitempty"` // later history was left out
	Cautions        []string   `json:"cautions"`
}

// Side is one configuration.
type Side struct {
	Pages         int     `json:"pages"`
	PerMonth      float64 `json:"pages_per_machine_month"`
	Low           float64 `json:"low"` // the true rate lies between in 19 of 20 cases
	High          float64 `json:"high"`
	Causes        []Cause `json:"causes"`
	RealFound     int     `json:"real_found"`
	FalsePaged    int     `json:"false_paged"`
	MedianDelay   float64 `json:"median_delay_seconds"` // of the real alerts that both found
	ComparedDelay int     `json:"delays_compared"`
}

// Cause counts pages.
type Cause struct {
	Cause string `json:"cause"`
	Pages int    `json:"pages"`
}

// Page is one that would have been given.
type Page struct {
	Machine  string     `json:"equipment_id"`
	Cause    string     `json:"cause"`
	Severity string     `json:"severity"`
	Said     time.Time  `json:"at"`
	Ended    *time.Time `json:"ended_at,omitempty"`
	In       string     `json:"in"` // before, after, both
	Summary  string     `json:"summary"`
	AlertID  string     `json:"alert_id,omitempty"`
	Verdict  string     `json:"verdict,omitempty"`
}

// Judged is an alert of the past with a verdict, and whether either configuration pages for it. Delays count from its beginning, null: no page.
type Judged struct {
	Alert
	Before *float64 `json:"before_delay_seconds"`
	After  *float64 `json:"after_delay_seconds"`
}

func resultOf(q *Request, h *lakehistory.History, r *trial.Result, revision uint32) *Result {
	out := &Result{Alerts: []Judged{}, Pages: []Page{}, Changes: []trialChange{}}
	out.History = History{
		From: timeOf(r.From), To: timeOf(r.To), Machines: len(r.Machines), MachinesMatched: h.Matched, Samples: h.Samples, ObservedSeconds: r.Observed.Seconds(), CutAt: timeOf(h.Cut),
	}
	out.Before, out.After = side(r.Trials[0]), side(r.Trials[1])
	of := map[*trial.Page]*Alert{}
	out.judge(q, r, of)
	for _, c := range r.Changes {
		out.Changes = append(out.Changes, trialChange(c))
	}
	add := func(p *trial.Page, in string) {
		if len(out.Pages) >= maxPages {
			out.Omitted++
			return
		}
		page := Page{Machine: p.Machine, Cause: p.Cause, Severity: p.Severity, Said: p.Said, Ended: timeOf(p.Ended), In: in, Summary: p.Summary}
		if a := of[p]; a != nil {
			page.AlertID, page.Verdict = a.ID, a.Verdict
		}
		out.Pages = append(out.Pages, page)
	}
	for i, in := range []string{"before", "after"} {
		for _, p := range r.Trials[i].Pages {
			if p.Same == nil {
				add(p, in)
			}
		}
	}
	for _, p := range r.Trials[0].Pages {
		if p.Same != nil {
			add(p, "both")
		}
	}
	out.YAML = yamlOf(q.Detection, revision)
	out.caution(q, h, r)
	return out
}

func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func side(t *trial.Trial) Side {
	s := Side{Pages: len(t.Pages), PerMonth: t.PerMonth.Rate, Low: t.PerMonth.Low, High: t.PerMonth.High, Causes: []Cause{}}
	for _, g := range t.Causes {
		s.Causes = append(s.Causes, Cause{g.Name, g.Pages})
	}
	return s
}

// judge holds the pages against what people said of the alerts of the past.
func (out *Result) judge(q *Request, r *trial.Result, of map[*trial.Page]*Alert) {
	machines := map[string]bool{}
	for _, m := range r.Machines {
		machines[m.ID] = true
	}
	var before, after []time.Duration
	for i := range q.Alerts {
		a := &q.Alerts[i]
		if !machines[a.Machine] || a.Started.Before(r.From) || a.Started.After(r.To) {
			continue
		}
		j := Judged{Alert: *a}
		var delays [2]*time.Duration
		for t, to := range []**float64{&j.Before, &j.After} {
			for _, p := range r.Trials[t].Pages {
				if !a.about(p) {
					continue
				}
				of[p] = a
				if d := p.Said.Sub(a.Started); delays[t] == nil {
					delays[t] = &d
					*to = new(d.Seconds())
				}
			}
		}
		for t, s := range []*Side{&out.Before, &out.After} {
			switch {
			case delays[t] == nil:
			case a.Verdict == "false":
				s.FalsePaged++
			default:
				s.RealFound++
			}
		}
		if delays[0] != nil && delays[1] != nil && a.Verdict != "false" {
			before, after = append(before, *delays[0]), append(after, *delays[1])
		}
		out.Alerts = append(out.Alerts, j)
	}
	out.Before.MedianDelay, out.After.MedianDelay = trial.Median(before).Seconds(), trial.Median(after).Seconds()
	out.Before.ComparedDelay, out.After.ComparedDelay = len(before), len(after)
}

// about tells whether a page is about the alert. A false alert is given again only by a page of its own cause; a real fault is found by any.
func (a *Alert) about(p *trial.Page) bool {
	if p.Machine != a.Machine || a.Verdict == "false" && p.Cause != a.Cause {
		return false
	}
	return !p.Said.Before(a.Started.Add(-lead)) && (a.Ended == nil || !p.Said.After(a.Ended.Add(grace)))
}

// caution says what the figures do not say.
func (out *Result) caution(q *Request, h *lakehistory.History, r *trial.Result) {
	say := func(format string, args ...any) {
		out.History.Cautions = append(out.History.Cautions, fmt.Sprintf(format, args...))
	}
	out.History.Cautions = []string{}
	if n := h.Matched - len(r.Machines); n > 0 {
		say("%d of %d machines were judged: the others are more than one trial takes, or have no history in that stretch.", len(r.Machines), h.Matched)
	}
	if !h.Cut.IsZero() {
		say("History from %s on was left out: it is more than one trial takes.", h.Cut.UTC().Format(time.RFC3339))
	}
	if months := r.Observed.Hours() / trial.Month.Hours(); months < 1 {
		say("All machines together were watched for %.1f days: rates per month are guesses until that is some months.", r.Observed.Hours()/24)
	}
	if r.From.Sub(q.From) > time.Hour {
		say("The lake's history of these machines begins %s.", r.From.UTC().Format(time.RFC3339))
	}
	missed := 0
	for _, a := range out.Alerts {
		if a.Before == nil {
			missed++
		}
	}
	if missed > 0 {
		say("%d of the %d alerts that people judged are not given again by the setting that holds either: the judge begins this history anew, and did not then.", missed, len(out.Alerts))
	}
	if len(out.Alerts) == 0 {
		say("No alert of that stretch has a verdict, so nobody can say which pages were worth it.")
	}
}

// yamlOf is the change as a part of the fleet file.
func yamlOf(detection []byte, revision uint32) string {
	var change yaml.Node
	if yaml.Unmarshal(detection, &change) != nil || len(change.Content) == 0 {
		return ""
	}
	block(&change)
	b, err := yaml.Marshal(map[string]any{"stream_processor": struct {
		Revision  uint32     `yaml:"detection_revision"`
		Detection *yaml.Node `yaml:"detection"`
	}{revision + 1, change.Content[0]}})
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(string(b), "    ", "  ")
}

// block has JSON written as people write YAML; lists of words stay on their line.
func block(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		n.Style = 0
	}
	for _, c := range n.Content {
		block(c)
	}
}
