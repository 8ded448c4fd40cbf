package dlq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// bench is a broker with dead letters on it.
type bench struct {
	t       *testing.T
	cluster *kfake.Cluster
	cfg     kafka.Config
	cl      *kgo.Client
	shelf   *dlq.Shelf
}

// scratchKafka names a real Kafka broker (host:port) to run these tests on instead of the embedded one, but for those that inject
// faults into it. ALL ITS TOCSIN TOPICS ARE DELETED before each test: give it a broker of its own.
const scratchKafka = "TOCSIN_TEST_SCRATCH_KAFKA"

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t}
	if addr := os.Getenv(scratchKafka); addr != "" {
		b.cfg = scratch(t, addr)
	} else {
		b.cluster, b.cfg = kafkatest.StartCluster(t, 3)
	}
	b.cl, b.shelf = kafkatest.Client(t, b.cfg, kgo.RecordPartitioner(kgo.ManualPartitioner())), dlq.NewShelf(b.cfg, zap.NewNop())
	return b
}

// faulty is newBench over a broker that faults can be injected into.
func faulty(t *testing.T) *bench {
	b := newBench(t)
	if b.cluster == nil {
		const why = "NOT PROVEN HERE, because TOCSIN_TEST_SCRATCH_KAFKA is set: faults are injected into the embedded broker only"
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	return b
}

func scratch(t *testing.T, addr string) kafka.Config {
	t.Helper()
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Partitions = []string{addr}, 3
	cl := kafkatest.Client(t, cfg)
	var names []string
	for _, s := range topic.All() {
		names = append(names, s.Name)
	}
	if _, err := kadm.NewClient(cl).DeleteTopics(within(t), names...); err != nil {
		t.Fatal(err)
	}
	if err := kafka.AwaitTopics(within(t), cl, cfg, func(err error) { t.Log(err) }, topic.All()...); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// refuse writes a record and the letter of it.
func (b *bench) refuse(name string, partition int32, consumer, value, why string) *kgo.Record {
	b.t.Helper()
	rec := &kgo.Record{
		Topic: name, Partition: partition, Key: []byte("press-1"), Value: []byte(value),
		Headers: []kgo.RecordHeader{{Key: topic.HeaderID, Value: []byte("id-" + value)}},
	}
	if err := b.cl.ProduceSync(within(b.t), rec).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
	b.letter(rec, consumer, why)
	return rec
}

func (b *bench) letter(rec *kgo.Record, consumer, why string) {
	b.t.Helper()
	if err := dlq.New(b.cl, consumer).Send(within(b.t), rec, errors.New(why)); err != nil {
		b.t.Fatal(err)
	}
}

// values of the topic's committed records that were given back, in order.
func (b *bench) back(name string) []string {
	b.t.Helper()
	var out []string
	for _, r := range kafkatest.ReadAll(b.t, b.cfg, name) {
		if topic.Header(r, dlq.HeaderFor) != "" {
			out = append(out, string(r.Value))
		}
	}
	return out
}

func (b *bench) list(f dlq.Filter) []dlq.Letter {
	b.t.Helper()
	ls, err := b.shelf.List(within(b.t), f)
	if err != nil {
		b.t.Fatal(err)
	}
	return ls
}

func (b *bench) retry(f dlq.Filter, opt dlq.RetryOptions) dlq.Summary {
	b.t.Helper()
	sum, err := b.shelf.Retry(within(b.t), f, opt)
	if err != nil {
		b.t.Fatal(err)
	}
	return sum
}

func TestListPicksAndTellsRepeats(t *testing.T) {
	b := newBench(t)
	if got := b.list(dlq.Filter{}); len(got) != 0 {
		t.Fatal(got)
	}
	frame := b.refuse(topic.Frames, 2, dlq.Processor, "f", "not a SensorFrame")
	an := b.refuse(topic.Anomalies, 1, dlq.Router, "a", "severity: unknown")
	b.letter(an, dlq.Writer, "decode anomaly")
	b.letter(an, dlq.Writer, "decode anomaly") // at least once
	// Somebody else's record must not stand in the way.
	if err := b.cl.ProduceSync(within(t), &kgo.Record{Topic: topic.DLQ(topic.Frames), Value: []byte("?")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	all := b.list(dlq.Filter{})
	if len(all) != 3 {
		t.Fatalf("%d letters: %+v", len(all), all)
	}
	for _, c := range []struct {
		f    dlq.Filter
		want int
	}{
		{dlq.Filter{Topic: topic.Frames}, 1},
		{dlq.Filter{Topic: topic.Anomalies}, 2},
		{dlq.Filter{Consumer: dlq.Writer}, 1},
		{dlq.Filter{Reason: "severity"}, 1},
		{dlq.Filter{Reason: "nothing like it"}, 0},
		{dlq.Filter{Since: time.Now().Add(time.Hour)}, 0},
		{dlq.Filter{Since: time.Now().Add(-time.Hour)}, 3},
		{dlq.Filter{IDs: []dlq.ID{{Topic: topic.Anomalies, Partition: 1, Offset: an.Offset}}}, 2},
		{dlq.Filter{IDs: []dlq.ID{{Topic: topic.Anomalies, Partition: 1, Offset: an.Offset, Consumer: dlq.Writer}}}, 1},
		{dlq.Filter{IDs: []dlq.ID{{Topic: "other", Partition: 1, Offset: an.Offset}}}, 0},
	} {
		if got := b.list(c.f); len(got) != c.want {
			t.Errorf("%+v: %d letters, want %d", c.f, len(got), c.want)
		}
	}
	w := b.list(dlq.Filter{Consumer: dlq.Writer})[0]
	if w.Repeats != 1 || w.Attempt != 1 || w.ID() != fmt.Sprintf("%s/1/%d", topic.Anomalies, an.Offset) || w.TimestampMS != an.Timestamp.UnixMilli() || !w.Waiting() {
		t.Errorf("%+v", w)
	}
	l := b.list(dlq.Filter{Topic: topic.Frames})[0]
	rec, err := b.shelf.Open(within(t), l)
	if err != nil || !bytes.Equal(rec.Value, frame.Value) || l.Reason != "not a SensorFrame" || l.Bytes != 1 {
		t.Errorf("%+v %v %v", l, rec, err)
	}
	l.BoxOffset = 1 << 40
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := b.shelf.Open(short, l); err == nil {
		t.Error("opened what is not there")
	}
}

func TestRetryGivesBackOnce(t *testing.T) {
	b := newBench(t)
	var want []string
	for i := range 1203 { // several batches
		v := fmt.Sprint("v", i)
		rec := &kgo.Record{Topic: topic.Readings, Partition: int32(i % 3), Key: []byte("k"), Value: []byte(v), Offset: int64(i), Timestamp: time.Now(), Headers: []kgo.RecordHeader{{Key: "own", Value: []byte{0xff}}}}
		b.cl.Produce(within(t), dlq.Refuse(rec, dlq.Writer, errors.New("schema_id: not registered")), nil)
		want = append(want, v)
	}
	if err := b.cl.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	frame := b.refuse(topic.Frames, 2, dlq.Processor, "f", "schema_id: not registered")
	b.refuse(topic.Frames, 1, dlq.Processor, "g", "garbage")
	f := dlq.Filter{Reason: "schema_id"}

	sum := b.retry(f, dlq.RetryOptions{DryRun: true})
	if sum.Matched != 1204 || sum.Retried != 1204 || len(b.back(topic.Readings)) != 0 {
		t.Fatalf("dry run: %+v", sum)
	}
	seen := int64(0)
	sum = b.retry(f, dlq.RetryOptions{Progress: func(done, total int64) {
		if done <= seen || total != 1204 {
			t.Errorf("progress %d after %d of %d", done, seen, total)
		}
		seen = done
	}})
	if sum.Retried != 1204 || sum.Before != 0 || len(sum.Skipped) != 0 || seen != 1204 {
		t.Fatalf("%+v, progress %d", sum, seen)
	}
	got := b.back(topic.Readings)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%d came back, want %d", len(got), len(want))
	}
	back := kafkatest.ReadAll(t, b.cfg, topic.Frames)
	r := back[slices.IndexFunc(back, func(r *kgo.Record) bool { return topic.Header(r, dlq.HeaderFor) != "" })]
	if r.Partition != 2 || !bytes.Equal(r.Key, frame.Key) || topic.Header(r, topic.HeaderID) != "id-f" || topic.Header(r, dlq.HeaderFor) != dlq.Processor ||
		topic.Header(r, dlq.HeaderAttempt) != "2" || topic.Header(r, dlq.HeaderOrigin) != fmt.Sprintf("%s/2/%d", topic.Frames, frame.Offset) || topic.Header(r, dlq.HeaderReason) != "" {
		t.Errorf("%+v", r)
	}
	if !dlq.IsFor(r, dlq.Processor) || dlq.IsFor(r, dlq.Writer) || !dlq.IsFor(frame, dlq.Writer) {
		t.Error("IsFor")
	}

	sum = b.retry(f, dlq.RetryOptions{})
	if sum.Retried != 0 || sum.Before != 1204 || len(b.back(topic.Readings)) != 1203 || len(b.back(topic.Frames)) != 1 {
		t.Fatalf("again: %+v", sum)
	}
	for _, l := range b.list(f) {
		if l.Waiting() {
			t.Fatalf("still waiting: %+v", l)
		}
	}

	// Refused again: a new letter that knows its history.
	b.letter(r, dlq.Processor, "schema_id: still not")
	var again dlq.Letter
	for _, l := range b.list(dlq.Filter{Reason: "still not"}) {
		again = l
	}
	if again.Attempt != 2 || again.Origin != fmt.Sprintf("%s/2/%d", topic.Frames, frame.Offset) || again.Offset != r.Offset || !again.Waiting() {
		t.Errorf("%+v", again)
	}
	if sum := b.retry(f, dlq.RetryOptions{MaxAttempts: 2}); sum.Retried != 0 || len(sum.Skipped) != 1 || !strings.Contains(sum.Skipped[0].Why, "2 times") {
		t.Errorf("%+v", sum)
	}
	if sum := b.retry(f, dlq.RetryOptions{MaxAttempts: 3}); sum.Retried != 1 || len(b.back(topic.Frames)) != 2 {
		t.Errorf("%+v", sum)
	}
}

// A sender repeats a frame whose answer got lost; so both come to be refused. One is given back: the processor may no longer be able to
// tell that they are one.
func TestOneFrameInTwoLetters(t *testing.T) {
	b := newBench(t)
	first := b.refuse(topic.Frames, 2, dlq.Processor, "f", "schema_id: not registered")
	second := b.refuse(topic.Frames, 2, dlq.Processor, "f", "schema_id: not registered")
	for range 2 {
		ls := b.list(dlq.Filter{IDs: []dlq.ID{{Topic: topic.Frames, Partition: 2, Offset: second.Offset}}})
		if len(ls) != 1 || ls[0].Twin != fmt.Sprintf("%s/2/%d", topic.Frames, first.Offset) {
			t.Fatalf("%+v", ls)
		}
		sum := b.retry(dlq.Filter{}, dlq.RetryOptions{})
		if len(sum.Skipped) != 1 || len(b.back(topic.Frames)) != 1 {
			t.Fatalf("%+v, %d came back", sum, len(b.back(topic.Frames)))
		}
	}
	back := kafkatest.ReadAll(t, b.cfg, topic.Frames)
	r := back[slices.IndexFunc(back, dlq.IsReturned)]
	b.letter(r, dlq.Processor, "schema_id: still not") // the same frame, but another try: no twin
	if sum := b.retry(dlq.Filter{}, dlq.RetryOptions{}); sum.Retried != 1 {
		t.Fatalf("%+v", sum)
	}
}

// Each fault strikes once in the middle of a retry of three batches; whatever it is, the next try, of the same call or of
// the next, must neither lose nor double anything.
func TestACrashInTheMiddle(t *testing.T) {
	const n = 1200
	for _, name := range []string{topic.Readings, topic.Frames} {
		for what, c := range map[string]struct {
			key   kmsg.Key
			nth   int
			reply func(kmsg.Request) (kmsg.Response, error)
		}{
			"the transaction's end is refused":        {kmsg.EndTxn, 2, endTxn(kerr.CoordinatorNotAvailable)},
			"the transaction's end fails for good":    {kmsg.EndTxn, 2, endTxn(kerr.InvalidTxnState)},
			"the connection is cut at the end":        {kmsg.EndTxn, 2, cut},
			"the connection is cut while writing":     {kmsg.Produce, 2, cut},
			"the claim is cut":                        {kmsg.InitProducerID, 1, cut},
			"the ends of the topics are not answered": {kmsg.ListOffsets, 2, cut},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				b := faulty(t)
				want := b.fill(name, n)
				var mu sync.Mutex
				seen := 0
				b.cluster.ControlKey(int16(c.key), func(req kmsg.Request) (kmsg.Response, error, bool) {
					mu.Lock()
					defer mu.Unlock()
					b.cluster.KeepControl()
					if seen++; seen != c.nth {
						return nil, nil, false
					}
					res, err := c.reply(req)
					return res, err, true
				})
				sum, err := b.shelf.Retry(within(t), dlq.Filter{}, dlq.RetryOptions{})
				if err != nil {
					t.Logf("first: %v", err)
					sum = b.retry(dlq.Filter{}, dlq.RetryOptions{})
				}
				if sum.Retried+sum.Before != n {
					t.Errorf("%+v", sum)
				}
				mu.Lock()
				if seen < c.nth {
					t.Errorf("the fault never struck: %d requests", seen)
				}
				mu.Unlock()
				b.same(name, want)
				if sum := b.retry(dlq.Filter{}, dlq.RetryOptions{}); sum.Retried != 0 || sum.Before != n {
					t.Errorf("again: %+v", sum)
				}
				b.same(name, want)
			})
		}
	}
}

func (b *bench) fill(name string, n int) []string {
	b.t.Helper()
	var want []string
	consumer := dlq.Writer
	if name == topic.Frames {
		consumer = dlq.Processor
	}
	for i := range n {
		v := fmt.Sprintf("v%05d", i)
		rec := &kgo.Record{Topic: name, Partition: int32(i % 3), Value: []byte(v), Offset: int64(i), Timestamp: time.Now()}
		b.cl.Produce(within(b.t), dlq.Refuse(rec, consumer, errors.New("poison")), nil)
		want = append(want, v)
	}
	if err := b.cl.Flush(within(b.t)); err != nil {
		b.t.Fatal(err)
	}
	return want
}

func (b *bench) same(name string, want []string) {
	b.t.Helper()
	got := b.back(name)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		b.t.Fatalf("%d records came back, %d different ones; want %d", len(got), len(slices.Compact(slices.Clone(got))), len(want))
	}
}

