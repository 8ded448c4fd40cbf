package email_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"flag"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message/messagetest"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver/email"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an SMTP server that keeps what it is given.
type server struct {
	mu      sync.Mutex
	addr    string
	list    []letter
	refuse  map[string]*smtp.SMTPError // by recipient
	auths   []string
	backend *smtp.Server
}

type letter struct {
	from, to, user string
	secure         bool
	data           string
}

type session struct {
	s      *server
	conn   *smtp.Conn
	letter letter
}

func (s *server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	_, secure := c.TLSConnectionState()
	return &session{s: s, conn: c, letter: letter{secure: secure}}, nil
}

func (x *session) AuthMechanisms() []string { return []string{sasl.Plain} }
func (x *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(identity, user, password string) error {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		x.s.auths = append(x.s.auths, identity+"/"+user)
		if password != "correct horse" {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "Authentication failed"}
		}
		x.letter.user = user
		return nil
	}), nil
}
func (x *session) Mail(from string, _ *smtp.MailOptions) error { x.letter.from = from; return nil }
func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if err := x.s.refuse[to]; err != nil {
		return err
	}
	x.letter.to = to
	return nil
}

func (x *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	x.letter.data = string(b)
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.list = append(x.s.list, x.letter)
	return nil
}
func (x *session) Reset()        {}
func (x *session) Logout() error { return nil }

func (s *server) letters() []letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]letter(nil), s.list...)
}

// start runs a server; certificate nil: without TLS.
func start(t *testing.T, certificate *tls.Certificate, implicit bool) *server {
	t.Helper()
	s := &server{refuse: make(map[string]*smtp.SMTPError)}
	s.backend = smtp.NewServer(s)
	s.backend.Domain = "mx.example.com"
	s.backend.AllowInsecureAuth = true
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	if certificate != nil {
		conf := &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
		if implicit {
			ln = tls.NewListener(ln, conf)
		} else {
			s.backend.TLSConfig = conf
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.backend.Serve(ln) }()
	t.Cleanup(func() { _ = ln.Close(); _ = s.backend.Close(); <-done }) // Close knows the listener only once Serve does
	return s
}

func certificate(t *testing.T) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func address(s string) *netmail.Address { return &netmail.Address{Address: s} }

func (s *server) config(to ...string) email.Config {
	host, port, _ := net.SplitHostPort(s.addr)
	cfg := email.Config{From: &netmail.Address{Name: "Tocsin", Address: "tocsin@example.com"}, Host: host, Port: port}
	for _, a := range to {
		cfg.To = append(cfg.To, address(a))
	}
	return cfg
}

func newReceiver(t *testing.T, cfg email.Config) *email.Receiver {
	t.Helper()
	r, err := email.New(cfg, messagetest.Composer())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func send(t *testing.T, r *email.Receiver, n notification.Notification) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return r.Send(ctx, n)
}

var boundary = regexp.MustCompile(`\b[0-9a-f]{60}\b`)

// transcript makes a letter the same each time: boundaries by number, the picture by its name.
func transcript(l letter) string {
	seen := make(map[string]string)
	out := boundary.ReplaceAllStringFunc(strings.ReplaceAll(l.data, "\r\n", "\n"), func(b string) string {
		if seen[b] == "" {
			seen[b] = "boundary-" + string(rune('1'+len(seen)))
		}
		return seen[b]
	})
	if i := strings.Index(out, "Content-Type: image/png"); i >= 0 {
		from := i + strings.Index(out[i:], "\n\n") + 2
		to := from + strings.Index(out[from:], "\n\n")
		if end := from + strings.Index(out[from:], "--boundary"); end > from && (to < from || end < to) {
			to = end
		}
		out = out[:from] + "(the picture)\n" + out[to:]
	}
	return "MAIL FROM " + l.from + "\nRCPT TO " + l.to + "\n\n" + out
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

// words is a page without a picture: most tests are not about that.
func words() notification.Notification {
	n := messagetest.Fault()
	n.Alerts[0].Evidence[0].Series = nil
	return n
}

func TestTranscripts(t *testing.T) {
	for name, n := range map[string]notification.Notification{
		"fault.eml": messagetest.Fault(), "ended.eml": messagetest.Ended(), "gateway.eml": messagetest.Gateway(24), "several.eml": messagetest.Several(), "posted.eml": messagetest.Posted(),
	} {
		s := start(t, nil, false)
		if err := send(t, newReceiver(t, s.config("anna@example.com")), n); err != nil {
			t.Fatal(err)
		}
		golden(t, name, transcript(s.letters()[0]))
	}
}

// A mail program's view of the message: two alternatives, and a picture that the HTML refers to.
func TestParts(t *testing.T) {
	s := start(t, nil, false)
	if err := send(t, newReceiver(t, s.config("anna@example.com")), messagetest.Fault()); err != nil {
		t.Fatal(err)
	}
	m, err := netmail.ReadMessage(strings.NewReader(s.letters()[0].data))
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]string)
	parts(t, m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), "", m.Body, kinds)
	if !strings.Contains(kinds["text/plain"], "bearing_temp is 92.4") || !strings.Contains(kinds["text/html"], `src="cid:chart-1@tocsin"`) {
		t.Errorf("parts %q", kinds)
	}
	if !strings.HasPrefix(kinds["image/png <chart-1@tocsin>"], "\x89PNG") {
		t.Error("no picture under the id that the HTML names")
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != "CRITICAL press-07: bearing_temp 92.4 °C, expected 61 to 68.5 °C" {
		t.Errorf("subject %q %v", subject, err)
	}
}

