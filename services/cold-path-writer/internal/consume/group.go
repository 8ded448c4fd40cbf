// Package consume reads the topics of the lake's tables in one consumer group and turns each partition into files.
//
// One goroutine polls and never blocks; one goroutine owns each partition (worker): it alone cuts, encodes, stores and
// commits. A partition that cannot keep up is paused, not waited for. Rebalances are held off while polled records are being
// handed out (kgo.BlockRebalanceOnPoll), and a revoke waits for the worker's end, so that no record
// and no commit ever belongs to a former assignment. What was not yet stored is dropped and read again by the next owner, who cuts
// the same chunks.
package consume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/chunk"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/commit"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Config of the group.
type Config struct {
	Group      string
	InstanceID string // static membership; empty: dynamic
	Rules      chunk.Rules
	// SkipLost: go on behind records that the broker no longer has, instead of stopping.
	SkipLost bool
	// MemoryLimit in bytes of records held; one chunk may go beyond it.
	MemoryLimit int64
	// Encoders is how many files are encoded at once.
	Encoders int
	// DrainTimeout is how long a file on its way may take when the service stops.
	DrainTimeout time.Duration
	// SessionTimeout after which the brokers give a dead member's partitions to another.
	SessionTimeout time.Duration
	Backoff        commit.Backoff
	// StallTimeout: over the memory limit, a partition that is waited for and gets no records that long gives its memory back.
	StallTimeout time.Duration
}

// pollTimeout bounds how long a rewind that a worker asked for waits for the poll loop.
const pollTimeout = 200 * time.Millisecond

const maxPollRecords = 20_000

// Observer is told what happens, for metrics. Called concurrently.
type Observer interface {
	commit.Observer
	// File is in the lake: new is false when it was there before.
	File(table string, rows, bytes int64, isNew bool)
	// DeadLetter was written.
	DeadLetter(table string)
	// Lost records: the broker had removed them before they were read.
	Lost(table string, records int64)
	// Retry of something that is not the store: "commit", "schema", "dead_letter", "fetch", or "memory": a chunk that was given back.
	Retry(what string)
}

// Group is the running consumer. Use Run once.
type Group struct {
	cfg      Config
	log      *zap.Logger
	watch    Observer
	bucket   objstore.Bucket
	store    *commit.Committer
	tables   map[string]table.Table // by topic
	encoding chan struct{}          // a slot per encoder

	// Set once before connected is closed.
	cl        *kgo.Client
	adm       *kadm.Client
	dead      *dlq.Producer
	connected chan struct{}

	ctx  context.Context // of the workers: ends when Run ends, after the drain
	fail context.CancelCauseFunc

	memory *memory

	mu       sync.Mutex
	workers  map[part]*worker
	joined   bool // the group has told what is ours, be it nothing
	draining bool
}

type part struct {
	topic     string
	partition int32
}

// New makes a Group that reads with a client of the given options once it runs.
func New(cfg Config, tables []table.Table, bucket objstore.Bucket, store *commit.Committer, log *zap.Logger, watch Observer) *Group {
	g := &Group{
		cfg: cfg, log: log, watch: watch, bucket: bucket, store: store,
		tables: map[string]table.Table{}, workers: map[part]*worker{},
		encoding: make(chan struct{}, cfg.Encoders),
		memory:   newMemory(cfg.MemoryLimit), connected: make(chan struct{}),
	}
	for _, t := range tables {
		g.tables[t.Topic()] = t
	}
	return g
}

// Run consumes until ctx ends, drains and returns nil, or the reason it cannot go on.
func (g *Group) Run(ctx context.Context, opts []kgo.Opt) error {
	hard, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	g.ctx, g.fail = hard, fail
	topics := make([]string, 0, len(g.tables))
	for t := range g.tables {
		topics = append(topics, t)
	}
	opts = append(opts,
		kgo.ConsumerGroup(g.cfg.Group),
		kgo.ConsumeTopics(topics...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // never guess: start decides, and a lost offset is an error
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(g.cfg.SessionTimeout),
		kgo.RebalanceTimeout(2*g.cfg.SessionTimeout), // one that hangs holds all others up for so long, not for the client's minute
		kgo.HeartbeatInterval(g.cfg.SessionTimeout/5),
		kgo.AdjustFetchOffsetsFn(g.start),
		kgo.OnPartitionsAssigned(g.joinedGroup),
		kgo.OnPartitionsRevoked(g.revoked),
		kgo.OnPartitionsLost(g.revoked),
		kgo.FetchMaxBytes(16<<20),
		kgo.FetchMaxPartitionBytes(2<<20),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(8<<20), // dead letters are as large as what came
	)
	if g.cfg.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(g.cfg.InstanceID))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	g.cl, g.adm, g.dead = cl, kadm.NewClient(cl), dlq.New(cl, dlq.Writer)
	close(g.connected)
	g.poll(ctx)
	g.drain()
	fail(errStopped) // after the drain nobody needs the context; before it, a reason stands
	cl.CloseAllowingRebalance()
	if err := context.Cause(hard); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

// errStopped ends the workers when nothing is wrong.
var errStopped = errors.New("stopped")

// poll hands records to the workers until ctx ends or a worker failed.
func (g *Group) poll(ctx context.Context) {
	for ctx.Err() == nil && g.ctx.Err() == nil {
		pollCtx, cancel := context.WithTimeout(ctx, pollTimeout)
		fs := g.cl.PollRecords(pollCtx, maxPollRecords)
		cancel()
		if fs.IsClientClosed() {
			return
		}
		fs.EachError(g.fetchError)
		fs.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) == 0 {
				return
			}
			if w := g.worker(part{p.Topic, p.Partition}); w != nil {
				w.offer(p.Records)
			}
		})
		for _, w := range g.all() {
			w.rewind()
		}
		g.memory.relieve(g.cfg.StallTimeout)
		g.cl.AllowRebalance()
	}
}

