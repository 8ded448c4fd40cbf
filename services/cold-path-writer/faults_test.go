package coldpathwriter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/commit"
)

// faulty is a bucket whose writes can fail before or after they were made.
type faulty struct {
	objstore.Bucket
	before, after func(key string) error
	puts          atomic.Int64
}

func newFaulty(t testing.TB, dir string) *faulty {
	t.Helper()
	b, err := objstore.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	pass := func(string) error { return nil }
	return &faulty{Bucket: b, before: pass, after: pass}
}

func (f *faulty) PutIfAbsent(ctx context.Context, key string, data []byte, meta map[string]string) error {
	if strings.HasPrefix(key, "probe/") {
		return f.Bucket.PutIfAbsent(ctx, key, data, meta)
	}
	f.puts.Add(1)
	if err := f.before(key); err != nil {
		return err
	}
	err := f.Bucket.PutIfAbsent(ctx, key, data, meta)
	if err == nil {
		err = f.after(key)
	}
	return err
}

// Close leaves the directory open for the next writer of the test.
func (f *faulty) Close() error { return nil }

var errDown = errors.New("injected: store does not answer")

// blockCommits makes the broker refuse offset commits until the returned function is called.
func blockCommits(c *kfake.Cluster) (release func()) {
	var off atomic.Bool
	c.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if off.Load() {
			return nil, nil, false
		}
		c.KeepControl()
		r := req.(*kmsg.OffsetCommitRequest)
		resp := r.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.CoordinatorLoadInProgress.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	return func() { off.Store(true) }
}

// clean fails the test unless the audit finds nothing wrong.
func clean(t testing.TB, dir string) AuditReport {
	t.Helper()
	b, err := objstore.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	r, err := Audit(t.Context(), b, AuditOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		t.Errorf("audit: %+v", f)
	}
	return r
}

// readings is what an audit says of that table.
func readings(t testing.TB, r AuditReport) TableAudit {
	t.Helper()
	i := slices.IndexFunc(r.Tables, func(a TableAudit) bool { return a.Table == "readings" })
	if i < 0 {
		t.Fatalf("no table readings in %+v", r.Tables)
	}
	return r.Tables[i]
}

func counter(w *writer, name string) int {
	var sb strings.Builder
	w.deps.Metrics.WritePrometheus(&sb)
	for line := range strings.Lines(sb.String()) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			var n int
			if _, err := fmt.Sscan(v, &n); err == nil {
				return n
			}
		}
	}
	return -1
}

// crashedBeforeCommit leaves a lake with one file whose offsets are committed and one whose are not, of n readings in all.
func crashedBeforeCommit(t *testing.T, n int) (k kafka.Config, src *source, dir string) {
	t.Helper()
	c, k := kafkatest.StartCluster(t, 1)
	src, dir = newSource(t, k), t.TempDir()
	src.readings(0, 4)
	w := start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 4)
	w.stop(t)
	release := blockCommits(c)
	src.readings(0, n-4)
	cfg := testConfig(dir)
	cfg.DrainTimeout = time.Millisecond
	w = start(t, cfg, k, nil)
	eventually(t, "a file more", func() bool { return len(files(t, dir, "readings")) == 2 })
	w.stop(t)
	release()
	return k, src, dir
}

func TestCrashAfterPutBeforeCommit(t *testing.T) {
	k, src, dir := crashedBeforeCommit(t, 12)
	src.readings(0, 8)
	w := start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 20)
	if n := counter(w, `tocsin_lake_files_found_total{table="readings"}`); n != 1 {
		t.Errorf("%d files were found to be there, want 1", n)
	}
	clean(t, dir)
}

func TestAnswerOfPutIsLost(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	b := newFaulty(t, dir)
	var lost atomic.Int64
	b.after = func(string) error {
		lost.Add(1)
		return errDown
	}
	src.readings(0, 40)
	w := start(t, testConfig(dir), k, b)
	awaitExact(t, dir, 40)
	w.stop(t)
	if lost.Load() == 0 {
		t.Fatal("nothing was injected")
	}
	clean(t, dir)
}

// Whatever the store answers, be it that somebody else is writing the object just now (409): the write is tried until it is known to stand.
func TestStoreOutage(t *testing.T) {
	for name, answer := range map[string]error{"down": errDown, "conflict": fmt.Errorf("injected: %w", objstore.ErrConflict)} {
		t.Run(name, func(t *testing.T) {
			k := kafkatest.Start(t, 2)
			src, dir := newSource(t, k), t.TempDir()
			b := newFaulty(t, dir)
			var down atomic.Bool
			down.Store(true)
			b.before = func(string) error {
				if down.Load() {
					return answer
				}
				return nil
			}
			src.readings(0, 40)
			src.readings(1, 40)
			w := start(t, testConfig(dir), k, b)
			eventually(t, "each partition's write is tried again", func() bool { return b.puts.Load() >= 6 })
			if err := w.Ready(); err == nil || !strings.Contains(err.Error(), "store does not answer") {
				t.Errorf("ready: %v", err)
			}
			if n := len(files(t, dir, "readings")); n != 0 {
				t.Fatalf("%d files during the outage", n)
			}
			down.Store(false)
			awaitExact(t, dir, 80)
			eventually(t, "ready again", func() bool { return w.Ready() == nil })
			clean(t, dir)
		})
	}
}

