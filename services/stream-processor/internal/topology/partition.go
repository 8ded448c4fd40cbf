package topology

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// forwardTickMS is how often, in log time, a tick is passed on to the output topics.
const forwardTickMS = 5_000

// maxFrameBytes leaves room for what a reading adds to its frame (a byte for each value at most) within the topics' max.message.bytes.
const maxFrameBytes = 6 << 20

// maxSchemas bounds a partition's cache of sensor names.
const maxSchemas = 1024

// entry is one machine and where its state stands relative to the log.
type entry struct {
	id      string
	machine *machine.Machine
	// applied is the offset up to which the snapshot it was restored from holds all effects; only replay looks at it.
	applied int64
	// firstDirty is the offset of the first record whose effect is in no snapshot; -1 when there is none.
	firstDirty   int64
	firstDirtyMS int64
	deadline     int64
	heapAt       int
	// snapshotHash is what this machine's last snapshot adds to the partition's hash.
	snapshotHash uint64
	// parts is the number of records that its last snapshot took; 0: it has none.
	parts int
	// class is that of its machine when it had so many sensors.
	class   uint64
	classOf int
	// stateAt is where the first of them stands in the state's topic; -1: unknown, or it has none.
	stateAt int64
}

// partition is everything the processor knows of one input partition. Its content is a pure function of the
// records applied: it reads no clock, draws no random number and depends on no map order.
// One goroutine at a time may use it. Memory: the machines' states, bounded by maxMachines.
type partition struct {
	id       int32
	in       *detection.Config // in force for the record at next
	past     history
	resolve  func(context.Context, string) ([]string, error)
	machines map[string]*entry
	due      deadlines
	// dirty holds the machines with unsaved effects, by firstDirty: a queue, since offsets only grow.
	dirty queue
	// lent are the machines that got a loan in this transaction: see lend.
	lent []*entry
	// gatheredUS is the start of the newest round that was gathered here: see gather. No state: who restores gathers the newest again, which does no harm.
	gatheredUS int64
	// next is the first offset not applied.
	next      int64
	logTimeMS int64
	// lastTickMS is apart from logTimeMS: on a busy partition frames reach every boundary before the tick does.
	lastTickMS int64
	hash       uint64
	// dead are the offsets from replay_from on that became dead letters.
	dead offsets
	// undecided: the state was saved by a build that did not note dead letters, so a replay decides on them anew.
	undecided bool

	maxMachines int
	schemas     map[string][][]byte
	frame       frame.Frame
	out         machine.Output
	scratch     []byte
	windowID    []byte
	arena       arena
	count       counts
	cases       cases
	tracer      trace.Tracer // nil: tracing is off
	export      Exporter
	census      census
	failures    []failure      // of detectors, in this transaction; the first few
	took        []machine.Took // how long detectors took, now and then
	models      map[string]int // windows by what models said, of this transaction
	comparing   comparing
	committing  []byte // what the exporter made of this transaction's windows
}

// counts is what happened since the last time they were taken.
type counts struct {
	frames, duplicates, windows, anomalies, coverage, dead, ticks int
	// switches is how often another detection configuration came into force, fresh how many detectors had to start with nothing for it, unfit how
	// many machines.
	switches, fresh, unfit int
	// rounds is how many came into force, compared how often a machine was held against its sisters.
	rounds, compared int
	// unkept is how many episodes opened whose cases could not even be noted.
	unkept int
	// oldestMS is the broker's time of the first frame, milliseconds since 1970; 0: none.
	oldestMS int64
}

// newPartition is one of which nothing is known yet, judged by in.
func newPartition(id int32, in *detection.Config, maxMachines int, resolve func(context.Context, string) ([]string, error), export Exporter, tracer trace.Tracer) *partition {
	return &partition{id: id, in: in, past: history{base: in}, resolve: resolve, export: export, tracer: tracer, maxMachines: maxMachines, machines: map[string]*entry{}, schemas: map[string][][]byte{}}
}

// emitter takes the records that a transaction is to hold; nil while replaying: the outputs stand already.
type emitter func(*kgo.Record)

