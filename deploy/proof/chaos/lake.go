package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// lakeProxy stands before the S3 server and does to requests what stores do on bad days.
type lakeProxy struct {
	ln     net.Listener
	server *http.Server
	done   chan struct{}

	mu    sync.Mutex
	fault lakeFault
	hits  map[string]int // requests that a fault met, by its name
}

// lakeFault answers a request instead of the store; next asks the store. nil: the store answers.
type lakeFault struct {
	name   string
	method string // "": every one
	answer func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

// lakeFaults by name.
func lakeFaults() []lakeFault {
	return []lakeFault{
		{"5xx", "", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			s3Error(w, http.StatusServiceUnavailable, "SlowDown")
		}},
		{"timeout", "", func(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() }},
		{"response lost", http.MethodPut, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(&deaf{header: http.Header{}}, r) // the store has done it
			hangUp(w)
		}},
		{"409", http.MethodPut, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			s3Error(w, http.StatusConflict, "ConditionalRequestConflict")
		}},
		// The store stores it and says that it was there: what a client sees whose first try was cut off and tried again below it.
		{"412", http.MethodPut, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(&deaf{header: http.Header{}}, r)
			s3Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
		}},
		{"outage", "", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { hangUp(w) }},
	}
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>injected</Message></Error>`, code)
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_ = conn.Close()
}

// deaf takes an answer that nobody shall see.
type deaf struct{ header http.Header }

func (d *deaf) Header() http.Header         { return d.header }
func (d *deaf) Write(b []byte) (int, error) { return len(b), nil }
func (d *deaf) WriteHeader(int)             {}

func startLakeProxy(ctx context.Context, upstream string) (*lakeProxy, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("link of the lake: %w", err)
	}
	target := &url.URL{Scheme: "http", Host: upstream}
	pass := &httputil.ReverseProxy{
		// The host that the client signed stays.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport:    &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 5 * time.Second},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	p := &lakeProxy{ln: ln, done: make(chan struct{}), hits: map[string]int{}}
	p.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Read whole, so that a fault does not depend on how far the sender had come.
		body, err := io.ReadAll(io.LimitReader(r.Body, 256<<20))
		if err != nil {
			hangUp(w)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if f := p.meets(r.Method); f.answer != nil {
			f.answer(w, r, pass)
			return
		}
		pass.ServeHTTP(w, r)
	})}
	go func() {
		defer close(p.done)
		_ = p.server.Serve(ln) // ErrServerClosed
	}()
	return p, nil
}

func (p *lakeProxy) addr() string { return p.ln.Addr().String() }

// meets is the fault that a request meets, if any.
func (p *lakeProxy) meets(method string) lakeFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault.answer == nil || p.fault.method != "" && p.fault.method != method {
		return lakeFault{}
	}
	p.hits[p.fault.name]++
	return p.fault
}

func (p *lakeProxy) set(f lakeFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

func (p *lakeProxy) met(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits[name]
}

func (p *lakeProxy) close() error {
	err := p.server.Close()
	<-p.done
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
