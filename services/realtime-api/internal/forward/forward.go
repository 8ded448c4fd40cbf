// Package forward takes the page's requests to the other services: the page's content security policy lets it talk to its own host only.
//
// What may be asked is a table: method and path on our side, path on theirs. The path to ask for is made from the table and the escaped values of its wildcards, never from what came in, and
// the host from the configuration, so no request reaches anything else. Headers pass by name, in both directions. The answers of a service, errors included, are given as they are.
//
// Cost: a goroutine and two connections for each request under way; MaxAtOnce of them for each service. Bodies are bounded and not held in memory.
package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/network"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
)

// Service is one that requests are taken to.
type Service string

// The services.
const (
	Router    Service = "router"
	History   Service = "history"
	Models    Service = "models"
	Tuning    Service = "tuning"
	Detection Service = "detection"
)

// Limits of a request.
const (
	MaxAtOnce   = 64
	maxRequest  = 256 << 10
	maxAnswer   = 64 << 20
	maxQuery    = 8 << 10
	maxSegment  = 1024
	headTimeout = 16 << 10
)

// timeouts are a little longer than what the services themselves allow a request.
var timeouts = map[Service]time.Duration{Router: 30 * time.Second, History: 90 * time.Second, Models: 30 * time.Second, Tuning: 30 * time.Second, Detection: 30 * time.Second}

// names are what people call the services.
var names = map[Service]string{Router: "alert-router", History: "historical-api", Models: "model-trainer", Tuning: "tuning-bench", Detection: "stream-processor"}

// Headers that pass, beside Authorization, which is the asker's.
var (
	toService   = []string{"Accept", "Content-Type", "Idempotency-Key", "If-None-Match"}
	fromService = []string{
		"Content-Type", "Etag", "Retry-After", "Server-Timing", "X-Query-Id", "X-Lake-Version", "X-Rows", "X-Truncated", "X-Cache",
	}
)

// CheckBase tells whether a service may be at an address: http or https, a host, no more than a path. Empty: there is none.
func CheckBase(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%q is not a URL", s)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not an http:// or https:// address of a service", s)
	}
	return nil
}

// Forwarder takes requests to services. Safe for concurrent use.
type Forwarder struct {
	bases  map[Service]string // without a slash at the end
	client *http.Client
	slots  map[Service]chan struct{}
	log    *zap.Logger
	set    *metrics.Set
}

