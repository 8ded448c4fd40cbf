package follow

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

type run struct {
	hub  *hub.Hub
	f    *Follower
	flow *Flow
	set  *metrics.Set
	logs *observer.ObservedLogs
}

func follow(t *testing.T, k kafka.Config, lookBack time.Duration) *run {
	t.Helper()
	core, logs := observer.New(zapcore.WarnLevel)
	r := &run{hub: hub.New(hub.DefaultLimits()), set: metrics.NewSet(), logs: logs}
	r.flow = NewFlow(r.set)
	r.f = New(Config{Kafka: k, LookBack: lookBack}, r.hub, r.flow, zap.New(core), r.set)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.f.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not %s after %s", what, patience)
		case <-tick.C:
		}
	}
}

func open(h *hub.Hub, id string) int {
	_, n := h.Alerts(hub.AlertQuery{EquipmentID: id})
	return n
}

func record(t *testing.T, name, key, typ string, m proto.Message) *kgo.Record {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &kgo.Record{Topic: name, Key: []byte(key), Value: b, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(typ)}}}
}

func window(t *testing.T, id string, start int64) *kgo.Record {
	return record(t, topic.Windows, id, topic.TypeWindow, &eventv1.Window{EquipmentId: id, StartUs: start, EndUs: start + 5})
}

func alert(t *testing.T, id string, tr eventv1.AlertTransition) *kgo.Record {
	return record(t, topic.Alerts, id, topic.TypeAlert, &eventv1.AlertEvent{
		AlertId: id + "/limit/1", EquipmentId: id, Transition: tr, Severity: eventv1.Severity_SEVERITY_CRITICAL, AtMs: int64(tr),
	})
}

func produce(t *testing.T, cl *kgo.Client, recs ...*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func TestEmptyLogIsReady(t *testing.T) {
	r := follow(t, kafkatest.Start(t, 3), time.Minute)
	eventually(t, "ready", func() bool { return r.f.Ready() == nil })
	if s := r.flow.Summary(time.Now()); !s.CaughtUp || s.DelayMS != -1 {
		t.Errorf("%+v", s)
	}
}

// What was written in transactions counts once it is committed, never when it is aborted; and a log that ends with
// a transaction's marker is known to have been read to its end.
func TestCommittedOnly(t *testing.T) {
	k := kafkatest.Start(t, 3)
	tx := kafkatest.Client(t, k, kgo.TransactionalID("processor"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for m := range 10 {
			produce(t, tx, window(t, fmt.Sprintf("m%d-%d", i, m), 5))
		}
		if err := tx.EndTransaction(ctx, commit); err != nil {
			t.Fatal(err)
		}
	}
	r := follow(t, k, time.Hour)
	eventually(t, "ready", func() bool { return r.f.Ready() == nil })
	if c := r.hub.Counts(nil); c.Machines != 20 {
		t.Errorf("%d machines, want 20", c.Machines)
	}
	if _, _, ok := r.hub.Machine("m1-0"); ok {
		t.Error("an aborted window counts")
	}
}

// Windows are read from the look-back on, alerts and coverage from the beginning: an alert that opened long ago is known.
func TestLookBack(t *testing.T) {
	k := kafkatest.Start(t, 3)
	cl := kafkatest.Client(t, k)
	produce(t, cl, window(t, "old", 5), alert(t, "forgotten", eventv1.AlertTransition_ALERT_TRANSITION_OPENED),
		record(t, topic.Coverage, "still", topic.TypeCoverage, &eventv1.MachineCoverage{EquipmentId: "still", AtMs: 1}))
	// The broker's clock is the wall's: the look-back of the test is made to fall between.
	old := time.Now()
	eventually(t, "later", func() bool { return time.Since(old) > 300*time.Millisecond })
	produce(t, cl, window(t, "new", 5))
	r := follow(t, k, 100*time.Millisecond)
	eventually(t, "ready", func() bool { return r.f.Ready() == nil })
	if _, _, ok := r.hub.Machine("old"); ok {
		t.Error("a window before the look-back was read")
	}
	if _, _, ok := r.hub.Machine("new"); !ok {
		t.Error("a window within the look-back was not read")
	}
	if _, ok := r.hub.Coverage("still"); !ok {
		t.Error("coverage that has not changed since before the look-back is not known")
	}
	if open(r.hub, "forgotten") != 1 {
		t.Error("an alert that is open since before the look-back is not known")
	}
	produce(t, cl, window(t, "live", 5), alert(t, "forgotten", eventv1.AlertTransition_ALERT_TRANSITION_CLOSED))
	eventually(t, "live", func() bool {
		_, _, ok := r.hub.Machine("live")
		return ok && open(r.hub, "forgotten") == 0
	})
}

func TestBadRecordsArePassedOver(t *testing.T) {
	k := kafkatest.Start(t, 1)
	cl := kafkatest.Client(t, k)
	r := follow(t, k, time.Hour)
	eventually(t, "ready", func() bool { return r.f.Ready() == nil })
	for _, name := range []string{topic.Windows, topic.Anomalies, topic.Alerts} {
		for range 3 {
			produce(t, cl, &kgo.Record{Topic: name, Key: []byte("m"), Value: []byte{0xff, 0xff}}, &kgo.Record{Topic: name, Key: []byte("m")})
		}
		produce(t, cl, &kgo.Record{Topic: name, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}})
	}
	produce(t, cl, window(t, "good", 5))
	eventually(t, "applied", func() bool { _, _, ok := r.hub.Machine("good"); return ok })
	for _, name := range []string{topic.Windows, topic.Anomalies, topic.Alerts} {
		for kind, want := range map[string]uint64{"undecodable": 3, "invalid": 3, "tick": 1} {
			c := r.set.GetOrCreateCounter(fmt.Sprintf(`tocsin_api_records_total{topic=%q,result=%q}`, name, kind))
			eventually(t, kind+" counted in "+name, func() bool { return c.Get() == want })
		}
	}
	if n := r.logs.FilterMessageSnippet("passed over").Len(); n != 6 {
		t.Errorf("logged %d times, want once per topic and kind: 6", n)
	}
	if s := r.flow.Summary(time.Now()); s.LogTimeMS == 0 || s.WindowsPerSecond == 0 || s.DelayMS < 0 {
		t.Errorf("%+v", s)
	}
}

// What is given back to a consumer that had refused it has been shown already.
func TestRecordsForOthersArePassedOver(t *testing.T) {
	k := kafkatest.Start(t, 1)
	mine, other := window(t, "mine", 5), window(t, "other", 5)
	other.Headers = append(other.Headers, kgo.RecordHeader{Key: dlq.HeaderFor, Value: []byte(dlq.Writer)})
	produce(t, kafkatest.Client(t, k), other, mine)
	r := follow(t, k, time.Hour)
	eventually(t, "ready", func() bool { return r.f.Ready() == nil })
	if _, _, ok := r.hub.Machine("other"); ok || r.hub.Counts(nil).Machines != 1 {
		t.Errorf("%+v", r.hub.Counts(nil))
	}
	if n := r.set.GetOrCreateCounter(`tocsin_api_records_total{topic="` + topic.Windows + `",result="for_another_consumer"}`).Get(); n != 1 {
		t.Errorf("counted %d", n)
	}
}

func TestWaitsForBrokers(t *testing.T) {
	k := kafka.DefaultConfig()
	k.Brokers = []string{"127.0.0.1:1"}
	r := follow(t, k, time.Hour)
	if err := r.f.Ready(); err == nil || strings.TrimSpace(err.Error()) == "" {
		t.Errorf("ready without brokers: %v", err)
	}
}
