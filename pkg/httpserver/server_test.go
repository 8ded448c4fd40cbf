package httpserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type server struct {
	*httpserver.Server
	url    string
	client *http.Client
	stop   func() error // idempotent
}

func start(t *testing.T, cfg httpserver.Config, ready func() error, status any, handlers map[string]http.HandlerFunc) *server {
	t.Helper()
	deps := service.Nop()
	deps.Metrics.NewCounter("tocsin_test_total").Inc()
	s, err := httpserver.New(cfg, "test", ready, status, deps)
	if err != nil {
		t.Fatal(err)
	}
	for p, h := range handlers {
		s.Handle(p, h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	srv := &server{Server: s, url: "http://" + s.Addr(), client: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}}
	stopped := false
	srv.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			return errors.New("does not stop")
		}
	}
	t.Cleanup(func() {
		srv.client.CloseIdleConnections()
		if err := srv.stop(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

func local() httpserver.Config { return httpserver.DefaultConfig("127.0.0.1:0") }

func yes() error { return nil }

func (s *server) get(t *testing.T, path string) (int, string, http.Header) {
	t.Helper()
	resp, err := s.client.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestHealthMetricsAndPprof(t *testing.T) {
	restoring := errors.New("restoring 3 of 12 partitions")
	s := start(t, local(), func() error { return restoring }, nil, nil)
	for path, want := range map[string]struct {
		status int
		part   string
	}{
		"/health/live":  {200, `"live"`},
		"/health/ready": {503, restoring.Error()},
		"/metrics":      {200, "tocsin_test_total 1\n"},
		"/debug/pprof/": {404, ""},
		"/nothing":      {404, ""},
	} {
		if code, body, _ := s.get(t, path); code != want.status || !strings.Contains(body, want.part) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	s = start(t, local(), yes, nil, nil)
	if code, body, _ := s.get(t, "/health/ready"); code != 200 || !strings.Contains(body, `"ready"`) {
		t.Errorf("%d %s", code, body)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	type inner struct {
		Password string        `mapstructure:"password" secret:"true"`
		Empty    string        `mapstructure:"empty" secret:"true"`
		Tokens   []string      `mapstructure:"tokens" secret:"true"`
		Wait     time.Duration `mapstructure:"wait"`
	}
	status := struct {
		Inner  *inner           `mapstructure:"inner"`
		ByName map[string]inner `mapstructure:"by_name"`
		List   []inner          `mapstructure:"list"`
		inner
	}{&inner{"hush1", "", []string{"hush2"}, time.Second}, map[string]inner{"a": {Password: "hush3"}}, []inner{{Password: "hush4"}}, inner{Password: "hush5"}}
	_, body, _ := start(t, local(), yes, status, nil).get(t, "/status/config")
	if strings.Contains(body, "hush") || !strings.Contains(body, "****") || !strings.Contains(body, `"wait": "1s"`) || !strings.Contains(body, `"empty": ""`) {
		t.Fatal(body)
	}
}

func TestProblem(t *testing.T) {
	s := start(t, local(), yes, nil, map[string]http.HandlerFunc{"GET /bad": func(w http.ResponseWriter, _ *http.Request) {
		httpserver.Problem(w, 400, "Invalid frame", "values[3]: NaN", map[string]any{"field": "values[3]", "status": 999})
	}})
	code, body, header := s.get(t, "/bad")
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if code != 400 || header.Get("Content-Type") != "application/problem+json" || got["type"] != "about:blank" || got["title"] != "Invalid frame" ||
		got["detail"] != "values[3]: NaN" || got["field"] != "values[3]" || got["status"] != 400.0 {
		t.Fatal(code, header, body)
	}
}

// A request under way is answered to its end, while nothing new is let in; one that takes too long is cut.
func TestDrain(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit time.Duration
		ends  bool
	}{{"finishes", 10 * time.Second, true}, {"is cut", 50 * time.Millisecond, false}} {
		t.Run(c.name, func(t *testing.T) {
			entered, leave, told := make(chan struct{}), make(chan struct{}), make(chan struct{})
			cfg := local()
			cfg.DrainTimeout = c.limit
			s := start(t, cfg, yes, nil, map[string]http.HandlerFunc{"GET /slow": func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-r.Context().Done() // the drain, for handlers that stream
				close(told)
				<-leave
				_, _ = io.WriteString(w, "done")
			}})
			answer := make(chan string, 1)
			go func() {
				resp, err := s.client.Get(s.url + "/slow")
				if err != nil {
					answer <- "cut"
					return
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				answer <- string(b)
			}()
			<-entered
			ended := make(chan error, 1)
			go func() { ended <- s.stop() }()
			<-told
			if !c.ends {
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				close(leave)
				if got := <-answer; got != "cut" {
					t.Fatal(got)
				}
				return
			}
			select {
			case _ = <-ended:
				t.Fatal("ended before the request was answered")
			default:
			}
			close(leave)
			if got := <-answer; got != "done" {
				t.Fatal(got)
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if conn, err := net.DialTimeout("tcp", s.Addr(), time.Second); err == nil {
				_ = conn.Close()
				t.Fatal("still listening")
			}
		})
	}
}

func TestMaxConnections(t *testing.T) {
	cfg := local()
	cfg.MaxConnections = 1
	s := start(t, cfg, yes, nil, nil)
	if code, _, _ := s.get(t, "/health/live"); code != 200 { // and stays connected
		t.Fatal(code)
	}
	second := &http.Client{Transport: &http.Transport{}}
	defer second.CloseIdleConnections()
	answered := make(chan error, 1)
	go func() {
		resp, err := second.Get(s.url + "/health/live")
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("two connections at once: %v", err)
	case <-time.After(100 * time.Millisecond): // that nothing happens can only be waited for
	}
	s.client.CloseIdleConnections()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

func TestValidateAndNew(t *testing.T) {
	for want, change := range map[string]func(*httpserver.Config){
		"listen:":             func(c *httpserver.Config) { c.Listen = "here" },
		"max_connections:":    func(c *httpserver.Config) { c.MaxConnections = -1 },
		"tls.key_file:":       func(c *httpserver.Config) { c.TLS.CertFile = "x" },
		"tls.client_ca_file:": func(c *httpserver.Config) { c.TLS.ClientCAFile = "x" },
		"drain_timeout:":      func(c *httpserver.Config) { c.DrainTimeout = 0 },
	} {
		cfg := local()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	cfg := local()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.TLS.CertFile, cfg.TLS.KeyFile = filepath.Join(t.TempDir(), "none"), "none"
	if _, err := httpserver.New(cfg, "test", yes, nil, service.Nop()); err == nil || !strings.Contains(err.Error(), "tls.cert_file") {
		t.Fatal(err)
	}
	s, err := httpserver.New(local(), "test", yes, nil, service.Nop())
	if err != nil {
		t.Fatal(err)
	}
	cfg = local()
	cfg.Listen = s.Addr()
	if _, err := httpserver.New(cfg, "test", yes, nil, service.Nop()); err == nil {
		t.Fatal("the port is taken")
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// certificate makes one for name and writes it and its key into dir; without a parent it is an authority.
func certificate(t *testing.T, dir, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, signer = tmpl, key
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for file, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, certFile, keyFile
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	ca, signer, caFile, _ := certificate(t, dir, "ca", nil, nil)
	cfg := local()
	_, _, cfg.TLS.CertFile, cfg.TLS.KeyFile = certificate(t, dir, "server", ca, signer)
	cfg.TLS.ClientCAFile = caFile
	s := start(t, cfg, yes, nil, map[string]http.HandlerFunc{"GET /who": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, httpserver.ClientName(r))
	}})
	_, _, certFile, keyFile := certificate(t, dir, "gw-1", ca, signer)
	mine, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for name, c := range map[string]struct {
		conf *tls.Config
		want string
	}{
		"with a certificate": {&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{mine}}, "gw-1"},
		"without":            {&tls.Config{RootCAs: roots}, ""},
		"TLS 1.2":            {&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{mine}, MaxVersion: tls.VersionTLS12}, ""},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.conf, ForceAttemptHTTP2: true}, Timeout: 10 * time.Second}
		resp, err := client.Get("https://" + s.Addr() + "/who")
		got := ""
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			got = string(b)
			if resp.ProtoMajor != 2 {
				t.Errorf("%s: %s", name, resp.Proto)
			}
		}
		client.CloseIdleConnections()
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if code, _, _ := s.get(t, "/who"); code != http.StatusBadRequest { // plain HTTP
		t.Error(code)
	}
}
