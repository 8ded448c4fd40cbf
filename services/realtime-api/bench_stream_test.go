//go:build bench

package realtimeapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Shape of the run.
const (
	benchSensors   = 8
	benchAlertRate = 20 // a second
	cutEvery       = 20 * time.Second
	awayAtMost     = 2 * time.Second
)

// TestBenchStream measures the server with a thousand clients on a fleet of ten thousand, and checks that clients that are cut and resume have missed nothing. See `make bench-stream`.
func TestBenchStream(t *testing.T) {
	machines, clients := number(t, "BENCH_MACHINES", 10_000), number(t, "BENCH_CLIENTS", 1_000)
	steady, cuts := time.Duration(number(t, "BENCH_STEADY", 40))*time.Second, time.Duration(number(t, "BENCH_CUTS", 60))*time.Second
	out, binary := os.Getenv("BENCH_OUT"), os.Getenv("TOCSIN_BINARY")
	if out == "" || binary == "" {
		t.Fatal("run `make bench-stream`")
	}
	k := kafkatest.Start(t, 4)
	fl := newBenchFleet(t, k, machines)
	fl.round() // so that all are known
	srv := serve(t, binary, k)
	ctx, stop := context.WithCancel(t.Context())
	var fleetWG sync.WaitGroup
	fleetWG.Go(func() { fl.run(ctx) })
	result := map[string]any{"machines": machines, "sensors_of_a_machine": benchSensors, "clients": clients, "cores": cores(), "recorded_at": time.Now().UTC().Format(time.RFC3339)}

	// Nobody looks: what following costs.
	result["server_without_clients"] = srv.during(t, 15*time.Second)

	// A thousand come, within some seconds.
	watch := &watchers{t: t, fl: fl, url: "ws" + strings.TrimPrefix(srv.url, "http") + "/v1/stream"}
	began := time.Now()
	for i := range clients {
		watch.start(t.Context(), i, i%5 == 0)
		pause(t, 10*time.Millisecond)
	}
	watch.await(t, "all to be connected", func() bool { return watch.connected.Load() == int64(clients) && watch.fresh.Load() == int64(clients) })
	result["seconds_until_all_had_the_fleet"] = time.Since(began).Seconds()
	pause(t, 3*time.Second)
	watch.measure.Store(true)
	fromBytes, fromWindows := watch.bytes.Load(), fl.sent.Load()
	at := time.Now()
	profile(t, srv, filepath.Join(filepath.Dir(out), "stream.cpu.pprof"), steady/2)
	use := srv.during(t, steady)
	watch.measure.Store(false)
	took := time.Since(at).Seconds()
	use["bytes_to_clients_per_second"], use["windows_per_second"] = int(float64(watch.bytes.Load()-fromBytes)/took), int(float64(fl.sent.Load()-fromWindows)/took)
	result["server_with_clients"] = use
	result["milliseconds_from_broker_to_client"] = watch.delay()

	// Then they are cut, each every twenty seconds or so, and come back within two.
	watch.cutting.Store(true)
	result["server_with_clients_cut_and_resuming"] = srv.during(t, cuts)
	watch.cutting.Store(false)
	watch.await(t, "all to be back", func() bool { return watch.connected.Load() == int64(clients) })
	stop()
	fleetWG.Wait()
	watch.await(t, "all to have all", watch.complete)
	lost := map[string]int{"windows": 0, "alerts": 0}
	var resumes, resets, gaps, behind int
	for _, v := range watch.all {
		v.mu.Lock()
		resumes, resets, gaps, behind = resumes+v.resumes, resets+v.resets, gaps+v.gaps, behind+v.behind
		lost["windows"] += v.gaps
		for _, seen := range v.alerts[:fl.alerts.Load()] {
			if !seen {
				lost["alerts"]++
			}
		}
		v.mu.Unlock()
	}
	result["cuts"], result["resumes"], result["snapshots_after_a_resume"], result["lost"], result["ticks_coalesced"] = watch.cuts.Load(), resumes, resets, lost, behind
	result["windows_of_one_machine_checked_by_each_client"], result["alerts_checked_by_each_client"] = fl.rounds.Load(), fl.alerts.Load()
	watch.stop()
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		result["load_average_at_the_end"] = strings.Fields(string(load))[0]
	}
	b, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b)
	if lost["windows"]+lost["alerts"] > 0 || resets > 0 {
		t.Errorf("lost %v, %d snapshots after resumes", lost, resets)
	}
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q", name, s)
	}
	return n
}

// pause waits in a measurement, where the time that passes is what is meant.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}

// benchFleet writes a window of each machine each five seconds, evenly, and alerts that stay open.
type benchFleet struct {
	f      *fixture
	cl     *kgo.Client
	ids    []string
	index  map[string]int
	start  int64
	rounds atomic.Int64 // windows of each machine begun
	sent   atomic.Int64
	alerts atomic.Int64
	shape  []*eventv1.Window
}

const maxBenchAlerts = 20_000

func newBenchFleet(t *testing.T, k kafka.Config, machines int) *benchFleet {
	f := newFixture(t, k)
	fl := &benchFleet{f: f, cl: f.cl, index: map[string]int{}, start: time.Now().UnixMicro() / windowUS * windowUS}
	kinds := []string{"pump", "compressor", "fan", "spindle", "conveyor"}
	for i := range machines {
		id := fmt.Sprintf("%s-%04d", kinds[i%len(kinds)], i/len(kinds)+1)
		fl.ids, fl.index[id] = append(fl.ids, id), i
		fl.shape = append(fl.shape, f.window(id, 0, benchSensors, nil, false))
	}
	return fl
}

