package alertrouter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	page "github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webhook"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/routing"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/undelivered"
)

// posted is what a program at the other end of a signed webhook has got.
type posted struct {
	*httptest.Server
	mu     sync.Mutex
	list   []page.Document
	forged int
	status int
}

func newPosted(t *testing.T, secret string) *posted {
	t.Helper()
	p := &posted{status: http.StatusOK}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		defer p.mu.Unlock()
		var d page.Document
		if r.Header.Get("Webhook-Signature") != webhook.Sign(secret, r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), body) || json.Unmarshal(body, &d) != nil ||
			r.Header.Get("Idempotency-Key") != d.Key {
			p.forged++
		}
		if p.status == http.StatusOK {
			p.list = append(p.list, d)
		}
		w.WriteHeader(p.status)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *posted) answer(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

// alert is the first document that is about the alert, in that status.
func (p *posted) alert(id, status string) (page.AlertDocument, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forged > 0 {
		return page.AlertDocument{}, fmt.Errorf("%d messages whose signature or key is wrong", p.forged)
	}
	for _, d := range p.list {
		for _, a := range d.Alerts {
			if a.ID == id && a.Status == status {
				return a, nil
			}
		}
	}
	return page.AlertDocument{}, fmt.Errorf("nothing of %s %s among %d", id, status, len(p.list))
}

func receiversFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "receivers.yml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const pagesRouting = `route:
  receiver: people
  group_by: [equipment_id, cause, alertname, receiver]
  group_wait: 0s
  group_interval: 300ms
  routes:
    - {matchers: [alertname="TocsinReceiverFailing"], receiver: others}
receivers:
  - name: people
  - name: others
`

// From an anomaly to a signed page with its explanation, and back by its links: nothing by following them, once by pressing the button.
func TestPageAndItsLinks(t *testing.T) {
	k := broker(t, 1)
	p := newPosted(t, "shared secret")
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "r.yml"), pagesRouting)
	cfg.ReceiversFile = receiversFile(t, "page: {units: {vibration: mm/s}}\nreceivers: [{name: people, tocsin_webhook_configs: [{url: '"+p.URL+"', secrets: [shared secret]}]}]")
	r := run(t, k, cfg)
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 1, started, crit))
	const id = "m-1/limit/1"
	eventually(t, "the page", func() error { _, err := p.alert(id, "firing"); return err })
	a, _ := p.alert(id, "firing")
	if a.Odd == "" || len(a.Sensors) == 0 || a.Sensors[0].Sensor != "vibration" || a.Sensors[0].Unit != "mm/s" || a.Links == nil || len(a.Links.Verdict) != 4 {
		t.Fatalf("%+v", a)
	}
	annotation := func(name, want string) error {
		as, err := r.alerts(t)
		if err != nil {
			return err
		}
		for _, x := range as {
			if x.Labels["alert_id"] == id && x.Annotations[name] == want {
				return nil
			}
		}
		return fmt.Errorf("no %s %q in %+v", name, want, as)
	}
	use := func(method, u string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, u, strings.NewReader(url.Values{"note": {"on my way"}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	for range 3 {
		if status, body := use(http.MethodGet, a.Links.Acknowledge); status != http.StatusOK || !strings.Contains(body, "m-1, limit: m-1 vibrates") {
			t.Fatalf("%d %s", status, body)
		}
	}
	if annotation("state", "acknowledged") == nil {
		t.Error("following a link acknowledged the alert")
	}
	if status, body := use(http.MethodPost, a.Links.Acknowledge); status != http.StatusOK || !strings.Contains(body, "Acknowledged") {
		t.Fatalf("%d %s", status, body)
	}
	eventually(t, "acknowledged", func() error {
		return errors.Join(annotation("state", "acknowledged"), annotation("acknowledged_by", "webhook/people"))
	})
	for i, want := range []string{"Recorded: false alarm", "nothing has changed"} {
		if status, body := use(http.MethodPost, a.Links.Verdict["false"]); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("verdict %d: %d %s", i, status, body)
		}
	}
	// A second thought counts; the first link, replayed, does not take it back.
	use(http.MethodPost, a.Links.Verdict["real"])
	use(http.MethodPost, a.Links.Verdict["false"])
	var got struct {
		Verdict struct {
			Verdict string `json:"verdict"`
			By      string `json:"by"`
			Comment string `json:"comment"`
		} `json:"verdict"`
	}
	eventually(t, "the verdict", func() error {
		if err := r.get("/v1/alerts/"+url.PathEscape(id), &got); err != nil {
			return err
		}
		if v := got.Verdict; v.Verdict != "real" || v.By != "webhook/people" || v.Comment != "on my way" {
			return fmt.Errorf("verdict %+v", v)
		}
		return nil
	})
	if status, _ := use(http.MethodPost, a.Links.Acknowledge+"x"); status != http.StatusNotFound {
		t.Errorf("forged: %d", status)
	}
}

// A receiver that refuses is an alert of its own, told to whoever can be reached; it ends when it takes messages again, and nothing was lost.
func TestReceiverThatFailsIsAnAlert(t *testing.T) {
	k := broker(t, 1)
	people, others := newPosted(t, "s"), newPosted(t, "s")
	people.answer(http.StatusForbidden)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "r.yml"), pagesRouting)
	cfg.ReceiversFile = receiversFile(t, fmt.Sprintf("receivers: [{name: people, tocsin_webhook_configs: [{url: %q, secrets: [s]}]}, {name: others, tocsin_webhook_configs: [{url: %q, secrets: [s]}]}]",
		people.URL, others.URL))
	r := run(t, k, cfg)
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 1, started, crit))
	heard := func(status string) func() error {
		return func() error {
			others.mu.Lock()
			defer others.mu.Unlock()
			for _, d := range others.list {
				if a := d.Alerts[0]; a.Labels["alertname"] == routing.ReceiverFailing && a.Labels["receiver"] == "people" && a.Status == status {
					return nil
				}
			}
			return fmt.Errorf("not told %s: %d messages", status, len(others.list))
		}
	}
	eventually(t, "that the receiver fails", heard("firing"))
	var m string
	if err := r.get("/metrics", &m); err != nil || !strings.Contains(m, `integration="tocsin_webhook",outcome="dead_letter",reason="authError"`) {
		t.Errorf("no dead letter counted: %v", err)
	}
	// The message was set aside once, however often it was tried, and holds nothing to act by.
	kafkatest.ConsumeUntil(t, k, topic.Undelivered, patience, func(rs []*kgo.Record) bool {
		for _, rec := range rs {
			var doc struct {
				Schema, Receiver string
				Alerts           []struct{ ID string }
			}
			if err := json.Unmarshal(rec.Value, &doc); err != nil || doc.Schema != topic.Type(rec) || doc.Receiver != "people" || len(doc.Alerts) != 1 || doc.Alerts[0].ID != "m-1/limit/1" ||
				topic.Header(rec, dlq.HeaderReason) != "unauthorized" || topic.Header(rec, dlq.HeaderConsumer) != dlq.Router || topic.Header(rec, undelivered.HeaderIntegration) != "tocsin_webhook/0" ||
				topic.Header(rec, dlq.HeaderAttempt) != "1" || string(rec.Key) != "m-1" || strings.Contains(string(rec.Value), "/v/") {
				t.Errorf("%v: letter %s %v", err, rec.Value, rec.Headers)
			}
		}
		return len(rs) > 0
	})
	eventually(t, "a second round", func() error {
		var m string
		err := r.get("/metrics", &m)
		if strings.Contains(m, `outcome="dead_letter",reason="authError"} 1`+"\n") || !strings.Contains(m, `tocsin_alert_letters_total{outcome="kept"} 1`+"\n") {
			err = errors.New("given up once, or set aside twice")
		}
		return err
	})
	people.answer(http.StatusOK)
	eventually(t, "the page", func() error { _, err := people.alert("m-1/limit/1", "firing"); return err })
	eventually(t, "that it works again", heard("resolved"))
}

// A receiver that is left to Alertmanager's integration, for its words, is tried again, given up and warned of as ours are. A restart forgets neither the warning nor its end.
func TestWordsOfTheirOwnFailAlike(t *testing.T) {
	k := broker(t, 1)
	discord, others := newHook(t), newPosted(t, "s")
	discord.answer(http.StatusForbidden)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "r.yml"), strings.Replace(pagesRouting, "  - name: people\n", fmt.Sprintf(`  - name: people
    discord_configs: [{webhook_url: %q}]
