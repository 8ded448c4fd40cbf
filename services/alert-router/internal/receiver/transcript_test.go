package receiver_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/egress"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message/messagetest"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/kafkarecord"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/opsgenie"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/pagerduty"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/slack"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/sms"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/teams"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webhook"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webpush"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/webpush/webpushtest"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is the other side: it keeps each request, and answers as it is told.
type service struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
	answers  []answer
}

type request struct {
	line   string
	header http.Header
	body   []byte
}

type answer struct {
	status int
	header map[string]string
	body   string
}

func newService(t *testing.T, answers ...answer) *service {
	t.Helper()
	s := &service{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, request{r.Method + " " + r.URL.RequestURI(), r.Header.Clone(), body})
		a := answer{status: http.StatusOK}
		if len(s.answers) > 0 {
			a = s.answers[min(len(s.requests), len(s.answers))-1]
		}
		for name, value := range a.header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) seen() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func client(t *testing.T) *http.Client {
	t.Helper()
	p, err := egress.ParsePolicy([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	c := egress.Client(&egress.Dialer{Policy: p})
	t.Cleanup(c.CloseIdleConnections)
	return c
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="

// kind is one sort of receiver, made for a service's address.
type kind struct {
	name    string
	answers []answer
	make    func(c *http.Client, url string) notification.Receiver
}

func at() time.Time { return messagetest.Now() }

func kinds() []kind {
	pages := messagetest.Composer()
	return []kind{
		{"pagerduty", []answer{{status: 202, body: `{"status":"success","message":"Event processed","dedup_key":"x"}`}}, func(c *http.Client, u string) notification.Receiver {
			return pagerduty.New(pagerduty.Config{URL: u + "/v2/enqueue", RoutingKey: receiver.Fixed("R0UT1NGKEYR0UT1NGKEYR0UT1NGKEY00")}, c, pages)
		}},
		{"opsgenie", []answer{{status: 202, body: `{"result":"Request will be processed"}`}}, func(c *http.Client, u string) notification.Receiver {
			return opsgenie.New(opsgenie.Config{URL: u, APIKey: receiver.Fixed("0ps-key"), Tags: []string{"hall-3"}, Responders: []opsgenie.Responder{{Name: "Mechanics", Type: "team"}}}, c, pages)
		}},
		{"slack", []answer{{status: 200, body: "ok"}}, func(c *http.Client, u string) notification.Receiver {
			return slack.New(slack.Config{URL: receiver.Fixed(u + "/services/T0/B0/s3cr3t"), Channel: "#presses", Username: "Tocsin"}, c, pages)
		}},
		{"teams", []answer{{status: 202}}, func(c *http.Client, u string) notification.Receiver {
			return teams.New(teams.Config{URL: receiver.Fixed(u + "/workflows/w0/triggers/manual/paths/invoke?sig=s3cr3t")}, c, pages)
		}},
		{"sms", []answer{{status: 201, body: `{"sid":"SM1","status":"queued"}`}}, func(c *http.Client, u string) notification.Receiver {
			return sms.New(sms.Config{URL: u, AccountSID: "AC0", AuthToken: receiver.Fixed("tw1l10"), From: "+4915735980000", To: []string{"+4930123456"}}, c, pages)
		}},
		{"webhook-alertmanager", nil, func(c *http.Client, u string) notification.Receiver {
			return webhook.New(webhook.Config{URL: receiver.Fixed(u + "/hook"), Now: at}, c, pages)
		}},
		{"webhook-tocsin", nil, func(c *http.Client, u string) notification.Receiver {
			return webhook.New(webhook.Config{URL: receiver.Fixed(u + "/hook"), Payload: webhook.Tocsin, Secrets: []receiver.Secret{receiver.Fixed(secret)}, Now: at}, c, pages)
		}},
	}
}

func send(t *testing.T, r notification.Receiver, n notification.Notification) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return r.Send(ctx, n)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -rewrite and look at the difference", path)
	}
}

// transcript is a request as it came, JSON with line breaks.
func transcript(r request) string {
	var sb strings.Builder
	sb.WriteString(r.line + "\n")
	names := make([]string, 0, len(r.header))
	for name := range r.header {
		if name != "Content-Length" && name != "Accept-Encoding" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&sb, "%s: %s\n", name, strings.Join(r.header[name], ", "))
	}
	sb.WriteByte('\n')
	var pretty bytes.Buffer
	if json.Indent(&pretty, r.body, "", "  ") == nil {
		sb.Write(pretty.Bytes())
	} else {
		sb.Write(r.body)
	}
	sb.WriteByte('\n')
	return sb.String()
}

func acknowledged() notification.Notification {
	n := messagetest.Fault()
	n.Alerts[0].State, n.Alerts[0].AcknowledgedBy = "acknowledged", "anna@example.com"
	return n
}

