package ingestgateway_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/ingestclient"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

// A sender with a thousand frames of a machine under way, to a gateway that refuses many of them for rate, for budget and because Kafka
// does, finds each machine's frames in Kafka in the order of its Send calls. What came twice came later again.
func TestOrderOfAMachineSurvivesRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ingestgateway.Config)
		kafka  *kerr.Error
	}{
		{"rate", func(c *ingestgateway.Config) { c.RateLimit.FramesPerSecond, c.RateLimit.BurstSeconds = 2000, 0.01 }, nil},
		{"budget", func(c *ingestgateway.Config) { c.Producer.MaxInFlightRecords = 50 }, nil},
		{"budget and a broker that hesitates", func(c *ingestgateway.Config) { c.Producer.MaxInFlightRecords = 40 }, kerr.NotLeaderForPartition},
		{"Kafka refuses for good", nil, kerr.UnknownServerError},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, c.change)
			if c.kafka != nil {
				n := 0
				faults := g.cluster.Fault(kfake.Fault{
					Keys: []kmsg.Key{kmsg.Produce}, Topic: topic.Frames, Err: c.kafka, Count: 3,
					When: func(kmsg.Request) bool { n++; return n%4 == 1 }, // on the broker's own goroutine
				})
				defer faults.Remove()
			}
			retried := uint64(0)
			for run, url := range []string{"http://" + g.svc.HTTPAddr(), "grpc://" + g.svc.GRPCAddr()} {
				rng := rand.New(rand.NewPCG(uint64(run), 7))
				client, err := ingestclient.New(ingestclient.Config{
					URL: url, MaxInFlightPerMachine: 1000, Linger: -1, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
					Lanes: 1 + rng.IntN(2), MaxBatchFrames: 20 + rng.IntN(80),
					OnReject: func(r ingestclient.Rejection) { t.Errorf("rejected: %+v", r) },
				})
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				ctx := within(t, 30*time.Second)
				for n := range 120 {
					for m := range 3 {
						if err := client.Send(ctx, onMachine(fmt.Sprintf("run-%d.%d", run, m), uint64(n+1))); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := client.Flush(ctx); err != nil {
					t.Fatal(err, client.Stats())
				}
				retried += client.Stats().Retried
			}
			if retried == 0 {
				t.Fatal("nothing was refused: the test shows nothing")
			}
			inOrder(t, g)
			t.Logf("%d frames were sent again", retried)
		})
	}
}

// inOrder reads all of Kafka and checks each machine: its sequences begin at 1, and none comes before all below it have.
func inOrder(t *testing.T, g *gateway) {
	t.Helper()
	inOrderFrom(t, g, map[string]uint64{})
}

func inOrderFrom(t *testing.T, g *gateway, next map[string]uint64) {
	t.Helper()
	for _, r := range kafkatest.ReadAll(t, g.kafka, topic.Frames) {
		var f eventv1.SensorFrame
		if err := proto.Unmarshal(r.Value, &f); err != nil {
			t.Fatal(err)
		}
		if next[f.EquipmentId] == 0 {
			next[f.EquipmentId] = 1
		}
		if f.Sequence > next[f.EquipmentId] {
			t.Errorf("%s: %d stands in Kafka before %d", f.EquipmentId, f.Sequence, next[f.EquipmentId])
		}
		next[f.EquipmentId] = max(next[f.EquipmentId], f.Sequence+1)
	}
}

// exchange sends the frames on the stream, and gives the outcomes in their order.
func exchange(t *testing.T, stream ingestv1.IngestService_PublishStreamClient, fs ...*eventv1.SensorFrame) (got []string) {
	t.Helper()
	for _, f := range fs {
		if err := stream.Send(&ingestv1.PublishStreamRequest{Frame: f}); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range fs {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		r := resp.Result
		if r.Sequence != f.Sequence || r.EquipmentId != f.EquipmentId {
			t.Fatalf("%v answers %v", r, f)
		}
		if again := r.Status == ingestv1.FrameStatus_FRAME_STATUS_RETRY; again != (r.RetryAfterMs > 0) {
			t.Fatalf("%v", r)
		}
		got = append(got, fmt.Sprintf("%d %s", r.Sequence, r.Status.String()[len("FRAME_STATUS_"):]))
	}
	return got
}

func onMachine(name string, sequence uint64) *eventv1.SensorFrame {
	f := goodFrame(sequence)
	f.EquipmentId = name
	return f
}

// After Kafka lost a frame, its machine waits on this stream until that frame is there again. Others go on.
func TestStreamHoldsBackWhatFollowsALostFrame(t *testing.T) {
	g := start(t, nil)
	stream, err := g.rpc.PublishStream(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	step := func(want string, fs ...*eventv1.SensorFrame) {
		t.Helper()
		if got := fmt.Sprint(exchange(t, stream, fs...)); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	step("[1 ACKNOWLEDGED]", goodFrame(1))
	g.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownServerError})
	step("[2 RETRY]", goodFrame(2))
	step("[3 RETRY 4 RETRY]", goodFrame(3), goodFrame(4))
	step("[9 ACKNOWLEDGED]", onMachine("press-2", 9))
	step("[2 ACKNOWLEDGED]", goodFrame(2))
	step("[5 RETRY]", goodFrame(5)) // 3 and 4 were refused, too, and are not there yet
	step("[3 ACKNOWLEDGED 4 ACKNOWLEDGED 5 ACKNOWLEDGED 6 ACKNOWLEDGED]", goodFrame(3), goodFrame(4), goodFrame(5), goodFrame(6))
	inOrderFrom(t, g, map[string]uint64{"press-1": 1, "press-2": 9})
}

// In one request the machine stays refused to the end, in a bulk as in a call.
func TestRequestHoldsBackWhatFollowsARefusedFrame(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) {
		c.Producer.MaxInFlightRecords, c.Producer.Linger = 1, 200*time.Millisecond
	})
	for _, send := range []func(fs []*eventv1.SensorFrame) []string{
		func(fs []*eventv1.SensorFrame) (out []string) {
			resp, err := g.rpc.Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: fs})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range resp.Results {
				out = append(out, r.Status.String())
			}
			return out
		},
		func(fs []*eventv1.SensorFrame) (out []string) {
			var raw [][]byte
			for _, f := range fs {
				raw = append(raw, encode(t, f))
			}
			for _, r := range g.post("/v1/frames", delimitedType, delimited(raw...)).results(t) {
				out = append(out, r.Status)
			}
			return out
		},
	} {
		got := fmt.Sprint(send([]*eventv1.SensorFrame{goodFrame(1), onMachine("press-2", 1), onMachine("press-2", 2)}))
		if got != "[FRAME_STATUS_ACKNOWLEDGED FRAME_STATUS_RETRY FRAME_STATUS_RETRY]" {
			t.Fatal(got)
		}
	}
}