func (fl *benchFleet) send(name, key, typ string, m proto.Message) {
	b, err := proto.Marshal(m)
	if err != nil {
		fl.f.t.Error(err)
		return
	}
	fl.cl.Produce(context.Background(), &kgo.Record{Topic: name, Key: []byte(key), Value: b, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(typ)}}}, func(_ *kgo.Record, err error) {
		if err != nil {
			fl.f.t.Error(err)
		}
	})
}

func (fl *benchFleet) window(i int, round int64) {
	w := fl.shape[i]
	w.StartUs, w.Score, w.ClosedAtMs = fl.start+round*windowUS, fl.f.rng.Float64(), time.Now().UnixMilli()
	w.EndUs = w.StartUs + windowUS
	for _, s := range w.Sensors {
		s.Last += fl.f.rng.NormFloat64()
	}
	fl.send(topic.Windows, fl.ids[i], topic.TypeWindow, w)
	fl.sent.Add(1)
}

// round sends a window of every machine at once.
func (fl *benchFleet) round() {
	for i := range fl.ids {
		fl.window(i, fl.rounds.Load())
	}
	fl.rounds.Add(1)
	if err := fl.cl.Flush(context.Background()); err != nil {
		fl.f.t.Error(err)
	}
}

// run sends rounds spread over five seconds each until ctx ends; the round begun is finished.
func (fl *benchFleet) run(ctx context.Context) {
	const slice = 20 * time.Millisecond
	per := max(len(fl.ids)*int(slice)/int(5*time.Second), 1)
	tick := time.NewTicker(slice)
	defer tick.Stop()
	began, alerts := time.Now(), int64(0)
	for ctx.Err() == nil {
		for i := 0; i < len(fl.ids); i += per {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
			for j := i; j < min(i+per, len(fl.ids)); j++ {
				fl.window(j, fl.rounds.Load())
			}
			for ctx.Err() == nil && alerts < min(int64(time.Since(began).Seconds()*benchAlertRate), maxBenchAlerts) {
				id := fl.ids[int(alerts*7919)%len(fl.ids)]
				fl.send(topic.Alerts, id, topic.TypeAlert, alertOf2(id, alerts))
				alerts++
				fl.alerts.Store(alerts)
			}
		}
		fl.rounds.Add(1)
	}
	if err := fl.cl.Flush(context.Background()); err != nil {
		fl.f.t.Error(err)
	}
}

func alertOf2(id string, n int64) *eventv1.AlertEvent {
	a := alertOf(id, "behaviour", eventv1.Severity_SEVERITY_WARNING, n, "Bearing temperature 66.1 °C, expected 59.8 to 62.3.")
	a.AlertId = fmt.Sprintf("bench/%d", n)
	return a
}

// served is the service in a process of its own.
type served struct {
	url string
	pid int
}

func serve(t *testing.T, binary string, k kafka.Config) *served {
	t.Helper()
	cmd := exec.Command(binary, "run", "--target", "realtime-api", "--brokers", strings.Join(k.Brokers, ","), "--data-dir", t.TempDir())
	cmd.Env = append(cmd.Environ(), "TOCSIN_REALTIME_API_HTTP_LISTEN=127.0.0.1:0", "TOCSIN_REALTIME_API_GRPC_LISTEN=127.0.0.1:0", "TOCSIN_REALTIME_API_HTTP_PPROF=true", fmt.Sprint("TOCSIN_KAFKA_PARTITIONS=", k.Partitions))
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
	})
	s := &served{pid: cmd.Process.Pid}
	lines := bufio.NewScanner(pipe)
	for s.url == "" && lines.Scan() {
		if what, at, ok := strings.Cut(strings.TrimSpace(lines.Text()), "  "); ok && what == "Live page" {
			s.url = strings.TrimSpace(at)
		}
	}
	if s.url == "" {
		t.Fatal("tocsin run did not say where its page is")
	}
	go func() { // keep the pipe empty
		for lines.Scan() {
		}
	}()
	return s
}

// cpu is the processor time that the server has used.
func (s *served) cpu(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

func (s *served) memory(t *testing.T, field string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), field+":")
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return kb / 1024
}

// during measures the server over d.
func (s *served) during(t *testing.T, d time.Duration) map[string]any {
	t.Helper()
	from, at := s.cpu(t), time.Now()
	pause(t, d)
	return map[string]any{
		"cores_used": float64(int(float64(s.cpu(t)-from)/float64(time.Since(at))*1000)) / 1000, "resident_mib": s.memory(t, "VmRSS"), "resident_most_mib": s.memory(t, "VmHWM"), "seconds": time.Since(at).Seconds(),
	}
}

// profile takes a CPU profile beside the measurement, for whoever wants to reduce it.
func profile(t *testing.T, s *served, to string, d time.Duration) {
	t.Helper()
	if os.Getenv("BENCH_PROFILE") == "" {
		return
	}
	go func() {
		resp, err := http.Get(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.url, int(d.Seconds())))
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err == nil {
			_ = os.WriteFile(to, b, 0o644)
		}
	}()
}
