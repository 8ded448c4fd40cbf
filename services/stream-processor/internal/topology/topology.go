// Package topology runs the judge over Kafka, exactly once: each transaction holds the outputs of some input records, the states
// they changed, and the offsets that were read. See DESIGN.md beside the service for the protocol and why each step stands.
package topology

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

const (
	transactionTimeout = 10 * time.Second
	// rebalanceTimeout is less than transactionTimeout: the end of a transaction waits for a heartbeat, and while the group rejoins there
	// is none. A join that outlasted the transaction would have it fenced for nothing.
	rebalanceTimeout = 6 * time.Second

	// maxMessage is max.message.bytes of the topics. The client's own default of 1 MB would refuse the reading of a wide frame for ever.
	maxMessage = 8 << 20
	// Of one transaction's outputs, waiting for the brokers: producing blocks beyond it.
	maxBufferedRecords = 200_000
	maxBufferedBytes   = 128 << 20
	// Of the input, read ahead for each broker: two such fetches. A hot partition gets its share of it and no more.
	fetchBytes          = 16 << 20
	fetchPartitionBytes = 4 << 20
)

// Config of the topology.
type Config struct {
	Group           string
	InstanceID      string // names this slot of the group: static member and transactional id
	SessionTimeout  time.Duration
	CommitInterval  time.Duration
	CommitRecords   int
	RestoreTimeout  time.Duration
	RestoreParallel int
	MaxMachines     int    // per partition
	Build           string // of the program, for the record
	Snapshot        SnapshotConfig
}

func (c *Config) transactionalID() string { return c.Group + "/" + c.InstanceID }

// Exporter is given, after each commit, what it made of the windows that were committed.
type Exporter interface {
	// Append encodes a window; called while the transaction is open, from several goroutines.
	Append(dst []byte, w *machine.Window) []byte
	// Export takes what Append made. It must neither block nor keep the slice.
	Export(encoded []byte)
}

// Topology owns the partitions that the group assigns to this instance. Create with New, use Run once.
type Topology struct {
	cfg     Config
	mine    *detection.Config // what this process was started with
	schemas func(context.Context, string) ([]string, error)
	export  Exporter
	log     *zap.Logger
	metrics *instruments
	tracer  trace.Tracer // nil: tracing is off
	kafka   kafka.Config

	base  []kgo.Opt
	plain *kgo.Client // ticks and questions; not transactional
	adm   *kadm.Client

	outcomes *kafka.Outcomes // the loop's

	keeper *keeper

	detections *detection.Log
	told       map[int32]announced // by the tick loop alone

	members kafka.Membership

	pace pace // the loop's

	mu       sync.Mutex
	slots    map[int32]*slot
	joined   bool
	running  error           // why Run is not working; nil once it is
	ready    chan struct{}   // closed once client is set
	client   *kgo.Client     // the session's
	work     context.Context //nolint:containedctx // outlives Run's context by the drain
	restore1 chan struct{}   // limits how many restore at once
	done     chan restored
	workers  sync.WaitGroup
	// revoked: partitions were taken since the session's last End. Until the next one it calls nobody again.
	revoked atomic.Bool
	// kept: why the partitions that the group's client has kept are not ours to go on with.
	kept atomic.Pointer[error]
}

// slot is one partition the group has given us.
type slot struct {
	// counted: the group's client has counted it as ours. It begins to when assigned has returned for all partitions, and a small one may be restored
	// by then.
	counted  bool
	cancel   context.CancelFunc
	fresh    bool              // nothing was ever committed of it
	part     *partition        // nil while restoring
	inForce  *detection.Config // after the last commit; nil while restoring
	machines int
	census   census // after the last commit
	progress *progress
}

type restored struct {
	id   int32
	slot *slot
	part *partition
	err  error
}

