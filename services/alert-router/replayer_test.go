package alertrouter

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// bytesOf is all of an output that a replay must give again.
func bytesOf(r *kgo.Record) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%q %q", r.Key, r.Value)
	for _, h := range r.Headers {
		if h.Key != topic.HeaderTraceParent {
			fmt.Fprintf(&b, " %s=%q", h.Key, h.Value)
		}
	}
	return b.String()
}

// What a Replayer makes of the log in one go is what an instance that was restarted has written, byte for byte and in order.
func TestReplayerSaysWhatProductionSaid(t *testing.T) {
	k := broker(t, 1)
	p := newProducer(t, k)
	dir := t.TempDir()
	const runs, perRun = 3, 7
	for i := range runs {
		r := run(t, k, configFor(t, dir))
		for m := range perRun {
			id := fmt.Sprintf("m-%d", m)
			began := int64(1+i/2) * 1_000_000
			switch i {
			case 0:
				p.anomalies(anomaly(id, "limit", began, started, warning))
			case 1:
				p.anomalies(anomaly(id, "limit", began, ongoing, crit), anomaly(id, "limit", began, ongoing, crit))
			default:
				p.anomalies(anomaly(id, "limit", began, started, warning), anomaly(id, "limit", began, ended, warning))
			}
		}
		p.records(&kgo.Record{Topic: topic.Anomalies, Key: []byte("m-1"), Value: []byte{0xff}},
			&kgo.Record{Topic: topic.Anomalies, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}})
		// The tick is the last of each run.
		kafkatest.ConsumeUntil(t, k, topic.Alerts, patience, func(rs []*kgo.Record) bool {
			ticks := 0
			for _, r := range rs {
				if topic.IsTick(r) {
					ticks++
				}
			}
			return ticks > i
		})
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	replayer := NewReplayer(0)
	want := map[string][]string{}
	for _, r := range kafkatest.ReadAll(t, k, topic.Anomalies) {
		for _, o := range replayer.Apply(r) {
			want[o.Topic] = append(want[o.Topic], bytesOf(o))
		}
	}
	for name, least := range map[string]int{topic.Alerts: 4*perRun + runs, topic.DLQ(topic.Anomalies): runs} {
		var got []string
		for _, r := range kafkatest.ReadAll(t, k, name) {
			got = append(got, bytesOf(r))
		}
		if !slices.Equal(got, want[name]) || len(got) < least {
			t.Errorf("%s: %d records stand there, the replay gives %d, or others; at least %d were expected", name, len(got), len(want[name]), least)
		}
	}
}
