package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

const (
	consumer = "realtime-api" // in the headers of records that are given back to those who had refused them
	// maxValues bounds what is decoded of one frame; a gateway can be configured to take that many.
	maxValues = 1_000_000
	// settle is the least time between two changes of what is fetched: people who leaf through machines must not interrupt fetching at each.
	settle = 100 * time.Millisecond
	// linger is how long a partition is fetched that nobody needs any more: somebody may come back.
	linger = 15 * time.Second
	// behind is how old records may get before what is left is passed over: it would not be live.
	behind = 10 * time.Second

	fetchBytes     = 8 << 20  // a broker's answer; a single batch may be larger, up to the topic's max.message.bytes
	partitionBytes = 4 << 20  // of one partition
	batchBytes     = 64 << 20 // a decompressed batch
	schemaBytes    = 64 << 20 // the names of all schemas
)

// Follower reads frames of watched machines into a Board. Run it once.
//
// Only partitions are fetched that hold a machine which is watched, from their end on; with nobody watching, nothing is. Of those, records of other machines are told by their key, and
// not decoded. Frames are read uncommitted: gateways write them outside of transactions, and those that the processor's ticks stand in would hold them up until its commit.
//
// A frame that cannot be read is counted and passed over. The processor judges it.
type Follower struct {
	cfg     kafka.Config
	board   *Board
	schemas *schema.Registry
	log     *zap.Logger
	set     *metrics.Set
	delay   *metrics.Histogram
	counts  map[string]*metrics.Counter

	mu      sync.Mutex
	fetched map[int32]time.Time // partitions that are fetched, and when they were needed last

	frame frame.Frame     // Run's goroutine only, as all below
	said  map[string]bool // kinds of trouble that the log knows already
}

// New makes a follower; it does nothing before Run.
func New(cfg kafka.Config, b *Board, log *zap.Logger, set *metrics.Set) *Follower {
	f := &Follower{
		cfg: cfg, board: b, log: log.Named("live"), set: set, fetched: map[int32]time.Time{}, said: map[string]bool{}, counts: map[string]*metrics.Counter{},
		delay: set.GetOrCreateHistogram(fmt.Sprintf(`tocsin_api_kafka_delay_seconds{topic=%q}`, topic.Frames)),
	}
	for _, result := range []string{applied, unwatched, others, unreadable, refused, nameless, broken} {
		f.counts[result] = set.GetOrCreateCounter(fmt.Sprintf(`tocsin_api_records_total{topic=%q,result=%q}`, topic.Frames, result))
	}
	set.GetOrCreateGauge(`tocsin_api_live_machines`, func() float64 { return float64(b.Count()) })
	set.GetOrCreateGauge(`tocsin_api_live_partitions`, func() float64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return float64(len(f.fetched))
	})
	return f
}

// What becomes of a record.
const (
	applied    = "applied"
	unwatched  = "unwatched"
	others     = "for_another_consumer"
	unreadable = "undecodable"
	refused    = "invalid"
	nameless   = "unknown_schema"
	broken     = "fetch_error" // no record
)

// Run follows until ctx ends; then it returns nil. It waits out brokers that cannot be reached.
func (f *Follower) Run(ctx context.Context) error {
	opts, err := f.cfg.Options(f.log)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(append(opts,
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), // what retention has overtaken is not live
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(partitionBytes), kgo.MaxDecompressBatchBytes(batchBytes),
	)...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	err = kafka.AwaitTopics(ctx, cl, f.cfg, func(err error) {
		f.log.Warn("no live values yet: waiting for Kafka", zap.Error(err))
	}, topic.Specs(topic.Frames, topic.Registry)...)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	cfg := schema.DefaultConfig()
	cfg.MaxBytes = schemaBytes
	if f.schemas, err = schema.New(f.cfg, cfg, f.log); err != nil {
		return err
	}
	defer f.schemas.Close()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { f.choose(ctx, cl) })
	wg.Go(func() { _ = f.schemas.Run(ctx) }) // never fails
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { f.partition(cl, &p, time.Now()) })
	}
}

