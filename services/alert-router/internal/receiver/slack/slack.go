// Package slack sends pages to Slack: to an incoming webhook, or with a bot's token to chat.postMessage.
package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// Slack's own limits, in characters and pieces.
const (
	maxHeader  = 150
	maxSection = 3000
	maxField   = 2000
	maxFields  = 10
	maxButtons = 25
)

// Config of one integration.
type Config struct {
	// URL of an incoming webhook, or of chat.postMessage.
	URL receiver.Secret
	// Token of a bot, for chat.postMessage; nil: the webhook's URL is all it takes.
	Token     receiver.Secret
	Channel   string
	Username  string
	IconEmoji string
	IconURL   string
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
	u, err := r.cfg.URL.Get("api_url")
	if err != nil {
		return err
	}
	h := make(http.Header)
	if r.cfg.Token != nil {
		token, err := r.cfg.Token.Get("app_token")
		if err != nil {
			return err
		}
		h.Set("Authorization", "Bearer "+token)
	}
	to := r.cfg.Channel
	if to == "" {
		to = n.Receiver
	}
	m := Message(r.composer.Page(n, "slack/"+to))
	m.Channel, m.Username, m.IconEmoji, m.IconURL = r.cfg.Channel, r.cfg.Username, r.cfg.IconEmoji, r.cfg.IconURL
	body, err := receiver.JSON(m)
	if err != nil {
		return err
	}
	return receiver.Exchange(ctx, r.client, receiver.Request{URL: u, Body: body, ContentType: "application/json; charset=utf-8", Header: h, Accept: accept})
}

// accept knows Slack's two ways to answer 200: "ok" of a webhook, {"ok": false, "error": "..."} of the API.
func accept(body []byte) error {
	var answer struct {
		OK    *bool  `json:"ok"`
		Error string `json:"error"`
	}
	text := bytes.TrimSpace(body)
	if err := json.Unmarshal(text, &answer); err != nil || answer.OK == nil {
		if len(text) == 0 || bytes.Equal(text, []byte("ok")) || err == nil {
			return nil
		}
		return receiver.Refused("client_error", "Slack answers: "+string(text), notification.Permanent)
	}
	if *answer.OK {
		return nil
	}
	switch answer.Error {
	case "ratelimited", "rate_limited", "message_limit_exceeded":
		return receiver.Refused("rate_limited", "Slack answers: "+answer.Error, notification.Retryable)
	case "internal_error", "fatal_error", "service_unavailable", "request_timeout":
		return receiver.Refused("server_error", "Slack answers: "+answer.Error, notification.Retryable)
	case "invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive", "missing_scope":
		return receiver.Refused("unauthorized", "Slack answers: "+answer.Error, notification.Permanent)
	}
	return receiver.Refused("client_error", "Slack answers: "+answer.Error, notification.Permanent)
}

// Posted is what Slack is sent.
type Posted struct {
	Channel   string `json:"channel,omitempty"`
	Username  string `json:"username,omitempty"`
	IconEmoji string `json:"icon_emoji,omitempty"`
	IconURL   string `json:"icon_url,omitempty"`
	// Text is what notifications on a phone and screen readers say; the blocks are what is seen.
	Text        string  `json:"text"`
	Blocks      []block `json:"blocks"`
	UnfurlLinks bool    `json:"unfurl_links"` // a preview would follow the links of the page
	UnfurlMedia bool    `json:"unfurl_media"`
}

type block struct {
	Type     string    `json:"type"`
	Text     *text     `json:"text,omitempty"`
	Fields   []text    `json:"fields,omitempty"`
	Elements []element `json:"elements,omitempty"`
}

type text struct {
	Type string `json:"type"`
	Text string `json:"text"`
	// Verbatim keeps Slack from making links and mentions of plain words.
	Verbatim bool `json:"verbatim,omitempty"`
}

type element struct {
	Type     string `json:"type"`
	Text     any    `json:"text,omitempty"`
	URL      string `json:"url,omitempty"`
	Style    string `json:"style,omitempty"`
	ActionID string `json:"action_id,omitempty"`
	Verbatim bool   `json:"verbatim,omitempty"`
}

// Message is the page in blocks.
func Message(p *message.Page) Posted {
	m := Posted{Text: escape(p.Headline)}
	m.Blocks = append(m.Blocks, block{Type: "header", Text: &text{Type: "plain_text", Text: message.Clean(sign(p)+" "+p.Headline, maxHeader)}})
	if p.Again != "" {
		m.Blocks = append(m.Blocks, small(escape(p.Again)))
	}
	if !p.Single() {
		m.Blocks = append(m.Blocks, section(list(p)))
	}
	for i := range p.Alerts {
		m.Blocks = append(m.Blocks, alert(p, &p.Alerts[i])...)
	}
	if b := buttons(p.Links, "page"); len(b.Elements) > 0 {
		m.Blocks = append(m.Blocks, b)
	}
	if v := verdicts(p.Links, "page"); len(v.Elements) > 0 {
		m.Blocks = append(m.Blocks, small("*What is it?* One tap, then confirm."), v)
	}
	m.Blocks = append(m.Blocks, small(escape(message.Footer(p))))
	return m
}

