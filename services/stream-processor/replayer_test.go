package streamprocessor_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func noSchema(context.Context, string) ([]string, error) { return nil, schema.ErrUnknown }

// bytesOf is all of an output that a replay must give again.
func bytesOf(r *kgo.Record) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%q %q", r.Key, r.Value)
	for _, h := range r.Headers {
		fmt.Fprintf(&b, " %s=%q", h.Key, h.Value)
	}
	return b.String()
}

// What a Replayer makes of the log, in one go, is what instances that came and went have written, byte for byte and in order; and the state that
// they saved is the Replayer's.
func TestReplayerSaysWhatProductionSaid(t *testing.T) {
	k := kafkatest.Start(t, 2)
	cfg := config("a")
	cfg.CommitRecords = 17 // so that a transaction ends before all snapshots are due
	const machines, perRun, runs = 7, 140, 3
	for run := range runs {
		stop := start(t, k, cfg)
		produce(t, k, machines, run*perRun, (run+1)*perRun)
		poison := &kgo.Record{Topic: topic.Frames, Partition: 0, Key: []byte("pump-000"), Value: []byte{0xff, byte(run)}}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := kafkatest.Client(t, k).ProduceSync(ctx, poison).FirstErr(); err != nil {
			t.Fatal(err)
		}
		cancel()
		readings(t, k, machines*perRun*(run+1))
		kafkatest.Consume(t, k, topic.DLQ(topic.Frames), run+1, patience)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	outputs := []string{topic.Readings, topic.Windows, topic.Anomalies, topic.DLQ(topic.Frames)}
	stand := map[string][]string{}
	for _, name := range outputs {
		for _, r := range kafkatest.ReadAll(t, k, name) {
			at := fmt.Sprint(name, r.Partition)
			if name == topic.DLQ(topic.Frames) {
				at = fmt.Sprint(name, topic.Header(r, "dlq_partition"))
			}
			stand[at] = append(stand[at], bytesOf(r))
		}
	}
	frames, state := kafkatest.ReadAll(t, k, topic.Frames), kafkatest.ReadAll(t, k, topic.State)
	for id := range int32(2) {
		saved := streamprocessor.NewSavedState()
		for _, r := range state {
			if r.Partition == id {
				if err := saved.Add(r); err != nil {
					t.Fatal(err)
				}
			}
		}
		next, from, ok := saved.Bounds()
		if !ok || from >= next {
			t.Fatalf("partition %d: state up to %d, replay from %d, %v: there is nothing to replay", id, next, from, ok)
		}
		restored := streamprocessor.NewReplayer(cfg, id, noSchema)
		if err := restored.Load(saved); err != nil {
			t.Fatal(err)
		}
		judge := streamprocessor.NewReplayer(cfg, id, noSchema)
		want := map[string][]string{}
		for _, r := range frames {
			if r.Partition != id || r.Offset >= next {
				continue // ticks that came after the last transaction
			}
			out, err := judge.Apply(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out {
				want[o.Topic] = append(want[o.Topic], bytesOf(o))
			}
			if r.Offset >= from {
				if err := restored.Replay(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, name := range outputs {
			if got := stand[fmt.Sprint(name, id)]; !slices.Equal(got, want[name]) {
				t.Errorf("%s[%d]: %d records stand there, the replay gives %d, or others", name, id, len(got), len(want[name]))
			}
		}
		if err := restored.Loaded(); err != nil {
			t.Error(err)
		}
		if d := judge.Differences(restored); len(d) > 0 || judge.Machines() == 0 {
			t.Errorf("of %d machines: %v", judge.Machines(), d)
		}
		frame := frameRecord(0, 1000)
		frame.Partition, frame.Offset, frame.Timestamp = id, next, time.UnixMilli(1<<41)
		if _, err := judge.Apply(t.Context(), frame); err != nil {
			t.Fatal(err)
		}
		if len(judge.Differences(restored)) == 0 {
			t.Error("one more frame makes no difference")
		}
	}
}
