// Package intake is what a frame goes through whatever way it came in: decode, admission, validation, Kafka.
package intake

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/telemetry"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/producer"
)

// Config holds the limits of a single frame.
type Config struct {
	MaxFrameBytes int           `mapstructure:"max_frame_bytes" doc:"Most bytes of one decoded frame."`
	MaxValues     int           `mapstructure:"max_values" doc:"Most values (sensors x samples) of one frame."`
	MaxFuture     time.Duration `mapstructure:"max_future" doc:"How far a sample may lie ahead of this machine's clock."`
}

// DefaultConfig holds the limits that the contracts state.
func DefaultConfig() Config {
	return Config{MaxFrameBytes: 8 << 20, MaxValues: 30_000, MaxFuture: 5 * time.Minute}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.MaxFrameBytes < 64 || c.MaxFrameBytes > 8<<20:
		return errors.New("max_frame_bytes: must be in 64..8388608, which is what the topic takes")
	case c.MaxValues < 1 || c.MaxValues > 1_000_000:
		return errors.New("max_values: must be in 1..1000000")
	case c.MaxFuture < 0:
		return errors.New("max_future: must not be negative")
	}
	return nil
}

// How long a sender is asked to wait when there is no better number.
const (
	retryOverload = 1 * time.Second
	retryKafka    = 2 * time.Second
	retryFull     = 1 * time.Minute // somebody has to raise a limit
)

const notReached = "Kafka has not been reached yet"

// Intake is safe for concurrent use.
type Intake struct {
	cfg      Config
	timeout  time.Duration
	limiter  *admission.Limiter
	schemas  *schema.Registry
	producer *producer.Producer
	tracer   trace.Tracer
	metrics  *Metrics
	log      *zap.Logger
	now      func() time.Time

	frames sync.Pool // *frame.Frame
}

// New puts the parts together. timeout is how long Kafka may take.
func New(cfg Config, timeout time.Duration, l *admission.Limiter, s *schema.Registry, p *producer.Producer, tp trace.TracerProvider, m *Metrics, log *zap.Logger) *Intake {
	return &Intake{
		cfg: cfg, timeout: timeout, limiter: l, schemas: s, producer: p, metrics: m, log: log, now: time.Now,
		tracer: tp.Tracer("github.com/tocsin-io/tocsin/services/ingest-gateway"),
		frames: sync.Pool{New: func() any { return new(frame.Frame) }},
	}
}

// Metrics are the counters of this intake, for receivers to add to.
func (in *Intake) Metrics() *Metrics { return in.metrics }

// Tracer is for the receivers' own spans.
func (in *Intake) Tracer() trace.Tracer { return in.tracer }

// MaxFrameBytes is the most bytes that a decoded frame may have.
func (in *Intake) MaxFrameBytes() int { return in.cfg.MaxFrameBytes }

// MaxValues is the most values that a frame may have.
func (in *Intake) MaxValues() int { return in.cfg.MaxValues }

// Submit takes the bytes of one SensorFrame, which must not be changed any more: they are what goes to Kafka. It does not
// wait for Kafka; it may wait for the schema registry. ctx carries the trace and bounds that wait only: a frame that was
// handed to Kafka goes on when its sender has gone.
//
// It is for a frame that comes alone; several go through a Session.
func (in *Intake) Submit(ctx context.Context, who *admission.Identity, raw []byte) *Ticket {
	return in.submit(ctx, who, raw, nil)
}

func (in *Intake) submit(ctx context.Context, who *admission.Identity, raw []byte, s *Session) *Ticket {
	f := in.frames.Get().(*frame.Frame)
	defer in.release(f)
	in.metrics.bytes.Add(len(raw))
	o := in.inOrder(s, f, raw)
	if o.Cause == Taken {
		o = in.admit(ctx, who, f, raw)
	}
	if o.Cause != Taken {
		if o.again() {
			s.hold(&o, in.now())
		}
		return in.refused(o)
	}
	return in.produce(ctx, f, raw, s)
}

// inOrder refuses what follows a refused frame of its machine. That costs nothing of the sender's rate: it has to send it again.
func (in *Intake) inOrder(s *Session, f *frame.Frame, raw []byte) (o Outcome) {
	if s == nil || s.holding.Load() == 0 || len(raw) > in.cfg.MaxFrameBytes || f.UnmarshalLimit(raw, in.cfg.MaxValues) != nil {
		return o
	}
	if after, yes := s.behind(f, in.now()); yes {
		o.identify(f)
		o.Cause, o.RetryAfter = Behind, after
		o.Reason = "an earlier frame of this machine has to be sent again first"
	}
	return o
}

