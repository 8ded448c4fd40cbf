package live

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

const patience = 2 * time.Minute

type run struct {
	*testing.T
	board *Board
	f     *Follower
	set   *metrics.Set
	cl    *kgo.Client
	seq   uint64
}

func follow(t *testing.T, k, ours kafka.Config) *run {
	t.Helper()
	r := &run{T: t, board: NewBoard(), set: metrics.NewSet(), cl: kafkatest.Client(t, k)}
	r.f = New(ours, r.board, zap.NewNop(), r.set)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.f.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func (r *run) eventually(what string, ok func() bool) {
	r.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			r.Fatalf("not %s after %s", what, patience)
		case <-tick.C:
		}
	}
}

// of is a record of one value of a machine, now.
func (r *run) of(id string, v float32) *kgo.Record {
	r.seq++
	f := frame.New(id, "g", r.seq, time.Now(), []string{"a"}, []float32{v})
	return &kgo.Record{
		Topic: topic.Frames, Key: []byte(id), Value: f.AppendTo(nil),
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}},
	}
}

func (r *run) send(recs ...*kgo.Record) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		r.Fatal(err)
	}
}

func (r *run) count(result string) uint64 {
	return r.set.GetOrCreateCounter(fmt.Sprintf(`tocsin_api_records_total{topic=%q,result=%q}`, topic.Frames, result)).Get()
}

// sees sends values of a machine until one is seen that was sent by this call. Fetching begins at the end, which is looked up: what is sent before may be missed.
func (r *run) sees(w *Watch, id string) {
	r.Helper()
	from := float32(r.seq + 1)
	r.eventually("seen", func() bool {
		r.send(r.of(id, float32(r.seq+1)))
		return shown(w)["a"].Value >= from
	})
}

func TestSeesWhatIsWatched(t *testing.T) {
	k := kafkatest.Start(t, 3)
	r := follow(t, k, k)
	r.send(r.of("m1", -1)) // before anybody looks
	w := r.board.Watch("m1")
	defer w.Stop()
	r.sees(w, "m1")
	// Newest wins, whatever came between.
	var recs []*kgo.Record
	for range 50 {
		recs = append(recs, r.of("m1", float32(r.seq+1)), r.of("m2", -5))
	}
	r.send(recs...)
	last := float32(r.seq - 1)
	r.eventually("the newest", func() bool { return shown(w)["a"].Value == last })
	other := r.board.Watch("m2")
	defer other.Stop()
	if got := shown(other); len(got) != 0 {
		t.Errorf("what came before anybody looked is known: %+v", got)
	}
	r.sees(other, "m2")
}

// Records of others are told by their key: a frame that nobody watches is not even decoded, and ticks are none.
func TestOthersAreNotDecoded(t *testing.T) {
	k := kafkatest.Start(t, 1)
	r := follow(t, k, k)
	w := r.board.Watch("m1")
	defer w.Stop()
	r.sees(w, "m1")
	before := r.count(unwatched)
	junk := &kgo.Record{Topic: topic.Frames, Key: []byte("m2"), Value: []byte{0xff}}
	tick := &kgo.Record{Topic: topic.Frames, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}}
	r.send(junk, tick, junk)
	r.sees(w, "m1")
	if n := r.count(unwatched) - before; n != 3 || r.count(unreadable) != 0 {
		t.Errorf("%d passed over, %d undecodable", n, r.count(unreadable))
	}
}

func TestBadFramesAreCounted(t *testing.T) {
	k := kafkatest.Start(t, 1)
	r := follow(t, k, k)
	w := r.board.Watch("m1")
	defer w.Stop()
	r.sees(w, "m1")
	infinite, foreign, unknown, given, control := r.of("m1", float32(math.Inf(1))), r.of("m2", 1e9), r.of("m1", 1e9), r.of("m1", 1e9), r.of("m1", 1e9)
	foreign.Key = []byte("m1")
	f := frame.New("m1", "g", 1, time.Now(), nil, []float32{1e9})
	f.SchemaID = []byte("sha256-none")
	unknown.Value = f.AppendTo(nil)
	given.Headers = append(given.Headers, kgo.RecordHeader{Key: dlq.HeaderFor, Value: []byte(dlq.Writer)})
	control.Headers[0].Value = []byte(topic.TypeDetection)
	r.send(&kgo.Record{Topic: topic.Frames, Key: []byte("m1"), Value: []byte{0xff}}, infinite, foreign, unknown, given, control)
	r.sees(w, "m1")
	for result, want := range map[string]uint64{unreadable: 1, refused: 2, nameless: 1, others: 1} {
		if n := r.count(result); n != want {
			t.Errorf("%s: %d, want %d", result, n, want)
		}
	}
	if v := shown(w)["a"].Value; v >= 1e9 {
		t.Errorf("%v is shown", v)
	}
}

