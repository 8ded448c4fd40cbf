package receivers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	netmail "net/mail"
	"reflect"
	"strings"

	amconfig "github.com/prometheus/alertmanager/config"
	amteams "github.com/prometheus/alertmanager/notify/msteamsv2"
	amopsgenie "github.com/prometheus/alertmanager/notify/opsgenie"
	ampagerduty "github.com/prometheus/alertmanager/notify/pagerduty"
	amwebhook "github.com/prometheus/alertmanager/notify/webhook"
	commoncfg "github.com/prometheus/common/config"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/egress"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/email"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/kafkarecord"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/opsgenie"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/pagerduty"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/slack"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/sms"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/teams"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webhook"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webpush"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/verdict"
)

// Builder makes integrations. Its fields are set once, before the first Build.
type Builder struct {
	File *File
	// Composer of all pages.
	Composer *message.Composer
	// Dialer that everything is reached through.
	Dialer *egress.Dialer
	// Producer gives the Kafka client that kafka_configs write through; may be nil when there are none.
	Producer func() (kafkarecord.Producer, error)
	// Push are the subscriptions that people have made; may be nil.
	Push Push
	// Series is what a sensor did lately, for the picture in an e-mail; nil: no pictures.
	Series func(ctx context.Context, equipmentID, sensor string) []notification.Point
}

// Push keeps subscriptions.
type Push interface {
	To(ctx context.Context, receiver string) ([]webpush.Subscription, error)
	Gone(s webpush.Subscription)
}

// subscribed adds those that people have made to those of the file.
func (b *Builder) subscribed(conf *webpush.Config, name string) {
	file := conf.Subscriptions
	conf.Gone = b.Push.Gone
	conf.Subscriptions = func(ctx context.Context) ([]webpush.Subscription, error) {
		list, err := b.Push.To(ctx, name)
		if file != nil && err == nil {
			var more []webpush.Subscription
			more, err = file(ctx)
			list = append(list, more...)
		}
		return list, err
	}
}

// NewComposer makes the Composer of all pages; links makes what people act by, and may be nil.
func (f *File) NewComposer(links *verdict.Links) *message.Composer {
	c := &message.Composer{Zone: f.zone, Unit: f.unit, Chart: f.Page.ChartURL, Runbook: f.Page.RunbookURL}
	if links != nil {
		c.Actions, c.All = links.For, links.All
	}
	return c
}

// Policy is how often a message is tried again.
func (f *File) Policy() receiver.Policy {
	return receiver.Policy{Attempts: f.Retry.Retries + 1, Base: f.Retry.Base, Max: f.Retry.Max}
}

// Build makes the integrations of one receiver of the routing file: those of Alertmanager's that we say more with, and those that it does not have.
//
// A block that sets its own words (title, text, html, payload, details, or anything with a template in it) is left to Alertmanager's integration, which renders them: whoever
// wrote templates gets what they wrote. The others get our page, under the same name and index.
func (b *Builder) Build(rc *amconfig.Receiver) ([]notification.Integration, error) {
	var out []notification.Integration
	var errs error
	add := func(name string, i int, resolved bool, r notification.Receiver, err error) {
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s_configs[%d]: %w", name, i, err))
			return
		}
		out = append(out, notification.Integration{Name: name, Index: i, SendResolved: resolved, Receiver: r})
	}
	for i, c := range rc.EmailConfigs {
		if plainEmail(c) {
			r, err := b.email(c)
			add("email", i, c.SendResolved(), r, err)
		}
	}
	for i, c := range rc.SlackConfigs {
		if plainSlack(c) {
			r, err := b.slack(c)
			add("slack", i, c.SendResolved(), r, err)
		}
	}
	for i, c := range rc.PagerdutyConfigs {
		if plainPagerDuty(c) {
			r, err := b.pagerduty(c)
			add("pagerduty", i, c.SendResolved(), r, err)
		}
	}
	for i, c := range rc.OpsGenieConfigs {
		if plainOpsgenie(c) {
			r, err := b.opsgenie(c)
			add("opsgenie", i, c.SendResolved(), r, err)
		}
	}
	for i, c := range rc.MSTeamsV2Configs {
		if c.Title == amteams.DefaultMSTeamsV2Config.Title && c.Text == amteams.DefaultMSTeamsV2Config.Text {
			r, err := b.teams(c)
			add("msteamsv2", i, c.SendResolved(), r, err)
		}
	}
	for i, c := range rc.WebhookConfigs {
		if c.Payload == nil && !templated(string(c.URL)) {
			r, err := b.webhook(c)
			add("webhook", i, c.SendResolved(), r, err)
			if err == nil {
				out[len(out)-1].Bare = true // Alertmanager's payload
			}
		}
	}
	b.added(rc.Name, add)
	return out, errs
}

