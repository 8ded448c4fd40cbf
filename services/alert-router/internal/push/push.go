// Package push keeps who has subscribed to pages by Web Push: per person, in the journal's database.
package push

import (
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/access"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webpush"
)

const (
	// maxPerPerson bounds what one person, or a program in their name, can make every page cost.
	maxPerPerson = 20
	maxEndpoint  = 2048
	timeout      = 5 * time.Second
)

// Book keeps subscriptions. Safe for concurrent use.
type Book struct {
	// Journal is asked for each time; its error says that it is not open yet.
	Journal func() (*journal.Store, error)
	// Person finds whoever has subscribed; nil when they may act no longer, or never could.
	Person func(name string) *access.Identity
	Log    *zap.Logger

	mu   sync.Mutex
	last map[string][]journal.PushSubscription // by receiver, when it was last read
}

// FieldError is a subscription that cannot be one.
type FieldError struct{ Field, Reason string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

// ID names an endpoint without giving it away.
func ID(endpoint string) string {
	h := sha256.Sum256([]byte(endpoint))
	return hex.EncodeToString(h[:16])
}

// Add keeps a browser's subscription for a person.
func (b *Book) Add(ctx context.Context, person, receiver string, s webpush.Subscription) (journal.PushSubscription, error) {
	out := journal.PushSubscription{
		ID: ID(s.Endpoint), Person: person, Receiver: receiver, Endpoint: s.Endpoint, P256dh: strings.TrimRight(s.Keys.P256dh, "="), Auth: strings.TrimRight(s.Keys.Auth, "="),
		CreatedMS: time.Now().UnixMilli(),
	}
	if u, err := url.Parse(s.Endpoint); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || len(s.Endpoint) > maxEndpoint {
		return out, &FieldError{"endpoint", "not the URL of a push service"}
	}
	point, err := base64.RawURLEncoding.DecodeString(out.P256dh)
	if err == nil {
		_, err = ecdh.P256().NewPublicKey(point)
	}
	if err != nil {
		return out, &FieldError{"keys.p256dh", "not a P-256 public key in base64url"}
	}
	if secret, err := base64.RawURLEncoding.DecodeString(out.Auth); err != nil || len(secret) != 16 {
		return out, &FieldError{"keys.auth", "not 16 bytes in base64url"}
	}
	store, err := b.Journal()
	if err != nil {
		return out, err
	}
	switch err = store.SavePush(ctx, out, maxPerPerson); {
	case errors.Is(err, journal.ErrTooMany):
		return out, &FieldError{"endpoint", fmt.Sprintf("you have %d subscriptions already; remove one", maxPerPerson)}
	case err == nil:
		b.Log.Info("somebody subscribed to pages", zap.String("person", person), zap.String("receiver", receiver), zap.String("id", out.ID))
	}
	return out, err
}

// Remove forgets a person's subscription and tells whether there was one.
func (b *Book) Remove(ctx context.Context, person, id string) (bool, error) {
	store, err := b.Journal()
	if err != nil {
		return false, err
	}
	return store.RemovePush(ctx, id, &person)
}

// Of lists a person's subscriptions.
func (b *Book) Of(ctx context.Context, person string) ([]journal.PushSubscription, error) {
	store, err := b.Journal()
	if err != nil {
		return nil, err
	}
	return store.PushOf(ctx, person)
}

// To are the subscriptions to a receiver, each with what its person may see. While the database is away they are those that were last read: it must not keep anybody from being told.
func (b *Book) To(ctx context.Context, receiver string) ([]webpush.Subscription, error) {
	list, err := b.read(ctx, receiver)
	if err != nil {
		return nil, err
	}
	out := make([]webpush.Subscription, 0, len(list))
	for _, p := range list {
		who := b.Person(p.Person)
		if who == nil || !who.Acts() {
			continue // pages hold links to act by
		}
		s := webpush.Subscription{Recipient: or(p.Person, "webpush/"+p.ID), Endpoint: p.Endpoint, Sees: who.Machines.Has}
		s.Keys.P256dh, s.Keys.Auth = p.P256dh, p.Auth
		out = append(out, s)
	}
	return out, nil
}

func (b *Book) read(ctx context.Context, receiver string) ([]journal.PushSubscription, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	store, err := b.Journal()
	var list []journal.PushSubscription
	if err == nil {
		list, err = store.PushTo(ctx, receiver)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		known, ok := b.last[receiver]
		if !ok {
			return nil, err
		}
		b.Log.Warn("subscriptions as they were last read", zap.String("receiver", receiver), zap.Error(err))
		return known, nil
	}
	if b.last == nil {
		b.last = make(map[string][]journal.PushSubscription)
	}
	b.last[receiver] = list
	return list, nil
}

// Gone forgets a subscription that its push service has ended.
func (b *Book) Gone(s webpush.Subscription) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	store, err := b.Journal()
	if err == nil {
		_, err = store.RemovePush(ctx, ID(s.Endpoint), nil)
	}
	b.Log.Info("a subscription to pages has ended", zap.String("person", s.Recipient), zap.String("id", ID(s.Endpoint)), zap.Error(err))
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