// Refuse makes the ticket of a frame that a receiver could not turn into a SensorFrame. Its bytes count against the
// sender's rate like all others.
func (in *Intake) Refuse(who *admission.Identity, o Outcome, size int) *Ticket {
	in.metrics.bytes.Add(size)
	in.limiter.Allow([]byte(who.GatewayID()), size, in.now())
	return in.refused(o)
}

// admit tells whether the frame may go to Kafka; if so the outcome holds only its identity.
func (in *Intake) admit(ctx context.Context, who *admission.Identity, f *frame.Frame, raw []byte) Outcome {
	// A known gateway pays for rubbish too. An anonymous sender is only known by what the frame says.
	known := who.GatewayID() != ""
	if known {
		if o := in.limit([]byte(who.GatewayID()), len(raw)); o.Cause != Taken {
			if f.UnmarshalLimit(raw, in.cfg.MaxValues) == nil { // only to say which frame it was
				o.identify(f)
			}
			return o
		}
	}
	if len(raw) > in.cfg.MaxFrameBytes {
		return Outcome{Cause: TooLarge, Reason: fmt.Sprintf("frame has %d bytes, at most %d are allowed", len(raw), in.cfg.MaxFrameBytes)}
	}
	if err := f.UnmarshalLimit(raw, in.cfg.MaxValues); err != nil {
		var fe *frame.FieldError
		if errors.As(err, &fe) {
			return Outcome{Cause: Invalid, Field: fe.Field, Reason: fe.Reason}
		}
		return Outcome{Cause: Malformed, Field: "frame", Reason: err.Error()}
	}
	var o Outcome
	o.identify(f)
	if err := who.MaySend(f.GatewayID, f.EquipmentID); err != nil {
		return o.blame(NotAllowed, err)
	}
	if !known {
		if l := in.limit(f.GatewayID, len(raw)); l.Cause != Taken {
			l.identify(f)
			return l
		}
	}
	now := in.now()
	lim := frame.Limits{MaxValues: in.cfg.MaxValues, Now: now, MaxFuture: in.cfg.MaxFuture, SchemaSensors: -1}
	if len(f.SchemaID) > 0 {
		n, err := in.schemaSensors(ctx, f.SchemaID)
		if err != nil {
			o.Cause, o.Reason, o.RetryAfter = KafkaAway, "the schema registry cannot be read now", retryKafka
			return o
		}
		lim.SchemaSensors = n
	}
	if err := frame.Validate(f, lim); err != nil {
		return o.blame(Invalid, err)
	}
	return o
}

func (in *Intake) limit(gatewayID []byte, size int) Outcome {
	if len(gatewayID) > frame.MaxIDLength {
		gatewayID = gatewayID[:frame.MaxIDLength] // refused later; must not fill the limiter's memory before that
	}
	if wait := in.limiter.Allow(gatewayID, size, in.now()); wait > 0 {
		return Outcome{Cause: RateLimited, Reason: "this gateway sends more than its rate allows", RetryAfter: roundUp(wait)}
	}
	return Outcome{}
}

// schemaSensors is the number of sensors of the schema, 0 when there is none; an error means nobody could tell.
func (in *Intake) schemaSensors(ctx context.Context, id []byte) (int, error) {
	if s, ok := in.schemas.LookupBytes(id); ok {
		return len(s), nil
	}
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	s, err := in.schemas.Resolve(ctx, string(id))
	if errors.Is(err, schema.ErrUnknown) {
		return 0, nil
	}
	return len(s), err
}