// fetchError sorts what a poll reports besides records.
func (g *Group) fetchError(topicName string, partition int32, err error) {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
	case errors.Is(err, kerr.OffsetOutOfRange):
		g.fail(fmt.Errorf("%s[%d]: the offset to go on from is not there: records were removed before they were stored, or the topic was replaced: %w", topicName, partition, err))
	case errors.Is(err, kerr.FencedInstanceID):
		g.fail(fmt.Errorf("another process runs with instance_id %q: %w", g.cfg.InstanceID, err))
	default:
		g.watch.Retry("fetch")
		g.log.Warn("fetching", zap.String("topic", topicName), zap.Int32("partition", partition), zap.Error(err))
	}
}

func (g *Group) worker(p part) *worker {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.workers[p]
}

func (g *Group) all() []*worker {
	g.mu.Lock()
	defer g.mu.Unlock()
	ws := make([]*worker, 0, len(g.workers))
	for _, w := range g.workers {
		ws = append(ws, w)
	}
	return ws
}

// joinedGroup notes that the group has shared out the partitions; a replica more than there are partitions is ready too.
func (g *Group) joinedGroup(context.Context, *kgo.Client, map[string][]int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.joined = true
}

// own starts the worker of a partition that was assigned.
func (g *Group) own(src lake.Source, t table.Table, from position) {
	w := newWorker(g, src, t, from)
	p := part{src.Topic, src.Partition}
	g.mu.Lock()
	old := g.workers[p]
	g.workers[p] = w
	g.mu.Unlock()
	if old != nil { // an assignment that was cut short
		old.abandon()
	}
	go w.run()
}

// revoked stops the workers of partitions that are no longer ours and waits until they have: what they have not stored is dropped.
func (g *Group) revoked(_ context.Context, cl *kgo.Client, lost map[string][]int32) {
	var stopped []*worker
	g.mu.Lock()
	for t, ps := range lost {
		for _, p := range ps {
			if w := g.workers[part{t, p}]; w != nil {
				stopped = append(stopped, w)
				delete(g.workers, part{t, p})
			}
		}
	}
	g.mu.Unlock()
	for _, w := range stopped {
		w.cancel()
	}
	for _, w := range stopped {
		w.abandon()
	}
	cl.ResumeFetchPartitions(lost) // or a later owner here would find them paused
}

// drain lets files on their way arrive, within the time there is, and stops all workers.
func (g *Group) drain() {
	g.mu.Lock()
	g.draining = true
	g.mu.Unlock()
	timer := time.AfterFunc(g.cfg.DrainTimeout, func() { g.fail(errStopped) })
	defer timer.Stop()
	ws := g.all()
	for _, w := range ws {
		w.stop()
	}
	for _, w := range ws {
		<-w.done
	}
	for _, w := range ws {
		w.abandon()
	}
}

// Ready is nil when partitions are assigned and being written, else the reason.
func (g *Group) Ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.draining:
		return errors.New("draining")
	case !g.joined:
		return errors.New("waiting for partitions")
	}
	if err := g.store.Trouble(); err != nil {
		return fmt.Errorf("store does not answer: %w", err)
	}
	return nil
}

// Lag is, by table, how much broker time lies between the newest record seen and the oldest not yet in the lake.
func (g *Group) Lag(tableName string) time.Duration {
	var most time.Duration
	for _, w := range g.all() {
		if w.table.Name() == tableName {
			most = max(most, w.lag())
		}
	}
	return most
}

// Held is how many bytes of records are in memory.
func (g *Group) Held() int64 { return g.memory.total() }