// apply judges one record of the input. The error is not the record's fault (a bad record becomes a dead
// letter): it means that the judgement could not be made now.
//
// Whether a record can be judged is no function of the log alone: it hangs on the schemas registered by then, on the quota, on the build. A record that
// became a dead letter left nothing but a count in the state, and a replay (emit is nil) judges it no more; one that did not must be judged again, so what
// stands in its way is an error: ErrUnknownSchema, which may pass, or errDiverged. After ErrUnknownSchema apply may be called again.
func (p *partition) apply(ctx context.Context, r *kgo.Record, emit emitter) error {
	ms := r.Timestamp.UnixMilli()
	p.next = r.Offset + 1
	if topic.IsTick(r) {
		p.tick(r.Offset, ms, emit)
		return nil
	}
	p.logTimeMS = max(p.logTimeMS, ms)
	if emit == nil && p.dead.has(r.Offset) {
		p.refused(r, ms)
		return nil
	}
	var dead, err error
	switch {
	case topic.Is(r, topic.TypeDetection):
		dead = p.reconfigure(r, ms)
	case topic.Is(r, topic.TypeCohort):
		dead = p.compare(r, ms)
	default:
		dead, err = p.frameOf(ctx, r, ms, emit)
	}
	switch {
	case err != nil:
		return err
	case dead == nil:
		return nil
	case emit == nil && !p.undecided:
		if errors.Is(dead, ErrUnknownSchema) {
			return fmt.Errorf("offset %d: %w", r.Offset, dead)
		}
		return fmt.Errorf("offset %d %w: %w", r.Offset, errDiverged, dead)
	}
	p.count.dead++
	p.dead.add(r.Offset)
	p.refused(r, ms)
	if emit != nil {
		emit(dlq.Record(r, dead))
	}
	return nil
}

// frameOf judges a frame under a span of its own.
func (p *partition) frameOf(ctx context.Context, r *kgo.Record, ms int64, emit emitter) (dead, err error) {
	p.count.frames++
	if p.count.oldestMS == 0 && emit != nil {
		p.count.oldestMS = ms
	}
	var span trace.Span
	var parent []byte
	if emit != nil {
		span, parent = p.startSpan(ctx, r)
	}
	dead, err = p.judge(ctx, r, ms, parent, emit)
	endSpan(span, dead, err)
	return dead, err
}

// judge applies a frame; its outputs carry the traceparent. dead says why the record can never be judged: then nothing was changed.
func (p *partition) judge(ctx context.Context, r *kgo.Record, ms int64, traceparent []byte, emit emitter) (dead, err error) {
	if len(r.Value) > maxFrameBytes {
		return fmt.Errorf("a frame of %d bytes, at most %d can be judged", len(r.Value), maxFrameBytes), nil
	}
	f := &p.frame
	if err := f.Unmarshal(r.Value); err != nil {
		return fmt.Errorf("not a SensorFrame: %w", err), nil
	}
	if !bytes.Equal(f.EquipmentID, r.Key) {
		return fmt.Errorf("equipment_id %q is not the record's key %q", f.EquipmentID, r.Key), nil
	}
	if err := checkNames(f.EquipmentID, f.GatewayID); err != nil {
		return fmt.Errorf("equipment_id and gateway_id: %w", err), nil
	}
	sensors, dead, err := p.sensors(ctx, f)
	if dead != nil || err != nil {
		return dead, err
	}
	if len(f.Values) == 0 {
		return errors.New("values: there are none"), nil
	}
	if len(sensors)*f.Samples() != len(f.Values) {
		return fmt.Errorf("values: %d values for %d sensors and %d samples", len(f.Values), len(sensors), f.Samples()), nil
	}
	if len(f.Qualities) != 0 && len(f.Qualities) != len(f.Values) {
		return fmt.Errorf("qualities: %d codes for %d values", len(f.Qualities), len(f.Values)), nil
	}
	e := p.machines[string(f.EquipmentID)]
	if e == nil {
		if len(p.machines) >= p.maxMachines && emit != nil { // what was let in before has its place
			return fmt.Errorf("partition %d holds %d machines already: quota", p.id, len(p.machines)), nil
		}
		id := string(f.EquipmentID)
		e = &entry{id: id, machine: machine.New(p.in.Judge, id), applied: -1, firstDirty: -1, heapAt: -1, stateAt: -1}
		p.machines[id] = e
		if emit != nil {
			p.lend(e, f.SchemaID, sensors)
		}
	}
	if r.Offset <= e.applied {
		return nil, nil // replaying, and the snapshot holds this already
	}
	p.out.Reset()
	e.machine.Apply(f, sensors, machine.Meta{Partition: r.Partition, Offset: r.Offset, LogTimeMS: ms, Returned: dlq.IsReturned(r)}, &p.out)
	p.touch(e, r.Offset, ms)
	p.noteOpenings(e, r.Offset, ms)
	if p.out.Duplicate {
		p.count.duplicates++
		return nil, nil
	}
	if emit == nil {
		return nil, nil
	}
	p.note(e.id, &p.out)
	if len(p.out.Anomalies) > 0 {
		received := topic.Received(r)
		for _, a := range p.out.Anomalies {
			a.ReceivedAtMs = received
		}
	}
	p.scratch = appendReading(p.scratch[:0], r.Value, r.Partition, r.Offset, ms, p.out.Dispositions, p.out.Validities)
	emit(p.record(topic.Readings, topic.TypeReading, r.Key, p.scratch, topic.Header(r, topic.HeaderID), traceparent))
	p.emitJudgements(r.Key, traceparent, emit)
	return nil, nil
}

