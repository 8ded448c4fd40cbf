package dlq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Bounds of one batch. While a transaction is open, readers of its partitions wait, live ones too: it is small, and one
// left behind by a crash is soon over.
const (
	batchRecords = 500
	batchBytes   = 4 << 20
	batchTimeout = 10 * time.Second
)

// transactionalID is one for all: it is what keeps two retries from giving the same letter back.
const transactionalID = "tocsin-dlq-retry"

// ErrTaken says that another retry has begun meanwhile; it goes on where this one ended.
var ErrTaken = errors.New("another retry of dead letters has begun and taken over")

// RetryOptions say how Retry goes about it.
type RetryOptions struct {
	// MaxAttempts leaves letters alone whose records were refused so often; 0: no limit.
	MaxAttempts int
	// DryRun writes nothing.
	DryRun bool
	// Progress is told how many of the letters are done; may be nil.
	Progress func(done, total int64)
}

// Summary is what a Retry did.
type Summary struct {
	Matched  int // letters picked
	Retried  int // given back by this call, or to be given back when it is a dry run
	Before   int // given back by an earlier call
	Skipped  []Skipped
	Attempts int // how often Kafka's trouble made it start over
}

// Skipped is a letter that cannot be given back.
type Skipped struct {
	Letter Letter
	Why    string
}

// Retry puts the original records of the letters that f picks and that still wait back into their topics and partitions,
// each exactly once, for the consumer that had refused them (HeaderFor).
//
// Protocol. One transactional id serves all retries, so claiming it ends every earlier one, and its open transaction. Only then
// the dead-letter topics are read, up to their uncommitted end: all that was ever noted shows. Then, batch by batch, one
// transaction holds the records and a note for each on its dead-letter topic. A crash, or an end of unknown outcome, leaves either both or
// neither; the next run reads which.
//
// While a batch is open, readers of its partitions wait: for milliseconds, or, where a retry dies in it, until the broker's time-out
// or the next retry, whichever comes first.
//
// When Kafka fails it starts over, three times at most. Cancelling ctx ends it after the batch under way.
func (s *Shelf) Retry(ctx context.Context, f Filter, opt RetryOptions) (Summary, error) {
	if opt.Progress == nil {
		opt.Progress = func(int64, int64) {}
	}
	if opt.DryRun {
		return s.preview(ctx, f, opt)
	}
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	for round := 0; ; round++ {
		sum, err := s.retry(ctx, f, opt, run)
		err = taken(err)
		sum.Attempts = round
		if err == nil || ctx.Err() != nil || round == 3 || errors.Is(err, ErrTaken) || errors.Is(err, ErrTooMany) {
			return sum, err
		}
		s.log.Warn("starting over", zap.Error(err))
	}
}

func (s *Shelf) preview(ctx context.Context, f Filter, opt RetryOptions) (Summary, error) {
	cl, err := s.client()
	if err != nil {
		return Summary{}, err
	}
	defer cl.Close()
	letters, err := s.index(ctx, cl, f, kgo.ReadCommitted())
	if err != nil {
		return Summary{}, err
	}
	todo, sum, err := s.choose(ctx, cl, letters, opt, "")
	sum.Retried = len(todo)
	return sum, err
}

// choose sorts the letters into those to be given back and those not.
func (s *Shelf) choose(ctx context.Context, cl *kgo.Client, letters []Letter, opt RetryOptions, run string) (todo []*Letter, sum Summary, err error) {
	sum.Matched = len(letters)
	parts, err := kadm.NewClient(cl).ListTopics(ctx, Topics()...)
	if err != nil {
		return nil, sum, fmt.Errorf("list topics: %w", err)
	}
	for i := range letters {
		l := &letters[i]
		skip := func(why string) { sum.Skipped = append(sum.Skipped, Skipped{*l, why}) }
		switch _, there := parts[l.Topic].Partitions[l.Partition]; {
		case !l.Waiting():
			if run != "" && l.run == run {
				sum.Retried++
			} else {
				sum.Before++
			}
		case l.Cut != "":
			skip("it is not whole (" + l.Cut + ")")
		case l.Twin != "":
			skip("it holds the same frame as " + l.Twin)
		case l.Consumer == "":
			skip("it does not say who refused it")
		case opt.MaxAttempts > 0 && l.Attempt >= opt.MaxAttempts:
			skip(fmt.Sprintf("refused %d times already", l.Attempt))
		case !there:
			skip(fmt.Sprintf("%s has no partition %d", l.Topic, l.Partition))
		default:
			todo = append(todo, l)
		}
	}
	return todo, sum, nil
}

// retrier is one round of a Retry.
type retrier struct {
	shelf *Shelf
	tx    *kgo.Client // transactional
	run   string
	batch []*kgo.Record // originals and notes
	size  int           // letters in batch
	bytes int
}

