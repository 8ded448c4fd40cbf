package fleet_test

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet/fleettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTargets(t *testing.T) {
	all := []string{"historical-api", "model-trainer", "tuning-bench", "cold-path-writer", "alert-router", "stream-processor", "realtime-api", "ingest-gateway"}
	for _, c := range []struct {
		in   []string
		want []string
	}{
		{[]string{"all"}, all},
		{[]string{"fleet-simulator", "all"}, append(slices.Clone(all), "fleet-simulator")},
		{[]string{"ingest-gateway", "alert-router", "ingest-gateway"}, []string{"alert-router", "ingest-gateway"}},
		{nil, nil},
	} {
		got, err := fleet.Targets(c.in)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Targets(%q) = %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	_, err := fleet.Targets([]string{"all", "stream-procesor"})
	if err == nil || !strings.Contains(err.Error(), `"stream-procesor"`) || !strings.Contains(err.Error(), "stream-processor") {
		t.Errorf("an unknown target: %v, want it named, and those that there are", err)
	}
}

func TestAllServicesBecomeReadyAndStop(t *testing.T) {
	dir := t.TempDir()
	f := fleettest.Start(t, fleettest.Config(dir), dir, "all")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, name := range []string{"historical-api", "model-trainer", "tuning-bench", "cold-path-writer", "alert-router", "stream-processor", "realtime-api", "ingest-gateway"} {
		ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.Addrs[name]+"/health/ready", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			if res.StatusCode != http.StatusOK {
				t.Errorf("%s is not ready: %s", name, res.Status)
			}
			_ = res.Body.Close()
		}
		cancel()
	}
	client.CloseIdleConnections()
	began := time.Now()
	if err := f.Stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stopping took %s", took)
	}
	for name, addr := range f.Addrs {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			t.Errorf("%s still listens on %s", name, addr)
		}
	}
}

// The address that the last service wants is taken: those made before it must be closed again.
func TestAServiceThatCannotBeMadeLeavesNothingOpen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	dir := t.TempDir()
	cfg := fleettest.Config(dir)
	cfg.Gateway.HTTP.Listen = taken.Addr().String()
	list, err := fleet.Targets([]string{"all"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = fleet.New(t.Context(), cfg, dir, list, t.Output())
	if err == nil || !strings.Contains(err.Error(), "ingest-gateway") {
		t.Fatalf("error %v, want it to name the service", err)
	}
	// That nothing is left is what goleak looks for at the end.
}

func TestRunEndsWhenAServiceFails(t *testing.T) {
	dir := t.TempDir()
	cfg := fleettest.Config(dir)
	// Topics of another shape than the configuration's: the services must not go on.
	first := fleettest.Start(t, cfg, dir, "ingest-gateway")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg.Process.Kafka.Partitions = 5
	list, err := fleet.Targets([]string{"stream-processor", "alert-router"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := fleet.New(t.Context(), cfg, dir, list, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
	defer cancel()
	err = f.Run(ctx)
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "partitions") {
		t.Errorf("Run gave %v, want the partition counts that differ", err)
	}
}
