package machine

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/frame"
)

// benchFrames makes frames of sensors x samples, one sample a second, that can be sent again and again with later times.
func benchFrame(sensors, samples int) *frame.Frame {
	r := rand.New(rand.NewPCG(1, 2))
	at := make([]int64, samples)
	for i := range at {
		at[i] = epoch0 + int64(i)*second
	}
	columns := make([][]float32, sensors)
	for s := range columns {
		for range samples {
			columns[s] = append(columns[s], float32(50+r.NormFloat64()))
		}
	}
	f := frameOf(1, names(sensors), at, columns)
	if sensors > 1000 {
		f.SchemaID = []byte("sha256-0123")
	}
	return f
}

type feeder struct {
	r    *rand.Rand
	f    *frame.Frame
	step int64
	m    *Machine
	out  Output
}

func newFeeder(tb testing.TB, sensors, samples int) *feeder {
	cfg := DefaultConfig()
	fd := &feeder{r: rand.New(rand.NewPCG(3, 4)), f: benchFrame(sensors, samples), step: int64(samples) * second, m: New(&cfg, "pump-1")}
	for range max(100/samples, 20) * 5 { // past the warm-up and the first allocations
		fd.send()
	}
	if fd.m.SensorCount() != sensors {
		tb.Fatal("sensors are missing")
	}
	return fd
}

func (fd *feeder) send() {
	fd.f.Sequence++
	fd.f.BaseTimeUS += fd.step
	for i := 0; i < len(fd.f.Values); i += 7 {
		fd.f.Values[i] = float32(50 + fd.r.NormFloat64())
	}
	fd.out.Reset()
	fd.m.Apply(fd.f, fd.f.Sensors, Meta{LogTimeMS: fd.f.BaseTimeUS / 1000}, &fd.out)
}

// BenchmarkApply is a frame through windows, detectors and calibration. A window of 5 s closes every five samples.
func BenchmarkApply(b *testing.B) {
	for _, c := range []struct{ sensors, samples int }{{10, 1}, {10, 12}, {25_000, 1}} {
		b.Run(fmt.Sprintf("%dx%d", c.sensors, c.samples), func(b *testing.B) {
			fd := newFeeder(b, c.sensors, c.samples)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				fd.send()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.sensors*c.samples), "ns/point")
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	fd := newFeeder(b, 10, 1)
	var buf []byte
	b.ReportAllocs()
	for range b.N {
		buf = fd.m.AppendSnapshot(buf[:0])
	}
	b.ReportMetric(float64(len(buf)), "bytes")
}

func TestApplyDoesNotAllocate(t *testing.T) {
	for _, c := range []struct{ sensors, samples int }{{10, 1}, {10, 12}, {500, 1}} {
		fd := newFeeder(t, c.sensors, c.samples)
		if n := testing.AllocsPerRun(200, fd.send); n > 0 && len(fd.out.Anomalies) == 0 {
			t.Errorf("%d x %d: %v allocations per frame", c.sensors, c.samples, n)
		}
	}
}