// added are the integrations that the receivers file adds.
func (b *Builder) added(name string, add func(string, int, bool, notification.Receiver, error)) {
	for k := range b.File.Receivers {
		r := &b.File.Receivers[k]
		if r.Name != name {
			continue
		}
		client := egress.Client(b.Dialer)
		for i := range r.SMS {
			c := &r.SMS[i]
			token, err := oneOf("auth_token", c.AuthToken, c.AuthTokenFile)
			add("sms", i, c.SendResolved, sms.New(sms.Config{
				URL: c.APIURL, AccountSID: c.AccountSID, AuthToken: token, From: c.From, MessagingService: c.MessagingService, To: c.To, Parts: c.Parts,
			}, client, b.Composer), err)
		}
		for i := range r.WebPush {
			conf, err := r.WebPush[i].config()
			if b.Push != nil {
				b.subscribed(&conf, name)
			}
			add("webpush", i, yes(r.WebPush[i].SendResolved), webpush.New(conf, client, b.Composer), err)
		}
		for i := range r.Kafka {
			var err error
			if b.Producer == nil {
				err = errors.New("no Kafka here")
			}
			add("kafka", i, yes(r.Kafka[i].SendResolved), kafkarecord.New(*r.Kafka[i].config(b.Producer), b.Composer), err)
		}
		for i := range r.Webhooks {
			conf, err := r.Webhooks[i].config()
			add("tocsin_webhook", i, yes(r.Webhooks[i].SendResolved), webhook.New(conf, client, b.Composer), err)
		}
	}
}

// client is what http_config describes, over our dialer.
func (b *Builder) client(c *commoncfg.HTTPClientConfig, name string) (*http.Client, error) {
	conf := commoncfg.DefaultHTTPClientConfig
	if c != nil {
		conf = *c
	}
	client, err := commoncfg.NewClientFromConfig(conf, name, commoncfg.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
		return b.Dialer.DialContext(ctx, network, address)
	}))
	if err != nil {
		return nil, fmt.Errorf("http_config: %w", err)
	}
	return egress.Guard(client, b.Dialer.Policy), nil
}

func (b *Builder) email(c *amconfig.EmailConfig) (notification.Receiver, error) {
	to, err := netmail.ParseAddressList(c.To)
	if err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	from, err := netmail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	conf := email.Config{
		To: to, From: from, Hello: c.Hello, Host: c.Smarthost.Host, Port: c.Smarthost.Port, Username: c.AuthUsername, Identity: c.AuthIdentity,
		Password: secret(string(c.AuthPassword), c.AuthPasswordFile), Secret: secret(string(c.AuthSecret), c.AuthSecretFile), Header: own(c),
		RequireTLS: c.RequireTLS == nil || *c.RequireTLS, ImplicitTLS: c.Smarthost.Port == "465", Dial: b.Dialer.DialContext, Zone: b.File.zone, Series: b.Series,
	}
	if c.ForceImplicitTLS != nil {
		conf.ImplicitTLS = *c.ForceImplicitTLS
	}
	if c.TLSConfig != nil {
		if conf.TLS, err = commoncfg.NewTLSConfig(c.TLSConfig); err != nil {
			return nil, fmt.Errorf("tls_config: %w", err)
		}
	}
	return email.New(conf, b.Composer)
}

// own are the headers that the block sets itself.
func own(c *amconfig.EmailConfig) map[string]string {
	out := maps.Clone(c.Headers)
	maps.DeleteFunc(out, func(name, value string) bool { return filled(c, name, value) })
	return out
}

// filled headers are those that Alertmanager's integration puts in when the block has none.
func filled(c *amconfig.EmailConfig, name, value string) bool {
	return name == "Subject" && value == amconfig.DefaultEmailSubject || name == "To" && value == c.To || name == "From" && value == c.From
}

