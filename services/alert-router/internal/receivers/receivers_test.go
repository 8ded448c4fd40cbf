package receivers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amconfig "github.com/prometheus/alertmanager/config"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/egress"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message/messagetest"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/kafkarecord"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/verdict"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func load(t *testing.T, text string) *amconfig.Config {
	t.Helper()
	conf, err := amconfig.Load(text)
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func file(t *testing.T, text string) *File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "receivers.yml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func builder(f *File, allow ...string) *Builder {
	p, err := egress.ParsePolicy(allow)
	if err != nil {
		panic(err)
	}
	return &Builder{
		File: f, Composer: messagetest.Composer(), Dialer: &egress.Dialer{Policy: p},
		Producer: func() (kafkarecord.Producer, error) { return nil, errors.New("no broker") },
	}
}

// names of the integrations that are ours, for each receiver of a routing file.
func names(t *testing.T, b *Builder, conf *amconfig.Config) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	for _, rc := range conf.Receivers {
		list, err := b.Build(&rc)
		if err != nil {
			t.Fatalf("%s: %v", rc.Name, err)
		}
		for _, in := range list {
			out[rc.Name] = append(out[rc.Name], in.Name+string(rune('0'+in.Index)))
		}
	}
	return out
}

const stock = `
global:
  smtp_smarthost: mx.example.com:587
  smtp_from: tocsin@example.com
  slack_api_url: https://hooks.slack.com/services/T0/B0/x
  opsgenie_api_key: k
route: {receiver: mail}
receivers:
  - name: mail
    email_configs: [{to: 'anna@example.com, Ben <ben@example.com>', headers: {X-Team: presses}}]
  - name: mail with own words
    email_configs: [{to: a@example.com, html: 'mine'}, {to: b@example.com}, {to: c@example.com, headers: {subject: '{{ .GroupLabels.x }}'}}, {to: the office}]
  - name: slack
    slack_configs: [{channel: '#a', username: ops, icon_emoji: ':bell:'}, {channel: '#b', title: 'mine'}, {channel: '#{{ .GroupLabels.team }}'}]
  - name: pagerduty
    pagerduty_configs: [{routing_key: k}, {service_key: old}, {routing_key: k, details: {a: b}}, {routing_key: k, severity: critical}, {routing_key: k, client: us, class: c}]
  - name: opsgenie
    opsgenie_configs: [{tags: 'a, b', priority: P2, responders: [{type: teams, name: 'x, y'}]}, {message: mine}]
  - name: teams
    msteamsv2_configs: [{webhook_url: https://x.example.com/}, {webhook_url: https://x.example.com/, text: mine}]
  - name: webhook
    webhook_configs: [{url: https://x.example.com/, max_alerts: 3}, {url: 'https://x.example.com/{{ .Receiver }}'}, {url: https://x.example.com/, payload: {a: b}}]
  - name: others
    discord_configs: [{webhook_url: https://discord.com/api/webhooks/1/x}]
    telegram_configs: [{bot_token: x, chat_id: 1}]
  - name: nothing
`