func (s *Shelf) retry(ctx context.Context, f Filter, opt RetryOptions, run string) (Summary, error) {
	tx, err := s.client(
		kgo.TransactionalID(transactionalID), kgo.TransactionTimeout(batchTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(8<<20), kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(batchTimeout),
	)
	if err != nil {
		return Summary{}, err
	}
	defer tx.Close()
	claim, cancel := context.WithTimeout(ctx, 30*time.Second)
	_, _, err = tx.ProducerID(claim)
	cancel()
	if err != nil {
		return Summary{}, fmt.Errorf("claim the transactional id %q: %w", transactionalID, err)
	}
	letters, err := s.index(ctx, tx, f, kgo.ReadUncommitted())
	if err != nil {
		return Summary{}, err
	}
	todo, sum, err := s.choose(ctx, tx, letters, opt, run)
	if err != nil || len(todo) == 0 {
		return sum, err
	}
	total := int64(sum.Retried + len(todo))
	r := &retrier{shelf: s, tx: tx, run: run}
	err = r.all(ctx, todo, func(n int) {
		sum.Retried += n
		opt.Progress(int64(sum.Retried), total)
	})
	return sum, err
}

// taken tells a fenced producer from other failures.
func taken(err error) error {
	if errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.InvalidProducerIDMapping) {
		return fmt.Errorf("%w: %w", ErrTaken, err)
	}
	return err
}

// all reads the letters again, now with their bytes, and gives them back in batches.
func (r *retrier) all(ctx context.Context, todo []*Letter, done func(int)) error {
	spans := map[position]span{}
	wanted := make(map[position]map[int64]*Letter)
	for _, l := range todo {
		p := position{l.Box, l.BoxPartition}
		sp, ok := spans[p]
		if !ok {
			sp, wanted[p] = span{l.BoxOffset, l.BoxOffset}, map[int64]*Letter{}
		}
		spans[p] = span{min(sp.from, l.BoxOffset), max(sp.to, l.BoxOffset+1)}
		wanted[p][l.BoxOffset] = l
	}
	flush := func() error {
		n := r.size
		if err := r.flush(ctx); err != nil {
			return err
		}
		done(n)
		return ctx.Err()
	}
	err := r.shelf.read(ctx, spans, func(rec *kgo.Record) error {
		l := wanted[position{rec.Topic, rec.Partition}][rec.Offset]
		if l == nil || rec.Attrs.IsControl() {
			return nil
		}
		r.batch = append(r.batch, original(l, rec), note(l, r.run))
		r.size++
		r.bytes += len(rec.Value) + len(rec.Key)
		if r.size >= batchRecords || r.bytes >= batchBytes {
			return flush()
		}
		return nil
	})
	if err == nil && r.size > 0 {
		err = flush()
	}
	return err
}

// original is the record that a letter was made from, addressed to who had refused it.
func original(l *Letter, rec *kgo.Record) *kgo.Record {
	own, _ := ownHeaders(rec)
	origin := l.Origin
	if origin == "" {
		origin = l.ID()
	}
	h := make([]kgo.RecordHeader, 0, len(own)+4)
	h = append(h, own...)
	h = append(h,
		kgo.RecordHeader{Key: HeaderFor, Value: []byte(l.Consumer)},
		kgo.RecordHeader{Key: HeaderAttempt, Value: strconv.AppendInt(nil, int64(l.Attempt+1), 10)},
		kgo.RecordHeader{Key: HeaderOrigin, Value: []byte(origin)},
		kgo.RecordHeader{Key: HeaderLetter, Value: []byte(l.Key.String())},
	)
	return &kgo.Record{Topic: l.Topic, Partition: l.Partition, Key: rec.Key, Value: rec.Value, Headers: h}
}

// note says on the letter's own topic that it was given back: retention takes the letter before its note.
func note(l *Letter, run string) *kgo.Record {
	return &kgo.Record{
		Topic: l.Box, Partition: l.BoxPartition, Key: []byte(l.Key.String()),
		Headers: []kgo.RecordHeader{
			{Key: topic.HeaderType, Value: []byte(typeRetried)},
			{Key: HeaderTopic, Value: []byte(l.Topic)},
			{Key: HeaderPartition, Value: strconv.AppendInt(nil, int64(l.Partition), 10)},
			{Key: HeaderOffset, Value: strconv.AppendInt(nil, l.Offset, 10)},
			{Key: HeaderConsumer, Value: []byte(l.Consumer)},
			{Key: HeaderTimestamp, Value: strconv.AppendInt(nil, l.TimestampMS, 10)},
			{Key: headerRun, Value: []byte(run)},
		},
	}
}

// flush gives the batch back. It is finished even when ctx ends.
func (r *retrier) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*batchTimeout)
	defer cancel()
	if err := r.tx.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if err := kafka.ProduceSync(ctx, r.tx, r.batch...); err != nil {
		return errors.Join(fmt.Errorf("write: %w", err), r.tx.EndTransaction(ctx, kgo.TryAbort))
	}
	if err := r.tx.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("end of transaction, outcome unknown: %w", err)
	}
	r.batch, r.size, r.bytes = nil, 0, 0
	return nil
}
