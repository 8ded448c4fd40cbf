package stack

import (
	"fmt"
	"slices"
	"strings"
)

// Link is a way from a service to a server that somebody else (a proxy that can cut it) has to provide: what listens at Listen must pass
// everything on to Upstream.
type Link struct {
	Listen, Upstream string
}

// LinkToLake as the service in LinkTo means the way of all services to the S3 server.
const LinkToLake = "s3"

// LinkTo lists the links of a service of Options.Linked to the brokers, in the brokers' order, or the one of LinkToLake. nil: none.
//
// A Kafka client goes where the broker tells it to. So each broker has one listener more for each linked service, and there it advertises
// not itself but the link.
func (s *Stack) LinkTo(service string) []Link {
	if service == LinkToLake && s.opts.LinkedLake {
		return []Link{{Listen: s.Addr(lakeLinkPort), Upstream: s.Addr("s3")}}
	}
	if !slices.Contains(s.opts.Linked, service) {
		return nil
	}
	links := make([]Link, s.set.Brokers)
	for i := range links {
		listen, upstream := linkPorts(service, i+1)
		links[i] = Link{Listen: s.Addr(listen), Upstream: s.Addr(upstream)}
	}
	return links
}

const lakeLinkPort = "s3-link"

// linkPorts names the port of a service's link to a broker and the broker's port behind it.
func linkPorts(service string, node int) (listen, upstream string) {
	upstream = brokerName(node) + "-for-" + service
	return upstream + "-link", upstream
}

// lakeAddr is where services reach the S3 server.
func (s *Stack) lakeAddr() string {
	if s.opts.LinkedLake {
		return s.Addr(lakeLinkPort)
	}
	return s.Addr("s3")
}

// brokersFor is where a service reaches the brokers.
func (s *Stack) brokersFor(service string) []string {
	links := s.LinkTo(service)
	if links == nil {
		return s.Brokers()
	}
	addrs := make([]string, len(links))
	for i, l := range links {
		addrs[i] = l.Listen
	}
	return addrs
}

// listenerPorts are the ports that a broker binds for linked services.
func (s *Stack) listenerPorts(node int) []string {
	var ports []string
	for _, service := range s.opts.Linked {
		_, upstream := linkPorts(service, node)
		ports = append(ports, upstream)
	}
	return ports
}

// linkListeners are what a broker's three lists of listeners have more for linked services.
func (s *Stack) linkListeners(node int) (listeners, advertised, protocols string) {
	for _, service := range s.opts.Linked {
		name := strings.ToUpper(strings.ReplaceAll(service, "-", "_"))
		l := s.LinkTo(service)[node-1]
		listeners += fmt.Sprintf(",%s://%s", name, l.Upstream)
		advertised += fmt.Sprintf(",%s://%s", name, l.Listen)
		protocols += fmt.Sprintf(",%s:PLAINTEXT", name)
	}
	return listeners, advertised, protocols
}

// extraPorts names the ports that the options ask for beside the documented ones. They are free ones, kept for the life of the folder.
func (o Options) extraPorts(brokers int) []string {
	var names []string
	for _, service := range sharedServices() {
		for n := 2; n <= o.Replicas; n++ {
			names = append(names, replicaName(service, n))
		}
	}
	for _, service := range o.Linked {
		for node := 1; node <= brokers; node++ {
			listen, upstream := linkPorts(service, node)
			names = append(names, listen, upstream)
		}
	}
	if o.LinkedLake {
		names = append(names, lakeLinkPort)
	}
	return names
}
