//go:build cgo

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// process is a running `tocsin run` on free ports.
type process struct {
	cmd   *exec.Cmd
	addrs map[string]string // what it announced: "Live page", "Alerts (API v2)", ...
	ready time.Duration
	ended chan error
}

// run starts `tocsin run` and waits until it has announced itself.
func run(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{addrs: map[string]string{}, ended: make(chan error, 1)}
	p.cmd = exec.Command(binary(t, "tocsin"), append([]string{"run"}, args...)...)
	p.cmd.Env = append(p.cmd.Environ(),
		"TOCSIN_BROKER_LISTEN=127.0.0.1:0", "TOCSIN_INGEST_GATEWAY_HTTP_LISTEN=127.0.0.1:0", "TOCSIN_INGEST_GATEWAY_GRPC_LISTEN=127.0.0.1:0",
		"TOCSIN_STREAM_PROCESSOR_HTTP_LISTEN=127.0.0.1:0", "TOCSIN_ALERT_ROUTER_HTTP_LISTEN=127.0.0.1:0",
		"TOCSIN_COLD_PATH_WRITER_HTTP_LISTEN=127.0.0.1:0", "TOCSIN_REALTIME_API_HTTP_LISTEN=127.0.0.1:0", "TOCSIN_REALTIME_API_GRPC_LISTEN=127.0.0.1:0", "TOCSIN_TUNING_BENCH_HTTP_LISTEN=127.0.0.1:0",
		"TOCSIN_HISTORICAL_API_HTTP_LISTEN=127.0.0.1:0", "TOCSIN_MODEL_TRAINER_HTTP_LISTEN=127.0.0.1:0")
	p.cmd.Env = append(p.cmd.Env, env...)
	var log strings.Builder
	p.cmd.Stderr = &log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	announced := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if what, at, ok := strings.Cut(strings.TrimSpace(lines.Text()), "  "); ok {
				p.addrs[what] = strings.TrimSpace(at)
			}
			if strings.Contains(lines.Text(), "Ctrl-C") {
				close(announced)
				break
			}
		}
		for lines.Scan() { // keep the pipe empty
		}
		p.ended <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
		}
		if t.Failed() {
			t.Logf("tocsin run:\n%.8000s", log.String())
		}
	})
	select {
	case <-announced:
	case err := <-p.ended:
		t.Fatalf("tocsin run ended: %v\n%s", err, log.String())
	case <-time.After(patience):
		t.Fatal("tocsin run did not become ready")
	}
	p.ready = time.Since(began)
	return p
}

// interrupt is Ctrl-C; it returns how long the end took.
func (p *process) interrupt(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("tocsin run ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("tocsin run does not end")
	}
	return time.Since(began)
}

// said reads windows and anomalies until each machine's last window has come and time has moved past it in every
// partition, and returns their contents by id, without what depends on the broker's clock.
func said(t *testing.T, brokers []string, machines, partitions int) map[string]string {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("telemetry.windows.v1", "detect.anomalies.v1"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out := map[string]string{}
	last := map[string]bool{}  // machines whose last window is here
	passed := map[int32]bool{} // partitions of anomalies in which a later tick stands
	var lastAt time.Time       // broker time of the last of those windows
	for len(last) < machines || len(passed) < partitions {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("the last window of %d of %d machines has come, and time has passed in %d of %d partitions", len(last), machines, len(passed), partitions)
		}
		fs.EachRecord(func(r *kgo.Record) {
			switch {
			case r.Key == nil: // a tick
				if r.Topic == "detect.anomalies.v1" && len(last) == machines && r.Timestamp.After(lastAt) {
					passed[r.Partition] = true
				}
			case r.Topic == "telemetry.windows.v1":
				var w eventv1.Window
				if err := proto.Unmarshal(r.Value, &w); err != nil {
					t.Fatal(err)
				}
				w.ClosedAtMs = 0
				keep(t, out, w.WindowId, &w)
				if w.EndUs >= recordingStart.Add(answerRows*time.Second).UnixMicro() && !last[w.EquipmentId] {
					last[w.EquipmentId] = true
					if r.Timestamp.After(lastAt) {
						lastAt = r.Timestamp
					}
				}
			default:
				var a eventv1.Anomaly
				if err := proto.Unmarshal(r.Value, &a); err != nil {
					t.Fatal(err)
				}
				if a.Cause == "silence" {
					return // follows the broker's clock
				}
				a.JudgedAtMs, a.ReceivedAtMs = 0, 0
				keep(t, out, a.AnomalyId, &a)
			}
		})
	}
	return out
}

func keep(t *testing.T, out map[string]string, id string, m proto.Message) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, again := out[id]; again {
		t.Errorf("%s was said twice", id)
	}
	out[id] = string(b)
}

const answerRows = 1000

// The same frames give the same windows and anomalies through 1 and 12 partitions, in one process over the embedded
// broker and in separate processes over Apache Kafka.
func TestRealSameAnswersHoweverItRuns(t *testing.T) {
	const machines = 5
	dir := t.TempDir()
	for _, r := range plant(machines, answerRows) {
		r.write(t, dir)
	}
	replay := func(gateway string) {
		tocsin(t, "replay", "--input", filepath.Join(dir, "*.csv"), "--ignore-columns", "anomaly,changepoint", "--to", gateway)
	}
	answers := map[string]map[string]string{}
	for _, n := range []int{1, 12} {
		partitions := strconv.Itoa(n)
		p := run(t, []string{"TOCSIN_KAFKA_PARTITIONS=" + partitions}, "--data-dir", t.TempDir())
		replay(strings.TrimSuffix(p.addrs["Send frames to"], "/v1/frames"))
		answers["one process, embedded broker, "+partitions+" partitions"] = said(t, []string{p.addrs["Kafka (embedded)"]}, machines, n)
		p.interrupt(t)
	}
	for _, n := range []int{1, 12} {
		partitions := strconv.Itoa(n)
		t.Setenv("TOCSIN_KAFKA_PARTITIONS", partitions)
		s := stacktest.Up(t, stack.Options{Only: []string{"kafka", "ingest-gateway", "stream-processor"}})
		replay("http://" + s.Addr("ingest-gateway"))
		answers["separate processes, Apache Kafka, "+partitions+" partitions"] = said(t, s.Brokers(), machines, n)
		if err := s.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	names := sorted(answers)
	want := answers[names[0]]
	anomalies := 0
	for id := range want {
		if strings.Contains(id, "/behaviour/") {
			anomalies++
		}
	}
	if anomalies == 0 {
		t.Error("no anomaly was found: the comparison shows little")
	}
	figures := map[string]any{}
	for _, name := range names {
		got := answers[name]
		differing := 0
		for id := range want {
			if got[id] != want[id] {
				differing++
				if differing <= 5 {
					t.Errorf("%s: %s differs from %s or is missing", name, id, names[0])
				}
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s said %d things, %s %d", name, len(got), names[0], len(want))
		}
		figures[name] = fmt.Sprintf("%d windows and anomalies, %d differ", len(got), differing)
	}
	report(t, "same answers", figures)
}
