package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func policy(t *testing.T, allow ...string) Policy {
	t.Helper()
	p, err := ParsePolicy(allow)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		allow      []string
		host, addr string
		ok         bool
	}{
		{nil, "hooks.slack.com", "3.68.10.20", true},
		{nil, "hooks.slack.com", "2a00:1450:4001:82b::200e", true},
		{nil, "localhost", "127.0.0.1", false},
		{nil, "x", "127.255.0.9", false},
		{nil, "x", "0.0.0.0", false},
		{nil, "x", "::1", false},
		{nil, "x", "::", false},
		{nil, "x", "::ffff:127.0.0.1", false},
		{nil, "x", "::ffff:10.0.0.1", false},
		{nil, "x", "10.1.2.3", false},
		{nil, "x", "172.16.0.1", false},
		{nil, "x", "172.32.0.1", true},
		{nil, "x", "192.168.1.1", false},
		{nil, "x", "100.64.0.1", false},
		{nil, "x", "169.254.169.254", false},
		{nil, "x", "169.254.1.1", false},
		{nil, "x", "fe80::1", false},
		{nil, "x", "fe80::1%eth0", false},
		{nil, "x", "fd00:ec2::254", false},
		{nil, "x", "fc00::1", false},
		{nil, "x", "64:ff9b::a9fe:a9fe", false},
		{nil, "x", "2002:7f00:1::", false},
		{nil, "x", "224.0.0.1", false},
		{nil, "x", "255.255.255.255", false},
		{nil, "x", "168.63.129.16", false}, // Azure's, though public
		{[]string{"10.0.0.0/8"}, "x", "10.1.2.3", true},
		{[]string{"10.0.0.0/8"}, "x", "::ffff:10.1.2.3", true},
		{[]string{"10.0.0.0/8"}, "x", "192.168.1.1", false},
		{[]string{"127.0.0.1"}, "x", "127.0.0.1", true},
		{[]string{"127.0.0.1"}, "x", "127.0.0.2", false},
		{[]string{"hooks.internal"}, "hooks.internal", "10.1.2.3", true},
		{[]string{"hooks.internal"}, "HOOKS.internal.", "10.1.2.3", true},
		{[]string{"hooks.internal"}, "evil.internal", "10.1.2.3", false},
		{[]string{"hooks.internal"}, "hooks.internal", "169.254.169.254", false},
		{[]string{"*.internal"}, "a.internal", "10.1.2.3", true},
		{[]string{"*.internal"}, "internal", "10.1.2.3", false},
		{[]string{"*.internal"}, "notinternal", "10.1.2.3", false},
		{[]string{"hooks.internal:443"}, "hooks.internal", "10.1.2.3", true},
		{[]string{"hooks.internal:22"}, "hooks.internal", "10.1.2.3", false},
		{[]string{"169.254.169.254"}, "x", "169.254.169.254", true}, // said in so many words
	} {
		err := policy(t, tc.allow...).Check(tc.host, "443", netip.MustParseAddr(tc.addr))
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrForbidden) {
			t.Errorf("allow %q: %s at %s: %v", tc.allow, tc.host, tc.addr, err)
		}
	}
	if err := (Policy{}).Check("x", "1", netip.Addr{}); !errors.Is(err, ErrForbidden) {
		t.Error("the address that is none is allowed")
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	for _, s := range []string{"", "http://x", "a b", "10.0.0.0/33", "*", "x:y", "x:99999", "*.*.x", "a..b", "x/y", strings.Repeat("a", 300)} {
		if _, err := ParsePolicy([]string{s}); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
}

// names answers look-ups: each next one with the next list.
type names struct {
	lists [][]netip.Addr
	asked atomic.Int32
}

func (n *names) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	i := int(n.asked.Add(1)) - 1
	if i >= len(n.lists) {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	return n.lists[i], nil
}

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// A name that is public when it is checked and inside when it is dialled: it is looked up once, and what was checked is dialled.
func TestRebindingIsPinned(t *testing.T) {
	n := &names{lists: [][]netip.Addr{addrs("93.184.216.34"), addrs("127.0.0.1")}}
	var dialled []string
	d := &Dialer{Resolver: n, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		return nil, errors.New("far away")
	}}
	_, _ = d.DialContext(t.Context(), "tcp", "rebind.example:80")
	if n.asked.Load() != 1 || len(dialled) != 1 || dialled[0] != "93.184.216.34:80" {
		t.Errorf("asked %d times, dialled %q", n.asked.Load(), dialled)
	}
}

