package alertapi

import (
	"errors"
	"net/http"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/access"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/push"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webpush"
)

// PushKey is what a browser needs to subscribe to a receiver.
type PushKey struct {
	Receiver  string `json:"receiver"`
	PublicKey string `json:"public_key"` // VAPID's, in base64url: applicationServerKey
}

type subscriptionView struct {
	ID       string `json:"id"`
	Receiver string `json:"receiver"`
	Created  string `json:"created"`
}

func viewPush(p journal.PushSubscription) subscriptionView {
	return subscriptionView{p.ID, p.Receiver, msTime(p.CreatedMS).UTC().Format("2006-01-02T15:04:05.000Z")}
}

// RegisterPush adds the routes of Web Push. Who subscribes must be able to act: pages hold links to act by.
func (a *API) RegisterPush(handle func(pattern string, h http.Handler), book *push.Book, keys func() []PushKey) {
	handle("GET /v1/push/keys", a.wrap(access.Viewer, func(w http.ResponseWriter, _ *http.Request, _ *access.Identity) error {
		list := keys()
		if list == nil {
			list = []PushKey{}
		}
		return answer(w, map[string]any{"keys": list})
	}))
	handle("GET /v1/push/subscriptions", a.wrap(access.Viewer, func(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
		list, err := book.Of(r.Context(), who.Name)
		if err != nil {
			return err
		}
		out := make([]subscriptionView, 0, len(list))
		for _, p := range list {
			out = append(out, viewPush(p))
		}
		return answer(w, map[string]any{"subscriptions": out})
	}))
	handle("POST /v1/push/subscriptions", a.wrap(access.Operator, func(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
		return a.subscribe(w, r, who, book, keys())
	}))
	handle("DELETE /v1/push/subscriptions/{id}", a.wrap(access.Viewer, func(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
		found, err := book.Remove(r.Context(), who.Name, r.PathValue("id"))
		if err == nil && !found {
			err = &problem{status: http.StatusNotFound, title: "not found", detail: "no such subscription"}
		}
		if err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
}

func (a *API) subscribe(w http.ResponseWriter, r *http.Request, who *access.Identity, book *push.Book, keys []PushKey) error {
	// What PushSubscription.toJSON gives in a browser, and whose pages it is about.
	var in struct {
		Receiver string `json:"receiver"`
		Endpoint string `json:"endpoint"`
		Expires  any    `json:"expirationTime"`
		Keys     struct {
			P256dh string `json:"p256dh"`
			Auth   string `json:"auth"`
		} `json:"keys"`
	}
	if err := body(r, &in); err != nil {
		return err
	}
	known := false
	for _, k := range keys {
		if in.Receiver == "" && len(keys) == 1 {
			in.Receiver = k.Receiver
		}
		known = known || k.Receiver == in.Receiver
	}
	if !known {
		return invalid("receiver", "not one that pages are pushed for; see /v1/push/keys")
	}
	var s webpush.Subscription
	s.Endpoint, s.Keys.P256dh, s.Keys.Auth = in.Endpoint, in.Keys.P256dh, in.Keys.Auth
	made, err := book.Add(r.Context(), who.Name, in.Receiver, s)
	var field *push.FieldError
	if errors.As(err, &field) {
		return invalid(field.Field, "%s", field.Reason)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/push/subscriptions/"+made.ID)
	return answerWith(w, http.StatusCreated, viewPush(made))
}
