package trial

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// Source gives history that is neither a file nor a topic.
type Source interface {
	// Each calls do with every sample, those of a machine in the order in which the broker received them. A sample is valid during the call only. What do returns ends it.
	Each(ctx context.Context, do func(*Sample) error) error
}

// Sample is what a machine said at one moment.
type Sample struct {
	Machine      string
	At, Received time.Time // the machine's time, the broker's
	Sensors      []string
	Values       []float32 // NaN: missing
	Qualities    []uint8   // as in frames; nil: all good
}

// sample has one judged, with ticks for the time since the machine's last.
func (r *runner) sample(ctx context.Context, s *Sample) error {
	m, err := r.machine(s.Machine)
	if err != nil {
		return err
	}
	training := s.At.Before(r.opt.From)
	if err := m.pass(ctx, s.Received, training); err != nil {
		return err
	}
	m.rows++
	f := frame.New(m.ID, "trial", uint64(m.rows), s.At, s.Sensors, s.Values)
	f.Qualities = s.Qualities
	m.value = f.AppendTo(m.value[:0])
	if !training {
		m.note(s.At)
		m.envelope(s.At, s.Sensors, s.Values)
	}
	rec := &kgo.Record{Topic: topic.Frames, Key: []byte(m.ID), Value: m.value, Timestamp: s.Received, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}}}
	return m.apply(ctx, rec, training)
}
