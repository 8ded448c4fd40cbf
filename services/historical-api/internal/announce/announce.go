// Package announce brings the alerts and findings of checks to Kafka, each exactly once.
//
// The outbox of the store is numbered. A transaction writes a run of alerts to detect.anomalies.v1, of findings to insight.findings.v1 and, as the offset of a group of its own, the number
// of the next one: what stands in the topics and how far the outbox has come is one fact, decided by Kafka. Whoever goes on after a kill claims the transactional id, which ends what was begun and shuts
// out whoever has it still, reads that number, and continues there. Neither the store's note nor the lease is needed for that to be right.
//
// Kafka forgets the offsets of a group that has committed none for offsets.retention.minutes (7 days as shipped). So the store notes the number too, right after; only a kill between
// the two that is followed by so long a silence could repeat an alert, which the alert-router then knows by its id.
//
// Findings are few and nobody else writes ticks to their topic; the lake's file of a partition ends when its time goes on. So the publisher ticks.
package announce

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/checkstore"
)

// Outbox is where records wait.
type Outbox interface {
	Name() string
	Outbox(ctx context.Context, seq int64, limit int) ([]checkstore.Record, error)
	Position(ctx context.Context) (next int64, err error)
	Published(ctx context.Context, next int64) error
}

// Publisher publishes. Make it with New, call Run for as long as the lease is held; Run may be called again.
type Publisher struct {
	outbox  Outbox
	deps    service.Deps
	log     *zap.Logger
	waiting func(error) // told why nothing can be published; nil when it can
	ticks   bool

	alerts   *metrics.Counter
	findings *metrics.Counter
	failures *metrics.Counter
}

const (
	batch              = 500
	transactionTimeout = 30 * time.Second
	pollEvery          = time.Second
	retryFirst         = 200 * time.Millisecond
	retryMax           = 10 * time.Second
	closeWithin        = 4 * time.Second
	tickEvery          = time.Minute
)

// New publishes what the outbox has. ticks: from the start, not only from the first record on. waiting is told what keeps it from that, and nil when nothing does.
func New(outbox Outbox, deps service.Deps, ticks bool, waiting func(error)) *Publisher {
	return &Publisher{
		outbox: outbox, deps: deps, log: deps.Log.Named("announce"), waiting: waiting, ticks: ticks,
		alerts:   deps.Metrics.GetOrCreateCounter("tocsin_checks_alerts_published_total"),
		findings: deps.Metrics.GetOrCreateCounter("tocsin_checks_findings_published_total"),
		failures: deps.Metrics.GetOrCreateCounter("tocsin_checks_publish_failures_total"),
	}
}

