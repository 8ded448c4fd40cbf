package api

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/checks"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/checkstore"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

const (
	maxHours = 14 * 24
	maxPage  = 1000
)

// check says what is unusual in the last hours of an entity's metric, held against the same hours of the weeks before. What an entity is (a machine, a shop, a queue) and what a
// metric (a temperature, orders, messages) is all the same to it. The figures are a job's, or a sensor's.
func (a *API) check(w http.ResponseWriter, r *http.Request, who Identity) error {
	p := read(r, "job", "entity", "metric", "source", "at", "hours", "time_zone")
	asks := checks.Asks{Who: who.Name, See: who.See, Entity: p.values.Get("entity"), Metric: p.values.Get("metric")}
	if asks.Entity == "" {
		p.fail("entity", "missing")
	} else if !who.See.Has(asks.Entity) {
		p.fail("entity", "there is no %q", asks.Entity) // as one that there is not
	}
	if asks.Metric == "" || len(asks.Metric) > 128 {
		p.fail("metric", "missing, or longer than 128 bytes")
	}
	job, known := a.checks.Find(p.values.Get("job"))
	if name := p.values.Get("job"); name != "" {
		if !known {
			p.fail("job", "there is no %q", name)
		}
		for _, field := range []string{"source", "time_zone"} {
			if p.values.Has(field) {
				p.fail(field, "is the job's to say")
			}
		}
	} else {
		made, err := checks.Job{
			Name: "on-demand", Schedule: "@hourly", Source: p.choice("source", checks.SensorMean, checks.SensorSum, checks.SensorCount), TimeZone: p.values.Get("time_zone"), CatchUp: 1, MaxSeries: 1,
		}.Compile()
		if err != nil {
			p.fail("time_zone", "%q is not a place such as Europe/Berlin", p.values.Get("time_zone"))
		}
		job = &made
	}
	hours := p.number("hours", 24, 1, maxHours)
	at, err := moment("at", p.values.Get("at"))
	if err != nil && p.err == nil {
		p.err = err
	}
	if p.err != nil {
		return p.err
	}
	if at.IsZero() {
		at = a.now().UTC()
	}
	got, err := job.Demand(r.Context(), a.desk, asks, at, hours)
	if err != nil {
		return err
	}
	got.Job = p.values.Get("job")
	writeJSON(w, got)
	return nil
}

// anomalies are what scheduled checks have found, the latest first.
func (a *API) anomalies(w http.ResponseWriter, r *http.Request, who Identity) error {
	p := read(r, "job", "entity", "metric", "kind", "severity", "from", "to", "limit", "cursor")
	want := checkstore.Wanted{
		Job: p.values.Get("job"), Entity: p.values.Get("entity"), Metric: p.values.Get("metric"), Kind: p.choice("kind", "", usage.Volume, usage.Shape),
		Severity: p.choice("severity", "", usage.Warning, usage.Critical), Limit: p.number("limit", 100, 1, maxPage), Every: who.See.All(),
	}
	within, err := between(p.values.Get("from"), p.values.Get("to"))
	if err != nil && p.err == nil {
		p.err = err
	}
	want.From, want.To = within.From, within.To
	if c := p.values.Get("cursor"); c != "" {
		if want.BeforeMS, want.BeforeID, err = place(c); err != nil {
			p.fail("cursor", "not one that an answer has given")
		}
	}
	if p.err != nil {
		return p.err
	}
	for _, pattern := range who.See.Patterns() {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			want.Prefixes = append(want.Prefixes, prefix)
		} else {
			want.Exact = append(want.Exact, pattern)
		}
	}
	store, err := a.checks.Store()
	if err != nil {
		return err
	}
	limit := want.Limit
	want.Limit++ // one more tells whether there is a next page
	found, err := store.Find(r.Context(), want)
	if err != nil {
		return err
	}
	out := struct {
		Anomalies []checkstore.Finding `json:"anomalies"`
		Next      string               `json:"next,omitempty"`
	}{Anomalies: found}
	if len(found) > limit {
		out.Anomalies = found[:limit]
		last := out.Anomalies[limit-1]
		out.Next = base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(last.From.UnixMilli(), 10) + " " + last.ID))
	}
	if out.Anomalies == nil {
		out.Anomalies = []checkstore.Finding{}
	}
	writeJSON(w, out)
	return nil
}

// place reads a cursor: the last finding of the page before.
func place(cursor string) (ms int64, id string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, "", err
	}
	at, id, _ := strings.Cut(string(b), " ")
	ms, err = strconv.ParseInt(at, 10, 64)
	return ms, id, err
}

// jobs says how the checks are. What a run has met may name machines, so it is for those who see all of them.
func (a *API) jobs(w http.ResponseWriter, r *http.Request, who Identity) error {
	status, err := a.checks.Status(r.Context())
	if err != nil {
		return err
	}
	if !who.See.All() {
		for i := range status.Jobs {
			status.Jobs[i].Error, status.Jobs[i].Result = "", nil
		}
	}
	writeJSON(w, struct {
		checks.Status
		Now time.Time `json:"now"`
	}{status, a.now().UTC()})
	return nil
}
