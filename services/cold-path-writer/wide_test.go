package coldpathwriter

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/chunk"
)

// A backlog of wide frames many times larger than the memory limit, over a lake that does not answer and then does: what is held never exceeds the limit by more
// than a chunk, the queue of the partition that goes on, and a fetch of each, Kafka keeps the rest, and each row is stored once.
func TestBacklogOfWideFramesIsHeldBack(t *testing.T) {
	const (
		partitions, frames, features = 2, 24, 25_000
		limit, chunkBytes            = 2 << 20, 1 << 20
		oneRecord                    = 1 << 20 // one record, at most
		fetch                        = 2<<20 + oneRecord
		queue                        = 8 << 20 // of the partition that goes on
	)
	k := kafkatest.Start(t, partitions)
	src, dir := newSource(t, k), t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	names := make([]string, features)
	for i := range names {
		names[i] = fmt.Sprintf("%016x%014x", rng.Uint64(), i) // nothing for Kafka's compression
	}
	var total int64
	for p := range int32(partitions) {
		for n := range frames {
			f := &eventv1.SensorFrame{EquipmentId: fmt.Sprintf("line-%d", p), GatewayId: "g", Sequence: uint64(n + 1), BaseTimeUs: int64(n) * 1_000_000, Sensors: names}
			for range features {
				f.Values = append(f.Values, rng.Float32())
			}
			b, err := proto.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			rec := record(t, topic.Readings, p, topic.TypeReading, f.EquipmentId, &eventv1.Reading{Frame: b, Offset: int64(n)})
			total += int64(len(rec.Value))
			src.transaction(kgo.TryCommit, rec)
		}
	}
	const bound = limit + chunkBytes + oneRecord + queue + partitions*fetch
	if total < 2*bound {
		t.Fatalf("a backlog of %d bytes shows nothing about a bound of %d", total, bound)
	}
	b := newFaulty(t, dir)
	var down atomic.Bool
	down.Store(true)
	b.before = func(string) error {
		if down.Load() {
			return errDown
		}
		return nil
	}
	cfg := testConfig(dir)
	cfg.Chunk = chunk.Rules{MaxRows: 10_000_000, MaxBytes: chunkBytes, Interval: time.Hour}
	cfg.MemoryLimit = limit
	w := start(t, cfg, k, b)
	var most int64
	held := func() int64 {
		now := w.group.Held()
		most = max(most, now)
		return now
	}
	eventually(t, "the limit is reached", func() bool { return held() > limit })
	for until := time.Now().Add(time.Second); time.Now().Before(until); <-time.After(5 * time.Millisecond) {
		held() // while nothing can be stored
	}
	down.Store(false)
	stored := func() int { return counter(w, `tocsin_lake_rows_total{table="readings"}`) }
	// The last chunk of a partition stays open.
	eventually(t, "all but the last chunks are stored", func() bool {
		held()
		return stored() >= partitions*(frames-2)*features
	})
	t.Logf("a backlog of %d bytes, at most %d of them held", total, most)
	if most > bound {
		t.Errorf("%d bytes were held, the bound is %d", most, bound)
	}
	w.stop(t)
	clean(t, dir)
}
