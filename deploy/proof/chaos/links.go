package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
)

// links are the ways between services and brokers, through toxiproxy.
type links struct {
	mu      sync.Mutex
	proxies map[string][]*toxiproxy.Proxy // by service
}

func startLinks(ways map[string][]stack.Link) (*links, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	l := &links{proxies: map[string][]*toxiproxy.Proxy{}}
	for service, way := range ways {
		for i, link := range way {
			p := toxiproxy.NewProxy(server, fmt.Sprintf("%s-%d", service, i+1), link.Listen, link.Upstream)
			if err := p.Start(); err != nil {
				l.close()
				return nil, fmt.Errorf("link of %s: %w", service, err)
			}
			l.proxies[service] = append(l.proxies[service], p)
		}
	}
	return l, nil
}

func (l *links) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ps := range l.proxies {
		for _, p := range ps {
			p.Stop()
		}
	}
	l.proxies = nil
}

// toxic is a fault of a link, as toxiproxy names it.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Toxicity   float32        `json:"toxicity"`
	Attributes map[string]int `json:"attributes"`
}

// ill is what may befall a link.
type ill struct {
	name   string
	toxics []toxic
}

// ills are the ways in which links fail. A black hole takes bytes and never answers; the one-way kinds let the other direction pass.
func ills() []ill {
	hole := func(stream string) toxic {
		return toxic{Name: "hole-" + stream, Type: "timeout", Stream: stream, Toxicity: 1, Attributes: map[string]int{"timeout": 0}}
	}
	late := func(stream string) toxic {
		return toxic{Name: "late-" + stream, Type: "latency", Stream: stream, Toxicity: 1, Attributes: map[string]int{"latency": 400, "jitter": 200}} // ms
	}
	return []ill{
		{"black hole", []toxic{hole("upstream"), hole("downstream")}},
		{"reset", []toxic{{Name: "reset", Type: "reset_peer", Stream: "downstream", Toxicity: 1, Attributes: map[string]int{"timeout": 0}}}},
		{"slow", []toxic{late("upstream"), late("downstream")}},
		{"answers lost", []toxic{hole("downstream")}},
		{"requests lost", []toxic{hole("upstream")}},
		{"cut", nil}, // connections end and new ones are refused
	}
}

func namedIll(name string) ill {
	kinds := ills()
	return kinds[slices.IndexFunc(kinds, func(i ill) bool { return i.name == name })]
}

// poison makes a service's links ill.
func (l *links) poison(service string, what ill) error {
	for _, p := range l.of(service) {
		for _, t := range what.toxics {
			b, err := json.Marshal(t)
			if err != nil {
				return err
			}
			if _, err := p.Toxics.AddToxicJson(bytes.NewReader(b)); err != nil {
				return fmt.Errorf("link %s: %w", p.Name, err)
			}
		}
	}
	return nil
}

// cut ends all connections and refuses new ones, until heal.
func (l *links) cut(service string) {
	for _, p := range l.of(service) {
		p.Stop()
	}
}

// heal makes a service's links whole.
func (l *links) heal(ctx context.Context, service string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var errs []error
	for _, p := range l.of(service) {
		p.Toxics.ResetToxics(ctx)
		if !p.Enabled {
			errs = append(errs, p.Start())
		}
	}
	return errors.Join(errs...)
}

func (l *links) of(service string) []*toxiproxy.Proxy {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proxies[service]
}
