// Package stream carries anomalies through the incident books, exactly once: it consumes detect.anomalies.v1 and
// writes alert.events.v1 in Kafka transactions that also hold the consumed offsets.
//
// Protocol, per transaction: poll; decide on the books; produce transitions, forwarded ticks and dead letters; end with the
// offsets. The books are ahead of the log only inside a transaction; what leaves for the routing engine has been
// committed. The log of transitions is the books' only durable state:
//
//   - A partition is paused when it is assigned and read again from alert.events.v1 before any of its records is handled.
//     The reading is read_committed but goes to the end as of the read_uncommitted high watermark: stopping at the last
//     stable offset would miss a transaction of the previous owner that is about to be committed.
//   - An abort (a rebalance came between) discards the books of the partitions touched and reads them again.
//   - An error of the end itself leaves it unknown whether the transaction stands: Run returns it, and the process that
//     follows reads what is true.
//   - The commit's metadata says from which offset of alert.events.v1 the book can be rebuilt, so a restart does not read
//     seven days of ticks.
//
// One goroutine (Run) does all this; group callbacks only leave notes for it.
package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/incident"
)

// fetchBytes bounds what is fetched ahead of a poll.
const fetchBytes = 4 << 20

// Config of the consumer.
type Config struct {
	GroupID    string
	InstanceID string
	// SessionTimeout after which the group gives a dead instance's partitions to another.
	SessionTimeout time.Duration
	// TransactionTimeout after which the broker aborts what a dead instance had begun.
	TransactionTimeout time.Duration
	// MaxPollRecords bounds one transaction.
	MaxPollRecords int
}

// Committed is one transition that stands in the log.
type Committed struct {
	incident.Transition
	Partition int32
	Offset    int64  // of the event in alert.events.v1
	TraceID   string // empty when the anomaly carried none
}

// Sink is told what has become true, one call after the other. An error ends Run.
type Sink interface {
	// Restored gives all views of one partition that this instance has just taken over.
	Restored(ctx context.Context, views []incident.View) error
	// Live says that every partition assigned so far has been restored; it may come more than once.
	Live()
	// Committed gives the transitions of one transaction, in order.
	Committed(ctx context.Context, transitions []Committed) error
	// Lost gives the views of a partition that is no longer this instance's.
	Lost(views []incident.View) error
}

// Consumer is one member of the consumer group. Make it with New, call Run once.
type Consumer struct {
	cfg    Config
	kafka  kafka.Config
	sink   Sink
	shared *Shared
	teller teller
	log    *zap.Logger
	tracer trace.Tracer

	metrics *metrics.Set
	count   counters

	session  *kgo.GroupTransactSession
	adm      *kadm.Client
	outcomes *kafka.Outcomes

	parts   map[int32]*partition // Run's own
	members kafka.Membership

	mu    sync.Mutex
	notes notes
	phase string // why not ready; empty when ready
	open  int
}

// partition is what this instance holds of one partition.
type partition struct {
	id   int32
	book *incident.Book
	next int64 // offset after the last record known in alert.events.v1
}

// notes is what group callbacks leave for Run.
type notes struct {
	assigned   map[int32]bool // to be restored
	revoked    map[int32]bool // to be dropped
	rebalanced bool           // the session will refuse to commit until its next End
	joined     bool
	client     *kgo.Client        // the session's; set once joined: the group may be quicker than the session's constructor
	kept       error              // why the partitions that the group's client has kept are not ours to go on with
	wake       context.CancelFunc // ends the poll that is waiting
}

// New checks nothing and opens nothing yet; Run does. The events that it makes are offered to shared, which may be nil.
func New(cfg Config, deps service.Deps, sink Sink, shared *Shared) *Consumer {
	c := &Consumer{
		cfg: cfg, kafka: deps.Kafka, sink: sink, shared: shared, log: deps.Log, metrics: deps.Metrics,
		tracer: deps.Tracer.Tracer("github.com/tocsin-io/tocsin/services/alert-router"),
		parts:  make(map[int32]*partition),
		phase:  "starting",
	}
	c.teller = teller{sink: sink, limit: cfg.TransactionTimeout + endBeyond}
	c.notes.assigned, c.notes.revoked = make(map[int32]bool), make(map[int32]bool)
	c.count = newCounters(deps.Metrics)
	deps.Metrics.GetOrCreateGauge("tocsin_alerts_open", func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.open)
	})
	return c
}

