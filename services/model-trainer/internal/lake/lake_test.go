package lake_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"go.uber.org/goleak"

	layout "github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/lake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reading has the columns of the lake's table, the ones that are not read too.
type reading struct {
	EquipmentID string   `parquet:"equipment_id,dict"`
	TS          int64    `parquet:"ts,timestamp(microsecond),delta"`
	Sensor      string   `parquet:"sensor,dict"`
	Value       *float32 `parquet:"value,optional,split"`
	Quality     string   `parquet:"quality,dict"`
	Validity    string   `parquet:"validity,dict"`
	Late        bool     `parquet:"late"`
	Sequence    int64    `parquet:"sequence,delta"`
}

func start() time.Time { return time.Date(2026, 3, 1, 22, 30, 0, 0, time.UTC) }

func at(minute int) int64 { return start().Add(time.Duration(minute) * time.Minute).UnixMicro() }

func value(machine string, minute int, sensor string, v float32) reading {
	return reading{EquipmentID: machine, TS: at(minute), Sensor: sensor, Value: &v, Quality: "good", Validity: "good"}
}

func put(t *testing.T, b objstore.Bucket, name string, hour time.Time, rows ...reading) {
	t.Helper()
	putAt(t, b, fmt.Sprintf("tocsin/readings/date=%s/hour=%02d/%s.parquet", hour.Format(time.DateOnly), hour.Hour(), name), rows...)
}

func putAt(t *testing.T, b objstore.Bucket, key string, rows ...reading) {
	t.Helper()
	var out bytes.Buffer
	w := parquet.NewGenericWriter[reading](&out, parquet.Compression(&parquet.Zstd))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.PutIfAbsent(context.Background(), key, out.Bytes(), nil); err != nil {
		t.Fatal(err)
	}
}