// The store answers 409 to one write now and then: no file is missing, none is there twice.
func TestConflictsBetweenWrites(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	b := newFaulty(t, dir)
	var n atomic.Int64
	b.before = func(string) error {
		if n.Add(1)%2 == 1 {
			return fmt.Errorf("injected: %w", objstore.ErrConflict)
		}
		return nil
	}
	src.readings(0, 40)
	start(t, testConfig(dir), k, b)
	awaitExact(t, dir, 40)
	if got := b.puts.Load(); got != 20 {
		t.Errorf("%d writes for 10 files of which each was refused once", got)
	}
	if r := readings(t, clean(t, dir)); r.Files != 10 {
		t.Errorf("%+v", r)
	}
}

// The rules change between the PUT and the commit: the chunk that is there stands, whichever of the two is longer.
func TestAdoptsAnotherEnd(t *testing.T) {
	for name, rows := range map[string]int64{"longer": 100, "shorter": 20} {
		t.Run(name, func(t *testing.T) {
			k, src, dir := crashedBeforeCommit(t, 30)
			src.readings(0, 30)
			cfg := testConfig(dir)
			cfg.Chunk.MaxRows = rows
			start(t, cfg, k, nil)
			per := int(rows / rowsPerReading)
			awaitExact(t, dir, 8+(60-8)/per*per)
			if r := readings(t, clean(t, dir)); r.Files != int64(2+(60-8)/per) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestStopsWhenTheLakeDiffers(t *testing.T) {
	k, _, dir := crashedBeforeCommit(t, 12)
	b := newFaulty(t, dir)
	for info, err := range b.List(t.Context(), "tocsin/") {
		if err != nil {
			t.Fatal(err)
		}
		data, full, err := b.Get(t.Context(), info.Key, 0)
		if err != nil {
			t.Fatal(err)
		}
		full.Metadata["row-hash"] = "1234"
		if err := errors.Join(b.Delete(t.Context(), info.Key), b.PutIfAbsent(t.Context(), info.Key, data, full.Metadata)); err != nil {
			t.Fatal(err)
		}
	}
	w := start(t, testConfig(dir), k, nil)
	w.wait(t)
	if !errors.Is(w.err, commit.ErrDiverged) {
		t.Errorf("ended with %v", w.err)
	}
}

// Kills at random moments, over one log, into one lake: every row once.
func TestRandomRestarts(t *testing.T) {
	k := kafkatest.Start(t, 3)
	src, dir := newSource(t, k), t.TempDir()
	b := newFaulty(t, dir)
	b.before = flaky(0.2)
	b.after = flaky(0.2)
	cfg := testConfig(dir)
	cfg.DrainTimeout = time.Millisecond // a kill, as near as a process can come to its own
	n := 0
	for range 6 {
		w := start(t, cfg, k, b)
		for p := range int32(3) {
			src.readings(p, 8)
			n += 8
		}
		puts := b.puts.Load()
		eventually(t, "some writes", func() bool { return b.puts.Load() >= puts+int64(rand.N(5)) })
		w.cancel()
		w.wait(t)
	}
	start(t, cfg, k, b)
	awaitExact(t, dir, n)
	clean(t, dir)
}

func flaky(p float64) func(string) error {
	return func(string) error {
		if rand.Float64() < p {
			return errDown
		}
		return nil
	}
}

// Members come and go while records flow.
func TestRebalances(t *testing.T) {
	k := kafkatest.Start(t, 6)
	src, dir := newSource(t, k), t.TempDir()
	cfg := testConfig(dir)
	cfg.InstanceID = "a"
	start(t, cfg, k, nil)
	n := 0
	for i := range 4 {
		cfg.InstanceID = fmt.Sprintf("b%d", i)
		w := start(t, cfg, k, nil)
		for p := range int32(6) {
			src.readings(p, 8)
			n += 8
		}
		eventually(t, "partitions at both", func() bool { return w.group.Ready() == nil })
		w.stop(t)
	}
	awaitExact(t, dir, n)
	clean(t, dir)
}

// A member that loses a partition while its file is on the way never commits for it again: offsets do not step back.
func TestRevokedWorkerDoesNotCommit(t *testing.T) {
	c, k := kafkatest.StartCluster(t, 4)
	src, dir := newSource(t, k), t.TempDir()
	var mu sync.Mutex
	at := map[int32]int64{}
	var back []string
	c.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, tp := range req.(*kmsg.OffsetCommitRequest).Topics {
			for _, p := range tp.Partitions {
				if p.Offset < at[p.Partition] {
					back = append(back, fmt.Sprintf("[%d] from %d to %d", p.Partition, at[p.Partition], p.Offset))
				}
				at[p.Partition] = max(at[p.Partition], p.Offset)
			}
		}
		return nil, nil, false
	})
	for p := range int32(4) {
		src.readings(p, 16)
	}
	stuck := newFaulty(t, dir)
	var down atomic.Bool
	down.Store(true)
	stuck.before = func(string) error {
		if down.Load() {
			return errDown
		}
		return nil
	}
	cfg := testConfig(dir)
	cfg.InstanceID = "stuck"
	start(t, cfg, k, stuck)
	eventually(t, "all partitions try to put", func() bool { return stuck.puts.Load() > 40 })
	cfg.InstanceID = "able"
	start(t, cfg, k, nil)
	eventually(t, "the other has written its share", func() bool { return len(files(t, dir, "readings")) >= 8 })
	down.Store(false)
	awaitExact(t, dir, 64)
	src.readings(0, 4) // and once more through all of it
	awaitExact(t, dir, 68)
	clean(t, dir)
	mu.Lock()
	defer mu.Unlock()
	if len(back) > 0 {
		t.Errorf("commits stepped back: %q", back)
	}
}

func TestSecondProcessOfTheSameInstanceIsTold(t *testing.T) {
	k := kafkatest.Start(t, 1)
	cfg := testConfig(t.TempDir())
	first := start(t, cfg, k, nil)
	eventually(t, "first is ready", func() bool { return first.Ready() == nil })
	second := start(t, cfg, k, nil)
	first.wait(t)
	if !errors.Is(first.err, kerr.FencedInstanceID) {
		t.Errorf("first ended with %v", first.err)
	}
	eventually(t, "second is ready", func() bool { return second.Ready() == nil })
}

// The group's offsets expire: the lake knows how far it reaches.
func TestOffsetsAreGone(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	src.readings(0, 24)
	w := start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 24)
	w.stop(t)
	// Part of what is in the lake has left the topic: cutting again from the log's start would give other chunks.
	var cut kadm.Offsets
	cut.AddOffset(topic.Readings, 0, 5, -1)
	if _, err := kadm.NewClient(kafkatest.Client(t, k)).DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(dir)
	cfg.Group = "another"
	src.readings(0, 16)
	start(t, cfg, k, nil)
	awaitExact(t, dir, 40)
	clean(t, dir)
}

func TestTopicMadeAnew(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	src.readings(0, 8)
	w := start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 8)
	w.stop(t)
	adm := kadm.NewClient(kafkatest.Client(t, k))
	if _, err := adm.DeleteTopics(t.Context(), topic.Readings); err != nil {
		t.Fatal(err)
	}
	if err := kafka.EnsureTopics(t.Context(), kafkatest.Client(t, k), k, topic.All()...); err != nil {
		t.Fatal(err)
	}
	again := &source{t: t, n: 8, cl: kafkatest.Client(t, k, kgo.TransactionalID("again"), kgo.RecordPartitioner(kgo.ManualPartitioner()))}
	again.readings(0, 8)
	start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 16)
	if r := readings(t, clean(t, dir)); r.Partitions != 2 {
		t.Errorf("%+v", r)
	}
}

