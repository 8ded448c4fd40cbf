package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// CaseFormat is the version of eventv1.Case that is written and read.
const CaseFormat = 1

const (
	// keeperQueue bounds the openings that wait: some megabytes.
	keeperQueue = 20_000
	// keeperGap is how many records of the state's topic are read rather than jumped over between two snapshots.
	keeperGap = 2_000
	// keeperFetch is less than a restore asks for: mostly it is one snapshot that is wanted.
	keeperFetch    = 1 << 20
	keeperBuffered = 32 << 20
	keeperTimeout  = 30 * time.Second
	keeperClose    = 2 * time.Second
)

// keeper copies what was known of a machine before an episode from the state's topic, where compaction will soon remove it, to the cases'. It works after the
// commit and beside it: what it does is in no transaction, nothing waits for it, and what it cannot do is counted and logged. While nothing opens it holds
// no connection.
type keeper struct {
	base    []kgo.Opt
	build   string
	metrics *instruments
	log     *zap.Logger

	mu    sync.Mutex
	queue []opening
	wake  chan struct{}
}

func newKeeper(base []kgo.Opt, build string, m *instruments, log *zap.Logger) *keeper {
	return &keeper{base: base, build: build, metrics: m, log: log, wake: make(chan struct{}, 1)}
}

// offer never blocks.
func (k *keeper) offer(list []opening) {
	if len(list) == 0 {
		return
	}
	k.mu.Lock()
	n := min(len(list), keeperQueue-len(k.queue))
	k.queue = append(k.queue, list[:n]...)
	k.mu.Unlock()
	if n < len(list) {
		k.metrics.casesDropped.Add(len(list) - n)
		k.log.Warn("more episodes open than cases can be kept: these cannot be replayed", zap.Int("episodes", len(list)-n))
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) take() []opening {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.queue
	k.queue = nil
	return out
}

// run keeps cases until ctx ends, and for a moment longer what waits then.
func (k *keeper) run(ctx context.Context) {
	for {
		select {
		case <-k.wake:
		case <-ctx.Done():
		}
		bounded, cancel := drain(ctx, keeperTimeout)
		k.keep(bounded, k.take())
		cancel()
		if ctx.Err() != nil {
			return
		}
	}
}

// keep writes a case for each opening.
func (k *keeper) keep(ctx context.Context, list []opening) {
	if len(list) == 0 {
		return
	}
	slices.SortStableFunc(list, func(a, b opening) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.stateAt, b.stateAt))
	})
	r := &reader{base: k.base, fetch: keeperFetch}
	defer r.close()
	cl, err := kgo.NewClient(append(slices.Clone(k.base),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(maxMessage), kgo.MaxBufferedBytes(keeperBuffered),
		kgo.RecordDeliveryTimeout(keeperTimeout), kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()))...)
	if err != nil {
		k.failed(len(list), err)
		return
	}
	defer kafka.CloseWithin(keeperClose, k.log, cl.Close)
	w := &caseWriter{cl: cl, build: k.build}
	for len(list) > 0 {
		n := together(list)
		gone, err := k.copy(ctx, r, w, list[:n])
		k.metrics.casesMissing.Add(gone)
		if err != nil {
			k.failed(n, err)
		}
		list = list[n:]
	}
	if err := errors.Join(cl.Flush(ctx), w.failed()); err != nil {
		k.failed(w.count(), err)
		return
	}
	k.metrics.casesKept.Add(w.count())
}

func (k *keeper) failed(n int, err error) {
	if n == 0 {
		return
	}
	k.metrics.casesFailed.Add(n)
	k.log.Warn("cases are not kept: these episodes cannot be replayed", zap.Int("episodes", n), zap.Error(err))
}

// together is how many openings from the first on are read in one go.
func together(list []opening) int {
	n := 1
	for n < len(list) && list[n].partition == list[0].partition && list[0].stateAt >= 0 && list[n].stateAt-list[n-1].stateAt <= keeperGap {
		n++
	}
	return n
}

// copy writes the cases of openings whose snapshots stand near each other. gone is how many of those are not there any more.
func (k *keeper) copy(ctx context.Context, r *reader, w *caseWriter, list []opening) (gone int, err error) {
	if list[0].stateAt < 0 {
		w.write(ctx, &list[0], nil, 0, "")
		return 0, nil
	}
	type piece struct{ of, part int }
	wanted := map[int64][]piece{} // by offset: episodes may begin with the same snapshot
	end := int64(0)
	for i := range list {
		for part := range list[i].parts {
			at := list[i].stateAt + int64(part)
			wanted[at] = append(wanted[at], piece{i, part})
			end = max(end, at+1)
		}
	}
	found := make([]int, len(list))
	err = r.read(ctx, topic.State, list[0].partition, list[0].stateAt, end, func(rec *kgo.Record) error {
		for _, p := range wanted[rec.Offset] {
			o := &list[p.of]
			if string(rec.Key) != partKey(o.machine, p.part) {
				continue
			}
			state := new(eventv1.MachineSnapshot)
			if err := proto.Unmarshal(rec.Value, state); err != nil {
				return fmt.Errorf("snapshot at offset %d: %w", rec.Offset, err)
			}
			w.write(ctx, o, state, p.part, "")
			found[p.of]++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("%s[%d]: %w", topic.State, list[0].partition, err)
	}
	for i := range list {
		if found[i] != list[i].parts {
			gone++
			w.write(ctx, &list[i], nil, 0, fmt.Sprintf("the state at offset %d of %s was compacted before it could be kept", list[i].stateAt, topic.State))
		}
	}
	return gone, nil
}

// caseWriter produces cases and remembers what became of them.
type caseWriter struct {
	cl    *kgo.Client
	build string

	mu    sync.Mutex
	wrote int
	err   error
}

func (w *caseWriter) write(ctx context.Context, o *opening, state *eventv1.MachineSnapshot, part int, missing string) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(&eventv1.Case{
		Format: CaseFormat, EpisodeId: o.episode, EquipmentId: o.machine, Partition: o.partition, OpenedOffset: o.offset, OpenedAtMs: o.ms,
		ReplayFrom: o.from, Config: o.in.Message(), Build: w.build, StateOffset: o.stateAt, State: state, Part: uint32(part), Missing: missing,
	})
	w.mu.Lock()
	w.err = errors.Join(w.err, err)
	if part == 0 && missing == "" {
		w.wrote++
	}
	w.mu.Unlock()
	w.cl.Produce(ctx, &kgo.Record{
		Topic: topic.Cases, Partition: o.partition, Key: []byte(o.machine), Value: value,
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeCase)}, {Key: topic.HeaderID, Value: []byte(o.episode)}},
	}, func(_ *kgo.Record, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err == nil { // the first says it
			w.err = err
		}
	})
}

func (w *caseWriter) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrote
}

func (w *caseWriter) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
