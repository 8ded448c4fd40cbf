package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

var (
	// ErrUnknown: no schema with this id stood in the topic when Resolve was called. The frame is at fault.
	ErrUnknown = errors.New("not a registered schema")
	// ErrFull: the registry holds as many schemas as it may. Asking again does not help; an operator must raise the limits.
	ErrFull = errors.New("schema registry is full")
)

// Config bounds a registry's memory.
type Config struct {
	MaxSchemas int   `mapstructure:"max_schemas" doc:"Most schemas kept. Registering more is refused; those beyond it in the topic are passed over."`
	MaxBytes   int64 `mapstructure:"max_bytes" doc:"Most bytes of memory for the sensor names of all schemas."`
	MaxSensors int   `mapstructure:"max_sensors" doc:"Most sensors of one schema."`
}

// DefaultConfig holds some 250 schemas of 25,000 sensors, or 10,000 small ones.
func DefaultConfig() Config {
	return Config{MaxSchemas: 10_000, MaxBytes: 256 << 20, MaxSensors: 30_000}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.MaxSchemas < 1:
		return errors.New("max_schemas: must be 1 or more")
	case c.MaxBytes < 1<<10:
		return errors.New("max_bytes: must be 1024 or more")
	case c.MaxSensors < 1:
		return errors.New("max_sensors: must be 1 or more")
	}
	return nil
}

// Registry follows the registry topic and knows every schema in it. Safe for concurrent use.
//
// A schema never changes, so what is known is known for good, and a look-up of a known one costs a map access. Only an id
// that is not known asks Kafka for the topic's end; however many callers ask at once, one question is under way.
type Registry struct {
	cfg Config
	cl  *kgo.Client
	adm *kadm.Client
	log *zap.Logger

	mu       sync.RWMutex
	known    map[string][]string
	bytes    int64
	next     int64         // offset after the last record read
	moved    chan struct{} // closed and replaced when next grows
	caughtUp bool          // the end has been reached once

	refused atomic.Int64

	asks chan chan error // callers of barrier
	once sync.Once
}

// New makes a client for the registry topic. Nothing is read before Run.
func New(kcfg kafka.Config, cfg Config, log *zap.Logger) (*Registry, error) {
	opts, err := kcfg.Options(log)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(opts,
		kgo.ConsumeTopics(topic.Registry),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(8<<20),
		// Registering twice is harmless, so a bounded wait is worth more than no duplicate.
		kgo.RecordDeliveryTimeout(10*time.Second),
		kgo.AllowIdempotentProduceCancellation(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("schema registry: %w", err)
	}
	return &Registry{
		cfg: cfg, cl: cl, adm: kadm.NewClient(cl), log: log.Named("schema"),
		known: map[string][]string{}, moved: make(chan struct{}), asks: make(chan chan error),
	}, nil
}

// Close ends the client. Idempotent; calls under way fail.
func (r *Registry) Close() { r.once.Do(r.cl.Close) }

// Run follows the topic until ctx ends. It returns nil then: errors of the brokers are waited out.
func (r *Registry) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { r.answer(ctx) })
	wg.Go(func() { // learn of the end once without being asked, for Ready
		for ctx.Err() == nil && r.barrier(ctx) != nil {
			sleep(ctx, time.Second)
		}
	})
	logged := ""
	for {
		fs := r.cl.PollFetches(ctx)
		if ctx.Err() != nil || fs.IsClientClosed() {
			return nil
		}
		fs.EachError(func(_ string, _ int32, err error) {
			if s := err.Error(); s != logged {
				logged = s
				r.log.Warn("reading the schema registry", zap.Error(err))
			}
		})
		fs.EachRecord(r.take)
	}
}

// Ready is nil once the topic has been read to its end.
func (r *Registry) Ready() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.caughtUp {
		return errors.New("schema registry has not been read to its end yet")
	}
	return nil
}

// Refused is the number of records that were passed over because they hold no schema, or not the one that they are called.
// There are no dead letters of them: every registry reads the whole topic at each start and would write the same again, and
// the topic is compacted, so the record itself stays there to be looked at.
func (r *Registry) Refused() int64 { return r.refused.Load() }

// Len is the number of schemas known.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.known)
}

// Lookup is Resolve without waiting: false may also mean not known yet. The names must not be changed.
func (r *Registry) Lookup(id string) ([]string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.known[id]
	return s, ok
}

// LookupBytes is Lookup without making a string of id.
func (r *Registry) LookupBytes(id []byte) ([]string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.known[string(id)]
	return s, ok
}

// Resolve gives the sensors of the schema. If the id is not known it waits until everything that stood in the topic
// when Resolve was called has been read, and only then says ErrUnknown; any other error means that Kafka could not be asked
// before ctx ended. It needs Run. The names must not be changed.
func (r *Registry) Resolve(ctx context.Context, id string) ([]string, error) {
	if s, ok := r.Lookup(id); ok {
		return s, nil
	}
	if !WellFormed(id) {
		return nil, ErrUnknown
	}
	if err := r.barrier(ctx); err != nil {
		return nil, fmt.Errorf("resolve schema %q: %w", id, err)
	}
	if s, ok := r.Lookup(id); ok {
		return s, nil
	}
	return nil, ErrUnknown
}

