package dlq

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Key tells one letter from all others: a record, and who refused it. Letters of the same Key are repeats of one.
// The time is part of it because a topic that was deleted and made anew counts its offsets again.
type Key struct {
	Topic       string
	Partition   int32
	Offset      int64
	Consumer    string
	TimestampMS int64 // 0: not known
}

// String is the Key in one word.
func (k Key) String() string {
	return fmt.Sprintf("%s/%d/%d@%s#%d", k.Topic, k.Partition, k.Offset, k.Consumer, k.TimestampMS)
}

// Letter is a dead letter without its bytes.
type Letter struct {
	Key
	Reason  string
	Attempt int    // 1: refused for the first time
	Origin  string // topic/partition/offset of the first refusal, from the second attempt on
	Cut     string // what is missing of the original; empty: nothing
	Bytes   int    // of the value
	At      time.Time
	Repeats int // how often the same letter stands there besides
	// Twin is the id of an earlier letter that holds the same frame, which its sender had sent twice; empty: none. Only the first is given back.
	Twin string

	// Where the letter stands.
	Box          string
	BoxPartition int32
	BoxOffset    int64

	Retried time.Time // zero: it waits
	run     string    // of the retry that gave it back
}

// Waiting tells that it was not given back yet.
func (l *Letter) Waiting() bool { return l.Retried.IsZero() }

// ID names the letter's record: topic/partition/offset.
func (l *Letter) ID() string { return fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Offset) }

// errNotALetter: the record was put there by somebody else.
var errNotALetter = errors.New("not a dead letter of Tocsin's")

// parse reads a letter's headers.
func parse(rec *kgo.Record) (Letter, error) {
	l := Letter{Attempt: attempts(rec), Bytes: len(rec.Value), At: rec.Timestamp, Box: rec.Topic, BoxPartition: rec.Partition, BoxOffset: rec.Offset}
	var err error
	if l.Key, err = parseKey(rec); err != nil {
		return l, err
	}
	l.Reason, l.Origin, l.Cut = topic.Header(rec, HeaderReason), topic.Header(rec, HeaderOrigin), topic.Header(rec, HeaderCut)
	return l, nil
}

func parseKey(rec *kgo.Record) (Key, error) {
	k := Key{Topic: topic.Header(rec, HeaderTopic), Consumer: topic.Header(rec, HeaderConsumer)}
	if topic.DLQ(k.Topic) != rec.Topic {
		return k, fmt.Errorf("%w: %s is %q", errNotALetter, HeaderTopic, k.Topic)
	}
	p, err := strconv.ParseInt(topic.Header(rec, HeaderPartition), 10, 32)
	if err != nil || p < 0 {
		return k, fmt.Errorf("%w: %s", errNotALetter, HeaderPartition)
	}
	k.Partition = int32(p)
	if k.Offset, err = strconv.ParseInt(topic.Header(rec, HeaderOffset), 10, 64); err != nil || k.Offset < 0 {
		return k, fmt.Errorf("%w: %s", errNotALetter, HeaderOffset)
	}
	if ts := topic.Header(rec, HeaderTimestamp); ts != "" {
		if k.TimestampMS, err = strconv.ParseInt(ts, 10, 64); err != nil {
			return k, fmt.Errorf("%w: %s", errNotALetter, HeaderTimestamp)
		}
	}
	if k.Consumer == "" {
		k.Consumer = soleConsumer(k.Topic)
	}
	return k, nil
}

// ID is what a user calls a letter: topic/partition/offset, and @consumer where several have refused the record.
type ID struct {
	Topic     string
	Partition int32
	Offset    int64
	Consumer  string // empty: any
}

// ParseID reads an ID.
func ParseID(s string) (ID, error) {
	bad := fmt.Errorf("%q is not an id such as %s/3/1042", s, topic.Frames)
	rest, consumer, named := strings.Cut(s, "@")
	parts := strings.Split(rest, "/")
	if len(parts) != 3 || parts[0] == "" || named && consumer == "" {
		return ID{}, bad
	}
	p, err := strconv.ParseInt(parts[1], 10, 32)
	if err != nil || p < 0 {
		return ID{}, fmt.Errorf("%w: the partition", bad)
	}
	o, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || o < 0 {
		return ID{}, fmt.Errorf("%w: the offset", bad)
	}
	return ID{Topic: parts[0], Partition: int32(p), Offset: o, Consumer: consumer}, nil
}

func (id ID) String() string {
	s := fmt.Sprintf("%s/%d/%d", id.Topic, id.Partition, id.Offset)
	if id.Consumer != "" {
		s += "@" + id.Consumer
	}
	return s
}

// Names tells whether the id is the letter's.
func (id ID) Names(l *Letter) bool {
	return id.Topic == l.Topic && id.Partition == l.Partition && id.Offset == l.Offset && (id.Consumer == "" || id.Consumer == l.Consumer)
}

// Filter picks letters. What is empty picks all.
type Filter struct {
	Topic    string // of the original
	Consumer string
	Reason   string // part of the reason
	Since    time.Time
	IDs      []ID
}

func (f *Filter) match(l *Letter) bool {
	if f.Topic != "" && f.Topic != l.Topic || f.Consumer != "" && f.Consumer != l.Consumer ||
		!strings.Contains(l.Reason, f.Reason) || l.At.Before(f.Since) {
		return false
	}
	for _, id := range f.IDs {
		if id.Names(l) {
			return true
		}
	}
	return len(f.IDs) == 0
}

// boxes are the dead-letter topics that may hold what the filter picks. What receivers would not take is no record that could be given back.
func (f *Filter) boxes() []string {
	var out []string
	for _, s := range topic.All() {
		t, is := strings.CutSuffix(s.Name, topic.DLQ(""))
		if !is || s.Name == topic.Undelivered || f.Topic != "" && f.Topic != t {
			continue
		}
		wanted := len(f.IDs) == 0
		for _, id := range f.IDs {
			wanted = wanted || id.Topic == t
		}
		if wanted {
			out = append(out, s.Name)
		}
	}
	return out
}

// Topics are those whose records may become letters.
func Topics() []string {
	var f Filter
	out := f.boxes()
	for i := range out {
		out[i] = strings.TrimSuffix(out[i], topic.DLQ(""))
	}
	return out
}
