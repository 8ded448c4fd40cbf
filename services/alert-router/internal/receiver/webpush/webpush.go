// Package webpush sends pages to browsers and phones that have subscribed to them (RFC 8030), encrypted for each (RFC 8291) and signed with the server's key (VAPID, RFC 8292).
package webpush

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	webpush "github.com/SherClockHolmes/webpush-go"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// Subscription is what a browser gives when somebody says yes, and who that is.
type Subscription struct {
	Recipient string `json:"recipient"`
	Endpoint  string `json:"endpoint"`
	Keys      struct {
		P256dh string `json:"p256dh"`
		Auth   string `json:"auth"`
	} `json:"keys"`
	// Sees tells which machines' alerts they are told of; nil: all.
	Sees func(equipmentID string) bool `json:"-"`
}

// seen is n without the alerts that the subscriber does not see; false: nothing is left.
func (s *Subscription) seen(n notification.Notification) (notification.Notification, bool) {
	if s.Sees == nil {
		return n, true
	}
	var alerts []notification.Alert
	machines := make(map[string]bool)
	status := notification.Resolved
	for i := range n.Alerts {
		a := &n.Alerts[i]
		if !s.Sees(a.EquipmentID) {
			continue
		}
		alerts = append(alerts, *a)
		machines[a.EquipmentID] = true
		if a.Status == notification.Firing {
			status = notification.Firing
		}
	}
	if len(alerts) < len(n.Alerts) && len(alerts) > 0 {
		n.Status, n.Incident.Machines = status, len(machines)
		n.Alerts = alerts
	}
	return n, len(alerts) > 0
}

// Config of one integration.
type Config struct {
	// PublicKey and PrivateKey are VAPID's, in base64url.
	PublicKey  string
	PrivateKey receiver.Secret
	// Subject is a mailto: or https: address at which the push services reach the operator.
	Subject string
	// Subscriptions is asked for each message.
	Subscriptions func(ctx context.Context) ([]Subscription, error)
	// Gone is told of a subscription that has ended; may be nil.
	Gone func(Subscription)
	// TTL is how many seconds a push service keeps a message for a device that is off.
	TTL int
}

const (
	maxPayload       = 3072 // bytes; every push service takes it encrypted
	maxSubscriptions = 10_000
	maxFile          = 16 << 20
	defaultTTL       = 4 * 3600
)

// Validate names what is missing.
func (c *Config) Validate() error {
	if b, err := base64.RawURLEncoding.DecodeString(c.PublicKey); err != nil || len(b) != 65 {
		return errors.New("vapid_public_key: not an uncompressed P-256 point in base64url")
	}
	u, err := url.Parse(c.Subject)
	switch {
	case c.PrivateKey == nil:
		return errors.New("vapid_private_key: missing")
	case err != nil || u.Scheme != "mailto" && u.Scheme != "https":
		return errors.New("subject: not a mailto: or https: address")
	}
	return nil
}

