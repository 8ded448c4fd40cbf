package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// Check compares. The error says that it could not look (a *StallError when a transaction that hangs is why); broken promises are findings.
//
// Cost: each topic is read once, partition by partition, and each of the lake's files once. Memory: the ledger, the machines of one
// partition twice, about 100 bytes per output record of one partition, all dead letters.
func Check(ctx context.Context, w World) (*Report, error) {
	b, err := connect(&w)
	if err != nil {
		return nil, err
	}
	defer b.close()
	schemas, stop, err := w.schemas(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	w.Schemas = schemas
	rep, err := check(ctx, &w, b)
	if errors.Is(err, errStuck) {
		return nil, &StallError{What: err.Error(), Diagnosis: diagnose(ctx, &w, b)}
	}
	return rep, err
}

// check is Check of any source; w.Schemas is given.
func check(ctx context.Context, w *World, b source) (*Report, error) {
	c := &checker{
		w: w, b: b, rep: newReport(), bounds: map[string]map[int32]interval{},
		letters: map[letterBox][]mark{}, unresolved: map[letterBox]map[string]bool{}, alerts: newAlertLog(),
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	return c.rep, nil
}

// schemas is how schemas are looked up, and what ends that.
func (w *World) schemas(ctx context.Context) (func(context.Context, string) ([]string, error), func(), error) {
	if w.Schemas != nil {
		return w.Schemas, func() {}, nil
	}
	reg, err := schema.New(w.Kafka, schema.DefaultConfig(), zap.NewNop())
	if err != nil {
		return nil, nil, fmt.Errorf("schemas: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = reg.Run(ctx) // nil: it waits errors out
	}()
	return reg.Resolve, func() {
		cancel()
		<-done
		reg.Close()
	}, nil
}

type checker struct {
	w   *World
	b   source
	rep *Report
	// What the groups had committed, and then what the topics held: so nothing can be missing from the one that the other promises.
	processor, router, writer map[string]map[int32]position
	bounds                    map[string]map[int32]interval
	letters                   map[letterBox][]mark
	unresolved                map[letterBox]map[string]bool // offsets of frames whose schema was not known when they were judged
	seen                      *sighting                     // nil without a ledger
	lake                      *lakeCheck
	alerts                    *alertLog
}

// letterBox is the dead letters of one partition of one topic.
type letterBox struct{ topic, partition string }

func (c *checker) run(ctx context.Context) error {
	if err := c.survey(ctx); err != nil {
		return err
	}
	if c.w.Ledger != nil {
		c.seen = c.w.Ledger.look()
		c.rep.Counts["frames_sent"], c.rep.Counts["frames_acked"], c.rep.Counts["frames_rejected"] = c.w.Ledger.Counts()
	}
	if c.w.Groups.Processor != "" {
		if err := c.readLetters(ctx, topic.Frames, dlq.Processor); err != nil {
			return err
		}
	}
	if c.w.Groups.Router != "" {
		if err := c.readLetters(ctx, topic.Anomalies, dlq.Router); err != nil {
			return err
		}
	}
	for _, id := range c.partitions() {
		if err := c.partition(ctx, id); err != nil {
			return fmt.Errorf("partition %d: %w", id, err)
		}
	}
	if c.seen != nil {
		c.seen.missing(c.rep, c.w.Groups.Processor != "")
	}
	if c.lake != nil {
		if err := c.lake.finish(ctx, c.rep, c.b); err != nil {
			return err
		}
	}
	c.notices()
	return nil
}

// survey notes where everything ends: what is promised before where it is promised, effects before causes.
func (c *checker) survey(ctx context.Context) (err error) {
	for group, into := range map[string]*map[string]map[int32]position{
		c.w.Groups.Processor: &c.processor, c.w.Groups.Router: &c.router, c.w.Groups.Writer: &c.writer,
	} {
		if group == "" {
			continue
		}
		if *into, err = c.b.committed(ctx, group); err != nil {
			return err
		}
	}
	if c.w.Lake != nil && c.w.Groups.Writer != "" {
		ids, err := c.b.topicIDs(ctx)
		if err != nil {
			return err
		}
		if c.lake, err = openLake(ctx, c.w, c.writer, ids); err != nil {
			return err
		}
	}
	for _, name := range []string{
		topic.Findings, topic.Alerts, topic.DLQ(topic.Anomalies), topic.Readings, topic.Windows, topic.Anomalies, topic.Coverage, topic.DLQ(topic.Frames), topic.Frames,
	} {
		if c.bounds[name], err = c.b.bounds(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) partitions() []int32 {
	var ids []int32
	for id := range c.bounds[topic.Frames] {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (c *checker) readLetters(ctx context.Context, of, consumer string) error {
	name := topic.DLQ(of)
	for id, in := range c.bounds[name] {
		s, err := c.b.read(ctx, name, id, in, func(r *kgo.Record) error {
			if by := topic.Header(r, dlq.HeaderConsumer); by != consumer && by != "" {
				return nil
			}
			box := letterBox{of, topic.Header(r, dlq.HeaderPartition)}
			c.letters[box] = append(c.letters[box], markOf(r, r.Offset))
			if of == topic.Frames {
				c.letter(box, r)
			}
			return nil
		})
		c.count(name, s)
		if err != nil {
			return err
		}
	}
	return nil
}

// letter notes a frame that could not be judged. Whether its schema was registered by then, the log does not say; so the letter is believed, unless
// the frame was acknowledged: the gateway does that only once the schema stands in the registry.
func (c *checker) letter(box letterBox, r *kgo.Record) {
	ref, ok := refOf(r.Value)
	if ok && c.seen != nil {
		c.seen.letter(ref)
	}
	if strings.HasPrefix(topic.Header(r, dlq.HeaderReason), "schema_id:") && (!ok || c.seen == nil || !c.seen.acked(ref)) {
		if c.unresolved[box] == nil {
			c.unresolved[box] = map[string]bool{}
		}
		c.unresolved[box][topic.Header(r, dlq.HeaderOffset)] = true
	}
}

// count adds to the report's counts.
func (c *checker) count(name string, s span) {
	c.rep.Counts[name] += s.records
	c.rep.Counts["aborted_records"] += s.hidden
}

// partition checks one partition of every topic.
func (c *checker) partition(ctx context.Context, id int32) error {
	want := map[string][]mark{}
	if c.w.Groups.Processor != "" {
		if err := c.judge(ctx, id, want); err != nil {
			return err
		}
	} else if err := c.frames(ctx, id, func(*kgo.Record) error { return nil }); err != nil {
		return err
	}
	var book *alertrouter.Replayer
	if c.w.Groups.Router != "" {
		book = alertrouter.NewReplayer(id)
	}
	for _, name := range []string{topic.Readings, topic.Windows, topic.Anomalies, topic.Coverage, topic.Alerts, topic.Findings} {
		if err := c.output(ctx, name, id, want, book); err != nil {
			return err
		}
		delete(want, name)
	}
	c.compareLetters(topic.Frames, id, want, c.w.Groups.Processor != "")
	c.compareLetters(topic.Anomalies, id, want, c.w.Groups.Router != "")
	return nil
}

// frames reads the input log and holds it against the ledger.
func (c *checker) frames(ctx context.Context, id int32, each func(*kgo.Record) error) error {
	in := c.bounds[topic.Frames][id]
	s, err := c.b.read(ctx, topic.Frames, id, in, func(r *kgo.Record) error {
		switch {
		case topic.IsTick(r):
			c.rep.Counts["ticks"]++
		case topic.Is(r, topic.TypeDetection):
			c.rep.Counts["reconfigurations"]++
		case topic.Is(r, topic.TypeCohort):
			c.rep.Counts["cohort_rounds"]++
		default:
			c.rep.Counts["frames_in_log"]++
			if ref, ok := refOf(r.Value); ok && c.seen != nil && c.seen.frame(c.rep, at(r), ref) {
				c.rep.Counts["frames_repeated"]++
			}
		}
		return each(r)
	})
	c.count(topic.Frames, s)
	return err
}

// judge makes of the input what must stand in the outputs, and holds the saved state against that of the oracle.
func (c *checker) judge(ctx context.Context, id int32, want map[string][]mark) error {
	if in := c.bounds[topic.Frames][id]; in.from > 0 {
		return fmt.Errorf("%s begins at offset %d: what was before has left the log, and without it nothing can be told", topic.Frames, in.from)
	}
	cfg := streamprocessor.DefaultConfig()
	cfg.Revision = c.w.Revision
	if c.w.Detection != nil {
		cfg.Detection = *c.w.Detection
	}
	if c.w.MaxMachines > 0 {
		cfg.MaxMachines = c.w.MaxMachines
	}
	unresolved, present := c.unresolved[letterBox{topic.Frames, fmt.Sprint(id)}], int64(0)
	oracle := streamprocessor.NewReplayer(cfg, id, func(ctx context.Context, schemaID string) ([]string, error) {
		if unresolved[fmt.Sprint(present)] {
			return nil, schema.ErrUnknown
		}
		return c.w.Schemas(ctx, schemaID)
	})
	state, err := c.openState(ctx, id, streamprocessor.NewReplayer(cfg, id, c.w.Schemas))
	if err != nil {
		return err
	}
	// The state may be of a moment ago: the log must reach as far.
	if c.bounds[topic.Frames], err = c.b.bounds(ctx, topic.Frames); err != nil {
		return err
	}
	promised := c.processor[topic.Frames][id].at // 0: nothing was committed
	err = c.frames(ctx, id, func(r *kgo.Record) error {
		if err := state.before(ctx, c.rep, r, oracle); err != nil {
			return err
		}
		present = r.Offset
		out, err := oracle.Apply(ctx, r)
		if err != nil {
			return fmt.Errorf("judging %s: %w", at(r), err)
		}
		for _, o := range out {
			m := markOf(o, r.Offset)
			m.may = r.Offset >= promised
			want[o.Topic] = append(want[o.Topic], m)
		}
		return nil
	})
	if err != nil {
		return err
	}
	state.end(c.rep, oracle)
	return nil
}

// output reads one output topic and compares it with what must stand there.
func (c *checker) output(ctx context.Context, name string, id int32, want map[string][]mark, book *alertrouter.Replayer) error {
	var got []mark
	promised := c.router[topic.Anomalies][id].at
	s, err := c.b.read(ctx, name, id, c.bounds[name][id], func(r *kgo.Record) error {
		m := markOf(r, r.Offset)
		got = append(got, m)
		if m.name == "" {
			c.rep.Counts["forwarded_ticks"]++
		}
		if c.lake != nil && name != topic.Coverage {
			if err := c.lake.record(ctx, c.rep, r); err != nil {
				return err
			}
		}
		switch name {
		case topic.Readings:
			if ref, ok := refOfReading(r.Value); ok && m.name != "" && c.seen != nil {
				c.seen.judge(c.rep, at(r), ref)
			}
		case topic.Anomalies:
			if book == nil {
				return nil
			}
			for _, o := range book.Apply(r) {
				e := markOf(o, r.Offset)
				e.may = r.Offset >= promised
				want[o.Topic] = append(want[o.Topic], e)
			}
		case topic.Alerts:
			c.alerts.add(r)
		}
		return nil
	})
	c.count(name, s)
	if err != nil {
		return err
	}
	if name == topic.Findings { // nothing in the log says what must stand there: only the lake is held against it
		return nil
	}
	if name == topic.Alerts && book == nil || name != topic.Alerts && c.w.Groups.Processor == "" {
		return nil
	}
	where := fmt.Sprintf("%s[%d]", name, id)
	if name == topic.Coverage {
		want[name] = uncompacted(want[name], got)
	}
	for _, d := range compareStream(want[name], got) {
		c.rep.add(d.kind, where, "%s", d.detail)
	}
	return nil
}

func (c *checker) compareLetters(of string, id int32, want map[string][]mark, asked bool) {
	if !asked {
		return
	}
	box := letterBox{of, fmt.Sprint(id)}
	for _, d := range compare(want[topic.DLQ(of)], c.letters[box], true) {
		c.rep.add(d.kind, topic.DLQ(of), "%s", d.detail)
	}
}

func at(r *kgo.Record) string { return fmt.Sprintf("%s[%d]@%d", r.Topic, r.Partition, r.Offset) }
