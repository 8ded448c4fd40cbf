// Package stream serves the WebSocket at /v1/stream: live changes of the fleet, the alerts and single machines.
//
// # Protocol
//
// The client sends {"type":"subscribe","channels":["fleet","alerts","machine:<id>"]}; each subscribe replaces the
// one before. With "resume":{"instance":I,"version":V} from an earlier connection, channels go on from there
// instead of from the start, if this is still the same instance. The server sends hello first; then fleet, alerts and machine
// messages, each with the version it brings the channel to ("reset": forget what was before; "more": the next message carries on), and a
// summary each second, which is also the heartbeat.
//
// # Slow clients
//
// There is no queue. At each tick a client gets what changed since the version it has; one that is still
// writing misses ticks and then gets the latest state of everything that changed meanwhile, once. The summary
// tells it how many ticks were coalesced. Only a client that takes nothing at all for WriteTimeout is cut off.
//
// # Cost
//
// What changed since the last tick is encoded once for all clients that keep up. Memory: one encoded change set,
// and per client at most one snapshot under way. One goroutine ticks; each client has a reader, a writer and a pinger.
package stream

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/httpserver"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

// Config of the stream.
type Config struct {
	Interval       time.Duration // between two messages about the same thing
	WriteTimeout   time.Duration
	PingInterval   time.Duration
	MaxClients     int
	AllowedOrigins []string // beside the page's own; patterns as of path.Match on the host
	Build          string   // the page's version, told in hello: a page of another loads itself anew
}

// Server serves streams. Make one with New; Run must run for clients to be served.
type Server struct {
	cfg      Config
	hub      *hub.Hub
	flow     func() wire.Flow
	log      *zap.Logger
	instance string

	mu      sync.Mutex
	tick    tick
	clients int
	closing bool
	wg      sync.WaitGroup
	done    chan struct{} // closed when Run ends

	sent, bytes, coalesced, resets, refused, faults *metrics.Counter
}

// tick is what one interval brought. Immutable once published, but for next, which is closed when it is over.
type tick struct {
	next          chan struct{}
	number        uint64
	from, to      uint64
	fleet, alerts [][]byte
	summary       []byte // the latest summary's members, and in which tick it was made
	summaryTick   uint64
}

// New makes a server over the hub.
func New(cfg Config, h *hub.Hub, flow func() wire.Flow, log *zap.Logger, set *metrics.Set) *Server {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	s := &Server{
		cfg: cfg, hub: h, flow: flow, log: log, instance: hex.EncodeToString(id[:]), done: make(chan struct{}),
		tick:      tick{next: make(chan struct{})},
		sent:      set.GetOrCreateCounter(`tocsin_api_stream_messages_total`),
		bytes:     set.GetOrCreateCounter(`tocsin_api_stream_bytes_total`),
		coalesced: set.GetOrCreateCounter(`tocsin_api_stream_coalesced_ticks_total`),
		resets:    set.GetOrCreateCounter(`tocsin_api_stream_snapshots_total`),
		refused:   set.GetOrCreateCounter(`tocsin_api_stream_refused_total`),
		faults:    set.GetOrCreateCounter(`tocsin_api_stream_bad_requests_total`),
	}
	set.GetOrCreateGauge(`tocsin_api_stream_clients`, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(s.clients)
	})
	return s
}

// Run ticks until ctx ends; then it says goodbye to all clients, waits for them, and returns nil.
func (s *Server) Run(ctx context.Context) error {
	t := time.NewTicker(s.cfg.Interval)
	defer t.Stop()
	var lastSummary time.Time
	for {
		select {
		case <-ctx.Done():
			s.mu.Lock()
			s.closing = true
			s.mu.Unlock()
			close(s.done)
			s.wg.Wait()
			return nil
		case now := <-t.C:
			summary := now.Sub(lastSummary) >= time.Second-s.cfg.Interval/2
			if summary {
				lastSummary = now
			}
			s.advance(summary)
		}
	}
}

// advance ends the current tick and publishes the next.
func (s *Server) advance(summary bool) {
	s.mu.Lock()
	last, watched := s.tick, s.clients > 0
	s.mu.Unlock()
	next := tick{
		next: make(chan struct{}), number: last.number + 1, from: last.to, to: last.to,
		summary: last.summary, summaryTick: last.summaryTick,
	}
	if watched {
		d := s.hub.FleetSince(last.to)
		alerts, version := s.hub.AlertsSince(last.to)
		if last.to > 0 && !d.Reset && version == d.Version {
			next.fleet, next.alerts = fleetMessages(&d), alertMessages(alerts, version, false)
		}
		// Where a record came between the two looks nothing is shared this time: each client looks for itself.
		next.to = d.Version
		if last.to == 0 || d.Reset || version != d.Version {
			next.from = next.to
		}
	} else {
		next.to = 0 // nobody watches: the next client starts sharing anew
		next.from = 0
	}
	if summary && watched {
		c, f := s.hub.Counts(), s.flow()
		next.summary, next.summaryTick = wire.AppendSummary([]byte{'{'}, &c, &f)[1:], next.number
	}
	s.mu.Lock()
	s.tick = next
	s.mu.Unlock()
	close(last.next)
}

func (s *Server) current() tick {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tick
}

var errFull = errors.New("too many clients")

func (s *Server) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errors.New("shutting down")
	}
	if s.clients >= s.cfg.MaxClients {
		return errFull
	}
	s.clients++
	s.wg.Add(1)
	return nil
}

func (s *Server) leave() {
	s.mu.Lock()
	s.clients--
	s.mu.Unlock()
	s.wg.Done()
}

// ServeHTTP takes a client in and serves it until it leaves.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.enter(); err != nil {
		s.refused.Inc()
		w.Header().Set("Retry-After", "5")
		httpserver.Problem(w, http.StatusServiceUnavailable, "Stream not available", err.Error(), nil)
		return
	}
	defer s.leave()
	if r.Header.Get("Upgrade") == "" {
		httpserver.Problem(w, http.StatusUpgradeRequired, "Upgrade required", "this is a WebSocket endpoint", nil)
		return
	}
	catch := &catcher{ResponseWriter: w}
	conn, err := websocket.Accept(catch, r, &websocket.AcceptOptions{OriginPatterns: s.cfg.AllowedOrigins})
	if err != nil { // Accept has answered, e.g. 403 to a foreign origin
		s.refused.Inc()
		s.log.Debug("stream refused", zap.Error(err))
		return
	}
	defer func() { _ = conn.CloseNow() }() // it may be closed already
	conn.SetReadLimit(16 << 10)
	// Not the request's context: it may end before the goodbye is said.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	c := newClient(s, conn, catch.raw)
	c.run(ctx, cancel)
}

// catcher keeps the connection that is taken over, to be able to end it at once.
type catcher struct {
	http.ResponseWriter
	raw net.Conn
}

func (c *catcher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	c.raw = raw
	return raw, rw, err
}

func (s *Server) hello() []byte {
	return fmt.Appendf(nil, `{"type":"hello","protocol":1,"instance":%q,"build":%q,"interval_ms":%d,"server_time_ms":%d}`,
		s.instance, s.cfg.Build, s.cfg.Interval.Milliseconds(), time.Now().UnixMilli())
}