func cut(kmsg.Request) (kmsg.Response, error) { return nil, errors.New("cut") }

func endTxn(e *kerr.Error) func(kmsg.Request) (kmsg.Response, error) {
	return func(req kmsg.Request) (kmsg.Response, error) {
		res := req.ResponseKind().(*kmsg.EndTxnResponse) //nolint:forcetypeassert // the key says what it is
		res.ErrorCode = e.Code
		return res, nil
	}
}

// The process dies while a batch is open; the next one picks other letters first.
func TestDiesWithABatchOpen(t *testing.T) {
	b := faulty(t)
	want := b.fill(topic.Frames, 1200)
	ctx, kill := context.WithCancel(within(t))
	var buried atomic.Bool
	ends := 0
	b.cluster.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		if ends++; ends < 2 || buried.Load() {
			return nil, nil, false
		}
		kill() // the second batch is written; from here on nothing it says is heard
		return nil, errors.New("cut"), true
	})
	dead := make(chan error, 1)
	go func() {
		_, err := b.shelf.Retry(ctx, dlq.Filter{}, dlq.RetryOptions{})
		dead <- err
	}()
	if err := <-dead; err == nil {
		t.Fatal("it did not notice")
	}
	buried.Store(true)
	b.retry(dlq.Filter{Reason: "other"}, dlq.RetryOptions{})
	sum := b.retry(dlq.Filter{}, dlq.RetryOptions{})
	if sum.Before != 500 || sum.Retried != 700 {
		t.Errorf("%+v", sum)
	}
	b.same(topic.Frames, want)
}

