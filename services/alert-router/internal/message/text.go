package message

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text is the page as plain text, lines ended by "\n".
func Text(p *Page) string {
	var t text
	t.line(p.Headline)
	if p.Again != "" {
		t.line(p.Again)
	}
	if !p.Single() {
		t.blank()
		t.line(Count(p))
		for _, l := range p.Listed {
			t.line("  - " + listed(l))
		}
		if p.More > 0 {
			t.line("  and " + strconv.Itoa(p.More) + " more")
		}
	}
	for i := range p.Alerts {
		t.alert(p, &p.Alerts[i])
	}
	if !p.Single() {
		t.blank()
		t.links(p.Links)
	}
	t.blank()
	t.line("-- ")
	t.line(Footer(p))
	return t.String()
}

// Count says of how many alerts and machines a page is: "12 alerts of 12 machines, 9 firing".
func Count(p *Page) string {
	s := plural(p.Total, "alert")
	if p.Machines > 0 {
		s += " of " + plural(p.Machines, "machine")
	}
	if p.Firing > 0 && p.Firing < p.Total {
		s += ", " + strconv.Itoa(p.Firing) + " firing"
	}
	return s
}

// Footer says who sent it, to which receiver, and under which key.
func Footer(p *Page) string {
	s := "Tocsin"
	if p.Receiver != "" {
		s += " to receiver " + p.Receiver
	}
	if p.Sent != "" {
		s += ", " + p.Sent
	}
	if p.Key != "" {
		s += ", message " + p.Key
	}
	return s
}

// SensorLine is what one sensor did, in a line without its name.
func SensorLine(s *Sensor, cause string) string {
	out := s.Observed
	if s.Expected != "" {
		out += ", " + expected(cause) + " " + s.Expected
	}
	var more []string
	if s.Share != "" {
		more = append(more, s.Share)
	}
	if s.Detector != "" {
		more = append(more, s.Detector)
	}
	if len(more) > 0 {
		out += " (" + strings.Join(more, ", ") + ")"
	}
	return out
}

// PathLine is how long each step took, in a line.
func PathLine(a *Alert) string {
	parts := make([]string, len(a.Path))
	for i, s := range a.Path {
		parts[i] = s.Name + " " + s.Took
	}
	return strings.Join(parts, " > ")
}

func listed(l Line) string {
	word := strings.ToUpper(l.Severity)
	if l.Over {
		word = "RESOLVED"
	}
	return word + " " + l.Machine + ": " + l.Text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

type text struct{ strings.Builder }

func (t *text) line(s string) { t.WriteString(s); t.WriteByte('\n') }
func (t *text) blank()        { t.WriteByte('\n') }

func (t *text) field(name, value string) {
	if value == "" {
		return
	}
	const width = 14
	t.WriteString("  " + name + strings.Repeat(" ", max(width-utf8.RuneCountInString(name), 1)))
	t.line(value)
}

func (t *text) alert(p *Page, a *Alert) {
	t.blank()
	if !p.Single() {
		word := strings.ToUpper(a.Severity)
		if a.Over() {
			word = "RESOLVED"
		}
		t.line(word + " " + a.What)
	} else {
		t.line(a.What)
	}
	if a.Odd != "" {
		t.line(a.Odd)
	}
	if a.Summary != "" {
		t.line("The judge: " + a.Summary)
	}
	t.blank()
	t.field("Machine", a.Machine)
	t.field("Since", a.Since)
	t.field("How sure", a.Sure)
	for i := range a.Sensors {
		name := ""
		if i == 0 {
			name = "Sensors"
		}
		t.field(name, a.Sensors[i].Name+" "+SensorLine(&a.Sensors[i], a.Cause))
	}
	if a.MoreSensors > 0 {
		t.field("", "and "+strconv.Itoa(a.MoreSensors)+" more")
	}
	for _, f := range a.Facts {
		t.field(f.Name, f.Value)
	}
	if len(a.Path) > 0 {
		t.field("On the way", PathLine(a)+" (in all "+a.Took+")")
	}
	l := a.Links
	if !p.Single() && p.Links.Acknowledge != "" { // what is done about all of it stands at the end, once
		l.Acknowledge, l.Shelve, l.Silence, l.Runbook = "", "", "", ""
		if len(p.Alerts) == 1 {
			l.Verdicts = nil
		}
	}
	t.blank()
	t.links(l)
}

func (t *text) links(l Links) {
	t.field("Live chart", l.Chart)
	t.field("Runbook", l.Runbook)
	t.field("Acknowledge", l.Acknowledge)
	t.field("Acknowledge all", l.AcknowledgeAll)
	t.field("Shelve", l.Shelve)
	t.field("Silence", l.Silence)
	if len(l.Verdicts) > 0 {
		t.line("  What is it? One tap, then confirm:")
		for _, v := range l.Verdicts {
			t.field("  "+v.Label, v.URL)
		}
	}
}
