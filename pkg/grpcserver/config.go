package grpcserver

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
)

// Config of a listener. Services put it into their configuration.
type Config struct {
	Listen           string         `mapstructure:"listen" doc:"Address to listen on, host:port. Port 0 takes a free one and logs it."`
	MaxConnections   int            `mapstructure:"max_connections" doc:"Most connections; further ones wait to be accepted."`
	MaxStreams       uint32         `mapstructure:"max_streams" doc:"Most streams and calls at once on one connection."`
	HandshakeTimeout time.Duration  `mapstructure:"handshake_timeout" doc:"A client that has not finished the handshake by then is cut off."`
	KeepaliveTime    time.Duration  `mapstructure:"keepalive_time" doc:"A connection silent for this long is pinged, and closed when no answer comes."`
	IdleTimeout      time.Duration  `mapstructure:"idle_timeout" doc:"A connection without a stream is closed after this."`
	DrainTimeout     time.Duration  `mapstructure:"drain_timeout" doc:"How long calls under way may take when the service stops."`
	TLS              httpserver.TLS `mapstructure:"tls" doc:"TLS 1.3 on this listener."`
}

// DefaultConfig listens on an address.
func DefaultConfig(listen string) Config {
	return Config{
		Listen: listen, MaxConnections: 2_000, MaxStreams: 64,
		HandshakeTimeout: 5 * time.Second, KeepaliveTime: 30 * time.Second, IdleTimeout: 15 * time.Minute, DrainTimeout: 5 * time.Second,
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: %q is not host:port: %w", c.Listen, err)
	}
	switch {
	case c.MaxConnections < 1:
		return errors.New("max_connections: must be 1 or more")
	case c.MaxStreams < 1:
		return errors.New("max_streams: must be 1 or more")
	case c.HandshakeTimeout <= 0:
		return errors.New("handshake_timeout: must be positive")
	case c.KeepaliveTime < time.Second:
		return errors.New("keepalive_time: must be 1s or more")
	case c.IdleTimeout <= 0:
		return errors.New("idle_timeout: must be positive")
	case c.DrainTimeout <= 0:
		return errors.New("drain_timeout: must be positive")
	}
	if err := c.TLS.Validate(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	return nil
}
