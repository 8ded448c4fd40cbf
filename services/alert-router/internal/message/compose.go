package message

import (
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

// Composer turns notifications into pages. The zero value works: UTC, no units, the notification's own links.
type Composer struct {
	// Zone that times are written in; nil: UTC.
	Zone *time.Location
	// Unit of a sensor, "" when unknown; may be nil. What the evidence says itself comes first.
	Unit func(sensor string) string
	// Chart and Runbook are URLs with {equipment_id}, {cause}, {sensor} and {alert_id} to be replaced, for what the notification brings no link of.
	Chart, Runbook string
	// Actions makes the links of an alert, or of an incident of several, for one recipient; what it leaves empty is taken from the notification. May be nil.
	Actions func(id, recipient string, at time.Time) Links
	// All makes the link that acknowledges several alerts at once; "" when it cannot be made. May be nil.
	All func(ids []string, recipient string, at time.Time) string
}

// Verdicts, in the order of their buttons.
var verdicts = [...]struct{ name, label string }{
	{"real", "Real fault"}, {"false", "False alarm"}, {"known", "Known work"}, {"sensor", "Sensor fault"},
}

// VerdictLabel is what a verdict's button says; empty of an unknown one.
func VerdictLabel(name string) string {
	for _, v := range verdicts {
		if v.name == name {
			return v.label
		}
	}
	return ""
}

// Page composes the page of n for one recipient. Cost: linear in what is shown, whatever n holds.
func (c *Composer) Page(n notification.Notification, recipient string) *Page {
	p := &Page{
		Key: Clean(n.Key, 128), GroupKey: n.GroupKey, Receiver: Clean(n.Receiver, maxName), Status: n.Status, Reason: n.Reason,
		Severity: severity(n.Incident.Severity), Total: len(n.Alerts), Machines: n.Incident.Machines, At: n.At, Sent: c.clock(n.At),
	}
	for i := range n.Alerts {
		a := &n.Alerts[i]
		if a.Status == notification.Firing {
			p.Firing++
		}
		if i == 0 || len(p.Alerts) < maxDetailed && len(a.Evidence) > 0 {
			p.Alerts = append(p.Alerts, c.alert(a, recipient, n.At))
			if t := ofMany(n.Incident, n.Incident.Machines, a.Status == notification.Resolved); t != "" && len(n.Alerts) == 1 {
				p.Alerts[0].What = Clean(t, maxText) + "."
			}
		}
		if i < maxListed {
			p.Listed = append(p.Listed, c.line(a))
		}
	}
	if len(p.Alerts) == 0 { // a notification about nothing: say what is known of it
		p.Alerts = []Alert{{Machine: Clean(n.Incident.ScopeID, maxName), Severity: p.Severity, Status: n.Status, What: Clean(n.Incident.Title, maxText)}}
	}
	p.More = p.Total - len(p.Listed)
	p.Title = c.title(n, p)
	p.Headline = headline(p)
	p.Again = again(n.Reason)
	p.Links = c.groupLinks(n, p, recipient)
	return p
}

func (c *Composer) title(n notification.Notification, p *Page) string {
	if len(n.Alerts) == 1 {
		if t := ofMany(n.Incident, n.Incident.Machines, p.Over()); t != "" {
			return Clean(t, maxTitle) // it stands for all of them
		}
		l := c.line(&n.Alerts[0])
		return Clean(l.Machine+": "+l.Text, maxTitle)
	}
	if t := Clean(n.Incident.Title, maxTitle); t != "" {
		return t
	}
	machines := make(map[string]bool)
	for i := range n.Alerts {
		machines[n.Alerts[i].EquipmentID] = true
	}
	many := max(n.Incident.Machines, len(machines))
	if t := ofMany(n.Incident, many, p.Over()); t != "" {
		return Clean(t, maxTitle)
	}
	first := ""
	if len(p.Listed) > 0 {
		first = ": " + p.Listed[0].Machine + " " + p.Listed[0].Text
	}
	return Clean(plural(len(n.Alerts), "alert")+" of "+plural(many, "machine")+first, maxTitle)
}

// ofMany says what is the matter with several machines of one cause: "24 machines behind gateway gw-3 send no data any more".
func ofMany(in notification.Incident, many int, over bool) string {
	are := causeOfMany(in.Cause)
	if are == "" || many < 2 {
		return ""
	}
	where := ""
	if id := Clean(in.ScopeID, maxName); id != "" && in.Scope != "machine" && in.Scope != "" {
		where = " of " + Clean(in.Scope, 20) + " " + id
		switch in.Scope {
		case "gateway":
			where = " behind gateway " + id
		case "group":
			where = " of " + id
		}
	}
	switch {
	case over && in.Cause == "silence":
		are = "send data again"
	case over:
		return "over: " + strconv.Itoa(many) + " machines" + where + " " + are
	}
	return strconv.Itoa(many) + " machines" + where + " " + are
}

func headline(p *Page) string {
	word := strings.ToUpper(p.Severity)
	switch {
	case p.Over():
		word = "RESOLVED"
	case p.Reason == notification.Escalation:
		word = "ESCALATED " + word
	}
	return Clean(word+" "+p.Title, maxTitle)
}

func again(r notification.Reason) string {
	switch r {
	case notification.Repeat:
		return "It still stands: this is a reminder."
	case notification.Escalation:
		return "Nobody acknowledged it in time, so you are told as well."
	case notification.NewAlerts:
		return "More has come to it since the last message."
	case notification.SomeResolved:
		return "Some of it has ended since the last message."
	default:
		return ""
	}
}

func (c *Composer) groupLinks(n notification.Notification, p *Page, recipient string) Links {
	if len(n.Alerts) == 1 {
		return p.Alerts[0].Links
	}
	l := links(n.Links)
	if c.Actions != nil && n.Incident.ID != "" {
		l = actions(l, c.Actions(n.Incident.ID, recipient, n.At))
	}
	var stand []string
	for i := range n.Alerts {
		if a := &n.Alerts[i]; a.Status == notification.Firing && a.ID != "" {
			stand = append(stand, a.ID)
		}
	}
	if c.All != nil && len(stand) > 1 && l.Acknowledge == "" {
		l.AcknowledgeAll = c.All(stand, recipient, n.At)
	}
	l.Runbook = first(l.Runbook, p.Alerts[0].Links.Runbook)
	if p.Over() {
		l.Acknowledge, l.Shelve, l.Silence = "", "", ""
	}
	return l
}

// line is an alert in a few words: the heaviest sensor in numbers, or what the matter is.
func (c *Composer) line(a *notification.Alert) Line {
	l := Line{Machine: machine(a), Severity: severity(a.Severity), Over: a.Status == notification.Resolved}
	if len(a.Evidence) > 0 && !l.Over && numeric(a.Cause) {
		s := c.sensor(&a.Evidence[0], false)
		l.Text = s.Name + " " + s.Observed
		if s.Expected != "" {
			l.Text += ", " + expected(a.Cause) + " " + s.Expected
		}
		return l
	}
	l.Text = Clean(matter(a), maxValue)
	return l
}

// matter is what is wrong with a machine, in words, after its name. Of alerts that others posted it is what they call it.
func matter(a *notification.Alert) string {
	over := a.Status == notification.Resolved
	if w := causeWords(a.Cause, over); w != "" {
		if d, ok := lasted(a); over && ok {
			w += ", after " + Duration(d)
		}
		return w
	}
	name := first(a.Label("alertname"), a.Cause, "an alert")
	if summary := first(a.Annotation("summary"), a.Summary); summary != "" {
		name += " (" + strings.TrimRight(summary, ".") + ")"
	}
	if over {
		return "had " + name
	}
	return "has " + name
}

// numeric causes are told best by what was measured and what was expected.
func numeric(cause string) bool { return cause == "limit" || cause == "behaviour" }

func expected(cause string) string {
	if cause == "limit" {
		return "allowed"
	}
	return "expected"
}

func machine(a *notification.Alert) string {
	if m := Clean(a.EquipmentID, maxName); m != "" {
		return m
	}
	if m := Clean(a.Label("instance"), maxName); m != "" {
		return m
	}
	if m := Clean(a.Label("alertname"), maxName); m != "" {
		return m
	}
	return "unnamed"
}

func (c *Composer) alert(a *notification.Alert, recipient string, now time.Time) Alert {
	out := Alert{
		ID: Clean(a.ID, 4*maxName), Key: Clean(a.Key, 128), Machine: machine(a), Cause: Clean(a.Cause, maxName), Severity: severity(a.Severity), Status: a.Status,
		StartsAt: a.StartsAt, EndsAt: a.EndsAt, Score: a.Score, Confident: a.Confidence,
	}
	over := out.Over()
	out.What = Clean(out.Machine+" "+matter(a), maxText) + "."
	if causeWords(a.Cause, over) != "" { // else What has it
		out.Summary = Clean(a.Summary, maxText)
	}
	shown := a.Evidence[:min(len(a.Evidence), maxSensors)]
	for i := range shown {
		out.Sensors = append(out.Sensors, c.sensor(&shown[i], len(a.Evidence) > 1))
	}
	out.MoreSensors = len(a.Evidence) - len(shown)
	if len(out.Sensors) > 0 {
		out.Odd = odd(&out.Sensors[0], a.Cause, over)
	}
	out.Since, out.began = c.since(a, now)
	out.Sure = sure(a)
	out.Facts = facts(a)
	out.Path, out.Took = path(a.Path)
	out.Links = c.links(a, &out, recipient, now)
	return out
}

func (c *Composer) sensor(e *notification.Evidence, shares bool) Sensor {
	s := Sensor{Name: Clean(e.Sensor, maxName), Detector: Clean(e.Detector, maxName), Value: e.Observed, Low: e.ExpectedLow, High: e.ExpectedHigh, Series: e.Series}
	s.Unit = Clean(e.Unit, 16)
	if s.Unit == "" && c.Unit != nil {
		s.Unit = Clean(c.Unit(e.Sensor), 16)
	}
	if e.Statistic == "stddev" {
		s.Name += " (spread)"
	}
	s.Observed = Quantity(e.Observed, s.Unit)
	s.Expected = band(e.ExpectedLow, e.ExpectedHigh, s.Unit)
	s.Departure = departure(e.Observed, e.ExpectedLow, e.ExpectedHigh, s.Unit)
	if shares {
		s.Share = strconv.FormatInt(int64(math.Round(clamp(e.Share)*100)), 10) + " %"
	}
	return s
}

func odd(s *Sensor, cause string, over bool) string {
	is := " is "
	if over {
		is = " was "
	}
	switch cause {
	case "flatline":
		return s.Name + is + "stuck at " + s.Observed + "."
	case "bad_quality":
		return s.Name + is + "sending values that cannot be used."
	}
	if s.Expected == "" {
		return s.Name + is + s.Observed + ", which does not go with the other sensors as usual."
	}
	out := s.Name + is + s.Observed + "; " + expected(cause) + " " + s.Expected
	if s.Departure != "" {
		out += " (" + s.Departure + ")"
	}
	return out + "."
}

func (c *Composer) since(a *notification.Alert, now time.Time) (words string, began time.Time) {
	began = a.Started
	if began.IsZero() {
		began = a.StartsAt
	}
	if began.IsZero() {
		return "", began
	}
	s := c.clock(began)
	if a.Status == notification.Resolved {
		if d, ok := lasted(a); ok {
			s += ", for " + Duration(d)
		}
		return s, began
	}
	if d := now.Sub(began); d >= 0 {
		s += " (" + Duration(d) + " ago)"
	}
	return s, began
}

// lasted is how long an alert that is over stood, in the machine's own time if that is known.
func lasted(a *notification.Alert) (time.Duration, bool) {
	began, ended := a.Started, a.Ended
	if began.IsZero() || ended.IsZero() {
		began, ended = a.StartsAt, a.EndsAt
	}
	if began.IsZero() || ended.IsZero() || ended.Before(began) {
		return 0, false
	}
	return ended.Sub(began), true
}

func (c *Composer) clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	zone := c.Zone
	if zone == nil {
		zone = time.UTC
	}
	return t.In(zone).Format("15:04:05 MST, 2 Jan 2006")
}

