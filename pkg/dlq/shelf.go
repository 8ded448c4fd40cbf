package dlq

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Besides letters, a dead-letter topic holds what Retry notes there: that the letter with the same Key was given back, and by which run.
const (
	typeRetried = "tocsin.dlq.Retried"
	headerRun   = "dlq_run"
)

// maxLetters bounds the memory of a Shelf's work: some 300 bytes for each letter, and its reason.
const maxLetters = 1_000_000

// ErrTooMany says that more letters were picked than can be held in memory.
var ErrTooMany = fmt.Errorf("more than %d dead letters: pick fewer, by topic or time", maxLetters)

// ErrNotFound says that no letter has that id.
var ErrNotFound = errors.New("no such dead letter")

// Shelf is where the dead letters stand. Safe for concurrent use.
type Shelf struct {
	kafka kafka.Config
	log   *zap.Logger
}

// NewShelf does not connect.
func NewShelf(k kafka.Config, log *zap.Logger) *Shelf { return &Shelf{kafka: k, log: log} }

// List gives the letters that f picks, as they stand in their topics: the oldest of a topic first. It reads the dead-letter
// topics of f from their start, without waiting for transactions that are open.
func (s *Shelf) List(ctx context.Context, f Filter) ([]Letter, error) {
	cl, err := s.client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	return s.index(ctx, cl, f, kgo.ReadCommitted())
}

