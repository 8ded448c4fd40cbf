// Package egress is how receivers reach what the configuration, or whoever may change it, names: an address that is looked up, checked and then dialled as it was
// checked, so that neither a name that resolves to the inside, nor one that resolves differently a moment later, nor a redirect leads a message (or a request forged by
// one) to the machine itself, to its neighbours, or to a cloud's metadata service.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Policy says what may be reached beside public addresses. The zero value: nothing.
type Policy struct {
	// Prefixes are addresses allowed though they are not public.
	Prefixes []netip.Prefix
	// Hosts are names ("hooks.internal", "*.example.com") or name:port whose addresses are allowed though they are not public. Not link-local and
	// metadata addresses: those only by Prefixes.
	Hosts []string
}

// ErrForbidden: the address may not be reached. It will not be allowed the next time either.
var ErrForbidden = errors.New("address not allowed")

// ParsePolicy reads an allow list: addresses, CIDRs, host names, *.domains, host:port. The first entry that is none of these is named.
func ParsePolicy(allow []string) (Policy, error) {
	var p Policy
	for _, s := range allow {
		if prefix, err := netip.ParsePrefix(s); err == nil {
			p.Prefixes = append(p.Prefixes, prefix.Masked())
			continue
		}
		if addr, err := netip.ParseAddr(s); err == nil {
			p.Prefixes = append(p.Prefixes, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		host := s
		if h, port, err := net.SplitHostPort(s); err == nil {
			host = h
			if _, err := strconv.ParseUint(port, 10, 16); err != nil {
				host = ""
			}
		}
		if !hostName(strings.TrimPrefix(host, "*.")) {
			return Policy{}, fmt.Errorf("%q is not an address, a CIDR, a host name or host:port", s)
		}
		p.Hosts = append(p.Hosts, strings.ToLower(s))
	}
	return p, nil
}

// Anywhere allows everything: for a network that is made up.
func Anywhere() Policy {
	return Policy{Prefixes: prefixes("0.0.0.0/0", "::/0")}
}

func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// Networks that are not of the public Internet, or are another way to write addresses that are not (IANA's special-purpose registries).
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"::/128", "::1/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10",
	"ff00::/8",
)

// Addresses that answer to whoever asks from this machine: no host name may lead there.
var local = prefixes("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32")

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Check tells whether an address that a host's name resolved to may be reached: nil, or ErrForbidden.
func (p Policy) Check(host, port string, a netip.Addr) error {
	if a.Is4In6() {
		a = a.Unmap()
	}
	a = a.WithZone("")
	switch {
	case within(p.Prefixes, a):
		return nil
	case within(local, a):
		return fmt.Errorf("%w: %s is link-local or a metadata service", ErrForbidden, a)
	case !a.IsValid() || within(special, a):
		if p.named(strings.ToLower(strings.TrimSuffix(host, ".")), port) {
			return nil
		}
		return fmt.Errorf("%w: %s is not public", ErrForbidden, a)
	}
	return nil
}

func (p Policy) named(host, port string) bool {
	return slices.ContainsFunc(p.Hosts, func(h string) bool {
		if name, only, err := net.SplitHostPort(h); err == nil {
			if only != port {
				return false
			}
			h = name
		}
		if domain, ok := strings.CutPrefix(h, "*"); ok {
			return strings.HasSuffix(host, domain) && len(host) > len(domain)
		}
		return host == h
	})
}

// Resolver looks names up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Dialer connects to what its Policy allows. Safe for concurrent use.
type Dialer struct {
	Policy Policy
	// Resolver; nil: the operating system's.
	Resolver Resolver
	// Dial reaches an address that has been checked; nil: the operating system's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Unchecked hands Dial what was asked for, names and all: for a network that is made up.
	Unchecked bool
}

// maxAddresses of one name that are tried.
const maxAddresses = 4

// DialContext looks the host up once, refuses if any of its addresses is forbidden (a name with a public and a private address is an attack, or a mistake that
// would work sometimes), and dials the addresses that it has checked.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if d.Unchecked && d.Dial != nil {
		return d.Dial(ctx, network, address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %q: %w", address, err)
	}
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if err := d.Policy.Check(host, port, a); err != nil {
			return nil, fmt.Errorf("dial %q: %w", address, err)
		}
	}
	dial := d.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	var failed error
	for _, a := range addrs[:min(len(addrs), maxAddresses)] {
		conn, err := dial(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		failed = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

func (d *Dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	r := d.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	// IPv4 first: of the two it is the one that every receiver's network has.
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return addrs, nil
}
