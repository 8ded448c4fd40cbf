package detection

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Log follows the topic of detection configurations. The fleet's configuration is the record with the highest revision, of those the newest;
// compaction keeps it, because each revision has a key of its own. Safe for concurrent use.
type Log struct {
	cl  *kgo.Client
	adm *kadm.Client
	log *zap.Logger

	mu      sync.Mutex
	current *Config // nil: none was met yet
	next    int64   // offset after the last record read
	moved   chan struct{}
	failed  string // the last trouble that was logged

	once sync.Once
}

// Open makes a client for the topic. Nothing is read before Run.
func Open(cfg kafka.Config, log *zap.Logger) (*Log, error) {
	opts, err := cfg.Options(log)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(opts,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic.Config: {0: kgo.NewOffset().AtStart()}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), // compacted: what it lost has a successor
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(8<<20),
		kgo.RecordDeliveryTimeout(10*time.Second),
		// Publishing twice is harmless.
		kgo.AllowIdempotentProduceCancellation(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("detection configurations: %w", err)
	}
	return &Log{cl: cl, adm: kadm.NewClient(cl), log: log.Named("detection"), moved: make(chan struct{})}, nil
}

// Close ends the client. Idempotent.
func (l *Log) Close() { l.once.Do(l.cl.Close) }

// Run follows the topic until ctx ends. Errors of the brokers are waited out.
func (l *Log) Run(ctx context.Context) {
	for {
		fs := l.cl.PollFetches(ctx)
		if ctx.Err() != nil || fs.IsClientClosed() {
			return
		}
		fs.EachError(func(_ string, _ int32, err error) { l.warn("reading detection configurations", err) })
		fs.EachRecord(l.take)
	}
}

// Current is the fleet's configuration as far as it was read; nil before Settle.
func (l *Log) Current() *Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// Settle decides between the fleet's configuration and mine, this process's own: mine is published when there is none, or its revision is
// higher, or the revision is the same and the content is not (last one wins; a revision that nobody raises cannot tell which is newer). A
// lower one gives way. It returns the one that then holds. The error says that Kafka could not be asked before ctx ended. It needs Run.
func (l *Log) Settle(ctx context.Context, mine *Config) (*Config, error) {
	if err := l.catchUp(ctx); err != nil {
		return nil, err
	}
	theirs := l.Current()
	switch {
	case theirs == nil:
		l.log.Info("no detection configuration was published yet, publishing ours", zap.Stringer("ours", mine))
	case Same(mine, theirs):
		return theirs, nil
	case mine.order(theirs) > 0:
		l.log.Info("publishing a newer detection configuration", zap.Stringer("ours", mine), zap.Stringer("was", theirs))
	case mine.Revision == theirs.Revision && mine.Release < theirs.Release:
		l.log.Info("models were released anew meanwhile, the published detection configuration holds", zap.Stringer("ours", mine), zap.Stringer("holds", theirs))
		return theirs, nil
	case mine.Revision < theirs.Revision:
		l.log.Warn("our detection configuration is out of date, the published one holds: raise detection_revision to change it",
			zap.Stringer("ours", mine), zap.Stringer("holds", theirs))
		return theirs, nil
	default:
		l.log.Warn("our detection configuration differs from the published one of the same revision, publishing ours: raise detection_revision with each change, "+
			"or instances with different files will overrule each other", zap.Stringer("ours", mine), zap.Stringer("was", theirs))
	}
	r := &kgo.Record{
		Topic: topic.Config, Key: strconv.AppendUint(nil, uint64(mine.Revision), 10), Value: mine.Value(),
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeDetection)}, {Key: topic.HeaderID, Value: []byte(mine.Fingerprint)}},
	}
	if err := kafka.ProduceSync(ctx, l.cl, r); err != nil {
		return nil, fmt.Errorf("publish the detection configuration: %w", err)
	}
	if err := l.catchUp(ctx); err != nil { // another process may have published meanwhile
		return nil, err
	}
	return l.Current(), nil
}

// take learns from one record. What this build cannot judge by is passed over and said: whoever published it can.
func (l *Log) take(r *kgo.Record) {
	var c *Config
	var err error
	if len(r.Value) > 0 { // else a tombstone: revisions only grow
		c, err = Parse(r.Value)
	}
	if err != nil {
		l.log.Error("a published detection configuration cannot be used, the one before stays", zap.Int64("offset", r.Offset), zap.Error(err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c != nil && (l.current == nil || c.Replaces(l.current)) {
		if l.current != nil {
			l.log.Info("detection configuration published", zap.Stringer("is", c), zap.Stringer("was", l.current))
		}
		l.current = c
	}
	l.next = r.Offset + 1
	close(l.moved)
	l.moved = make(chan struct{})
	l.failed = ""
}

func (l *Log) warn(what string, err error) {
	l.mu.Lock()
	said := l.failed == err.Error()
	l.failed = err.Error()
	l.mu.Unlock()
	if !said {
		l.log.Warn(what, zap.Error(err))
	}
}

// catchUp reads what stands in the topic now. It asks again until ctx ends.
func (l *Log) catchUp(ctx context.Context) error {
	for {
		err := l.readToEnd(ctx)
		if err == nil {
			return nil
		}
		l.warn("end of "+topic.Config, err)
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (l *Log) readToEnd(ctx context.Context) error {
	try, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ends, err := l.adm.ListEndOffsets(try, topic.Config)
	if err != nil {
		return err
	}
	end, ok := ends.Lookup(topic.Config, 0)
	if !ok || end.Err != nil {
		return errors.Join(fmt.Errorf("%s[0]", topic.Config), end.Err)
	}
	for {
		l.mu.Lock()
		next, moved := l.next, l.moved
		l.mu.Unlock()
		if next >= end.Offset {
			return nil
		}
		select {
		case <-moved:
		case <-try.Done():
			return fmt.Errorf("read up to %d of %d: %w", next, end.Offset, try.Err())
		}
	}
}