func TestOneForbiddenAddressForbidsTheName(t *testing.T) {
	d := &Dialer{Resolver: &names{lists: [][]netip.Addr{addrs("93.184.216.34", "10.0.0.1")}}, Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialled")
		return nil, errors.New("no")
	}}
	if _, err := d.DialContext(t.Context(), "tcp", "mixed.example:80"); !errors.Is(err, ErrForbidden) {
		t.Error(err)
	}
}

// Ways to write the loopback address that some resolvers understand: none gets through, whatever it resolves to.
func TestOddSpellingsOfLoopback(t *testing.T) {
	for _, host := range []string{"127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "127.0.0.1.nip.io", "[::ffff:7f00:1]", "[::1]"} {
		d := &Dialer{Resolver: &names{lists: [][]netip.Addr{addrs("127.0.0.1")}}, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			t.Errorf("%s: dialled %s", host, address)
			return nil, errors.New("no")
		}}
		if _, err := d.DialContext(t.Context(), "tcp", host+":80"); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func get(t *testing.T, c *http.Client, u string) (int, string, error) {
	t.Helper()
	defer c.CloseIdleConnections()
	resp, err := c.Get(u)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestRedirects(t *testing.T) {
	var seen http.Header
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		_, _ = w.Write([]byte("there"))
	}))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusFound
		if r.URL.Query().Get("keep") != "" {
			status = http.StatusTemporaryRedirect
		}
		http.Redirect(w, r, r.URL.Query().Get("to"), status)
	}))
	defer srv.Close()
	c := Client(&Dialer{Policy: policy(t, "127.0.0.1")})
	defer c.CloseIdleConnections()
	for to, want := range map[string]error{
		"http://169.254.169.254/latest/meta-data/": ErrForbidden, "http://[::1]/": ErrForbidden, "http://10.0.0.1/": ErrForbidden, "http://[::ffff:169.254.169.254]/": ErrForbidden,
		"file:///etc/passwd": ErrRedirect, "gopher://127.0.0.1/": ErrRedirect, "http://a:b@127.0.0.1/": ErrRedirect, other.URL: nil,
	} {
		_, _, err := get(t, c, srv.URL+"/?to="+url.QueryEscape(to))
		if want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("to %s: %v, want %v", to, err, want)
		}
	}
	if _, _, err := get(t, c, srv.URL+"/?to="+url.QueryEscape("/?to=/?to=/?to=/?to=/")); err == nil {
		t.Error("redirects without end are followed")
	}
	req, _ := http.NewRequest(http.MethodGet, srv.URL+"/?to="+url.QueryEscape(other.URL), http.NoBody)
	for _, h := range private {
		req.Header.Set(h, "secret")
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, h := range append(private, "Referer") {
		if seen.Get(h) != "" {
			t.Errorf("the other host was given %s", h)
		}
	}
	resp, err = c.Post(srv.URL+"/?keep=1&to="+url.QueryEscape(other.URL), "text/plain", strings.NewReader("keys"))
	if !errors.Is(err, ErrRedirect) {
		t.Errorf("a message was handed on: %v", err)
	}
	if err == nil {
		resp.Body.Close()
	}
}

func TestNoStepDownFromHTTPS(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer plain.Close()
	srv := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer srv.Close()
	c := Guard(srv.Client(), policy(t, "127.0.0.1"))
	if _, _, err := get(t, c, srv.URL); !errors.Is(err, ErrRedirect) {
		t.Error(err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 64 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	_, body, err := get(t, Client(&Dialer{Policy: policy(t, "127.0.0.1")}), srv.URL)
	if err != nil || len(body) != MaxBody {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestNothingInsideByDefault(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer srv.Close()
	if _, _, err := get(t, Client(&Dialer{}), srv.URL); !errors.Is(err, ErrForbidden) {
		t.Error(err)
	}
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	if _, _, err := get(t, Client(&Dialer{}), "http://localhost:"+port); !errors.Is(err, ErrForbidden) {
		t.Error(err)
	}
}
