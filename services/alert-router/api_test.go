package alertrouter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/routing"
)

func observed() (option, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return func(_ *Config, d *service.Deps) { d.Log = zap.New(core) }, logs
}

// With the built-in routing a critical alert is notified at once, to the log.
func TestCriticalIsNotifiedAtOnce(t *testing.T) {
	k := broker(t, 1)
	opt, logs := observed()
	run(t, k, configFor(t, t.TempDir()), opt)
	begin := time.Now()
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 1, started, crit))
	eventually(t, "log line", func() error {
		for _, e := range logs.FilterMessage("notification").All() {
			if f := e.ContextMap(); f["status"] == "firing" && strings.Contains(fmt.Sprint(f["alerts"]), "m-1/limit/1") {
				return nil
			}
		}
		return errors.New("none")
	})
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}

// A silence made through the API keeps the page from being sent, not the alert from being seen; when it is
// lifted the page goes out.
func TestSilenceSuppresses(t *testing.T) {
	k := broker(t, 1)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	status, body := r.post(t, "/api/v2/silences", silence("m-1"))
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	var made struct {
		ID string `json:"silenceID"`
	}
	if err := json.Unmarshal(body, &made); err != nil {
		t.Fatal(err)
	}
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 1, started, crit), anomaly("m-2", "limit", 1, started, crit))
	eventually(t, "the other machine's page", func() error { return count(h.told(), "firing m-2", 1) })
	eventually(t, "suppressed in the API", func() error {
		as, err := r.alerts(t)
		if err != nil {
			return err
		}
		for _, a := range as {
			if a.Labels["equipment_id"] == "m-1" && a.Status.State == "suppressed" && len(a.Status.SilencedBy) == 1 && a.Status.SilencedBy[0] == made.ID {
				return nil
			}
		}
		return fmt.Errorf("%+v", as)
	})
	if err := count(h.told(), "m-1", 0); err != nil {
		t.Error(err)
	}
	req, _ := http.NewRequest(http.MethodDelete, r.url+"/api/v2/silence/"+made.ID, nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("lift: %v %v", resp, err)
	}
	_ = resp.Body.Close()
	eventually(t, "the page", func() error { return count(h.told(), "firing m-1", 1) })
}

// A webhook that fails is tried again, and gets the message once.
func TestWebhookOutage(t *testing.T) {
	k := broker(t, 1)
	h := newHook(t)
	h.answer(http.StatusServiceUnavailable)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 1, started, crit))
	eventually(t, "a retry", func() error {
		var m string
		if err := r.get("/metrics", &m); err != nil {
			return err
		}
		if !strings.Contains(m, `tocsin_alert_notifications_total{receiver="hook",integration="webhook",outcome="retry",reason="serverError"}`) &&
			!strings.Contains(m, `tocsin_alert_notifications_total{receiver="hook",integration="webhook",outcome="retry",reason="other"}`) {
			return errors.New("none counted")
		}
		return nil
	})
	h.answer(0)
	eventually(t, "the page", func() error { return count(h.told(), "firing m-1", 1) })
}

func TestWebhookPayload(t *testing.T) {
	k := broker(t, 1)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	cfg.MachineURL = "http://page.example/m/{equipment_id}"
	run(t, k, cfg)
	newProducer(t, k).anomalies(anomaly("m-1", "bad_quality", 1_700_000_000_000_000, started, crit))
	eventually(t, "page", func() error { return count(h.told(), "firing m-1", 1) })
	m := h.messages()[0]
	a := m.Alerts[0]
	if m.Version != "4" || m.Receiver != "hook" || m.Status != "firing" || !strings.Contains(m.GroupKey, `equipment_id="m-1"`) {
		t.Errorf("message %+v", m)
	}
	for name, want := range map[string]string{"alertname": "TocsinBadQuality", "equipment_id": "m-1", "cause": "bad_quality", "severity": "critical", "gateway_id": "gw-1"} {
		if a.Labels[name] != want {
			t.Errorf("label %s: %q, want %q", name, a.Labels[name], want)
		}
	}
	if a.Annotations["summary"] != "m-1 vibrates" || a.Annotations["started"] != "2023-11-14T22:13:20Z" || !strings.Contains(a.Annotations["sensors"], "vibration: observed 9.5, expected 1 to 3") {
		t.Errorf("annotations %q", a.Annotations)
	}
	// Replayed history has event times of years ago; the alert's time is the broker's.
	if age := time.Since(a.StartsAt); age < 0 || age > time.Minute || !a.EndsAt.IsZero() {
		t.Errorf("starts %s, ends %s", a.StartsAt, a.EndsAt)
	}
	if a.GeneratorURL != "http://page.example/m/m-1" {
		t.Errorf("link %q", a.GeneratorURL)
	}
}

// mailbox is an SMTP server that keeps what it gets.
type mailbox struct {
	mu   sync.Mutex
	mail []string
	to   []string
}

func (b *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailSession{b}, nil }