func plainEmail(c *amconfig.EmailConfig) bool {
	for name, value := range c.Headers {
		if filled(c, name, value) {
			continue
		}
		if templated(value) || name == "Subject" || name == "To" || name == "From" || name == "Message-Id" || name == "References" || name == "In-Reply-To" {
			return false
		}
	}
	for _, list := range []string{c.To, c.From} {
		if _, err := netmail.ParseAddressList(list); err != nil {
			return false // Alertmanager takes what only its mail server can judge
		}
	}
	return c.HTML == amconfig.DefaultEmailConfig.HTML && c.Text == "" && !templated(c.To) && !templated(c.From)
}

// over makes a receiver that speaks HTTP, through the client that its block describes.
func over[C any, R notification.Receiver](b *Builder, block *commoncfg.HTTPClientConfig, name string, conf C, build func(C, *http.Client, receiver.Composer) R) (notification.Receiver, error) {
	client, err := b.client(block, name)
	if err != nil {
		return nil, err
	}
	return build(conf, client, b.Composer), nil
}

func (b *Builder) slack(c *amconfig.SlackConfig) (notification.Receiver, error) {
	address := receiver.File(c.APIURLFile)
	if c.APIURL != nil {
		address = receiver.Fixed(c.APIURL.String())
	}
	return over(b, c.HTTPConfig, "slack", slack.Config{
		URL: address, Channel: c.Channel, Username: ours(c.Username), IconEmoji: ours(c.IconEmoji), IconURL: ours(c.IconURL),
	}, slack.New)
}

func plainSlack(c *amconfig.SlackConfig) bool {
	d := amconfig.DefaultSlackConfig
	same := c.Color == d.Color && c.Title == d.Title && c.TitleLink == d.TitleLink && c.Pretext == d.Pretext && c.Text == d.Text && c.Fallback == d.Fallback &&
		c.CallbackID == d.CallbackID && c.Footer == d.Footer && c.MessageText == d.MessageText
	chosen := len(c.Fields) > 0 || len(c.Actions) > 0 || c.ImageURL != "" || c.ThumbURL != "" || len(c.MrkdwnIn) > 0 || c.UpdateMessage || templated(c.Channel)
	for _, x := range [][2]string{{c.Username, d.Username}, {c.IconEmoji, d.IconEmoji}, {c.IconURL, d.IconURL}} {
		chosen = chosen || x[0] != x[1] && templated(x[0])
	}
	return same && !chosen
}

func (b *Builder) pagerduty(c *ampagerduty.PagerdutyConfig) (notification.Receiver, error) {
	conf := pagerduty.Config{
		RoutingKey: secret(string(c.RoutingKey), c.RoutingKeyFile), Client: ours(c.Client), ClientURL: ours(c.ClientURL), Source: ours(c.Source),
		Component: c.Component, Group: c.Group, Class: c.Class,
	}
	if c.URL != nil {
		conf.URL = c.URL.String()
	}
	return over(b, c.HTTPConfig, "pagerduty", conf, pagerduty.New)
}

func plainPagerDuty(c *ampagerduty.PagerdutyConfig) bool {
	d := ampagerduty.DefaultPagerdutyConfig
	return c.ServiceKey == "" && c.ServiceKeyFile == "" && c.Description == d.Description && c.Severity == "" && len(c.Images) == 0 && len(c.Links) == 0 &&
		reflect.DeepEqual(c.Details, ampagerduty.DefaultPagerdutyDetails) && !templated(string(c.RoutingKey)+c.Component+c.Group+c.Class) &&
		(c.Client == d.Client || !templated(c.Client)) && (c.ClientURL == d.ClientURL || !templated(c.ClientURL)) && (c.Source == d.Client || !templated(c.Source))
}