func sure(a *notification.Alert) string {
	parts := []string{"severity " + severity(a.Severity)}
	if a.Confidence > 0 {
		parts = append(parts, trust(clamp(a.Confidence)))
	}
	switch {
	case statistical(a.Cause) && a.Score > 0:
		p := max(1-a.Score, 0)
		said := "p " + Number(p)
		if p < 1e-9 {
			said = "p below 1e-09"
		}
		parts = append(parts, chance(p)+" ("+said+")")
	case a.Cause != "" && !statistical(a.Cause) && slices.ContainsFunc(causes[:], func(k struct{ cause, is, again, are string }) bool { return k.cause == a.Cause }):
		parts = append(parts, "a fixed rule was broken, no statistics")
	}
	return Clean(strings.Join(parts, "; "), maxText)
}

// known annotations are told elsewhere in the page, or are made for machines.
var known = map[string]bool{
	"summary": true, "description": true, "sensors": true, "score": true, "confidence": true, "started": true, "ended": true, "runbook_url": true,
	"state": true, "acknowledged_by": true, "held": true, "incident_id": true, "incident_machines": true, "incident_group": true, // of which the page speaks itself
}

func facts(a *notification.Alert) []Fact {
	var out []Fact
	add := func(name, value string) {
		if v := Clean(value, maxValue); v != "" && len(out) < maxFacts {
			out = append(out, Fact{Clean(name, maxName), v})
		}
	}
	if a.AcknowledgedBy != "" {
		add("Acknowledged by", a.AcknowledgedBy)
	}
	add("Gateway", a.GatewayID)
	add("Detectors", strings.Join(a.Detectors[:min(len(a.Detectors), maxSensors)], ", "))
	if a.State != "" && a.State != "unacknowledged" && a.AcknowledgedBy == "" {
		add("State", a.State)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Annotations)) {
		if !known[string(name)] {
			add(title(string(name)), string(a.Annotations[name]))
		}
	}
	return out
}

