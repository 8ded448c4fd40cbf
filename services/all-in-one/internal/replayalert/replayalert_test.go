package replayalert_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/replayalert"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 2 * time.Minute

func config(instance string, revision uint32) streamprocessor.Config {
	c := streamprocessor.DefaultConfig()
	c.HTTP.Listen = "127.0.0.1:0"
	c.InstanceID, c.Revision = instance, revision
	c.CommitInterval = 20 * time.Millisecond
	c.Snapshot.MaxRecords = 400 // so that snapshots are taken in between, and replays are long
	if revision > 1 {
		c.Detection.Calibrate.Budget = 3
	}
	return c
}

// processor runs an instance; the function it returns stops it.
func processor(t *testing.T, k kafka.Config, c streamprocessor.Config) (stop func()) {
	t.Helper()
	deps := service.Nop()
	deps.Kafka = k
	s, err := streamprocessor.New(c, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("processor %s: %v", c.InstanceID, err)
			}
		case <-time.After(patience):
			t.Errorf("processor %s does not stop", c.InstanceID)
		}
	}
	t.Cleanup(stop)
	return stop
}

var (
	base    = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	sensors = []string{"pressure", "flow", "temperature"}
)

// sample is what a machine measures at second i: a wobble, and three faults.
func sample(machine, i int) []float32 {
	wobble := func(salt int) float32 { return float32((i*7919+machine*104729+salt*15485863)%1009) / 1009 }
	v := []float32{5 + wobble(1), 20 + 2*wobble(2), 60 + wobble(3)}
	switch at := i - machine%7; {
	case at >= 390 && at < 405:
		v[2] += 50
	case at >= 470 && at < 485:
		v[0], v[1] = v[0]-9, v[1]+40
	case at >= 550 && at < 575:
		v[2] = float32(math.NaN())
	}
	return v
}

