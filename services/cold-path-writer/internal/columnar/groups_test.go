package columnar

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// sparse is a table as wide frames make it: few machines, many sensors.
type sparse struct {
	Machine string   `parquet:"machine"`
	At      int64    `parquet:"at,timestamp(microsecond)"`
	Sensor  string   `parquet:"sensor"`
	Value   *float32 `parquet:"value,optional"`
}

var sparseSchema = Schema{
	Columns:  []Column{{Name: "machine", Kind: String, Bloom: true}, {Name: "at", Kind: Timestamp}, {Name: "sensor", Kind: String}, {Name: "value", Kind: Float32, Optional: true}},
	SortedBy: []string{"machine", "at", "sensor"},
}

// Files of many row groups, of both sizes, with values of few and of many distinct numbers, read back as they were; pages and groups tile the rows, and
// statistics bound the values.
func TestRowGroups(t *testing.T) {
	for _, c := range []struct {
		name               string
		sensors, rows      int
		groups, firstGroup int
		noisy              bool
	}{
		{"narrow", 10, 2*4096 + 777, 3, 4096, true},
		{"exact", 8, 4096, 1, 4096, false},
		{"wide", 1000, 16384 + 1234, 2, 16384, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			w := NewWriter(sparseSchema)
			w.sizes = sizes{group: 4096, wide: 16384, page: 1000, dictionary: 512}
			w.full = w.sizes.group
			machine, at, sensor, value := w.Strings("machine"), w.Ints("at"), w.Strings("sensor"), w.Floats("value")
			ids := make([]uint32, c.sensors)
			for i := range ids {
				ids[i] = sensor.Intern(fmt.Appendf(nil, "sensor_%05d", i))
			}
			want := make([]float32, c.rows) // 0: null
			for i := range want {
				if want[i] = float32(rng.IntN(500)); c.noisy {
					want[i] = rng.Float32()
				}
			}
			for done := 0; done < c.rows; {
				k := done % c.sensors
				n := min(c.sensors-k, c.rows-done, w.Room())
				frame := done / c.sensors
				machine.Run(machine.Intern(fmt.Appendf(nil, "machine-%03d", frame/1000)), n)
				at.Run(int64(frame)*1_000_000, n)
				sensor.Append(ids[k : k+n])
				for _, v := range want[done : done+n] {
					if v == 0 {
						value.Null(1)
					} else {
						value.Append([]float32{v})
					}
				}
				w.Add(n)
				done += n
			}
			data, err := w.Close(nil)
			if err != nil {
				t.Fatal(err)
			}
			f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			if g := f.RowGroups(); len(g) != c.groups || g[0].NumRows() != int64(c.firstGroup) {
				t.Fatalf("%d row groups, the first of %d rows", len(g), g[0].NumRows())
			}
			checkIndexes(t, f)
			rows, err := parquet.Read[sparse](bytes.NewReader(data), int64(len(data)))
			if err != nil || len(rows) != c.rows {
				t.Fatalf("%d rows, %v", len(rows), err)
			}
			for i, r := range rows {
				frame := i / c.sensors
				same := r.Value == nil && want[i] == 0 || r.Value != nil && *r.Value == want[i]
				if !same || r.Sensor != fmt.Sprintf("sensor_%05d", i%c.sensors) || r.At != int64(frame)*1_000_000 || r.Machine != fmt.Sprintf("machine-%03d", frame/1000) {
					t.Fatalf("row %d is %+v", i, r)
				}
			}
			t.Logf("%.3f B/row", float64(len(data))/float64(c.rows))
		})
	}
}

// checkIndexes compares what the indexes and filters say with the values.
func checkIndexes(t *testing.T, f *parquet.File) {
	t.Helper()
	for _, g := range f.RowGroups() {
		for _, chunk := range g.ColumnChunks() {
			columns, err := chunk.ColumnIndex()
			if err != nil {
				t.Fatal(err)
			}
			offsets, err := chunk.OffsetIndex()
			if err != nil {
				t.Fatal(err)
			}
			typ, filter := chunk.Type(), chunk.BloomFilter()
			pages := chunk.Pages()
			var row int64
			for i := range offsets.NumPages() {
				if offsets.FirstRowIndex(i) != row {
					t.Fatalf("page %d begins at row %d, want %d", i, offsets.FirstRowIndex(i), row)
				}
				p, err := pages.ReadPage()
				if err != nil {
					t.Fatal(err)
				}
				row += p.NumRows()
				values := make([]parquet.Value, p.NumValues())
				n, _ := p.Values().ReadValues(values)
				for _, v := range values[:n] {
					if v.IsNull() {
						continue
					}
					if typ.Compare(v, columns.MinValue(i)) < 0 || typ.Compare(columns.MaxValue(i), v) < 0 {
						t.Fatalf("page %d: %v is not within %v and %v", i, v, columns.MinValue(i), columns.MaxValue(i))
					}
				}
				if filter != nil && n > 0 {
					if ok, err := filter.Check(values[0]); err != nil || !ok {
						t.Fatalf("the bloom filter lacks %v: %v", values[0], err)
					}
				}
				parquet.Release(p)
			}
			if err := pages.Close(); err != nil {
				t.Fatal(err)
			}
			if row != g.NumRows() {
				t.Fatalf("pages hold %d rows of %d", row, g.NumRows())
			}
		}
	}
}

// A caller's mistakes are errors, and the Writer goes on with the next file.
func TestMistakes(t *testing.T) {
	w := NewWriter(sparseSchema)
	w.Ints("at").Run(1, 5)
	w.Add(5)
	if _, err := w.Close(nil); err == nil {
		t.Error("columns of different lengths are written")
	}
	data, err := w.Close(nil)
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := parquet.Read[sparse](bytes.NewReader(data), int64(len(data))); err != nil || len(rows) != 0 {
		t.Errorf("an empty file has %d rows, %v", len(rows), err)
	}
	required := NewWriter(Schema{Columns: []Column{{Name: "v", Kind: Float32}}})
	required.Floats("v").Null(1)
	required.Add(1)
	if _, err := required.Close(nil); err == nil {
		t.Error("a null in a required column is written")
	}
}