// title makes a heading of an annotation's name: "similar_episode" gives "Similar episode".
func title(name string) string {
	s := Clean(strings.ReplaceAll(name, "_", " "), maxName)
	if s == "" {
		return s
	}
	_, n := utf8.DecodeRuneInString(s)
	return strings.ToUpper(s[:n]) + s[n:]
}

func path(hops []notification.Hop) (steps []Step, took string) {
	var all time.Duration
	for _, h := range hops {
		all += h.Took
		if len(steps) < maxHops {
			steps = append(steps, Step{Name: Clean(h.Name, maxName), Took: Duration(h.Took), For: h.Took})
		}
	}
	if len(steps) == 0 {
		return nil, ""
	}
	return steps, Duration(all)
}

func (c *Composer) links(a *notification.Alert, out *Alert, recipient string, now time.Time) Links {
	l := links(a.Links)
	if c.Actions != nil && a.ID != "" {
		l = actions(l, c.Actions(a.ID, recipient, now))
	}
	lead := ""
	if len(a.Evidence) > 0 {
		lead = a.Evidence[0].Sensor
	}
	fill := func(pattern string) string {
		if pattern == "" {
			return ""
		}
		return strings.NewReplacer("{equipment_id}", url.PathEscape(a.EquipmentID), "{cause}", url.PathEscape(a.Cause),
			"{sensor}", url.QueryEscape(lead), "{alert_id}", url.PathEscape(a.ID)).Replace(pattern)
	}
	l.Chart = first(l.Chart, Link(fill(c.Chart)))
	// What the alert itself brings is more exact than the pattern; an annotation may come from anybody who may post alerts, and is a web address or nothing.
	l.Runbook = first(l.Runbook, Link(a.Annotation("runbook_url")), Link(fill(c.Runbook)))
	if out.Over() {
		l.Acknowledge, l.Shelve, l.Silence = "", "", "" // nothing is left to be quiet about; what it was can still be said
	}
	return l
}

