// Package producer writes accepted frames to Kafka and tells when Kafka has them.
//
// Memory is bounded: what is not yet acknowledged counts against a budget of bytes and records, and a frame that does
// not fit is refused at once instead of waiting. Every record gets exactly one verdict, nil only after all in-sync replicas have it.
package producer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Verdicts other than nil. Everything but ErrTooLarge is worth trying again.
var (
	ErrBusy        = errors.New("too much is waiting for Kafka already")
	ErrUnavailable = errors.New("Kafka cannot take it now")
	ErrTooLarge    = errors.New("larger than Kafka takes")
)

// Config of the Kafka producer.
type Config struct {
	Timeout            time.Duration `mapstructure:"timeout" doc:"How long Kafka may take for a frame before its sender is told to send it again."`
	Linger             time.Duration `mapstructure:"linger" doc:"How long a partition's batch waits for more frames. More: fewer, larger writes."`
	Compression        string        `mapstructure:"compression" doc:"none, snappy, lz4 or zstd."`
	MaxInFlightBytes   int64         `mapstructure:"max_in_flight_bytes" doc:"Most bytes of frames waiting for Kafka; beyond it frames are answered 503 with Retry-After."`
	MaxInFlightRecords int64         `mapstructure:"max_in_flight_records" doc:"Most frames waiting for Kafka; beyond it frames are answered 503 with Retry-After."`
	DrainTimeout       time.Duration `mapstructure:"drain_timeout" doc:"How long frames under way may take when the service stops."`
}

// DefaultConfig waits 10 s for Kafka and holds at most 128 MiB.
func DefaultConfig() Config {
	return Config{
		Timeout: 10 * time.Second, Linger: 2 * time.Millisecond, Compression: "lz4",
		MaxInFlightBytes: 128 << 20, MaxInFlightRecords: 200_000, DrainTimeout: 5 * time.Second,
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Timeout < time.Second:
		return errors.New("timeout: must be 1s or more")
	case c.Linger < 0 || c.Linger > time.Second:
		return errors.New("linger: must be in 0..1s")
	case c.MaxInFlightBytes < 1:
		return errors.New("max_in_flight_bytes: must be 1 or more")
	case c.MaxInFlightRecords < 1:
		return errors.New("max_in_flight_records: must be 1 or more")
	case c.DrainTimeout <= 0:
		return errors.New("drain_timeout: must be positive")
	}
	if _, err := c.codec(); err != nil {
		return err
	}
	return nil
}