// Run publishes until ctx ends. wake says that there is something new. Kafka is not asked before there is something to publish, or to tick for.
func (p *Publisher) Run(ctx context.Context, wake <-chan struct{}) {
	wait := retryFirst
	for ctx.Err() == nil {
		err := p.session(ctx, wake, func() { wait = retryFirst })
		if ctx.Err() != nil {
			return
		}
		p.failures.Inc()
		p.waiting(err)
		p.log.Warn("alerts and findings of checks wait", zap.Error(err))
		sleep(ctx, wait)
		wait = min(2*wait, retryMax)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// session publishes with one claim of the transactional id. Any error ends it: what it has left open is for the next one to find out.
func (p *Publisher) session(ctx context.Context, wake <-chan struct{}, well func()) error {
	next, err := p.outbox.Position(ctx)
	if err != nil {
		return err
	}
	if !p.ticks {
		if _, err := p.await(ctx, wake, next, time.Time{}); err != nil {
			return err
		}
	}
	s, err := p.claim(ctx, next)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		records, err := p.await(ctx, wake, s.next, s.tick)
		if err != nil {
			return err
		}
		if err := s.publish(ctx, records); err != nil {
			return err
		}
		for _, r := range records {
			if r.Kind == checkstore.FindingRecord {
				p.findings.Inc()
			} else {
				p.alerts.Inc()
			}
		}
		if err := p.outbox.Published(ctx, s.next); err != nil {
			return err
		}
		p.waiting(nil)
		well()
	}
}

// await waits for records from next on; it gives none when it is time to tick (the zero time: never).
func (p *Publisher) await(ctx context.Context, wake <-chan struct{}, next int64, tick time.Time) ([]checkstore.Record, error) {
	for {
		records, err := p.outbox.Outbox(ctx, next, batch)
		if err != nil || len(records) > 0 || !tick.IsZero() && !time.Now().Before(tick) {
			return records, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wake:
		case <-time.After(pollEvery):
		}
	}
}

type session struct {
	id       string // transactional id, and group
	log      *zap.Logger
	outcomes *kafka.Outcomes
	cl       *kgo.Client
	topicID  [16]byte
	next     int64
	findings []int32   // partitions of their topic
	tick     time.Time // when they are due next
}

// claim takes the transactional id and finds out how far the outbox has come.
func (p *Publisher) claim(ctx context.Context, noted int64) (_ *session, err error) {
	s := &session{id: "tocsin-checks-" + p.outbox.Name(), log: p.log}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	base, err := p.deps.Kafka.Options(p.log)
	if err != nil {
		return nil, err
	}
	if s.outcomes, err = kafka.NewOutcomes(base, p.deps.Metrics, p.log, s.id, topic.Anomalies, topic.Findings); err != nil {
		return nil, err
	}
	s.cl, err = kgo.NewClient(append(base, kgo.TransactionalID(s.id), kgo.TransactionTimeout(transactionTimeout), kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(transactionTimeout), kgo.RecordPartitioner(partitioner()))...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	if err = kafka.AwaitTopics(ctx, s.cl, p.deps.Kafka, p.waiting, topic.Specs(topic.Anomalies, topic.Findings)...); err != nil {
		return nil, err
	}
	if err = s.outcomes.Claim(ctx, transactionTimeout); err != nil {
		return nil, err
	}
	if _, _, err = s.cl.ProducerID(ctx); err != nil {
		return nil, fmt.Errorf("take transactional id: %w", err)
	}
	adm := kadm.NewClient(s.cl)
	topics, err := adm.ListTopics(ctx, topic.Anomalies, topic.Findings)
	if err != nil {
		return nil, err
	}
	s.topicID, s.findings, s.tick = topics[topic.Anomalies].ID, topics[topic.Findings].Partitions.Numbers(), time.Now()
	// Stable: not before what was begun has ended in the group's partition too.
	committed, err := adm.FetchOffsets(kadm.RequireStable(ctx), s.id)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("how far the outbox has come: %w", err)
	}
	s.next = noted
	if at, ok := committed.Lookup(topic.Anomalies, 0); ok {
		if at.Err != nil {
			return nil, fmt.Errorf("how far the outbox has come: %w", at.Err)
		}
		s.next = max(noted, at.At)
	}
	return s, p.outbox.Published(ctx, s.next)
}

// partitioner spreads records by their keys, as all do; one without a key is a tick, and says where it goes.
func partitioner() kgo.Partitioner {
	return kgo.BasicConsistentPartitioner(func(name string) func(*kgo.Record, int) int {
		keyed := kgo.StickyKeyPartitioner(nil).ForTopic(name)
		return func(r *kgo.Record, n int) int {
			if r.Key == nil {
				return int(r.Partition)
			}
			return keyed.Partition(r, n)
		}
	})
}

// publish writes the records, the number after them, and ticks if they are due, in one transaction. After an error it is open whether it stands.
func (s *session) publish(ctx context.Context, waiting []checkstore.Record) error {
	if err := s.outcomes.Settled(ctx); err != nil {
		return err
	}
	if err := s.cl.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	// A process that is asked to stop finishes the transaction.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactionTimeout)
	defer cancel()
	var records []*kgo.Record
	next := s.next
	for _, w := range waiting {
		name, typ := topic.Anomalies, topic.TypeAnomaly
		if w.Kind == checkstore.FindingRecord {
			name, typ = topic.Findings, topic.TypeFinding
		}
		records = append(records, &kgo.Record{Topic: name, Key: []byte(w.Entity), Value: w.Body, Headers: headers(typ, w.Name)})
		next = w.Seq + 1
	}
	now := time.Now()
	due := !now.Before(s.tick)
	if due {
		ticks, err := s.ticks()
		if err != nil {
			return err
		}
		records = append(records, ticks...)
	}
	if err := kafka.ProduceSync(ctx, s.cl, records...); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	// Also when it is the same: Kafka forgets what is not said again for long.
	if err := s.commitNumber(ctx, next); err != nil {
		return err
	}
	if err := s.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("end transaction: %w", err)
	}
	if s.next = next; due {
		s.tick = now.Add(tickEvery)
	}
	return nil
}

// ticks are one for each partition of the findings.
func (s *session) ticks() ([]*kgo.Record, error) {
	out := make([]*kgo.Record, len(s.findings))
	for i, id := range s.findings {
		value, err := proto.Marshal(&eventv1.Tick{Partition: id})
		if err != nil {
			return nil, fmt.Errorf("tick: %w", err)
		}
		out[i] = &kgo.Record{Topic: topic.Findings, Partition: id, Value: value, Headers: headers(topic.TypeTick, "tick/"+strconv.Itoa(int(id)))}
	}
	return out, nil
}

func headers(typ, id string) []kgo.RecordHeader {
	return []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(typ)}, {Key: topic.HeaderID, Value: []byte(id)}}
}

// commitNumber makes the number the group's offset, in the transaction under way. The group has no members.
func (s *session) commitNumber(ctx context.Context, next int64) error {
	id, epoch, err := s.cl.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("commit the outbox's number: %w", err)
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = s.id, id, epoch, s.id
	added, err := add.RequestWith(ctx, s.cl)
	if err == nil {
		err = kerr.ErrorForCode(added.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("commit the outbox's number: add the group: %w", err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = s.id, id, epoch, s.id
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic, t.TopicID = topic.Anomalies, s.topicID
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Partition, part.Offset, part.Metadata = 0, next, kmsg.StringPtr("number of the next record in the outbox")
	t.Partitions = append(t.Partitions, part)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, s.cl)
	if err != nil {
		return fmt.Errorf("commit the outbox's number: %w", err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("commit the outbox's number: %w", err)
			}
		}
	}
	return nil
}

func (s *session) close() {
	if s.outcomes != nil {
		s.outcomes.Close()
	}
	if s.cl != nil {
		kafka.CloseWithin(closeWithin, s.log, s.cl.Close)
	}
}