// An offset that was committed for a former topic of the same name says nothing about this one.
func TestCommitOfAFormerTopic(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	src.readings(0, 8)
	cfg := testConfig(dir)
	var stale kadm.Offsets
	stale.Add(kadm.Offset{Topic: topic.Readings, At: 5, LeaderEpoch: -1, Metadata: "tocsin.lake.v1 topic=00112233445566778899aabbccddeeff first=2"})
	resp, err := kadm.NewClient(kafkatest.Client(t, k)).CommitOffsets(t.Context(), cfg.Group, stale)
	if err := errors.Join(err, resp.Error()); err != nil {
		t.Fatal(err)
	}
	start(t, cfg, k, nil)
	awaitExact(t, dir, 8)
	clean(t, dir)
}

func TestRecordsLostToRetention(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	src.readings(0, 8)
	w := start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 8)
	w.stop(t)
	src.readings(0, 16)
	adm := kadm.NewClient(kafkatest.Client(t, k))
	ends, err := adm.ListEndOffsets(t.Context(), topic.Readings)
	if err != nil {
		t.Fatal(err)
	}
	cut := kadm.Offsets{}
	end, _ := ends.Lookup(topic.Readings, 0)
	cut.AddOffset(topic.Readings, 0, end.Offset-6, -1)
	if _, err := adm.DeleteRecords(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	w = start(t, testConfig(dir), k, nil)
	w.wait(t)
	if w.err == nil || !strings.Contains(w.err.Error(), "skip_lost") {
		t.Fatalf("ended with %v", w.err)
	}
	cfg := testConfig(dir)
	cfg.SkipLost = true
	src.readings(0, 8)
	w = start(t, cfg, k, nil)
	eventually(t, "it goes on", func() bool { return counter(w, `tocsin_lake_rows_total{table="readings"}`) >= 40 })
	if n := counter(w, `tocsin_lake_lost_records_total{table="readings"}`); n <= 0 {
		t.Errorf("%d lost records counted", n)
	}
	b := newFaulty(t, dir)
	r, err := Audit(t.Context(), b, AuditOptions{})
	if err != nil || r.Count != 1 || r.Findings[0].Kind != FindingGap {
		t.Errorf("audit: %+v %v", r, err)
	}
}
