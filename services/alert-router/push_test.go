package alertrouter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/access"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webpush"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webpush/webpushtest"
)

// pushService brings messages to devices by the path of their endpoint.
type pushService struct {
	*httptest.Server
	t       *testing.T
	devices map[string]*webpushtest.Device
	mu      sync.Mutex
	key     string // VAPID's, that everybody subscribed with
	got     map[string][]webpush.Shown
	gone    map[string]bool
	refused int
}

func newPushService(t *testing.T, paths ...string) *pushService {
	t.Helper()
	p := &pushService{t: t, devices: map[string]*webpushtest.Device{}, got: map[string][]webpush.Shown{}, gone: map[string]bool{}}
	for _, path := range paths {
		p.devices[path] = webpushtest.NewDevice(t)
	}
	p.Server = httptest.NewServer(http.HandlerFunc(p.take))
	t.Cleanup(p.Close)
	return p
}

func (p *pushService) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone[r.URL.Path] {
		p.refused++
		w.WriteHeader(http.StatusGone)
		return
	}
	webpushtest.Signed(p.t, r.Header.Get("Authorization"), p.key, p.URL)
	var s webpush.Shown
	if err := json.Unmarshal(p.devices[r.URL.Path].Decrypt(p.t, body), &s); err != nil {
		p.t.Error(err)
	}
	p.got[r.URL.Path] = append(p.got[r.URL.Path], s)
	w.WriteHeader(http.StatusCreated)
}

// shown are the titles at a device.
func (p *pushService) shown(path string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, s := range p.got[path] {
		out = append(out, s.Title)
	}
	return out
}

func (p *pushService) subscription(path string) map[string]any {
	d := p.devices[path]
	return map[string]any{"endpoint": p.URL + path, "expirationTime": nil, "keys": map[string]string{"p256dh": d.P256dh(), "auth": d.Auth()}}
}

