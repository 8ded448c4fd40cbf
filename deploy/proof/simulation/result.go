package simulation

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
	"github.com/tocsin-io/tocsin/deploy/proof/simulation/memnet"
)

// Result is what one run gave.
type Result struct {
	Seed     uint64            `json:"seed"`
	Scenario string            `json:"scenario,omitempty"`
	Virtual  float64           `json:"virtual_seconds"`
	Wall     float64           `json:"wall_seconds"`
	Acked    int               `json:"frames_acked"`
	Faults   map[string]int    `json:"faults"` // injected, by kind
	Kills    map[string]int    `json:"kills"`  // by service
	Exits    map[string]int    `json:"exits"`  // Run's errors, by service and reason
	Counts   map[string]int    `json:"counts,omitempty"`
	Findings []history.Finding `json:"findings,omitempty"`
	Stall    *Stall            `json:"stall,omitempty"`
	// Recovery is how long, in virtual seconds, an incarnation took from its start until it was ready.
	Recovery map[string][]float64 `json:"recovery_virtual_seconds,omitempty"`
	Settled  float64              `json:"settled_after_virtual_seconds,omitempty"`
	// Broken says that the run itself went wrong: no verdict about the services.
	Broken string `json:"broken,omitempty"`
}

// Stall is a world that did not come to rest, and why as far as can be told.
type Stall struct {
	Error     string              `json:"error"`
	Diagnosis string              `json:"diagnosis"`
	Lags      []string            `json:"lags,omitempty"`
	Ready     map[string]string   `json:"ready"`
	Groups    map[string]string   `json:"groups,omitempty"`
	Logs      map[string][]string `json:"logs,omitempty"`
}

func newResult(seed uint64) *Result {
	return &Result{
		Seed: seed, Faults: map[string]int{}, Kills: map[string]int{}, Exits: map[string]int{}, Counts: map[string]int{}, Recovery: map[string][]float64{},
	}
}

// Failed tells whether a promise was broken or the run is no evidence.
func (r *Result) Failed() bool { return len(r.Findings) > 0 || r.Stall != nil || r.Broken != "" }

// String is the run in one line.
func (r *Result) String() string {
	name := fmt.Sprintf("seed %d", r.Seed)
	if r.Scenario != "" {
		name = r.Scenario + ", " + name
	}
	switch {
	case r.Broken != "":
		return name + ": broken: " + r.Broken
	case r.Stall != nil:
		return fmt.Sprintf("%s: stalled: %s: %s; findings: %d", name, r.Stall.Error, r.Stall.Diagnosis, len(r.Findings))
	case len(r.Findings) > 0:
		kinds := map[string]int{}
		for _, f := range r.Findings {
			kinds[f.Kind]++
		}
		return fmt.Sprintf("%s: %s", name, summary(kinds))
	}
	return fmt.Sprintf("%s: clean, %d frames, %d faults, %d kills in %.0f virtual seconds (%.1f s)", name, r.Acked, total(r.Faults), total(r.Kills), r.Virtual, r.Wall)
}

func total(m map[string]int) int {
	n := 0
	for _, v := range m {
		n += v
	}
	return n
}

func summary(m map[string]int) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprintf("%s %d", k, m[k])
	}
	return strings.Join(parts, ", ")
}

func (w *World) injected(kind string) {
	w.trace.add("FAULT", "%s", kind)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Faults[kind]++
}

func (w *World) counted(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Counts[what]++
}

func (w *World) acked() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Acked++
}

func (w *World) killed(p *process, node *memnet.Node) {
	w.trace.add("FAULT", "kill %s", p.name)
	if p.kind == "router" {
		w.mute(w.opts.Restart[1])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = append(w.dead, node)
	w.result.Kills[p.kind]++
	w.result.Faults["kill_"+p.kind]++
}

func (w *World) found(kind, where, detail string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Findings = append(w.result.Findings, history.Finding{Kind: kind, Where: where, Detail: detail})
}

// exited notes a Run that ended with an error: an orchestrator starts such a process again. Some of these ends are what a service must do; those
// that say that what it finds in Kafka and in the lake does not agree are broken promises here, where nobody has tampered with either.
func (w *World) exited(p *process, after time.Duration, err error) {
	why, never := reasonOf(err)
	w.trace.add(p.name, "EXIT %v", err)
	if p.kind == "router" {
		w.mute(w.opts.Restart[1])
	}
	w.mu.Lock()
	w.result.Exits[p.kind+": "+why]++
	w.mu.Unlock()
	if never {
		w.found("refused", p.name, fmt.Sprintf("at %s, after %s: %v", w.since().Round(time.Millisecond), after.Round(time.Millisecond), err))
	}
}

// reasonOf puts the error of a Run into a class. never: no fault that is injected here may lead to it.
func reasonOf(err error) (why string, never bool) {
	text := err.Error()
	for _, r := range []struct {
		part  string
		never bool
	}{
		{"refusing to judge without memory", true},
		{"but the group", true},
		{"must agree", true},
		{"state hash", true},
		{"has no committed offset", true},
		{"lake and log differ", true},
		{"came before its state", true},
		{"was applied", true},
		{"are gone", true},
		{"no longer in the log", true},
		{"OFFSET_OUT_OF_RANGE", true},
		{"had forgotten this member", false},
		{"another process has judged it", false},
		{"FENCED_INSTANCE_ID", false},
		{"INVALID_PRODUCER_EPOCH", false},
		{"PRODUCER_FENCED", false},
		{"INVALID_TXN_STATE", false},
		{"UNKNOWN_PRODUCER_ID", false},
		{"TRANSACTION_ABORTABLE", false},
		{"context deadline exceeded", false},
		{"outcome unknown", false},
		{"end of transaction", false},
		{"restore", false},
		{"transactional id", false},
	} {
		if strings.Contains(text, r.part) {
			return r.part, r.never
		}
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return "other: " + err.Error(), false
}

// watchReady measures how long an incarnation takes to be ready.
func (w *World) watchReady(inc *incarnation, began time.Time) {
	for {
		select {
		case <-inc.done:
			return
		case <-w.ctx.Done():
			return
		case <-time.After(500 * time.Millisecond):
		}
		if inc.ready() == nil {
			w.mu.Lock()
			w.result.Recovery[inc.p.kind] = append(w.result.Recovery[inc.p.kind], time.Since(began).Seconds())
			w.mu.Unlock()
			return
		}
	}
}
