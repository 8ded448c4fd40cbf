package table

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/colmerge"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/parquetfile"
)

// untidy makes records with nulls, equal times, late rows and machines in any order.
func untidy(t *testing.T, n int) (readings, windows []Record) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	sensors := []string{"zeta", "alpha", "mid"}
	for o := range int64(n) {
		machine := fmt.Sprintf("press-%d", rng.IntN(7))
		f := &eventv1.SensorFrame{EquipmentId: machine, GatewayId: "gw", Sequence: uint64(o + 1), BaseTimeUs: 1_700_000_000_000_000 + rng.Int64N(5)*1_000_000, TimeOffsetsUs: []uint64{0, 1_000_000}, Sensors: sensors}
		for i := range 6 {
			v := float32(o) + float32(i)/8
			if rng.IntN(5) == 0 {
				v = float32(math.NaN())
			}
			f.Values = append(f.Values, v)
		}
		b, err := proto.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		r, err := proto.Marshal(&eventv1.Reading{Frame: b, Partition: 1, Offset: o, LogAppendTimeMs: 5 + o, Dispositions: []eventv1.Disposition{eventv1.Disposition(1 + rng.IntN(4))}})
		if err != nil {
			t.Fatal(err)
		}
		w := &eventv1.Window{EquipmentId: machine, StartUs: rng.Int64N(5), EndUs: 9, WindowId: fmt.Sprintf("%s-%d", machine, o), Revision: uint32(rng.IntN(2)), Score: rng.Float64()}
		for _, s := range sensors[:rng.IntN(3)] {
			st := &eventv1.SensorWindow{Sensor: s, Count: uint32(o), Mean: rng.Float64(), Min: math.NaN(), Max: 4}
			w.Sensors = append(w.Sensors, st)
		}
		wb, err := proto.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		readings, windows = append(readings, Record{o, 7, r}), append(windows, Record{o, 7, wb})
	}
	return readings, windows
}

// A merge by columns gives the rows of its inputs, all of them, in order, in files of the size asked for, the same each time.
func TestMergeByColumns(t *testing.T) {
	readings, windows := untidy(t, 400)
	checkMerge[Reading](t, newReadings(nil), readings, 2400, func(a, b *Reading) int {
		return cmp.Or(strings.Compare(a.EquipmentID, b.EquipmentID), cmp.Compare(a.TS, b.TS), strings.Compare(a.Sensor, b.Sensor),
			cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Sample, b.Sample))
	})
	checkMerge[Window](t, newWindows(), windows, 0, newWindows().(interface{ compareRows(a, b *Window) int }).compareRows)
}

// Findings have lists of strings; they are merged row by row.
func TestMergeOfFindings(t *testing.T) {
	var recs []Record
	for o := range int64(400) {
		f := &eventv1.Finding{
			FindingId: fmt.Sprintf("press-%d/x/%d", o%7, o/2), Revision: int32(o % 2), EquipmentId: fmt.Sprintf("press-%d", o%7), BeganUs: o * 7919 % 13, Over: o%3 == 0, Confidence: float64(o % 4),
			Metrics: []string{"flow", "speed", "torque"}[:o%4], Contributions: []*eventv1.Contribution{{Sensor: "flow", Share: 1}}[:o%2],
		}
		if o%5 > 0 {
			f.Evidence = &eventv1.FindingEvidence{AlertIds: []string{"a", ""}[:o%3], Query: "SELECT 1"}
		}
		b, err := proto.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, Record{o, 7, b})
	}
	checkMerge[Finding](t, newFindings(), recs, 400, newFindings().(interface{ compareRows(a, b *Finding) int }).compareRows)
	for what, value := range map[string][]byte{"nobody's": {0x0a, 1, 'x'}, "without an id": {0x1a, 1, 'x'}, "garbage": {0xff}} {
		if _, err := newFindings().Rows(t.Context(), Record{Value: value}); !errors.Is(err, ErrPoison) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func (t *rowTable[T]) compareRows(a, b *T) int { return t.compare(a, b) }

func checkMerge[T any](t *testing.T, tab Table, recs []Record, rows int64, compare func(a, b *T) int) {
	t.Helper()
	var runs []colmerge.Run
	var want uint64
	var total int64
	for part := range slices.Chunk(recs, 71) {
		f, err := tab.Encode(t.Context(), part, noMetadata)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, colmerge.Run{colmerge.Bytes(f.Data)})
		want, total = want+f.Hash, total+f.Rows
	}
	if rows != 0 && total != rows {
		t.Fatalf("%d rows", total)
	}
	m := tab.(Merger)
	merge := func(runs []colmerge.Run, most int64) (files []File) {
		if err := m.Merge(t.Context(), runs, most, noMetadata, func(f File) error { files = append(files, f); return nil }); err != nil {
			t.Fatal(err)
		}
		return files
	}
	once := merge(runs, 150)
	var got uint64
	var n int64
	var all []T
	for i, f := range once {
		if got, n = got+f.Hash, n+f.Rows; i < len(once)-1 && f.Rows != 150 {
			t.Errorf("file %d has %d rows", i, f.Rows)
		}
		if err := parquetfile.Read(f.Data, func(batch []T) error { all = append(all, slices.Clone(batch)...); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if got != want || n != total || int64(len(all)) != total {
		t.Fatalf("%s: %d rows with hash %x, want %d with %x", tab.Name(), n, got, total, want)
	}
	if !slices.IsSortedFunc(all, func(a, b T) int { return compare(&a, &b) }) {
		t.Errorf("%s: not sorted", tab.Name())
	}
	// Merged again from half merged files, of which several are one run: the same bytes.
	var run colmerge.Run
	for _, f := range merge(runs[:3], 100) {
		run = append(run, colmerge.Bytes(f.Data))
	}
	again := merge(append([]colmerge.Run{run}, runs[3:]...), 150)
	if !slices.EqualFunc(once, again, func(a, b File) bool { return string(a.Data) == string(b.Data) && a.Within == b.Within }) {
		t.Errorf("%s: other bytes the second time", tab.Name())
	}
	damaged := slices.Clone(once[0].Data)
	for i := range damaged[4 : len(damaged)/2] {
		damaged[4+i] ^= 0x5a
	}
	if err := m.Merge(t.Context(), []colmerge.Run{{colmerge.Bytes(damaged)}}, 150, noMetadata, func(File) error { return nil }); err == nil {
		t.Errorf("%s: a damaged file is merged", tab.Name())
	}
}
