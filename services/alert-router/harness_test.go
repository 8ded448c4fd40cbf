package alertrouter

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
	"sync"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/cli"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// asAmtool makes the test binary be amtool, so the real one is tested without building another program.
const asAmtool = "TOCSIN_TEST_AMTOOL"

func TestMain(m *testing.M) {
	if os.Getenv(asAmtool) != "" {
		cli.Execute()
		os.Exit(0)
	}
	if c := os.Getenv(asRouter); c != "" {
		os.Exit(runAsRouter(c))
	}
	goleak.VerifyTestMain(m)
}

const patience = 90 * time.Second

// scratchKafka names a real Kafka broker (host:port) to run these tests on instead of the embedded one. ALL ITS TOCSIN TOPICS
// ARE DELETED before each test: give it a broker of its own.
const scratchKafka = "TOCSIN_TEST_SCRATCH_KAFKA"

// broker is an empty Kafka with Tocsin's topics.
func broker(t testing.TB, partitions int32) kafka.Config {
	t.Helper()
	addr := os.Getenv(scratchKafka)
	if addr == "" {
		return kafkatest.Start(t, partitions)
	}
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Partitions = []string{addr}, partitions
	cl := kafkatest.Client(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	adm := kadm.NewClient(cl)
	var names []string
	for _, s := range topic.All() {
		names = append(names, s.Name)
	}
	// A static member of the last test holds its group until its session ends.
	eventually(t, "group gone", func() error {
		r, err := adm.DeleteGroups(ctx, DefaultConfig().GroupID)
		if err == nil && !errors.Is(r.Error(), kerr.GroupIDNotFound) {
			err = r.Error()
		}
		return err
	})
	if _, err := adm.DeleteTopics(ctx, names...); err != nil {
		t.Fatalf("delete topics: %v", err)
	}
	eventually(t, "topics made anew", func() error { return kafka.EnsureTopics(ctx, cl, cfg, topic.All()...) })
	return cfg
}

// router is a Service under test.
type router struct {
	*Service
	url    string
	deps   service.Deps
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Run, once done is closed
}

// stop drains the service; the error is Run's.
func (r *router) stop() error {
	r.cancel()
	<-r.done
	return r.err
}

func configFor(t testing.TB, dir string) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.DataDir = dir
	cfg.SessionTimeout = 2 * time.Second
	cfg.Incidents = Incidents{} // most tests want every alert told at once
	cfg.EgressAllow, cfg.LiveURL = []string{"127.0.0.1"}, ""
	return cfg
}

type option func(*Config, *service.Deps)

// start runs a service without waiting until it is ready.
func start(t testing.TB, k kafka.Config, cfg Config, opts ...option) *router {
	t.Helper()
	deps := service.Nop()
	deps.Kafka = k
	if os.Getenv("TOCSIN_TEST_LOG") != "" {
		deps.Log, _ = zap.NewDevelopment()
	}
	for _, o := range opts {
		o(&cfg, &deps)
	}
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &router{Service: s, url: "http://" + s.Addr(), deps: deps, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.Run(ctx)
	}()
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// run is start that waits until the service is ready.
func run(t testing.TB, k kafka.Config, cfg Config, opts ...option) *router {
	t.Helper()
	r := start(t, k, cfg, opts...)
	eventually(t, "ready", func() error {
		select {
		case <-r.done:
			t.Fatalf("Run ended: %v", r.err)
		default:
		}
		return r.Ready()
	})
	return r
}

// eventually asks until the answer is nil.
func eventually(t testing.TB, what string, ask func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// anomaly is a report of an episode of one machine.
func anomaly(equipment, cause string, started int64, phase eventv1.Phase, sev eventv1.Severity) *eventv1.Anomaly {
	episode := fmt.Sprintf("%s/%s/%d", equipment, cause, started)
	return &eventv1.Anomaly{
		AnomalyId: fmt.Sprintf("%s/%d/%d", episode, started, phase), EpisodeId: episode, EquipmentId: equipment, Cause: cause,
		Phase: phase, Severity: sev, Score: 0.99, Confidence: 0.9, StartedUs: started, ObservedUs: started + 5_000_000,
		GatewayId: "gw-1", Summary: equipment + " vibrates", Contributions: []*eventv1.Contribution{
			{Sensor: "vibration", Share: 0.8, Observed: 9.5, ExpectedLow: 1, ExpectedHigh: 3, Detector: "ewma"},
			{Sensor: "temperature", Share: 0.2, Observed: 90, ExpectedLow: 60, ExpectedHigh: 80, Detector: "limit"},
		},
	}
}

const (
	started = eventv1.Phase_PHASE_STARTED
	ongoing = eventv1.Phase_PHASE_ONGOING
	ended   = eventv1.Phase_PHASE_ENDED
	warning = eventv1.Severity_SEVERITY_WARNING
	crit    = eventv1.Severity_SEVERITY_CRITICAL
)

// producer writes to detect.anomalies.v1 as the stream-processor does.
type producer struct {
	t  testing.TB
	cl *kgo.Client
}

func newProducer(t testing.TB, k kafka.Config) *producer {
	t.Helper()
	return &producer{t: t, cl: kafkatest.Client(t, k)}
}

func (p *producer) records(rs ...*kgo.Record) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		p.t.Fatalf("produce: %v", err)
	}
}