// Ready is nil while every assigned partition is being followed.
func (c *Consumer) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != "" {
		return errors.New(c.phase)
	}
	return nil
}

func (c *Consumer) setPhase(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = why
}

// Run consumes until ctx is cancelled; then it finishes the transaction under way and returns nil. Any other
// return is an error after which only a new process knows what is true.
func (c *Consumer) Run(ctx context.Context) error {
	c.setPhase("waiting for Kafka")
	defer c.setPhase("stopped")
	if err := c.connect(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer c.close()
	c.setPhase("joining the consumer group")
	for ctx.Err() == nil {
		if err := c.step(ctx); err != nil {
			err = errors.Join(err, c.teller.settled())
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
	}
	return c.teller.settled()
}

func (c *Consumer) connect(ctx context.Context) error {
	base, err := c.kafka.Options(c.log)
	if err != nil {
		return err
	}
	if err := c.awaitTopics(ctx, base); err != nil {
		return err
	}
	id := c.cfg.GroupID + "-" + c.cfg.InstanceID
	if c.outcomes, err = kafka.NewOutcomes(base, c.metrics, c.log, id, topic.Alerts, topic.DLQ(topic.Anomalies)); err != nil {
		return err
	}
	c.session, err = kgo.NewGroupTransactSession(append(base,
		kgo.ConsumerGroup(c.cfg.GroupID),
		kgo.InstanceID(c.cfg.InstanceID),
		kgo.ConsumeTopics(topic.Anomalies),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.BlockRebalanceOnPoll(),
		// As records are compressed on their way, a fetch of the client's 50 MB would be many times that in memory; a transaction takes one.
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchBytes/4),
		kgo.OnPartitionsAssigned(c.onAssigned),
		kgo.AdjustFetchOffsetsFn(c.onOffsets),
		kgo.OnPartitionsRevoked(c.onRevoked),
		kgo.OnPartitionsLost(c.onRevoked),
		kgo.SessionTimeout(c.cfg.SessionTimeout),
		kgo.HeartbeatInterval(c.cfg.SessionTimeout/4),
		kgo.TransactionalID(id),
		kgo.TransactionTimeout(c.cfg.TransactionTimeout),
		kgo.RecordPartitioner(samePartition()),
		kgo.ProducerBatchMaxBytes(maxRecord),
		kgo.ProducerLinger(0),
	)...)
	if err != nil {
		c.outcomes.Close()
		return fmt.Errorf("kafka client: %w", err)
	}
	c.adm = kadm.NewClient(c.session.Client())
	// Take the transactional id now: this aborts what an earlier process of this instance left open, which the restore
	// would otherwise wait for.
	err = c.outcomes.Claim(ctx, c.cfg.TransactionTimeout)
	if err == nil {
		_, _, err = c.session.Client().ProducerID(ctx)
	}
	if err != nil {
		c.close()
		return fmt.Errorf("take transactional id: %w", err)
	}
	return nil
}

func (c *Consumer) close() {
	c.outcomes.Close()
	kafka.CloseWithin(drainTimeout, c.log, c.session.CloseAllowingRebalance)
}

// begin begins a transaction, once the one before has ended in every partition. When ctx ends first, nothing has begun and nothing is lost.
func (c *Consumer) begin(ctx context.Context) error {
	if err := c.outcomes.Settled(ctx); err != nil {
		return err
	}
	if err := c.session.Begin(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	return nil
}

// samePartition keeps a machine's records in its partition from topic to topic; dead-letter topics have fewer partitions.
func samePartition() kgo.Partitioner {
	return kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
		return func(r *kgo.Record, n int) int { return int(r.Partition) % n }
	})
}