// sensors names the frame's columns.
func (p *partition) sensors(ctx context.Context, f *frame.Frame) (names [][]byte, dead, err error) {
	if len(f.SchemaID) == 0 {
		if err := checkNames(f.Sensors...); err != nil {
			return nil, fmt.Errorf("sensors: %w", err), nil
		}
		return f.Sensors, nil, nil
	}
	if names, ok := p.schemas[string(f.SchemaID)]; ok {
		return names, nil, nil
	}
	id := string(f.SchemaID)
	list, err := p.resolve(ctx, id)
	switch {
	case errors.Is(err, ErrUnknownSchema):
		return nil, fmt.Errorf("schema_id: %q is not registered: %w", id, ErrUnknownSchema), nil
	case err != nil:
		return nil, nil, fmt.Errorf("schema %q: %w", id, err)
	}
	names = make([][]byte, len(list))
	for i, s := range list {
		names[i] = []byte(s)
	}
	if err := checkNames(names...); err != nil {
		return nil, fmt.Errorf("schema %q: sensors: %w", id, err), nil
	}
	if len(p.schemas) >= maxSchemas {
		clear(p.schemas) // a cache of the registry's: a machine uses one schema, or a few
	}
	p.schemas[id] = names
	return names, nil, nil
}

// checkNames refuses names of a length that no snapshot can hold. The gateway has checked more, but whoever may write to the topic can go
// past it, and state that cannot be read again would stop the partition for good.
func checkNames(names ...[]byte) error {
	for _, n := range names {
		if len(n) == 0 || len(n) > frame.MaxIDLength {
			return fmt.Errorf("a name of %d bytes, 1 to %d are allowed", len(n), frame.MaxIDLength)
		}
	}
	return nil
}

// ErrUnknownSchema is what a schema resolver answers for an id that is not registered.
var ErrUnknownSchema = errors.New("unknown schema")

// tick moves time for the machines that are due.
func (p *partition) tick(offset, ms int64, emit emitter) {
	p.count.ticks++
	gateways := gateways{p: p, nowMS: ms}
	var later []*entry // due, but restored from a snapshot that holds this tick's effect
	for len(p.due) > 0 && p.due[0].deadline <= ms {
		e := p.due[0]
		if offset <= e.applied {
			later = append(later, heap.Pop(&p.due).(*entry)) //nolint:forcetypeassert // only entries are pushed
			continue
		}
		before := e.deadline
		p.out.Reset()
		e.machine.Tick(ms, &p.out)
		p.touch(e, offset, ms)
		p.noteOpenings(e, offset, ms)
		if emit != nil {
			p.note(e.id, &p.out)
			gateways.blame(e.machine, &p.out)
			p.emitJudgements([]byte(e.id), nil, emit)
		}
		if e.heapAt >= 0 && e.deadline <= ms && e.deadline <= before {
			// A machine that stays due would be ticked for ever: look at it again at the next tick.
			e.deadline = ms + 1
			heap.Fix(&p.due, e.heapAt)
		}
	}
	for _, e := range later {
		heap.Push(&p.due, e)
	}
	if ms/forwardTickMS > p.lastTickMS/forwardTickMS && emit != nil {
		value := appendVarint(nil, 1, uint64(uint32(p.id)))
		for _, t := range []string{topic.Readings, topic.Windows, topic.Anomalies} {
			emit(&kgo.Record{Topic: t, Partition: p.id, Value: value, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}})
		}
	}
	if ms/censusMS > p.lastTickMS/censusMS && emit != nil {
		p.takeCensus()
	}
	if ms/comparisonMS > p.lastTickMS/comparisonMS && emit != nil {
		p.emitComparisons(ms, emit)
	}
	p.lastTickMS = max(p.lastTickMS, ms)
	p.logTimeMS = max(p.logTimeMS, ms)
}

