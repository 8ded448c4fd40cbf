package alertrouter

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// What is given back to another consumer that had refused it counts here once: when it came first.
func TestRecordsForOthersArePassedOver(t *testing.T) {
	k := broker(t, 1)
	cfg := configFor(t, t.TempDir())
	r := run(t, k, cfg)
	p := newProducer(t, k)
	other := func(rec *kgo.Record) *kgo.Record {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: dlq.HeaderFor, Value: []byte(dlq.Writer)})
		return rec
	}
	p.records(other(record(t, anomaly("m-2", "limit", 1, started, crit))))
	p.anomalies(anomaly("m-1", "limit", 1, started, crit), anomaly("m-1", "limit", 1, ended, crit))
	if es := events(t, k, 2); len(es) != 2 || es[0].GetEquipmentId() != "m-1" {
		t.Fatalf("%v", es)
	}
	// The first event of the alert comes again, for the lake's writer: a restart must not open the alert anew.
	var opened *kgo.Record
	for _, rec := range kafkatest.ReadAll(t, k, topic.Alerts) {
		if topic.Type(rec) == topic.TypeAlert && opened == nil {
			opened = rec
		}
	}
	p.records(other(&kgo.Record{Topic: topic.Alerts, Partition: opened.Partition, Key: opened.Key, Value: opened.Value, Headers: opened.Headers}))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = run(t, k, cfg)
	p.anomalies(anomaly("m-3", "limit", 1, started, crit))
	eventually(t, "only the new alert stands", func() error {
		as, err := r.alerts(t)
		if err == nil && len(as) != 1 {
			err = fmt.Errorf("%d alerts", len(as))
		}
		return err
	})
}
