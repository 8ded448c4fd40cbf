package topology

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

const patience = 60 * time.Second

func newTopology(t testing.TB, k kafka.Config) *Topology {
	t.Helper()
	deps := service.Nop()
	deps.Kafka = k
	top, err := New(Config{
		Group: "judges", InstanceID: "a", SessionTimeout: 3 * time.Second, CommitInterval: 20 * time.Millisecond, CommitRecords: 1000,
		RestoreTimeout: patience, RestoreParallel: 2, MaxMachines: 100, Snapshot: SnapshotConfig{MaxAgeMS: 30_000, MaxRecords: 5, MaxBytes: 1 << 20},
	}, detection.New(judgeConfig(), 0), resolve, exporter{}, deps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(top.Close)
	return top
}

func write(t *testing.T, k kafka.Config, rs ...*kgo.Record) {
	t.Helper()
	cl := kafkatest.Client(t, k, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func framesOf(partition int32, from, to int) []*kgo.Record {
	var rs []*kgo.Record
	for i := from; i < to; i++ {
		r := frameRecord(frame.New(fmt.Sprintf("m%d", partition), "gw", uint64(i+1), time.UnixMilli(epochMS+int64(i)*1000), []string{"s0", "s1"}, []float32{1, float32(i)}))
		r.Topic, r.Partition = topic.Frames, partition
		rs = append(rs, r)
	}
	return rs
}

// judged has both partitions judged by an instance that has left the group since.
func judged(t *testing.T) (kafka.Config, *kadm.Client) {
	t.Helper()
	k := kafkatest.Start(t, 2)
	write(t, k, append(framesOf(0, 0, 20), framesOf(1, 0, 20)...)...)
	top := newTopology(t, k)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- top.Run(ctx) }()
	kafkatest.ConsumeUntil(t, k, topic.Readings, patience, func(rs []*kgo.Record) bool {
		n := 0
		for _, r := range rs {
			if !topic.IsTick(r) {
				n++
			}
		}
		return n >= 40
	})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(kafkatest.Client(t, k))
	leave(t, adm)
	return k, adm
}

func within(t *testing.T, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := do(ctx); err != nil {
		t.Fatal(err)
	}
}

// refuses runs a topology that must end by itself, with an error that says all of want.
func refuses(t *testing.T, k kafka.Config, want ...string) {
	t.Helper()
	top := newTopology(t, k)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := top.Run(ctx)
	if err == nil || ctx.Err() != nil {
		t.Fatalf("Run gave %v, want an error", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("Run gave %q, want it to say %q", err, w)
		}
	}
	if top.Ready() == nil {
		t.Error("it calls itself ready")
	}
}

// committed is the group's offset of partition 1.
func committed(t *testing.T, adm *kadm.Client) (at int64) {
	t.Helper()
	within(t, func(ctx context.Context) error {
		os, err := adm.FetchOffsets(ctx, "judges")
		if err != nil {
			return err
		}
		o, ok := os.Lookup(topic.Frames, 1)
		if !ok {
			return fmt.Errorf("no offset of partition 1 in %v", os)
		}
		at = o.At
		return nil
	})
	return at
}

func TestStateAndOffsetsMustAgree(t *testing.T) {
	k, adm := judged(t)
	at := committed(t, adm)
	for _, wrong := range []int64{at - 1, at + 1, 0} {
		within(t, func(ctx context.Context) error {
			return adm.CommitAllOffsets(ctx, "judges", offsetsAt(1, wrong))
		})
		refuses(t, k, "partition 1:", fmt.Sprintf("state ends at offset %d", at), fmt.Sprintf("committed %d", wrong), fmt.Sprintf("set the group's offset to %d", at))
		leave(t, adm)
	}
	// What the error says to do mends it.
	within(t, func(ctx context.Context) error { return adm.CommitAllOffsets(ctx, "judges", offsetsAt(1, at)) })
	works(t, k)
}

func TestStateWithoutOffsetsIsRefused(t *testing.T) {
	k, adm := judged(t)
	at := committed(t, adm)
	within(t, func(ctx context.Context) error {
		var gone kadm.TopicsSet
		gone.Add(topic.Frames, 1)
		res, err := adm.DeleteOffsets(ctx, "judges", gone)
		if err == nil {
			err = res.Error()
		}
		return err
	})
	refuses(t, k, "partition 1:", "no committed offset", fmt.Sprintf("set it to %d", at))
	leave(t, adm)
	within(t, func(ctx context.Context) error { return adm.CommitAllOffsets(ctx, "judges", offsetsAt(1, at)) })
	works(t, k)
}

func TestOffsetsWithoutStateAreRefused(t *testing.T) {
	k, adm := judged(t)
	within(t, func(ctx context.Context) error {
		ends, err := adm.ListEndOffsets(ctx, topic.State)
		if err != nil {
			return err
		}
		end, _ := ends.Lookup(topic.State, 1)
		_, err = adm.DeleteRecords(ctx, offsetsOf(topic.State, 1, end.Offset))
		return err
	})
	refuses(t, k, "partition 1:", fmt.Sprintf("committed offset %d", committed(t, adm)), topic.State+" holds no state", "judged from its beginning")
}

func TestASnapshotThatIsMissingIsNoticed(t *testing.T) {
	k, _ := judged(t)
	write(t, k, &kgo.Record{Topic: topic.State, Partition: 1, Key: []byte(machinePrefix + "m1")}) // a tombstone that no transaction wrote
	refuses(t, k, "state of partition 1:", "state hash", "judged from its beginning")
}

func TestStateOfANewerBuildIsRefused(t *testing.T) {
	k, adm := judged(t)
	value, err := proto.Marshal(&eventv1.PartitionMeta{Format: metaFormat + 1, NextOffset: committed(t, adm)})
	if err != nil {
		t.Fatal(err)
	}
	write(t, k, &kgo.Record{Topic: topic.State, Partition: 1, Key: []byte(metaKey), Value: value})
	refuses(t, k, "state of partition 1:", fmt.Sprintf("format %d", metaFormat+1))
}

func offsetsAt(partition int32, at int64) kadm.Offsets {
	return offsetsOf(topic.Frames, partition, at)
}

func offsetsOf(name string, partition int32, at int64) kadm.Offsets {
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: name, Partition: partition, At: at, LeaderEpoch: -1})
	return os
}

