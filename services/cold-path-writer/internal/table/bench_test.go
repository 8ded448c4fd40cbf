package table

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/lake"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/colmerge"
)

// fleet makes judged frames of machines with ten slowly moving sensors each, samples apart by 5 s, interleaved as they would arrive.
func fleet(t testing.TB, machines, frames, samples int) []Record {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	sensors := []string{"bearing_temperature", "vibration_x", "vibration_y", "current_l1", "current_l2", "flow", "pressure_in", "pressure_out", "speed", "torque"}
	level := make([][]float64, machines)
	for m := range level {
		level[m] = make([]float64, len(sensors))
		for s := range level[m] {
			level[m][s] = 20 + 100*rng.Float64()
		}
	}
	var recs []Record
	for f := range frames {
		for m := range machines {
			fr := &eventv1.SensorFrame{
				EquipmentId: fmt.Sprintf("plant-a.press-%04d", m), GatewayId: fmt.Sprintf("gateway-%02d", m%20), Sequence: uint64(f + 1),
				BaseTimeUs: 1_700_000_000_000_000 + int64(f*samples)*5_000_000 + int64(m)*1000, Sensors: sensors,
			}
			for s := range sensors {
				for range samples {
					level[m][s] += rng.NormFloat64() * 0.1
					fr.Values = append(fr.Values, float32(math.Round(level[m][s]*100)/100))
				}
			}
			for i := range samples {
				fr.TimeOffsetsUs = append(fr.TimeOffsetsUs, uint64(i)*5_000_000)
			}
			b, err := proto.Marshal(fr)
			if err != nil {
				t.Fatal(err)
			}
			offset := int64(len(recs))
			ms := fr.BaseTimeUs/1000 + int64(samples)*5000 + 20
			v, err := proto.Marshal(&eventv1.Reading{Frame: b, Partition: 3, Offset: offset, LogAppendTimeMs: ms, Dispositions: []eventv1.Disposition{eventv1.Disposition_DISPOSITION_ON_TIME}})
			if err != nil {
				t.Fatal(err)
			}
			recs = append(recs, Record{Offset: offset, TimeMS: ms + 10, Value: v})
		}
	}
	return recs
}

func noMetadata(int64, uint64) map[string]string { return lake.Object{}.Metadata() }

// The whole of a file: decode, sort, encode, compress, read back, compare.
func BenchmarkEncodeReadings(b *testing.B) {
	for _, samples := range []int{1, 12} {
		b.Run(fmt.Sprintf("10x%d", samples), func(b *testing.B) {
			recs := fleet(b, 500, 60/samples, samples)
			readings := newReadings(nil)
			var f File
			for b.Loop() {
				var err error
				if f, err = readings.Encode(b.Context(), recs, noMetadata); err != nil {
					b.Fatal(err)
				}
			}
			rows := float64(f.Rows)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
			b.ReportMetric(float64(len(f.Data))/rows, "B/row")
		})
	}
}

// What a merge costs, an hour's files of five minutes into one: decode, merge, encode, compress, read back, compare; and the rollup of the same files.
func BenchmarkMergeReadings(b *testing.B) {
	readings := newReadings(nil).(*readings)
	recs := fleet(b, 500, 60, 5)
	var runs []colmerge.Run
	for n := len(recs) / 12; len(recs) > 0; recs = recs[n:] {
		f, err := readings.Encode(b.Context(), recs[:n], noMetadata)
		if err != nil {
			b.Fatal(err)
		}
		runs = append(runs, colmerge.Run{colmerge.Bytes(f.Data)})
	}
	minutes, _ := RollupOf("readings")
	for name, do := range map[string]func(done func(File) error) error{
		"merge": func(done func(File) error) error {
			return readings.Merge(b.Context(), runs, 8_000_000, noMetadata, done)
		},
		"rollup": func(done func(File) error) error {
			return minutes.Derive(b.Context(), runs, 8_000_000, noMetadata, done)
		},
	} {
		b.Run(name, func(b *testing.B) {
			var size int
			for b.Loop() {
				if err := do(func(f File) error { size = len(f.Data); return nil }); err != nil {
					b.Fatal(err)
				}
			}
			const rows = 500 * 60 * 5 * 10
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
			b.ReportMetric(float64(size)/rows, "B/row")
		})
	}
}