// actions puts the links made for a recipient over those that are everybody's.
func actions(l, made Links) Links {
	l.Acknowledge, l.Shelve, l.Silence = first(made.Acknowledge, l.Acknowledge), first(made.Shelve, l.Shelve), first(made.Silence, l.Silence)
	if len(made.Verdicts) > 0 {
		l.Verdicts = made.Verdicts
	}
	return l
}

func links(in notification.Links) Links {
	l := Links{Chart: Link(in.Machine), Runbook: Link(in.Runbook), Acknowledge: Link(in.Acknowledge), Shelve: Link(in.Shelve), Silence: Link(in.Silence)}
	for _, v := range verdicts {
		if u := Link(in.Verdict[v.name]); u != "" {
			l.Verdicts = append(l.Verdicts, Verdict{v.name, v.label, u})
		}
	}
	return l
}

// Link is s if it is an absolute http or https URL that is safe in every rendering, else "".
func Link(s string) string {
	if s == "" || len(s) > maxURL || strings.ContainsAny(s, "<>\"'`|\\ ") || Clean(s, maxURL+1) != s {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return ""
	}
	return s
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

func severity(s string) string {
	switch s {
	case "info", "critical":
		return s
	case "page", "emergency", "fatal": // what other systems' alerts call it
		return "critical"
	default:
		return "warning"
	}
}

func clamp(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return min(max(v, 0), 1)
}