func (b *Builder) opsgenie(c *amopsgenie.OpsGenieConfig) (notification.Receiver, error) {
	conf := opsgenie.Config{APIKey: secret(string(c.APIKey), c.APIKeyFile), Priority: c.Priority, Details: c.Details}
	if c.APIURL != nil {
		conf.URL = c.APIURL.String()
	}
	for t := range strings.SplitSeq(c.Tags, ",") {
		conf.Tags = append(conf.Tags, strings.TrimSpace(t))
	}
	for _, r := range c.Responders {
		if r.Type != "teams" {
			conf.Responders = append(conf.Responders, opsgenie.Responder{ID: r.ID, Name: r.Name, Username: r.Username, Type: r.Type})
			continue
		}
		for name := range strings.SplitSeq(r.Name, ",") {
			conf.Responders = append(conf.Responders, opsgenie.Responder{Name: strings.TrimSpace(name), Type: "team"})
		}
	}
	return over(b, c.HTTPConfig, "opsgenie", conf, opsgenie.New)
}

func plainOpsgenie(c *amopsgenie.OpsGenieConfig) bool {
	d := amopsgenie.DefaultOpsGenieConfig
	all := string(c.APIKey) + c.Tags + c.Priority
	for name, value := range c.Details {
		all += name + value
	}
	for _, r := range c.Responders {
		all += r.ID + r.Name + r.Username + r.Type
	}
	return c.Message == d.Message && c.Description == d.Description && c.Source == d.Source && c.Entity == "" && c.Actions == "" && c.Note == "" && !c.UpdateAlerts && !templated(all)
}

func (b *Builder) teams(c *amteams.MSTeamsV2Config) (notification.Receiver, error) {
	address := receiver.File(c.WebhookURLFile)
	if c.WebhookURL != nil {
		address = receiver.Fixed(c.WebhookURL.String())
	}
	return over(b, c.HTTPConfig, "msteamsv2", teams.Config{URL: address}, teams.New)
}

func (b *Builder) webhook(c *amwebhook.WebhookConfig) (notification.Receiver, error) {
	return over(b, c.HTTPConfig, "webhook", webhook.Config{URL: secret(string(c.URL), c.URLFile), MaxAlerts: int(min(c.MaxAlerts, 1<<30)), Timeout: c.Timeout}, webhook.New)
}

func (c *WebPush) config() (webpush.Config, error) {
	key, err := oneOf("vapid_private_key", c.PrivateKey, c.PrivateKeyFile)
	out := webpush.Config{PublicKey: c.PublicKey, PrivateKey: key, Subject: c.Subject}
	if c.madeHere() {
		out.PublicKey, err = aPublicKey, nil // until Identify
	}
	if c.SubscriptionsFile != "" {
		out.Subscriptions = webpush.FromFile(c.SubscriptionsFile)
	}
	return out, err
}

func (c *Kafka) config(producer func() (kafkarecord.Producer, error)) *kafkarecord.Config {
	return &kafkarecord.Config{Topic: c.Topic, Producer: producer}
}

func (c *Webhook) config() (webhook.Config, error) {
	address, err := oneOf("url", c.URL, c.URLFile)
	if err != nil {
		return webhook.Config{}, err
	}
	if err := webAddress(c.URL); err != nil {
		return webhook.Config{}, fmt.Errorf("url: %w", err)
	}
	out := webhook.Config{URL: address, MaxAlerts: c.MaxAlerts, Timeout: c.Timeout, Header: make(http.Header)}
	switch c.Payload {
	case "", "tocsin":
		out.Payload = webhook.Tocsin
	case "alertmanager":
		out.Payload = webhook.Alertmanager
	default:
		return out, fmt.Errorf("payload: %q is neither tocsin nor alertmanager", c.Payload)
	}
	for _, s := range c.Secrets {
		out.Secrets = append(out.Secrets, receiver.Fixed(s))
	}
	for _, name := range c.SecretFiles {
		out.Secrets = append(out.Secrets, receiver.File(name))
	}
	for name, value := range c.Headers {
		if message.Clean(value, 4096) != value || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name == "" {
			return out, fmt.Errorf("headers: %q cannot be sent", name)
		}
		out.Header.Set(name, value)
	}
	return out, nil
}

// secret stands in the file or in one that it names; nil when neither.
func secret(value, file string) receiver.Secret {
	switch {
	case value != "":
		return receiver.Fixed(value)
	case file != "":
		return receiver.File(file)
	}
	return nil
}

func templated(s string) bool { return strings.Contains(s, "{{") }

// ours is a value that was set; Alertmanager's own defaults are templates.
func ours(s string) string {
	if templated(s) {
		return ""
	}
	return s
}

func yes(b *bool) bool { return b == nil || *b }
