package historicalapi

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tocsin-io/tocsin/pkg/lake"
)

type rollupRow struct {
	EquipmentID string  `parquet:"equipment_id,dict"`
	Sensor      string  `parquet:"sensor,dict"`
	TS          int64   `parquet:"ts,timestamp(microsecond),delta"`
	Count       int64   `parquet:"count,delta"`
	Sum         float64 `parquet:"sum,split"`
	Min         float32 `parquet:"min,split"`
	Max         float32 `parquet:"max,split"`
}

// A long range is answered from the rollup, with the readings that are not in it yet: each value counts once. (The rollup here says other values than the readings, so that one sees which is read.)
func TestLongRangesAreReadFromRollups(t *testing.T) {
	f := newLake(t)
	f.hour(begin)
	end := f.offset
	f.hour(begin.Add(time.Hour)) // not rolled up yet
	var rows []rollupRow
	for m := range 60 {
		rows = append(rows, rollupRow{"line-a-1", "temperature", begin.Add(time.Duration(m) * time.Minute).UnixMicro(), 6, 600, 90, 110})
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, rows); err != nil {
		t.Fatal(err)
	}
	key := lake.MergedKey("readings_1m", begin.UnixMilli(), 1, 0, 1, 0)
	if err := f.bucket.PutIfAbsent(t.Context(), key, b.Bytes(), nil); err != nil {
		t.Fatal(err)
	}
	m := lake.Manifest{Table: "readings_1m", Groups: []lake.Group{{
		HourMS: begin.UnixMilli(), Covers: lake.Spans{lake.SourceName(lake.Source{Topic: "telemetry.readings.v1", TopicID: [16]byte{1}}): {{First: 0, End: end}}},
		Files: []lake.File{{Key: key, Machines: [2]string{"line-a-1", "line-a-1"}}},
	}}}
	if err := m.Commit(t.Context(), f.bucket, begin, lake.Action{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, f, nil)
	mean := func(machine, points, resolution, quality string) string {
		t.Helper()
		a := r.get(adminToken, "/v1/series", "equipment_id", machine, "sensor", "temperature", "from", begin.Format(time.RFC3339), "to", begin.Add(2*time.Hour).Format(time.RFC3339),
			"points", points, "method", "mean", "resolution", resolution, "quality", quality)
		if a.status != 200 {
			t.Fatal(a.text)
		}
		var out []any
		for _, row := range a.Rows {
			out = append(out, row[1:])
		}
		return fmt.Sprint(out)
	}
	for _, c := range [][5]string{
		{"line-a-1", "4", "auto", "good", "[[180 90 110 100] [180 90 110 100] [180 20 29 24.5] [180 20 29 24.5]]"},
		{"line-a-1", "4", "raw", "good", "[[180 20 29 24.5] [180 20 29 24.5] [180 20 29 24.5] [180 20 29 24.5]]"},
		{"line-a-1", "4", "auto", "all", "[[180 20 29 24.5] [180 20 29 24.5] [180 20 29 24.5] [180 20 29 24.5]]"},
		{"line-a-2", "4", "auto", "good", "[[180 20 29 24.5] [180 20 29 24.5]]"}, // of the rollup's hour it has none
	} {
		if got := mean(c[0], c[1], c[2], c[3]); got != c[4] {
			t.Errorf("%q: %s", c, got)
		}
	}
	if fine := mean("line-a-1", "24", "auto", "good"); len(fine) == 0 || fine[:len("[[30 20")] != "[[30 20" {
		t.Error("slices of five minutes are read from the rollup: " + fine)
	}
}

// A query that names machines sees those, and opens the files that may hold them.
func TestAQueryOfSomeMachines(t *testing.T) {
	f := newLake(t)
	f.hour(begin)
	r := start(t, f, nil)
	for token, cases := range map[string]map[string]string{
		adminToken: {"vault-1": "[[vault-1]]", "line-a-2,line-a-1": "[[line-a-1] [line-a-2]]", "line-a-9": "[]"},
		lineToken:  {"line-a-2": "[[line-a-2]]"},
	} {
		for machines, want := range cases {
			a := r.ask(token, "POST", "/v1/sql", map[string]any{"sql": "SELECT DISTINCT equipment_id FROM readings ORDER BY ALL", "equipment_id": strings.Split(machines, ",")})
			if a.status != 200 || fmt.Sprint(a.Rows) != want {
				t.Errorf("%s: %d %s", machines, a.status, a.text)
			}
		}
	}
	if a := r.ask(lineToken, "POST", "/v1/sql", map[string]any{"sql": "SELECT 1", "equipment_id": []string{"vault-1"}}); a.status != 400 || a.Field != "equipment_id" {
		t.Error(a.status, a.text)
	}
}
