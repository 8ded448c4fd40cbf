package ingestgateway_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

// refuseProduce makes the broker answer every produce request with err until the function returned is called. Nothing is written.
func refuseProduce(c *kfake.Cluster, err *kerr.Error) (restore func()) {
	var off atomic.Bool
	c.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		if off.Load() {
			return nil, nil, false
		}
		c.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range req.Topics {
			t := kmsg.NewProduceResponseTopic()
			t.Topic, t.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, err.Code
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
	return func() { off.Store(true) }
}

// holdProduce lets no produce request through until the function returned is called; arrivals says that one waits.
func holdProduce(t *testing.T, c *kfake.Cluster) (arrivals <-chan struct{}, release func()) {
	open, arrived := make(chan struct{}), make(chan struct{}, 100)
	var released atomic.Bool
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		if released.Load() {
			return nil, nil, false
		}
		c.KeepControl()
		c.SleepControl(func() {
			select {
			case arrived <- struct{}{}:
			default:
			}
			<-open
		})
		return nil, nil, false
	})
	release = func() {
		if released.CompareAndSwap(false, true) {
			close(open)
		}
	}
	t.Cleanup(release)
	return arrived, release
}

func shortTimeout(c *ingestgateway.Config) { c.Producer.Timeout = time.Second }

func TestNoAcknowledgementWhileKafkaRefuses(t *testing.T) {
	for _, fault := range []*kerr.Error{kerr.NotEnoughReplicas, kerr.NotLeaderForPartition, kerr.KafkaStorageError} {
		t.Run(fault.Message, func(t *testing.T) {
			g := start(t, shortTimeout)
			restore := refuseProduce(g.cluster, fault)
			raw := encode(t, goodFrame(1))
			for range 2 {
				a := g.post("/v1/frames", protobufType, raw)
				if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
					t.Fatalf("%d %v %s", a.status, a.header, a.body)
				}
			}
			resp, err := g.rpc.Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: frames(1)})
			if err != nil || resp.Results[0].Status != ingestv1.FrameStatus_FRAME_STATUS_RETRY || resp.Results[0].RetryAfterMs == 0 {
				t.Fatalf("%v %v", resp, err)
			}
			bulk := g.post("/v1/frames", delimitedType, delimited(raw, encode(t, goodFrame(2))))
			if bulk.status != http.StatusServiceUnavailable || len(bulk.problem(t).Results) != 2 {
				t.Fatalf("%d %s", bulk.status, bulk.body)
			}
			if g.svc.Ready() == nil {
				t.Error("ready although Kafka refuses")
			}
			restore()
			eventually(t, 10*time.Second, func() error {
				if a := g.post("/v1/frames", protobufType, raw); a.status != http.StatusOK {
					return fmt.Errorf("%d %s", a.status, a.body)
				}
				return nil
			})
			g.awaitReady()
			if rs := g.arrived(1); rs[1] == nil {
				t.Fatal("acknowledged and not in Kafka")
			}
		})
	}
}

