// Package teams sends pages to Microsoft Teams as an adaptive card, through a workflow's webhook (Power Automate: "When a Teams webhook request is received").
package teams

import (
	"context"
	"net/http"
	"strings"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// maxCard is what Teams takes, in bytes, with room for what surrounds the card there.
const maxCard = 26 << 10

// Config of one integration.
type Config struct {
	URL receiver.Secret
}

// Receiver is a notification.Receiver.
type Receiver struct {
	cfg      Config
	client   *http.Client
	composer receiver.Composer
}

// New makes a Receiver that sends through client.
func New(cfg Config, client *http.Client, composer receiver.Composer) *Receiver {
	return &Receiver{cfg, client, composer}
}

// Send implements notification.Receiver.
func (r *Receiver) Send(ctx context.Context, n notification.Notification) error {
	u, err := r.cfg.URL.Get("webhook_url")
	if err != nil {
		return err
	}
	p := r.composer.Page(n, "teams/"+n.Receiver)
	body, err := receiver.JSON(Message(p))
	for err == nil && len(body) > maxCard && (len(p.Alerts) > 1 || len(p.Listed) > 1) {
		p.Alerts = p.Alerts[:(len(p.Alerts)+1)/2]
		p.Listed = p.Listed[:(len(p.Listed)+1)/2]
		p.More = p.Total - len(p.Listed)
		body, err = receiver.JSON(Message(p))
	}
	if err != nil {
		return err
	}
	return receiver.Exchange(ctx, r.client, receiver.Request{URL: u, Body: body, Accept: accept})
}

// accept: the older connectors answer 200 with the error in words.
func accept(body []byte) error {
	s := string(body)
	if !strings.Contains(s, "returned HTTP error") && !strings.Contains(s, "Microsoft Teams endpoint returned") {
		return nil
	}
	if strings.Contains(s, "429") {
		return receiver.Refused("rate_limited", "Teams answers: "+s, notification.Retryable)
	}
	return receiver.Refused("server_error", "Teams answers: "+s, notification.Retryable)
}

type posted struct {
	Type        string       `json:"type"`
	Attachments []attachment `json:"attachments"`
}

type attachment struct {
	ContentType string  `json:"contentType"`
	ContentURL  *string `json:"contentUrl"`
	Content     card    `json:"content"`
}

type card struct {
	Schema  string         `json:"$schema"`
	Type    string         `json:"type"`
	Version string         `json:"version"`
	Summary string         `json:"fallbackText"`
	Body    []any          `json:"body"`
	Actions []any          `json:"actions,omitempty"`
	MSTeams map[string]any `json:"msteams"`
}

// run is a piece of text that Teams shows as it is: unlike a TextBlock and a FactSet it knows no Markdown, so nothing in it has to be escaped.
type run struct {
	Type   string `json:"type"`
	Text   string `json:"text"`
	Weight string `json:"weight,omitempty"`
	Subtle bool   `json:"isSubtle,omitempty"`
	Color  string `json:"color,omitempty"`
	Size   string `json:"size,omitempty"`
}

type rich struct {
	Type      string `json:"type"`
	Inlines   []run  `json:"inlines"`
	Spacing   string `json:"spacing,omitempty"`
	Separator bool   `json:"separator,omitempty"`
}

type open struct {
	Type  string `json:"type"`
	Title string `json:"title"`
	URL   string `json:"url"`
	Style string `json:"style,omitempty"`
}

type actionSet struct {
	Type    string `json:"type"`
	Actions []any  `json:"actions"`
}

// Message is the page as a card.
func Message(p *message.Page) any {
	c := card{
		Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4", Summary: p.Headline,
		MSTeams: map[string]any{"width": "full"},
	}
	c.Body = append(c.Body, line("", run{Text: p.Headline, Weight: "Bolder", Size: "Large", Color: color(p)}))
	if p.Again != "" {
		c.Body = append(c.Body, line("Small", run{Text: p.Again, Subtle: true}))
	}
	if !p.Single() {
		c.Body = append(c.Body, line("Small", run{Text: message.Count(p), Subtle: true}))
		for _, l := range p.Listed {
			end := ""
			if l.Over {
				end = " (ended)"
			}
			c.Body = append(c.Body, line("None", run{Text: "• " + l.Machine + " ", Weight: "Bolder"}, run{Text: l.Text + end}))
		}
		if p.More > 0 {
			c.Body = append(c.Body, line("None", run{Text: message.Clean("and more: "+message.Count(p), 100), Subtle: true}))
		}
	}
	for i := range p.Alerts {
		c.Body = append(c.Body, alert(p, &p.Alerts[i])...)
	}
	var do []any
	for _, x := range []open{
		{Title: "Acknowledge", URL: p.Links.Acknowledge, Style: "positive"}, {Title: "Acknowledge all", URL: p.Links.AcknowledgeAll, Style: "positive"}, {Title: "Live chart", URL: p.Links.Chart}, {Title: "Runbook", URL: p.Links.Runbook}, {Title: "Shelve", URL: p.Links.Shelve},
	} {
		if x.URL != "" {
			x.Type = "Action.OpenUrl"
			do = append(do, x)
		}
	}
	if len(do) > 0 {
		c.Body = append(c.Body, actionSet{"ActionSet", do})
	}
	if v := verdicts(p.Links); len(v) > 0 {
		c.Body = append(c.Body, line("", run{Text: "What is it? ", Weight: "Bolder"}, run{Text: "One tap, then confirm.", Subtle: true}), actionSet{"ActionSet", v})
	}
	c.Body = append(c.Body, rich{Type: "RichTextBlock", Separator: true, Inlines: []run{{Type: "TextRun", Text: message.Footer(p), Subtle: true, Size: "Small"}}})
	return posted{Type: "message", Attachments: []attachment{{ContentType: "application/vnd.microsoft.card.adaptive", Content: c}}}
}

func alert(p *message.Page, a *message.Alert) []any {
	weight := ""
	if !p.Single() {
		weight = "Bolder"
	}
	out := []any{line("", run{Text: a.What, Weight: weight})}
	if a.Odd != "" {
		out = append(out, line("None", run{Text: a.Odd}))
	}
	fact := func(name, value string) {
		if value != "" {
			out = append(out, line("Small", run{Text: name + "  ", Subtle: true}, run{Text: value}))
		}
	}
	fact("Machine", a.Machine)
	fact("Since", a.Since)
	fact("How sure", a.Sure)
	fact("The judge", a.Summary)
	for i := range a.Sensors {
		if len(a.Sensors) > 1 {
			fact(a.Sensors[i].Name, message.SensorLine(&a.Sensors[i], a.Cause))
		}
	}
	for _, f := range a.Facts {
		fact(f.Name, f.Value)
	}
	if len(a.Path) > 0 {
		fact("On the way", message.PathLine(a)+" (in all "+a.Took+")")
	}
	if len(p.Alerts) > 1 {
		if v := verdicts(a.Links); len(v) > 0 {
			out = append(out, actionSet{"ActionSet", v})
		}
	}
	return out
}

func verdicts(l message.Links) []any {
	var out []any
	for _, v := range l.Verdicts {
		out = append(out, open{Type: "Action.OpenUrl", Title: v.Label, URL: v.URL})
	}
	return out
}

func line(spacing string, runs ...run) rich {
	for i := range runs {
		runs[i].Type = "TextRun"
	}
	return rich{Type: "RichTextBlock", Inlines: runs, Spacing: spacing}
}

func color(p *message.Page) string {
	switch {
	case p.Over():
		return "Good"
	case p.Severity == "critical":
		return "Attention"
	case p.Severity == "info":
		return "Accent"
	default:
		return "Warning"
	}
}
