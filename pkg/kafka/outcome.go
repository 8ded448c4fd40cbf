package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
)

// offsetsTopic is where the groups' offsets are, those of transactions too.
const offsetsTopic = "__consumer_offsets"

// Outcomes sees to it that each transaction of one transactional id has really ended, in every partition, before the next one begins.
//
// A coordinator that comes back from a crash may call a transaction complete without having written its end into the partitions (seen with Apache Kafka 4.3.1:
// CompleteAbort in __transaction_state, no marker where the records are). It then stands open there, and what the same producer writes next becomes part of it:
// records that were aborted are committed with the next transaction, or committed ones aborted. That is neither at most nor at least once, and no client is told.
// The way out is KIP-664's: ask the partitions who has a transaction open, and write its end.
//
// Not safe for concurrent use.
type Outcomes struct {
	id     string
	topics []string
	log    *zap.Logger
	cl     *kgo.Client
	adm    *kadm.Client

	connects *atomic.Int64
	seen     int64 // connects when the partitions were last looked at
	at       int32 // the coordinator then
	blind    bool  // the right to look into offsetsTopic is missing: said once

	mended *metrics.Counter
}

// NewOutcomes watches the transactional id, whose transactions write to topics and commit a group's offsets. base are the options of Config.Options.
func NewOutcomes(base []kgo.Opt, set *metrics.Set, log *zap.Logger, id string, topics ...string) (*Outcomes, error) {
	o := &Outcomes{
		id: id, topics: slices.Clone(topics), log: log, connects: &atomic.Int64{}, at: -1,
		mended: set.GetOrCreateCounter("tocsin_kafka_unended_transactions_total"),
	}
	cl, err := kgo.NewClient(append(slices.Clone(base), kgo.WithHooks(connectCounter{o.connects}))...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	o.cl, o.adm = cl, kadm.NewClient(cl)
	return o, nil
}

// Close releases the connection.
func (o *Outcomes) Close() { o.cl.Close() }

type connectCounter struct{ n *atomic.Int64 }

func (c connectCounter) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		c.n.Add(1)
	}
}

// verdict is how a transaction ended.
type verdict uint8

const (
	unknown verdict = iota // the id was claimed since: the coordinator does not say any more
	committed
	aborted
	unfinished // not yet ended, or about to be
	open
)

func verdictOf(state string) verdict {
	switch state {
	case "CompleteCommit":
		return committed
	case "CompleteAbort":
		return aborted
	case "Ongoing":
		return open
	case "Empty", "Dead":
		return unknown
	default: // PrepareCommit, PrepareAbort, PrepareEpochFence: the coordinator is at it
		return unfinished
	}
}

// Claim is to be called before the producer claims the id. It ends what a predecessor has left open, and then looks into all partitions: claiming would make
// the coordinator forget how the last transaction ended. It waits while Kafka does not answer; an error is final.
func (o *Outcomes) Claim(ctx context.Context, timeout time.Duration) error {
	return o.settle(ctx, func(ctx context.Context) {
		// Fences whoever held the id and has the coordinator abort. The answer does not matter: it is asked for the state again.
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr(o.id), int32(timeout.Milliseconds())
		if _, err := req.RequestWith(ctx, o.cl); err != nil {
			o.log.Warn("ending the predecessor's transaction", zap.Error(err))
		}
	})
}

// Settled is to be called between two transactions. It returns when the coordinator has called the last one complete; and if there has been a new connection or another
// coordinator since it was last called, when each partition has its end as well. Usually one request and its answer; it waits while Kafka does not answer. An error is final.
func (o *Outcomes) Settled(ctx context.Context) error {
	return o.settle(ctx, nil)
}

const (
	outcomeRetry    = 10 * time.Millisecond
	outcomeRetryMax = time.Second
	outcomeAnswer   = 10 * time.Second
	outcomeSay      = 5 * time.Second
)

// settle asks until the last transaction has ended everywhere. end is called while it is open; nil: then it is a new one already, empty (a fenced producer's late
// request can begin it on the embedded broker), and ours will be that one. The partitions are looked at the next time.
func (o *Outcomes) settle(ctx context.Context, end func(context.Context)) error {
	wait, began, said := outcomeRetry, time.Now(), time.Now()
	for {
		done, err := o.look(ctx, end)
		switch {
		case done:
			if took := time.Since(began); took > outcomeSay {
				o.log.Info("the last transaction has ended", zap.String("transactional_id", o.id), zap.Duration("waited", took))
			}
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("end of the last transaction of %s: %w", o.id, errors.Join(ctx.Err(), err))
		case final(err):
			return fmt.Errorf("end of the last transaction of %s: %w", o.id, err)
		}
		if time.Since(said) > outcomeSay {
			said = time.Now()
			o.log.Warn("waiting for the end of the last transaction", zap.String("transactional_id", o.id), zap.Error(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, outcomeRetryMax)
	}
}

// errUndecided: somebody must look.
var errUndecided = errors.New("the coordinator does not say any more whether it was committed")

func final(err error) bool {
	var auth *kadm.AuthError
	return errors.Is(err, errUndecided) || errors.As(err, &auth)
}

// look asks once. It is done, or not yet, perhaps for an error.
func (o *Outcomes) look(ctx context.Context, end func(context.Context)) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, outcomeAnswer)
	defer cancel()
	txns, err := o.adm.DescribeTransactions(ctx, o.id)
	if err != nil {
		return false, needs(err, "DESCRIBE on the transactional id "+o.id)
	}
	txn, ok := txns[o.id]
	switch {
	case !ok:
		return false, errors.New("the coordinator does not answer")
	case errors.Is(txn.Err, kerr.TransactionalIDNotFound):
		return true, nil // never used, or so long ago that nothing can be open
	case txn.Err != nil:
		return false, txn.Err
	}
	v := verdictOf(txn.State)
	switch v {
	case open:
		if end == nil {
			return true, nil
		}
		end(ctx)
		return false, errors.New("it is open")
	case unfinished:
		return false, fmt.Errorf("the coordinator is at %s", txn.State)
	}
	connects := o.connects.Load()
	if connects == o.seen && txn.Coordinator == o.at {
		return true, nil
	}
	if err := o.mend(ctx, txn.ProducerID, v); err != nil {
		return false, err
	}
	o.seen, o.at = connects, txn.Coordinator
	return true, nil
}

