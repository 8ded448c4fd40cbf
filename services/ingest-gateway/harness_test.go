package ingestgateway_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway is a running service with an embedded broker behind it, spoken to only through its listeners.
type gateway struct {
	t       *testing.T
	svc     *ingestgateway.Service
	cluster *kfake.Cluster
	kafka   kafka.Config
	client  *http.Client
	rpc     ingestv1.IngestServiceClient
	conn    *grpc.ClientConn
	stop    func()
}

func start(t *testing.T, change func(*ingestgateway.Config)) *gateway {
	t.Helper()
	cluster, kcfg := kafkatest.StartCluster(t, 3)
	g := startOn(t, kcfg, service.Nop(), change)
	g.cluster = cluster
	g.awaitReady()
	return g
}

func startOn(t *testing.T, kcfg kafka.Config, deps service.Deps, change func(*ingestgateway.Config)) *gateway {
	t.Helper()
	deps.Kafka = kcfg
	cfg := ingestgateway.DefaultConfig()
	cfg.HTTP.Listen, cfg.GRPC.Listen = "127.0.0.1:0", "127.0.0.1:0"
	if change != nil {
		change(&cfg)
	}
	svc, err := ingestgateway.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	conn, err := grpc.NewClient(svc.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{
		t: t, svc: svc, kafka: kcfg, conn: conn, rpc: ingestv1.NewIngestServiceClient(conn),
		client: newClient(),
	}
	stopped := false
	g.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the service does not stop")
		}
	}
	t.Cleanup(func() {
		g.stop()
		_ = conn.Close()
		g.client.CloseIdleConnections()
	})
	return g
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: 30 * time.Second}
}

func (g *gateway) awaitReady() {
	g.t.Helper()
	eventually(g.t, 15*time.Second, g.svc.Ready)
}

// eventually waits for f to be content.
func eventually(t testing.TB, within time.Duration, f func() error) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %s: %v", within, err)
		}
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// goodFrame is valid; the sequence makes it another one.
func goodFrame(sequence uint64) *eventv1.SensorFrame {
	return &eventv1.SensorFrame{
		EquipmentId: "press-1", GatewayId: "gw-1", Sequence: sequence, BaseTimeUs: time.Now().UnixMicro(),
		Sensors: []string{"temp", "flow"}, Values: []float32{20.5, 3},
	}
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func delimited(frames ...[]byte) []byte {
	var b []byte
	for _, f := range frames {
		b = append(binary.AppendUvarint(b, uint64(len(f))), f...)
	}
	return b
}

const (
	protobufType  = "application/x-protobuf"
	delimitedType = "application/x-protobuf; delimited=true"
	jsonType      = "application/json"
	ndjsonType    = "application/x-ndjson"
)

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

type problem struct {
	Type, Title, Detail, Field, Reason string
	Status                             int
	Results                            []result
}

type result struct {
	Status, Field, Reason string
	Sequence              string
	EquipmentID           string `json:"equipment_id"`
	RetryAfterMs          int    `json:"retry_after_ms"`
}

func (a answer) problem(t *testing.T) problem {
	t.Helper()
	var p problem
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("Content-Type %q of status %d: %s", ct, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if p.Status != a.status {
		t.Fatalf("problem says %d, status is %d", p.Status, a.status)
	}
	return p
}

func (a answer) results(t *testing.T) []result {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	var p struct{ Results []result }
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return p.Results
}

func (g *gateway) post(path, contentType string, body []byte, headers ...string) answer {
	g.t.Helper()
	a, err := g.tryPost(path, contentType, bytes.NewReader(body), headers...)
	if err != nil {
		g.t.Fatal(err)
	}
	return a
}

func (g *gateway) tryPost(path, contentType string, body io.Reader, headers ...string) (answer, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+g.svc.HTTPAddr()+path, body)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	return answer{resp.StatusCode, resp.Header, b}, nil
}

// arrived gives the sequences of the frames that are in Kafka once n are, and fails on more than n when they are already there.
func (g *gateway) arrived(n int) map[uint64]*kgo.Record {
	g.t.Helper()
	out := map[uint64]*kgo.Record{}
	if n == 0 {
		return out
	}
	for _, r := range kafkatest.Consume(g.t, g.kafka, topic.Frames, n, 15*time.Second) {
		var f eventv1.SensorFrame
		if err := proto.Unmarshal(r.Value, &f); err != nil {
			g.t.Fatalf("in Kafka: %v", err)
		}
		if string(r.Key) != f.EquipmentId || topic.Type(r) != topic.TypeFrame ||
			topic.Header(r, topic.HeaderID) != fmt.Sprintf("%s/%s/%d", f.GatewayId, f.EquipmentId, f.Sequence) || topic.Received(r) == 0 {
			g.t.Fatalf("record with key %q and headers %v for %v", r.Key, r.Headers, &f)
		}
		if out[f.Sequence] != nil {
			g.t.Fatalf("sequence %d stands in Kafka twice", f.Sequence)
		}
		out[f.Sequence] = r
	}
	return out
}