// awaitTopics waits for a broker for as long as it takes; a topic of another shape is an error.
func (c *Consumer) awaitTopics(ctx context.Context, base []kgo.Opt) error {
	cl, err := kgo.NewClient(base...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer cl.Close()
	return kafka.AwaitTopics(ctx, cl, c.kafka, func(err error) {
		c.log.Warn("waiting for Kafka", zap.Error(err))
		c.setPhase("waiting for Kafka: " + err.Error())
	}, topic.Specs(topic.Anomalies, topic.Alerts, topic.Told, topic.DLQ(topic.Anomalies))...)
}

// step takes notice of a rebalance, or handles one poll.
func (c *Consumer) step(ctx context.Context) error {
	if err := c.teller.failed(); err != nil {
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	poll, cancel := context.WithCancel(ctx)
	defer cancel()
	if !c.arm(cancel) {
		return nil // a rebalance came in between
	}
	fetches := c.session.PollRecords(poll, c.cfg.MaxPollRecords)
	defer c.session.AllowRebalance()
	if c.disarm() {
		// The session would abort whatever is done with these records. Ending an empty transaction clears that
		// and rewinds to what is committed.
		return c.clear(ctx)
	}
	if err := c.fetchErrors(fetches); err != nil {
		return err
	}
	return c.handle(ctx, fetches)
}

// arm makes the next rebalance end the poll; false when one has come already.
func (c *Consumer) arm(cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.notes.kept != nil {
		return false
	}
	if len(c.notes.assigned) > 0 || len(c.notes.revoked) > 0 || c.notes.rebalanced {
		return c.notes.rebalanced && len(c.notes.assigned) == 0 && len(c.notes.revoked) == 0
	}
	c.notes.wake = cancel
	return true
}

func (c *Consumer) disarm() (rebalanced bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes.wake = nil
	return c.notes.rebalanced
}

func (c *Consumer) clear(ctx context.Context) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	if _, err := c.session.End(ctx, kgo.TryAbort); err != nil {
		return fmt.Errorf("clear transaction: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes.rebalanced = false
	// The callback is silent for a second revocation before the End: ask the group itself.
	owned := c.session.Client().CommittedOffsets()[topic.Anomalies]
	for p := range c.parts {
		if _, ok := owned[p]; !ok && !c.notes.assigned[p] {
			c.notes.revoked[p] = true
		}
	}
	return nil
}

func (c *Consumer) onAssigned(_ context.Context, cl *kgo.Client, m map[string][]int32) {
	ps := m[topic.Anomalies]
	if len(ps) > 0 {
		cl.PauseFetchPartitions(map[string][]int32{topic.Anomalies: ps})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes.joined, c.notes.client = true, cl
	member, _ := cl.GroupMetadata()
	c.members.Took(member, ps...)
	if err := c.members.Kept(cl, topic.Anomalies); err != nil && c.notes.kept == nil {
		c.notes.kept = err
	}
	for _, p := range ps {
		c.notes.assigned[p] = true
	}
	c.wakeLocked()
}

// onOffsets is called before the first fetch of a partition, with what is committed of it. That may be in a later session than onAssigned's: offsets are asked for again when a
// join came between. If the group had forgotten this member by then, others may have had the partition since its book was read.
func (c *Consumer) onOffsets(_ context.Context, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.notes.client
	member, _ := cl.GroupMetadata()
	for p := range at[topic.Anomalies] {
		if c.members.Same(member, p) == nil {
			continue
		}
		cl.PauseFetchPartitions(map[string][]int32{topic.Anomalies: {p}})
		c.members.Took(member, p)
		c.notes.assigned[p] = true
		c.wakeLocked()
	}
	return at, nil
}

func (c *Consumer) onRevoked(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes.rebalanced = true
	for _, p := range m[topic.Anomalies] {
		c.notes.revoked[p] = true
		delete(c.notes.assigned, p)
	}
	c.wakeLocked()
}

func (c *Consumer) wakeLocked() {
	if c.notes.wake != nil {
		c.notes.wake()
	}
}

// settle drops what was revoked and restores what was assigned.
func (c *Consumer) settle(ctx context.Context) error {
	c.mu.Lock()
	assigned, revoked, joined, kept := c.notes.assigned, c.notes.revoked, c.notes.joined, c.notes.kept
	if len(assigned) > 0 || len(revoked) > 0 {
		c.notes.assigned, c.notes.revoked = make(map[int32]bool), make(map[int32]bool)
	}
	if len(assigned) > 0 {
		c.phase = fmt.Sprintf("restoring %d partitions", len(assigned))
	}
	live := joined && len(assigned) == 0 && c.phase != ""
	c.mu.Unlock()
	if kept != nil {
		return kept
	}
	if len(assigned) > 0 || len(revoked) > 0 {
		if err := c.teller.settled(); err != nil { // what is lost or restored now has been told before
			return err
		}
	}

	for p := range revoked {
		if part, held := c.parts[p]; held && !assigned[p] {
			delete(c.parts, p)
			c.log.Info("partition left", zap.Int32("partition", p), zap.Int("open_alerts", part.book.Open()))
			if err := c.sink.Lost(part.book.Views()); err != nil {
				return err
			}
		}
	}
	if len(assigned) > 0 {
		if err := c.restore(ctx, slices.Sorted(maps.Keys(assigned))); err != nil {
			return fmt.Errorf("restore open alerts: %w", err)
		}
		live = true
	}
	if len(revoked) > 0 {
		c.tally()
	}
	if live && joined {
		c.goLive()
	}
	return nil
}

func (c *Consumer) goLive() {
	c.mu.Lock()
	more := len(c.notes.assigned) > 0
	c.mu.Unlock()
	if more {
		return // another assignment has come; settle again first
	}
	c.sink.Live()
	c.setPhase("")
}

// restore reads the books of partitions that are paused, gives them to the sink and lets their records come.
func (c *Consumer) restore(ctx context.Context, ps []int32) error {
	begin := time.Now()
	restored, err := c.rebuild(ctx, ps)
	if err != nil {
		return err
	}
	for _, p := range ps {
		part := restored[p]
		if err := c.sink.Restored(ctx, part.book.Views()); err != nil {
			return err
		}
		c.parts[p] = part
	}
	c.tally()
	member, _ := c.session.Client().GroupMetadata()
	for _, p := range ps {
		if err := c.members.Same(member, p); err != nil {
			c.log.Warn("partition stays paused until the group has said whose it is", zap.Error(err))
			continue
		}
		c.session.Client().ResumeFetchPartitions(map[string][]int32{topic.Anomalies: {p}})
	}
	c.count.restore.Update(time.Since(begin).Seconds())
	c.log.Info("open alerts restored", zap.Int32s("partitions", ps), zap.Duration("took", time.Since(begin)))
	return nil
}

// tally makes the number of open alerts readable from outside.
func (c *Consumer) tally() {
	n := 0
	for _, p := range c.parts {
		n += p.book.Open()
	}
	c.mu.Lock()
	c.open = n
	c.mu.Unlock()
}

// fetchErrors sorts the errors of a poll: those that pass by themselves are told once in the log, those that do not are returned.
func (c *Consumer) fetchErrors(fetches kgo.Fetches) error {
	for _, fe := range fetches.Errors() {
		var lost *kgo.ErrDataLoss
		switch err := fe.Err; {
		case errors.Is(err, context.Canceled):
		case errors.Is(err, kgo.ErrClientClosed), errors.Is(err, kerr.FencedInstanceID):
			return fmt.Errorf("consume %s: %w", topic.Anomalies, err)
		case errors.As(err, &lost):
			c.count.dataLoss.Inc()
			c.log.Error("the broker lost anomalies; going on from what it has", zap.Error(err))
		default:
			c.count.fetchErrors.Inc()
			c.log.Warn("fetch failed, will be tried again", zap.Int32("partition", fe.Partition), zap.Error(err))
		}
	}
	return nil
}

type counters struct {
	applied, unchanged, dead, others, ticks *metrics.Counter
	commits, aborts                         *metrics.Counter
	dataLoss, fetchErrors                   *metrics.Counter
	unreadable                              *metrics.Counter
	restore                                 *metrics.Histogram
	set                                     *metrics.Set
}

func newCounters(set *metrics.Set) counters {
	return counters{
		applied:     set.GetOrCreateCounter(`tocsin_alert_anomalies_total{outcome="applied"}`),
		unchanged:   set.GetOrCreateCounter(`tocsin_alert_anomalies_total{outcome="unchanged"}`),
		dead:        set.GetOrCreateCounter(`tocsin_alert_anomalies_total{outcome="dead_letter"}`),
		others:      set.GetOrCreateCounter(`tocsin_alert_anomalies_total{outcome="for_another_consumer"}`),
		ticks:       set.GetOrCreateCounter(`tocsin_alert_ticks_total`),
		commits:     set.GetOrCreateCounter(`tocsin_alert_transactions_total{outcome="committed"}`),
		aborts:      set.GetOrCreateCounter(`tocsin_alert_transactions_total{outcome="aborted"}`),
		dataLoss:    set.GetOrCreateCounter(`tocsin_alert_data_loss_total`),
		fetchErrors: set.GetOrCreateCounter(`tocsin_alert_fetch_errors_total`),
		unreadable:  set.GetOrCreateCounter(`tocsin_alert_events_unreadable_total`),
		restore:     set.GetOrCreateHistogram(`tocsin_alert_restore_seconds`),
		set:         set,
	}
}