// New checks nothing on the network. mine is the detection configuration of this process: see detection.Log.Settle.
func New(cfg Config, mine *detection.Config, schemas func(context.Context, string) ([]string, error), export Exporter, deps service.Deps) (*Topology, error) {
	base, err := deps.Kafka.Options(deps.Log)
	if err != nil {
		return nil, err
	}
	plain, err := kgo.NewClient(append(slices.Clone(base),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(5*time.Second),
		kgo.MaxBufferedRecords(10_000),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	detections, err := detection.Open(deps.Kafka, deps.Log)
	if err != nil {
		plain.Close()
		return nil, err
	}
	outcomes, err := kafka.NewOutcomes(base, deps.Metrics, deps.Log, cfg.transactionalID(), topic.Readings, topic.Windows, topic.Anomalies, topic.Coverage, topic.Comparisons, topic.State, topic.DLQ(topic.Frames))
	if err != nil {
		plain.Close()
		detections.Close()
		return nil, err
	}
	m := newInstruments(deps.Metrics)
	t := &Topology{
		keeper: newKeeper(base, cfg.Build, m, deps.Log),
		cfg:    cfg, pace: newPace(cfg.CommitRecords), mine: mine, detections: detections, schemas: schemas, export: export, log: deps.Log,
		metrics: m, tracer: newTracer(deps.Tracer), kafka: deps.Kafka, base: base, plain: plain, adm: kadm.NewClient(plain), outcomes: outcomes,
		slots: map[int32]*slot{}, told: map[int32]announced{}, running: errors.New("starting"),
		restore1: make(chan struct{}, max(1, cfg.RestoreParallel)), done: make(chan restored), ready: make(chan struct{}),
	}
	t.exposeCensus(deps.Metrics)
	return t, nil
}

// Close releases the clients. After Run, or instead of it.
func (t *Topology) Close() {
	t.plain.Close()
	t.detections.Close()
	t.outcomes.Close()
}

// Ready is nil when every partition that the group gave us is being judged.
func (t *Topology) Ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running != nil {
		return t.running
	}
	if !t.joined {
		return errors.New("joining the consumer group")
	}
	var behind []string
	for _, id := range sortedKeys(t.slots) {
		if s := t.slots[id]; s.part == nil {
			behind = append(behind, fmt.Sprintf("%d (%s)", id, s.progress))
		}
	}
	if len(behind) > 0 {
		return fmt.Errorf("restoring partitions %s", strings.Join(behind, ", "))
	}
	return nil
}

func (t *Topology) owned() []int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]int32, 0, len(t.slots))
	for id := range t.slots {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// Run judges until ctx ends. An error is final for this process: what it was doing stands in no transaction, and
// the next process begins where the last commit ended.
func (t *Topology) Run(ctx context.Context) error {
	if err := t.awaitTopics(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.work = work
	t.workers.Go(func() { t.detections.Run(work) })
	t.set(func() { t.running = errors.New("reading the detection configuration") })
	if _, err := t.detections.Settle(ctx, t.mine); err != nil {
		stop()
		t.workers.Wait()
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	sess, err := kgo.NewGroupTransactSession(append(slices.Clone(t.base),
		kgo.TransactionalID(t.cfg.transactionalID()),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.ConsumerGroup(t.cfg.Group),
		kgo.InstanceID(t.cfg.InstanceID),
		kgo.SessionTimeout(t.cfg.SessionTimeout),
		kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.HeartbeatInterval(t.cfg.SessionTimeout/5),
		kgo.ConsumeTopics(topic.Frames),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(250*time.Millisecond),
		kgo.BlockRebalanceOnPoll(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.MaxBufferedRecords(maxBufferedRecords),
		kgo.MaxBufferedBytes(maxBufferedBytes),
		kgo.ProducerBatchMaxBytes(maxMessage),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.AdjustFetchOffsetsFn(func(ctx context.Context, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			select {
			case <-t.ready: // the group may be quicker than the constructor
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return t.assigned(ctx, at)
		}),
		kgo.OnPartitionsAssigned(func(_ context.Context, cl *kgo.Client, got map[string][]int32) { t.expect(cl, got[topic.Frames]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { t.revoke(gone[topic.Frames]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { t.revoke(gone[topic.Frames]) }),
	)...)
	if err != nil {
		stop()
		t.workers.Wait()
		return fmt.Errorf("kafka session: %w", err)
	}
	t.client = sess.Client()
	close(t.ready)
	t.set(func() { t.running = errors.New("claiming the transactional id") })
	// Claims the id now: a predecessor's open transaction is aborted at once instead of at its time-out, and the
	// offsets it left pending become readable.
	if err := t.claim(ctx, sess.Client()); err != nil {
		t.drop(t.owned())
		stop()
		t.workers.Wait()
		sess.CloseAllowingRebalance()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("transactional id: %w", err)
	}
	t.set(func() { t.running = nil })
	t.workers.Go(func() { t.tickLoop(work) })
	t.workers.Go(func() { t.keeper.run(work) })

	err = t.loop(ctx, sess)
	t.set(func() { t.running = errors.New("stopped") })
	t.drop(t.owned())
	stop()
	t.workers.Wait()
	kafka.CloseWithin(drainTimeout, t.log, sess.CloseAllowingRebalance)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // the drain ran out; nothing of it stands
	}
	return err
}

func (t *Topology) claim(ctx context.Context, cl *kgo.Client) error {
	if err := t.outcomes.Claim(ctx, transactionTimeout); err != nil {
		return err
	}
	_, _, err := cl.ProducerID(ctx)
	return err
}

func (t *Topology) awaitTopics(ctx context.Context) error {
	t.set(func() { t.running = errors.New("waiting for Kafka") })
	return kafka.AwaitTopics(ctx, t.plain, t.kafka, func(err error) {
		t.set(func() { t.running = fmt.Errorf("waiting for Kafka: %w", err) })
		t.log.Warn("Kafka does not answer, trying again", zap.Error(err))
	}, topic.All()...)
}

func (t *Topology) set(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

// assigned is called by the group with the committed offsets of newly assigned partitions, before any is fetched.
// Whatever we knew of them is discarded: another owner may have written since.
func (t *Topology) assigned(ctx context.Context, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	member, _ := t.client.GroupMetadata()
	for id, o := range at[topic.Frames] {
		committed, fresh := o.EpochOffset().Offset, false
		if committed < 0 {
			// Said as a number, so that an abort of the very first transaction has an offset to go back to.
			start, err := startOf(ctx, t.adm, topic.Frames, id)
			if err != nil {
				return nil, fmt.Errorf("start of %s[%d]: %w", topic.Frames, id, err)
			}
			committed, fresh = start, true
			at[topic.Frames][id] = kgo.NewOffset().At(start)
		}
		t.members.Took(member, id)
		t.begin(id, committed, fresh)
	}
	return at, nil
}

// expect notes partitions that are ours and whose offsets are not known yet: until then we are not ready.
func (t *Topology) expect(cl *kgo.Client, ids []int32) {
	if err := t.members.Kept(cl, topic.Frames); err != nil {
		t.kept.Store(&err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.joined = true
	for _, id := range ids {
		if t.slots[id] == nil {
			t.slots[id] = &slot{cancel: func() {}, progress: newProgress(assigned)}
		}
	}
}

// begin starts the restore of a partition, in place of what was there. Until it is done nothing of it is fetched.
func (t *Topology) begin(id int32, committed int64, fresh bool) {
	t.client.PauseFetchPartitions(map[string][]int32{topic.Frames: {id}})
	ctx, cancel := context.WithTimeout(t.work, t.cfg.RestoreTimeout)
	s := &slot{cancel: cancel, progress: newProgress(waiting), fresh: fresh}
	t.set(func() {
		if old := t.slots[id]; old != nil {
			old.cancel()
		}
		t.slots[id] = s
	})
	restoreGauges(t.metrics.set, id, func() *progress {
		t.mu.Lock()
		defer t.mu.Unlock()
		if s := t.slots[id]; s != nil {
			return s.progress
		}
		return nil
	})
	t.workers.Go(func() {
		defer cancel()
		var p *partition
		var err error
		select {
		case t.restore1 <- struct{}{}:
			p, err = t.restore(ctx, id, committed, fresh, s.progress)
			<-t.restore1
		case <-ctx.Done():
			err = ctx.Err()
		}
		select {
		case t.done <- restored{id: id, slot: s, part: p, err: err}:
		case <-t.work.Done():
		}
	})
}

func (t *Topology) revoke(ids []int32) {
	t.revoked.Store(true)
	t.drop(ids)
}

// drop forgets partitions that are no longer ours.
func (t *Topology) drop(ids []int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if s := t.slots[id]; s != nil {
			s.cancel()
			delete(t.slots, id)
		}
	}
}

// loop polls, judges and commits. Rebalances happen only between transactions.
func (t *Topology) loop(ctx context.Context, sess *kgo.GroupTransactSession) error {
	cl := sess.Client()
	for ctx.Err() == nil {
		fetches, err := t.poll(ctx, sess, 100*time.Millisecond)
		if err != nil {
			sess.AllowRebalance()
			return err
		}
		switch {
		case t.revoked.Load():
			// Between transactions. The session would abort the next one for it, and tell us of no further revocation before that: an empty
			// transaction makes it forget. What was just polled is fetched again.
			if err := t.pass(ctx, sess); err != nil {
				sess.AllowRebalance()
				return err
			}
		case fetches.NumRecords() > 0:
			if err := t.transact(ctx, sess, fetches); err != nil {
				sess.AllowRebalance()
				return err
			}
		}
		sess.AllowRebalance()
		if err := t.kept.Load(); err != nil {
			return *err
		}
		if err := t.adopt(cl); err != nil {
			return err
		}
		t.reconcile(cl)
	}
	return nil
}

// reconcile drops judged partitions that the group no longer counts as ours. The callbacks tell of them, but for a second revocation before the
// session's next End.
func (t *Topology) reconcile(cl *kgo.Client) {
	judged := map[int32]*slot{}
	t.set(func() {
		for id, s := range t.slots {
			if s.part != nil {
				judged[id] = s
			}
		}
	})
	if len(judged) == 0 {
		return
	}
	ours := cl.CommittedOffsets()[topic.Frames] // after the slots: what is assigned meanwhile has another slot
	t.set(func() {
		for id, s := range judged {
			if _, ok := ours[id]; ok {
				s.counted = true
			} else if s.counted && t.slots[id] == s {
				t.log.Warn("partition is no longer ours, and nobody said so", zap.Int32("partition", id))
				delete(t.slots, id)
			}
		}
	})
}

// adopt takes in the partitions whose restore has ended.
func (t *Topology) adopt(cl *kgo.Client) error {
	for {
		select {
		case r := <-t.done:
			t.mu.Lock()
			current := t.slots[r.id] == r.slot
			if current && r.err == nil {
				r.slot.part, r.slot.inForce, r.slot.machines = r.part, r.part.in, len(r.part.machines)
			}
			t.mu.Unlock()
			switch {
			case !current: // revoked or begun anew meanwhile
			case r.err != nil:
				return fmt.Errorf("restore: %w", r.err)
			default:
				t.exposeModels(r.part.in)
				t.keeper.offer(r.part.takeOpenings()) // a process that ended may not have kept them
				cl.ResumeFetchPartitions(map[string][]int32{topic.Frames: {r.id}})
			}
		default:
			return nil
		}
	}
}

func (t *Topology) poll(ctx context.Context, sess *kgo.GroupTransactSession, wait time.Duration) (kgo.Fetches, error) {
	pctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	fetches := sess.PollRecords(pctx, t.pace.now)
	for _, e := range fetches.Errors() {
		switch {
		case errors.Is(e.Err, context.DeadlineExceeded), errors.Is(e.Err, context.Canceled):
		case errors.Is(e.Err, kgo.ErrClientClosed):
			return nil, e.Err
		case errors.Is(e.Err, kerr.FencedInstanceID):
			return nil, fmt.Errorf("another process runs as instance_id %q: each needs one of its own: %w", t.cfg.InstanceID, e.Err)
		case errors.Is(e.Err, kerr.OffsetOutOfRange):
			return nil, fmt.Errorf("%s[%d]: the committed offset is no longer in the log (retention passed, or the topic was made anew): %w", e.Topic, e.Partition, e.Err)
		default:
			// Errors and records may stand in the same fetch: the records are judged all the same.
			t.metrics.fetchErrors.Inc()
			t.log.Warn("fetch", zap.String("topic", e.Topic), zap.Int32("partition", e.Partition), zap.Error(e.Err))
		}
	}
	return fetches, nil
}

// judgeAll applies each partition's records in order, partitions side by side. urgent says that the transaction should end now: somebody is
// waiting for an anomaly, or another configuration came into force, which took its time.
func (t *Topology) judgeAll(ctx context.Context, fetches kgo.Fetches, touched map[int32]*partition, emit emitter) (urgent bool, err error) {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	before := 0
	for _, p := range touched {
		before += p.count.anomalies + p.count.switches
	}
	var failed error
	fetches.EachPartition(func(ft kgo.FetchTopicPartition) {
		if len(ft.Records) == 0 || failed != nil {
			return
		}
		t.mu.Lock()
		s := t.slots[ft.Partition]
		t.mu.Unlock()
		if s == nil || s.part == nil {
			failed = fmt.Errorf("records of partition %d came before its state", ft.Partition)
			return
		}
		p := s.part
		touched[ft.Partition] = p
		g.Go(func() error {
			for _, r := range ft.Records {
				if r.Offset != p.next {
					if r.Offset < p.next {
						return fmt.Errorf("%s: offset %d came after %d was applied", p, r.Offset, p.next-1)
					}
					// Markers and aborted records of who writes frames in transactions (tocsin dlq retry). What retention took would be OffsetOutOfRange.
					t.metrics.gap.Add(int(r.Offset - p.next))
				}
				if err := p.apply(ctx, r, emit); err != nil {
					return err
				}
			}
			return nil
		})
	})
	err = errors.Join(failed, g.Wait())
	after := 0
	for _, p := range touched {
		after += p.count.anomalies + p.count.switches
	}
	return after > before, err
}

// rollback discards the states of all our partitions, which hold effects that do not stand, and restores them.
func (t *Topology) rollback(cl *kgo.Client) {
	member, _ := cl.GroupMetadata()
	committed := cl.CommittedOffsets()[topic.Frames]
	for _, id := range t.owned() {
		at, ok := committed[id]
		if !ok {
			continue // no longer ours: the group will call assigned when it is again
		}
		if err := t.members.Same(member, id); err != nil {
			// What the client takes for committed is so no more. The group is about to say whose the partition is.
			t.log.Warn("partition is not restored", zap.Error(err))
			t.drop([]int32{id})
			cl.PauseFetchPartitions(map[string][]int32{topic.Frames: {id}})
			continue
		}
		t.mu.Lock()
		fresh := t.slots[id] != nil && t.slots[id].fresh
		t.mu.Unlock()
		t.begin(id, at.Offset, fresh)
	}
}
