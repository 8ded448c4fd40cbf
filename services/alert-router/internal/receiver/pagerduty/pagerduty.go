// Package pagerduty sends pages to PagerDuty's Events API v2: one incident per group, opened, acknowledged and resolved by the same dedup_key.
package pagerduty

import (
	"context"
	"net/http"
	"strings"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// URL of the Events API v2 in the United States; Europe's is https://events.eu.pagerduty.com/v2/enqueue.
const URL = "https://events.pagerduty.com/v2/enqueue"

const (
	maxEvent   = 512_000 // bytes of an event
	maxSummary = 1024
)

// Config of one integration.
type Config struct {
	URL        string // empty: URL
	RoutingKey receiver.Secret
	// Client and ClientURL name who sends; empty: Tocsin, and the page's live chart.
	Client, ClientURL string
	// What the event is of; empty: taken from the alert (source: machine, component: sensor, group: gateway, class: cause).
	Source, Component, Group, Class string
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

type event struct {
	RoutingKey  string   `json:"routing_key"`
	EventAction string   `json:"event_action"`
	DedupKey    string   `json:"dedup_key"`
	Client      string   `json:"client,omitempty"`
	ClientURL   string   `json:"client_url,omitempty"`
	Payload     *payload `json:"payload,omitempty"`
	Links       []link   `json:"links,omitempty"`
}

type payload struct {
	Summary       string         `json:"summary"`
	Source        string         `json:"source"`
	Severity      string         `json:"severity"`
	Timestamp     string         `json:"timestamp,omitempty"`
	Component     string         `json:"component,omitempty"`
	Group         string         `json:"group,omitempty"`
	Class         string         `json:"class,omitempty"`
	CustomDetails map[string]any `json:"custom_details,omitempty"`
}

type link struct {
	Href string `json:"href"`
	Text string `json:"text"`
}

// Send implements notification.Receiver.
func (r *Receiver) Send(ctx context.Context, n notification.Notification) error {
	key, err := r.cfg.RoutingKey.Get("routing key")
	if err != nil {
		return err
	}
	p := r.composer.Page(n, "pagerduty/"+n.Receiver)
	e := r.event(p, &n)
	e.RoutingKey = key
	body, err := receiver.JSON(e)
	if err == nil && len(body) > maxEvent {
		e.Payload.CustomDetails = map[string]any{"left_out": "the details are larger than PagerDuty takes"}
		body, err = receiver.JSON(e)
	}
	if err != nil {
		return err
	}
	return receiver.Exchange(ctx, r.client, receiver.Request{URL: r.cfg.URL, Body: body})
}

func (r *Receiver) event(p *message.Page, n *notification.Notification) *event {
	e := &event{EventAction: action(n), DedupKey: receiver.GroupHash(n.GroupKey)}
	if e.EventAction != "trigger" {
		return e // the key is all that is asked for
	}
	a := p.Lead()
	e.Client, e.ClientURL = or(r.cfg.Client, "Tocsin"), or(r.cfg.ClientURL, p.Links.Chart, a.Links.Chart)
	e.Payload = &payload{
		Summary: message.Clean(p.Title, maxSummary), Source: or(r.cfg.Source, a.Machine), Severity: p.Severity,
		Component: or(r.cfg.Component, sensor(a)), Group: or(r.cfg.Group, message.Clean(n.Alerts[0].GatewayID, 80)), Class: or(r.cfg.Class, a.Cause),
		CustomDetails: details(p),
	}
	if since := n.Incident.Since; !since.IsZero() {
		e.Payload.Timestamp = since.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	for _, l := range links(p) {
		e.Links = append(e.Links, link{l[1], l[0]})
	}
	return e
}

// action: what everybody has acknowledged in Tocsin is acknowledged there too.
func action(n *notification.Notification) string {
	if n.Status == notification.Resolved {
		return "resolve"
	}
	for i := range n.Alerts {
		if a := &n.Alerts[i]; a.Status == notification.Firing && a.State != "acknowledged" {
			return "trigger"
		}
	}
	return "acknowledge"
}

func sensor(a *message.Alert) string {
	if len(a.Sensors) == 0 {
		return ""
	}
	return a.Sensors[0].Name
}

// details are shown as a table, sorted by name.
func details(p *message.Page) map[string]any {
	a := p.Lead()
	d := map[string]any{"what": a.What, "message_key": p.Key}
	set := func(name, value string) {
		if value != "" {
			d[name] = value
		}
	}
	set("odd", a.Odd)
	set("since", a.Since)
	set("how_sure", a.Sure)
	set("judge", a.Summary)
	set("again", p.Again)
	for _, f := range a.Facts {
		set(strings.ToLower(strings.ReplaceAll(f.Name, " ", "_")), f.Value)
	}
	if len(a.Sensors) > 0 {
		sensors := make(map[string]string, len(a.Sensors))
		for i := range a.Sensors {
			sensors[a.Sensors[i].Name] = message.SensorLine(&a.Sensors[i], a.Cause)
		}
		d["sensors"] = sensors
	}
	if len(a.Path) > 0 {
		d["on_the_way"] = message.PathLine(a) + " (in all " + a.Took + ")"
	}
	if !p.Single() {
		d["count"] = message.Count(p)
		lines := make([]string, len(p.Listed))
		for i, l := range p.Listed {
			lines[i] = l.Machine + ": " + l.Text
		}
		d["alerts"] = lines
	}
	return d
}

// links are text and address, the most urgent first.
func links(p *message.Page) [][2]string {
	l := p.Links
	out := [][2]string{}
	for _, x := range [][2]string{{"Live chart", l.Chart}, {"Runbook", l.Runbook}, {"Acknowledge", l.Acknowledge}, {"Shelve", l.Shelve}} {
		if x[1] != "" {
			out = append(out, x)
		}
	}
	for _, v := range l.Verdicts {
		out = append(out, [2]string{v.Label, v.URL})
	}
	return out
}

func or(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
