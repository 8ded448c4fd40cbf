package chunk

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// walk cuts a log as a writer does that starts at first and next, and returns the files' spans.
// At each record it may be told to forget everything and start at its last commit again.
func walk(rules Rules, log []Record, restart func() bool) []Span {
	var files []Span
	first, next := int64(0), int64(0) // what is committed
	c := New(rules, first, next)
	end := func(at int64) {
		s := c.End(at)
		if s.Rows > 0 {
			files = append(files, s)
		}
		first, next = c.First(), at
	}
	for i := 0; i < len(log); i++ {
		r := log[i]
		if r.Offset < c.Next() {
			continue
		}
		if restart() {
			c = New(rules, first, next)
			i = slices.IndexFunc(log, func(r Record) bool { return r.Offset >= next }) - 1
			continue
		}
		if c.EndsBefore(r) {
			end(r.Offset)
		}
		if c.Add(r) {
			end(c.Next())
		} else if _, open := c.Open(); !open && r.Tick && r.Offset%3 == 0 {
			first, next = c.First(), c.Next() // an idle commit
		}
	}
	return files
}

func drawLog(t *rapid.T) []Record {
	var log []Record
	offset, now := int64(0), int64(1_000_000)
	for range rapid.IntRange(1, 120).Draw(t, "records") {
		offset += rapid.Int64Range(1, 3).Draw(t, "gap") // transaction markers and aborted records
		now += rapid.Int64Range(-200, 700).Draw(t, "time")
		r := Record{Offset: offset, TimeMS: now, Tick: rapid.IntRange(0, 3).Draw(t, "tick") == 0}
		if !r.Tick {
			r.Rows, r.Bytes = rapid.Int64Range(0, 5).Draw(t, "rows"), rapid.Int64Range(1, 50).Draw(t, "bytes")
		}
		log = append(log, r)
	}
	return log
}

// However often a writer forgets and starts again, it cuts the same chunks; they tile, and each rule holds.
func TestChunksDependOnTheLogOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := Rules{MaxRows: rapid.Int64Range(1, 30).Draw(t, "max rows"), MaxBytes: rapid.Int64Range(1, 400).Draw(t, "max bytes"), Interval: 2 * time.Second}
		log := drawLog(t)
		calm := walk(rules, log, func() bool { return false })
		left := 20
		wild := walk(rules, log, func() bool {
			if left == 0 || rapid.IntRange(0, 3).Draw(t, "restart") != 0 {
				return false
			}
			left--
			return true
		})
		if !slices.Equal(calm, wild) {
			t.Fatalf("undisturbed %v\nrestarted   %v", calm, wild)
		}
		at := int64(0)
		for _, s := range calm {
			if s.First != at || s.End <= s.First {
				t.Fatalf("%v does not begin at %d", s, at)
			}
			at = s.End
			// Records without rows (dead letters) may stand before the file's own chunk, so only those with rows are looked at.
			var rows, bytes int64
			for _, r := range log {
				if r.Offset < s.First || r.Offset >= s.End || r.Rows == 0 {
					continue
				}
				if rows >= rules.MaxRows || bytes >= rules.MaxBytes {
					t.Fatalf("%v goes on after it is full", s)
				}
				if r.TimeMS/2000 > s.SinceMS/2000 {
					t.Fatalf("%v holds a record of a later interval", s)
				}
				rows += r.Rows
				bytes += r.Bytes
			}
			if rows != s.Rows {
				t.Fatalf("%v: %d rows in the log", s, rows)
			}
		}
	})
}

func TestFixedEndOverridesTheRules(t *testing.T) {
	c := New(Rules{MaxRows: 2, MaxBytes: 1 << 20, Interval: time.Second}, 10, 10)
	c.Fix(14)
	for o := int64(10); o < 14; o++ {
		r := Record{Offset: o, TimeMS: o * 5000, Rows: 1, Bytes: 1}
		if c.EndsBefore(r) {
			t.Fatalf("ends before %d", o)
		}
		if full := c.Add(r); full != (o == 13) {
			t.Fatalf("full after %d: %t", o, full)
		}
	}
	if s := c.End(c.Next()); s.First != 10 || s.End != 14 || s.Rows != 4 {
		t.Errorf("%+v", s)
	}
	if c.First() != 14 || c.Fixed() != -1 {
		t.Errorf("goes on at %d, fixed %d", c.First(), c.Fixed())
	}
}