// New makes a forwarder to services by their addresses, which CheckBase takes; an empty one is not there. roots may be nil: the system's.
func New(bases map[Service]string, roots *tls.Config, via network.Network, log *zap.Logger, set *metrics.Set) *Forwarder {
	f := &Forwarder{bases: map[Service]string{}, slots: map[Service]chan struct{}{}, log: log, set: set}
	for s, base := range bases {
		f.bases[s], f.slots[s] = strings.TrimRight(base, "/"), make(chan struct{}, MaxAtOnce)
	}
	f.client = &http.Client{
		Transport: &http.Transport{
			Proxy: nil, DialContext: via.DialContext, TLSClientConfig: roots, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 8, MaxConnsPerHost: MaxAtOnce, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: headTimeout,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return f
}

// Features tells which services there are.
func (f *Forwarder) Features() map[string]bool {
	out := map[string]bool{}
	for s := range names {
		out[string(s)] = f.bases[s] != ""
	}
	return out
}

// Base is where a service is; empty: there is none.
func (f *Forwarder) Base(s Service) string { return f.bases[s] }

// Close ends idle connections.
func (f *Forwarder) Close() { f.client.CloseIdleConnections() }

// Handler answers requests for one route of the table.
func (f *Forwarder) Handler(rt Route) gate.Handler {
	return func(w http.ResponseWriter, r *http.Request, who *gate.Identity) {
		status := f.take(w, r, who, rt)
		f.set.GetOrCreateCounter(fmt.Sprintf(`tocsin_api_forwarded_total{to=%q,status="%d"}`, rt.To, status)).Inc()
	}
}

// take takes one request there and its answer back.
func (f *Forwarder) take(w http.ResponseWriter, r *http.Request, who *gate.Identity, rt Route) (status int) {
	refuse := func(status int, title, detail string) int {
		if status == http.StatusServiceUnavailable || status >= http.StatusBadGateway {
			w.Header().Set("Retry-After", "5")
		}
		w.Header().Set("Cache-Control", "no-store")
		httpserver.Problem(w, status, title, detail, map[string]any{"service": names[rt.To]})
		return status
	}
	base := f.bases[rt.To]
	if base == "" {
		return refuse(http.StatusNotFound, "Not there", "this installation has no "+names[rt.To]+" (realtime_api.backends)")
	}
	target, err := rt.target(base, r)
	if err != nil {
		return refuse(http.StatusBadRequest, "Invalid request", err.Error())
	}
	if r.ContentLength > maxRequest {
		return refuse(http.StatusRequestEntityTooLarge, "Too large", fmt.Sprintf("the body is larger than %d bytes", maxRequest))
	}
	select {
	case f.slots[rt.To] <- struct{}{}:
		defer func() { <-f.slots[rt.To] }()
	default:
		return refuse(http.StatusServiceUnavailable, "Busy", "too many requests are on their way to "+names[rt.To])
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeouts[rt.To])
	defer cancel()
	// A browser that takes its answer slowly must not keep the place for ever.
	line := http.NewResponseController(w)
	_ = line.SetWriteDeadline(time.Now().Add(timeouts[rt.To] + 30*time.Second)) // the only error is that a writer cannot, as in tests
	_ = line.SetReadDeadline(time.Now().Add(timeouts[rt.To] + 5*time.Second))
	defer func() {
		_ = line.SetWriteDeadline(time.Time{}) // the connection's next request has its own
		_ = line.SetReadDeadline(time.Time{})
	}()
	resp, err := f.ask(ctx, w, r, who, target)
	if err != nil {
		return f.away(ctx, r, rt, err, refuse)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		// Whoever asks is known here: the page must not think that its session is over.
		return refuse(http.StatusForbidden, "Not known there", names[rt.To]+" does not know these credentials: list the same people with the same tokens in its auth section")
	case resp.StatusCode < 200 || resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != http.StatusNotModified:
		return refuse(http.StatusBadGateway, "Bad answer", fmt.Sprintf("%s answered %d, which means nothing here", names[rt.To], resp.StatusCode))
	case resp.ContentLength > maxAnswer:
		return refuse(http.StatusBadGateway, "Too large", fmt.Sprintf("the answer of %s is larger than %d bytes", names[rt.To], maxAnswer))
	}
	h := w.Header()
	for _, name := range fromService {
		if v := resp.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	// Answers are data: opened by itself, none may do anything.
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	if resp.ContentLength >= 0 {
		h.Set("Content-Length", fmt.Sprint(resp.ContentLength))
	}
	w.WriteHeader(resp.StatusCode)
	if n, err := io.Copy(w, io.LimitReader(resp.Body, maxAnswer+1)); err != nil || n > maxAnswer {
		// The answer has begun: only cutting the connection says that it is not whole.
		f.log.Debug("answer cut", zap.String("service", names[rt.To]), zap.Int64("bytes", n), zap.Error(err))
		panic(http.ErrAbortHandler)
	}
	return resp.StatusCode
}

// ask sends the request.
func (f *Forwarder) ask(ctx context.Context, w http.ResponseWriter, r *http.Request, who *gate.Identity, target string) (*http.Response, error) {
	var body io.Reader
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.ContentLength != 0 {
		body = http.MaxBytesReader(w, r.Body, maxRequest)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, body) //nolint:gosec // G704: the host is the configuration's and the path the table's: see target
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = r.ContentLength
	}
	for _, name := range toService {
		if v := r.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	if who.Authorization != "" {
		req.Header.Set("Authorization", who.Authorization)
	}
	req.Header.Set("User-Agent", "tocsin-realtime-api")
	return f.client.Do(req) //nolint:gosec // G704: as above
}

// away tells why there is no answer.
func (f *Forwarder) away(ctx context.Context, r *http.Request, rt Route, err error, refuse func(int, string, string) int) int {
	var large *http.MaxBytesError
	var dial *net.OpError
	switch {
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, "Too large", fmt.Sprintf("the body is larger than %d bytes", large.Limit))
	case r.Context().Err() != nil:
		return refuse(http.StatusServiceUnavailable, "Given up", "the request was given up") // most likely to nobody
	case ctx.Err() != nil:
		return refuse(http.StatusGatewayTimeout, "No answer", names[rt.To]+" has not answered in time")
	case errors.As(err, &dial) && dial.Op == "dial":
		return refuse(http.StatusBadGateway, "Away", names[rt.To]+" cannot be reached")
	}
	f.log.Warn("forwarding failed", zap.String("service", names[rt.To]), zap.Error(err))
	return refuse(http.StatusBadGateway, "Away", names[rt.To]+" did not answer properly")
}