// mend looks for partitions where the producer's transaction is open, and writes its end into them.
func (o *Outcomes) mend(ctx context.Context, producer int64, v verdict) error {
	left, err := o.unended(ctx, producer)
	if err != nil || len(left) == 0 {
		return err
	}
	where := kadm.TopicsSet{}
	for _, p := range left {
		where.Add(p.Topic, p.Partition)
	}
	if v == unknown {
		return fmt.Errorf("%w, and it is open in %v: end it with kafka-transactions.sh (abort, unless the group's offsets show that it was committed), then start again", errUndecided, where.Sorted())
	}
	markers := make([]kadm.TxnMarkers, len(left))
	for i, p := range left {
		in := kadm.TopicsSet{}
		in.Add(p.Topic, p.Partition)
		// The epoch is the one it was written with, which may be older than the producer's is now.
		markers[i] = kadm.TxnMarkers{ProducerID: producer, ProducerEpoch: p.ProducerEpoch, CoordinatorEpoch: max(0, p.CoordinatorEpoch), Commit: v == committed, Topics: in}
	}
	o.log.Warn("Kafka has ended a transaction without saying so in all partitions: ending it there", zap.String("transactional_id", o.id),
		zap.Int64("producer_id", producer), zap.Bool("commit", v == committed), zap.Any("partitions", where))
	answers, err := o.adm.WriteTxnMarkers(ctx, markers...)
	if err != nil {
		return needs(err, "CLUSTER_ACTION or ALTER on the cluster, for this one time")
	}
	for _, a := range answers {
		for _, p := range a.Topics.SortedPartitions() {
			if p.Err != nil {
				return fmt.Errorf("end it in %s[%d]: %w", p.Topic, p.Partition, p.Err)
			}
		}
	}
	if left, err = o.unended(ctx, producer); err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("it is still open in %d partitions", len(left))
	}
	o.mended.Inc()
	return nil
}

// unended are the partitions in which the producer has a transaction open.
func (o *Outcomes) unended(ctx context.Context, producer int64) ([]kadm.DescribedProducer, error) {
	left, err := o.openIn(ctx, producer, o.topics...)
	if err != nil {
		return nil, needs(err, "DESCRIBE and READ on the topics that it writes to")
	}
	if o.blind {
		return left, nil
	}
	offsets, err := o.openIn(ctx, producer, offsetsTopic)
	var auth *kadm.AuthError
	if errors.As(err, &auth) {
		// Not every provider gives that right. The group's offsets and the state are compared at each restore.
		o.blind = true
		o.log.Warn("no right to read "+offsetsTopic+": offsets that a crash of Kafka leaves undecided will not be noticed", zap.Error(err))
		return left, nil
	}
	return append(left, offsets...), err
}

func (o *Outcomes) openIn(ctx context.Context, producer int64, topics ...string) ([]kadm.DescribedProducer, error) {
	open, err := OpenTransactions(ctx, o.adm, topics...)
	return slices.DeleteFunc(open, func(p kadm.DescribedProducer) bool { return p.ProducerID != producer }), err
}

// OpenTransactions are the transactions that stand open in the partitions of topics, whoever has them (KIP-664, DescribeProducers). A topic that is not there has none. Partitions that do
// not answer are an error; a right that is missing is a *kadm.AuthError.
func OpenTransactions(ctx context.Context, adm *kadm.Client, topics ...string) ([]kadm.DescribedProducer, error) {
	found, err := adm.ListTopicsWithInternal(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ask, asked := kadm.TopicsSet{}, 0
	for _, t := range found {
		switch {
		case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
			continue // nothing is open in it
		case errors.Is(t.Err, kerr.TopicAuthorizationFailed):
			return nil, fmt.Errorf("%s: %w", t.Topic, &kadm.AuthError{Err: t.Err})
		case t.Err != nil:
			return nil, fmt.Errorf("%s: %w", t.Topic, t.Err)
		}
		for p := range t.Partitions {
			ask.Add(t.Topic, p)
			asked++
		}
	}
	if asked == 0 {
		return nil, nil // asking for none means all
	}
	producers, err := adm.DescribeProducers(ctx, ask)
	if err != nil {
		return nil, err
	}
	var open []kadm.DescribedProducer
	producers.EachPartition(func(p kadm.DescribedProducersPartition) {
		asked--
		if p.Err != nil {
			err = fmt.Errorf("%s[%d]: %w", p.Topic, p.Partition, p.Err)
		}
		for _, d := range p.ActiveProducers {
			if d.CurrentTxnStartOffset >= 0 {
				open = append(open, d)
			}
		}
	})
	if err == nil && asked != 0 {
		err = errors.New("not all partitions answered")
	}
	return open, err
}

// needs names the right that is missing, if that is what err says.
func needs(err error, right string) error {
	var auth *kadm.AuthError
	if errors.As(err, &auth) {
		return fmt.Errorf("%w: the service needs %s", err, right)
	}
	return err
}
