package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func TestReplayAlert(t *testing.T) {
	k := kafkatest.Start(t, 2)
	cfg := streamprocessor.DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	deps := service.Nop()
	deps.Kafka = k
	p, err := streamprocessor.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	var rs []*kgo.Record
	for i := range 420 {
		odd := float32(0)
		if i >= 400 {
			odd = 50
		}
		f := frame.New("pump-1", "gw", uint64(i+1), time.Date(2026, 3, 1, 6, 0, i, 0, time.UTC), []string{"flow", "heat"}, []float32{20 + float32(i*7919%1009)/1009, 60 + float32(i*104729%1013)/1013 + odd})
		rs = append(rs, &kgo.Record{Topic: topic.Frames, Key: []byte("pump-1"), Value: f.AppendTo(nil), Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}}})
	}
	if err := kafkatest.Client(t, k).ProduceSync(ctx, rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	id := ""
	kafkatest.ConsumeUntil(t, k, topic.Anomalies, time.Minute, func(rs []*kgo.Record) bool {
		for _, r := range rs {
			var a eventv1.Anomaly
			if topic.Is(r, topic.TypeAnomaly) && proto.Unmarshal(r.Value, &a) == nil {
				id = a.GetEpisodeId()
			}
		}
		return id != ""
	})
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	brokers := " --brokers " + strings.Join(k.Brokers, ",")
	run := func(args string) (int, string, string) {
		return tocsin(strings.Fields("replay-alert " + args + brokers)...)
	}

	code, out, errs := run(id)
	if code != launch.ExitOK || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	for _, want := range []string{id, "SCORE RECOMPUTED", "heat", "a page takes", "expected", "reports came out the same, bit by bit"} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q:\n%s", want, out)
		}
	}
	code, out, _ = run("http://127.0.0.1:8080/?alert_id=" + strings.ReplaceAll(id, "/", "%2F") + " --json --details")
	var res struct {
		Identical bool             `json:"identical"`
		Reports   []map[string]any `json:"reports"`
	}
	if err := json.Unmarshal([]byte(out), &res); err != nil || code != launch.ExitOK || !res.Identical || len(res.Reports) == 0 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	code, out, errs = run("pump-1/behaviour/17")
	if code != launch.ExitConfig || out != "" || !strings.Contains(errs, "cannot be replayed") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}

	// Somebody changes a bit of what stands in Kafka: the replay shows it.
	var last *kgo.Record
	for _, r := range kafkatest.ReadAll(t, k, topic.Anomalies) {
		if topic.Is(r, topic.TypeAnomaly) && strings.HasPrefix(topic.Header(r, topic.HeaderID), id) {
			last = r
		}
	}
	var a eventv1.Anomaly
	if err := proto.Unmarshal(last.Value, &a); err != nil {
		t.Fatal(err)
	}
	a.Phase, a.ObservedUs, a.JudgedAtMs = eventv1.Phase_PHASE_ONGOING, a.GetObservedUs()+5_000_000, a.GetJudgedAtMs()+1
	a.AnomalyId = fmt.Sprintf("%s/%d/ongoing", id, a.GetObservedUs())
	value, err := proto.Marshal(&a)
	if err != nil {
		t.Fatal(err)
	}
	forged := &kgo.Record{Topic: topic.Anomalies, Partition: last.Partition, Key: last.Key, Value: value, Headers: last.Headers}
	if err := kafkatest.Client(t, k, kgo.RecordPartitioner(kgo.ManualPartitioner())).ProduceSync(t.Context(), forged).FirstErr(); err != nil {
		t.Fatal(err)
	}
	code, out, errs = run(id)
	if code != launch.ExitFailed || !strings.Contains(out, "DIFFERENT: report recorded there, recomputed none") || !strings.Contains(errs, "does not come out") {
		t.Errorf("exit %d, %s\n%s", code, errs, out)
	}
	t.Log("\n" + out)
}
