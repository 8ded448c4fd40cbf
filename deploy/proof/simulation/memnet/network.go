// Package memnet is a network in memory for testing/synctest: buffered connections whose waiting is durably blocking, between
// named nodes, with faults on the links between them and on single Kafka requests.
//
// Faults of a link: cut (connections break, new ones are refused), black hole in one direction (bytes stay under way and arrive when it is
// healed, as TCP sends them again), delay. A node can be killed: its connections end, and nothing that it does afterwards is seen.
// A tap sees every request and response of connections to a Kafka broker and may lose a response.
package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/pkg/network"
)

var (
	errReset   = &net.OpError{Op: "read", Net: "mem", Err: syscall.ECONNRESET}
	errRefused = &net.OpError{Op: "dial", Net: "mem", Err: syscall.ECONNREFUSED}
)

// ErrDead is what a killed node gets from everything it tries.
var ErrDead = errors.New("memnet: the node is dead")

// Network joins nodes. Safe for concurrent use.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	conns     map[*link]struct{}
	rules     map[[2]string]Fault
	tap       Tap
	nextPort  int
}

// Fault of one direction of the link between two nodes.
type Fault struct {
	Cut   bool          // connections break, new ones are refused
	Hole  bool          // nothing arrives until it is healed
	Delay time.Duration // added to each write
}

// Tap looks at what a connection to a Kafka broker carries. Calls come from the goroutines that write.
type Tap interface {
	// Request is called before a request of that API key reaches the broker's node; false loses it and breaks the connection. The note is
	// given to Response with its answer.
	Request(client, broker string, key, version int16, message []byte) (note int, ok bool)
	// Response is called before a response reaches the client: what it returns is sent in its place; nil loses it and breaks the connection.
	Response(client, broker string, key, version int16, note int, message []byte) []byte
}

// New is an empty network. tap may be nil.
func New(tap Tap) *Network {
	return &Network{listeners: map[string]*listener{}, conns: map[*link]struct{}{}, rules: map[[2]string]Fault{}, tap: tap, nextPort: 20_000}
}

// Node is one incarnation of a node: after Kill, a new one of the same name is made for its successor.
func (n *Network) Node(name string) *Node { return &Node{net: n, name: name} }

// Set puts a fault on what from sends to to; the zero Fault heals. It holds for connections that stand and for new ones.
func (n *Network) Set(from, to string, f Fault) {
	n.mu.Lock()
	n.rules[[2]string{from, to}] = f
	var cut []*link
	for l := range n.conns {
		switch {
		case l.client.node.name == from && l.server.node.name == to:
			l.up.stop(f.Hole)
		case l.client.node.name == to && l.server.node.name == from:
			l.down.stop(f.Hole)
		default:
			continue
		}
		if f.Cut {
			cut = append(cut, l)
		}
	}
	n.mu.Unlock()
	for _, l := range cut {
		l.fail(errReset)
	}
}

// Both is Set in both directions.
func (n *Network) Both(a, b string, f Fault) {
	n.Set(a, b, f)
	n.Set(b, a, f)
}

// Heal ends the faults of all links.
func (n *Network) Heal() {
	n.mu.Lock()
	var pairs [][2]string
	for p := range n.rules {
		pairs = append(pairs, p)
	}
	n.mu.Unlock()
	for _, p := range pairs {
		n.Set(p[0], p[1], Fault{})
	}
}

// Reset breaks the connections that stand between two nodes.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	var list []*link
	for l := range n.conns {
		if c, s := l.client.node.name, l.server.node.name; c == a && s == b || c == b && s == a {
			list = append(list, l)
		}
	}
	n.mu.Unlock()
	for _, l := range list {
		l.fail(errReset)
	}
}

func (n *Network) fault(from, to string) Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rules[[2]string{from, to}]
}

// Node is how one incarnation of a node reaches the network. Safe for concurrent use.
type Node struct {
	net  *Network
	name string
	mu   sync.Mutex
	dead bool
	// kafka: connections to this node's listeners speak Kafka.
	kafka bool
}

var _ network.Network = (*Node)(nil)

// Name of the node.
func (d *Node) Name() string { return d.name }

// Broker marks the node as a Kafka broker, so that the tap sees its connections.
func (d *Node) Broker() *Node {
	d.kafka = true
	return d
}

