package backlog

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReport(t *testing.T) {
	cfg := kafkatest.Start(t, 3)
	cl := kafkatest.Client(t, cfg)
	write := func(name, key string, n int) {
		for range n {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: name, Key: []byte(key), Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(topic.Frames, "a", 5)
	write(topic.DLQ(topic.Frames), "a", 2)
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "somebody.elses"); err != nil {
		t.Fatal(err)
	}
	write("somebody.elses", "a", 1)
	commit := kadm.Offsets{}
	commit.AddOffset("somebody.elses", 0, 0, -1)
	ends, err := adm.ListEndOffsets(t.Context(), topic.Frames)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { commit.AddOffset(o.Topic, o.Partition, max(o.Offset-4, 0), -1) })
	if err := adm.CommitAllOffsets(t.Context(), "judges", commit); err != nil {
		t.Fatal(err)
	}

	set := metrics.NewSet()
	w := New(cfg, zaptest.NewLogger(t), set)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	deadline, tick := time.After(2*time.Minute), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for w.Report().At.IsZero() {
		select {
		case <-deadline:
			t.Fatal("no report in two minutes")
		case <-tick.C:
		}
	}
	r := w.Report()
	if want := []Lag{{Group: "judges", Topic: topic.Frames, Records: 4}}; !slices.Equal(r.Lags, want) {
		t.Errorf("lags %+v, want %+v", r.Lags, want)
	}
	if i := slices.IndexFunc(r.Letters, func(l Letters) bool { return l.Topic == topic.DLQ(topic.Frames) }); i < 0 || r.Letters[i].Records != 2 {
		t.Errorf("letters %+v", r.Letters)
	}
	var text bytes.Buffer
	set.WritePrometheus(&text)
	for _, want := range []string{
		`tocsin_kafka_lag_records{group="judges",topic="telemetry.frames.v1"} 4`,
		`tocsin_kafka_dead_letters{topic="telemetry.frames.v1.dlq"} 2`,
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, &text)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