func (in *Intake) produce(ctx context.Context, f *frame.Frame, raw []byte, s *Session) *Ticket {
	start := in.now()
	t := &Ticket{metrics: in.metrics, session: s, done: make(chan struct{}), deadline: start.Add(in.timeout)}
	t.outcome.identify(f)
	t.late = t.outcome
	t.late.Cause, t.late.RetryAfter = KafkaTimeout, retryKafka
	t.late.Reason = "Kafka has not confirmed it in time"
	if !in.producer.Usable() {
		o := t.outcome
		o.Cause, o.RetryAfter = KafkaAway, retryKafka
		o.Reason = notReached
		s.hold(&o, start)
		return in.refused(o)
	}
	id := f.AppendID(make([]byte, 0, len(f.GatewayID)+len(f.EquipmentID)+22))
	rec := &kgo.Record{
		Topic: topic.Frames,
		Key:   []byte(t.outcome.EquipmentID),
		Value: raw,
		Headers: append(make([]kgo.RecordHeader, 0, 4),
			kgo.RecordHeader{Key: topic.HeaderType, Value: typeFrame},
			kgo.RecordHeader{Key: topic.HeaderID, Value: id},
			kgo.RecordHeader{Key: topic.HeaderReceived, Value: strconv.AppendInt(make([]byte, 0, 16), start.UnixMilli(), 10)}),
	}
	ctx, span := in.tracer.Start(ctx, "frame publish", trace.WithSpanKind(trace.SpanKindProducer))
	if span.IsRecording() {
		span.SetAttributes(attribute.String("tocsin.frame.id", string(id)), attribute.Int("tocsin.frame.bytes", len(raw)))
	}
	telemetry.Inject(ctx, rec)
	in.producer.Produce(rec, func(err error) {
		o := &t.outcome
		switch {
		case err == nil:
			in.metrics.produce.UpdateDuration(start)
		case errors.Is(err, producer.ErrBusy):
			o.Cause, o.Reason, o.RetryAfter = Overloaded, err.Error(), retryOverload
		case errors.Is(err, producer.ErrTooLarge):
			o.Cause, o.Field, o.Reason = TooLarge, "frame", producer.ErrTooLarge.Error()
		default:
			// The producer logs what the brokers said; a sender can do nothing with it.
			o.Cause, o.Reason, o.RetryAfter = KafkaAway, producer.ErrUnavailable.Error(), retryKafka
		}
		if err != nil {
			span.SetStatus(codes.Error, string(o.Cause))
		}
		span.End()
		if t.tell(o.Cause) && o.again() {
			s.hold(o, in.now())
		}
		close(t.done)
	})
	return t
}

var typeFrame = []byte(topic.TypeFrame)

func (in *Intake) refused(o Outcome) *Ticket {
	in.metrics.count(o.Cause)
	return &Ticket{done: closed, outcome: o}
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// release keeps the frame's memory for the next one, unless it is out of the ordinary.
func (in *Intake) release(f *frame.Frame) {
	clear(f.Sensors) // they alias the sender's bytes, which must not be kept alive
	f.Reset()
	if cap(f.Values) > 4*in.cfg.MaxValues {
		return
	}
	in.frames.Put(f)
}

// Register makes a schema of sensors, which came in size bytes; it counts against the sender's rate as a frame does.
// The id holds when the outcome's cause is Taken.
func (in *Intake) Register(ctx context.Context, who *admission.Identity, sensors []string, size int) (string, Outcome) {
	if o := in.limit([]byte(who.GatewayID()), size); o.Cause != Taken {
		return "", o
	}
	if !in.producer.Usable() {
		return "", Outcome{Cause: KafkaAway, Reason: notReached, RetryAfter: retryKafka}
	}
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	id, err := in.schemas.Register(ctx, sensors)
	var fe *frame.FieldError
	switch {
	case err == nil:
		return id, Outcome{}
	case errors.As(err, &fe):
		return "", Outcome{Cause: Invalid, Field: fe.Field, Reason: fe.Reason}
	case errors.Is(err, schema.ErrFull):
		return "", Outcome{Cause: Overloaded, Reason: err.Error(), RetryAfter: retryFull}
	}
	in.log.Warn("register schema", zap.Error(err))
	return "", Outcome{Cause: KafkaAway, Reason: producer.ErrUnavailable.Error(), RetryAfter: retryKafka}
}

// Refusal is the outcome of a frame that was decoded in part and is refused for err.
func Refusal(f *frame.Frame, err error) *Outcome {
	var o Outcome
	o.identify(f)
	o = o.blame(Invalid, err)
	return &o
}

func (o *Outcome) identify(f *frame.Frame) {
	o.EquipmentID, o.GatewayID, o.Sequence = printable(f.EquipmentID), printable(f.GatewayID), f.Sequence
}

// printable cuts what is too long to be an id: answers must not be larger than what they answer.
func printable(id []byte) string {
	if len(id) > frame.MaxIDLength {
		id = id[:frame.MaxIDLength]
		for len(id) > 0 && id[len(id)-1]&0xc0 == 0x80 { // not in the middle of a character
			id = id[:len(id)-1]
		}
		if len(id) > 0 && id[len(id)-1] >= 0x80 {
			id = id[:len(id)-1]
		}
	}
	return string(id)
}

func (o Outcome) blame(c Cause, err error) Outcome {
	o.Cause, o.Reason = c, err.Error()
	var fe *frame.FieldError
	if errors.As(err, &fe) {
		o.Field, o.Reason = fe.Field, fe.Reason
	}
	return o
}

func roundUp(d time.Duration) time.Duration {
	return time.Duration(math.Ceil(float64(d)/float64(time.Millisecond))) * time.Millisecond
}
