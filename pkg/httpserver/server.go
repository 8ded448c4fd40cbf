// Package httpserver is the HTTP side that every Tocsin service has: its handlers, health, metrics and
// configuration dump on one listener, with time-outs against slow clients and a graceful end.
package httpserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"github.com/tocsin-io/tocsin/pkg/service"
)

// Config of one HTTP listener.
type Config struct {
	Listen            string        `mapstructure:"listen" doc:"Address to listen on, host:port. Port 0 takes a free one and logs it."`
	ReadHeaderTimeout time.Duration `mapstructure:"read_header_timeout" doc:"A client that has not sent its headers by then is cut off."`
	IdleTimeout       time.Duration `mapstructure:"idle_timeout" doc:"A kept-alive connection without a request is closed after this."`
	DrainTimeout      time.Duration `mapstructure:"drain_timeout" doc:"How long requests under way may take when the service stops."`
	MaxConnections    int           `mapstructure:"max_connections" doc:"Most connections at once; further ones wait to be accepted. 0: no limit."`
	TLS               TLS           `mapstructure:"tls" doc:"TLS 1.3 on this listener."`
	Pprof             bool          `mapstructure:"pprof" doc:"Serve /debug/pprof/. Shows memory contents: leave off unless asked for."`
}

// DefaultConfig listens on addr.
func DefaultConfig(addr string) Config {
	return Config{
		Listen: addr, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, DrainTimeout: 5 * time.Second, MaxConnections: 4096,
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: %q is not host:port: %w", c.Listen, err)
	}
	if c.ReadHeaderTimeout <= 0 {
		return errors.New("read_header_timeout: must be positive")
	}
	if c.IdleTimeout <= 0 {
		return errors.New("idle_timeout: must be positive")
	}
	if c.DrainTimeout <= 0 {
		return errors.New("drain_timeout: must be positive")
	}
	if c.MaxConnections < 0 {
		return errors.New("max_connections: must not be negative")
	}
	if err := c.TLS.Validate(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	return nil
}

// Server serves one listener. States: listening (after New), serving (Run), draining, closed.
type Server struct {
	cfg      Config
	ln       net.Listener
	tls      *tls.Config // nil: plain HTTP
	mux      *http.ServeMux
	log      *zap.Logger
	draining atomic.Bool
	close    sync.Once
}

// New opens the listener at once, so that Addr is known and a port conflict is an error now.
// ready is asked by /health/ready: nil, or the reason why not. status is shown by /status/config.
func New(cfg Config, name string, ready func() error, status any, deps service.Deps) (*Server, error) {
	var secure *tls.Config
	if cfg.TLS.Enabled() {
		var err error
		if secure, err = cfg.TLS.ServerConfig(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	ln, err := deps.Net().Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if cfg.MaxConnections > 0 {
		ln = netutil.LimitListener(ln, cfg.MaxConnections)
	}
	if deps.Status != nil {
		status = deps.Status
	}
	s := &Server{cfg: cfg, ln: ln, tls: secure, mux: http.NewServeMux(), log: deps.Log}
	s.log.Info("listening", zap.String("addr", s.Addr()))
	s.mux.HandleFunc("GET /health/live", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "live", "service": name})
	})
	s.mux.HandleFunc("GET /health/ready", func(w http.ResponseWriter, _ *http.Request) {
		if s.draining.Load() {
			writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "service": name, "reason": "draining"})
			return
		}
		if err := ready(); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "service": name, "reason": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ready", "service": name})
	})
	s.mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		deps.Metrics.WritePrometheus(w)
		metrics.WriteProcessMetrics(w)
	})
	s.mux.HandleFunc("GET /status/config", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, Masked(status))
	})
	if cfg.Pprof {
		s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return s, nil
}

// Handle adds a handler; patterns are net/http's. Only before Run.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Addr is the address bound, with the real port when the configuration said 0.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Run serves until ctx is cancelled; then it reports not ready, lets requests finish for DrainTimeout, and
// cuts what is left.
func (s *Server) Run(ctx context.Context) error {
	hs := &http.Server{
		Handler:           s.mux,
		ReadHeaderTimeout: s.cfg.ReadHeaderTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		TLSConfig:         s.tls,
		ErrorLog:          zap.NewStdLog(s.log),
		// Handlers that stream (WebSocket) learn of the drain through their request's context.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() {
		if s.tls != nil {
			done <- hs.ServeTLS(s.ln, "", "") // the certificate is in TLSConfig
			return
		}
		done <- hs.Serve(s.ln)
	}()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	if err := hs.Shutdown(drain); err != nil {
		s.log.Warn("requests cut at the end of the drain", zap.Error(err))
		_ = hs.Close()
	}
	_ = <-done
	return nil
}

// Close releases the listener when Run was never called. Idempotent.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		if e := s.ln.Close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = e
		}
	})
	return err
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client is gone: nothing left to tell it
}
