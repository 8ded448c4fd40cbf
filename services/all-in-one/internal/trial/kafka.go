package trial

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

func kafkaInput(s string) bool { return strings.HasPrefix(s, "kafka://") }

// readKafka judges the frames that a topic holds now, with its own ticks, in broker time. Configurations in the log are passed over: those under trial hold.
func (r *runner) readKafka(ctx context.Context, input string) error {
	u, err := url.Parse(input)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		return fmt.Errorf("%q: want kafka://HOST:PORT/TOPIC", input)
	}
	name := strings.Trim(u.Path, "/")
	k := r.opt.Kafka
	k.Brokers = strings.Split(u.Host, ",")
	base, err := k.Options(zap.NewNop())
	if err != nil {
		return err
	}
	registry, err := schema.New(k, schema.DefaultConfig(), zap.NewNop())
	if err != nil {
		return err
	}
	defer registry.Close()
	following, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = registry.Run(following) // waits errors of the brokers out
	}()
	defer func() { stop(); <-done }()
	r.opt.Schemas = registry.Resolve
	cl, err := kgo.NewClient(append(base, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	left, err := kafka.ExtentOf(ctx, kadm.NewClient(cl), name)
	if err != nil {
		return err
	}
	if left.Done() {
		return errors.New("the topic is empty")
	}
	machines := map[int32][]*machine{} // by partition: a tick is for all of it
	for !left.Done() {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return err
		}
		for it := fs.RecordIter(); !it.Done(); {
			rec := it.Next()
			if !left.Meet(rec) || topic.IsControl(rec) {
				continue
			}
			if err := r.record(ctx, rec, machines); err != nil {
				return err
			}
		}
		if r.opt.Progress != nil {
			r.opt.Progress(input, left.Met, left.Total)
		}
	}
	return nil
}

// record judges one record of the log.
func (r *runner) record(ctx context.Context, rec *kgo.Record, machines map[int32][]*machine) error {
	if topic.IsTick(rec) {
		for _, m := range machines[rec.Partition] {
			tick := *rec
			if err := m.apply(ctx, &tick, m.rows <= r.opt.TrainRows); err != nil {
				return err
			}
		}
		return nil
	}
	var f frame.Frame
	if f.Unmarshal(rec.Value) != nil || len(f.Values) == 0 || string(f.EquipmentID) != string(rec.Key) {
		return nil // a dead letter in production
	}
	known := r.machines[string(f.EquipmentID)] != nil
	m, err := r.machine(string(f.EquipmentID))
	if err != nil {
		return err
	}
	if !known {
		machines[rec.Partition] = append(machines[rec.Partition], m)
	}
	m.rows++
	training := m.rows <= r.opt.TrainRows
	if !training {
		m.frameSeen(ctx, &f)
	}
	c := *rec
	return m.apply(ctx, &c, training)
}

// frameSeen counts a frame's samples and keeps the course of its values.
func (m *machine) frameSeen(ctx context.Context, f *frame.Frame) {
	var names []string
	if len(f.SchemaID) > 0 {
		names, _ = m.r.opt.Schemas(ctx, string(f.SchemaID)) // unknown: the judge will say so
	} else {
		for _, s := range f.Sensors[:min(len(f.Sensors), maxSensors)] {
			names = append(names, string(s))
		}
	}
	samples := f.Samples()
	values := make([]float32, min(len(names), maxSensors))
	for t := range samples {
		at := time.UnixMicro(f.BaseTimeUS).UTC()
		if len(f.OffsetsUS) > 0 {
			at = at.Add(time.Duration(f.OffsetsUS[t]) * time.Microsecond)
		}
		m.note(at)
		for i := range values {
			if n := i*samples + t; n < len(f.Values) {
				values[i] = f.Values[n]
			}
		}
		m.envelope(at, names[:len(values)], values)
	}
}
