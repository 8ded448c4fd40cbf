package comparison

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/drift"
)

// Follower reads the log into two books, from its beginning at each start: that is a few megabytes for a week.
type Follower struct {
	Book   *Book
	Inputs *drift.Book // what models were given
	cfg    kafka.Config
	base   []kgo.Opt
	log    *zap.Logger
	why    atomic.Pointer[string] // that the book lacks what stands in the log; nil: it does not
}

// NewFollower does nothing on the network.
func NewFollower(cfg kafka.Config, log *zap.Logger) (*Follower, error) {
	f := &Follower{Book: NewBook(), Inputs: drift.NewBook(), cfg: cfg, log: log.Named("comparison")}
	if len(cfg.Brokers) == 0 {
		f.lacking("no Kafka is configured")
		return f, nil
	}
	f.lacking("starting")
	var err error
	f.base, err = cfg.Options(log)
	return f, err
}

func (f *Follower) lacking(why string) { f.why.Store(&why) }

// Ready is nil once all that stood in the log has been read.
func (f *Follower) Ready() error {
	if why := f.why.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

// again is the time between two tries.
const again = 2 * time.Second

// Run reads until ctx ends. Errors of the brokers are waited out.
func (f *Follower) Run(ctx context.Context) {
	if f.base == nil {
		return
	}
	for said := ""; ctx.Err() == nil; {
		err := f.read(ctx)
		if ctx.Err() != nil {
			return
		}
		f.lacking(err.Error())
		if err.Error() != said {
			f.log.Warn("what champions and shadows said cannot be read, trying again", zap.Error(err))
			said = err.Error()
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

func (f *Follower) read(ctx context.Context) error {
	cl, err := kgo.NewClient(append(f.base[:len(f.base):len(f.base)],
		kgo.ConsumeTopics(topic.Comparisons, topic.Alerts),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(8<<20),
		kgo.FetchMaxPartitionBytes(1<<20),
	)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := kafka.AwaitTopics(ctx, cl, f.cfg, func(err error) { f.lacking("waiting for Kafka: " + err.Error()) }, topic.Specs(topic.Comparisons, topic.Alerts)...); err != nil {
		return err
	}
	left, err := kafka.ExtentOf(ctx, kadm.NewClient(cl), topic.Comparisons, topic.Alerts)
	if err != nil {
		return err
	}
	f.Inputs.Reset()
	f.Book.Reset() // what was read before an error comes again
	for {
		if left.Done() {
			f.why.Store(nil)
		}
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			left.Meet(r)
			f.take(r)
		})
	}
}

// take learns from one record. What cannot be read is passed over: this is for people to look at, and nothing hangs on it.
func (f *Follower) take(r *kgo.Record) {
	switch {
	case topic.Is(r, topic.TypeComparison):
		m := new(eventv1.ModelComparison)
		if err := proto.Unmarshal(r.Value, m); err != nil {
			f.log.Warn("not a comparison", zap.Int32("partition", r.Partition), zap.Int64("offset", r.Offset), zap.Error(err))
			return
		}
		f.Book.Count(m, tookOf(topic.Header(r, topic.HeaderScoreTook)))
	case topic.Is(r, topic.TypeInputs):
		m := new(eventv1.ModelInputs)
		if err := proto.Unmarshal(r.Value, m); err != nil {
			f.log.Warn("no counts of a model's inputs", zap.Int32("partition", r.Partition), zap.Int64("offset", r.Offset), zap.Error(err))
			return
		}
		f.Inputs.Count(m)
	case topic.Is(r, topic.TypeAlert):
		e := new(eventv1.AlertEvent)
		if err := proto.Unmarshal(r.Value, e); err == nil {
			f.Book.Hear(e)
		}
	}
}

// tookOf reads topic.HeaderScoreTook.
func tookOf(header string) (t Took) {
	for _, word := range strings.Fields(header) {
		who, text, _ := strings.Cut(word, "=")
		d, err := time.ParseDuration(text)
		switch {
		case err != nil || d < 0:
		case who == "champion":
			t.Champion = d
		case who == "shadow":
			t.Shadow = d
		}
	}
	return t
}
