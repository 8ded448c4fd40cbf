package table

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

type fixedSchemas map[string][]string

func (s fixedSchemas) Sensors(_ context.Context, id string) ([]string, error) { return s[id], nil }

// plainRows is what the table is defined to hold, made the obvious way from the generated code.
func plainRows(r *eventv1.Reading, schemas fixedSchemas) []string {
	var f eventv1.SensorFrame
	if err := proto.Unmarshal(r.Frame, &f); err != nil {
		panic(err)
	}
	sensors := f.Sensors
	if f.SchemaId != "" {
		sensors = schemas[f.SchemaId]
	}
	samples := max(1, len(f.TimeOffsetsUs))
	var out []string
	for s, sensor := range sensors {
		for t := range samples {
			i := s*samples + t
			ts := f.BaseTimeUs
			if len(f.TimeOffsetsUs) > 0 {
				ts += int64(f.TimeOffsetsUs[t])
			}
			quality, validity, disposition := 0, 0, 0
			if len(f.Qualities) > 0 {
				quality = int(f.Qualities[i])
			}
			if len(r.Validities) > 0 {
				validity = int(r.Validities[i])
			}
			if n := len(r.Dispositions); n == 1 {
				disposition = int(r.Dispositions[0])
			} else if n > 1 {
				disposition = int(r.Dispositions[t])
			}
			value := "null"
			if v := f.Values[i]; v == v && quality != 4 {
				value = fmt.Sprint(v)
			} else {
				quality = 4
			}
			out = append(out, fmt.Sprintln(f.EquipmentId, ts, sensor, value, qualityNames[quality], validityNames[validity], dispositionNames[disposition],
				disposition == 2 || disposition == 4, f.GatewayId, f.Sequence, t, r.LogAppendTimeMs*1000, r.Partition, r.Offset))
		}
	}
	return out
}

func printed(r Reading) string {
	value := "null"
	if r.Value != nil {
		value = fmt.Sprint(*r.Value)
	}
	return fmt.Sprintln(r.EquipmentID, r.TS, r.Sensor, value, r.Quality, r.Validity, r.Disposition, r.Late, r.GatewayID, r.Sequence, r.Sample, r.LogAppendTime, r.Partition, r.Offset)
}

// drawReading makes any judged frame, with ties in time, NaN, and codes present or not.
func drawReading(t *rapid.T, schemas fixedSchemas, offset int64) *eventv1.Reading {
	ids := rapid.SampledFrom([]string{"m-1", "m-2", "m-10"})
	f := &eventv1.SensorFrame{
		EquipmentId: ids.Draw(t, "machine"), GatewayId: ids.Draw(t, "gateway"), Sequence: rapid.Uint64Max(math.MaxInt64).Draw(t, "sequence"),
		BaseTimeUs: rapid.Int64Range(-3, 3).Draw(t, "base"),
	}
	sensors := schemas["wide"]
	if rapid.Bool().Draw(t, "schema") {
		f.SchemaId = "wide"
	} else {
		f.Sensors = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "aa", "", "é"}), 1, 4, rapid.ID[string]).Draw(t, "sensors")
		sensors = f.Sensors
	}
	samples := rapid.IntRange(0, 3).Draw(t, "samples")
	for i := range samples {
		f.TimeOffsetsUs = append(f.TimeOffsetsUs, uint64(i/2))
	}
	samples = max(samples, 1)
	n := len(sensors) * samples
	code := func(what string, most int32) func() int32 {
		return func() int32 { return rapid.Int32Range(0, most).Draw(t, what) }
	}
	quality, validity, disposition := code("quality", 4), code("validity", 6), code("disposition", 4)
	for range n {
		v := rapid.Float32().Draw(t, "value")
		if rapid.IntRange(0, 5).Draw(t, "nan") == 0 {
			v = float32(math.NaN())
		}
		f.Values = append(f.Values, v)
	}
	r := &eventv1.Reading{Partition: 5, Offset: offset, LogAppendTimeMs: 1000 + offset}
	if rapid.Bool().Draw(t, "qualities") {
		for range n {
			f.Qualities = append(f.Qualities, eventv1.Quality(quality()))
		}
	}
	if rapid.Bool().Draw(t, "validities") {
		for range n {
			r.Validities = append(r.Validities, eventv1.Validity(validity()))
		}
	}
	for range []int{0, 1, samples}[rapid.IntRange(0, 2).Draw(t, "dispositions")] {
		r.Dispositions = append(r.Dispositions, eventv1.Disposition(disposition()))
	}
	var err error
	if r.Frame, err = proto.Marshal(f); err != nil {
		t.Fatal(err)
	}
	return r
}