func sign(p *message.Page) string {
	switch {
	case p.Over():
		return "✅"
	case p.Severity == "critical":
		return "🔴"
	case p.Severity == "info":
		return "🔵"
	default:
		return "🟠"
	}
}

func list(p *message.Page) string {
	var sb strings.Builder
	sb.WriteString(escape(message.Count(p)))
	for i, l := range p.Listed {
		line := "\n• *" + bold(l.Machine) + "* " + escape(l.Text)
		if l.Over {
			line += " (ended)"
		}
		if sb.Len()+len(line) > maxSection-40 {
			sb.WriteString("\nand " + strconv.Itoa(p.Total-i) + " more")
			return sb.String()
		}
		sb.WriteString(line)
	}
	if p.More > 0 {
		sb.WriteString("\nand " + strconv.Itoa(p.More) + " more")
	}
	return sb.String()
}

func alert(p *message.Page, a *message.Alert) []block {
	say := escape(a.What)
	if !p.Single() {
		say = "*" + bold(a.What) + "*"
	}
	if a.Odd != "" {
		say += "\n" + escape(a.Odd)
	}
	if a.Summary != "" {
		say += "\n_The judge:_ " + escape(a.Summary)
	}
	out := []block{section(say)}
	var fields []text
	add := func(name, value string) {
		if value != "" && len(fields) < maxFields {
			fields = append(fields, text{Type: "mrkdwn", Text: limit("*"+bold(name)+"*\n"+escape(value), maxField), Verbatim: true})
		}
	}
	add("Machine", a.Machine)
	add("Since", a.Since)
	add("How sure", a.Sure)
	for i := range a.Sensors {
		if len(a.Sensors) > 1 {
			add(a.Sensors[i].Name, message.SensorLine(&a.Sensors[i], a.Cause))
		}
	}
	for _, f := range a.Facts {
		add(f.Name, f.Value)
	}
	out = append(out, block{Type: "section", Fields: fields})
	if len(a.Path) > 0 {
		out = append(out, small("On the way: "+escape(message.PathLine(a))+" (in all "+escape(a.Took)+")"))
	}
	if !p.Single() && p.Links.Acknowledge == "" {
		if b := buttons(a.Links, a.ID); len(b.Elements) > 0 {
			out = append(out, b)
		}
	}
	if len(p.Alerts) > 1 {
		if v := verdicts(a.Links, a.ID); len(v.Elements) > 0 {
			out = append(out, v)
		}
	}
	return out
}

func buttons(l message.Links, id string) block {
	b := block{Type: "actions"}
	for _, x := range []struct{ label, url, style string }{
		{"Acknowledge", l.Acknowledge, "primary"}, {"Acknowledge all", l.AcknowledgeAll, "primary"}, {"Live chart", l.Chart, ""}, {"Runbook", l.Runbook, ""}, {"Shelve", l.Shelve, ""}, {"Silence", l.Silence, ""},
	} {
		b.add(x.label, x.url, x.style, id)
	}
	return b
}

func verdicts(l message.Links, id string) block {
	b := block{Type: "actions"}
	for _, v := range l.Verdicts {
		b.add(v.Label, v.URL, "", id)
	}
	return b
}

func (b *block) add(label, url, style, id string) {
	if url == "" || len(b.Elements) >= maxButtons {
		return
	}
	b.Elements = append(b.Elements, element{
		Type: "button", Text: text{Type: "plain_text", Text: label}, URL: url, Style: style,
		ActionID: message.Clean(strings.ToLower(strings.ReplaceAll(label, " ", "-"))+"/"+id, 255),
	})
}

func section(s string) block {
	return block{Type: "section", Text: &text{Type: "mrkdwn", Text: limit(s, maxSection), Verbatim: true}}
}

func small(s string) block {
	return block{Type: "context", Elements: []element{{Type: "mrkdwn", Text: limit(s, maxField), Verbatim: true}}}
}

var specials = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// escape takes the three characters that Slack's markup begins with (mentions, channels, links, dates) out of text of others.
func escape(s string) string { return specials.Replace(s) }

// bold is text that stands between asterisks: one of its own would end them.
func bold(s string) string { return escape(strings.ReplaceAll(s, "*", "∗")) }

// limit cuts at characters, never within an entity.
func limit(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	r = r[:n-1]
	for i := len(r) - 1; i >= 0 && i > len(r)-6; i-- {
		if r[i] == ';' {
			break
		}
		if r[i] == '&' {
			r = r[:i]
			break
		}
	}
	return string(r) + "…"
}
