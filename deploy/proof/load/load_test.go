package load_test

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
	"github.com/tocsin-io/tocsin/deploy/proof/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outEnv names a folder that reports are written to.
const outEnv = "TOCSIN_LOAD_OUT"

// unhurried stands for every limit of time: the race detector and other tests share the processors. Speed is measured by `make load`.
const unhurried = 5 * time.Minute

// slice runs a scenario, small, on a stack of its own. The full sizes are `make load`'s.
func slice(t *testing.T, only []string, run func(context.Context, *load.World) (*load.Report, error)) *load.Report {
	t.Helper()
	s := stacktest.New(t, stack.Options{Only: only})
	w, err := load.NewWorld(s, "", func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	r, err := run(t.Context(), w)
	stacktest.Need(t, err)
	r.Print(testLog{t})
	for _, b := range r.Broken {
		t.Error(b)
	}
	if dir := os.Getenv(outEnv); dir != "" {
		if err := r.Write(dir); err != nil {
			t.Error(err)
		}
	}
	return r
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(string(b))
	return len(b), nil
}

// A processor is killed while frames come. The new one reads its state, replays what no snapshot holds, and judges on: nothing is lost or
// doubled.
func TestRealLoadRestore(t *testing.T) {
	cfg := load.DefaultRestore()
	cfg.StateMB, cfg.Repeats, cfg.PerS, cfg.LiveFor, cfg.Quiet = 20, 1, 200, 3*time.Second, 2*time.Second
	cfg.Target = unhurried
	slice(t, load.RestoreNeeds(), func(ctx context.Context, w *load.World) (*load.Report, error) { return load.Restore(ctx, w, cfg) })
}

// One record in a hundred can never be judged. Each becomes one dead letter, nothing else happens to the rest.
func TestRealLoadPoison(t *testing.T) {
	cfg := load.DefaultPoison()
	cfg.Records, cfg.Machines, cfg.Huge, cfg.Gateway = 20_000, 500, 2, 5
	slice(t, nil, func(ctx context.Context, w *load.World) (*load.Report, error) { return load.Poison(ctx, w, cfg) })
}

// A machine sends as much as all others together, then with a consumer that stands still, then far more than it may.
func TestRealLoadHot(t *testing.T) {
	cfg := load.DefaultHot()
	cfg.Machines, cfg.PerS, cfg.LimitPerS = 100, 400, 800
	cfg.Settle, cfg.Phase, cfg.Slow = 2*time.Second, 5*time.Second, 4*time.Second
	cfg.Floor = unhurried
	slice(t, nil, func(ctx context.Context, w *load.World) (*load.Report, error) { return load.Hot(ctx, w, cfg) })
}

// Alerts at a steady rate, many at once, and through an outage of the receiver while the router is killed: all told, each transition once in the journal.
func TestRealLoadAlerts(t *testing.T) {
	s := stacktest.New(t, stack.Options{Only: load.RouterNeeds(load.PostgreSQL)})
	w, err := load.NewWorld(s, "", func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	// One stack for all: the machines of the runs have different names.
	fresh := func(context.Context, []string) (*load.World, func() error, error) {
		return w, func() error { return nil }, nil
	}
	pages, burst, outage := load.DefaultPages(), load.DefaultBurst(), load.DefaultOutage()
	pages.Runs = []load.PagesRun{{RouterSetting: load.RouterSetting{Journal: load.PostgreSQL, Incidents: true}, Length: 3 * time.Second}}
	pages.PerS, pages.Stands, pages.Interval, pages.Target, pages.Patience = 20, time.Second, 2*time.Second, unhurried, unhurried
	burst.Routers = []load.RouterSetting{{Journal: load.SQLite, Incidents: true}}
	burst.Alerts, burst.Groups, burst.PeerNeeded, burst.Patience = 1000, 20, false, unhurried
	outage.Away, outage.Kills, outage.After, outage.Rate, outage.Before = 10*time.Second, 3, 1, 5, 2*time.Second
	outage.Short, outage.Interval, outage.Patience, outage.Open = 3*time.Second, 2*time.Second, unhurried, true
	for _, run := range []func() (*load.Report, error){
		func() (*load.Report, error) { return load.Pages(t.Context(), fresh, pages) },
		func() (*load.Report, error) { return load.Burst(t.Context(), fresh, burst) },
		func() (*load.Report, error) { return load.Outage(t.Context(), w, outage) },
	} {
		r, err := run()
		stacktest.Need(t, err)
		r.Print(testLog{t})
		for _, b := range r.Broken {
			t.Error(b)
		}
	}
}
