// Package backlog asks the brokers what waits in the fleet's topics: how far each consumer group is behind, and how many records were set aside.
// It asks for all groups, so that one that nobody works for is seen too.
package backlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Every is how often the brokers are asked. A round costs a handful of requests, whatever the fleet's size.
const Every = 10 * time.Second

// A Lag is how far a consumer group is behind in one topic.
type Lag struct {
	Group, Topic string
	// Records that stand in the topic and that the group has not committed.
	Records int64
	// Members at work for the group.
	Members int
}

// Letters are the records that a dead-letter topic holds.
type Letters struct {
	Topic   string
	Records int64
}

// A Report is what the brokers said last.
type Report struct {
	// At is when; zero: they have not answered yet.
	At      time.Time
	Lags    []Lag     // by group and topic
	Letters []Letters // by topic
}

// A Watcher keeps the newest Report, and shows it as metrics.
type Watcher struct {
	kafka kafka.Config
	admin *kadm.Client // from Run on
	log   *zap.Logger
	set   *metrics.Set

	ours map[string]bool // the fleet's topics, among others' in the same cluster

	mu     sync.Mutex
	report Report
	shown  map[string]bool
}

// New makes a Watcher; Run asks.
func New(cfg kafka.Config, log *zap.Logger, set *metrics.Set) *Watcher {
	w := &Watcher{kafka: cfg, log: log.Named("backlog"), set: set, ours: map[string]bool{}, shown: map[string]bool{}}
	for _, spec := range topic.All() {
		w.ours[spec.Name] = true
	}
	return w
}

// Report is the newest.
func (w *Watcher) Report() Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.report
}

// Run asks until ctx ends, and returns nil then.
func (w *Watcher) Run(ctx context.Context) error {
	opts, err := w.kafka.Options(w.log)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("backlog: %w", err)
	}
	defer client.Close()
	w.admin = kadm.NewClient(client)
	tick := time.NewTicker(Every)
	defer tick.Stop()
	failing := false
	for {
		r, err := w.ask(ctx)
		switch {
		case err == nil:
			failing = false
			w.keep(r)
		case ctx.Err() == nil && !failing:
			failing = true
			w.log.Warn("the brokers do not say what waits", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (w *Watcher) ask(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, Every)
	defer cancel()
	lags, err := w.admin.Lag(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("lag: %w", err)
	}
	r := Report{At: time.Now()}
	for _, group := range lags.Sorted() {
		if group.Error() != nil {
			continue // a group that may not be read, or is being moved: its figure stays away rather than being wrong
		}
		for _, t := range group.Lag.TotalByTopic().Sorted() {
			if w.ours[t.Topic] {
				r.Lags = append(r.Lags, Lag{Group: group.Group, Topic: t.Topic, Records: max(t.Lag, 0), Members: len(group.Members)})
			}
		}
	}
	topics, err := w.admin.ListTopics(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("topics: %w", err)
	}
	var dead []string
	for _, name := range topics.Names() {
		if w.ours[name] && strings.HasSuffix(name, topic.DLQ("")) {
			dead = append(dead, name)
		}
	}
	if len(dead) > 0 {
		if r.Letters, err = w.letters(ctx, dead); err != nil {
			return Report{}, err
		}
	}
	return r, nil
}

func (w *Watcher) letters(ctx context.Context, dead []string) ([]Letters, error) {
	starts, err := w.admin.ListStartOffsets(ctx, dead...)
	if err = errors.Join(err, starts.Error()); err != nil {
		return nil, fmt.Errorf("start of dead letters: %w", err)
	}
	ends, err := w.admin.ListEndOffsets(ctx, dead...)
	if err = errors.Join(err, ends.Error()); err != nil {
		return nil, fmt.Errorf("end of dead letters: %w", err)
	}
	sum := map[string]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if start, ok := starts.Lookup(end.Topic, end.Partition); ok {
			sum[end.Topic] += max(end.Offset-start.Offset, 0)
		}
	})
	var out []Letters
	for name, n := range sum {
		out = append(out, Letters{name, n})
	}
	slices.SortFunc(out, func(a, b Letters) int { return cmp.Compare(a.Topic, b.Topic) })
	return out, nil
}

// keep holds r, and has a metric for each of its figures. What a later report does not name reads 0 from then on.
func (w *Watcher) keep(r Report) {
	w.mu.Lock()
	w.report = r
	var fresh []string
	for _, l := range r.Lags {
		fresh = append(fresh, lagMetric(l))
	}
	for _, l := range r.Letters {
		fresh = append(fresh, letterMetric(l))
	}
	fresh = slices.DeleteFunc(fresh, func(name string) bool {
		known := w.shown[name]
		w.shown[name] = true
		return known
	})
	w.mu.Unlock()
	for _, name := range fresh { // the set asks the gauge at once
		w.set.GetOrCreateGauge(name, func() float64 { return w.read(name) })
	}
}

func (w *Watcher) read(name string) float64 {
	r := w.Report()
	for _, l := range r.Lags {
		if lagMetric(l) == name {
			return float64(l.Records)
		}
	}
	for _, l := range r.Letters {
		if letterMetric(l) == name {
			return float64(l.Records)
		}
	}
	return 0
}

func lagMetric(l Lag) string {
	return fmt.Sprintf("tocsin_kafka_lag_records{group=%q,topic=%q}", l.Group, l.Topic)
}

func letterMetric(l Letters) string {
	return fmt.Sprintf("tocsin_kafka_dead_letters{topic=%q}", l.Topic)
}