// leave takes the instance out of the group: a static member that stops keeps its place.
func leave(t *testing.T, adm *kadm.Client) {
	t.Helper()
	within(t, func(ctx context.Context) error {
		_, err := adm.LeaveGroup(ctx, kadm.LeaveGroup("judges").InstanceIDs("a"))
		return err
	})
}

// works proves that a topology judges what is written now.
func works(t *testing.T, k kafka.Config) {
	t.Helper()
	top := newTopology(t, k)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- top.Run(ctx) }()
	write(t, k, framesOf(1, 20, 21)...)
	kafkatest.ConsumeUntil(t, k, topic.Readings, patience, func(rs []*kgo.Record) bool {
		for _, r := range rs {
			if topic.Header(r, topic.HeaderID) == "gw/m1/21" {
				return true
			}
		}
		return false
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// runs runs a topology until the test ends or it ends by itself.
func runs(t *testing.T, top *Topology) (ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done, kept := make(chan error, 1), make(chan error, 1)
	go func() {
		err := top.Run(ctx)
		done <- err
		kept <- err
	}()
	t.Cleanup(func() {
		cancel()
		<-kept //nolint:errcheck // the test has it, or does not ask
	})
	return done
}

// await polls until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	for end := time.Now().Add(patience); !holds(); <-every.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// The second of two processes with one name takes over; the first says why it leaves.
func TestTwoProcessesOfOneName(t *testing.T) {
	k := kafkatest.Start(t, 2)
	first := newTopology(t, k)
	ended := runs(t, first)
	write(t, k, append(framesOf(0, 0, 20), framesOf(1, 0, 20)...)...)
	await(t, "the first is ready", func() bool { return first.Ready() == nil })
	second := newTopology(t, k)
	runs(t, second)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the first left without a reason")
		}
		t.Log(err)
	case <-time.After(patience):
		t.Fatal("both go on")
	}
	await(t, "the second is ready", func() bool { return second.Ready() == nil })
	write(t, k, framesOf(1, 20, 21)...)
	kafkatest.ConsumeUntil(t, k, topic.Readings, patience, func(rs []*kgo.Record) bool {
		for _, r := range rs {
			if topic.Header(r, topic.HeaderID) == "gw/m1/21" {
				return true
			}
		}
		return false
	})
}

