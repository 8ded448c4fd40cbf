package egress

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	maxRedirects = 3
	// MaxBody is how much of an answer is read.
	MaxBody = 64 << 10
	// Timeout of a whole exchange, unless the caller's context ends sooner.
	Timeout = 15 * time.Second
)

// ErrRedirect: an answer leads somewhere that is not followed.
var ErrRedirect = errors.New("redirect refused")

// private headers say who we are; they are not for whoever an answer refers us to.
var private = []string{"Authorization", "Cookie", "X-Tocsin-Signature", "X-Tocsin-Timestamp", "Idempotency-Key", "Proxy-Authorization"}

// Guard makes a client that was built elsewhere (with the TLS, proxy and authorization settings of a receiver's http_config) keep to what this package
// promises about answers: they are bounded, end in time, and redirects are followed at most three times, never from https to http, and to other hosts without
// what was meant for the first. Its connections must come from a Dialer, which checks each host that a redirect leads to.
//
// Through a proxy the proxy looks the names up, so only addresses written as such are checked here: what it may reach is the proxy's to decide.
func Guard(c *http.Client, p Policy) *http.Client {
	out := *c
	out.Timeout = Timeout
	next := c.CheckRedirect
	out.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if next != nil {
			if err := next(req, via); err != nil {
				return err // "do not follow" has its own
			}
		}
		return checkRedirect(req, via)
	}
	rt := c.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	out.Transport = bounded{rt, p}
	return &out
}

// Client is a guarded client of its own over d, without a proxy.
func Client(d *Dialer) *http.Client {
	return Guard(&http.Client{Transport: &http.Transport{
		DialContext: d.DialContext, ForceAttemptHTTP2: true, MaxIdleConns: 100, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}}, d.Policy)
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	last := via[len(via)-1]
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d", ErrRedirect, maxRedirects)
	case req.URL.Scheme != "https" && req.URL.Scheme != "http":
		return fmt.Errorf("%w: to a scheme other than http", ErrRedirect)
	case last.URL.Scheme == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("%w: from https to http", ErrRedirect)
	case req.URL.User != nil:
		return fmt.Errorf("%w: it names a user", ErrRedirect)
	}
	req.Header.Del("Referer") // a webhook's address is its secret
	if !sameHost(req.URL, via[0].URL) {
		if req.Body != nil && req.Body != http.NoBody { // 307 and 308 would hand the message on, keys and all
			return fmt.Errorf("%w: another host asks for the message", ErrRedirect)
		}
		for _, h := range private {
			req.Header.Del(h)
		}
	}
	return nil
}

func sameHost(a, b *url.URL) bool { return a.Host == b.Host }

// bounded cuts answers off after MaxBody.
type bounded struct {
	next   http.RoundTripper
	policy Policy
}

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Hostname()
	if a, err := netip.ParseAddr(host); err == nil {
		if err := b.policy.Check(host, req.URL.Port(), a); err != nil {
			return nil, err
		}
	}
	resp, err := b.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &limited{Reader: io.LimitReader(resp.Body, MaxBody), Closer: resp.Body}
	return resp, nil
}

// CloseIdleConnections is called by http.Client's.
func (b bounded) CloseIdleConnections() {
	if c, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type limited struct {
	io.Reader
	io.Closer
}