func TestTranscripts(t *testing.T) {
	for _, k := range kinds() {
		var all strings.Builder
		s := newService(t, k.answers...)
		r := k.make(client(t), s.URL)
		for _, n := range []notification.Notification{messagetest.Fault(), messagetest.Gateway(24), messagetest.Several(), acknowledged(), messagetest.Ended(), messagetest.Posted()} {
			n.Key = receiver.GroupHash(n.GroupKey + string(n.Status) + n.Alerts[0].State)
			if err := send(t, r, n); err != nil {
				t.Fatalf("%s: %v", k.name, err)
			}
		}
		for i, q := range s.seen() {
			if i > 0 {
				all.WriteString("\n----\n\n")
			}
			all.WriteString(transcript(q))
		}
		golden(t, k.name+".http", all.String())
	}
}

// texts are all strings of a JSON document, keys too.
func texts(t *testing.T, raw []byte) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("not JSON: %v", err)
	}
	var out []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for name, x := range v {
				out = append(out, name)
				walk(x)
			}
		}
	}
	walk(v)
	return out
}

// Whatever a machine is called, the message says what it says otherwise, in the fields that it has otherwise.
func TestInjection(t *testing.T) {
	for _, k := range kinds() {
		if k.name == "webhook-alertmanager" || k.name == "webhook-tocsin" {
			continue // programs get labels as they are, in JSON
		}
		s := newService(t, k.answers...)
		r := k.make(client(t), s.URL)
		for i, attack := range messagetest.Attacks() {
			n := messagetest.Named(attack.Text)
			n.Key = fmt.Sprintf("%064x", i)
			if err := send(t, r, n); err != nil {
				t.Fatalf("%s: %s: %v", k.name, attack.Name, err)
			}
			seen := s.seen()
			q := seen[len(seen)-1]
			for name := range q.header {
				if name == "X-Evil" || name == "Bcc" || name == "Set-Cookie" {
					t.Errorf("%s: %s: a header %s", k.name, attack.Name, name)
				}
			}
			if len(q.body) > 64<<10 {
				t.Errorf("%s: %s: %d bytes", k.name, attack.Name, len(q.body))
			}
			if k.name == "sms" {
				continue // below
			}
			for _, text := range texts(t, q.body) {
				if strings.ContainsAny(text, "\x00\x1b\r\u202e\u2066\u200b\u200d\ufeff\u2028") {
					t.Errorf("%s: %s: %q", k.name, attack.Name, text)
				}
				low := strings.ToLower(text)
				if strings.HasPrefix(low, "javascript:") && k.name != "slack" && strings.Contains(string(q.body), `"url":"javascript:`) {
					t.Errorf("%s: %s: a link to %q", k.name, attack.Name, text)
				}
				if k.name == "slack" && (strings.Contains(text, "<!") || strings.Contains(text, "<@") || strings.Contains(text, "<http")) {
					// A header's text is plain: markup in it is shown, not followed.
					if !strings.HasPrefix(text, "🔴") {
						t.Errorf("slack: %s: markup in %q", attack.Name, text)
					}
				}
			}
		}
	}
}

// A short message is one line of the GSM alphabet, in as many parts as were allowed, whatever it is about.
func TestShortMessages(t *testing.T) {
	pages := messagetest.Composer()
	list := []notification.Notification{messagetest.Fault(), messagetest.Ended(), messagetest.Gateway(200), messagetest.Posted()}
	for _, a := range messagetest.Attacks() {
		list = append(list, messagetest.Named(a.Text))
	}
	for _, n := range list {
		for parts, most := range map[int]int{1: 160, 2: 306} {
			s := message.SMS(pages.Page(n, "+4930123456"), parts)
			if got := message.Septets(s); got < 1 || got > most || strings.ContainsAny(s, "\r\n") {
				t.Errorf("%d parts: %d septets: %q", parts, got, s)
			}
		}
	}
}

// Nothing secret stands in an error: it is logged and journaled.
func TestErrorsHoldNoSecrets(t *testing.T) {
	for _, k := range kinds() {
		for _, a := range []answer{{status: 500, body: "oops"}, {status: 403, body: "no\x1b[31m\r\nmore"}, {status: 302, header: map[string]string{"Location": "http://169.254.169.254/s3cr3t"}}} {
			s := newService(t, a)
			err := send(t, k.make(client(t), s.URL), messagetest.Fault())
			if err == nil {
				t.Errorf("%s: %d taken for success", k.name, a.status)
				continue
			}
			for _, hidden := range []string{"s3cr3t", "R0UT1NGKEY", "0ps-key", "tw1l10", secret, "\x1b", "\r", "\n"} {
				if strings.Contains(err.Error(), hidden) {
					t.Errorf("%s: the error holds %q: %v", k.name, hidden, err)
				}
			}
		}
		err := send(t, k.make(client(t), "http://127.0.0.1:1"), messagetest.Fault())
		if err == nil || strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "AC0") {
			t.Errorf("%s: nobody there: %v", k.name, err)
		}
	}
}