// The fast path writes exactly the rows that the plain one gives, in order; its reader finds the same hash; twice gives the same bytes.
func TestReadingsAgreeWithThePlainWay(t *testing.T) {
	schemas := fixedSchemas{"wide": {"w2", "w1", "w3"}}
	table := newReadings(schemas) // used again and again, as in life
	rapid.Check(t, func(t *rapid.T) {
		var recs []Record
		var want []string
		for i := range rapid.IntRange(1, 20).Draw(t, "frames") {
			r := drawReading(t, schemas, int64(i))
			b, err := proto.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			rec := Record{Offset: int64(i), Value: b}
			rows := plainRows(r, schemas)
			if n, err := table.Rows(context.Background(), rec); err != nil || n != int64(len(rows)) {
				t.Fatalf("counted %d rows, want %d (%v)", n, len(rows), err)
			}
			recs, want = append(recs, rec), append(want, rows...)
		}
		file, err := table.Encode(context.Background(), recs, noMetadata)
		if err != nil {
			t.Fatal(err)
		}
		again, err := table.Encode(context.Background(), recs, noMetadata)
		if err != nil || !bytes.Equal(file.Data, again.Data) {
			t.Fatalf("the same records gave other bytes (%v)", err)
		}
		rows, err := parquet.Read[Reading](bytes.NewReader(file.Data), int64(len(file.Data)))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(rows, func(a, b Reading) int {
			return cmp.Or(cmp.Compare(a.EquipmentID, b.EquipmentID), cmp.Compare(a.TS, b.TS), cmp.Compare(a.Sensor, b.Sensor), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Sample, b.Sample))
		}) {
			t.Fatal("rows are not in order")
		}
		got := make([]string, len(rows))
		for i, r := range rows {
			got[i] = printed(r)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("got\n%q\nwant\n%q", got, want)
		}
	})
}

// A change in any single cell changes the hash.
func TestReadingsHashSeesEachCell(t *testing.T) {
	table := newReadings(nil)
	recs := fleet(t, 3, 2, 2)
	file, err := table.Encode(t.Context(), recs, noMetadata)
	if err != nil {
		t.Fatal(err)
	}
	one := float32(1)
	for name, change := range map[string]func(*Reading){
		"equipment": func(r *Reading) { r.EquipmentID += "x" }, "ts": func(r *Reading) { r.TS++ }, "sensor": func(r *Reading) { r.Sensor = "x" },
		"value": func(r *Reading) { r.Value = &one }, "null": func(r *Reading) { r.Value = nil }, "quality": func(r *Reading) { r.Quality = "bad" },
		"validity": func(r *Reading) { r.Validity = "bad" }, "disposition": func(r *Reading) { r.Disposition = "quarantined" }, "late": func(r *Reading) { r.Late = true },
		"gateway": func(r *Reading) { r.GatewayID = "g" }, "sequence": func(r *Reading) { r.Sequence++ }, "sample": func(r *Reading) { r.Sample++ },
		"log time": func(r *Reading) { r.LogAppendTime++ }, "partition": func(r *Reading) { r.Partition++ }, "offset": func(r *Reading) { r.Offset++ },
	} {
		rows, err := parquet.Read[Reading](bytes.NewReader(file.Data), int64(len(file.Data)))
		if err != nil {
			t.Fatal(err)
		}
		change(&rows[17])
		var buf bytes.Buffer
		if err := parquet.Write(&buf, rows); err != nil {
			t.Fatal(err)
		}
		n, hash, err := table.Inspect(buf.Bytes())
		if err != nil || n != file.Rows || hash == file.Hash {
			t.Errorf("%s: %d rows, hash equal: %t, %v", name, n, hash == file.Hash, err)
		}
	}
}

// Damage anywhere in a file is found, and never panics.
func TestInspectFindsDamage(t *testing.T) {
	table := newReadings(nil)
	file, err := table.Encode(t.Context(), fleet(t, 3, 2, 2), noMetadata)
	if err != nil {
		t.Fatal(err)
	}
	missed := 0
	for i := 0; i < len(file.Data); i += 7 {
		data := bytes.Clone(file.Data)
		data[i] ^= 0x15
		n, hash, err := table.Inspect(data)
		if err == nil && n == file.Rows && hash == file.Hash {
			missed++ // statistics, the bloom filter and the like hold no rows
		}
		if _, _, err := table.Inspect(file.Data[:i]); err == nil {
			t.Fatalf("cut at %d of %d is not found", i, len(file.Data))
		}
	}
	t.Logf("%d of %d bytes tried hold no rows", missed, len(file.Data)/7)
}

func FuzzReadings(f *testing.F) {
	for _, r := range fleet(f, 1, 1, 3) {
		f.Add(r.Value)
	}
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x00})
	schemas := fixedSchemas{"wide": {"w2", "w1", "w3"}}
	table := newReadings(schemas)
	f.Fuzz(func(t *testing.T, value []byte) {
		rec := Record{Value: value}
		n, err := table.Rows(t.Context(), rec)
		if err != nil {
			if !errors.Is(err, ErrPoison) {
				t.Fatalf("an error that is not the record's fault: %v", err)
			}
			return
		}
		if n < 1 {
			t.Fatalf("%d rows", n)
		}
		file, err := table.Encode(t.Context(), []Record{rec}, noMetadata)
		if err != nil || file.Rows != n {
			t.Fatalf("%d rows counted, %d encoded: %v", n, file.Rows, err)
		}
	})
}