// Who wrote words gets them from Alertmanager's integration; everybody else gets our page, under Alertmanager's name and index.
func TestOwnWordsAreLeftToAlertmanager(t *testing.T) {
	got := names(t, builder(Default()), load(t, stock))
	want := map[string][]string{
		"mail": {"email0"}, "mail with own words": {"email1"}, "slack": {"slack0"}, "pagerduty": {"pagerduty0", "pagerduty4"}, "opsgenie": {"opsgenie0"}, "teams": {"msteamsv20"}, "webhook": {"webhook0"},
	}
	for name, list := range want {
		if !slices.Equal(got[name], list) {
			t.Errorf("%s: %q, want %q", name, got[name], list)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%q", got)
	}
}

// What Alertmanager's integration fills in when it is built must not look like somebody's words.
func TestBuiltTwice(t *testing.T) {
	conf := load(t, stock)
	b := builder(Default())
	first := names(t, b, conf)
	conf.Receivers[0].EmailConfigs[0].Headers["Subject"] = amconfig.DefaultEmailSubject
	conf.Receivers[0].EmailConfigs[0].Headers["To"] = conf.Receivers[0].EmailConfigs[0].To
	conf.Receivers[0].EmailConfigs[0].Headers["From"] = conf.Receivers[0].EmailConfigs[0].From
	if again := names(t, b, conf); !slices.Equal(first["mail"], again["mail"]) {
		t.Errorf("%q, then %q", first["mail"], again["mail"])
	}
}

// exchange is one request that a fake service got.
type exchange struct {
	path   string
	header http.Header
	body   string
}

// http_config, files with secrets, and the wiring of each kind, from YAML to what arrives.
func TestFromYAMLToTheWire(t *testing.T) {
	var mu sync.Mutex
	var got []exchange
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, exchange{r.URL.Path, r.Header.Clone(), string(b)})
		w.WriteHeader(http.StatusAccepted)
	}))
	defer srv.Close()
	dir := t.TempDir()
	put := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	conf := load(t, strings.NewReplacer("URL", srv.URL, "SLACK", put("slack", srv.URL+"/slack\n"), "KEY", put("key", "from-a-file\n")).Replace(`
global: {opsgenie_api_url: URL/, slack_app_url: URL/api}
route: {receiver: all}
receivers:
  - name: all
    slack_configs:
      - {api_url_file: SLACK, channel: '#a'}
      - {app_token: xoxb-1, channel: '#b'}
    pagerduty_configs: [{routing_key_file: KEY, url: URL/pagerduty}]
    opsgenie_configs: [{api_key_file: KEY}]
    msteamsv2_configs: [{webhook_url: URL/teams}]
    webhook_configs: [{url: URL/webhook, http_config: {basic_auth: {username: u, password: p}}}]
`))
	b := builder(file(t, strings.ReplaceAll(`
receivers:
  - name: all
    sms_configs: [{api_url: URL, account_sid: AC0, auth_token: t, from: Tocsin, to: ['+4930123456'], parts: 1}]
    tocsin_webhook_configs: [{url: URL/ours, secrets: [s], headers: {X-Site: north}}]
`, "URL", srv.URL)), "127.0.0.1")
	list, err := b.Build(&conf.Receivers[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range list {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := in.Receiver.Send(ctx, messagetest.Fault()); err != nil {
			t.Errorf("%s[%d]: %v", in.Name, in.Index, err)
		}
		cancel()
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []struct{ path, header, value, body string }{
		{"/slack", "", "", `"channel":"#a"`},
		{"/api", "Authorization", "Bearer xoxb-1", `"channel":"#b"`},
		{"/pagerduty", "", "", `"routing_key":"from-a-file"`},
		{"/v2/alerts", "Authorization", "GenieKey from-a-file", "bearing_temp"},
		{"/teams", "", "", "AdaptiveCard"},
		{"/webhook", "Authorization", "Basic dTpw", `"version":"4"`},
		{"/2010-04-01/Accounts/AC0/Messages.json", "Authorization", "Basic QUMwOnQ=", "From=Tocsin"},
		{"/ours", "X-Site", "north", `"schema":"tocsin.notification.v1"`},
	} {
		if !slices.ContainsFunc(got, func(x exchange) bool {
			return x.path == want.path && (want.header == "" || x.header.Get(want.header) == want.value) && strings.Contains(x.body, want.body)
		}) {
			t.Errorf("%s did not get %q with %s: %s", want.path, want.body, want.header, want.value)
		}
	}
	for _, x := range got {
		if x.path == "/ours" && (x.header.Get("Webhook-Signature") == "" || x.header.Get("Idempotency-Key") != messagetest.Fault().Key) {
			t.Errorf("%v", x.header)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// Unless it is allowed nothing inside is reached, by no kind of receiver.
func TestNothingInsideIsReached(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var accepting sync.WaitGroup
	accepting.Go(func() {
		if c, err := ln.Accept(); err == nil {
			t.Error("reached")
			c.Close()
		}
	})
	conf := load(t, strings.ReplaceAll(`
route: {receiver: all}
receivers:
  - name: all
    email_configs: [{to: a@example.com, from: b@example.com, smarthost: 'ADDR', require_tls: false}]
    slack_configs: [{api_url: 'http://ADDR/'}]
    pagerduty_configs: [{routing_key: k, url: 'http://ADDR/'}]
    opsgenie_configs: [{api_key: k, api_url: 'http://ADDR/'}]
    msteamsv2_configs: [{webhook_url: 'http://ADDR/'}]
    webhook_configs: [{url: 'http://ADDR/'}]
`, "ADDR", ln.Addr().String()))
	list, err := builder(Default()).Build(&conf.Receivers[0])
	if err != nil || len(list) != 6 {
		t.Fatalf("%d, %v", len(list), err)
	}
	for _, in := range list {
		var e *notification.Error
		if err := in.Receiver.Send(t.Context(), messagetest.Fault()); !errors.As(err, &e) || e.Class != notification.Permanent || e.Reason != "bad_address" || e.MayHaveArrived {
			t.Errorf("%s: %v", in.Name, err)
		}
	}
	ln.Close()
	accepting.Wait()
}

func TestBadFilesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"pages: {}":                                                            "line 1: field pages not found",
		"page:\n  time_zone: Mars/Olympus":                                     "page.time_zone",
		"page: {chart_url: 'javascript:x'}":                                    "page.chart_url",
		"page: {units: {'[': x}}":                                              "page.units",
		"links: {lifetime: 1s}":                                                "links.lifetime",
		"links: {keys: [{id: a, secret: short}]}":                              "links.keys",
		"links: {keys: [{id: a}]}":                                             "links.keys",
		"retry: {retries: 6}":                                                  "retry.retries",
		"retry: {base: 1h}":                                                    "retry: base",
		"receivers: [{}]":                                                      "receivers[0].name",
		"receivers: [{name: a}, {name: a}]":                                    "receivers[1].name",
		"receivers: [{name: a, sms_configs: [{}]}]":                            "sms_configs[0]",
		"receivers: [{name: a, webpush_configs: [{}]}]":                        "webpush_configs[0]",
		"receivers: [{name: a, kafka_configs: [{topic: 'a b'}]}]":              "kafka_configs[0]",
		"receivers: [{name: a, tocsin_webhook_configs: [{url: 'file:///x'}]}]": "tocsin_webhook_configs[0]",
		"receivers: [{name: a, tocsin_webhook_configs: [{payload: x, url: 'https://x'}]}]": "tocsin_webhook_configs[0]",
		"a: [": "yaml",
	} {
		name := filepath.Join(t.TempDir(), "receivers.yml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(name); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yml")); err == nil {
		t.Error("a file that is not there")
	}
	if f, err := Load(""); err != nil || f.Retry.Retries != 5 {
		t.Errorf("no file: %v", err)
	}
}

func TestUnits(t *testing.T) {
	f := file(t, "page: {units: {'*_temp': °C, 'oil_*_temp': K, motor_temp: F}}")
	for sensor, want := range map[string]string{"bearing_temp": "°C", "oil_in_temp": "K", "motor_temp": "F", "speed": ""} {
		if got := f.unit(sensor); got != want {
			t.Errorf("%s: %q", sensor, got)
		}
	}
}

// A key is made once and kept: links work after a restart.
func TestKeyIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	claims := verdict.Claims{Subject: "a", Action: verdict.Real, Expires: time.Now().Add(time.Hour)}
	var tokens []string
	for range 2 {
		ring, err := Default().Keyring(dir)
		if err != nil {
			t.Fatal(err)
		}
		token, err := ring.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	if tokens[0] != tokens[1] {
		t.Error("another key after a restart")
	}
	if info, err := os.Stat(filepath.Join(dir, keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Default().Keyring(dir); err == nil {
		t.Error("a damaged key was taken")
	}
}

var fence = regexp.MustCompile("(?s)```yaml\n(# (routing|receivers) file.*?)```")

// Every example of the documentation loads, and does what it says.
func TestDocumentation(t *testing.T) {
	b, err := os.ReadFile("../../../../docs/receivers.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	count := make(map[string]int)
	for _, m := range fence.FindAllSubmatch(b, -1) {
		text, kind := m[1], string(m[2])
		count[kind]++
		for _, name := range regexp.MustCompile(`/etc/tocsin/[a-z._-]+`).FindAll(text, -1) {
			// Files that an example names.
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(string(name))), []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text = bytes.ReplaceAll(text, []byte("/etc/tocsin/"), []byte(dir+"/"))
		name := filepath.Join(dir, "example.yml")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if kind == "routing" {
			_, err = amconfig.LoadFile(name)
		} else {
			_, err = Load(name)
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, numbered(text))
		}
	}
	if count["routing"] < 3 || count["receivers"] < 4 {
		t.Errorf("examples found: %v", count)
	}
}

func numbered(text []byte) string {
	var sb strings.Builder
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		sb.WriteString(s.Text() + "\n")
	}
	return sb.String()
}

// The plain webhook sends what Alertmanager's does, field for field.
func TestWebhookHasAlertmanagersFields(t *testing.T) {
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) }))
	defer srv.Close()
	conf := load(t, "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url: '"+srv.URL+"'}]}]")
	list, err := builder(Default(), "127.0.0.1").Build(&conf.Receivers[0])
	if err != nil {
		t.Fatal(err)
	}
	n := messagetest.Gateway(2)
	reference := alertmanagers(t, &n)
	if err := list[0].Receiver.Send(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	var ours, theirs any
	if err := json.Unmarshal(body, &ours); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(reference, &theirs); err != nil {
		t.Fatal(err)
	}
	a, _ := json.MarshalIndent(ours, "", " ")
	b, _ := json.MarshalIndent(theirs, "", " ")
	if !bytes.Equal(a, b) {
		t.Errorf("ours:\n%s\nAlertmanager's:\n%s", a, b)
	}
}
