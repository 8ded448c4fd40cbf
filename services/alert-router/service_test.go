package alertrouter

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// An anomaly becomes one alert in the API, one firing and one resolved message at the webhook.
func TestAnomalyToAlertToWebhook(t *testing.T) {
	k := broker(t, 3)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	p := newProducer(t, k)

	p.anomalies(anomaly("press-1", "behaviour", 1_000_000, started, crit))
	eventually(t, "alert in the API", func() error {
		as, err := r.alerts(t)
		if err != nil {
			return err
		}
		if len(as) != 1 || as[0].Labels["alert_id"] != "press-1/behaviour/1000000" || as[0].Labels["severity"] != "critical" {
			return fmt.Errorf("alerts: %+v", as)
		}
		return nil
	})
	want := []string{"firing press-1/behaviour/1000000 critical"}
	eventually(t, "firing at the webhook", func() error { return same(h.told(), want) })

	p.anomalies(
		anomaly("press-1", "behaviour", 1_000_000, ongoing, crit),
		anomaly("press-1", "behaviour", 1_000_000, ended, crit))
	want = append(want, "resolved press-1/behaviour/1000000 critical")
	eventually(t, "resolved at the webhook", func() error { return same(h.told(), want) })
	eventually(t, "no alert in the API", func() error {
		as, err := r.alerts(t)
		if err == nil && len(as) != 0 {
			err = fmt.Errorf("alerts: %+v", as)
		}
		return err
	})
	if err := r.stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if err := same(h.told(), want); err != nil {
		t.Fatal(err)
	}
}

func same(got, want []string) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

func TestEscalationAndRepeats(t *testing.T) {
	k := broker(t, 2)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	p := newProducer(t, k)

	p.anomalies(
		anomaly("pump-7", "limit", 5, started, warning),
		anomaly("pump-7", "limit", 5, started, warning),
		anomaly("pump-9", "limit", 5, ended, warning), // of an unknown episode
	)
	want := []string{"firing pump-7/limit/5 warning"}
	eventually(t, "warning", func() error { return same(h.told(), want) })
	p.anomalies(anomaly("pump-7", "limit", 5, ongoing, crit), anomaly("pump-7", "limit", 5, ongoing, crit))
	eventually(t, "one critical alert in the API", func() error {
		as, err := r.alerts(t)
		if err == nil && (len(as) != 1 || as[0].Labels["severity"] != "critical") {
			err = fmt.Errorf("%+v", as)
		}
		return err
	})
	// Both have the same group here: one message tells that the warning has given way to the critical alert.
	eventually(t, "escalation at the webhook", func() error {
		told := h.told()
		slices.Sort(told[1:])
		return same(told, append(slices.Clone(want), "firing pump-7/limit/5 critical", "resolved pump-7/limit/5 warning"))
	})
	p.anomalies(anomaly("pump-7", "limit", 5, ended, warning), anomaly("pump-7", "limit", 5, ended, warning), anomaly("pump-7", "limit", 5, ongoing, crit))
	eventually(t, "resolved at the webhook", func() error {
		told := h.told()
		if len(told) == 0 {
			return fmt.Errorf("nothing told")
		}
		return same(told[len(told)-1:], []string{"resolved pump-7/limit/5 critical"})
	})
	// A marker behind everything: once it has come, nothing else can.
	p.anomalies(anomaly("pump-7", "clock", 1, started, warning))
	var ids []string
	for _, ev := range events(t, k, 4) {
		ids = append(ids, ev.GetEventId())
	}
	if err := same(ids, []string{"pump-7/limit/5/opened", "pump-7/limit/5/escalated-critical", "pump-7/limit/5/closed", "pump-7/clock/1/opened"}); err != nil {
		t.Error(err)
	}
}