func parts(t *testing.T, kind, encoding, id string, body io.Reader, out map[string]string) {
	t.Helper()
	media, params, err := mime.ParseMediaType(kind)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(media, "multipart/") {
		b, _ := io.ReadAll(body)
		if encoding == "base64" {
			raw, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			b = raw
		}
		out[strings.TrimSpace(media+" "+id)] = string(b)
		return
	}
	for r := multipart.NewReader(body, params["boundary"]); ; {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		parts(t, p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p.Header.Get("Content-Id"), p, out)
	}
}

func TestSecureConnections(t *testing.T) {
	cert, pool := certificate(t)
	for name, implicit := range map[string]bool{"STARTTLS": false, "from the beginning": true} {
		s := start(t, cert, implicit)
		cfg := s.config("anna@example.com")
		cfg.RequireTLS, cfg.ImplicitTLS = true, implicit
		cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		cfg.Username, cfg.Password = "tocsin", receiver.Fixed("correct horse")
		if err := send(t, newReceiver(t, cfg), words()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if l := s.letters(); len(l) != 1 || l[0].user != "tocsin" || !implicit && !l[0].secure {
			t.Errorf("%s: %+v", name, l)
		}
		cfg.TLS = nil // a certificate that nobody vouches for
		err := send(t, newReceiver(t, cfg), words())
		if want := classOf(t, err); want.Reason != "certificate" || len(s.letters()) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := start(t, nil, false)
	cfg := s.config("anna@example.com")
	cfg.RequireTLS = true
	if err := send(t, newReceiver(t, cfg), words()); err == nil || len(s.letters()) != 0 {
		t.Errorf("sent in clear though TLS is required: %v", err)
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

func TestErrors(t *testing.T) {
	cert, pool := certificate(t)
	s := start(t, cert, false)
	cfg := s.config("anna@example.com")
	cfg.RequireTLS, cfg.TLS = true, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	cfg.Username, cfg.Password = "tocsin", receiver.Fixed("wrong")
	err := send(t, newReceiver(t, cfg), words())
	if e := classOf(t, err); e.Class != notification.Permanent || e.Reason != "unauthorized" || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong password: %v", err)
	}
	plain := start(t, nil, false)
	for code, want := range map[int]notification.Class{550: notification.Permanent, 451: notification.Retryable} {
		plain.refuse["anna@example.com"] = &smtp.SMTPError{Code: code, EnhancedCode: smtp.NoEnhancedCode, Message: "no"}
		if e := classOf(t, send(t, newReceiver(t, plain.config("anna@example.com")), words())); e.Class != want || e.MayHaveArrived {
			t.Errorf("%d: %v", code, e)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := &server{addr: ln.Addr().String()}
	_ = ln.Close()
	if e := classOf(t, send(t, newReceiver(t, away.config("anna@example.com")), words())); e.Class != notification.Retryable || e.Reason != "refused" {
		t.Errorf("nobody there: %v", e)
	}
}

// A server that says nothing holds a message up no longer than the context.
func TestSilentServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var conns sync.WaitGroup
	conns.Go(func() {
		if c, err := ln.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	})
	s := &server{addr: ln.Addr().String()}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if e := classOf(t, newReceiver(t, s.config("anna@example.com")).Send(ctx, words())); e.Class != notification.Retryable || e.Reason != "timeout" {
		t.Error(e)
	}
	ln.Close()
	conns.Wait()
}

// Each recipient has a message and links of his own; when one is refused and it is tried again, the other gets no second.
func TestRecipientsOneByOne(t *testing.T) {
	s := start(t, nil, false)
	s.refuse["ben@example.com"] = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.NoEnhancedCode, Message: "later"}
	r := newReceiver(t, s.config("anna@example.com", "ben@example.com", "cleo@example.com"))
	if e := classOf(t, send(t, r, words())); e.Class != notification.Retryable {
		t.Fatal(e)
	}
	s.mu.Lock()
	delete(s.refuse, "ben@example.com")
	s.mu.Unlock()
	if err := send(t, r, words()); err != nil {
		t.Fatal(err)
	}
	var to []string
	ids := make(map[string]bool)
	for _, l := range s.letters() {
		to = append(to, l.to)
		m, err := netmail.ReadMessage(strings.NewReader(l.data))
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("To") != "<"+l.to+">" {
			t.Errorf("to %s: header %q", l.to, m.Header.Get("To"))
		}
		ids[m.Header.Get("Message-Id")] = true
	}
	if got := strings.Join(to, " "); got != "anna@example.com cleo@example.com ben@example.com" || len(ids) != 3 {
		t.Errorf("sent to %s under %d ids", got, len(ids))
	}
	// From another instance the message has the same id.
	other := start(t, nil, false)
	if err := send(t, newReceiver(t, other.config("anna@example.com")), words()); err != nil {
		t.Fatal(err)
	}
	m, err := netmail.ReadMessage(strings.NewReader(other.letters()[0].data))
	if err != nil || !ids[m.Header.Get("Message-Id")] {
		t.Errorf("another instance: %s %v", m.Header.Get("Message-Id"), err)
	}
}

// Whatever a machine is called, the message has the headers that it has otherwise, and its texts have no more lines.
func TestHeaderInjection(t *testing.T) {
	plain := headers(t, words())
	for _, attack := range messagetest.Attacks() {
		got := headers(t, messagetest.Named(attack.Text))
		for name, values := range got {
			if len(plain[name]) != len(values) {
				t.Errorf("%s: header %s: %q", attack.Name, name, values)
			}
		}
		if len(got) != len(plain) {
			t.Errorf("%s: %d headers, %d without it", attack.Name, len(got), len(plain))
		}
	}
}

func headers(t *testing.T, n notification.Notification) netmail.Header {
	t.Helper()
	s := start(t, nil, false)
	if err := send(t, newReceiver(t, s.config("anna@example.com")), n); err != nil {
		t.Fatal(err)
	}
	l := s.letters()
	if len(l) != 1 {
		t.Fatalf("%d messages", len(l))
	}
	m, err := netmail.ReadMessage(strings.NewReader(l[0].data))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(l[0].data, "\x1b") || bytes.ContainsRune([]byte(l[0].data), '\u202e') {
		t.Error("escape or direction mark in the message")
	}
	return m.Header
}

func TestNewRefuses(t *testing.T) {
	base := (&server{addr: "mx:25"}).config("anna@example.com")
	for name, change := range map[string]func(*email.Config){
		"port": func(c *email.Config) { c.Port = "0" }, "host": func(c *email.Config) { c.Host = "" }, "from": func(c *email.Config) { c.From = nil }, "to": func(c *email.Config) { c.To = nil },
		"address": func(c *email.Config) { c.To = []*netmail.Address{address("a@b.example\r\nBcc: x")} }, "password": func(c *email.Config) { c.Username = "x" },
		"header name": func(c *email.Config) { c.Header = map[string]string{"X: y\r\nBcc": "x"} }, "header value": func(c *email.Config) { c.Header = map[string]string{"X-Y": "x\r\nBcc: y"} },
		"own header": func(c *email.Config) { c.Header = map[string]string{"bcc": "x@example.com"} },
	} {
		cfg := base
		change(&cfg)
		if _, err := email.New(cfg, &message.Composer{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