// Sensors of wide frames are named by schemas.
func TestSchemas(t *testing.T) {
	k := kafkatest.Start(t, 1)
	r := follow(t, k, k)
	reg, err := schema.New(k, schema.DefaultConfig(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, err := reg.Register(ctx, []string{"x", "y"})
	if err != nil {
		t.Fatal(err)
	}
	w := r.board.Watch("m1")
	defer w.Stop()
	r.eventually("seen", func() bool {
		rec := r.of("m1", 1)
		f := frame.New("m1", "g", 1, time.Now(), nil, []float32{3, 4})
		f.SchemaID = []byte(id)
		rec.Value = f.AppendTo(nil)
		r.send(rec)
		return shown(w)["y"].Value == 4
	})
}

// With nobody looking, nothing is fetched; with somebody, only the partition of what they look at.
func TestFetchesWhatIsNeeded(t *testing.T) {
	k := kafkatest.Start(t, 8)
	r := follow(t, k, k)
	fetched := func() int {
		r.f.mu.Lock()
		defer r.f.mu.Unlock()
		return len(r.f.fetched)
	}
	for i := range 40 {
		r.send(r.of(fmt.Sprint("m", i), 1))
	}
	w := r.board.Watch("m1")
	r.sees(w, "m1")
	if n := fetched(); n != 1 {
		t.Errorf("%d partitions are fetched for one machine", n)
	}
	if n := r.count(unwatched); n != 0 {
		t.Errorf("%d records were read of before anybody looked, or of other partitions", n)
	}
	w.Stop()
	// As if the time had passed: nobody waits for it in a test.
	cl := kafkatest.Client(t, k)
	if f := New(k, r.board, zap.NewNop(), metrics.NewSet()); f != nil {
		f.fetched[3] = time.Now()
		at := kgo.StickyKeyPartitioner(nil).ForTopic(topic.Frames)
		if !f.assign(cl, at, time.Now()) || len(f.fetched) != 1 {
			t.Error("a partition goes as soon as nobody looks")
		}
		if f.assign(cl, at, time.Now().Add(linger)) || len(f.fetched) != 0 {
			t.Error("a partition stays that nobody looks at")
		}
	}
	again := r.board.Watch("m1")
	defer again.Stop()
	r.sees(again, "m1")
}

// network is one that can be cut.
type network struct {
	mu    sync.Mutex
	away  bool
	conns map[net.Conn]bool
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return nil, errors.New("the broker is away")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, kind, address)
	if err == nil {
		n.conns[c] = true
	}
	return c, err
}

func (n *network) cut(away bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = away
	for c := range n.conns {
		_ = c.Close()
		delete(n.conns, c)
	}
}

// Live values come back when the brokers do, and somebody who begins to look meanwhile sees them as well.
func TestBrokersGoAndComeBack(t *testing.T) {
	k := kafkatest.Start(t, 3)
	n := &network{conns: map[net.Conn]bool{}}
	ours := k
	ours.Dial = n.dial
	r := follow(t, k, ours)
	w := r.board.Watch("m1")
	defer w.Stop()
	r.sees(w, "m1")
	for range 2 {
		n.cut(true)
		late := r.board.Watch("m2")
		r.send(r.of("m1", float32(r.seq+1)))
		n.cut(false)
		r.sees(w, "m1")
		r.sees(late, "m2")
		late.Stop()
	}
}

func TestWaitsForBrokers(t *testing.T) {
	k := kafka.DefaultConfig()
	k.Brokers = []string{"127.0.0.1:1"}
	f := New(k, NewBoard(), zap.NewNop(), metrics.NewSet())
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := f.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// What one who watches no more held up is passed over, not worked off.
func TestBehind(t *testing.T) {
	k := kafkatest.Start(t, 1)
	cl := kafkatest.Client(t, k)
	f := New(k, NewBoard(), zap.NewNop(), metrics.NewSet())
	f.fetched[0] = time.Now()
	now := time.Now()
	for _, x := range []struct {
		age  time.Duration
		left int64
		leap bool
	}{{time.Minute, 0, false}, {time.Second, 100, false}, {time.Minute, 100, true}} {
		clear(f.said)
		p := kgo.FetchTopicPartition{Topic: topic.Frames, FetchPartition: kgo.FetchPartition{
			HighWatermark: 1 + x.left, Records: []*kgo.Record{{Topic: topic.Frames, Timestamp: now.Add(-x.age)}},
		}}
		f.partition(cl, &p, now)
		if f.said["behind"] != x.leap {
			t.Errorf("%+v: %v", x, f.said)
		}
	}
}