// Register makes the schema durable (acks=all) and returns its id. Doing it again is harmless and free. Errors:
// *frame.FieldError for names that cannot be a schema, ErrFull, else Kafka's.
func (r *Registry) Register(ctx context.Context, sensors []string) (string, error) {
	if len(sensors) > r.cfg.MaxSensors {
		return "", &frame.FieldError{Field: "sensors", Reason: fmt.Sprintf("%d sensors, at most %d are allowed", len(sensors), r.cfg.MaxSensors)}
	}
	names := make([][]byte, len(sensors))
	for i, s := range sensors {
		names[i] = []byte(s)
	}
	if err := frame.CheckSensors(names); err != nil {
		return "", err
	}
	id := ID(sensors)
	if _, ok := r.Lookup(id); ok {
		return id, nil
	}
	if !r.room(sensors) {
		return "", ErrFull
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(&eventv1.FrameSchema{SchemaId: id, Sensors: sensors})
	if err != nil {
		return "", fmt.Errorf("encode schema: %w", err)
	}
	rec := &kgo.Record{
		Topic: topic.Registry, Key: []byte(id), Value: value,
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeSchema)}, {Key: topic.HeaderID, Value: []byte(id)}},
	}
	if err := kafka.ProduceSync(ctx, r.cl, rec); err != nil {
		return "", fmt.Errorf("register schema: %w", err)
	}
	r.add(id, sensors) // known here at once, elsewhere when the topic has brought it
	return id, nil
}

// take learns from one record. What is not a schema is passed over: nobody can ask for it.
func (r *Registry) take(rec *kgo.Record) {
	if t := topic.Type(rec); len(rec.Value) > 0 && (t == "" || t == topic.TypeSchema) {
		if err := r.learn(rec); err != nil {
			r.refused.Add(1)
			r.log.Warn("schema passed over", zap.Int64("offset", rec.Offset), zap.ByteString("key", rec.Key), zap.Error(err))
		}
	}
	r.mu.Lock()
	r.next = rec.Offset + 1
	close(r.moved)
	r.moved = make(chan struct{})
	r.mu.Unlock()
}

func (r *Registry) learn(rec *kgo.Record) error {
	if _, ok := r.LookupBytes(rec.Key); ok {
		return nil
	}
	var s eventv1.FrameSchema
	if err := proto.Unmarshal(rec.Value, &s); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if len(s.Sensors) == 0 || len(s.Sensors) > r.cfg.MaxSensors {
		return fmt.Errorf("%d sensors are not in 1..%d", len(s.Sensors), r.cfg.MaxSensors)
	}
	if id := ID(s.Sensors); id != s.SchemaId || id != string(rec.Key) {
		return fmt.Errorf("content has the id %q, not %q", id, s.SchemaId)
	}
	if !r.add(s.SchemaId, s.Sensors) {
		return ErrFull
	}
	return nil
}

// size is what the names cost in memory: their bytes and a string header each.
func size(sensors []string) int64 {
	n := int64(16 * len(sensors))
	for _, s := range sensors {
		n += int64(len(s))
	}
	return n
}

func (r *Registry) room(sensors []string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.known) < r.cfg.MaxSchemas && r.bytes+size(sensors) <= r.cfg.MaxBytes
}

func (r *Registry) add(id string, sensors []string) bool {
	// One backing array for all names: 25,000 small strings would cost as many allocations to keep.
	all := strings.Join(sensors, "")
	own := make([]string, len(sensors))
	at := 0
	for i, s := range sensors {
		own[i] = all[at : at+len(s)]
		at += len(s)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.known[id]; ok {
		return true
	}
	if len(r.known) >= r.cfg.MaxSchemas || r.bytes+size(own) > r.cfg.MaxBytes {
		return false
	}
	r.known[id] = own
	r.bytes += size(own)
	return true
}

// barrier waits until what stands in the topic now has been read.
func (r *Registry) barrier(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case r.asks <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer serves barriers in rounds: those who came while a question was under way share the next one, because the
// answer to the one under way may be older than their call.
func (r *Registry) answer(ctx context.Context) {
	var waiting []chan error
	var round chan struct{} // closed when the round under way is over; nil: none is
	start := func() {
		done, served := make(chan struct{}), waiting
		round, waiting = done, nil
		go func() {
			defer close(done)
			err := r.catchUp(ctx)
			for _, w := range served {
				w <- err
			}
		}()
	}
	for {
		select {
		case w := <-r.asks:
			waiting = append(waiting, w)
			if round == nil {
				start()
			}
		case <-round:
			round = nil
			if len(waiting) > 0 {
				start()
			}
		case <-ctx.Done():
			if round != nil {
				<-round
			}
			for _, w := range waiting {
				w <- ctx.Err()
			}
			return
		}
	}
}

// catchUp asks for the topic's end and waits until it has been read.
func (r *Registry) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ends, err := r.adm.ListEndOffsets(ctx, topic.Registry)
	if err != nil {
		return fmt.Errorf("end of %s: %w", topic.Registry, err)
	}
	end, ok := ends.Lookup(topic.Registry, 0)
	if !ok {
		return fmt.Errorf("end of %s: the topic does not exist", topic.Registry)
	}
	if end.Err != nil {
		return fmt.Errorf("end of %s: %w", topic.Registry, end.Err)
	}
	for {
		r.mu.Lock()
		if r.next >= end.Offset {
			r.caughtUp = true
			r.mu.Unlock()
			return nil
		}
		moved := r.moved
		r.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("reading %s up to %d: %w", topic.Registry, end.Offset, ctx.Err())
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
