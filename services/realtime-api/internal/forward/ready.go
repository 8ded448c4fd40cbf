package forward

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"
)

// Readiness is what a service says of itself.
type Readiness struct {
	Name   string
	Ready  bool
	Reason string // why not
	Took   time.Duration
}

const (
	maxReady  = 8 << 10
	maxReason = 300
)

// Ready asks all services that there are, at once, whether they are ready, in order of their names. It takes no longer than ctx.
func (f *Forwarder) Ready(ctx context.Context) []Readiness {
	var out []Readiness
	for _, s := range []Service{Router, History, Models, Tuning, Detection} {
		if f.bases[s] != "" {
			out = append(out, Readiness{Name: names[s]})
		}
	}
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() { f.ready(ctx, &out[i]) })
	}
	wg.Wait()
	return out
}

func (f *Forwarder) ready(ctx context.Context, out *Readiness) {
	var base string
	for s, name := range names {
		if name == out.Name {
			base = f.bases[s]
		}
	}
	began := time.Now()
	defer func() { out.Took = time.Since(began) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/health/ready", nil)
	if err != nil {
		out.Reason = "its address is wrong"
		return
	}
	resp, err := f.client.Do(req)
	if err != nil {
		out.Reason = "does not answer"
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusOK {
		out.Ready = true
		return
	}
	var said struct {
		Reason string `json:"reason"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReady))
	if err == nil {
		err = json.Unmarshal(b, &said)
	}
	if out.Reason = said.Reason; err != nil || said.Reason == "" {
		out.Reason = "answered " + resp.Status
	}
	if r := []rune(out.Reason); len(r) > maxReason {
		out.Reason = string(r[:maxReason])
	}
}
