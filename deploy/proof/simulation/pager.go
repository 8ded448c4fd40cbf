package simulation

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
	"github.com/tocsin-io/tocsin/deploy/proof/simulation/memnet"
)

const (
	pagerNode = "pager"
	pagerAddr = "127.0.0.1:9801"
)

// pager is the webhook that wakes people.
type pager struct {
	w    *World
	node *memnet.Node
	srv  *http.Server
	done chan struct{}

	mu      sync.Mutex
	status  int // answered instead of 200; 0: fine
	lose    int // so many notifications are taken and answered by nothing
	arrived []history.Notification
	ask     func() bool // nil, or whether to take a notification
	// What was asked of it, taken or not: the idempotency keys of each message, and the messages of each key.
	keysOf, ofKey map[string]map[string]bool
}

func newPager(w *World) *pager {
	p := &pager{w: w, node: w.net.Node(pagerNode), done: make(chan struct{}), keysOf: map[string]map[string]bool{}, ofKey: map[string]map[string]bool{}}
	p.srv = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute, ErrorLog: zap.NewStdLog(zap.NewNop())}
	ln, err := p.node.Listen("tcp", pagerAddr)
	if err != nil {
		panic(err) // the first listener of a new network
	}
	go func() {
		defer close(p.done)
		_ = p.srv.Serve(ln) // ends with close
	}()
	return p
}

func (p *pager) close() {
	_ = p.srv.Close()
	<-p.done
}

// answer sets the status that notifications get; 0 takes them.
func (p *pager) answer(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

// refuse answers 500 for a while.
func (p *pager) refuse(d time.Duration) {
	p.w.mute(d)
	p.answer(http.StatusInternalServerError)
	p.w.later(d, func() { p.answer(0) })
}

// loseAnswers takes the next n notifications and breaks the connection instead of answering.
func (p *pager) loseAnswers(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = n
}

// before has f decide about each notification: false refuses it with 503.
func (p *pager) before(f func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ask = f
}

func (p *pager) notifications() []history.Notification {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.arrived)
}

func put(m map[string]map[string]bool, key, value string) {
	if m[key] == nil {
		m[key] = map[string]bool{}
	}
	m[key][value] = true
}

// keys compares every message that was tried with every other: what says the same carries one key.
func (p *pager) keys() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for what, of := range p.keysOf {
		if len(of) > 1 {
			p.w.found(history.Duplicated, "notifications", fmt.Sprintf("the message %q came under %d idempotency keys", what, len(of)))
		}
	}
	for key, of := range p.ofKey {
		if len(of) > 1 {
			p.w.found(history.Wrong, "notifications", fmt.Sprintf("the idempotency key %q stands for %d messages", key, len(of)))
		}
	}
}

// ServeHTTP takes what Alertmanager's webhook integration posts.
func (p *pager) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	var m struct {
		Alerts []struct {
			Status, Fingerprint string
			Labels              map[string]string
		}
	}
	if err := json.Unmarshal(body, &m); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	var said []string
	for _, a := range m.Alerts {
		said = append(said, a.Status+" "+a.Fingerprint)
	}
	slices.Sort(said)
	what, key := strings.Join(said, ", "), r.Header.Get("Idempotency-Key")
	p.mu.Lock()
	put(p.keysOf, what, key)
	put(p.ofKey, key, what)
	ask := p.ask
	p.mu.Unlock()
	if ask != nil && !ask() {
		http.Error(rw, "simulated", http.StatusServiceUnavailable)
		return
	}
	p.mu.Lock()
	status := p.status
	lost := status == 0 && p.lose > 0
	if lost {
		p.lose--
	}
	for _, a := range m.Alerts {
		p.w.trace.add("pager", "%s %s by %s: answers %d, lost %v", a.Status, a.Labels["alert_id"], r.RemoteAddr, status, lost)
	}
	if status == 0 {
		for _, a := range m.Alerts {
			if a.Labels["alert_id"] == "" {
				continue // the router's own: that this receiver failed
			}
			p.arrived = append(p.arrived, history.Notification{AlertID: a.Labels["alert_id"], Resolved: a.Status == "resolved", At: time.Now()})
		}
	}
	p.mu.Unlock()
	switch {
	case status != 0:
		http.Error(rw, "simulated", status)
	case lost:
		panic(http.ErrAbortHandler)
	}
}
