package ingestgateway_test

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

// takes sets how large a batch Kafka takes.
func takes(t *testing.T, k kafka.Config, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res, err := kadm.NewClient(kafkatest.Client(t, k)).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: kadm.StringPtr(strconv.Itoa(n))}}, topic.Frames)
	if err != nil || res[0].Err != nil {
		t.Fatal(err, res)
	}
}

// wide is a frame of some n bytes that does not compress well below that.
func wide(sequence uint64, n int) *eventv1.SensorFrame {
	f := goodFrame(sequence)
	samples := n / 6
	f.Sensors, f.Qualities = []string{"s"}, nil
	f.Values, f.TimeOffsetsUs = make([]float32, samples), make([]uint64, samples)
	x := uint32(sequence)*2654435761 + 1
	for i := range f.Values {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		f.Values[i], f.TimeOffsetsUs[i] = float32(x)/float32(1<<32), uint64(i)
	}
	return f
}

func (g *gateway) bulk(fs ...*eventv1.SensorFrame) []*ingestv1.FrameResult {
	g.t.Helper()
	var body bytes.Buffer
	for _, f := range fs {
		if _, err := protodelim.MarshalTo(&body, f); err != nil {
			g.t.Fatal(err)
		}
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+g.svc.HTTPAddr()+"/v1/frames", &body)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", protobufType+"; delimited=true")
	req.Header.Set("Accept", protobufType)
	resp, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	var out ingestv1.PublishResponse
	if resp.StatusCode == http.StatusServiceUnavailable {
		return nil // all of them: again
	}
	if err := proto.Unmarshal(b.Bytes(), &out); err != nil {
		g.t.Fatalf("%d %q: %v", resp.StatusCode, b.String(), err)
	}
	return out.Results
}

func slowBatches(c *ingestgateway.Config) { c.Producer.Linger = 100 * time.Millisecond }

// Kafka refuses a batch whole when it is larger than the topic allows, and blames every record in it. A frame is only at fault
// when it alone is too large.
func TestALargeBatchBlamesNobody(t *testing.T) {
	frames := func(from, n uint64, size int) (fs []*eventv1.SensorFrame) {
		for i := range n {
			fs = append(fs, wide(from+i, size))
		}
		return fs
	}
	acknowledged := func(t *testing.T, g *gateway, fs []*eventv1.SensorFrame) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for len(fs) > 0 {
			if time.Now().After(deadline) {
				t.Fatalf("%d frames are not taken", len(fs))
			}
			results := g.bulk(fs...)
			var again []*eventv1.SensorFrame
			for i, r := range results {
				switch r.Status {
				case ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED:
				case ingestv1.FrameStatus_FRAME_STATUS_RETRY:
					again = append(again, fs[i])
				default:
					t.Fatalf("frame %d: %v %s %s", r.Sequence, r.Status, r.Field, r.Reason)
				}
			}
			if results == nil {
				again = fs
			}
			fs = again
		}
	}
	t.Run("from the start", func(t *testing.T) {
		k := kafkatest.Start(t, 1)
		takes(t, k, 20_000)
		g := startOn(t, k, service.Nop(), slowBatches)
		g.awaitReady()
		for i, r := range g.bulk(frames(1, 100, 2000)...) {
			if r.Status != ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED {
				t.Fatalf("frame %d: %v %s", i, r.Status, r.Reason)
			}
		}
		g.arrived(100)
		// One that is too large is told so, alone.
		fs := frames(101, 10, 2000)
		fs[4] = wide(105, 60_000)
		for i, r := range g.bulk(fs...) {
			want := ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED
			if i == 4 {
				want = ingestv1.FrameStatus_FRAME_STATUS_INVALID
			}
			if r.Status != want {
				t.Errorf("frame %d: %v %s", i, r.Status, r.Reason)
			}
		}
		g.arrived(109)
	})
	t.Run("lowered and raised while it runs", func(t *testing.T) {
		k := kafkatest.Start(t, 1)
		g := startOn(t, k, service.Nop(), slowBatches)
		g.awaitReady()
		acknowledged(t, g, frames(1, 100, 2000))
		takes(t, k, 20_000)
		acknowledged(t, g, frames(101, 100, 2000))
		takes(t, k, 5_000)
		acknowledged(t, g, frames(201, 100, 2000))
	})
}
