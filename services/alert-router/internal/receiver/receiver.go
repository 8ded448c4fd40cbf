// Package receiver is what the receivers that speak HTTP have in common: one exchange, its answer judged once, and the error that the engine acts on. Each receiver has a
// package of its own below this one.
//
// None of them logs, and none of their errors holds an address with its path, a key or a token: a webhook's URL is its secret.
package receiver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/egress"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

// UserAgent of every request.
const UserAgent = "Tocsin"

// MaxRetryAfter bounds how long another side may ask to be left alone: a page is late after that, whatever they ask.
const MaxRetryAfter = 2 * time.Minute

// Secret gives a key, a token or an address that is one. It is asked for each message, so that a file can be changed.
type Secret func() (string, error)

// Fixed is a secret that is known.
func Fixed(s string) Secret { return func() (string, error) { return s, nil } }

// File is a secret that stands in a file, without the spaces and line breaks around it.
func File(path string) Secret {
	return func() (string, error) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(string(b)), nil
	}
}

// Get is the secret, or the error that says whose it is.
func (s Secret) Get(what string) (string, error) {
	v, err := s()
	if err == nil && v == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", &notification.Error{Class: notification.Retryable, Reason: "no_secret", Err: fmt.Errorf("%s: %w", what, err)}
	}
	return v, nil
}

// Request is one exchange.
type Request struct {
	Method string // empty: POST
	URL    string
	Header http.Header
	Body   []byte
	// ContentType; empty: application/json.
	ContentType string
	// Accept judges the body of a 2xx answer; nil: all are good.
	Accept func(body []byte) error
}

// Exchange sends a request and judges the answer: nil when it was taken, else a *notification.Error.
func Exchange(ctx context.Context, client *http.Client, r Request) error {
	method := r.Method
	if method == "" {
		method = http.MethodPost
	}
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(i httptrace.WroteRequestInfo) { wrote.Store(i.Err == nil) }})
	req, err := http.NewRequestWithContext(ctx, method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return &notification.Error{Class: notification.Permanent, Reason: "bad_address", Err: errors.New("the address is not a URL")} // the parser's words repeat it
	}
	req.Header.Set("Content-Type", "application/json")
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	req.Header.Set("User-Agent", UserAgent)
	for name, values := range r.Header {
		req.Header[name] = values
	}
	resp, err := client.Do(req)
	if err != nil {
		return Failed(err, wrote.Load())
	}
	defer func() { _ = resp.Body.Close() }()
	return Answered(resp, r.Accept)
}

// Answered judges an answer; the caller closes it.
func Answered(resp *http.Response, accept func(body []byte) error) error {
	body, readErr := io.ReadAll(io.LimitReader(resp.Body, egress.MaxBody))
	if resp.StatusCode/100 == 2 {
		if accept == nil {
			return nil // it was taken, whatever became of the rest of the answer
		}
		if readErr != nil {
			return Failed(readErr, true)
		}
		return accept(body)
	}
	e := &notification.Error{Class: notification.Permanent, Reason: "client_error", Err: errors.New(said(resp.StatusCode, body))}
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests:
		e.Class, e.Reason = notification.Retryable, "rate_limited"
	case s == http.StatusRequestTimeout || s == http.StatusTooEarly:
		e.Class, e.Reason = notification.Retryable, "timeout"
	case s >= 500:
		e.Class, e.Reason = notification.Retryable, "server_error"
	case s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusProxyAuthRequired:
		e.Reason = "unauthorized"
	case s == http.StatusNotFound || s == http.StatusGone:
		e.Reason = "gone"
	case s/100 == 3:
		e.Reason = "redirect"
	}
	if e.Class == notification.Retryable {
		e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return e
}

// said is the status and the beginning of the answer, made harmless.
func said(status int, body []byte) string {
	s := "answered " + strconv.Itoa(status)
	if text := message.Clean(string(body[:min(len(body), 1024)]), 200); text != "" {
		s += ": " + text
	}
	return s
}

// retryAfter reads seconds or a date (RFC 9110); 0 when there is none.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil {
		return min(max(time.Duration(min(n, 1e6))*time.Second, 0), MaxRetryAfter)
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(at.Sub(now), 0), MaxRetryAfter)
	}
	return 0
}

// Failed classifies an exchange that came to no answer.
func Failed(err error, wrote bool) *notification.Error {
	var known *notification.Error
	if errors.As(err, &known) {
		return known
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the address
	}
	e := &notification.Error{Class: notification.Retryable, Reason: "network", MayHaveArrived: wrote, Err: err}
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(err, egress.ErrForbidden):
		e.Class, e.Reason, e.MayHaveArrived = notification.Permanent, "bad_address", false
	case errors.Is(err, egress.ErrRedirect):
		e.Class, e.Reason, e.MayHaveArrived = notification.Permanent, "redirect", false
	case errors.Is(err, context.Canceled):
		e.Reason = "canceled"
	case errors.As(err, &dns):
		e.Reason = "dns"
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		e.Reason = "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Reason = "refused"
	case errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid) || errors.As(err, &verify):
		e.Reason = "certificate"
	}
	return e
}

// Refused is what a service says no to in an answer that its HTTP status calls good.
func Refused(reason, text string, class notification.Class) error {
	return &notification.Error{Class: class, Reason: reason, Err: errors.New(message.Clean(text, 200))}
}

// JSON encodes v without escaping <, > and & (the receivers' own markup has been escaped already).
func JSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, &notification.Error{Class: notification.Permanent, Reason: "encode", Err: err}
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// GroupHash names a group where a service asks for a short key: SHA-256 in hexadecimal, as Alertmanager makes it, so that an incident opened by it can be closed by us.
func GroupHash(groupKey string) string {
	h := sha256.Sum256([]byte(groupKey))
	return hex.EncodeToString(h[:])
}

// Composer makes pages; *message.Composer is one.
type Composer interface {
	Page(n notification.Notification, recipient string) *message.Page
}

// Worst is the one error to act on of a message that failed for several recipients: nil for none; one that is worth trying again comes first, since the
// rest of them can still get it, and asks for the longest wait of all.
func Worst(list []error) error {
	var worst *notification.Error
	arrived := false
	for _, err := range list {
		e := classified(err)
		arrived = arrived || e.MayHaveArrived
		switch {
		case worst == nil, worst.Class == notification.Permanent && e.Class == notification.Retryable, worst.Class == e.Class && e.RetryAfter > worst.RetryAfter:
			worst = e
		}
	}
	if worst == nil {
		return nil
	}
	out := *worst
	out.MayHaveArrived = arrived
	if len(list) > 1 {
		out.Err = fmt.Errorf("for %d recipients: %w", len(list), out.Err)
	}
	return &out
}
