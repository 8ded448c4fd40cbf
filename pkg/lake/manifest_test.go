package lake

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/objstore"
)

func store(t *testing.T) objstore.Bucket {
	t.Helper()
	b, err := objstore.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func put(t *testing.T, b objstore.Bucket, key string) {
	t.Helper()
	if err := b.PutIfAbsent(t.Context(), key, []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
}

func TestSpansHoldWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, want := Spans{}, map[int64]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "spans") {
			first := rapid.Int64Range(0, 60).Draw(t, "first")
			end := first + rapid.Int64Range(1, 10).Draw(t, "length")
			s.Add("a", Span{first, end})
			for i := first; i < end; i++ {
				want[i] = true
			}
		}
		for i := range int64(75) {
			end, ok := s.Holds("a", i)
			if ok != want[i] {
				t.Fatalf("%d: %v in %v", i, ok, s)
			}
			if ok && (want[end] || !want[end-1]) {
				t.Fatalf("%d: end %d in %v", i, end, s)
			}
			if _, other := s.Holds("b", i); other {
				t.Fatal("another source holds it")
			}
		}
	})
}

func TestOneOfManyCommitsWins(t *testing.T) {
	b := store(t)
	var won atomic.Int64
	const rounds, writers = 32, 3
	for round := range rounds {
		var wg sync.WaitGroup
		var loaded [writers]*Manifest
		for w := range writers {
			m, err := LoadManifest(t.Context(), b, "readings")
			if err != nil {
				t.Fatal(err)
			}
			if m.Version != int64(round) {
				t.Fatalf("round %d: version %d", round, m.Version)
			}
			loaded[w] = m
		}
		for w, m := range loaded {
			wg.Go(func() {
				switch err := m.Commit(t.Context(), b, time.UnixMilli(1), Action{By: fmt.Sprint("writer ", w)}); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrStale):
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if won.Load() != rounds {
		t.Errorf("%d commits of %d rounds", won.Load(), rounds)
	}
	old := &Manifest{Table: "readings", Version: 1}
	if err := SweepManifests(t.Context(), b, "readings"); err != nil {
		t.Fatal(err)
	}
	if err := old.Commit(t.Context(), b, time.UnixMilli(1), Action{By: "a sleeper"}); !errors.Is(err, ErrStale) {
		t.Errorf("a version whose name is free again: %v", err)
	}
	if m, err := LoadManifest(t.Context(), b, "readings"); err != nil || m.Version != rounds {
		t.Errorf("%+v %v", m, err)
	}
}

func TestView(t *testing.T) {
	b := store(t)
	src := Source{Table: "readings", Topic: "t", TopicID: [16]byte{1}, Partition: 3}
	hour := time.Date(2026, 3, 1, 23, 0, 0, 0, time.UTC)
	raw := func(first int64, at time.Time) string {
		key := Object{Source: src, First: first, SinceMS: at.UnixMilli()}.Key()
		put(t, b, key)
		return key
	}
	covered, live, next := raw(10, hour), raw(30, hour), raw(40, hour.Add(time.Hour))
	merged := MergedKey("readings", hour.UnixMilli(), 1, 0, 7, 0)
	put(t, b, merged)
	put(t, b, MergedKey("readings", hour.UnixMilli(), 1, 0, 8, 0)) // of an attempt that died
	put(t, b, "tocsin/readings/notes.txt")
	files := func(from, to time.Time) []string {
		t.Helper()
		v, err := Open(t.Context(), b, "readings")
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for e, err := range v.Files(t.Context(), from, to) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e.Key)
		}
		return out
	}
	want := func(got []string, keys ...string) {
		t.Helper()
		slices.Sort(keys)
		if !slices.Equal(got, keys) {
			t.Errorf("got %q, want %q", got, keys)
		}
	}
	want(files(time.Time{}, time.Time{}), covered, live, next)
	m, err := LoadManifest(t.Context(), b, "readings")
	if err != nil {
		t.Fatal(err)
	}
	m.Groups = []Group{{HourMS: hour.UnixMilli(), Covers: Spans{SourceName(src): {{10, 30}}}, Files: []File{{Key: merged}}}}
	if err := m.Commit(t.Context(), b, hour, Action{}); err != nil {
		t.Fatal(err)
	}
	want(files(time.Time{}, time.Time{}), live, merged, next)
	want(files(hour.Add(30*time.Minute), hour.Add(40*time.Minute)), live, merged)
	want(files(hour.Add(time.Hour), hour.Add(90*time.Minute)), next)
	want(files(hour.Add(2*time.Hour), hour.Add(50*time.Hour)))
	// A day's file lies in the folder of its first hour, and has rows of all.
	midnight := hour.Truncate(24 * time.Hour)
	day := MergedKey("readings", midnight.UnixMilli(), DayHours, 1, 9, 0)
	put(t, b, day)
	m.Groups = []Group{{HourMS: midnight.UnixMilli(), Hours: DayHours, Covers: Spans{SourceName(src): {{10, 40}}}, Files: []File{{Key: day}}}}
	if err := m.Commit(t.Context(), b, hour, Action{}); err != nil {
		t.Fatal(err)
	}
	want(files(time.Time{}, time.Time{}), day, next)
	want(files(hour, hour), day)
	want(files(midnight.Add(time.Hour), midnight.Add(2*time.Hour)), day)
	want(files(midnight.Add(24*time.Hour), midnight.Add(26*time.Hour)), next)
	want(files(midnight.Add(-2*time.Hour), midnight.Add(-time.Hour)))
}

func TestBoundsTellWhatAFileMayHold(t *testing.T) {
	f := File{Machines: [2]string{"b", "d"}, TimesUS: [2]int64{100, 200}}
	for _, c := range []struct {
		machines []string
		from, to int64
		want     bool
	}{
		{nil, 0, 0, true},
		{[]string{"a"}, 0, 0, false},
		{[]string{"a", "c"}, 0, 0, true},
		{[]string{"a", "e"}, 0, 0, false},
		{[]string{"b"}, 200, 0, true},
		{[]string{"d"}, 201, 0, false},
		{[]string{"d"}, 0, 100, false},
		{[]string{"d"}, 0, 101, true},
		{[]string{"dd"}, 0, 0, false},
	} {
		if got := f.MayHold(c.machines, c.from, c.to); got != c.want {
			t.Errorf("%v", c)
		}
	}
	if !(File{}).MayHold([]string{"x"}, 5, 6) {
		t.Error("a file of which nothing is known may hold anything")
	}
}