func produce(t *testing.T, k kafka.Config, machines, from, to int) {
	t.Helper()
	cl := kafkatest.Client(t, k)
	var rs []*kgo.Record
	for i := from; i < to; i++ {
		for m := range machines {
			id := fmt.Sprintf("pump-%03d", m)
			f := frame.New(id, "gw-1", uint64(i+1), base.Add(time.Duration(i)*time.Second), sensors, sample(m, i))
			rs = append(rs, &kgo.Record{Topic: topic.Frames, Key: []byte(id), Value: f.AppendTo(nil), Headers: []kgo.RecordHeader{
				{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: f.AppendID(nil)},
			}})
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// judged waits until n frames have been.
func judged(t *testing.T, k kafka.Config, n int) {
	t.Helper()
	seen, at := 0, 0
	kafkatest.ConsumeUntil(t, k, topic.Readings, patience, func(rs []*kgo.Record) bool {
		for ; at < len(rs); at++ {
			if topic.Is(rs[at], topic.TypeReading) {
				seen++
			}
		}
		return seen >= n
	})
}

// history is a fleet's life: an instance that is restarted, another that joins it under a new configuration and leaves again.
func history(t *testing.T, machines int) kafka.Config {
	k := kafkatest.Start(t, 4)
	stop := processor(t, k, config("a", 1))
	at := 0
	until := func(to int) {
		produce(t, k, machines, at, to)
		at = to
		judged(t, k, machines*at)
	}
	restart := func(revision uint32) {
		stop()
		stop = processor(t, k, config("a", revision))
	}
	until(250)
	restart(1)
	until(400) // alerts are open
	restart(1)
	other := processor(t, k, config("b", 2)) // joins, with another configuration
	switched(t, k)
	until(475)
	other()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := kadm.NewClient(kafkatest.Client(t, k)).LeaveGroup(ctx, kadm.LeaveGroup(config("b", 2).Group).InstanceIDs("b")); err != nil {
		t.Fatal(err)
	}
	until(520)
	restart(2)
	until(640)
	stop()
	return k
}

// switched waits until each partition's log holds another configuration.
func switched(t *testing.T, k kafka.Config) {
	t.Helper()
	kafkatest.ConsumeUntil(t, k, topic.Frames, patience, func(rs []*kgo.Record) bool {
		in := map[int32]bool{}
		for _, r := range rs {
			if topic.Is(r, topic.TypeDetection) {
				in[r.Partition] = true
			}
		}
		return len(in) == int(k.Partitions)
	})
}

// memory is a Log of what was read of a broker once.
type memory struct {
	*replayalert.KafkaLog
	records map[string][]*kgo.Record
}

func open(t *testing.T, k kafka.Config) memory {
	t.Helper()
	l, err := replayalert.OpenKafka(k, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	m := memory{l, map[string][]*kgo.Record{}}
	for _, name := range []string{topic.Frames, topic.Anomalies, topic.Cases, topic.State, topic.DLQ(topic.Frames)} {
		m.records[name] = kafkatest.ReadAll(t, k, name)
	}
	return m
}

func (m memory) Bounds(_ context.Context, name string, partition int32) (start, end int64, err error) {
	err = m.Read(context.Background(), name, partition, 0, math.MaxInt64, func(r *kgo.Record) error {
		end = r.Offset + 1
		return nil
	})
	return 0, end, err
}

func (m memory) After(_ context.Context, name string, partition int32, ms int64) (at int64, err error) {
	at, found := int64(0), errors.New("found")
	err = m.Read(context.Background(), name, partition, 0, math.MaxInt64, func(r *kgo.Record) error {
		if at = r.Offset; r.Timestamp.UnixMilli() >= ms {
			return found
		}
		at++
		return nil
	})
	if errors.Is(err, found) {
		err = nil
	}
	return at, err
}

func (m memory) Read(_ context.Context, name string, partition int32, from, to int64, each func(*kgo.Record) error) error {
	for _, r := range m.records[name] {
		if r.Partition == partition && r.Offset >= from && r.Offset < to {
			if err := each(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func noSchema(context.Context, string) ([]string, error) { return nil, schema.ErrUnknown }

func replay(ctx context.Context, l replayalert.Log, id string) (*replayalert.Result, error) {
	e, err := replayalert.ParseEpisode(id)
	if err != nil {
		return nil, err
	}
	return replayalert.Run(ctx, replayalert.Options{Log: l, Schemas: noSchema, Episode: e})
}

// episodes are the ids of all that opened, in the order of the log.
func episodes(t *testing.T, k kafka.Config) []string {
	t.Helper()
	var out []string
	for _, r := range kafkatest.ReadAll(t, k, topic.Anomalies) {
		var a eventv1.Anomaly
		if !topic.Is(r, topic.TypeAnomaly) {
			continue
		}
		if err := proto.Unmarshal(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		if a.GetPhase() == eventv1.Phase_PHASE_STARTED {
			out = append(out, a.GetEpisodeId())
		}
	}
	return out
}

// Every alert of a fleet whose judge was restarted, shared its partitions and changed its configuration meanwhile comes out again, bit by bit; and what was tampered
// with does not.
func TestAlertsComeOutTheSame(t *testing.T) {
	const machines = 36
	k := history(t, machines)
	ids := episodes(t, k)
	if len(ids) < 100 {
		t.Fatalf("%d alerts: this test wants 100", len(ids))
	}
	l := open(t, k)
	reports, causes, sources, switched := 0, map[string]int{}, map[string]int{}, 0
	for i, id := range ids {
		var from replayalert.Log = l
		if i%10 == 0 {
			from = l.KafkaLog
		}
		res, err := replay(t.Context(), from, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range res.Reports {
			if !r.Identical {
				t.Errorf("%s: %+v", r.AnomalyID, r.Differences)
			}
			if r.Recorded == nil || r.Recomputed == nil || math.Float64bits(*r.Recorded) != math.Float64bits(*r.Recomputed) {
				t.Errorf("%s: score", r.AnomalyID)
			}
		}
		if !res.Identical || len(res.Reports) == 0 || res.Frames == 0 {
			t.Errorf("%s: %+v", id, res)
		}
		if first := res.Reports[0]; res.Cause == "behaviour" && (first.Window == nil || len(first.Window.Sensors) != len(sensors) || first.Window.PValue == nil) {
			t.Errorf("%s: nothing is said of its window: %+v", id, first.Window)
		}
		if !strings.Contains(res.Begins.Ends, res.Begins.Fingerprint) {
			switched++
		}
		reports += len(res.Reports)
		causes[res.Cause]++
		sources[res.Begins.Source]++
	}
	t.Logf("%d alerts of causes %v with %d reports, begun from %v, %d across a change of configuration", len(ids), causes, reports, sources, switched)
	if switched == 0 {
		t.Error("no alert was open while the configuration changed: this test would show less")
	}
	if sources[topic.Cases] < len(ids)/2 { // the others began with what compaction had left
		t.Errorf("of %d alerts %d had a case", len(ids), sources[topic.Cases])
	}
	t.Run("tampered", func(t *testing.T) { tampered(t, l, ids) })
	t.Run("gone", func(t *testing.T) { gone(t, l, ids) })
}

// lying is a Log that changes what is read.
type lying struct {
	replayalert.Log
	start  map[string]int64
	change func(*kgo.Record) *kgo.Record // nil: the record is gone
}

func (l lying) Bounds(ctx context.Context, name string, partition int32) (start, end int64, err error) {
	start, end, err = l.Log.Bounds(ctx, name, partition)
	return max(start, l.start[name]), end, err
}

func (l lying) Read(ctx context.Context, name string, partition int32, from, to int64, each func(*kgo.Record) error) error {
	return l.Log.Read(ctx, name, partition, from, to, func(r *kgo.Record) error {
		if l.change == nil || r.Attrs.IsControl() {
			return each(r)
		}
		if r = l.change(r); r == nil {
			return nil
		}
		return each(r)
	})
}

// with is a record of another value.
func with(r *kgo.Record, value []byte) *kgo.Record {
	c := *r
	c.Value = value
	return &c
}

func tampered(t *testing.T, l replayalert.Log, ids []string) {
	at := slices.IndexFunc(ids, func(id string) bool { return strings.Contains(id, "/behaviour/") })
	id := ids[at]
	res, err := replay(t.Context(), l, id)
	if err != nil {
		t.Fatal(err)
	}
	opened := res.Reports[0]
	for _, c := range []struct {
		name   string
		change func(*kgo.Record) *kgo.Record
		field  string
	}{
		{"the last bit of a recorded score", func(r *kgo.Record) *kgo.Record {
			if r.Topic != topic.Anomalies || r.Offset != opened.RecordOffset {
				return r
			}
			var a eventv1.Anomaly
			if err := proto.Unmarshal(r.Value, &a); err != nil {
				t.Fatal(err)
			}
			a.Score = math.Nextafter(a.GetScore(), 0)
			v, _ := proto.MarshalOptions{Deterministic: true}.Marshal(&a)
			return with(r, v)
		}, "score"},
		{"a value of a frame", func(r *kgo.Record) *kgo.Record {
			var f frame.Frame
			if r.Topic != topic.Frames || string(r.Key) != res.Equipment {
				return r
			}
			if err := f.Unmarshal(r.Value); err != nil {
				t.Fatal(err)
			}
			f.Values[2] += 0.25
			return with(r, f.AppendTo(nil))
		}, "contributions[0].observed"},
		{"a frame that is gone", func(r *kgo.Record) *kgo.Record {
			if r.Topic == topic.Frames && r.Offset == opened.JudgedOffset {
				return nil
			}
			return r
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := replay(t.Context(), lying{Log: l, change: c.change}, id)
			if err != nil {
				t.Fatal(err)
			}
			var fields []string
			for _, r := range res.Reports {
				for _, d := range r.Differences {
					fields = append(fields, d.Field)
				}
			}
			if res.Identical || !slices.Contains(fields, c.field) && c.field != "" {
				t.Errorf("identical %v, fields that differ: %v, want %s among them", res.Identical, fields, c.field)
			}
		})
	}
	t.Run("a state", func(t *testing.T) {
		_, err := replay(t.Context(), lying{Log: l, change: func(r *kgo.Record) *kgo.Record {
			if r.Topic != topic.Cases {
				return r
			}
			var k eventv1.Case
			if err := proto.Unmarshal(r.Value, &k); err != nil {
				t.Fatal(err)
			}
			if k.State != nil {
				k.State.State = bytes.Clone(k.State.GetState())
				k.State.State[len(k.State.State)/2] ^= 1
			}
			v, _ := proto.Marshal(&k)
			return with(r, v)
		}}, id)
		if !errors.Is(err, replayalert.ErrCannot) || !strings.Contains(err.Error(), "checksum") {
			t.Error(err)
		}
	})
}

func gone(t *testing.T, l replayalert.Log, ids []string) {
	without := func(names ...string) lying {
		return lying{Log: l, change: func(r *kgo.Record) *kgo.Record {
			if slices.Contains(names, r.Topic) {
				return nil
			}
			return r
		}}
	}
	for _, c := range []struct {
		name string
		log  replayalert.Log
		id   string
		says []string
	}{
		{"no such alert", l, "pump-000/behaviour/17", []string{"no report"}},
		{"no such fingerprint", l, "0123456789abcdef", []string{"fingerprint", "alert_id"}},
		{"no state", without(topic.Cases, topic.State), ids[0], []string{"was not kept", topic.State}},
		{"frames past retention", lying{Log: l, start: map[string]int64{topic.Frames: 1 << 40}}, ids[0], []string{topic.Frames, "7 days"}},
	} {
		if _, err := replay(t.Context(), c.log, c.id); !errors.Is(err, replayalert.ErrCannot) {
			t.Errorf("%s: %v", c.name, err)
		} else {
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%s: %v does not say %q", c.name, err, s)
				}
			}
		}
	}
	// Where no case was kept, what compaction has left does as well.
	for _, id := range ids[:10] {
		res, err := replay(t.Context(), without(topic.Cases), id)
		if err != nil {
			t.Error(err)
		} else if !res.Identical || res.Begins.Source != topic.State {
			t.Errorf("%s: identical %v, from %s", id, res.Identical, res.Begins.Source)
		}
	}
}

func TestParseEpisode(t *testing.T) {
	if e, err := replayalert.ParseEpisode("0123456789abcdef"); err != nil || e.Fingerprint != "0123456789abcdef" {
		t.Error(e, err)
	}
	for in, want := range map[string]string{
		"pump-1/behaviour/1772344800000000":                                              "pump-1/behaviour/1772344800000000",
		"pump-1/bad_quality/-17/1772344805000000/started":                                "pump-1/bad_quality/-17",
		"a:b.c/limit/5/opened":                                                           "a:b.c/limit/5",
		"http://127.0.0.1:8080/#/alerts?alert_id=pump-1%2Fbehaviour%2F1772344800000000":  "pump-1/behaviour/1772344800000000",
		"https://x/?next=%2Fa%3Falert_id%3Dpump-1%252Fsilence%252F1772344800000000&me=1": "pump-1/silence/1772344800000000",
		"https://x/machines/pump-1":                                                      "",
		"":                                                                               "",
		"pump-1/behaviour/99999999999999999999":                                          "",
	} {
		got, err := replayalert.ParseEpisode(in)
		if got.ID != want || (want == "") != errors.Is(err, replayalert.ErrID) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}
