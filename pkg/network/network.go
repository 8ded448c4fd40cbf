// Package network is how a service is reached and reaches others, so that a simulation can give it another network than the
// operating system's.
package network

import (
	"context"
	"net"
	"time"
)

// Network opens listeners and connections. Safe for concurrent use.
type Network interface {
	// Listen is net.Listen.
	Listen(network, address string) (net.Listener, error)
	// DialContext is (*net.Dialer).DialContext.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// OS is the operating system's network.
type OS struct{}

// Listen is net.Listen.
func (OS) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

// DialContext is (*net.Dialer).DialContext, given up after 30 s.
func (OS) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, network, address)
}
