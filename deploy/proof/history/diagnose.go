package history

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// diagnose says what a person would look at first: each group's state, members and lag, transactions that hold readers up, and what the caller
// adds. It says what it cannot find out, and takes no longer than half a minute.
func diagnose(ctx context.Context, w *World, b *broker) []string {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d := &diagnosis{b: b}
	topics := []string{topic.Frames, topic.Readings, topic.Windows, topic.Anomalies, topic.Alerts, topic.State}
	d.bounds(ctx, topics)
	d.group(ctx, w.Groups.Processor, topic.Frames)
	d.group(ctx, w.Groups.Router, topic.Anomalies)
	d.group(ctx, w.Groups.Writer, topic.Readings, topic.Windows, topic.Anomalies, topic.Alerts, topic.Findings)
	d.hanging(ctx)
	if w.Notes != nil {
		d.lines = append(d.lines, w.Notes(ctx)...)
	}
	return d.lines
}

type diagnosis struct {
	b            *broker
	ends, stable map[string]map[int32]int64
	lines        []string
}

func (d *diagnosis) say(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diagnosis) bounds(ctx context.Context, topics []string) {
	list := func(what string, ask func(context.Context, ...string) (kadm.ListedOffsets, error)) map[string]map[int32]int64 {
		out := map[string]map[int32]int64{}
		listed, err := ask(ctx, topics...)
		if err != nil {
			d.say("%s: %v", what, err)
		}
		listed.Each(func(o kadm.ListedOffset) {
			if o.Err != nil {
				d.say("%s of %s[%d]: %v", what, o.Topic, o.Partition, o.Err)
				return
			}
			if out[o.Topic] == nil {
				out[o.Topic] = map[int32]int64{}
			}
			out[o.Topic][o.Partition] = o.Offset
		})
		return out
	}
	d.ends = list("end offsets", d.b.adm.ListEndOffsets)
	d.stable = list("last stable offsets", d.b.adm.ListCommittedOffsets)
}

// group tells of a group's state, its members and where it stands.
func (d *diagnosis) group(ctx context.Context, name string, topics ...string) {
	if name == "" {
		return
	}
	described, err := d.b.adm.DescribeGroups(ctx, name)
	if err != nil {
		d.say("group %s: %v", name, err)
	}
	for _, g := range described {
		d.say("group %s: %s, %d members%s", name, g.State, len(g.Members), errorText(g.Err))
		for _, m := range g.Members {
			instance := ""
			if m.InstanceID != nil {
				instance = " instance " + *m.InstanceID
			}
			owned := "?"
			if a, ok := m.Assigned.AsConsumer(); ok {
				owned = ""
				for _, t := range a.Topics {
					owned += fmt.Sprintf(" %s%v", t.Topic, t.Partitions)
				}
			}
			d.say("  member %s%s from %s:%s", m.MemberID, instance, m.ClientHost, owned)
		}
	}
	at, err := d.b.committed(ctx, name)
	if err != nil {
		d.say("  offsets: %v", err)
		return
	}
	for _, t := range topics {
		for _, id := range slices.Sorted(maps.Keys(d.ends[t])) {
			end, p := d.ends[t][id], at[t][id].at
			if _, ok := at[t][id]; !ok {
				d.say("  %s[%d]: nothing committed, stable %d, end %d", t, id, d.stable[t][id], end)
			} else if p < end {
				d.say("  %s[%d]: committed %d, stable %d, end %d, lag %d", t, id, p, d.stable[t][id], end, end-p)
			}
		}
	}
}

// hanging tells whose transactions hold back the last stable offset.
func (d *diagnosis) hanging(ctx context.Context) {
	var open kadm.TopicsSet
	for _, t := range slices.Sorted(maps.Keys(d.ends)) {
		for _, id := range slices.Sorted(maps.Keys(d.ends[t])) {
			if s, ok := d.stable[t][id]; ok && s < d.ends[t][id] {
				d.say("open transaction in %s[%d]: stable %d, end %d", t, id, s, d.ends[t][id])
				open.Add(t, id)
			}
		}
	}
	if len(open) == 0 {
		return
	}
	producers, err := d.b.adm.DescribeProducers(ctx, open)
	if err != nil {
		d.say("producers: %v", err)
	}
	var ids []int64
	producers.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset >= 0 {
			d.say("  %s[%d]: producer %d epoch %d, open since offset %d", p.Topic, p.Partition, p.ProducerID, p.ProducerEpoch, p.CurrentTxnStartOffset)
			ids = append(ids, p.ProducerID)
		}
	})
	listed, err := d.b.adm.ListTransactions(ctx, ids, nil)
	if err != nil {
		d.say("transactions: %v", err)
	}
	described, err := d.b.adm.DescribeTransactions(ctx, listed.TransactionalIDs()...)
	if err != nil {
		d.say("transactions: %v", err)
	}
	for _, t := range described.Sorted() {
		var where []string
		for _, l := range t.Topics.Sorted() {
			where = append(where, fmt.Sprintf("%s%v", l.Topic, l.Partitions))
		}
		d.say("  transactional id %q: %s, producer %d epoch %d, time-out %d ms, begun at %s, %s%s", t.TxnID, t.State, t.ProducerID, t.ProducerEpoch, t.TimeoutMillis,
			time.UnixMilli(t.StartTimestamp).UTC().Format(time.RFC3339Nano), strings.Join(where, " "), errorText(t.Err))
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}