func record(t testing.TB, a *eventv1.Anomaly) *kgo.Record {
	t.Helper()
	v, err := proto.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return &kgo.Record{Topic: topic.Anomalies, Key: []byte(a.GetEquipmentId()), Value: v, Headers: []kgo.RecordHeader{
		{Key: topic.HeaderType, Value: []byte(topic.TypeAnomaly)}, {Key: topic.HeaderID, Value: []byte(a.GetAnomalyId())},
	}}
}

func (p *producer) anomalies(as ...*eventv1.Anomaly) {
	p.t.Helper()
	rs := make([]*kgo.Record, len(as))
	for i, a := range as {
		rs[i] = record(p.t, a)
	}
	p.records(rs...)
}

// message is what a webhook gets: Alertmanager's payload, version 4.
type message struct {
	Version  string `json:"version"`
	GroupKey string `json:"groupKey"`
	Status   string `json:"status"`
	Receiver string `json:"receiver"`
	Alerts   []struct {
		Status       string            `json:"status"`
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
		StartsAt     time.Time         `json:"startsAt"`
		EndsAt       time.Time         `json:"endsAt"`
		GeneratorURL string            `json:"generatorURL"`
	} `json:"alerts"`
}

// hook is a webhook receiver.
type hook struct {
	*httptest.Server
	mu   sync.Mutex
	got  []message
	code int // answer; 0 means 200
}

func newHook(t testing.TB) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the sender was killed half-way
		}
		var m message
		if err := json.Unmarshal(body, &m); err != nil {
			t.Errorf("webhook body: %v", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.code != 0 {
			w.WriteHeader(h.code)
			return
		}
		h.got = append(h.got, m)
	}))
	t.Cleanup(h.Close)
	return h
}

// told lists "status alert_id severity" of every alert in every message, in order.
func (h *hook) told() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, m := range h.got {
		for _, a := range m.Alerts {
			out = append(out, a.Status+" "+a.Labels["alert_id"]+" "+a.Labels["severity"])
		}
	}
	return out
}

func (h *hook) messages() []message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]message(nil), h.got...)
}

func (h *hook) answer(code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.code = code
}

// routingTo is a routing file whose only receiver is the webhook; groups are flushed quickly.
func routingTo(t testing.TB, url string) string {
	t.Helper()
	return writeRouting(t, filepath.Join(t.TempDir(), "routing.yml"), fmt.Sprintf(`route:
  receiver: hook
  group_by: [equipment_id, cause]
  group_wait: 0s
  group_interval: 200ms
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs:
      - url: %s
        send_resolved: true
`, url))
}

func writeRouting(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// apiAlert is an alert as API v2 gives it.
type apiAlert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	Status      struct {
		State      string   `json:"state"`
		SilencedBy []string `json:"silencedBy"`
	} `json:"status"`
}

func (r *router) alerts(t testing.TB) ([]apiAlert, error) {
	t.Helper()
	var out []apiAlert
	return out, r.get("/api/v2/alerts", &out)
}

func (r *router) get(path string, into any) error {
	resp, err := http.Get(r.url + path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	if s, ok := into.(*string); ok {
		*s = string(body)
		return nil
	}
	return json.Unmarshal(body, into)
}

func (r *router) post(t testing.TB, path string, body any) (int, []byte) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(r.url+path, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, out
}

// events are the alert events of the log so far, in order, once there are at least n.
func events(t testing.TB, k kafka.Config, n int) []*eventv1.AlertEvent {
	t.Helper()
	var out []*eventv1.AlertEvent
	kafkatest.ConsumeUntil(t, k, topic.Alerts, patience, func(rs []*kgo.Record) bool {
		out = out[:0]
		for _, r := range rs {
			if topic.Type(r) != topic.TypeAlert {
				continue
			}
			var ev eventv1.AlertEvent
			if err := proto.Unmarshal(r.Value, &ev); err != nil {
				t.Fatal(err)
			}
			out = append(out, &ev)
		}
		return len(out) >= n
	})
	return out
}
