package streamprocessor_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// revised is the configuration of an instance whose file has that revision; higher ones call what pressure does usually too high.
func revised(instance string, revision uint32) streamprocessor.Config {
	c := config(instance)
	c.Revision = revision
	if revision > 1 {
		high := 5.2
		c.Detection.Detect.Limits = []detect.Limit{{Sensor: "pressure", HighCritical: &high}}
		c.Detection.Detect.Detectors = []string{"limits", "spread", "ewma"}
	}
	return c
}

// switches waits until each partition's log holds a configuration record of that content, and returns all of them by partition.
func switches(t *testing.T, k kafka.Config, c streamprocessor.Config) map[int32][]*kgo.Record {
	t.Helper()
	id := fmt.Sprintf("detection/%d/%s", c.Revision, c.Detection.Fingerprint())
	var found map[int32][]*kgo.Record
	kafkatest.ConsumeUntil(t, k, topic.Frames, patience, func(rs []*kgo.Record) bool {
		found = map[int32][]*kgo.Record{}
		for _, r := range rs {
			if topic.Is(r, topic.TypeDetection) && topic.Header(r, topic.HeaderID) == id {
				found[r.Partition] = append(found[r.Partition], r)
			}
		}
		return len(found) == int(k.Partitions)
	})
	return found
}

// judgedAsOne checks that what stands in the outputs is what one judge that never stopped says of the log, byte for byte and in order.
func judgedAsOne(t *testing.T, k kafka.Config, began streamprocessor.Config) {
	t.Helper()
	log, want := map[int32][]*kgo.Record{}, map[string][][]byte{}
	for _, r := range kafkatest.ReadAll(t, k, topic.Frames) {
		log[r.Partition] = append(log[r.Partition], r)
	}
	for partition, rs := range log {
		judge := streamprocessor.NewReplayer(began, partition, func(context.Context, string) ([]string, error) { return nil, schema.ErrUnknown })
		for _, r := range rs {
			out, err := judge.Apply(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out {
				if !topic.IsTick(o) {
					at := fmt.Sprintf("%s[%d]", o.Topic, o.Partition)
					want[at] = append(want[at], bytes.Clone(o.Value))
				}
			}
		}
	}
	anomalies := 0
	for _, name := range []string{topic.Readings, topic.Windows, topic.Anomalies} {
		got := map[string][][]byte{}
		for _, r := range data(kafkatest.ReadAll(t, k, name)) {
			at := fmt.Sprintf("%s[%d]", r.Topic, r.Partition)
			got[at] = append(got[at], r.Value)
			if name == topic.Anomalies {
				anomalies++
			}
		}
		for p := range k.Partitions {
			at := fmt.Sprintf("%s[%d]", name, p)
			if len(got[at]) > len(want[at]) {
				t.Errorf("%s: %d records, one judge gives %d", at, len(got[at]), len(want[at]))
			}
			for i, b := range got[at] { // the last ticks of the log may not be judged yet
				if i < len(want[at]) && !bytes.Equal(b, want[at][i]) {
					t.Errorf("%s: record %d is another than one judge gives", at, i)
					break
				}
			}
		}
	}
	if anomalies == 0 {
		t.Error("nothing was anomalous: this shows little")
	}
}

// Two instances, an old file and a new one; partitions move from one to the other and back, and the old file starts once more.
func TestARollingRestartUnderAnotherConfiguration(t *testing.T) {
	const partitions, machines = 4, 9
	k := kafkatest.Start(t, partitions)
	adm := kadm.NewClient(kafkatest.Client(t, k))
	leave := func(name string) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := adm.LeaveGroup(ctx, kadm.LeaveGroup(config(name).Group).InstanceIDs(name)); err != nil {
			t.Fatal(err)
		}
	}
	old, changed := revised("a", 1), revised("b", 2)
	n := 0
	more := func() {
		produce(t, k, machines, n, n+30)
		n += 30
		readings(t, k, machines*n)
	}
	stopA := start(t, k, old)
	more()
	stopB := start(t, k, changed)
	more()
	switches(t, k, changed)
	more()
	if err := stopA(); err != nil {
		t.Fatal(err)
	}
	leave("a")
	more()
	stopA = start(t, k, old) // the old file once more: it must give way
	more()
	if err := stopB(); err != nil {
		t.Fatal(err)
	}
	leave("b")
	more()
	if err := stopA(); err != nil {
		t.Fatal(err)
	}
	if published := kafkatest.ReadAll(t, k, topic.Config); len(published) != 2 {
		t.Errorf("%d configurations were published, want the two", len(published))
	}
	for p, rs := range switches(t, k, changed) {
		if len(rs) > 3 {
			t.Errorf("partition %d was told %d times", p, len(rs))
		}
	}
	judgedAsOne(t, k, old)
}

// A reload publishes; the partitions follow without a restart. A bad one changes nothing.
func TestAReloadChangesTheConfigurationOfRunningPartitions(t *testing.T) {
	k := kafkatest.Start(t, 2)
	deps := service.Nop()
	deps.Kafka = k
	s, err := streamprocessor.New(revised("a", 1), deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	produce(t, k, 5, 0, 30)
	readings(t, k, 5*30)
	bad := revised("a", 2)
	bad.Detection.WindowLength = -time.Second
	if err := s.Reconfigure(bad); err == nil {
		t.Error("a window of negative length was taken")
	}
	good := revised("a", 2)
	if err := s.Reconfigure(good); err != nil {
		t.Fatal(err)
	}
	switches(t, k, good)
	produce(t, k, 5, 30, 90)
	readings(t, k, 5*90)
	kafkatest.ConsumeUntil(t, k, topic.Anomalies, patience, func(rs []*kgo.Record) bool { return len(data(rs)) > 0 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	judgedAsOne(t, k, revised("a", 1))
}

// One machine's state may be larger than any record: frames of 25,000 features.
func TestAWideMachineIsSavedAndRestored(t *testing.T) {
	const sensors = 25_000
	k := kafkatest.Start(t, 1)
	c := config("a")
	c.Snapshot.MaxRecords = 3
	names, values := make([]string, sensors), make([]float32, sensors)
	for i := range names {
		names[i] = fmt.Sprintf("feature-%05d", i)
	}
	cl := kafkatest.Client(t, k, kgo.ProducerBatchMaxBytes(8<<20))
	n := 0
	send := func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for range 5 {
			for i := range values {
				values[i] = float32((n*7919 + i*104729) % 1000)
			}
			f := frame.New("press", "gw", uint64(n+1), base.Add(time.Duration(n)*5*time.Second), names, values)
			n++
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic.Frames, Key: []byte("press"), Value: f.AppendTo(nil), Headers: []kgo.RecordHeader{
				{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: f.AppendID(nil)},
			}}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		readings(t, k, n)
	}
	for range 2 {
		stop := start(t, k, c)
		send()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	parts := 0
	for _, r := range kafkatest.ReadAll(t, k, topic.State) {
		if bytes.HasPrefix(r.Key, []byte("p/")) {
			parts++
		}
	}
	if parts == 0 {
		t.Error("the state was never larger than a record: this shows nothing")
	}
}