func TestClasses(t *testing.T) {
	c := client(t)
	for _, tc := range []struct {
		answer
		class  notification.Class
		reason string
		after  time.Duration
	}{
		{answer{status: 429, header: map[string]string{"Retry-After": "7"}}, notification.Retryable, "rate_limited", 7 * time.Second},
		{answer{status: 429, header: map[string]string{"Retry-After": "999999999999"}}, notification.Retryable, "rate_limited", 0},
		{answer{status: 429, header: map[string]string{"Retry-After": "99999"}}, notification.Retryable, "rate_limited", receiver.MaxRetryAfter},
		{answer{status: 429, header: map[string]string{"Retry-After": "-5"}}, notification.Retryable, "rate_limited", 0},
		{answer{status: 503, header: map[string]string{"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}}, notification.Retryable, "server_error", 0},
		{answer{status: 500}, notification.Retryable, "server_error", 0},
		{answer{status: 408}, notification.Retryable, "timeout", 0},
		{answer{status: 400}, notification.Permanent, "client_error", 0},
		{answer{status: 401}, notification.Permanent, "unauthorized", 0},
		{answer{status: 404}, notification.Permanent, "gone", 0},
		{answer{status: 413}, notification.Permanent, "client_error", 0},
	} {
		s := newService(t, tc.answer)
		e := classOf(t, receiver.Exchange(t.Context(), c, receiver.Request{URL: s.URL}))
		if e.Class != tc.class || e.Reason != tc.reason || e.MayHaveArrived || tc.after != 0 && e.RetryAfter != tc.after {
			t.Errorf("%d: %+v", tc.status, e)
		}
	}
	if e := classOf(t, receiver.Exchange(t.Context(), c, receiver.Request{URL: "http://10.255.255.1/"})); e.Class != notification.Permanent || e.Reason != "bad_address" {
		t.Errorf("forbidden address: %+v", e)
	}
	if e := classOf(t, receiver.Exchange(t.Context(), c, receiver.Request{URL: "http://no-such-name.invalid/"})); e.Class != notification.Retryable || e.Reason != "dns" && e.Reason != "network" && e.Reason != "timeout" {
		t.Errorf("unknown name: %+v", e)
	}
	// The message was sent and no answer came: somebody may have been woken.
	hang := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-hang
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	e := classOf(t, receiver.Exchange(ctx, c, receiver.Request{URL: silent.URL, Body: []byte("{}")}))
	cancel()
	close(hang)
	silent.Close()
	if e.Class != notification.Retryable || e.Reason != "timeout" || !e.MayHaveArrived {
		t.Errorf("no answer: %+v", e)
	}
}

func classOf(t *testing.T, err error) *notification.Error {
	t.Helper()
	var e *notification.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no notification.Error", err)
	}
	return e
}

// Slack answers 200 to what it refuses.
func TestSlackRefusals(t *testing.T) {
	for body, want := range map[string]*notification.Error{
		"ok": nil, `{"ok":true,"ts":"1"}`: nil, "": nil,
		`{"ok":false,"error":"ratelimited"}`:       {Class: notification.Retryable, Reason: "rate_limited"},
		`{"ok":false,"error":"invalid_auth"}`:      {Class: notification.Permanent, Reason: "unauthorized"},
		`{"ok":false,"error":"channel_not_found"}`: {Class: notification.Permanent, Reason: "client_error"},
		"no_service": {Class: notification.Permanent, Reason: "client_error"},
	} {
		s := newService(t, answer{status: 200, body: body})
		err := send(t, slack.New(slack.Config{URL: receiver.Fixed(s.URL), Token: receiver.Fixed("xoxb-1")}, client(t), messagetest.Composer()), messagetest.Fault())
		if want == nil {
			if err != nil {
				t.Errorf("%s: %v", body, err)
			}
			continue
		}
		if e := classOf(t, err); e.Class != want.Class || e.Reason != want.Reason {
			t.Errorf("%s: %+v", body, e)
		}
		if got := s.seen()[0].header.Get("Authorization"); got != "Bearer xoxb-1" {
			t.Errorf("token: %q", got)
		}
	}
}

// The signature is that of the Standard Webhooks specification; here it is checked as one of its libraries would.
func TestWebhookSignature(t *testing.T) {
	s := newService(t)
	r := webhook.New(webhook.Config{
		URL: receiver.Fixed(s.URL), Payload: webhook.Tocsin, Secrets: []receiver.Secret{receiver.Fixed(secret), receiver.Fixed("old plain secret")}, Now: at,
	}, client(t), messagetest.Composer())
	for range 2 {
		if err := send(t, r, messagetest.Fault()); err != nil {
			t.Fatal(err)
		}
	}
	seen := s.seen()
	q := seen[0]
	signatures := strings.Fields(q.header.Get("Webhook-Signature"))
	if len(signatures) != 2 {
		t.Fatalf("%q", signatures)
	}
	for i, key := range []string{secret, "old plain secret"} {
		if want := webhook.Sign(key, q.header.Get("Webhook-Id"), q.header.Get("Webhook-Timestamp"), q.body); signatures[i] != want {
			t.Errorf("%s, want %s", signatures[i], want)
		}
	}
	if webhook.Sign(secret, "x", q.header.Get("Webhook-Timestamp"), q.body) == signatures[0] {
		t.Error("the id is not signed")
	}
	if a, b := q.header.Get("Idempotency-Key"), seen[1].header.Get("Idempotency-Key"); a != messagetest.Fault().Key || a != b {
		t.Errorf("idempotency keys %q and %q", a, b)
	}
	// From the specification's own example.
	if got := webhook.Sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("the specification's example: %s", got)
	}
}

// A browser's side of Web Push: it decrypts what came, as RFC 8291 says.
func TestWebPush(t *testing.T) {
	device := webpushtest.NewDevice(t)
	vapid, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	s := newService(t, answer{status: 201}, answer{status: 410}, answer{status: 201})
	var gone []string
	sub := func(path string) webpush.Subscription {
		var x webpush.Subscription
		x.Recipient, x.Endpoint = "anna@example.com", s.URL+path
		x.Keys.P256dh, x.Keys.Auth = device.P256dh(), device.Auth()
		return x
	}
	cfg := webpush.Config{
		PublicKey: b64(vapid.PublicKey().Bytes()), PrivateKey: receiver.Fixed(b64(vapid.Bytes())), Subject: "mailto:ops@example.com",
		Subscriptions: func(context.Context) ([]webpush.Subscription, error) {
			return []webpush.Subscription{sub("/one"), sub("/gone"), sub("/two")}, nil
		},
		Gone: func(s webpush.Subscription) { gone = append(gone, s.Endpoint) },
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	r := webpush.New(cfg, client(t), messagetest.Composer())
	if err := send(t, r, messagetest.Fault()); err != nil {
		t.Fatal(err)
	}
	seen := s.seen()
	if len(seen) != 3 || len(gone) != 1 || !strings.HasSuffix(gone[0], "/gone") {
		t.Fatalf("%d requests, gone: %q", len(seen), gone)
	}
	q := seen[0]
	if h := q.header; h.Get("Urgency") != "high" || h.Get("Ttl") == "" || len(h.Get("Topic")) != 32 || !strings.HasPrefix(h.Get("Authorization"), "vapid t=") || h.Get("Content-Encoding") != "aes128gcm" {
		t.Errorf("headers %v", h)
	}
	webpushtest.Signed(t, q.header.Get("Authorization"), cfg.PublicKey, s.URL)
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, device.Decrypt(t, q.body), "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "webpush.json", pretty.String()+"\n")
}

// producer keeps records.
type producer struct {
	list []*kgo.Record
	err  error
}

func (p *producer) ProduceSync(_ context.Context, rs ...*kgo.Record) kgo.ProduceResults {
	var out kgo.ProduceResults
	for _, r := range rs {
		p.list = append(p.list, r)
		out = append(out, kgo.ProduceResult{Record: r, Err: p.err})
	}
	return out
}

func TestKafkaRecord(t *testing.T) {
	p := &producer{}
	r := kafkarecord.New(kafkarecord.Config{Topic: "alert.pages.v1", Producer: func() (kafkarecord.Producer, error) { return p, nil }}, messagetest.Composer())
	for _, n := range []notification.Notification{messagetest.Fault(), messagetest.Gateway(3)} {
		if err := send(t, r, n); err != nil {
			t.Fatal(err)
		}
	}
	var sb strings.Builder
	for _, rec := range p.list {
		fmt.Fprintf(&sb, "topic %s\nkey %s\n", rec.Topic, rec.Key)
		for _, h := range rec.Headers {
			fmt.Fprintf(&sb, "%s: %s\n", h.Key, h.Value)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, rec.Value, "", "  "); err != nil {
			t.Fatal(err)
		}
		sb.WriteString("\n" + pretty.String() + "\n\n")
	}
	golden(t, "kafka.txt", sb.String())
	p.err = context.DeadlineExceeded
	if e := classOf(t, send(t, r, messagetest.Fault())); e.Class != notification.Retryable || !e.MayHaveArrived {
		t.Errorf("%+v", e)
	}
}
