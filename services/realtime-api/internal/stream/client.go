package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

const (
	goodbye     = time.Second // for the closing handshake when the server ends
	maxChannels = 16
	maxFaults   = 100
	maxChannel  = 600 // bytes of a channel's name
	machineTag  = "machine:"
	liveTag     = "live:"
)

// statusOver closes a client whose session has ended: signing in again helps, connecting again does not.
const statusOver websocket.StatusCode = 4401

var errOver = errors.New("the session is over")

// request is what a client may say.
type request struct {
	Type     string   `json:"type"`
	Channels []string `json:"channels"`
	Filter   *filter  `json:"filter"`
	Resume   *struct {
		Instance string `json:"instance"`
		Version  uint64 `json:"version"`
	} `json:"resume"`
}

// channel is one subscription; the writer's goroutine owns it.
type channel struct {
	since uint64          // version that the client has; 0: nothing yet
	known bool            // machine channels: the client has been told that the machine is known
	told  bool            // something has been sent
	keep  map[string]bool // machine channels: the sensors that are sent; nil: all
	live  *look           // live channels: nil when there is nothing to see
}

type client struct {
	s    *Server
	who  *gate.Identity
	conn *websocket.Conn
	raw  net.Conn // under conn

	mu     sync.Mutex
	wanted []string // channels asked for last
	filter *filter
	resume uint64
	fault  string // to be told to the client
	fresh  bool   // wanted has not been taken over yet
	wake   chan struct{}

	view     *view
	channels map[string]*channel
	order    []string
	behind   uint64 // ticks coalesced since the last summary
	summed   uint64 // tick of the last summary sent
	taken    time.Time

	// The writer's: bytes sent since a pong was last asked for, and whether it has yet to come.
	ahead   int
	probing bool
	probe   chan struct{} // asks the pinger for one
	pong    chan struct{} // it has come: all that was sent before has been taken
}

// window is how many bytes are sent on before a pong must have come for those before. The kernel, and proxies, take megabytes for a client that reads nothing: it would
// get them all, minutes old. So at most twice this, and one set of changes, is under way.
const window = 256 << 10

func newClient(s *Server, who *gate.Identity, conn *websocket.Conn, raw net.Conn) *client {
	return &client{s: s, who: who, conn: conn, raw: raw, wake: make(chan struct{}, 1), probe: make(chan struct{}, 1), pong: make(chan struct{}, 1), channels: map[string]*channel{}}
}

// run serves the client until it leaves, its line is dead, or the server ends.
func (c *client) run(ctx context.Context, cancel context.CancelFunc) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { defer cancel(); c.read(ctx) })
	wg.Go(func() { defer cancel(); c.ping(ctx) })
	wg.Go(func() { // a client that takes nothing must not hold up the end
		select {
		case <-ctx.Done():
		case <-c.s.done:
			select {
			case <-ctx.Done():
			case <-time.After(goodbye):
				_ = c.raw.Close() // the library would wait longer for the closing handshake
			}
		}
	})
	c.view = c.s.look(viewOf(c.who, nil))
	err := c.write(ctx)
	c.s.leaveView(c.view)
	for _, ch := range c.channels {
		ch.live.stop()
	}
	if errors.Is(err, errOver) {
		cut := time.AfterFunc(goodbye, func() { _ = c.raw.Close() })
		_ = c.conn.Close(statusOver, "the session is over")
		cut.Stop()
		return
	}
	if err != nil {
		c.s.log.Debug("stream client left", zap.Error(err))
		_ = c.conn.CloseNow() // unblocks the reader
		return
	}
	_ = c.conn.Close(websocket.StatusGoingAway, "server is shutting down") // it may be gone already
}

// ping notices a line that is dead without having been closed, and tells the writer how far the client has read.
func (c *client) ping(ctx context.Context) {
	t := time.NewTicker(c.s.cfg.PingInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if c.roundTrip(ctx) != nil {
				return
			}
		case <-c.probe:
			if c.roundTrip(ctx) != nil {
				return
			}
			c.pong <- struct{}{} // there is room: the writer asks for one at a time
		}
	}
}

func (c *client) roundTrip(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.s.cfg.WriteTimeout)
	defer cancel()
	return c.conn.Ping(ctx)
}