// touch notes that the machine has effects that no snapshot holds.
func (p *partition) touch(e *entry, offset, ms int64) {
	if e.firstDirty < 0 {
		e.firstDirty, e.firstDirtyMS = offset, ms
		p.dirty.push(e)
	}
	p.due.set(e)
}

func (p *partition) emitJudgements(key []byte, traceparent []byte, emit emitter) {
	for i := range p.out.Windows {
		w := &p.out.Windows[i]
		p.count.windows++
		p.windowID = w.AppendID(p.windowID[:0])
		p.scratch = w.AppendTo(p.scratch[:0])
		emit(p.record(topic.Windows, topic.TypeWindow, key, p.scratch, string(p.windowID), traceparent))
		p.committing = p.export.Append(p.committing, w)
	}
	for _, a := range p.out.Anomalies {
		p.count.anomalies++
		p.scratch, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(p.scratch[:0], a)
		emit(p.record(topic.Anomalies, topic.TypeAnomaly, key, p.scratch, a.AnomalyId, traceparent))
	}
	for _, c := range p.out.Coverage {
		p.count.coverage++
		p.scratch, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(p.scratch[:0], c)
		emit(p.record(topic.Coverage, topic.TypeCoverage, key, p.scratch, c.EquipmentId+"/"+strconv.FormatInt(c.AtMs, 10), traceparent))
	}
}

func (p *partition) record(t, typ string, key, value []byte, id string, traceparent []byte) *kgo.Record {
	h := make([]kgo.RecordHeader, 2, 3)
	h[0] = kgo.RecordHeader{Key: topic.HeaderType, Value: []byte(typ)}
	h[1] = kgo.RecordHeader{Key: topic.HeaderID, Value: []byte(id)}
	if len(traceparent) > 0 {
		h = append(h, kgo.RecordHeader{Key: topic.HeaderTraceParent, Value: traceparent})
	}
	return &kgo.Record{Topic: t, Partition: p.id, Key: p.arena.copy(key), Value: p.arena.copy(value), Headers: h}
}

// replayFrom is the smallest offset whose effect is in no snapshot.
func (p *partition) replayFrom() int64 {
	if e := p.dirty.head(); e != nil {
		return e.firstDirty
	}
	return p.next
}

func (p *partition) String() string { return topic.Frames + "[" + strconv.Itoa(int(p.id)) + "]" }

// queue is a FIFO of dirty machines.
type queue struct {
	list []*entry
	at   int
}

func (q *queue) push(e *entry) { q.list = append(q.list, e) }

func (q *queue) head() *entry {
	if q.at == len(q.list) {
		return nil
	}
	return q.list[q.at]
}

// remove takes an entry out that was pushed lately, and with it none of the order.
func (q *queue) remove(e *entry) {
	for i := len(q.list) - 1; i >= q.at; i-- {
		if q.list[i] == e {
			q.list = slices.Delete(q.list, i, i+1)
			return
		}
	}
}

func (q *queue) pop() {
	q.list[q.at] = nil
	q.at++
	if q.at == len(q.list) {
		q.list, q.at = q.list[:0], 0
	} else if q.at > 1024 && q.at > len(q.list)/2 {
		n := copy(q.list, q.list[q.at:])
		clear(q.list[n:])
		q.list, q.at = q.list[:n], 0
	}
}
