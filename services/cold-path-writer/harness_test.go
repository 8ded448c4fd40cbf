package coldpathwriter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/chunk"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/commit"
)

func TestMain(m *testing.M) {
	if os.Getenv(envLake) != "" {
		os.Exit(writerProcess())
	}
	goleak.VerifyTestMain(m)
}

const patience = 90 * time.Second

// testConfig writes small files into dir.
func testConfig(dir string) Config {
	cfg := DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Lake = objstore.DefaultConfig(dir)
	cfg.Chunk = chunk.Rules{MaxRows: 40, MaxBytes: 1 << 20, Interval: time.Hour}
	cfg.MemoryLimit = 8 << 20
	cfg.Retry = commit.Backoff{Min: time.Millisecond, Max: 20 * time.Millisecond}
	cfg.SessionTimeout = 3 * time.Second
	cfg.DrainTimeout = 2 * time.Second
	return cfg
}

// writer is a service running in a test.
type writer struct {
	*Service
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// start runs a writer over bucket (nil: the configured one) until the test ends or stop is called.
func start(t testing.TB, cfg Config, k kafka.Config, bucket objstore.Bucket) *writer {
	t.Helper()
	deps := service.Nop()
	deps.Kafka = k
	if testing.Verbose() {
		deps.Log = zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel), zaptest.WrapOptions(zap.AddCaller()))
	}
	var s *Service
	var err error
	if bucket == nil {
		s, err = New(cfg, deps)
	} else {
		s, err = NewOver(cfg, deps, bucket)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{Service: s, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-w.done
	})
	return w
}

// stop ends the writer as a signal would.
func (w *writer) stop(t testing.TB) {
	t.Helper()
	w.cancel()
	w.wait(t)
	if w.err != nil {
		t.Fatalf("writer ended with %v", w.err)
	}
}

func (w *writer) wait(t testing.TB) {
	t.Helper()
	select {
	case <-w.done:
	case <-time.After(patience):
		t.Fatal("writer does not end")
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s", patience, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// source produces what the stream-processor and the alert-router would, in transactions, so that the log has markers.
type source struct {
	t  testing.TB
	cl *kgo.Client
	n  int // readings made
}

func newSource(t testing.TB, k kafka.Config) *source {
	return &source{t: t, cl: kafkatest.Client(t, k,
		kgo.TransactionalID("test-"+strings.ReplaceAll(t.Name(), "/", "-")),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))}
}

// transaction produces recs in one transaction that is committed or aborted.
func (s *source) transaction(commit kgo.TransactionEndTry, recs ...*kgo.Record) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.cl.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cl.EndTransaction(ctx, commit); err != nil {
		s.t.Fatal(err)
	}
}

func record(t testing.TB, topicName string, partition int32, typ, key string, m proto.Message) *kgo.Record {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &kgo.Record{
		Topic: topicName, Partition: partition, Key: []byte(key), Value: b,
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(typ)}},
	}
}

var testSensors = []string{"temperature", "vibration", "current", "flow", "pressure"}

const rowsPerReading = 10 // 5 sensors x 2 samples

// reading makes the next judged frame; its sequence is its number.
func (s *source) reading(partition int32) *kgo.Record {
	s.n++
	machine := fmt.Sprintf("press-%d-%d", partition, s.n%3)
	values := make([]float32, rowsPerReading)
	for i := range values {
		values[i] = float32(s.n) + float32(i)/16
	}
	f := &eventv1.SensorFrame{
		EquipmentId: machine, GatewayId: "gw-1", Sequence: uint64(s.n), BaseTimeUs: 1_700_000_000_000_000 + int64(s.n)*1000,
		TimeOffsetsUs: []uint64{0, 500}, Sensors: testSensors, Values: values,
	}
	b, err := proto.Marshal(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return record(s.t, topic.Readings, partition, topic.TypeReading, machine, &eventv1.Reading{
		Frame: b, Partition: partition, Offset: int64(s.n), LogAppendTimeMs: 1_700_000_000_000,
		Dispositions: []eventv1.Disposition{eventv1.Disposition_DISPOSITION_ON_TIME},
	})
}

func tick(t testing.TB, topicName string, partition int32) *kgo.Record {
	r := record(t, topicName, partition, topic.TypeTick, "", &eventv1.Tick{Partition: partition})
	r.Key = nil
	return r
}

// readings produces n readings in transactions of 7, every third of them preceded by an aborted one.
func (s *source) readings(partition int32, n int) {
	s.t.Helper()
	for i := 0; n > 0; i++ {
		recs := make([]*kgo.Record, min(n, 7))
		if i%3 == 2 {
			s.transaction(kgo.TryAbort, tick(s.t, topic.Readings, partition), s.ghost(partition))
		}
		for j := range recs {
			recs[j] = s.reading(partition)
		}
		s.transaction(kgo.TryCommit, recs...)
		n -= len(recs)
	}
}

// ghost is a reading that must never be seen.
func (s *source) ghost(partition int32) *kgo.Record {
	n := s.n
	r := s.reading(partition)
	s.n = n
	return r
}

// row is what the tests look at in the table readings.
type row struct {
	EquipmentID string   `parquet:"equipment_id"`
	TS          int64    `parquet:"ts"`
	Sensor      string   `parquet:"sensor"`
	Value       *float32 `parquet:"value"`
	Sequence    int64    `parquet:"sequence"`
	Sample      int32    `parquet:"sample"`
	Disposition string   `parquet:"disposition"`
}

// files lists the Parquet files of a table in a lake directory.
func files(t testing.TB, dir, table string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "tocsin", table, "date=*", "hour=*", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

// sequences counts how many rows each sequence has in the lake, and checks each file's order.
func sequences(t testing.TB, dir string) map[int64]int {
	t.Helper()
	seen := map[int64]int{}
	for _, name := range files(t, dir, "readings") {
		rows, err := parquet.ReadFile[row](name)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(rows, func(a, b row) int {
			return strings.Compare(fmt.Sprintf("%s %020d %s", a.EquipmentID, a.TS, a.Sensor), fmt.Sprintf("%s %020d %s", b.EquipmentID, b.TS, b.Sensor))
		}) {
			t.Fatalf("%s is not sorted", name)
		}
		for _, r := range rows {
			seen[r.Sequence]++
		}
	}
	return seen
}

// exact tells whether each of the readings 1..n stands in the lake exactly once.
func exact(seen map[int64]int, n int) error {
	for i := 1; i <= n; i++ {
		if got := seen[int64(i)]; got != rowsPerReading {
			return fmt.Errorf("reading %d has %d rows, want %d", i, got, rowsPerReading)
		}
	}
	if len(seen) != n {
		return fmt.Errorf("%d readings in the lake, want %d", len(seen), n)
	}
	return nil
}

// awaitExact waits until the readings 1..n stand in the lake, each once.
func awaitExact(t testing.TB, dir string, n int) {
	t.Helper()
	var why error
	defer func() {
		if t.Failed() {
			t.Log(why)
		}
	}()
	eventually(t, fmt.Sprintf("%d readings in the lake", n), func() bool {
		why = exact(sequences(t, dir), n)
		return why == nil
	})
}