`, discord.URL), 1))
	cfg.ReceiversFile = receiversFile(t, fmt.Sprintf("receivers: [{name: others, tocsin_webhook_configs: [{url: %q, secrets: [s]}]}]", others.URL))
	heard := func(status string) func() error {
		return func() error {
			others.mu.Lock()
			defer others.mu.Unlock()
			for _, d := range others.list {
				if a := d.Alerts[0]; a.Labels["receiver"] == "people" && a.Labels["integration"] == "discord" && a.Status == status {
					return nil
				}
			}
			return fmt.Errorf("not told %s: %d messages", status, len(others.list))
		}
	}
	r := run(t, k, cfg)
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 1, started, crit))
	eventually(t, "that the receiver fails", heard("firing"))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	kafkatest.ConsumeUntil(t, k, topic.Undelivered, patience, func(rs []*kgo.Record) bool {
		return len(rs) > 0 && topic.Header(rs[0], dlq.HeaderReason) == "unauthorized" && topic.Header(rs[0], undelivered.HeaderIntegration) == "discord/0"
	})
	discord.answer(0)
	run(t, k, cfg)
	eventually(t, "the page", func() error {
		if n := len(discord.messages()); n != 1 {
			return fmt.Errorf("%d messages", n)
		}
		return nil
	})
	eventually(t, "that it works again", heard("resolved"))
	others.mu.Lock()
	defer others.mu.Unlock()
	if len(others.list) != 2 {
		t.Errorf("told %d times of one failure", len(others.list))
	}
}

// Unless it is allowed nothing inside is reached, whoever wrote the routing file.
func TestInsideIsNotReached(t *testing.T) {
	k := broker(t, 1)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.EgressAllow = nil
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 1, started, crit))
	eventually(t, "the refusal", func() error {
		var m string
		if err := r.get("/metrics", &m); err != nil {
			return err
		}
		if !strings.Contains(m, `integration="webhook",outcome="dead_letter",reason="clientError"`) {
			return errors.New("none counted")
		}
		return nil
	})
	if len(h.messages()) != 0 {
		t.Error("reached")
	}
}

// A bad receivers file is refused at a reload, and the old one stays in force.
func TestBadReceiversFile(t *testing.T) {
	k := broker(t, 1)
	p := newPosted(t, "s")
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "r.yml"), pagesRouting)
	cfg.ReceiversFile = receiversFile(t, "receivers: [{name: people, tocsin_webhook_configs: [{url: '"+p.URL+"', secrets: [s]}]}]")
	r := run(t, k, cfg)
	for text, want := range map[string]string{"receivers: [{name: nobody}]": "nobody", "receivers: [{nam: people}]": "line 1", "links: {lifetime: 1s}": "links.lifetime"} {
		if err := os.WriteFile(cfg.ReceiversFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, body := r.post(t, "/-/reload", nil); status != http.StatusInternalServerError || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s", text, status, body)
		}
	}
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 1, started, crit))
	eventually(t, "the page", func() error { _, err := p.alert("m-1/limit/1", "firing"); return err })
}
