package table

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// frames of one shape: samples of sensors, as many as make about rows.
func frames(t testing.TB, machines, sensors, samples, rows int) []Record {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	names := make([]string, sensors)
	for i := range names {
		names[i] = fmt.Sprintf("line_7.feature_%05d", i)
	}
	var recs []Record
	for n := 0; n*sensors*samples < rows; n++ {
		f := &eventv1.SensorFrame{EquipmentId: fmt.Sprintf("m-%d", n%machines), GatewayId: "g", Sequence: uint64(n + 1), BaseTimeUs: int64(n) * 1_000_000, Sensors: names}
		for i := range samples {
			f.TimeOffsetsUs = append(f.TimeOffsetsUs, uint64(i)*10_000)
		}
		for range sensors * samples {
			f.Values = append(f.Values, float32(math.Round(rng.NormFloat64()*1000)/100))
		}
		inner, err := proto.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		value, err := proto.Marshal(&eventv1.Reading{Frame: inner, Offset: int64(n), Dispositions: []eventv1.Disposition{eventv1.Disposition_DISPOSITION_ON_TIME}})
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, Record{Offset: int64(n), Value: value})
	}
	return recs
}

// Making a file allocates, in all its life, no more than so many bytes a row beside the file itself, whatever the frames' shape: that bounds the heap, however late
// the collector comes. What is kept for the next file is bounded too.
func TestMemoryOfAFile(t *testing.T) {
	const rows = 500_000
	for _, c := range []struct {
		name                      string
		machines, sensors, sample int
		allocated, kept           float64 // bytes a row
	}{
		{"1 sample of 10 sensors", 500, 10, 1, 260, 200},
		{"12 samples of 10 sensors", 500, 10, 12, 260, 200},
		{"1 sample of 25,000 features", 2, 25_000, 1, 400, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			recs := frames(t, c.machines, c.sensors, c.sample, rows)
			var before, after, kept runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			table := newReadings(nil)
			f, err := table.Encode(t.Context(), recs, noMetadata)
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			n := float64(f.Rows)
			size := float64(len(f.Data)) / n
			f = File{}
			runtime.GC()
			runtime.ReadMemStats(&kept)
			runtime.KeepAlive(table)
			runtime.KeepAlive(recs)
			allocated := float64(after.TotalAlloc-before.TotalAlloc) / n
			left := float64(kept.HeapAlloc) - float64(before.HeapAlloc)
			t.Logf("%.0f bytes allocated a row, %.0f kept, file %.2f", allocated, left/n, size)
			if allocated > c.allocated || left/n > c.kept {
				t.Errorf("%.0f bytes allocated a row, %.0f kept; want at most %.0f and %.0f", allocated, left/n, c.allocated, c.kept)
			}
		})
	}
}
