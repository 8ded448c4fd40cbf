package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// window is how many bytes a direction holds before its writer waits, as a TCP window would.
const window = 8 << 20

// pipe is one direction of a connection: what was written, each piece with the time at which it arrives.
// All waiting is on a sync.Cond, which testing/synctest takes for durably blocked.
type pipe struct {
	mu       sync.Mutex
	cond     sync.Cond
	pieces   []piece
	held     int  // bytes in pieces
	ended    bool // the writer has closed: io.EOF behind the pieces
	broken   error
	stopped  bool // a black hole: nothing arrives
	timer    *time.Timer
	reading  deadline
	writing  deadline
	readGone bool // the reader has closed
}

type piece struct {
	at    time.Time // arrives then
	bytes []byte
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newPipe() *pipe {
	p := &pipe{}
	p.cond.L = &p.mu
	return p
}

// wakeAt makes whoever waits look again at that time. The lock is held.
func (p *pipe) wakeAt(timer **time.Timer, at time.Time) {
	d := max(time.Until(at), 0)
	if *timer == nil {
		*timer = time.AfterFunc(d, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.cond.Broadcast()
		})
		return
	}
	(*timer).Reset(d)
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (p *pipe) setDeadline(d *deadline, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.at = at
	if d.timer != nil {
		d.timer.Stop()
	}
	p.cond.Broadcast() // whoever waits arms the timer itself
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case p.readGone:
			return 0, net.ErrClosed
		case p.reading.passed():
			return 0, os.ErrDeadlineExceeded
		case p.broken != nil:
			return 0, p.broken
		case len(b) == 0:
			return 0, nil
		}
		if !p.stopped {
			if len(p.pieces) > 0 && !p.pieces[0].at.After(now) {
				n := 0
				for n < len(b) && len(p.pieces) > 0 && !p.pieces[0].at.After(now) {
					first := &p.pieces[0]
					k := copy(b[n:], first.bytes)
					first.bytes = first.bytes[k:]
					n += k
					if len(first.bytes) == 0 {
						p.pieces[0].bytes = nil
						p.pieces = p.pieces[1:]
					}
				}
				p.held -= n
				p.cond.Broadcast()
				return n, nil
			}
			if len(p.pieces) > 0 {
				p.wakeAt(&p.timer, p.pieces[0].at)
			} else if p.ended {
				return 0, io.EOF
			}
		}
		if !p.reading.at.IsZero() {
			p.wakeAt(&p.reading.timer, p.reading.at)
		}
		p.cond.Wait()
	}
}

func (p *pipe) write(b []byte, delay time.Duration) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.ended:
			return 0, net.ErrClosed
		case p.writing.passed():
			return 0, os.ErrDeadlineExceeded
		case p.broken != nil:
			return 0, p.broken
		case p.readGone:
			return 0, errReset
		}
		if p.held == 0 || p.held+len(b) <= window {
			break
		}
		if !p.writing.at.IsZero() {
			p.wakeAt(&p.writing.timer, p.writing.at)
		}
		p.cond.Wait()
	}
	at := time.Now().Add(delay)
	if n := len(p.pieces); n > 0 && p.pieces[n-1].at.After(at) {
		at = p.pieces[n-1].at // bytes do not overtake each other
	}
	p.pieces = append(p.pieces, piece{at: at, bytes: append([]byte(nil), b...)})
	p.held += len(b)
	p.cond.Broadcast()
	return len(b), nil
}

// end is the writer's close: what was written still arrives.
func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.quiet()
	p.cond.Broadcast()
}

// gone is the reader's close.
func (p *pipe) gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readGone = true
	p.pieces, p.held = nil, 0
	p.quiet()
	p.cond.Broadcast()
}

// fail breaks the direction: what has not been read is lost.
func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		p.broken = err
	}
	p.pieces, p.held = nil, 0
	p.quiet()
	p.cond.Broadcast()
}

// stop lets nothing arrive until it is called with false: bytes and ends wait, as TCP would send them again.
func (p *pipe) stop(stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = stopped
	p.cond.Broadcast()
}

// quiet stops the timers, so that none outlives the connection. Whoever still waits arms its own again.
func (p *pipe) quiet() {
	for _, t := range []*time.Timer{p.timer, p.reading.timer, p.writing.timer} {
		if t != nil {
			t.Stop()
		}
	}
}
