// Package follow feeds the hub from Kafka.
//
// It reads every partition of the windows, anomalies and alerts topics, read_committed, as no member of any group:
// each instance of the service sees everything. Windows and anomalies are read from a look-back before the end of
// the log, alerts from the start of retention, so that every open alert is known, and coverage from the start of its compacted topic.
//
// A record that cannot be read is counted, logged once per topic and kind, and passed over. There is no dead letter from here: each of
// many instances sees every record, again at each start, and would write the same letter; what is shown is rebuilt from the log
// anyway. The lake's writer reads the same topics and sets such records aside.
package follow

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hops"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
)

// consumer is our name in the headers of records that are given back to those who had refused them. We write no dead letters, so
// none is for us.
const consumer = "realtime-api"

// Config of a Follower.
type Config struct {
	Kafka    kafka.Config
	LookBack time.Duration
}

// Follower reads the log into the hub. Run it once.
type Follower struct {
	cfg  Config
	hub  *hub.Hub
	log  *zap.Logger
	set  *metrics.Set
	flow *Flow
	once map[string]bool // kinds of bad records already logged; Run's goroutine only

	starting atomic.Pointer[string] // why it is not caught up; nil when it is
}

// New makes a follower; it does nothing before Run.
func New(cfg Config, h *hub.Hub, flow *Flow, log *zap.Logger, set *metrics.Set) *Follower {
	f := &Follower{cfg: cfg, hub: h, log: log, set: set, flow: flow, once: map[string]bool{}}
	f.state("not started")
	return f
}

func (f *Follower) state(why string) { f.starting.Store(&why) }

// Ready is nil once everything that stood in the log at the start has been read.
func (f *Follower) Ready() error {
	if why := f.starting.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

// Run follows until ctx ends; then it returns nil. It waits out brokers that cannot be reached.
func (f *Follower) Run(ctx context.Context) error {
	cl, pending, err := f.start(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer cl.Close()
	f.progress(pending)
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		fetches.EachError(func(t string, p int32, err error) {
			// The client retries what can be retried; there is nobody to hand anything else to.
			f.count(t, "fetch_error")
			f.log.Warn("fetch", zap.String("topic", t), zap.Int32("partition", p), zap.Error(err))
		})
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				f.take(r, now)
			}
			if n := len(p.Records); n > 0 && pending != nil {
				pending.reached(p.Topic, p.Partition, p.Records[n-1].Offset+1)
			}
		})
		if pending != nil && f.progress(pending) {
			f.log.Info("caught up with the log", zap.Int("machines", f.hub.Counts(nil).Machines), zap.Int("open_alerts", f.hub.Counts(nil).OpenAlerts))
			pending = nil
		}
	}
}

// progress says what Ready says; true when all is read.
func (f *Follower) progress(p *pending) bool {
	if n := p.left(); n > 0 {
		f.state(fmt.Sprintf("reading the past: %d partitions left", n))
		return false
	}
	f.starting.Store(nil)
	f.flow.caughtUp.Store(true)
	f.flow.Hops.Start()
	return true
}

// start makes the client, positioned, and says up to where the past goes.
func (f *Follower) start(ctx context.Context) (*kgo.Client, *pending, error) {
	opts, err := f.cfg.Kafka.Options(f.log)
	if err != nil {
		return nil, nil, err
	}
	admin, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("kafka client: %w", err)
	}
	defer admin.Close()
	f.state("waiting for Kafka")
	err = kafka.AwaitTopics(ctx, admin, f.cfg.Kafka, func(err error) {
		f.state("waiting for Kafka: " + err.Error())
		f.log.Warn("waiting for Kafka", zap.Error(err))
	}, topic.Specs(topic.Windows, topic.Anomalies, topic.Alerts, topic.Coverage)...)
	if err != nil {
		return nil, nil, err
	}
	var plan map[string]map[int32]kgo.Offset
	var past *pending
	said := ""
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		f.state("looking up the log's offsets")
		plan, past, err = f.plan(ctx, admin)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		f.state("Kafka: " + err.Error())
		if err.Error() != said {
			said = err.Error()
			f.log.Warn("cannot look up the log's offsets; trying again", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(wait):
		}
	}
	cl, err := kgo.NewClient(append(opts,
		kgo.ConsumePartitions(plan),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Control records end transactions: with them a partition's position is known to reach its end.
		kgo.KeepControlRecords(),
		// Where retention has overtaken us, what is left from its start on is what can be known.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(16<<20),
	)...)
	if err != nil {
		return nil, nil, fmt.Errorf("kafka client: %w", err)
	}
	return cl, past, nil
}

