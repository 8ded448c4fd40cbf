package chaos

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

const (
	// lookEvery is how often a condition is looked at, and so the resolution of recovery times.
	lookEvery = 50 * time.Millisecond
	// markAfter is how long after a fault the log's end is noted that recovery must pass: by then records stand in it that came after.
	markAfter = 300 * time.Millisecond
)

// watch sees the world from outside, past all links: what stands in Kafka, and what groups have committed.
type watch struct {
	client *kgo.Client
	adm    *kadm.Client
	http   *http.Client
	stop   context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	last map[string]map[int32]int64 // by topic and partition: the newest committed record
	at   map[string]time.Time       // by topic: when the newest came
}

var watched = []string{topic.Frames, topic.Readings, topic.Anomalies, topic.Alerts} //nolint:gochecknoglobals // a constant list

func startWatch(brokers []string) (*watch, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID("chaos-watch"), kgo.ConsumeTopics(watched...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.MetadataMinAge(250*time.Millisecond), kgo.FetchMaxWait(500*time.Millisecond), kgo.DialTimeout(2*time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }), kgo.RetryTimeout(5*time.Second))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &watch{
		client: client, adm: kadm.NewClient(client), stop: stop, done: make(chan struct{}),
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		last: map[string]map[int32]int64{}, at: map[string]time.Time{},
	}
	go w.follow(ctx)
	return w, nil
}

func (w *watch) follow(ctx context.Context) {
	defer close(w.done)
	for {
		fetches := w.client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		now := time.Now()
		w.mu.Lock()
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) == 0 {
				return
			}
			if w.last[p.Topic] == nil {
				w.last[p.Topic] = map[int32]int64{}
			}
			w.last[p.Topic][p.Partition] = p.Records[len(p.Records)-1].Offset
			w.at[p.Topic] = now
		})
		w.mu.Unlock()
	}
}

func (w *watch) newest(name string) map[int32]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.last[name])
}

func (w *watch) close() {
	w.stop()
	w.client.Close()
	<-w.done
	w.http.CloseIdleConnections()
}

// condition says what is still missing, or "" when it holds.
type condition func(ctx context.Context) string

// await returns how long after since all conditions held, or an error that says what is missing after patience.
func await(ctx context.Context, since time.Time, patience time.Duration, conditions ...condition) (time.Duration, error) {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		missing := ""
		for _, c := range conditions {
			if missing = c(ctx); missing != "" {
				break
			}
		}
		if missing == "" {
			return time.Since(since), nil
		}
		if time.Now().After(deadline) {
			return time.Since(since), fmt.Errorf("after %s: %s", time.Since(since).Round(time.Millisecond), missing)
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w while waiting: %s", ctx.Err(), missing)
		case <-tick.C:
		}
	}
}

// passes holds when the group has committed all records of the topic that stood in it markAfter after the first look.
func (w *watch) passes(group, name string) condition {
	var first time.Time
	var marks map[int32]int64
	return func(ctx context.Context) string {
		if first.IsZero() {
			first = time.Now()
		}
		if marks == nil {
			if time.Since(first) < markAfter {
				return group + ": too early to tell"
			}
			marks = w.newest(name)
		}
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		at, err := w.adm.FetchOffsets(ctx, group)
		if err != nil {
			return fmt.Sprintf("%s: %v", group, err)
		}
		for p, mark := range marks {
			if o, ok := at.Lookup(name, p); !ok || o.At <= mark {
				return fmt.Sprintf("%s has not passed %s/%d offset %d", group, name, p, mark)
			}
		}
		return ""
	}
}

// isReady holds when the service at addr says so.
func (w *watch) isReady(name, addr string) condition {
	return func(ctx context.Context) string {
		if err := ready(ctx, w.http, addr); err != nil {
			return fmt.Sprintf("%s is not ready: %v", name, err)
		}
		return ""
	}
}
