package modeltrainer

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// What stream-processors counted before and after the trainer's start, and what people said, is in the answer; a restart changes nothing.
func TestComparison(t *testing.T) {
	k := kafkatest.Start(t, 2)
	cl := kafkatest.Client(t, k, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	now := time.Now()
	write := func(name, typ string, partition int32, m proto.Message) {
		t.Helper()
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: name, Partition: partition, Value: b, Headers: []kgo.RecordHeader{
			{Key: topic.HeaderType, Value: []byte(typ)}, {Key: topic.HeaderScoreTook, Value: []byte("champion=1µs shadow=2µs ")},
		}}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	count := func(partition int32, machine string) {
		us := now.Add(-time.Minute).UnixMicro()
		write(topic.Comparisons, topic.TypeComparison, partition, &eventv1.ModelComparison{
			Champion: "pump@aaaaaaaaaaaa", Shadow: "pump@bbbbbbbbbbbb", Partition: partition, UntilMs: now.UnixMilli(), Neither: 1_000, MachineUs: 5e9,
			Pages: []*eventv1.ModelPage{{EquipmentId: machine, ShadowFirstUs: us, ShadowLastUs: us, ShadowSurprise: 14}},
		})
	}
	count(0, "p/1")
	dir := t.TempDir()
	f := startOn(t, dir, k, nil)
	windows := func(n float64) map[string]any {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; {
			status, answer := f.do("GET", "/v1/comparison?model=pump", "")
			if pairs, _ := answer["pairs"].([]any); status == http.StatusOK && len(pairs) == 1 {
				if p, _ := pairs[0].(map[string]any); p["windows"] == n {
					return p
				}
			}
			if time.Now().After(deadline) {
				t.Fatal(status, answer)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	windows(1_000)
	write(topic.Alerts, topic.TypeAlert, 1, &eventv1.AlertEvent{
		AlertId: "x", EquipmentId: "p/1", Cause: "behaviour", Transition: eventv1.AlertTransition_ALERT_TRANSITION_VERDICT, Verdict: eventv1.AlertVerdict_ALERT_VERDICT_REAL,
		StartedUs: now.Add(-time.Minute).UnixMicro(),
	})
	count(1, "p2")
	windows(2_000)
	f.stop()
	f = startOn(t, dir, k, nil)
	p := windows(2_000)
	shadow, _ := p["shadow"].(map[string]any)
	alone, _ := shadow["only"].([]any)
	if shadow["precision"] != 1.0 || shadow["pages"] != 2.0 || shadow["score_took"] != "2µs" || len(alone) != 2 || p["advice"] == "" {
		t.Fatal(p)
	}
	if first, _ := alone[0].(map[string]any); !strings.Contains(first["link"].(string), "#/machine/p") || strings.Contains(first["link"].(string), "p/1") {
		t.Error(first)
	}
	for query, field := range map[string]string{"model=../x": "model", "from=yesterday": "from", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z": "from"} {
		if status, answer := f.do("GET", "/v1/comparison?"+query, ""); status != http.StatusBadRequest || answer["field"] != field {
			t.Error(query, status, answer)
		}
	}
}

func TestComparisonWithoutKafka(t *testing.T) {
	f := start(t, t.TempDir(), nil)
	if status, answer := f.do("GET", "/v1/comparison", ""); status != http.StatusServiceUnavailable || !strings.Contains(answer["detail"].(string), "Kafka") {
		t.Error(status, answer)
	}
}