// After a clean restart an open alert stands and is not paged again; its end is told.
func TestRestartWithOpenAlerts(t *testing.T) {
	k := broker(t, 3)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	p := newProducer(t, k)
	p.anomalies(anomaly("m-1", "limit", 1, started, crit), anomaly("m-2", "limit", 1, started, crit))
	eventually(t, "two pages", func() error { return count(h.told(), "firing", 2) })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	p.anomalies(anomaly("m-3", "limit", 1, started, crit)) // while nobody listens

	r = run(t, k, cfg)
	eventually(t, "the alerts stand", func() error {
		as, err := r.alerts(t)
		if err == nil && len(as) != 3 {
			err = fmt.Errorf("%d alerts", len(as))
		}
		return err
	})
	eventually(t, "the new one is paged", func() error { return count(h.told(), "firing", 3) })
	p.anomalies(anomaly("m-1", "limit", 1, ongoing, crit), anomaly("m-1", "limit", 1, ended, crit))
	eventually(t, "the end is told", func() error { return count(h.told(), "resolved m-1/limit/1", 1) })
	if err := count(h.told(), "firing", 3); err != nil {
		t.Error(err)
	}
	if n := len(events(t, k, 4)); n != 4 {
		t.Errorf("%d events, want 3 opened and 1 closed", n)
	}
}

// A crash forgets nothing that was told: the data directory as kill -9 leaves it is enough not to page twice.
func TestCrashDoesNotPageTwice(t *testing.T) {
	k := broker(t, 1)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	p := newProducer(t, k)
	p.anomalies(anomaly("m-1", "limit", 1, started, crit))
	eventually(t, "the page", func() error { return count(h.told(), "firing m-1", 1) })
	status, body := r.post(t, "/api/v2/silences", silence("m-2"))
	if status != 200 {
		t.Fatalf("silence: %d %s", status, body)
	}
	// The webhook has answered; that it did is noted a moment later.
	crashed := t.TempDir()
	eventually(t, "notification noted on disk", func() error { return copyJournals(cfg.DataDir, crashed) })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	cfg.DataDir = crashed
	r = run(t, k, cfg)
	p.anomalies(anomaly("m-2", "limit", 1, started, crit), anomaly("m-3", "limit", 1, started, crit))
	eventually(t, "the next page", func() error { return count(h.told(), "firing m-3", 1) })
	if err := count(h.told(), "firing m-1", 1); err != nil {
		t.Error(err)
	}
	if err := count(h.told(), "m-2", 0); err != nil {
		t.Errorf("the silence is gone: %v", err)
	}
	as, err := r.alerts(t)
	if err != nil || len(as) != 3 {
		t.Errorf("alerts %+v, %v", as, err)
	}
}

// An end that could not be told before the restart is told after it.
func TestOwedResolutionAfterRestart(t *testing.T) {
	k := broker(t, 1)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	p := newProducer(t, k)
	p.anomalies(anomaly("m-1", "limit", 1, started, crit), anomaly("m-2", "limit", 1, started, warning), anomaly("m-2", "limit", 1, ended, warning))
	eventually(t, "the page", func() error { return count(h.told(), "firing m-1", 1) })
	h.answer(503)
	p.anomalies(anomaly("m-1", "limit", 1, ended, crit))
	events(t, k, 4) // the end is in the log
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	h.answer(0)
	run(t, k, cfg)
	eventually(t, "the end", func() error { return count(h.told(), "resolved m-1/limit/1", 1) })
	if err := count(h.told(), "m-1", 2); err != nil {
		t.Error(err)
	}
}

// Ticks go on to alert.events.v1 in the same partition, so its readers see time move.
func TestTicksAreForwarded(t *testing.T) {
	k := broker(t, 3)
	cfg := configFor(t, t.TempDir())
	run(t, k, cfg)
	p := &producer{t: t, cl: kafkatest.Client(t, k, kgo.RecordPartitioner(kgo.ManualPartitioner()))}
	var ticks []*kgo.Record
	for i := range int32(3) {
		ticks = append(ticks, &kgo.Record{Topic: topic.Anomalies, Partition: i, Value: []byte{8, byte(i)}, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}})
	}
	p.records(ticks...)
	for _, r := range kafkatest.Consume(t, k, topic.Alerts, 3, patience) {
		if !topic.IsTick(r) || r.Key != nil || len(r.Value) != 2 || r.Value[1] != byte(r.Partition) {
			t.Errorf("partition %d: %v key %q value %v", r.Partition, r.Headers, r.Key, r.Value)
		}
	}
}