type mailSession struct{ b *mailbox }

func (s *mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *mailSession) Reset()                               {}
func (s *mailSession) Logout() error                        { return nil }
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.to = append(s.b.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.mail = append(s.b.mail, string(text))
	return err
}

func TestEmail(t *testing.T) {
	k := broker(t, 1)
	box := &mailbox{}
	srv := smtp.NewServer(box)
	srv.Domain = "localhost"
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		_ = <-done
	})
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "r.yml"), fmt.Sprintf(`global:
  smtp_smarthost: %s
  smtp_from: tocsin@plant.example
  smtp_require_tls: false
route:
  receiver: mail
  group_by: [equipment_id, cause]
  group_wait: 0s
  group_interval: 200ms
receivers:
  - name: mail
    email_configs:
      - to: oncall@plant.example
        send_resolved: true
`, ln.Addr()))
	run(t, k, cfg)
	p := newProducer(t, k)
	p.anomalies(anomaly("m-1", "limit", 1, started, crit))
	arrived := func(n int, parts ...string) func() error {
		return func() error {
			box.mu.Lock()
			defer box.mu.Unlock()
			if len(box.mail) != n {
				return fmt.Errorf("%d mails", len(box.mail))
			}
			for _, want := range parts {
				// Quoted-printable breaks lines anywhere.
				if !strings.Contains(strings.ReplaceAll(box.mail[n-1], "=\r\n", ""), want) {
					return fmt.Errorf("no %q in %s", want, box.mail[n-1])
				}
			}
			return nil
		}
	}
	eventually(t, "mail", arrived(1, "To: <oncall@plant.example>", "Subject: CRITICAL m-1: vibration 9.5, allowed 1 to 3", "m-1 vibrates"))
	p.anomalies(anomaly("m-1", "limit", 1, ended, crit))
	eventually(t, "mail of the end", arrived(2, "Subject: RESOLVED m-1"))
}

func TestBadRoutingFileIsRefused(t *testing.T) {
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "r.yml"), "route:\n  receiver: log\n  group_bee: [cause]\nreceivers:\n  - name: log\n")
	_, err := New(cfg, service.Nop())
	var bad *routing.ConfigError
	if !errors.As(err, &bad) || bad.Line != 3 || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("got %v", err)
	}
}

// A reload applies a good file; a bad one is refused with its line, and the one in force goes on paging.
func TestReload(t *testing.T) {
	k := broker(t, 1)
	first, second := newHook(t), newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, first.URL)
	r := run(t, k, cfg)
	p := newProducer(t, k)
	p.anomalies(anomaly("m-1", "limit", 1, started, crit))
	eventually(t, "page at the first", func() error { return count(first.told(), "firing m-1", 1) })

	good, err := os.ReadFile(cfg.RoutingFile)
	if err != nil {
		t.Fatal(err)
	}
	writeRouting(t, cfg.RoutingFile, "route:\n  receiver: nobody\nreceivers: []\n")
	status, body := r.post(t, "/-/reload", nil)
	if status != http.StatusInternalServerError || !strings.Contains(string(body), "line 2") || !strings.Contains(string(body), "old one stays") {
		t.Errorf("%d %s", status, body)
	}
	p.anomalies(anomaly("m-2", "limit", 1, started, crit))
	eventually(t, "page at the first still", func() error { return count(first.told(), "firing m-2", 1) })

	writeRouting(t, cfg.RoutingFile, strings.ReplaceAll(string(good), first.URL, second.URL))
	if status, body = r.post(t, "/-/reload", nil); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	p.anomalies(anomaly("m-3", "limit", 1, started, crit))
	eventually(t, "page at the second", func() error { return count(second.told(), "firing m-3", 1) })
	// Same receiver, same groups: what it has been told stays told.
	if err := same(second.told(), []string{"firing m-3/limit/1 critical"}); err != nil {
		t.Error(err)
	}
}

func TestReadyAndConfig(t *testing.T) {
	k := broker(t, 1)
	r := run(t, k, configFor(t, t.TempDir()))
	for _, path := range []string{"/health/live", "/health/ready", "/-/ready", "/-/healthy", "/status/config", "/metrics", "/api/v2/status"} {
		var s string
		if err := r.get(path, &s); err != nil {
			t.Error(err)
		}
	}
}

// Without a broker the service lives and says what it waits for.
func TestWaitsForKafka(t *testing.T) {
	d := service.Nop()
	d.Kafka.Brokers, d.Kafka.Partitions = []string{"127.0.0.1:1"}, 1
	r := start(t, d.Kafka, configFor(t, t.TempDir()))
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "Kafka") && err.Error() != "starting" {
		t.Errorf("ready: %v", err)
	}
	eventually(t, "503 with a reason", func() error {
		resp, err := http.Get(r.url + "/api/v2/alerts")
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusServiceUnavailable {
			return errors.New(resp.Status)
		}
		return nil
	})
	if err := r.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	s, err := New(configFor(t, t.TempDir()), service.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