// choose keeps what is fetched what is needed.
func (f *Follower) choose(ctx context.Context, cl *kgo.Client) {
	at := kgo.StickyKeyPartitioner(nil).ForTopic(topic.Frames) // a contract: Kafka's default, by key
	t := time.NewTicker(linger)
	defer t.Stop()
	for {
		var due <-chan time.Time
		if f.assign(cl, at, time.Now()) {
			due = t.C
		}
		select {
		case <-ctx.Done():
			return
		case <-f.board.Changed():
		case <-due:
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
	}
}

// assign begins and ends fetching; true when something is fetched that nobody needs, which is to be looked at again.
func (f *Follower) assign(cl *kgo.Client, at kgo.TopicPartitioner, now time.Time) (idle bool) {
	need := map[int32]bool{}
	for _, id := range f.board.Machines() {
		need[int32(at.Partition(&kgo.Record{Key: []byte(id)}, int(f.cfg.Partitions)))] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var drop []int32
	for p, last := range f.fetched {
		switch {
		case need[p]:
			f.fetched[p] = now
		case now.Sub(last) >= linger:
			drop = append(drop, p)
			delete(f.fetched, p)
		default:
			idle = true
		}
	}
	maps.DeleteFunc(need, func(p int32, _ bool) bool { _, ok := f.fetched[p]; return ok })
	if len(drop) > 0 {
		cl.RemoveConsumePartitions(map[string][]int32{topic.Frames: drop})
	}
	for p := range need {
		f.fetched[p] = now
	}
	fromEnd(cl, slices.Collect(maps.Keys(need))...)
	return idle
}

func fromEnd(cl *kgo.Client, ps ...int32) {
	if len(ps) == 0 {
		return
	}
	from := make(map[int32]kgo.Offset, len(ps))
	for _, p := range ps {
		from[p] = kgo.NewOffset().AtEnd()
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic.Frames: from})
}

// again fetches the partition from its end on, if it is fetched.
func (f *Follower) again(cl *kgo.Client, p int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.fetched[p]; ok {
		cl.RemoveConsumePartitions(map[string][]int32{topic.Frames: {p}})
		fromEnd(cl, p)
	}
}

// partition takes what one fetch brought of a partition.
func (f *Follower) partition(cl *kgo.Client, p *kgo.FetchTopicPartition, now time.Time) {
	if p.Err != nil {
		f.counts[broken].Inc()
		f.say(broken, "frames cannot be fetched: no live values of some machines", zap.Int32("partition", p.Partition), zap.Error(p.Err))
		if errors.Is(p.Err, kgo.ErrMaxDecompress) { // the client would wait for us; anything else it tries again
			f.again(cl, p.Partition)
		}
	}
	if len(p.Records) == 0 {
		return
	}
	passed := 0
	for _, r := range p.Records {
		m := f.board.watched(r.Key)
		if m == nil || len(r.Key) == 0 { // ticks have no key
			passed++
			continue
		}
		f.take(m, r, now)
	}
	f.counts[unwatched].Add(passed)
	last := p.Records[len(p.Records)-1]
	if left := p.HighWatermark - last.Offset - 1; left > 0 && now.Sub(last.Timestamp) > behind {
		// By the broker's clock alone a skewed one would make us leap at each fetch; with nothing left there is nowhere to leap to.
		f.say("behind", "behind the gateways: what is not live any more is passed over", zap.Int32("partition", p.Partition), zap.Int64("records", left))
		f.again(cl, p.Partition)
	}
}

// take shows one record of a machine that is watched.
func (f *Follower) take(m *machine, r *kgo.Record, now time.Time) {
	if !topic.Is(r, topic.TypeFrame) && topic.Type(r) != "" { // what the processor writes there
		f.counts[unwatched].Inc()
		return
	}
	if !dlq.IsFor(r, consumer) {
		f.counts[others].Inc()
		return
	}
	result, err := f.show(m, r)
	f.counts[result].Inc()
	if err != nil {
		f.say(result, "frame passed over", zap.ByteString("key", r.Key), zap.Int32("partition", r.Partition), zap.Int64("offset", r.Offset), zap.Error(err))
		return
	}
	f.delay.Update(max(now.Sub(r.Timestamp), 0).Seconds())
}

func (f *Follower) show(m *machine, r *kgo.Record) (string, error) {
	x := &f.frame
	defer x.Reset() // it refers to the record
	if err := x.UnmarshalLimit(r.Value, maxValues); err != nil {
		return unreadable, err
	}
	lim := frame.Limits{MaxValues: maxValues, SchemaSensors: -1}
	var names []string
	if len(x.SchemaID) > 0 {
		var ok bool
		if names, ok = f.schemas.LookupBytes(x.SchemaID); !ok {
			return nameless, fmt.Errorf("schema %q is not known here", x.SchemaID)
		}
		lim.SchemaSensors = len(names)
	}
	if err := frame.Validate(x, lim); err != nil {
		return refused, err
	}
	if !bytes.Equal(x.EquipmentID, r.Key) {
		return refused, fmt.Errorf("a frame of %q", x.EquipmentID)
	}
	m.take(x, names, r.Timestamp.UnixMilli())
	return applied, nil
}

// say logs each kind of trouble once; the rest is counted.
func (f *Follower) say(kind, msg string, fields ...zap.Field) {
	if f.said[kind] {
		return
	}
	f.said[kind] = true
	f.log.Warn(msg+"; further ones are only counted", fields...)
}