// FromFile reads subscriptions from a JSON array, anew for each message.
func FromFile(path string) func(context.Context) ([]Subscription, error) {
	return func(context.Context) ([]Subscription, error) {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.Size() > maxFile {
			return nil, fmt.Errorf("%d bytes of subscriptions, more than %d", info.Size(), maxFile)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var list []Subscription
		if err := json.Unmarshal(b, &list); err != nil {
			return nil, fmt.Errorf("subscriptions: %w", err)
		}
		return list, nil
	}
}

// Receiver is a notification.Receiver.
type Receiver struct {
	cfg      Config
	client   *http.Client
	composer receiver.Composer
	once     receiver.Once
}

// New makes a Receiver that sends through client.
func New(cfg Config, client *http.Client, composer receiver.Composer) *Receiver {
	if cfg.TTL <= 0 {
		cfg.TTL = defaultTTL
	}
	return &Receiver{cfg: cfg, client: client, composer: composer}
}

// Shown is the decrypted payload, as the page's service worker shows it.
type Shown struct {
	Title    string            `json:"title"`
	Body     string            `json:"body"`
	Tag      string            `json:"tag"` // a later message of the group takes the place of the earlier
	Severity string            `json:"severity"`
	Status   string            `json:"status"`
	At       int64             `json:"at_ms"`
	URL      string            `json:"url,omitempty"`
	Actions  []Action          `json:"actions,omitempty"`
	Verdicts map[string]string `json:"verdicts,omitempty"`
	Key      string            `json:"key"`
}

// Action is a button of the message.
type Action struct {
	Action string `json:"action"`
	Title  string `json:"title"`
	URL    string `json:"url"`
}

// Send implements notification.Receiver. A subscription that has ended is no failure; one device that cannot be reached does not keep the message from the others.
func (r *Receiver) Send(ctx context.Context, n notification.Notification) error {
	list, err := r.cfg.Subscriptions(ctx)
	if err != nil {
		return &notification.Error{Class: notification.Retryable, Reason: "no_subscriptions", Err: err}
	}
	private, err := r.cfg.PrivateKey.Get("vapid_private_key")
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range list[:min(len(list), maxSubscriptions)] {
		if ctx.Err() != nil {
			failed = append(failed, receiver.Failed(ctx.Err(), false))
			break
		}
		if r.once.Done(n.Key, s.Endpoint) {
			continue
		}
		told, ok := s.seen(n)
		if !ok {
			continue
		}
		err := r.send(ctx, &s, private, r.composer.Page(told, or(s.Recipient, "webpush/"+n.Receiver)))
		var e *notification.Error
		switch {
		case err == nil:
			r.once.Mark(n.Key, s.Endpoint)
		case errors.As(err, &e) && e.Reason == "gone":
			if r.cfg.Gone != nil {
				r.cfg.Gone(s)
			}
		default:
			failed = append(failed, err)
		}
	}
	return receiver.Worst(failed)
}

func (r *Receiver) send(ctx context.Context, s *Subscription, private string, p *message.Page) error {
	body, err := Payload(p)
	if err != nil {
		return err
	}
	urgency := webpush.UrgencyNormal
	if p.Severity == "critical" && !p.Over() {
		urgency = webpush.UrgencyHigh
	}
	resp, err := webpush.SendNotificationWithContext(ctx, body, &webpush.Subscription{
		Endpoint: s.Endpoint, Keys: webpush.Keys{Auth: s.Keys.Auth, P256dh: s.Keys.P256dh},
	}, &webpush.Options{
		HTTPClient: agent{r.client}, Subscriber: strings.TrimPrefix(r.cfg.Subject, "mailto:"), // which the library puts before it
		VAPIDPublicKey: r.cfg.PublicKey, VAPIDPrivateKey: private, TTL: r.cfg.TTL, Urgency: urgency,
		Topic: receiver.GroupHash(p.GroupKey)[:32], // a push service that still holds an earlier message of the group drops it for this one
	})
	if err != nil {
		return sendError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return receiver.Answered(resp, nil)
}

// sendError: what did not come from the network is wrong with the subscription or the keys, and stays so.
func sendError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return receiver.Failed(err, false)
	}
	return &notification.Error{Class: notification.Permanent, Reason: "bad_subscription", Err: err}
}

// agent sets what the library leaves out.
type agent struct{ next *http.Client }

// Do implements webpush.HTTPClient.
func (a agent) Do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", receiver.UserAgent)
	return a.next.Do(req) //nolint:gosec // the client's dialer checks each address
}

// Payload is the page for a lock screen, small enough for every push service.
func Payload(p *message.Page) ([]byte, error) {
	a := p.Lead()
	s := Shown{
		Title: p.Headline, Body: message.Clean(a.What+" "+a.Odd+" Since "+a.Since+".", 400), Tag: receiver.GroupHash(p.GroupKey)[:32], Severity: p.Severity,
		Status: string(p.Status), At: p.At.UnixMilli(), URL: or(p.Links.Chart, a.Links.Chart), Key: p.Key,
	}
	if !p.Single() {
		s.Body = message.Clean(message.Count(p), 400)
	}
	if u := p.Links.Acknowledge; u != "" {
		s.Actions = append(s.Actions, Action{"acknowledge", "Acknowledge", u})
	}
	for _, v := range p.Links.Verdicts {
		if s.Verdicts == nil {
			s.Verdicts = make(map[string]string)
		}
		s.Verdicts[v.Name] = v.URL
	}
	body, err := receiver.JSON(&s)
	if err == nil && len(body) > maxPayload {
		s.Verdicts, s.Body = nil, message.Clean(s.Body, 200)
		body, err = receiver.JSON(&s)
	}
	if err == nil && len(body) > maxPayload {
		s.Actions, s.URL = nil, ""
		body, err = receiver.JSON(&s)
	}
	return body, err
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
