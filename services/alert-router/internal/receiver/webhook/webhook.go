// Package webhook posts pages as JSON: Alertmanager's payload (version 4), for what is made for that, or our own with the explanation.
//
// A message that is signed carries the headers of the Standard Webhooks specification (webhook-id, webhook-timestamp, webhook-signature), for which there are libraries
// in every language: HMAC-SHA256 over id, timestamp and body. All carry an Idempotency-Key, the same for every attempt and every instance: a repeat can be dropped by it.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// Payload is the form of the body.
type Payload int

// Payloads.
const (
	Alertmanager Payload = iota // as Alertmanager's webhook_configs send it
	Tocsin                      // message.Document
)

// Config of one integration.
type Config struct {
	URL     receiver.Secret
	Payload Payload
	// Secrets sign, all of them at once while one replaces another; none: not signed. "whsec_" and base64 as the specification writes them, or plain text.
	Secrets []receiver.Secret
	// MaxAlerts of one message; 0: all.
	MaxAlerts int
	Timeout   time.Duration // 0: the client's
	Header    http.Header
	Now       func() time.Time // nil: time.Now
}

// Receiver is a notification.Receiver.
type Receiver struct {
	cfg      Config
	client   *http.Client
	composer receiver.Composer
}

// New makes a Receiver that sends through client.
func New(cfg Config, client *http.Client, composer receiver.Composer) *Receiver {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Receiver{cfg, client, composer}
}

// Send implements notification.Receiver.
func (r *Receiver) Send(ctx context.Context, n notification.Notification) error {
	u, err := r.cfg.URL.Get("url")
	if err != nil {
		return err
	}
	var body []byte
	if r.cfg.Payload == Tocsin {
		body, err = receiver.JSON(message.NewDocument(&n, r.composer.Page(n, "webhook/"+n.Receiver)))
	} else {
		body = appendStock(nil, &n, r.cfg.MaxAlerts)
	}
	if err != nil {
		return err
	}
	if r.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.cfg.Timeout)
		defer cancel()
	}
	h := r.cfg.Header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	h.Set("Idempotency-Key", n.Key)
	if err := r.sign(h, n.Key, body); err != nil {
		return err
	}
	return receiver.Exchange(ctx, r.client, receiver.Request{URL: u, Body: body, Header: h})
}

func (r *Receiver) sign(h http.Header, id string, body []byte) error {
	if len(r.cfg.Secrets) == 0 {
		return nil
	}
	at := strconv.FormatInt(r.cfg.Now().Unix(), 10)
	signatures := make([]string, len(r.cfg.Secrets))
	for i, s := range r.cfg.Secrets {
		secret, err := s.Get("signing secret")
		if err != nil {
			return err
		}
		signatures[i] = Sign(secret, id, at, body)
	}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", at)
	h.Set("Webhook-Signature", strings.Join(signatures, " "))
	return nil
}

// Sign is the signature of a message: "v1," and the base64 of the HMAC-SHA256 of "id.timestamp.body".
func Sign(secret, id, timestamp string, body []byte) string {
	key := []byte(secret)
	if rest, ok := strings.CutPrefix(secret, "whsec_"); ok {
		if raw, err := base64.StdEncoding.DecodeString(rest); err == nil {
			key = raw
		}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