func (c Config) codec() (kgo.CompressionCodec, error) {
	switch c.Compression {
	case "none":
		return kgo.NoCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.CompressionCodec{}, fmt.Errorf("compression: %q is not none, snappy, lz4 or zstd", c.Compression)
}

// Producer is safe for concurrent use.
type Producer struct {
	cfg  Config
	kcfg kafka.Config
	log  *zap.Logger

	mu    sync.RWMutex // held while the client is exchanged
	cl    *kgo.Client
	limit int64 // bytes of a batch that Kafka takes, as far as is known

	records, bytes atomic.Int64
	once           sync.Once
	recheck        chan struct{} // Kafka takes less than limit

	topics  atomic.Bool             // they exist, with the right partitions
	trouble atomic.Pointer[trouble] // nil while Kafka is believed to take records
}

// trouble is why Kafka is believed not to take records.
type trouble struct {
	err   error
	until time.Time // a broker that answers a ping disproves it only after this
}

// New makes the client. It does not connect: a missing broker shows in Ready.
func New(cfg Config, kcfg kafka.Config, log *zap.Logger) (*Producer, error) {
	p := &Producer{cfg: cfg, kcfg: kcfg, log: log.Named("producer"), limit: maxBatch, recheck: make(chan struct{}, 1)}
	var err error
	if p.cl, err = p.client(maxBatch); err != nil {
		return nil, err
	}
	p.trouble.Store(&trouble{err: errors.New("not connected yet")})
	return p, nil
}

// client makes one whose batches have at most limit bytes.
func (p *Producer) client(limit int64) (*kgo.Client, error) {
	codec, err := p.cfg.codec()
	if err != nil {
		return nil, err
	}
	opts, err := p.kcfg.Options(p.log)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(append(opts,
		kgo.RequiredAcks(kgo.AllISRAcks()), // with idempotence, which is the client's default
		kgo.ProducerLinger(p.cfg.Linger),
		kgo.ProducerBatchCompression(codec, kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(limit)),
		kgo.MaxBufferedRecords(int(p.cfg.MaxInFlightRecords)+1), // our own budget is the tighter one
		kgo.UnknownTopicRetries(-1),                             // topics are made by Run; until then this is "not now"
		kgo.RecordDeliveryTimeout(p.cfg.Timeout),
		// A record whose fate is unknown is given up at the timeout rather than held for ever: its sender sends
		// it again under the same identity, and the processor counts it once.
		kgo.AllowIdempotentProduceCancellation(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("producer: %w", err)
	}
	return cl, nil
}

// Produce takes the record, which must not be changed any more, and calls done exactly once: with nil when all in-sync
// replicas have it, or an error that wraps one of the verdicts. done must not block. Produce never waits.
func (p *Producer) Produce(r *kgo.Record, done func(error)) {
	if !p.mu.TryRLock() { // the client is being exchanged
		done(ErrBusy)
		return
	}
	defer p.mu.RUnlock()
	size := int64(len(r.Value) + len(r.Key))
	limit := p.limit
	if p.records.Add(1) > p.cfg.MaxInFlightRecords {
		p.records.Add(-1)
		done(ErrBusy)
		return
	}
	if p.bytes.Add(size) > p.cfg.MaxInFlightBytes {
		p.bytes.Add(-size)
		p.records.Add(-1)
		done(ErrBusy)
		return
	}
	p.cl.TryProduce(context.Background(), r, func(_ *kgo.Record, err error) {
		p.records.Add(-1)
		p.bytes.Add(-size)
		done(p.verdict(err, wireSize(r), limit))
	})
}

// verdict of a record of size bytes, in a batch of at most limit.
func (p *Producer) verdict(err error, size, limit int64) error {
	switch {
	case err == nil:
		p.fine()
		return nil
	case errors.Is(err, kgo.ErrMaxBuffered):
		return ErrBusy
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		if size > limit {
			return fmt.Errorf("%w: %w", ErrTooLarge, err)
		}
		// It would have fitted: its batch did not, because Kafka takes less than we know. The record is not to blame.
		select {
		case p.recheck <- struct{}{}:
		default:
		}
	}
	// Brokers may answer pings and refuse writes (too few replicas): let the next writes say, or some time pass.
	p.failing(err, time.Now().Add(p.cfg.Timeout))
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// InFlight is what waits for Kafka now.
func (p *Producer) InFlight() (records, bytes int64) { return p.records.Load(), p.bytes.Load() }

// Ready is nil while Kafka is believed to take records, else the reason why not.
func (p *Producer) Ready() error {
	if t := p.trouble.Load(); t != nil {
		return fmt.Errorf("kafka: %w", t.err)
	}
	return nil
}

// Usable tells whether the topics were there once. Before that nothing can be produced.
func (p *Producer) Usable() bool { return p.topics.Load() }

func (p *Producer) fine() {
	if p.trouble.Load() != nil && p.trouble.Swap(nil) != nil {
		p.log.Info("kafka takes frames")
	}
}

func (p *Producer) failing(err error, until time.Time) {
	was := p.trouble.Swap(&trouble{err: err, until: until})
	if was == nil || was.err.Error() != err.Error() { // once for each reason
		p.log.Warn("kafka does not take frames", zap.Error(err))
	}
}

// Run makes the topics, however long that takes, and then watches the brokers so that Ready tells the truth
// also when nobody sends. It returns nil when ctx ends, and kafka.ErrTopicShape when a topic cannot be used.
func (p *Producer) Run(ctx context.Context) error {
	err := kafka.AwaitTopics(ctx, p.cl, p.kcfg, func(err error) { p.failing(err, time.Time{}) }, topic.Specs(topic.Frames, topic.Registry)...)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	p.adapt(ctx)
	p.topics.Store(true)
	p.fine()
	every := time.NewTicker(2 * time.Second)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.recheck:
			p.adapt(ctx)
			continue
		case <-every.C:
		}
		err := p.ping(ctx)
		switch t := p.trouble.Load(); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			p.failing(err, time.Time{})
		case t != nil && time.Now().After(t.until):
			p.fine()
		}
	}
}

func (p *Producer) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return p.current().Ping(ctx)
}

// Drain waits until everything under way has its verdict, at most DrainTimeout.
func (p *Producer) Drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DrainTimeout)
	defer cancel()
	if err := p.current().Flush(ctx); err != nil {
		n, _ := p.InFlight()
		return fmt.Errorf("%d frames were not written when the drain ended; their senders were not told otherwise: %w", n, err)
	}
	return nil
}

// Close ends the client; what is under way fails. Idempotent.
func (p *Producer) Close() { p.once.Do(func() { p.current().Close() }) }