func TestAnswerWaitsForKafka(t *testing.T) {
	g := start(t, nil)
	arrived, release := holdProduce(t, g.cluster)
	got := make(chan answer, 1)
	go func() {
		a, err := g.tryPost("/v1/frames", protobufType, bytes.NewReader(encode(t, goodFrame(1))))
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	<-arrived // the frame is at the broker, which has not said yes
	select {
	case a := <-got:
		t.Fatalf("answered %d before Kafka had it", a.status)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if a := <-got; a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if g.arrived(1)[1] == nil {
		t.Fatal("not in Kafka")
	}
}

func TestFullBudgetRefusesAtOnce(t *testing.T) {
	for name, change := range map[string]func(*ingestgateway.Config){
		"records": func(c *ingestgateway.Config) { c.Producer.MaxInFlightRecords = 10 },
		"bytes": func(c *ingestgateway.Config) {
			c.Frames.MaxFrameBytes = 200
			c.Producer.MaxInFlightBytes = 10 * int64(len(encode(t, goodFrame(1)))+len("press-1"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, change)
			arrived, release := holdProduce(t, g.cluster)
			bulk := make(chan answer, 1)
			var raw [][]byte
			for i := range 25 {
				raw = append(raw, encode(t, goodFrame(uint64(i+1))))
			}
			go func() {
				a, err := g.tryPost("/v1/frames", delimitedType, bytes.NewReader(delimited(raw...)))
				if err != nil {
					t.Error(err)
				}
				bulk <- a
			}()
			<-arrived
			// The budget is taken, possibly a moment after the first produce request: others are told at once.
			eventually(t, 5*time.Second, func() error {
				begin := time.Now()
				resp, err := g.rpc.Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: frames(100)})
				if err != nil {
					return err
				}
				if r := resp.Results[0]; r.Status != ingestv1.FrameStatus_FRAME_STATUS_RETRY || r.RetryAfterMs == 0 {
					return fmt.Errorf("%v", r)
				}
				if d := time.Since(begin); d > 2*time.Second {
					return fmt.Errorf("took %s", d)
				}
				return nil
			})
			a := g.post("/v1/frames", protobufType, raw[0])
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				t.Fatalf("%d %v", a.status, a.header)
			}
			release()
			rs := (<-bulk).results(t)
			taken := map[string]int{}
			for _, r := range rs {
				taken[r.Status]++
			}
			if taken["FRAME_STATUS_ACKNOWLEDGED"] != 10 || taken["FRAME_STATUS_RETRY"] != 15 {
				t.Fatalf("%v", taken)
			}
			g.arrived(10)
			// With room again it goes on.
			if a := g.post("/v1/frames", protobufType, raw[24]); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
		})
	}
}

func TestBrokerMissingAtStart(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	_ = ln.Close() // nobody listens there now; the broker will
	kcfg := kafka.DefaultConfig()
	kcfg.Brokers, kcfg.Partitions = []string{fmt.Sprintf("127.0.0.1:%d", port)}, 3
	g := startOn(t, kcfg, service.Nop(), shortTimeout)
	health := func() (int, string) {
		resp, err := g.client.Get("http://" + g.svc.HTTPAddr() + "/health/ready")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body)
		return resp.StatusCode, b.String()
	}
	if code, body := health(); code != http.StatusServiceUnavailable || !strings.Contains(body, "kafka") {
		t.Fatalf("%d %s", code, body)
	}
	if a := g.post("/v1/frames", protobufType, encode(t, goodFrame(1))); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := g.post("/v1/schemas", jsonType, []byte(`{"sensors":["a"]}`)); a.status != http.StatusServiceUnavailable {
		t.Fatalf("%d %s", a.status, a.body)
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g.awaitReady()
	if a := g.post("/v1/frames", protobufType, encode(t, goodFrame(1))); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if code, body := health(); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	g.arrived(1)
	g.stop() // before the broker goes
}