// What Kafka will never take must not be tried for ever.
func TestAReasonThatStaysStops(t *testing.T) {
	cluster, k := kafkatest.StartCluster(t, 1)
	var readings atomic.Value
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		if r.TransactionID == nil {
			return nil, nil, false
		}
		readings.Store(true)
		resp := r.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range r.Topics {
			st := kmsg.NewProduceResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewProduceResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, kerr.MessageTooLarge.Code
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	write(t, k, framesOf(0, 0, 1)...)
	refuses(t, k, "a reason that stays", "MESSAGE_TOO_LARGE")
	if readings.Load() == nil {
		t.Error("nothing was refused: this shows nothing")
	}
}

// The session keeps quiet about a second revocation before its next End: what the group does not count as ours is dropped all the same.
func TestAPartitionTakenInSilenceIsDropped(t *testing.T) {
	k := kafkatest.Start(t, 2)
	top := newTopology(t, k)
	runs(t, top)
	await(t, "it is ready", func() bool { return top.Ready() == nil })
	top.set(func() {
		top.slots[99] = &slot{cancel: func() {}, progress: newProgress(live), part: newPartition(99, top.mine, 1, resolve, exporter{}, nil), inForce: top.mine, counted: true}
	})
	await(t, "the partition is dropped", func() bool { return len(top.owned()) == 2 })
}

// Of two restores of a partition the one for the newest assignment counts, also when the older one ends after it.
func TestAnOlderRestoreIsThrownAway(t *testing.T) {
	k := kafkatest.Start(t, 2)
	top := newTopology(t, k)
	work, stop := context.WithCancel(context.Background())
	top.work, top.client = work, kafkatest.Client(t, k)
	t.Cleanup(func() {
		top.drop(top.owned())
		stop()
		top.workers.Wait()
	})
	top.workers.Go(func() { top.detections.Run(work) })
	if _, err := top.detections.Settle(work, top.mine); err != nil {
		t.Fatal(err)
	}
	const older, newer = 5, 9
	for range cap(top.restore1) { // neither restores before both have begun
		top.restore1 <- struct{}{}
	}
	top.begin(0, older, true)
	top.begin(0, newer, true)
	for range cap(top.restore1) {
		<-top.restore1
	}
	ended := []restored{<-top.done, <-top.done}
	if top.slots[0] != ended[0].slot {
		slices.Reverse(ended)
	}
	for _, r := range ended {
		handed := make(chan struct{})
		go func() {
			defer close(handed)
			top.done <- r
		}()
		await(t, "it is taken", func() bool {
			if err := top.adopt(top.client); err != nil {
				t.Fatal(err)
			}
			select {
			case <-handed:
				return true
			default:
				return false
			}
		})
	}
	if p := top.slots[0].part; p == nil || p.next != newer {
		t.Errorf("in force: %+v, want the one that begins at %d", p, newer)
	}
}

// A replay waits for a schema that was known when the record was judged, and says so.
func TestARestoreWaitsForASchema(t *testing.T) {
	k := kafkatest.Start(t, 2)
	var known atomic.Bool
	known.Store(true)
	schemas := func(ctx context.Context, id string) ([]string, error) {
		if !known.Load() {
			return nil, ErrUnknownSchema
		}
		return resolve(ctx, id)
	}
	first := newTopology(t, k)
	first.schemas = schemas
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	r := frameRecord(bySchema("known", 1))
	r.Topic, r.Partition = topic.Frames, 1
	write(t, k, r)
	kafkatest.ConsumeUntil(t, k, topic.Readings, patience, func(rs []*kgo.Record) bool {
		return slices.ContainsFunc(rs, func(r *kgo.Record) bool { return !topic.IsTick(r) })
	})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	known.Store(false)
	second := newTopology(t, k)
	second.schemas = schemas
	runs(t, second)
	await(t, "it says what it waits for", func() bool {
		err := second.Ready()
		return err != nil && strings.Contains(err.Error(), "restoring partitions 1 (replaying") && strings.Contains(err.Error(), "waiting for a schema")
	})
	var shown bytes.Buffer
	second.metrics.set.WritePrometheus(&shown)
	if want := fmt.Sprintf(`tocsin_processor_restore_phase{partition="1"} %d`, missingSchema); !strings.Contains(shown.String(), want) {
		t.Errorf("the metrics do not say %s", want)
	}
	known.Store(true)
	await(t, "it is ready", func() bool { return second.Ready() == nil })
	if dead := kafkatest.ReadAll(t, k, topic.DLQ(topic.Frames)); len(dead) != 0 {
		t.Errorf("%d dead letters", len(dead))
	}
}

// The client counts partitions as ours only when all of them have been assigned. One that is restored by then must stay, or its records would
// come before its state.
func TestAPartitionRestoredBeforeTheGroupCountsItStays(t *testing.T) {
	top := newTopology(t, kafkatest.Start(t, 1))
	defer top.Close()
	s := &slot{cancel: func() {}, progress: newProgress(live), part: newPartition(0, top.detections.Current(), 1, resolve, exporter{}, nil)}
	top.slots[0] = s
	top.reconcile(top.plain) // a client that counts nothing
	if top.slots[0] != s {
		t.Fatal("it was dropped")
	}
	s.counted = true
	top.reconcile(top.plain)
	if top.slots[0] != nil {
		t.Fatal("what the group no longer counts stays")
	}
}