// read takes requests in; the latest subscribe wins, so a client cannot make work faster than the ticks.
func (c *client) read(ctx context.Context) {
	for faults := 0; ; {
		typ, data, err := c.conn.Read(ctx)
		if err != nil {
			return
		}
		req, resume, fault := c.parse(typ, data)
		if fault != "" {
			c.s.faults.Inc()
			if faults++; faults > maxFaults {
				cut := time.AfterFunc(goodbye, func() { _ = c.raw.Close() })
				_ = c.conn.Close(websocket.StatusPolicyViolation, "too many bad requests")
				cut.Stop()
				return
			}
		}
		c.mu.Lock()
		if fault != "" {
			c.fault = fault
		} else {
			c.wanted, c.filter, c.resume, c.fresh = req.Channels, req.Filter, resume, true
		}
		c.mu.Unlock()
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (c *client) parse(typ websocket.MessageType, data []byte) (r request, resume uint64, fault string) {
	if typ != websocket.MessageText {
		return r, 0, "a request is a JSON text message"
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, 0, "not a JSON request"
	}
	if r.Type != "subscribe" {
		return r, 0, fmt.Sprintf("unknown type %.40q; known: subscribe", r.Type)
	}
	if len(r.Channels) > maxChannels {
		return r, 0, fmt.Sprintf("%d channels, at most %d", len(r.Channels), maxChannels)
	}
	for _, ch := range r.Channels {
		id, isMachine := strings.CutPrefix(ch, machineTag)
		if !isMachine {
			id, isMachine = strings.CutPrefix(ch, liveTag)
		}
		if len(ch) > maxChannel || (ch != "fleet" && ch != "alerts" && (!isMachine || id == "")) {
			return r, 0, fmt.Sprintf("unknown channel %.80q; known: fleet, alerts, machine:<id>, live:<id>", ch)
		}
	}
	if r.Resume != nil && r.Resume.Instance == c.s.instance {
		resume = r.Resume.Version
	}
	return r, resume, ""
}

// write sends at each tick what is new; it returns nil when the server ends, else why the client is lost.
func (c *client) write(ctx context.Context) error {
	if err := c.send(ctx, c.s.hello()); err != nil {
		return err
	}
	t := c.s.current()
	served, held := t.number, false
	for {
		select {
		case <-c.s.done:
			return nil
		case <-c.who.Ends:
			return errOver
		case <-ctx.Done():
			return ctx.Err()
		case <-t.next:
			t = c.s.current()
		case <-c.wake:
			if time.Since(c.taken) < c.s.cfg.Interval {
				continue // the next tick sees to it: requests make no work faster than ticks
			}
		case <-c.pong:
			c.probing = false
			if !held {
				continue
			}
			t = c.s.current()
		}
		if held = c.probing && c.ahead >= window; held {
			continue
		}
		if t.number > served+1 {
			c.behind += t.number - served - 1
			c.s.coalesced.Add(int(t.number - served - 1))
		}
		served = t.number
		if err := c.takeOver(ctx); err != nil {
			return err
		}
		n := c.s.newsOf(c.view)
		for _, name := range c.order {
			for _, m := range c.news(name, c.channels[name], &n) {
				if err := c.send(ctx, m); err != nil {
					return err
				}
			}
		}
		if n.summaryTick > c.summed {
			c.summed = n.summaryTick
			m := append([]byte(`{"type":"summary",`), n.summary...)
			m = append(m, `,"coalesced_ticks":`...)
			m = append(strconv.AppendUint(m, c.behind, 10), '}')
			c.behind = 0
			if err := c.send(ctx, m); err != nil {
				return err
			}
		}
		if c.ahead >= window && !c.probing {
			c.probing, c.ahead = true, 0
			c.probe <- struct{}{} // there is room: one is asked for at a time
		}
	}
}

// takeOver makes the channels what the client asked for last; a channel that stays keeps its place.
func (c *client) takeOver(ctx context.Context) error {
	c.mu.Lock()
	wanted, asked, resume, fresh, fault := c.wanted, c.filter, c.resume, c.fresh, c.fault
	c.fresh, c.fault = false, ""
	c.mu.Unlock()
	if fault != "" {
		if err := c.send(ctx, append(wire.AppendString([]byte(`{"type":"error","detail":`), fault), '}')); err != nil {
			return err
		}
	}
	if !fresh {
		return nil
	}
	c.taken = time.Now()
	old := c.channels
	if key, scope := viewOf(c.who, asked); key != c.view.key {
		// Another part of the fleet: what was told of the one before says nothing. A resume was asked for together with the filter, so it holds.
		c.s.leaveView(c.view)
		c.view, c.summed = c.s.look(key, scope), 0
		delete(old, "fleet")
		delete(old, "alerts")
	}
	c.channels, c.order = make(map[string]*channel, len(wanted)), c.order[:0]
	for _, name := range wanted {
		if c.channels[name] != nil {
			continue
		}
		ch := old[name]
		if ch == nil {
			ch = c.begin(name, resume)
		}
		delete(old, name)
		c.channels[name] = ch
		c.order = append(c.order, name)
	}
	for _, ch := range old {
		ch.live.stop()
	}
	return nil
}

func (c *client) begin(name string, resume uint64) *channel {
	if id, ok := strings.CutPrefix(name, liveTag); ok {
		return &channel{live: c.lookAt(id)}
	}
	return &channel{since: resume, told: resume > 0, known: resume > 0}
}

// news is what the channel has not been told yet.
func (c *client) news(name string, ch *channel, t *news) [][]byte {
	// What is shared goes from t.from to t.to; for a channel that has some of it already the rest is right and the
	// overlap harmless, since everything sent is the latest state.
	shared := t.from > 0 && t.from <= ch.since && ch.since < t.to
	switch {
	case name == "fleet":
		if shared {
			ch.since = t.to
			return t.fleet
		}
		if ch.since == 0 {
			c.s.resets.Inc()
			snap := c.s.snapshot(c.view)
			ch.since, ch.told = snap.version, true
			return snap.messages
		}
		d := c.s.hub.FleetSince(ch.since, c.view.scope)
		d.Reset = d.Reset || !ch.told
		if d.Reset {
			c.s.resets.Inc()
		}
		ch.since, ch.told = d.Version, true
		return fleetMessages(&d)
	case name == "alerts":
		if shared {
			ch.since = t.to
			return t.alerts
		}
		since := ch.since
		if since > c.s.hub.Version() {
			since, ch.told = 0, false
		}
		reset := !ch.told
		alerts, version := c.s.hub.AlertsSince(since, c.view.scope)
		ch.since, ch.told = version, true
		return alertMessages(alerts, version, reset)
	}
	if id, ok := strings.CutPrefix(name, liveTag); ok {
		return c.liveNews(id, ch)
	}
	return c.machineNews(strings.TrimPrefix(name, machineTag), ch)
}

func (c *client) machineNews(id string, ch *channel) [][]byte {
	since := ch.since
	d := c.machineSince(id, since)
	switch {
	case since > d.Version, d.Known && !ch.known:
		if since > 0 { // it has come (back): from the start
			since = 0
			d = c.machineSince(id, 0)
			ch.told = false
		}
	case !d.Known && ch.told && !ch.known:
		ch.since = d.Version
		return nil
	}
	reset := !ch.told
	if ch.told && d.Known && !d.Changed(since) {
		ch.since = d.Version
		return nil
	}
	if ch.keep == nil && len(d.Windows) > 0 {
		ch.keep = hub.TopSensors(d.Windows[len(d.Windows)-1], maxSensors)
	}
	ch.since, ch.told, ch.known = d.Version, true, d.Known
	return machineMessages(id, &d, reset, ch.keep)
}

// machineSince is the hub's, but machines that the client may not see are not known.
func (c *client) machineSince(id string, since uint64) hub.MachineDelta {
	if see := c.who.Sees(); see != nil && !see(id) {
		return hub.MachineDelta{Version: c.s.hub.Version()}
	}
	return c.s.hub.MachineSince(id, since)
}

func (c *client) send(ctx context.Context, m []byte) error {
	w, cancel := context.WithTimeout(ctx, c.s.cfg.WriteTimeout)
	defer cancel()
	if err := c.conn.Write(w, websocket.MessageText, m); err != nil {
		return err
	}
	c.s.sent.Inc()
	c.s.bytes.Add(len(m))
	c.ahead += len(m)
	return nil
}
