package memnet

import (
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// link is one connection.
type link struct {
	net            *Network
	client, server *conn
	up, down       *pipe

	mu    sync.Mutex
	asked []asked // requests whose responses have not come, in order
}

type asked struct {
	key, version int16
	note         int
}

func (l *link) fail(err error) {
	l.up.fail(err)
	l.down.fail(err)
	l.client.forget()
}

// conn is one end of a link.
type conn struct {
	link          *link
	node, peer    *Node
	in, out       *pipe
	local, remote *net.TCPAddr
	once          sync.Once
}

func (c *conn) Read(b []byte) (int, error) { return c.in.read(b) }

func (c *conn) Write(b []byte) (int, error) {
	if c.node.gone() {
		return 0, ErrDead
	}
	n := len(b)
	tap := c.link.net.tap
	switch {
	case tap == nil:
	case c.peer.kafka:
		if !c.request(tap, b) {
			c.link.fail(errReset)
			return n, nil
		}
	case c.node.kafka:
		if b = c.response(tap, b); b == nil {
			c.link.fail(errReset)
			return n, nil
		}
	}
	if c.node.gone() { // the tap may have killed it
		return 0, ErrDead
	}
	_, err := c.out.write(b, c.link.net.fault(c.node.name, c.peer.name).Delay)
	if err != nil {
		return 0, err
	}
	return n, nil
}

// request notes a request and shows it to the tap. Client and embedded broker write a whole message at a time.
func (c *conn) request(tap Tap, b []byte) bool {
	if len(b) < 12 || int(binary.BigEndian.Uint32(b)) != len(b)-4 {
		panic("memnet: a Kafka request that is not written at once")
	}
	a := asked{key: int16(binary.BigEndian.Uint16(b[4:])), version: int16(binary.BigEndian.Uint16(b[6:]))}
	var ok bool
	a.note, ok = tap.Request(c.node.name, c.peer.name, a.key, a.version, b)
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	c.link.asked = append(c.link.asked, a)
	return ok
}

func (c *conn) response(tap Tap, b []byte) []byte {
	c.link.mu.Lock()
	if len(c.link.asked) == 0 {
		c.link.mu.Unlock()
		panic("memnet: a Kafka response that nobody asked for")
	}
	a := c.link.asked[0]
	c.link.asked = c.link.asked[1:]
	c.link.mu.Unlock()
	return tap.Response(c.peer.name, c.node.name, a.key, a.version, a.note, b)
}

func (c *conn) forget() {
	n := c.link.net
	n.mu.Lock()
	delete(n.conns, c.link)
	n.mu.Unlock()
}

func (c *conn) Close() error {
	c.once.Do(func() {
		c.out.end()
		c.in.gone()
		// The other end may still have to read: the link is forgotten when both are closed.
		other := c.link.client
		if other == c {
			other = c.link.server
		}
		if other.closed() {
			c.forget()
		}
	})
	return nil
}

func (c *conn) closed() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.readGone
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.reading, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writing, t)
	return nil
}