func (d *Node) gone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// Kill ends the node's connections and listeners. What it wrote before still arrives; nothing that it does from now on does.
func (d *Node) Kill() {
	d.mu.Lock()
	d.dead = true
	d.mu.Unlock()
	d.Close()
}

// Close ends the connections and listeners that stand.
func (d *Node) Close() {
	n := d.net
	n.mu.Lock()
	var links []*link
	for l := range n.conns {
		if l.client.node == d || l.server.node == d {
			links = append(links, l)
		}
	}
	var ls []*listener
	for _, l := range n.listeners {
		if l.node == d {
			ls = append(ls, l)
		}
	}
	n.mu.Unlock()
	for _, l := range ls {
		_ = l.Close()
	}
	for _, l := range links {
		mine, out, in := l.client, l.up, l.down
		if l.server.node == d {
			mine, out, in = l.server, l.down, l.up
		}
		out.end()         // the peer reads what is there, then the end
		in.fail(errReset) // the dead one reads nothing more, and its peer's writes fail
		mine.forget()
	}
}

// Revive lets a killed node reach others again, when what it does no longer matters and it only has to come to its end.
func (d *Node) Revive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = false
}

// Listen implements network.Network. Port 0 takes a free one.
func (d *Node) Listen(_, address string) (net.Listener, error) {
	if d.gone() {
		return nil, ErrDead
	}
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	n := d.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if addr.Port == 0 {
		n.nextPort++
		addr.Port = n.nextPort
	}
	if _, taken := n.listeners[addr.String()]; taken {
		return nil, fmt.Errorf("listen %s: %w", addr, syscall.EADDRINUSE)
	}
	l := &listener{node: d, addr: addr, queue: make(chan *conn, 128), closed: make(chan struct{})}
	n.listeners[addr.String()] = l
	return l, nil
}

// DialContext implements network.Network. Through a black hole it waits as long as ctx does, at most half a minute.
func (d *Node) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	n := d.net
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if d.gone() {
			pause(ctx, refusal)
			return nil, ErrDead
		}
		n.mu.Lock()
		l := n.listeners[address]
		if l == nil {
			n.mu.Unlock()
			pause(ctx, refusal)
			return nil, errRefused
		}
		there, back := n.rules[[2]string{d.name, l.node.name}], n.rules[[2]string{l.node.name, d.name}]
		if there.Cut || back.Cut {
			n.mu.Unlock()
			pause(ctx, refusal)
			return nil, errRefused
		}
		if !there.Hole && !back.Hole {
			c := n.connect(d, l)
			n.mu.Unlock()
			select {
			case l.queue <- c.server:
				return c.client, nil
			case <-l.closed:
				c.fail(errReset)
				return nil, errRefused
			case <-ctx.Done():
				c.fail(errReset)
				return nil, ctx.Err()
			}
		}
		n.mu.Unlock()
		pause(ctx, time.Second) // SYNs get lost; the next is sent in a second
		if ctx.Err() != nil {
			return nil, &net.OpError{Op: "dial", Net: "mem", Err: ctx.Err()}
		}
	}
}

// refusal is how long a connection takes to be refused. It must take time: a client that tries again at once, for ever, as franz-go's does while it has no
// producer id and records to write, would otherwise hold the clock of the whole world.
const refusal = 5 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// connect makes a connection. The network's lock is held.
func (n *Network) connect(from *Node, l *listener) *link {
	c := &link{net: n, up: newPipe(), down: newPipe()}
	n.nextPort++
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: n.nextPort}
	c.client = &conn{link: c, node: from, peer: l.node, in: c.down, out: c.up, local: local, remote: l.addr}
	c.server = &conn{link: c, node: l.node, peer: from, in: c.up, out: c.down, local: l.addr, remote: local}
	n.conns[c] = struct{}{}
	return c
}

type listener struct {
	node   *Node
	addr   *net.TCPAddr
	queue  chan *conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		n := l.node.net
		n.mu.Lock()
		delete(n.listeners, l.addr.String())
		n.mu.Unlock()
		close(l.closed)
		for {
			select {
			case c := <-l.queue: // nobody will ever read it
				c.link.fail(errReset)
				continue
			default:
			}
			return
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }
