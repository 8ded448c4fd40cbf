package coldpathwriter

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// rows reads what counts of a table; each is told of every row and the file it stands in.
func rowsOf[T any](s *shelf, tableName string, each func(lake.Entry, T)) {
	s.Helper()
	v, err := lake.Open(s.Context(), s.Bucket, tableName)
	if err != nil {
		s.Fatal(err)
	}
	for e, err := range v.Files(s.Context(), time.Time{}, time.Time{}) {
		if err != nil {
			s.Fatal(err)
		}
		data, _, err := s.Get(s.Context(), e.Key, 0)
		if err != nil {
			s.Fatal(err)
		}
		rows, err := parquet.Read[T](bytes.NewReader(data), int64(len(data)))
		if err != nil {
			s.Fatal(err)
		}
		for _, r := range rows {
			each(e, r)
		}
	}
}

type sum struct {
	count       int64
	total       float64
	least, most float32
}

func (a sum) plus(b sum) sum {
	if a.count == 0 {
		return b
	}
	return sum{a.count + b.count, a.total + b.total, min(a.least, b.least), max(a.most, b.most)}
}

// rolled checks a rollup against the readings that it says it covers: each of their good values is in it once, and nothing else.
func (s *shelf) rolled(name string, width time.Duration) (minutes int) {
	s.Helper()
	m, err := lake.LoadManifest(s.Context(), s.Bucket, name)
	if err != nil {
		s.Fatal(err)
	}
	source, err := lake.LoadManifest(s.Context(), s.Bucket, "readings")
	if err != nil {
		s.Fatal(err)
	}
	covered, in := m.Covered(), map[string]bool{}
	for _, g := range source.Groups {
		for src, spans := range g.Covers {
			for _, f := range g.Files {
				_, in[f.Key] = covered.Holds(src, spans[0].First)
			}
		}
	}
	want, got := map[string]sum{}, map[string]sum{}
	rowsOf(s, "readings", func(e lake.Entry, r table.Reading) {
		there := in[e.Key]
		if !e.Merged {
			_, there = covered.Holds(lake.SourceName(e.Raw.Source), e.Raw.First)
		}
		if !there || r.Value == nil || r.Validity != "good" {
			return
		}
		key := fmt.Sprint(r.EquipmentID, r.Sensor, time.UnixMicro(r.TS).Truncate(width).UnixMicro())
		want[key] = want[key].plus(sum{1, float64(*r.Value), *r.Value, *r.Value})
	})
	rowsOf(s, name, func(_ lake.Entry, r table.RollupRow) {
		key := fmt.Sprint(r.EquipmentID, r.Sensor, r.TS)
		got[key] = got[key].plus(sum{r.Count, r.Sum, r.Min, r.Max})
	})
	same := func(a, b sum) bool {
		return a.count == b.count && a.least == b.least && a.most == b.most && math.Abs(a.total-b.total) <= 1e-9*math.Abs(a.total)
	}
	if !maps.EqualFunc(want, got, same) {
		s.Fatalf("%s: %d sums, want %d", name, len(got), len(want))
	}
	return len(got)
}

// A day's files become one, sorted by machine; rows that come later are merged too, and a large day is not written again for them.
func TestADayIsMerged(t *testing.T) {
	s := newShelf(t, newFaulty(t, t.TempDir()).Bucket)
	o := s.options()
	o.Tables = []string{"readings", "readings_1m", "readings_1h"}
	compact := func(hoursLater int) {
		t.Helper()
		s.now = s.now.Add(time.Duration(hoursLater) * time.Hour)
		if err := Compact(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		s.clean()
	}
	days := func() (day, others int) {
		for _, f := range slices.Sorted(maps.Keys(manifest(s, "readings").Files())) {
			if strings.HasPrefix(path.Base(f), "day-") {
				day++
			} else {
				others++
			}
		}
		return day, others
	}
	midnight := s.now.Truncate(24 * time.Hour)
	for h := range 3 {
		for p := range int32(2) {
			s.raw(p, midnight.Add(time.Duration(8*h)*time.Hour), 40)
			s.raw(p, midnight.Add(time.Duration(8*h)*time.Hour), 40)
		}
	}
	s.now = midnight.Add(23 * time.Hour)
	compact(0) // the hours
	if day, others := days(); day != 0 || others != 3 {
		t.Fatalf("%d files of days, %d of hours", day, others)
	}
	compact(4) // the day: 1920 rows, so of its two files the first is full
	if day, others := days(); day != 2 || others != 0 {
		t.Fatalf("%d files of days, %d of hours", day, others)
	}
	var all []string
	for _, f := range manifest(s, "readings").Groups[0].Files {
		all = append(all, f.Machines[0], f.Machines[1])
		if f.TimesUS[0] >= f.TimesUS[1] || f.TimesUS[0] == 0 {
			t.Errorf("%+v", f)
		}
	}
	if !slices.IsSorted(all) || all[0] != "press-0-0" || all[3] != "press-1-2" {
		t.Errorf("%q", all)
	}
	s.raw(0, midnight.Add(5*time.Hour), 10) // late
	compact(0)
	s.raw(1, midnight.Add(5*time.Hour), 10)
	s.raw(1, midnight.Add(9*time.Hour), 10)
	compact(0)
	if day, others := days(); day != 3 || others != 0 {
		t.Errorf("%d files of days, %d of hours", day, others)
	}
	_, rows, _ := s.state("readings")
	if rows != (3*4*40+30)*4 {
		t.Errorf("%d rows", rows)
	}
	// Readings go a day at a time, when they are in the rollups, which stay.
	s.rolled("readings_1h", time.Hour)
	minutes := s.rolled("readings_1m", time.Minute)
	o.Maintenance.Keep = []Keep{{Table: "readings", For: 30 * time.Hour}}
	for _, age := range []int{2, 48} {
		s.now = s.now.Add(time.Duration(age) * time.Hour)
		if err := Retain(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		s.clean()
		if _, left, _ := s.state("readings"); left != rows && age == 2 || left != 0 && age == 48 {
			t.Errorf("%d rows after %d hours", left, age)
		}
	}
	left := map[string]bool{}
	rowsOf(s, "readings_1m", func(_ lake.Entry, r table.RollupRow) { left[fmt.Sprint(r.EquipmentID, r.Sensor, r.TS)] = true })
	if len(left) != minutes {
		t.Errorf("%d minutes left of %d", len(left), minutes)
	}
}

func manifest(s *shelf, tableName string) *lake.Manifest {
	s.Helper()
	m, err := lake.LoadManifest(s.Context(), s.Bucket, tableName)
	if err != nil {
		s.Fatal(err)
	}
	return m
}

// Rollups that are switched off and on again hold each reading once.
func TestRollupsOffAndOn(t *testing.T) {
	s := newShelf(t, newFaulty(t, t.TempDir()).Bucket)
	o := s.options()
	o.Tables = []string{"readings"}
	midnight := s.now.Truncate(24 * time.Hour)
	for i, on := range []bool{true, false, true} {
		o.Maintenance.Rollups = on
		for range 2 {
			s.raw(0, midnight.Add(time.Hour), 10)
		}
		if err := Compact(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(i, err)
		}
		s.rolled("readings_1m", time.Minute)
		s.clean()
	}
	n := 0
	rowsOf(s, "readings_1m", func(_ lake.Entry, r table.RollupRow) { n += int(r.Count) })
	if _, rows, _ := s.state("readings"); int64(n) != rows {
		t.Errorf("%d values of %d are in the rollup", n, rows)
	}
	if files, _, _ := s.state("readings"); files != 1 {
		t.Errorf("%d files", files)
	}
}

// What another version of the program has left half done, with other bytes under the same names, stops nothing.
func TestLeftoversOfAnotherVersion(t *testing.T) {
	merged := func(s *shelf) (keys []string) {
		for _, tab := range []string{"readings", "readings_1m", "readings_1h"} {
			keys = append(keys, slices.Sorted(maps.Keys(manifest(s, tab).Files()))...)
		}
		return keys
	}
	lakes := [2]*shelf{}
	var first []string
	for i := range lakes {
		s := newShelf(t, newFaulty(t, t.TempDir()).Bucket)
		s.raw(0, s.now.Add(-6*time.Hour), 10)
		s.raw(0, s.now.Add(-6*time.Hour), 10)
		for _, key := range first {
			if err := s.PutIfAbsent(t.Context(), key, []byte("other bytes"), nil); err != nil {
				t.Fatal(err)
			}
		}
		o := s.options()
		o.Tables = []string{"readings", "readings_1m"}
		if err := Compact(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		s.clean()
		s.rolled("readings_1m", time.Minute)
		lakes[i], first = s, merged(s)
	}
	if got := merged(lakes[0]); len(got) != 3 || slices.Equal(got, first) || len(first) != 3 {
		t.Errorf("%q\n%q", got, first)
	}
}