// Everything answered before the stop is in Kafka, the stream is told why it ends, and what was under way got its answer.
func TestDrain(t *testing.T) {
	g := start(t, nil)
	stream, err := g.rpc.PublishStream(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	idle, err := g.rpc.PublishStream(within(t, 30*time.Second)) // one that says nothing must not hold up the drain
	if err != nil {
		t.Fatal(err)
	}
	if err := idle.Send(&ingestv1.PublishStreamRequest{Frame: goodFrame(1_000_000)}); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Recv(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for i := uint64(1); stream.Send(&ingestv1.PublishStreamRequest{Frame: goodFrame(i)}) == nil; i++ {
			continue
		}
	}()
	acked := map[uint64]bool{}
	for {
		resp, err := stream.Recv()
		if err != nil {
			if st := status.Convert(err); st.Code() != codes.Unavailable || len(st.Details()) == 0 {
				t.Fatalf("the stream ended with %v %v", err, st.Details())
			}
			break
		}
		if resp.Result.Status == ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED {
			acked[resp.Result.Sequence] = true
		}
		if len(acked) == 500 {
			go g.stop()
		}
	}
	if _, err := idle.Recv(); status.Code(err) != codes.Unavailable {
		t.Fatalf("idle stream: %v", err)
	}
	g.stop()
	have := g.arrived(len(acked) + 1)
	for seq := range acked {
		if have[seq] == nil {
			t.Fatalf("sequence %d was acknowledged and is not in Kafka", seq)
		}
	}
	if _, err := g.tryPost("/v1/frames", protobufType, bytes.NewReader(nil)); err == nil {
		t.Fatal("still listening")
	}
}

func TestCloseWithoutRun(t *testing.T) {
	cfg := ingestgateway.DefaultConfig()
	cfg.HTTP.Listen, cfg.GRPC.Listen = "127.0.0.1:0", "127.0.0.1:0"
	deps := service.Nop()
	deps.Kafka = kafka.DefaultConfig()
	svc, err := ingestgateway.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	// A second one on the same port fails and leaves nothing behind.
	again := cfg
	again.GRPC.Listen = svc.GRPCAddr()
	other := service.Nop()
	other.Kafka = deps.Kafka
	if _, err := ingestgateway.New(again, other); err == nil {
		t.Fatal("two on one port")
	}
	if err := errors.Join(svc.Close(), svc.Close()); err != nil {
		t.Fatal(err)
	}
}

// A broker that takes the frame and does not answer: the sender is told to try again in time, everybody after it too, and all goes on
// when the broker does.
func TestSilentBroker(t *testing.T) {
	g := start(t, shortTimeout)
	arrived, release := holdProduce(t, g.cluster)
	raw := encode(t, goodFrame(1))
	begin := time.Now()
	a := g.post("/v1/frames", protobufType, raw)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || time.Since(begin) < 900*time.Millisecond || time.Since(begin) > 10*time.Second {
		t.Fatalf("%d after %s: %s", a.status, time.Since(begin), a.body)
	}
	<-arrived
	stream, err := g.rpc.PublishStream(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(2); i < 5; i++ {
		if err := stream.Send(&ingestv1.PublishStreamRequest{Frame: goodFrame(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := uint64(2); i < 5; i++ {
		if resp, err := stream.Recv(); err != nil || resp.Result.Sequence != i || resp.Result.Status != ingestv1.FrameStatus_FRAME_STATUS_RETRY {
			t.Fatalf("%v %v", resp, err)
		}
	}
	release()
	eventually(t, 20*time.Second, func() error {
		if a := g.post("/v1/frames", protobufType, raw); a.status != http.StatusOK {
			return fmt.Errorf("%d %s", a.status, a.body)
		}
		return nil
	})
	for _, i := range []uint64{2, 3, 4, 9} {
		if err := stream.Send(&ingestv1.PublishStreamRequest{Frame: goodFrame(i)}); err != nil {
			t.Fatal(err)
		}
		if resp, err := stream.Recv(); err != nil || resp.Result.Status != ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED {
			t.Fatalf("%v %v", resp, err)
		}
	}
}

// Machines lie in the partitions where every other Kafka client would put them: murmur2, with the values of Apache Kafka's own tests.
func TestPartitionIsKafkasDefault(t *testing.T) {
	g := start(t, nil)
	want := map[string]int32{}
	var raw [][]byte
	for id, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536} {
		f := goodFrame(uint64(len(raw) + 1))
		f.EquipmentId = id
		raw = append(raw, encode(t, f))
		want[id] = (hash & 0x7fffffff) % 3
	}
	g.post("/v1/frames", delimitedType, delimited(raw...)).results(t)
	for _, r := range g.arrived(3) {
		if r.Partition != want[string(r.Key)] {
			t.Errorf("%s lies in partition %d, want %d", r.Key, r.Partition, want[string(r.Key)])
		}
	}
}