// A person subscribes, is told of what they may see, encrypted for their device, and of nothing else; unsubscribes; a subscription that the push service has ended is forgotten.
// All of it holds over a restart.
func TestWebPushSubscriptions(t *testing.T) {
	k := broker(t, 1)
	svc := newPushService(t, "/ada", "/ada-phone", "/chief")
	const adas, bos, chiefs = "ada-ada-ada-ada-ada", "bo-bo-bo-bo-bo-bo-bo", "chief-chief-chief"
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "r.yml"),
		"route: {receiver: people, group_by: [equipment_id, cause], group_wait: 0s, group_interval: 300ms}\nreceivers: [{name: people}, {name: nobody}]\n")
	cfg.ReceiversFile = receiversFile(t, "receivers: [{name: people, webpush_configs: [{subject: 'mailto:ops@example.com'}]}]")
	people := func(c *Config, _ *service.Deps) {
		c.Auth.People = []access.Person{
			{Name: "ada", Token: adas, Role: access.Operator, Equipment: []string{"line-a-*"}},
			{Name: "bo", Token: bos, Role: access.Viewer, Equipment: []string{"*"}},
			{Name: "chief", Token: chiefs, Role: access.Operator, Equipment: []string{"*"}},
		}
	}
	r := run(t, k, cfg, people)
	p := newProducer(t, k)

	var keys struct {
		Keys []struct {
			Receiver  string `json:"receiver"`
			PublicKey string `json:"public_key"`
		}
	}
	eventually(t, "keys", func() error {
		if code, said := r.ask(t, bos, http.MethodGet, "/v1/push/keys", nil, &keys); code != http.StatusOK || len(keys.Keys) != 1 || keys.Keys[0].Receiver != "people" {
			return fmt.Errorf("%d %s", code, said)
		}
		return nil
	})
	svc.key = keys.Keys[0].PublicKey
	ids := map[string]string{}
	for path, token := range map[string]string{"/ada": adas, "/ada-phone": adas, "/chief": chiefs} {
		var made struct{ ID string }
		if code, said := r.ask(t, token, http.MethodPost, "/v1/push/subscriptions", svc.subscription(path), &made); code != http.StatusCreated || strings.Contains(said, svc.URL) {
			t.Fatalf("%s: %d %s", path, code, said)
		}
		ids[path] = made.ID
	}
	// Again is the same; what is not a subscription, or for nobody, is none.
	if code, said := r.ask(t, adas, http.MethodPost, "/v1/push/subscriptions", svc.subscription("/ada"), nil); code != http.StatusCreated {
		t.Errorf("again: %d %s", code, said)
	}
	with := func(field string, value any) map[string]any {
		s := svc.subscription("/ada")
		s[field] = value
		return s
	}
	for name, c := range map[string]struct {
		token string
		in    map[string]any
		want  int
	}{
		"nobody":       {"", svc.subscription("/ada"), 401},
		"a viewer":     {bos, svc.subscription("/ada"), 403},
		"no receiver":  {adas, with("receiver", "nobody"), 400},
		"no endpoint":  {adas, with("endpoint", "file:///etc/passwd"), 400},
		"no key":       {adas, with("keys", map[string]string{"p256dh": "AAAA", "auth": svc.devices["/ada"].Auth()}), 400},
		"no secret":    {adas, with("keys", map[string]string{"p256dh": svc.devices["/ada"].P256dh(), "auth": "AAAA"}), 400},
		"for somebody": {adas, with("person", "chief"), 400},
	} {
		if code, said := r.ask(t, c.token, http.MethodPost, "/v1/push/subscriptions", c.in, nil); code != c.want {
			t.Errorf("%s: %d, want %d: %s", name, code, c.want, said)
		}
	}
	var own struct {
		Subscriptions []struct{ ID, Receiver string }
	}
	if code, said := r.ask(t, adas, http.MethodGet, "/v1/push/subscriptions", nil, &own); code != http.StatusOK || len(own.Subscriptions) != 2 || strings.Contains(said, svc.devices["/ada"].Auth()) {
		t.Errorf("%d %s", code, said)
	}
	if code, said := r.ask(t, adas, http.MethodDelete, "/v1/push/subscriptions/"+ids["/chief"], nil, nil); code != http.StatusNotFound {
		t.Errorf("somebody else's: %d %s", code, said)
	}

	told := func(path, machine string) func() error {
		return func() error {
			if got := svc.shown(path); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, machine) }) {
				return fmt.Errorf("%s was shown %q", path, got)
			}
			return nil
		}
	}
	p.anomalies(anomaly("line-a-1", "limit", 1, started, crit), anomaly("line-b-1", "limit", 1, started, crit))
	for _, path := range []string{"/ada", "/ada-phone", "/chief"} {
		eventually(t, "line a at "+path, told(path, "line-a-1"))
	}
	eventually(t, "line b at the chief's", told("/chief", "line-b-1"))
	if told("/ada", "line-b-1")() == nil {
		t.Error("ada was told of line b")
	}
	svc.mu.Lock()
	if s := svc.got["/ada"][0]; len(s.Actions) != 1 || !strings.HasPrefix(s.Actions[0].URL, r.url+"/v/") || s.Severity != "critical" {
		t.Errorf("shown %+v", s)
	}
	svc.gone["/ada"] = true
	svc.mu.Unlock()

	if code, said := r.ask(t, chiefs, http.MethodDelete, "/v1/push/subscriptions/"+ids["/chief"], nil, nil); code != http.StatusNoContent {
		t.Errorf("unsubscribe: %d %s", code, said)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = run(t, k, cfg, people)
	if r.ask(t, adas, http.MethodGet, "/v1/push/keys", nil, &keys); keys.Keys[0].PublicKey != svc.key {
		t.Error("another key than was subscribed with")
	}
	p.anomalies(anomaly("line-a-2", "limit", 1, started, crit))
	eventually(t, "line a at the phone", told("/ada-phone", "line-a-2"))
	eventually(t, "forgotten", func() error {
		own.Subscriptions = nil
		if code, said := r.ask(t, adas, http.MethodGet, "/v1/push/subscriptions", nil, &own); code != http.StatusOK || len(own.Subscriptions) != 1 || own.Subscriptions[0].ID != ids["/ada-phone"] {
			return errors.New(said)
		}
		return nil
	})
	p.anomalies(anomaly("line-a-3", "limit", 1, started, crit))
	eventually(t, "line a at the phone", told("/ada-phone", "line-a-3"))
	svc.mu.Lock()
	defer svc.mu.Unlock()
	if svc.refused != 1 {
		t.Errorf("sent %d messages to a subscription that had ended", svc.refused)
	}
	for _, s := range svc.got["/chief"] {
		if strings.Contains(s.Title, "line-a-2") || strings.Contains(s.Title, "line-a-3") {
			t.Errorf("unsubscribed, and told %q", s.Title)
		}
	}
}
