package frame

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// shape is a size of frame that the system is built for.
type shape struct {
	sensors, samples int
	schema, coded    bool
}

var shapes = []shape{
	{sensors: 10, samples: 1},
	{sensors: 10, samples: 12},
	{sensors: 10, samples: 12, coded: true},
	{sensors: 25_000, samples: 1},
	{sensors: 25_000, samples: 1, schema: true},
}

func (s shape) String() string {
	name := fmt.Sprintf("%dx%d", s.sensors, s.samples)
	if s.schema {
		name += "-schema"
	}
	if s.coded {
		name += "-coded"
	}
	return name
}

func (s shape) limits(now time.Time) Limits {
	lim := DefaultLimits(now)
	lim.SchemaSensors = s.sensors
	return lim
}

var testTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// frame builds a valid frame of the shape, of no more than most sensors when most > 0.
func (s shape) frame(most int) *Frame {
	n := s.sensors
	if most > 0 {
		n = min(n, most)
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("bearing %d/temp", i)
	}
	values := make([]float32, n*s.samples)
	for i := range values {
		values[i] = float32(i) * 1.5
	}
	f := New("press-0042", "gw-7", 123456, testTime, names, values)
	if s.samples > 1 {
		for i := range s.samples {
			f.OffsetsUS = append(f.OffsetsUS, uint64(i)*5_000_000)
		}
	}
	if s.schema {
		f.Sensors, f.SchemaID = nil, []byte("sha256-0123456789abcdef0123456789abcdef")
	}
	if s.coded {
		for i := range values {
			f.Qualities = append(f.Qualities, uint8(1+i%3))
		}
	}
	return f
}

// The hot path must not allocate once its slices have grown: this fails when it does.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.String(), func(t *testing.T) {
			src := s.frame(0).AppendTo(nil)
			lim := s.limits(testTime)
			var f Frame
			var dst, id []byte
			round := func() {
				if err := f.UnmarshalLimit(src, lim.MaxValues); err != nil {
					t.Fatal(err)
				}
				if err := Validate(&f, lim); err != nil {
					t.Fatal(err)
				}
				dst = f.AppendTo(dst[:0])
				id = f.AppendID(id[:0])
			}
			round()
			if n := testing.AllocsPerRun(20, round); n != 0 {
				t.Fatalf("%v allocations per frame, want none", n)
			}
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for _, s := range shapes {
		src := s.frame(0).AppendTo(nil)
		points := float64(s.sensors * s.samples)
		b.Run(s.String(), func(b *testing.B) {
			var f Frame
			b.ReportAllocs()
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				if err := f.Unmarshal(src); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/points, "ns/point")
		})
		b.Run(s.String()+"/generated", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				var m eventv1.SensorFrame
				if err := proto.Unmarshal(src, &m); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/points, "ns/point")
		})
	}
}

func BenchmarkAppendTo(b *testing.B) {
	for _, s := range shapes {
		f := s.frame(0)
		b.Run(s.String(), func(b *testing.B) {
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				dst = f.AppendTo(dst[:0])
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}

func BenchmarkValidate(b *testing.B) {
	for _, s := range shapes {
		f := s.frame(0)
		lim := s.limits(testTime)
		b.Run(s.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Validate(f, lim); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
