package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
)

func holds(context.Context) string { return "" }

func never(context.Context) string { return "it never comes" }

func nothing(context.Context) error { return nil }

func TestFaultTellsStallFromFailure(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	took, err := await(t.Context(), begin, 2*lookEvery, never)
	if err == nil || !strings.Contains(err.Error(), "it never comes") || took < 2*lookEvery {
		t.Errorf("await: %v after %s", err, took)
	}
	out := fault{row: "r", inject: nothing, recovered: func() []condition { return []condition{holds} }}.run(t.Context())
	if out.breaking != nil || out.stalled != nil || out.times != 1 {
		t.Errorf("a fault that is nothing: %+v", out)
	}
	refused := errors.New("refused")
	out = fault{what: "w", inject: func(context.Context) error { return refused }, recovered: func() []condition { return nil }}.run(t.Context())
	if !errors.Is(out.breaking, refused) {
		t.Errorf("a fault that could not be done: %+v", out)
	}
}

// What was injected is healed also when the run is interrupted.
func TestFaultIsHealedWhenTheRunEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	healed := false
	fault{
		inject:    func(context.Context) error { cancel(); return nil },
		hold:      time.Hour,
		heal:      func(ctx context.Context) error { healed = ctx.Err() == nil; return nil },
		recovered: func() []condition { return []condition{never} },
	}.run(ctx)
	if !healed {
		t.Error("it is still broken")
	}
}

func TestBoardCountsWhatTheCheckerFound(t *testing.T) {
	t.Parallel()
	b := newBoard()
	if b.Pass() {
		t.Error("a board without rows shows nothing")
	}
	good := &sectionResult{name: "good", report: &history.Report{}, outcomes: []outcome{
		{row: "kill", times: 1, took: time.Second, target: 2 * time.Second},
		{row: "kill", times: 1, took: 3 * time.Second, target: 2 * time.Second},
		{row: "storm", times: 4, took: time.Second},
	}}
	b.add(good)
	if !b.Pass() || len(b.Rows) != 2 {
		t.Fatalf("rows: %+v", b.Rows)
	}
	if r := b.Rows[0]; r.Amount != 2 || r.LaterThan != 1 || r.RecoveryMax != 3 || r.Stalls != 0 {
		t.Errorf("kill: %+v", r)
	}
	if r := b.Rows[1]; r.Amount != 4 {
		t.Errorf("storm: %+v", r)
	}
	b.add(&sectionResult{
		name: "bad", report: &history.Report{Found: map[string]int{history.Lost: 2, history.Duplicated: 1, history.Wrong: 3, history.Unnotified: 4}},
		outcomes: []outcome{{row: "cut", times: 1}},
	})
	if r := b.Rows[2]; b.Pass() || r.Lost != 2 || r.Duplicated != 1 || r.Differing != 3 || r.Unnotified != 4 {
		t.Errorf("cut: %+v", r)
	}
	unchecked := newBoard()
	unchecked.add(&sectionResult{name: "unchecked", outcomes: []outcome{{row: "cut", times: 1}}})
	if unchecked.Pass() {
		t.Error("what nobody checked must not pass")
	}
	stalled := newBoard()
	stalled.add(&sectionResult{name: "stalled", report: &history.Report{}, outcomes: []outcome{{row: "cut", times: 1, stalled: errors.New("stuck")}}})
	if stalled.Pass() || stalled.Rows[0].Stalls != 1 || stalled.Rows[0].Lost != 0 {
		t.Errorf("a stall is no loss: %+v", stalled.Rows[0])
	}
	var table bytes.Buffer
	if err := b.WriteTable(&table); err != nil || !strings.Contains(table.String(), "FAILED") {
		t.Errorf("table: %v\n%s", err, &table)
	}
	path := filepath.Join(t.TempDir(), "out", "chaos.json")
	if err := b.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back Board
	if err := json.Unmarshal(text, &back); err != nil || len(back.Rows) != 3 {
		t.Errorf("JSON: %v, %d rows", err, len(back.Rows))
	}
}

// The store has done what a lost answer was about, and has not done what a refusal was about.
func TestLakeProxy(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, r.Host)
	}))
	defer store.Close()
	p, err := startLakeProxy(t.Context(), strings.TrimPrefix(store.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.close() }()
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	put := func() (status int, body string, err error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+p.addr()+"/bucket/key", strings.NewReader("rows"))
		if err != nil {
			return 0, "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	if status, host, err := put(); err != nil || status != http.StatusOK || host != p.addr() {
		t.Errorf("without a fault: %d %q %v; the host that was signed must stay", status, host, err)
	}
	for _, c := range []struct {
		fault   string
		status  int // 0: no answer
		reaches bool
	}{
		{"5xx", http.StatusServiceUnavailable, false},
		{"timeout", 0, false},
		{"response lost", 0, true},
		{"409", http.StatusConflict, false},
		{"412", http.StatusPreconditionFailed, true},
		{"outage", 0, false},
	} {
		for _, f := range lakeFaults() {
			if f.name == c.fault {
				p.set(f)
			}
		}
		before := asked.Load()
		status, _, err := put()
		if status != c.status || (err != nil) != (c.status == 0) || (asked.Load() > before) != c.reaches || p.met(c.fault) == 0 {
			t.Errorf("%s: status %d, %v, the store was asked %d times", c.fault, status, err, asked.Load()-before)
		}
	}
}

func TestReceiver(t *testing.T) {
	t.Parallel()
	r, err := startReceiver()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.close() }()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(id, status string) int {
		body := fmt.Sprintf(`{"alerts":[{"status":%q,"labels":{"alert_id":%q}}]}`, status, id)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url(), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for _, step := range []struct {
		state  brokenness
		status int
	}{{works, 200}, {refuses, 503}, {forgets, 503}, {hangs, 0}} {
		r.set(step.state)
		if got := post(fmt.Sprint("a", step.state), "resolved"); got != step.status {
			t.Errorf("state %d answers %d", step.state, got)
		}
	}
	told, failed := r.notifications()
	if len(told) != 1 || told[0].AlertID != "a0" || !told[0].Resolved || failed != 3 || r.unconfirmed != 1 || len(r.away()) != 1 {
		t.Errorf("told %+v, failed %d, unconfirmed %d, away %v", told, failed, r.unconfirmed, r.away())
	}
}

func TestPlans(t *testing.T) {
	t.Parallel()
	for _, s := range Full() {
		if got, err := Plan(s.Name); err != nil || len(got) != 1 || got[0].Name != s.Name {
			t.Errorf("section %s: %v", s.Name, err)
		}
	}
	if _, err := Plan("nonsense"); err == nil {
		t.Error("an unknown plan must be refused")
	}
}

// The same frame comes out for the same arguments: a run needs no seed, and a repeat has the same bytes.
func TestNoise(t *testing.T) {
	t.Parallel()
	sum := 0.0
	for i := range 10_000 {
		v := noise("press-001", uint64(i), i%3, i%2)
		if v < -1 || v > 1 || v != noise("press-001", uint64(i), i%3, i%2) {
			t.Fatalf("noise %d is %v", i, v)
		}
		sum += v
	}
	if sum/10_000 > 0.05 || sum/10_000 < -0.05 {
		t.Errorf("mean %v", sum/10_000)
	}
}
