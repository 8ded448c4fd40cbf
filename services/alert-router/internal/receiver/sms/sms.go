// Package sms sends pages as short messages through Twilio's Messages API, or one that speaks like it.
package sms

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// URL of Twilio's API.
const URL = "https://api.twilio.com"

// Config of one integration.
type Config struct {
	URL        string // empty: URL
	AccountSID string
	AuthToken  receiver.Secret
	// From is a number or an alphanumeric sender; MessagingService is used instead when From is empty.
	From, MessagingService string
	// To are the numbers, in E.164: "+4930123456".
	To []string
	// Parts of a message at most: 1 (160 characters), or 2 (306), which has room for a link.
	Parts int
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
	if cfg.URL == "" {
		cfg.URL = URL
	}
	if cfg.Parts < 1 {
		cfg.Parts = 2
	}
	return &Receiver{cfg: cfg, client: client, composer: composer}
}

// Send implements notification.Receiver. Each number gets a message, and a link, of its own; when it is tried again because one of them failed, those who have theirs get no second.
// The API knows no idempotency key: a message whose answer was lost is sent twice.
func (r *Receiver) Send(ctx context.Context, n notification.Notification) error {
	token, err := r.cfg.AuthToken.Get("auth token")
	if err != nil {
		return err
	}
	var failed []error
	for _, to := range r.cfg.To {
		if r.once.Done(n.Key, to) {
			continue
		}
		if err := r.send(ctx, to, token, r.composer.Page(n, to)); err != nil {
			failed = append(failed, err)
			continue
		}
		r.once.Mark(n.Key, to)
	}
	return receiver.Worst(failed)
}

func (r *Receiver) send(ctx context.Context, to, token string, p *message.Page) error {
	form := url.Values{"To": {to}, "Body": {message.SMS(p, r.cfg.Parts)}}
	if r.cfg.From != "" {
		form.Set("From", r.cfg.From)
	} else {
		form.Set("MessagingServiceSid", r.cfg.MessagingService)
	}
	return receiver.Exchange(ctx, r.client, receiver.Request{
		URL:    strings.TrimRight(r.cfg.URL, "/") + "/2010-04-01/Accounts/" + url.PathEscape(r.cfg.AccountSID) + "/Messages.json",
		Header: http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(r.cfg.AccountSID+":"+token))}}, ContentType: "application/x-www-form-urlencoded", Body: []byte(form.Encode()),
	})
}

// Validate names what is missing.
func (c *Config) Validate() error {
	switch {
	case c.AccountSID == "":
		return errors.New("account_sid: missing")
	case c.AuthToken == nil:
		return errors.New("auth_token: missing")
	case c.From == "" && c.MessagingService == "":
		return errors.New("from: missing (or messaging_service_sid)")
	case len(c.To) == 0:
		return errors.New("to: missing")
	case c.Parts < 0 || c.Parts > 2:
		return errors.New("parts: not 1 or 2")
	}
	for _, to := range c.To {
		if len(to) < 8 || len(to) > 16 || to[0] != '+' || strings.Trim(to[1:], "0123456789") != "" {
			return errors.New("to: a number is not in E.164, like +4930123456")
		}
	}
	return nil
}
