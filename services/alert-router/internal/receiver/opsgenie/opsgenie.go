// Package opsgenie sends pages to Opsgenie's Alert API: one alert per group, created, acknowledged and closed by the same alias.
package opsgenie

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// URL of the API in the United States; Europe's is https://api.eu.opsgenie.com/.
const URL = "https://api.opsgenie.com/"

// Opsgenie's own limits, in characters.
const (
	maxMessage     = 130
	maxDescription = 15000
	maxEntity      = 512
	maxTag         = 50
)

// Responder is whom Opsgenie tells.
type Responder struct {
	ID       string `json:"id,omitempty"`
	Name     string `json:"name,omitempty"`
	Username string `json:"username,omitempty"`
	Type     string `json:"type"`
}

// Config of one integration.
type Config struct {
	URL        string // empty: URL
	APIKey     receiver.Secret
	Responders []Responder
	Tags       []string
	// Priority P1 to P5; empty: by severity.
	Priority string
	// Details added to ours.
	Details map[string]string
}

// Receiver is a notification.Receiver.
type Receiver struct {
	cfg      Config
	client   *http.Client
	composer receiver.Composer
}

// New makes a Receiver that sends through client.
func New(cfg Config, client *http.Client, composer receiver.Composer) *Receiver {
	if cfg.URL == "" {
		cfg.URL = URL
	}
	return &Receiver{cfg, client, composer}
}

type create struct {
	Message     string            `json:"message"`
	Alias       string            `json:"alias"`
	Description string            `json:"description,omitempty"`
	Responders  []Responder       `json:"responders,omitempty"`
	Tags        []string          `json:"tags,omitempty"`
	Details     map[string]string `json:"details,omitempty"`
	Entity      string            `json:"entity,omitempty"`
	Source      string            `json:"source"`
	Priority    string            `json:"priority"`
}

type change struct {
	Source string `json:"source"`
	Note   string `json:"note,omitempty"`
}

// Send implements notification.Receiver.
func (r *Receiver) Send(ctx context.Context, n notification.Notification) error {
	key, err := r.cfg.APIKey.Get("api key")
	if err != nil {
		return err
	}
	alias := receiver.GroupHash(n.GroupKey)
	p := r.composer.Page(n, "opsgenie/"+n.Receiver)
	path, v := "v2/alerts", any(r.create(p, alias))
	switch {
	case p.Over():
		path, v = "v2/alerts/"+alias+"/close?identifierType=alias", change{Source: "Tocsin", Note: p.Headline}
	case acknowledged(&n):
		path, v = "v2/alerts/"+alias+"/acknowledge?identifierType=alias", change{Source: "Tocsin", Note: by(&n)}
	}
	body, err := receiver.JSON(v)
	if err != nil {
		return err
	}
	u, err := url.Parse(strings.TrimRight(r.cfg.URL, "/") + "/" + path)
	if err != nil {
		return receiver.Refused("bad_address", "the address is not a URL", notification.Permanent)
	}
	return receiver.Exchange(ctx, r.client, receiver.Request{URL: u.String(), Body: body, Header: http.Header{"Authorization": {"GenieKey " + key}}})
}

func acknowledged(n *notification.Notification) bool {
	for i := range n.Alerts {
		if a := &n.Alerts[i]; a.Status == notification.Firing && a.State != "acknowledged" {
			return false
		}
	}
	return true
}

func by(n *notification.Notification) string {
	if who := message.Clean(n.Alerts[0].AcknowledgedBy, 100); who != "" {
		return "Acknowledged by " + who
	}
	return "Acknowledged"
}

func (r *Receiver) create(p *message.Page, alias string) *create {
	a := p.Lead()
	out := &create{
		Message: message.Clean(p.Title, maxMessage), Alias: alias, Description: cut(message.Text(p), maxDescription), Responders: r.cfg.Responders,
		Entity: message.Clean(a.Machine, maxEntity), Source: "Tocsin", Priority: r.cfg.Priority, Details: map[string]string{"message_key": p.Key},
	}
	if out.Priority == "" {
		out.Priority = map[string]string{"critical": "P1", "warning": "P3", "info": "P5"}[p.Severity]
	}
	for _, t := range append([]string{p.Severity, a.Cause}, r.cfg.Tags...) {
		if t = message.Clean(t, maxTag); t != "" {
			out.Tags = append(out.Tags, t)
		}
	}
	for name, value := range map[string]string{
		"machine": a.Machine, "odd": a.Odd, "since": a.Since, "how_sure": a.Sure, "live_chart": p.Links.Chart, "runbook": p.Links.Runbook, "acknowledge": p.Links.Acknowledge,
	} {
		if value != "" {
			out.Details[name] = value
		}
	}
	for _, v := range p.Links.Verdicts {
		out.Details["verdict_"+v.Name] = v.URL
	}
	for name, value := range r.cfg.Details {
		out.Details[message.Clean(name, 80)] = message.Clean(value, 500)
	}
	return out
}

func cut(s string, limit int) string {
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}
