// Package stream serves the WebSocket at /v1/stream: live changes of the fleet, the alerts and single machines.
//
// # Protocol
//
// The client sends {"type":"subscribe","channels":["fleet","alerts","machine:<id>","live:<id>"],"filter":{"site":S,"line":L,"group":G}}; each subscribe replaces the
// one before. The filter, of which any part may be missing, is on fleet, alerts and the summary. Machines that the client may not see are as if there were none. With "resume":{"instance":I,"version":V} from an earlier connection, channels go on from there
// instead of from the start, if this is still the same instance. The server sends hello first; then fleet, alerts and machine
// messages, each with the version it brings the channel to ("reset": forget what was before; "more": the next message carries on), and a
// summary each second, which is also the heartbeat.
//
// live messages hold the newest value of each sensor of a machine as it was sent, before the window with it is judged: at most one message of a machine in a tick, with
// what is new since the last. Of a machine of many sensors it holds those that the machine's own channel on the connection does. They have no version and are no part of a resume:
// what nobody saw is not sent again, its window will be.
//
// # Slow clients
//
// There is no queue. At each tick a client gets what changed since the version it has; one that is still
// writing, or has not yet answered a ping that followed 256 KiB, misses ticks and then gets the latest state of everything that changed meanwhile, once. The summary
// tells it how many ticks were coalesced. Only a client that takes nothing at all for WriteTimeout is cut off.
//
// # Cost
//
// What changed since the last tick is encoded once for all clients of the same rights and filter that keep up. Memory: one encoded change set,
// and per client at most one snapshot under way. One goroutine ticks; each client has a reader, a writer and a pinger.
package stream

import (
	"bufio"
	"cmp"
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

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hops"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/live"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

// Config of the stream.
type Config struct {
	Interval       time.Duration // between two messages about the same thing
	Summary        time.Duration // between two summaries; 0: a second
	WriteTimeout   time.Duration
	PingInterval   time.Duration
	MaxClients     int
	AllowedOrigins []string       // beside the page's own; patterns as of path.Match on the host
	Hops           *hops.Recorder // nil: nobody measures
	Live           *live.Board    // who watches what before its window closes; nil: nobody can
	Build          string         // the page's version, told in hello: a page of another loads itself anew
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
	views   map[string]*view // those that somebody looks at
	clients int
	closing bool
	wg      sync.WaitGroup
	done    chan struct{} // closed when Run ends

	sent, bytes, coalesced, resets, refused, faults *metrics.Counter
}

// tick is one interval; next is closed when it is over.
type tick struct {
	next   chan struct{}
	number uint64
}

// New makes a server over the hub.
func New(cfg Config, h *hub.Hub, flow func() wire.Flow, log *zap.Logger, set *metrics.Set) *Server {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	s := &Server{
		cfg: cfg, hub: h, flow: flow, log: log, instance: hex.EncodeToString(id[:]), done: make(chan struct{}),
		tick: tick{next: make(chan struct{})}, views: map[string]*view{},
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

// Instance is the random name of this server, under which versions count.
func (s *Server) Instance() string { return s.instance }

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
			summary := now.Sub(lastSummary) >= cmp.Or(s.cfg.Summary, time.Second)-s.cfg.Interval/2
			if summary {
				lastSummary = now
			}
			s.advance(summary)
		}
	}
}

// advance finds out what is new in each view, ends the current tick and publishes the next.
func (s *Server) advance(summary bool) {
	s.mu.Lock()
	last := s.tick
	views := make([]*view, 0, len(s.views))
	before := make([]news, 0, len(s.views))
	for _, v := range s.views {
		views = append(views, v)
		before = append(before, v.news)
	}
	s.mu.Unlock()
	next := tick{next: make(chan struct{}), number: last.number + 1}
	after := make([]news, len(views))
	var flow wire.Flow
	if summary && len(views) > 0 {
		flow = s.flow()
	}
	for i, v := range views {
		v.snap.Store(nil)
		after[i] = s.news(v, before[i])
		if summary {
			c := s.hub.Counts(v.scope)
			after[i].summary, after[i].summaryTick = wire.AppendSummary([]byte{'{'}, &c, &flow)[1:], next.number
		}
	}
	s.mu.Lock()
	for i, v := range views {
		v.news = after[i]
	}
	s.tick = next
	s.mu.Unlock()
	close(last.next)
}

// news is what is new in a view since the last time.
func (s *Server) news(v *view, last news) news {
	n := news{from: last.to, to: last.to, summary: last.summary, summaryTick: last.summaryTick}
	if last.to == 0 { // a first look: each client looks for itself
		n.to = s.hub.Version()
		n.from = n.to
		return n
	}
	d, alerts := s.hub.Since(last.to, v.scope)
	if now := time.Now(); s.cfg.Hops != nil && s.cfg.Hops.Live() {
		for i := range d.Rows {
			if at := d.Rows[i].ClosedAtMS; at > 0 {
				s.cfg.Hops.Add(hops.Shown, now.Sub(time.UnixMilli(at)), now)
			}
		}
	}
	n.to = d.Version
	if d.Reset {
		n.from = n.to
		return n
	}
	n.fleet, n.alerts = fleetMessages(&d), alertMessages(alerts, n.to, false)
	return n
}

func (s *Server) current() tick {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tick
}

// newsOf is what the latest tick brought of a view.
func (s *Server) newsOf(v *view) news {
	s.mu.Lock()
	defer s.mu.Unlock()
	return v.news
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

// Serve takes a client in and serves it until it leaves, or its session ends.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, who *gate.Identity) {
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
	c := newClient(s, who, conn, catch.raw)
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
