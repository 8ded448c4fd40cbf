package columnar

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"
)

// everything has a column of each kind.
type everything struct {
	Name   string   `parquet:"name"`
	At     int64    `parquet:"at,timestamp(microsecond)"`
	Count  int64    `parquet:"count"`
	Small  int32    `parquet:"small"`
	Flag   bool     `parquet:"flag"`
	Value  *float32 `parquet:"value,optional"`
	Sure   float32  `parquet:"sure"`
	Mean   *float64 `parquet:"mean,optional"`
	Exact  float64  `parquet:"exact"`
	Second string   `parquet:"second"`
}

var everySchema = Schema{
	Columns: []Column{
		{Name: "name", Kind: String, Bloom: true},
		{Name: "at", Kind: Timestamp},
		{Name: "count", Kind: Int64},
		{Name: "small", Kind: Int32},
		{Name: "flag", Kind: Bool},
		{Name: "value", Kind: Float32, Optional: true},
		{Name: "sure", Kind: Float32},
		{Name: "mean", Kind: Float64, Optional: true},
		{Name: "exact", Kind: Float64},
		{Name: "second", Kind: String},
	},
	SortedBy: []string{"name"},
}

func (e *everything) String() string {
	f32 := func(p *float32) string {
		if p == nil {
			return "null"
		}
		return fmt.Sprintf("%08x", math.Float32bits(*p))
	}
	f64 := func(p *float64) string {
		if p == nil {
			return "null"
		}
		return fmt.Sprintf("%016x", math.Float64bits(*p))
	}
	return fmt.Sprint(e.Name, e.At, e.Count, e.Small, e.Flag, f32(e.Value), f32(&e.Sure), f64(e.Mean), f64(&e.Exact), e.Second)
}

// append adds rows to each column, now by runs, now row by row.
func appendRows(w *Writer, rows []everything, byRun func() bool) {
	strings := func(name string, of func(*everything) string) {
		c := w.Strings(name)
		if byRun() {
			for i := range rows {
				c.Run(c.Intern([]byte(of(&rows[i]))), 1)
			}
			return
		}
		var ids []uint32
		for i := range rows {
			ids = append(ids, c.Intern([]byte(of(&rows[i]))))
		}
		c.Append(ids)
	}
	ints := func(name string, of func(*everything) int64) {
		c := w.Ints(name)
		if byRun() {
			for i := range rows {
				c.Run(of(&rows[i]), 1)
			}
			return
		}
		var vs []int64
		for i := range rows {
			vs = append(vs, of(&rows[i]))
		}
		c.Append(vs)
	}
	strings("name", func(e *everything) string { return e.Name })
	strings("second", func(e *everything) string { return e.Second })
	ints("at", func(e *everything) int64 { return e.At })
	ints("count", func(e *everything) int64 { return e.Count })
	ints("small", func(e *everything) int64 { return int64(e.Small) })
	ints("flag", func(e *everything) int64 {
		if e.Flag {
			return 1
		}
		return 0
	})
	for i := range rows {
		if v := rows[i].Value; v != nil {
			w.Floats("value").Append([]float32{*v})
		} else {
			w.Floats("value").Null(1)
		}
		if v := rows[i].Mean; v != nil {
			w.Doubles("mean").Append([]float64{*v})
		} else {
			w.Doubles("mean").Null(1)
		}
		w.Floats("sure").Append([]float32{rows[i].Sure})
		w.Doubles("exact").Append([]float64{rows[i].Exact})
	}
	w.Add(len(rows))
}

// drawRows makes rows of runs, as tables have them: a few distinct values, many, nulls, NaN, extremes.
func drawRows(t *rapid.T, most int) []everything {
	var rows []everything
	var row everything
	name := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "press-7", "é", string(bytes.Repeat([]byte("long"), 100))}), rapid.String())
	for range rapid.IntRange(0, most).Draw(t, "runs") {
		switch rapid.IntRange(0, 7).Draw(t, "what") {
		case 0:
			row.Name = name.Draw(t, "name")
		case 1:
			row.Second = name.Draw(t, "second")
		case 2:
			row.At = rapid.OneOf(rapid.Int64(), rapid.Int64Range(1e15, 1e15+100), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64})).Draw(t, "at")
			row.Count = rapid.Int64().Draw(t, "count")
		case 3:
			row.Small = rapid.Int32().Draw(t, "small")
			row.Flag = rapid.Bool().Draw(t, "flag")
		case 4:
			row.Value, row.Mean = nil, nil
		case 5:
			v := rapid.OneOf(rapid.Float32(), rapid.SampledFrom([]float32{0, float32(math.Copysign(0, -1)), float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))})).Draw(t, "value")
			row.Value, row.Sure = &v, -v
		default:
			v := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.NaN(), math.Inf(-1)})).Draw(t, "mean")
			row.Mean, row.Exact = &v, v
		}
		for i := range rapid.IntRange(1, 40).Draw(t, "n") {
			row.Count += int64(i)
			rows = append(rows, row)
		}
	}
	return rows
}

// What an independent reader finds is what went in, and the same rows give the same bytes, whatever the Writer has written before.
func TestReadBack(t *testing.T) {
	used := NewWriter(everySchema)
	rapid.Check(t, func(t *rapid.T) {
		rows := drawRows(t, 30)
		coin := func() bool { return rapid.Bool().Draw(t, "by run") }
		write := func(w *Writer, coin func() bool) []byte {
			for rest := rows; len(rest) > 0; {
				n := min(len(rest), 1+len(rows)/3)
				appendRows(w, rest[:n], coin)
				rest = rest[n:]
			}
			data, err := w.Close(map[string]string{"b": "2", "a": "1"})
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		data := write(used, coin)
		f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if !parquet.EqualNodes(parquet.SchemaOf(everything{}), f.Schema()) {
			t.Fatalf("schema %s", f.Schema())
		}
		got, err := parquet.Read[everything](bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(rows) {
			t.Fatalf("%d rows, want %d", len(got), len(rows))
		}
		for i := range got {
			if got[i].String() != rows[i].String() {
				t.Fatalf("row %d is\n%s\nwant\n%s", i, got[i].String(), rows[i].String())
			}
		}
		flat := func() bool { return false }
		if !bytes.Equal(write(used, flat), write(NewWriter(everySchema), flat)) {
			t.Fatal("the same calls gave other bytes")
		}
	})
}