// Open reads the record of a letter that List gave.
func (s *Shelf) Open(ctx context.Context, l Letter) (*kgo.Record, error) {
	var found *kgo.Record
	at := position{l.Box, l.BoxPartition}
	err := s.read(ctx, map[position]span{at: {l.BoxOffset, l.BoxOffset + 1}}, func(r *kgo.Record) error {
		if r.Offset == l.BoxOffset && !r.Attrs.IsControl() {
			found = r
		}
		return nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("%w: %s is not there any more", ErrNotFound, l.ID())
	}
	return found, err
}

func (s *Shelf) client(opts ...kgo.Opt) (*kgo.Client, error) {
	base, err := s.kafka.Options(s.log)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return cl, nil
}

// index reads up to the end as a reader of that isolation sees it now: after claiming the transactional id only the
// uncommitted end holds everything that former runs have noted. Behind a transaction that is open, what is committed shows only
// when that one ends.
func (s *Shelf) index(ctx context.Context, cl *kgo.Client, f Filter, end kgo.IsolationLevel) ([]Letter, error) {
	spans, err := s.spans(ctx, cl, end, f.boxes()...)
	if err != nil {
		return nil, err
	}
	var letters []Letter
	byKey, words := map[Key]int{}, map[string]string{}
	done := map[Key]mark{}
	strangers := 0
	frames := map[frameSum]Key{} // by content: the first letter of each
	err = s.read(ctx, spans, func(r *kgo.Record) error {
		if r.Attrs.IsControl() {
			return nil
		}
		if topic.Type(r) == typeRetried && topic.Header(r, headerRun) != "" {
			if k, err := parseKey(r); err == nil {
				done[k.intern(words)] = mark{r.Timestamp, intern(words, topic.Header(r, headerRun))}
			}
			return nil
		}
		l, err := parse(r)
		if err != nil {
			strangers++
			return nil
		}
		l.Key = l.Key.intern(words)
		if sum, ok := sumOf(r, l.Attempt); ok {
			if first, there := frames[sum]; !there {
				frames[sum] = l.Key
			} else if first != l.Key {
				l.Twin = (&Letter{Key: first}).ID()
			}
		}
		if !f.match(&l) {
			return nil
		}
		if i, ok := byKey[l.Key]; ok {
			letters[i].Repeats++
			return nil
		}
		if len(letters) >= maxLetters {
			return ErrTooMany
		}
		l.Reason = intern(words, l.Reason)
		byKey[l.Key] = len(letters)
		letters = append(letters, l)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range letters {
		if m, ok := done[letters[i].Key]; ok {
			letters[i].Retried, letters[i].run = m.at, m.run
		}
	}
	if strangers > 0 {
		s.log.Warn("records in dead-letter topics that are not Tocsin's were passed over", zap.Int("records", strangers))
	}
	return letters, nil
}

// mark is what a note says.
// frameSum tells frames apart by what they hold. A frame that is refused again has another attempt, and so another sum.
type frameSum [16]byte

// sumOf a frame that names itself; what is no frame has no twin.
func sumOf(r *kgo.Record, attempt int) (sum frameSum, ok bool) {
	id := topic.Header(r, topic.HeaderID)
	if r.Topic != topic.DLQ(topic.Frames) || id == "" {
		return sum, false
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(id), r.Key, r.Value, {byte(attempt), byte(attempt >> 8)}} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write(part)
	}
	copy(sum[:], h.Sum(nil))
	return sum, true
}

type mark struct {
	at  time.Time
	run string
}

// intern keeps one copy of each word: reasons, topics and consumers repeat.
func intern(words map[string]string, s string) string {
	if w, ok := words[s]; ok {
		return w
	}
	words[s] = s
	return s
}

func (k Key) intern(words map[string]string) Key {
	k.Topic, k.Consumer = intern(words, k.Topic), intern(words, k.Consumer)
	return k
}

type position struct {
	topic     string
	partition int32
}

type span struct{ from, to int64 }

// spans are the offsets that topics hold now; those that do not exist hold nothing.
func (s *Shelf) spans(ctx context.Context, cl *kgo.Client, end kgo.IsolationLevel, topics ...string) (map[position]span, error) {
	if len(topics) == 0 {
		return nil, nil
	}
	ask, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	adm := kadm.NewClient(cl)
	starts, err := adm.ListStartOffsets(ask, topics...)
	if err != nil {
		return nil, fmt.Errorf("start of the dead letters: %w", err)
	}
	list := adm.ListEndOffsets
	if end == kgo.ReadCommitted() {
		list = adm.ListCommittedOffsets
	}
	ends, err := list(ask, topics...)
	if err != nil {
		return nil, fmt.Errorf("end of the dead letters: %w", err)
	}
	out := map[position]span{}
	var failed error
	ends.Each(func(o kadm.ListedOffset) {
		start, ok := starts.Lookup(o.Topic, o.Partition)
		switch {
		case errors.Is(o.Err, kerr.UnknownTopicOrPartition):
		case o.Err != nil:
			failed = errors.Join(failed, fmt.Errorf("end of %s[%d]: %w", o.Topic, o.Partition, o.Err))
		case ok && start.Err == nil && start.Offset < o.Offset:
			out[position{o.Topic, o.Partition}] = span{start.Offset, o.Offset}
		}
	})
	return out, failed
}

// stall is how long nothing may come before it is asked whether retention has removed what is waited for.
const stall = 10 * time.Second

// read calls each for all committed records of the spans, and for control records, in the order of each partition.
func (s *Shelf) read(ctx context.Context, spans map[position]span, each func(*kgo.Record) error) error {
	if len(spans) == 0 {
		return nil
	}
	at := map[string]map[int32]kgo.Offset{}
	left := map[position]int64{}
	for p, sp := range spans {
		if at[p.topic] == nil {
			at[p.topic] = map[int32]kgo.Offset{}
		}
		at[p.topic][p.partition] = kgo.NewOffset().At(sp.from)
		left[p] = sp.to
	}
	cl, err := s.client(
		kgo.ConsumePartitions(at),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // a transaction's end may be the last thing before the end
		kgo.FetchMaxWait(100*time.Millisecond), kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(8<<20),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	last := time.Now()
	for len(left) > 0 {
		poll, cancel := context.WithTimeout(ctx, stall)
		fs := cl.PollRecords(poll, 10_000)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, fe := range fs.Errors() {
			if fe.Err != nil && !errors.Is(fe.Err, context.DeadlineExceeded) {
				s.log.Warn("fetch failed, will be tried again", zap.String("topic", fe.Topic), zap.Error(fe.Err))
			}
		}
		for it := fs.RecordIter(); !it.Done(); {
			r := it.Next()
			p := position{r.Topic, r.Partition}
			to, ok := left[p]
			if !ok {
				continue
			}
			last = time.Now()
			if r.Offset >= to-1 {
				delete(left, p)
			}
			if r.Offset < to {
				if err := each(r); err != nil {
					return err
				}
			}
		}
		if len(left) > 0 && time.Since(last) >= stall {
			if err := s.gone(ctx, cl, left); err != nil {
				return err
			}
			last = time.Now()
		}
	}
	return nil
}

// gone forgets the partitions of which retention has removed all that was still to be read.
func (s *Shelf) gone(ctx context.Context, cl *kgo.Client, left map[position]int64) error {
	var topics []string
	for p := range left {
		topics = append(topics, p.topic)
	}
	ask, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	starts, err := kadm.NewClient(cl).ListStartOffsets(ask, topics...)
	if err != nil {
		return fmt.Errorf("reading dead letters: nothing comes, and Kafka cannot be asked why: %w", err)
	}
	for p, to := range left {
		if o, ok := starts.Lookup(p.topic, p.partition); !ok || o.Err == nil && o.Offset >= to {
			delete(left, p)
		}
	}
	return nil
}