func bucket(t *testing.T) objstore.Bucket {
	t.Helper()
	b, err := objstore.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func read(t *testing.T, b objstore.Bucket, q lake.Query) (*lake.Result, error) {
	t.Helper()
	if err := q.Validate(1000, 10_000); err != nil {
		t.Fatal(err)
	}
	return lake.Read(context.Background(), b, q, nil)
}

func query() lake.Query {
	return lake.Query{From: start(), To: start().Add(3 * time.Hour), Sensors: []string{"b", "a"}}
}

// While a merged file and the raw ones that it stands for are both there, rows count once.
func TestMergedFilesCountOnce(t *testing.T) {
	b := bucket(t)
	raw := layout.Object{Source: layout.Source{Table: "readings", Topic: "sensor.readings.v1"}, First: 10, End: 20, SinceMS: start().UnixMilli()}
	rows := []reading{value("m1", 1, "a", 10), value("m1", 1, "b", 20), value("m2", 1, "a", 13), value("m2", 1, "b", 23)}
	putAt(t, b, raw.Key(), rows...)
	merged := layout.MergedKey("readings", start().Truncate(time.Hour).UnixMilli(), 1, 1, 1, 0)
	putAt(t, b, merged, rows...)
	files := func(want int, what string) {
		t.Helper()
		if got, err := read(t, b, query()); err != nil || got.Seen != 2 || got.Files != want {
			t.Errorf("%s: %+v, %v; want 2 samples of %d files", what, got, err, want)
		}
	}
	files(1, "before the manifest names the merged file") // the raw one
	m, err := layout.LoadManifest(t.Context(), b, "readings")
	if err != nil {
		t.Fatal(err)
	}
	covers := layout.Spans{}
	covers.Add(layout.SourceName(raw.Source), layout.Span{First: 10, End: 20})
	m.Groups = []layout.Group{{HourMS: start().Truncate(time.Hour).UnixMilli(), Covers: covers, Rows: 4, Files: []layout.File{{Key: merged, Rows: 4}}}}
	if err := m.Commit(t.Context(), b, start(), layout.Action{Kind: "compact"}); err != nil {
		t.Fatal(err)
	}
	files(1, "after it does")
}

func TestSamplesAreWholeGoodAndInRange(t *testing.T) {
	b := bucket(t)
	bad := value("m1", 2, "b", 9)
	bad.Validity = "flatline"
	nan := value("m1", 3, "b", float32(math.NaN()))
	put(t, b, "one", start(),
		value("m1", -5, "a", 1), value("m1", -5, "b", 1), // before the range
		value("m1", 1, "a", 10), value("m1", 1, "b", 20), value("m1", 1, "other", 7),
		value("m1", 2, "a", 11), bad, // not all good
		value("m1", 3, "a", 12), nan,
		value("m2", 1, "a", 13), value("m2", 1, "b", 23),
	)
	late := start().Add(26 * time.Hour)
	put(t, b, "late", late, value("m1", 4, "a", 14), value("m1", 4, "b", 24))
	put(t, b, "too-late", late.Add(3*time.Hour), value("m1", 5, "a", 15), value("m1", 5, "b", 25))
	if err := b.PutIfAbsent(context.Background(), "tocsin/readings/date=2026-03-01/readme.txt", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	got, err := read(t, b, query())
	if err != nil {
		t.Fatal(err)
	}
	want := "[{m1 1 [20 10]} {m1 4 [24 14]} {m2 1 [23 13]}]"
	if s := show(got); s != want || got.Partial != 2 || got.Seen != 3 || got.Files != 2 {
		t.Errorf("%s, want %s; %+v", s, want, got)
	}
	q := query()
	q.Machines = []string{"*2", "x"}
	if _, err := read(t, b, q); err == nil || !strings.Contains(err.Error(), "1 samples") {
		t.Error(err)
	}
	q.Machines, q.Hold = nil, lake.Duration(90*time.Second)
	if got, err = read(t, b, q); err != nil || show(got) != "[{m1 1 [20 10]} {m1 2 [20 11]} {m1 4 [24 14]} {m2 1 [23 13]}]" {
		t.Errorf("held: %s %v", show(got), err)
	}
}

func show(r *lake.Result) string {
	type one struct {
		machine string
		minute  int64
		values  []float32
	}
	var out []one
	for _, s := range r.Samples {
		out = append(out, one{s.Machine, (s.TimeUS - at(0)) / 60e6, s.Values})
	}
	return fmt.Sprint(out)
}

// Of more samples than are kept the same ones are, however they lie in files, and all have the same chance.
func TestSampleDoesNotHangOnFiles(t *testing.T) {
	const minutes, keep = 170, 40
	rows := func(machine string, from, to int) (out []reading) {
		for i := from; i < to; i++ {
			out = append(out, value(machine, i, "a", float32(i)), value(machine, i, "b", 1))
		}
		return out
	}
	one, many := bucket(t), bucket(t)
	put(t, one, "all", start(), append(rows("m1", 0, minutes), rows("m2", 0, minutes)...)...)
	for k, from := range []int{136, 0, 102, 34, 68} {
		put(t, many, fmt.Sprint("part-", k), start(), append(rows("m2", from, from+34), rows("m1", from, from+34)...)...)
	}
	q := query()
	q.Rows = keep
	a, err1 := read(t, one, q)
	b, err2 := read(t, many, q)
	if err1 != nil || err2 != nil || len(a.Samples) != keep || a.Seen != 2*minutes || show(a) != show(b) {
		t.Fatal(err1, err2, show(a), show(b))
	}
	first, early := 0, 0
	for _, s := range a.Samples {
		if s.Machine == "m1" {
			first++
		}
		if s.TimeUS < at(minutes/2) {
			early++
		}
	}
	if first < 10 || first > 30 || early < 10 || early > 30 {
		t.Errorf("%d of %d of one machine, %d of the first half", first, keep, early)
	}
}

func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(*lake.Query){
		"from":        func(q *lake.Query) { q.To = q.From },
		"sensors":     func(q *lake.Query) { q.Sensors = nil },
		"sensors[1]":  func(q *lake.Query) { q.Sensors = []string{"a", "a"} },
		"rows":        func(q *lake.Query) { q.Rows = 1001 },
		"machines[0]": func(q *lake.Query) { q.Machines = []string{"["} },
		"hold":        func(q *lake.Query) { q.Hold = -1 },
	} {
		q := query()
		change(&q)
		if err := q.Validate(1000, 10_000); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	b := bucket(t)
	var wrong *lake.Error
	if _, err := read(t, b, query()); !errors.As(err, &wrong) {
		t.Error("an empty lake:", err)
	}
	if err := b.PutIfAbsent(context.Background(), "tocsin/readings/date=2026-03-01/hour=22/x.parquet", slices.Repeat([]byte("PAR1"), 100), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, b, query()); !errors.As(err, &wrong) {
		t.Error("no Parquet file:", err)
	}
}