// plan looks up where to start in each partition, and where the past ends.
func (f *Follower) plan(ctx context.Context, cl *kgo.Client) (map[string]map[int32]kgo.Offset, *pending, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	adm := kadm.NewClient(cl)
	ends, err := listed(adm.ListCommittedOffsets(ctx, topic.Windows, topic.Anomalies, topic.Alerts, topic.Coverage))
	if err != nil {
		return nil, nil, fmt.Errorf("end offsets: %w", err)
	}
	since, err := f.since(ctx, adm)
	if err != nil {
		return nil, nil, err
	}
	recent, err := listed(adm.ListOffsetsAfterMilli(ctx, since.UnixMilli(), topic.Windows, topic.Anomalies))
	if err != nil {
		return nil, nil, fmt.Errorf("offsets of %s: %w", since.UTC().Format(time.RFC3339), err)
	}
	starts, err := listed(adm.ListStartOffsets(ctx, topic.Alerts, topic.Coverage))
	if err != nil {
		return nil, nil, fmt.Errorf("start offsets: %w", err)
	}
	plan := map[string]map[int32]kgo.Offset{}
	past := &pending{ends: map[partition]int64{}}
	for _, from := range []kadm.ListedOffsets{recent, starts} {
		from.Each(func(o kadm.ListedOffset) {
			if plan[o.Topic] == nil {
				plan[o.Topic] = map[int32]kgo.Offset{}
			}
			at := o.Offset
			end, ok := ends.Lookup(o.Topic, o.Partition)
			if ok && (at < 0 || at > end.Offset) {
				at = end.Offset // nothing that young
			}
			plan[o.Topic][o.Partition] = kgo.NewOffset().At(at)
			if ok && at < end.Offset {
				past.ends[partition{o.Topic, o.Partition}] = end.Offset
			}
		})
	}
	f.log.Info("following", zap.Time("windows_since", since), zap.Int("partitions_with_past", len(past.ends)))
	return plan, past, nil
}

// since is the look-back before the log's end. The end is the time of the youngest record, not the clock's: a
// fleet that stopped an hour ago is shown as it stopped.
func (f *Follower) since(ctx context.Context, adm *kadm.Client) (time.Time, error) {
	end := time.Now()
	latest, err := listed(adm.ListMaxTimestampOffsets(ctx, topic.Windows))
	if errors.Is(err, kerr.UnsupportedVersion) {
		return end.Add(-f.cfg.LookBack), nil
	}
	if err != nil {
		return end, fmt.Errorf("time of the log's end: %w", err)
	}
	youngest := int64(-1)
	latest.Each(func(o kadm.ListedOffset) { youngest = max(youngest, o.Timestamp) })
	if youngest >= 0 && youngest < end.UnixMilli() {
		end = time.UnixMilli(youngest)
	}
	return end.Add(-f.cfg.LookBack), nil
}

func listed(o kadm.ListedOffsets, err error) (kadm.ListedOffsets, error) {
	if err != nil {
		return nil, err
	}
	return o, o.Error()
}

// take applies one record.
func (f *Follower) take(r *kgo.Record, now time.Time) {
	if r.Attrs.IsControl() {
		return
	}
	f.flow.saw(r.Topic, r.Timestamp, now, topic.IsTick(r))
	if topic.IsTick(r) {
		f.count(r.Topic, "tick")
		return
	}
	if !dlq.IsFor(r, consumer) {
		f.count(r.Topic, "for_another_consumer")
		return
	}
	var err error
	kind := "undecodable"
	switch r.Topic {
	case topic.Windows:
		var w eventv1.Window
		if err = proto.Unmarshal(r.Value, &w); err == nil {
			kind, err = "invalid", f.hub.ApplyWindow(&w)
		}
		if err == nil && w.Revision == 0 { // a correction comes when late rows do
			f.hop(hops.Gathered, time.UnixMilli(w.ClosedAtMs).Sub(time.UnixMicro(w.EndUs)), now)
			f.hop(hops.Judged, r.Timestamp.Sub(time.UnixMilli(w.ClosedAtMs)), now)
			f.hop(hops.Delivered, now.Sub(r.Timestamp), now)
		}
	case topic.Anomalies:
		var a eventv1.Anomaly
		if err = proto.Unmarshal(r.Value, &a); err == nil {
			kind, err = "invalid", f.hub.ApplyAnomaly(&a)
		}
		if err == nil {
			f.hop(hops.Reported, r.Timestamp.Sub(time.UnixMilli(a.JudgedAtMs)), now)
		}
	case topic.Alerts:
		var a eventv1.AlertEvent
		if err = proto.Unmarshal(r.Value, &a); err == nil {
			kind, err = "invalid", f.hub.ApplyAlert(&a)
		}
		if err == nil && a.Transition <= eventv1.AlertTransition_ALERT_TRANSITION_CLOSED { // what people do has no report
			f.hop(hops.Routed, r.Timestamp.Sub(time.UnixMilli(a.AtMs)), now)
		}
	case topic.Coverage:
		var c eventv1.MachineCoverage
		if err = proto.Unmarshal(r.Value, &c); err == nil {
			kind, err = "invalid", f.hub.ApplyCoverage(&c)
		}
	}
	if err == nil {
		f.count(r.Topic, "applied")
		return
	}
	f.count(r.Topic, kind)
	if key := r.Topic + "/" + kind; !f.once[key] {
		f.once[key] = true
		f.log.Warn("record passed over; further ones like it are only counted", zap.String("topic", r.Topic),
			zap.Int32("partition", r.Partition), zap.Int64("offset", r.Offset), zap.String("kind", kind), zap.Error(err))
	}
}

func (f *Follower) hop(h hops.Hop, d time.Duration, now time.Time) { f.flow.Hops.Add(h, d, now) }

func (f *Follower) count(topic, result string) {
	f.set.GetOrCreateCounter(fmt.Sprintf(`tocsin_api_records_total{topic=%q,result=%q}`, topic, result)).Inc()
}

type partition struct {
	topic string
	p     int32
}

// pending is the past still to be read: partitions by the offset at which their past ends.
type pending struct{ ends map[partition]int64 }

func (p *pending) left() int { return len(p.ends) }

func (p *pending) reached(t string, part int32, next int64) {
	if end, ok := p.ends[partition{t, part}]; ok && next >= end {
		delete(p.ends, partition{t, part})
	}
}