// Records that cannot be used go to the dead letters with the reason; those around them count.
func TestPoisonPills(t *testing.T) {
	k := broker(t, 1)
	cfg := configFor(t, t.TempDir())
	r := run(t, k, cfg)
	p := newProducer(t, k)
	bad := record(t, anomaly("m-1", "limit", 1, started, crit))
	bad.Value = []byte{0xff, 0xff, 0xff}
	foreign := record(t, anomaly("m-1", "limit", 1, started, crit))
	foreign.Headers = []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte("x.Y")}}
	moved := record(t, anomaly("m-1", "limit", 1, started, crit))
	moved.Key = []byte("m-2")
	nameless := anomaly("m-1", "limit", 1, started, crit)
	nameless.EpisodeId = ""
	p.records(bad, foreign, moved, record(t, nameless), &kgo.Record{Topic: topic.Anomalies}, record(t, anomaly("m-1", "limit", 1, started, crit)))
	if n := len(events(t, k, 1)); n != 1 {
		t.Errorf("%d events", n)
	}
	letters := kafkatest.Consume(t, k, topic.DLQ(topic.Anomalies), 5, patience)
	for i, l := range letters {
		if topic.Header(l, dlq.HeaderReason) == "" || topic.Header(l, dlq.HeaderOffset) != fmt.Sprint(i) || topic.Header(l, dlq.HeaderConsumer) != dlq.Router {
			t.Errorf("letter %d: %v", i, l.Headers)
		}
	}
	if !bytes.Equal(letters[0].Value, bad.Value) {
		t.Errorf("the original bytes are gone: %v", letters[0].Value)
	}
	eventually(t, "counted", func() error {
		var m string
		if err := r.get("/metrics", &m); err != nil {
			return err
		}
		for _, want := range []string{
			`tocsin_alert_anomalies_total{outcome="dead_letter"} 5`, "tocsin_alerts_open 1",
			`tocsin_alert_transitions_total{transition="opened",cause="limit"} 1`,
			`tocsin_alert_notifications_total{receiver="log",integration="log",outcome="sent",reason="first_notification"} 1`,
			`tocsin_alert_notification_latency_seconds_count{integration="log"} 1`, "alertmanager_notifications_total",
		} {
			if !strings.Contains(m, want) {
				return fmt.Errorf("no %s in\n%s", want, m)
			}
		}
		return nil
	})
}

// The span of an anomaly goes on in the span of the transition and in the record of the event.
func TestTraceGoesOn(t *testing.T) {
	k := broker(t, 1)
	spans := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	run(t, k, configFor(t, t.TempDir()), func(_ *Config, d *service.Deps) { d.Tracer = tp })
	rec := record(t, anomaly("m-1", "limit", 1, started, crit))
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: topic.HeaderTraceParent, Value: []byte("00-" + trace + "-00f067aa0ba902b7-01")})
	newProducer(t, k).records(rec)
	got := topic.Header(kafkatest.Consume(t, k, topic.Alerts, 1, patience)[0], topic.HeaderTraceParent)
	eventually(t, "span", func() error {
		if n := len(spans.Ended()); n != 1 {
			return fmt.Errorf("%d spans", n)
		}
		return nil
	})
	s := spans.Ended()[0]
	if s.SpanContext().TraceID().String() != trace || s.Name() != "alert opened" {
		t.Errorf("span %s of trace %s", s.Name(), s.SpanContext().TraceID())
	}
	if want := "00-" + trace + "-" + s.SpanContext().SpanID().String() + "-01"; got != want {
		t.Errorf("traceparent %q, want %q", got, want)
	}
}

// count checks how many of the told begin with or contain what.
func count(told []string, what string, want int) error {
	n := 0
	for _, s := range told {
		if strings.Contains(s, what) {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("%d times %q, want %d, in %q", n, what, want, told)
	}
	return nil
}

// silence is a silence of one machine for an hour, as API v2 takes it.
func silence(equipment string) map[string]any {
	now := time.Now().UTC()
	return map[string]any{
		"matchers": []map[string]any{{"name": "equipment_id", "value": equipment, "isRegex": false, "isEqual": true}},
		"startsAt": now.Format(time.RFC3339Nano), "endsAt": now.Add(time.Hour).Format(time.RFC3339Nano),
		"createdBy": "test", "comment": "maintenance",
	}
}

// copyJournals copies a data directory as it lies on the disk, once the notification log's journal has something in it.
func copyJournals(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	noted := false
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		noted = noted || e.Name() == "nflog.journal" && bytes.Count(data, []byte("hook")) > 1
		if err := os.WriteFile(filepath.Join(to, e.Name()), data, 0o600); err != nil {
			return err
		}
	}
	if !noted {
		return errors.New("journal is empty")
	}
	return nil
}