// A transaction of a service is open on the dead-letter topic while one retry after the other runs: what the first has noted
// stands behind it, and the second must not miss that.
func TestNotesBehindAnOpenTransaction(t *testing.T) {
	b := newBench(t)
	want := b.fill(topic.Readings, 5)
	open := kafkatest.Client(t, b.cfg, kgo.TransactionalID("a service"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := open.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := open.ProduceSync(within(t), &kgo.Record{Topic: topic.DLQ(topic.Readings), Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if ls := b.list(dlq.Filter{}); len(ls) != 5 {
		t.Fatalf("%d letters: list must not wait for open transactions", len(ls))
	}
	both := make(chan error, 2)
	retry := func() {
		_, err := b.shelf.Retry(within(t), dlq.Filter{}, dlq.RetryOptions{})
		both <- err
	}
	go retry()
	// The first waits for the transaction's end. Once it waits, let a second come and then end it.
	go retry()
	if err := open.EndTransaction(within(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-both; err != nil && !errors.Is(err, dlq.ErrTaken) {
			t.Error(err)
		}
	}
	b.retry(dlq.Filter{}, dlq.RetryOptions{})
	b.same(topic.Readings, want)
}

func TestManyRetriesAtOnce(t *testing.T) {
	for _, name := range []string{topic.Readings, topic.Frames} {
		b := newBench(t)
		want := b.fill(name, 1600)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := b.shelf.Retry(within(t), dlq.Filter{}, dlq.RetryOptions{}); err != nil && !errors.Is(err, dlq.ErrTaken) {
					t.Logf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
		b.retry(dlq.Filter{}, dlq.RetryOptions{})
		b.same(name, want)
	}
}

func TestLettersAreNeverTooLarge(t *testing.T) {
	b := newBench(t)
	big := bytes.Repeat([]byte{'x'}, 40<<20)
	for name, rec := range map[string]*kgo.Record{ // value, key, headers, and just not too large
		"val":     {Topic: topic.Readings, Value: big},
		"it":      {Topic: topic.Readings, Key: big, Value: []byte("v")},
		"headers": {Topic: topic.Readings, Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "small", Value: []byte("1")}, {Key: "big", Value: big}}},
		"limit":   {Topic: topic.Readings, Value: big[:8<<20-64<<10]},
	} {
		cl := kafkatest.Client(t, b.cfg, kgo.ProducerBatchMaxBytes(8<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
		rec.Partition, rec.Offset = int32(len(name)), 1 // tells them apart
		if err := dlq.New(cl, dlq.Writer).Send(within(t), rec, errors.New(strings.Repeat("why", 1000))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, l := range b.list(dlq.Filter{}) {
		if cut := l.Partition != int32(len("limit")); (l.Cut != "") != cut {
			t.Errorf("%s: cut %q", l.ID(), l.Cut)
		}
	}
	sum := b.retry(dlq.Filter{}, dlq.RetryOptions{})
	if len(sum.Skipped) != 4 || sum.Retried != 0 { // partition 5 is not there
		t.Errorf("%+v", sum)
	}
}

func TestParseID(t *testing.T) {
	for _, s := range []string{"telemetry.frames.v1/3/1042", "a/0/0@alert-router"} {
		id, err := dlq.ParseID(s)
		if err != nil || id.String() != s {
			t.Errorf("%s: %+v %v", s, id, err)
		}
	}
	for _, s := range []string{"", "a", "a/1", "/1/2", "a/x/2", "a/1/x", "a/-1/2", "a/1/-2", "a/1/2@", "a/1/2/3", "a/99999999999/1"} {
		if _, err := dlq.ParseID(s); err == nil || !strings.Contains(err.Error(), "1042") {
			t.Errorf("%q: %v", s, err)
		}
	}
}
