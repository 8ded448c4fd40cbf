//go:build cgo

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// failing writes the history of machines that fail three times each: rows one second apart.
func failing(t *testing.T, path string, machines, rows int) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("time,asset,pressure,flow,temperature\n")
	noise := func(i, machine, salt int) float64 { return float64((i*7919+machine*104729+salt*15485863)%1009) / 1009 }
	for i := range rows {
		for m := range machines {
			p, f, w := 5+noise(i, m, 1), 20+2*noise(i, m, 2), fmt.Sprintf("%.4f", 60+noise(i, m, 3))
			switch at := i - m%7; {
			case at >= 390 && at < 405:
				w = fmt.Sprintf("%.4f", 110+noise(i, m, 3))
			case at >= 470 && at < 485:
				p, f = p-9, f+40
			case at >= 550 && at < 575:
				w = "" // no value
			}
			fmt.Fprintf(&b, "%s,boiler-%02d,%.4f,%.4f,%s\n", recordingStart.Add(time.Duration(i)*time.Second).Format(time.RFC3339), m, p, f, w)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Two stream-processors share a fleet that fails on a real Kafka, are killed while alerts open, and hand partitions over: each alert comes out
// again as it was, bit by bit.
func TestRealAlertsAreReplayed(t *testing.T) {
	const machines, rows = 36, 640
	s := stacktest.Up(t, stack.Options{
		Only: []string{"ingest-gateway", "stream-processor", "stream-processor-2"}, Replicas: 2, HealthTimeout: patience,
		Config: map[string]any{"stream_processor": map[string]any{"snapshot": map[string]any{"max_age": "3s"}, "session_timeout": "6s"}},
	})
	history := filepath.Join(t.TempDir(), "boilers.csv")
	failing(t, history, machines, rows)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	send := exec.CommandContext(ctx, binary(t, "tocsin"), "replay", "--input", history, "--equipment-column", "asset", "--to", "http://"+s.Addr("ingest-gateway"), "--speed", "40")
	out := new(strings.Builder)
	send.Stdout, send.Stderr = out, out
	if err := send.Start(); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- send.Wait() }()

	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...), kgo.ConsumeTopics("detect.anomalies.v1"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var opened []string
	poll := func() {
		short, done := context.WithTimeout(ctx, 300*time.Millisecond)
		defer done()
		cl.PollFetches(short).EachRecord(func(r *kgo.Record) {
			var a eventv1.Anomaly
			if len(r.Key) == 0 || proto.Unmarshal(r.Value, &a) != nil || a.GetEpisodeId() == "" {
				return
			}
			if a.GetPhase() == eventv1.Phase_PHASE_STARTED {
				opened = append(opened, a.GetEpisodeId())
			}
		})
	}
	kill := func(name string, sig syscall.Signal) {
		if err := s.Kill(name, sig); err != nil {
			t.Fatal(err)
		}
	}
	start := func(name string) {
		if err := s.Start(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "alerts", func() bool { poll(); return len(opened) > 5 })
	kill("stream-processor", syscall.SIGKILL)
	start("stream-processor")
	until(t, "the second fault", func() bool { poll(); return len(opened) > machines+5 })
	kill("stream-processor-2", syscall.SIGKILL)
	// For longer than its session lasts: the first takes its partitions over.
	adm := kadm.NewClient(cl)
	until(t, "one member that judges everything", func() bool {
		poll()
		groups, err := adm.DescribeGroups(ctx, "stream-processor")
		return err == nil && groups["stream-processor"].State == "Stable" && len(groups["stream-processor"].Members) == 1
	})
	start("stream-processor-2")
	if err := <-sent; err != nil {
		t.Fatalf("replay: %v\n%s", err, out)
	}
	until(t, "all alerts to be over", func() bool { poll(); return len(opened) >= 3*machines && settled(ctx, adm) })

	identical, reports, sources := 0, 0, map[string]int{}
	var slowest time.Duration
	for _, id := range opened {
		began := time.Now()
		cmd := exec.CommandContext(ctx, binary(t, "tocsin"), "replay-alert", id, "--json", "--brokers", strings.Join(s.Brokers(), ","))
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: %v: %s", id, err, &stderr)
			continue
		}
		slowest = max(slowest, time.Since(began))
		var res struct {
			Identical bool                    `json:"identical"`
			Begins    struct{ Source string } `json:"begins"`
			Reports   []struct {
				Recorded   *float64 `json:"recorded_score"`
				Recomputed *float64 `json:"recomputed_score"`
			} `json:"reports"`
		}
		if err := json.Unmarshal(stdout.Bytes(), &res); err != nil {
			t.Fatal(err)
		}
		for _, r := range res.Reports {
			if r.Recorded == nil || r.Recomputed == nil || math.Float64bits(*r.Recorded) != math.Float64bits(*r.Recomputed) {
				t.Errorf("%s: another score", id)
			}
		}
		if res.Identical {
			identical++
		}
		reports += len(res.Reports)
		sources[res.Begins.Source]++
	}
	if identical != len(opened) || len(opened) < 100 {
		t.Errorf("%d of %d alerts came out the same; 100 are wanted", identical, len(opened))
	}
	report(t, "alerts replayed", map[string]any{
		"alerts": len(opened), "identical": identical, "reports": reports, "begun from": fmt.Sprint(sources), "slowest replay": slowest.Round(time.Millisecond).String(), "kill -9": 2, "rebalances": 2,
	})
}

// settled tells whether the group has judged everything but the newest ticks.
func settled(ctx context.Context, adm *kadm.Client) bool {
	lags, err := adm.Lag(ctx, "stream-processor")
	if err != nil {
		return false
	}
	return lags["stream-processor"].Lag.Total() < 100
}
