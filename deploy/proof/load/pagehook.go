package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// hookMode is how the webhook behaves.
type hookMode string

const (
	hookWorks   hookMode = "works"
	hookRefuses hookMode = "answers 503"
	hookClosed  hookMode = "refuses connections"
	hookHangs   hookMode = "never answers"
	hookCuts    hookMode = "reads, then cuts the connection"
)

// maxPage bounds what is read of one message.
const maxPage = 64 << 20

// call is one request to the webhook.
type call struct {
	at    time.Time // when it had arrived whole
	mode  hookMode  // how it was answered
	key   string    // Idempotency-Key
	group string
	pages []page
}

// page is what a message says of one alert.
type page struct {
	alert    string
	resolved bool
}

// hook is the webhook that routers call. What comes is parsed beside the exchange, so that the answer does not wait for that.
type hook struct {
	addr   string
	server *http.Server
	served sync.WaitGroup
	busy   sync.WaitGroup // handlers
	raw    chan rawCall
	parsed sync.WaitGroup

	mu    sync.Mutex
	mode  hookMode
	ln    net.Listener
	calls []call
	bytes int64
	first map[page]time.Time // taken and answered 200
	bad   error
}

type rawCall struct {
	call
	body []byte
}

func startHook() (*hook, error) {
	h := &hook{mode: hookWorks, raw: make(chan rawCall, 4096), first: map[page]time.Time{}}
	h.server = &http.Server{Handler: http.HandlerFunc(h.serve), ReadHeaderTimeout: 10 * time.Second}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h.addr = ln.Addr().String()
	h.listen(ln)
	h.parsed.Go(h.parse)
	return h, nil
}

func (h *hook) listen(ln net.Listener) {
	h.mu.Lock()
	h.ln = ln
	h.mu.Unlock()
	h.served.Go(func() { _ = h.server.Serve(ln) }) // ends with the listener
}

func (h *hook) url() string { return "http://" + h.addr + "/page" }

func (h *hook) serve(w http.ResponseWriter, r *http.Request) {
	h.busy.Add(1)
	defer h.busy.Done()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPage))
	now := time.Now()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	mode := h.mode
	h.mu.Unlock()
	h.raw <- rawCall{call{at: now, mode: mode, key: r.Header.Get("Idempotency-Key")}, body}
	switch mode {
	case hookWorks:
		w.WriteHeader(http.StatusOK)
	case hookHangs:
		<-r.Context().Done()
	case hookRefuses:
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	default:
		panic(http.ErrAbortHandler) // no answer, the connection is cut
	}
}

func (h *hook) parse() {
	for c := range h.raw {
		var m struct {
			GroupKey string `json:"groupKey"`
			Alerts   []struct {
				Status string `json:"status"`
				Labels struct {
					ID string `json:"alert_id"`
				} `json:"labels"`
			} `json:"alerts"`
		}
		err := json.Unmarshal(c.body, &m)
		c.group = m.GroupKey
		for _, a := range m.Alerts {
			if a.Labels.ID != "" { // else the router's own: that this receiver failed
				c.pages = append(c.pages, page{a.Labels.ID, a.Status == "resolved"})
			}
		}
		h.mu.Lock()
		if err != nil {
			h.bad = fmt.Errorf("a message that is not the webhook's payload: %w", err)
		}
		h.bytes += int64(len(c.body))
		if len(c.pages) > 0 {
			h.calls = append(h.calls, c.call)
		}
		if c.mode == hookWorks {
			for _, p := range c.pages {
				if _, known := h.first[p]; !known {
					h.first[p] = c.at
				}
			}
		}
		h.mu.Unlock()
	}
}

// set changes how the webhook behaves from now on. Connections that stand are closed when it is to refuse them, and when it is to work again.
func (h *hook) set(ctx context.Context, m hookMode) error {
	h.mu.Lock()
	was := h.mode
	h.mode = m
	ln := h.ln
	h.mu.Unlock()
	switch {
	case m == hookClosed && was != hookClosed:
		return ln.Close()
	case m != hookClosed && was == hookClosed:
		// The number may have been given to somebody's outgoing connection meanwhile; such a one ends.
		for {
			ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", h.addr)
			if err == nil {
				h.listen(ln)
				return nil
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// count is how many of the alerts have been told to begin, or to have ended.
func (h *hook) count(list []*episode, resolved bool) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range list {
		if _, ok := h.first[page{e.id, resolved}]; ok {
			n++
		}
	}
	return n, h.bad
}

// told is when somebody was told of it first.
func (h *hook) told(e *episode, resolved bool) (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.first[page{e.id, resolved}]
	return at, ok
}

func (h *hook) all() []call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// traffic is how many messages of alerts came, and how much of a body all messages had.
func (h *hook) traffic() (messages int, mb float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.calls), float64(h.bytes) / 1e6
}

func (h *hook) close() error {
	err := h.server.Close()
	h.served.Wait()
	h.busy.Wait()
	close(h.raw)
	h.parsed.Wait()
	return err
}
