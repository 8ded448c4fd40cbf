package detection

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// Log follows the topic of detection configurations. The fleet's configuration is the record with the highest number, of those the newest, but for records
// that were made from another than stood before them: of two who change the same one at once, the first in the log has changed it, for whoever reads.
// Compaction takes none of them away, because each has a key of its own. Safe for concurrent use.
type Log struct {
	who string // for what this process publishes of its file
	cl  *kgo.Client
	adm *kadm.Client
	log *zap.Logger

	applying sync.Mutex // one change of this process at a time

	mu      sync.Mutex
	current *Config // nil: none was met yet
	// unproven: what current was made from was not met.
	unproven bool
	entries  []entry // those that were current, the oldest first
	next     int64   // offset after the last record read
	whole    bool    // all that stood in the topic was read once
	moved    chan struct{}
	failed   string // the last trouble that was logged

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
	return &Log{who: cfg.ClientID, cl: cl, adm: kadm.NewClient(cl), log: log.Named("detection"), moved: make(chan struct{})}, nil
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

// Follow is Run for who only reads: it also notes when all that stands in the topic was read.
func (l *Log) Follow(ctx context.Context) {
	var reading sync.WaitGroup
	reading.Go(func() { _ = l.catchUp(ctx) }) // it ends before ctx, or with it
	l.Run(ctx)
	reading.Wait()
}

// Current is the fleet's configuration as far as it was read; nil before Settle.
func (l *Log) Current() *Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// Whole tells whether all that stood in the topic was read once: before, Current may be one of long ago.
func (l *Log) Whole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.whole
}

// Settle decides between the fleet's configuration and mine, this process's own, of its file. Mine is published when there is none, or its revision is
// higher, or the revision is the same and the content is not (last one wins; a revision that nobody raises cannot tell which is newer). A lower one gives
// way. What people have applied beside the file goes along: a key that they changed stays as they want it unless the file says something new of it.
// It returns the one that then holds. The error says that Kafka could not be asked before ctx ended. It needs Run.
func (l *Log) Settle(ctx context.Context, mine *Config) (*Config, error) {
	for {
		if err := l.catchUp(ctx); err != nil {
			return nil, err
		}
		theirs := l.Current()
		next, err := l.decide(theirs, mine)
		if err != nil {
			return nil, err
		}
		if next == nil {
			return theirs, nil
		}
		key := next.ID() + "/" + next.origin.Id
		if next.origin.Kind == KindRelease {
			key = next.ID() + "/release" // the newest is enough
		}
		if err := l.publish(ctx, key, next); err != nil {
			return nil, fmt.Errorf("publish the detection configuration: %w", err)
		}
		// Another process may have published meanwhile; then ours counts for nothing, and what holds is looked at once more.
		if now := l.Current(); now != theirs {
			if now.Compare(next.Number) > 0 || Same(now, next) {
				return now, nil
			}
		}
	}
}

// decide is what has to be published where theirs holds and the file says mine; nil: nothing.
func (l *Log) decide(theirs, mine *Config) (*Config, error) {
	origin := &eventv1.ConfigOrigin{Id: newID(), Kind: KindFile, By: l.who, AtUs: time.Now().UnixMicro(), File: settings(mine.Judge)}
	if theirs == nil {
		l.log.Info("no detection configuration was published yet, publishing ours", zap.Stringer("ours", mine))
		return numbered(mine.Judge, mine.Number, origin), nil
	}
	base, err := machine.DecodeConfig(theirs.file())
	if err != nil {
		return nil, fmt.Errorf("the file of the published detection configuration: %w", err)
	}
	judge, kept, overruled := merge(&base, theirs.Judge, mine.Judge)
	next := numbered(judge, Number{mine.Revision, theirs.Change, mine.Release}, origin)
	origin.Base, origin.Changes = theirs.number(), differences(theirs.Judge, judge)
	same := string(theirs.file()) == string(origin.File)
	switch {
	case mine.Revision < theirs.Revision:
		l.log.Warn("our detection configuration is out of date, the published one holds: raise detection_revision to change it",
			zap.Stringer("ours", mine), zap.Stringer("holds", theirs))
		return nil, nil
	case mine.Revision == theirs.Revision && mine.Release < theirs.Release:
		l.log.Info("models were released anew meanwhile, the published detection configuration holds", zap.Stringer("ours", mine), zap.Stringer("holds", theirs))
		return nil, nil
	case Same(next, theirs) && same:
		if len(kept) > 0 {
			l.log.Warn("the fleet is judged otherwise than our file says: settings were applied beside it, and hold", zap.Stringer("holds", theirs), zap.Strings("applied", kept))
		}
		return nil, nil
	case mine.Revision > theirs.Revision:
		l.log.Info("publishing a newer detection configuration", zap.Stringer("ours", next), zap.Stringer("was", theirs))
	case same && mine.Release > theirs.Release:
		origin.Kind = KindRelease
		l.log.Info("publishing a release of the detection configuration", zap.Stringer("ours", next), zap.Stringer("was", theirs))
	default:
		l.log.Warn("our detection configuration differs from the published one of the same revision, publishing ours: raise detection_revision with each change, "+
			"or instances with different files will overrule each other", zap.Stringer("ours", next), zap.Stringer("was", theirs))
	}
	if len(kept) > 0 {
		l.log.Warn("applied settings stay in force where the file has not changed", zap.Strings("applied", kept))
	}
	if len(overruled) > 0 {
		l.log.Warn("the file has changed what was applied beside it: the file holds", zap.Strings("overruled", overruled))
	}
	return next, nil
}

// publish writes c and reads what then stands in the topic.
func (l *Log) publish(ctx context.Context, key string, c *Config) error {
	r := &kgo.Record{
		Topic: topic.Config, Key: []byte(key), Value: c.published(),
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeDetection)}, {Key: topic.HeaderID, Value: []byte(c.Fingerprint)}},
	}
	if err := kafka.ProduceSync(ctx, l.cl, r); err != nil {
		return err
	}
	return l.catchUp(ctx)
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
	switch {
	case c == nil:
	case l.current == nil || c.after(l.current, l.unproven):
		if l.current != nil {
			l.log.Info("detection configuration published", zap.Stringer("is", c), zap.Stringer("was", l.current))
		}
		b := c.origin.GetBase()
		l.unproven = b != nil && (l.current == nil || l.unproven && b.Fingerprint != l.current.Fingerprint)
		l.current = c
		l.remember(c, string(r.Key), r.Timestamp)
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
			l.mu.Lock()
			l.whole = true
			l.mu.Unlock()
			return nil
		}
		select {
		case <-moved:
		case <-try.Done():
			return fmt.Errorf("read up to %d of %d: %w", next, end.Offset, try.Err())
		}
	}
}
