// Package chunk decides where one Parquet file ends and the next begins.
//
// A chunk is an interval [first, end) of one partition's offsets. Its end is a pure function of the records from first on:
// of their number of rows, their bytes and the broker's time for them. It knows neither the wall clock nor how the
// records were polled, nor who owned the partition meanwhile. So whoever starts at the same first offset, today or
// after a crash, cuts the same chunks and gives the same files.
package chunk

import (
	"errors"
	"fmt"
	"time"
)

// Rules say when a chunk is full.
type Rules struct {
	MaxRows  int64         `mapstructure:"max_rows" doc:"A file ends after the record that brings it to this many rows."`
	MaxBytes int64         `mapstructure:"max_bytes" doc:"A file ends after the record that brings it to this many bytes of records (uncompressed, as they stand in Kafka)."`
	Interval time.Duration `mapstructure:"interval" doc:"A file ends before the first record of the next interval of broker time (intervals are counted from 1970 UTC)."`
}

// DefaultRules make files of up to a million rows, at least every five minutes.
func DefaultRules() Rules {
	return Rules{MaxRows: 1_000_000, MaxBytes: 128 << 20, Interval: 5 * time.Minute}
}

// Validate names the first field that is wrong.
func (r Rules) Validate() error {
	switch {
	case r.MaxRows < 1 || r.MaxRows > 64_000_000:
		return fmt.Errorf("max_rows: %d is not in 1..64000000", r.MaxRows)
	case r.MaxBytes < 1 || r.MaxBytes > 2<<30:
		return fmt.Errorf("max_bytes: %d is not in 1..2147483648", r.MaxBytes)
	case r.Interval < time.Second || r.Interval > 24*time.Hour:
		return fmt.Errorf("interval: %s is not in 1s..24h", r.Interval)
	case r.Interval%time.Millisecond != 0:
		return errors.New("interval: must be whole milliseconds")
	}
	return nil
}

// Version names the rules in files' metadata: other rules cut other chunks.
func (r Rules) Version() string {
	return fmt.Sprintf("rows=%d,bytes=%d,interval=%s", r.MaxRows, r.MaxBytes, r.Interval)
}

// Record is what the rules look at.
type Record struct {
	Offset int64
	TimeMS int64 // broker's time, milliseconds since 1970 UTC
	Tick   bool  // moves time, carries nothing
	Rows   int64
	Bytes  int64
}

// Cutter walks one partition's records in offset order. The zero value is not usable; see New.
type Cutter struct {
	rules Rules
	first int64 // first offset that the chunk covers
	next  int64 // first offset not yet seen
	open  bool  // a record that is no tick has been seen
	since int64 // TimeMS of that record
	rows  int64
	bytes int64
	// fixed is the end that a chunk already in the lake has, or -1: it overrides the rules once.
	fixed int64
}

// New starts a chunk that covers offsets from first on, of which those before next are known to hold no rows.
func New(rules Rules, first, next int64) *Cutter {
	return &Cutter{rules: rules, first: first, next: next, fixed: -1}
}

// Fix makes this chunk end at end, whatever the rules say. The chunk must be empty.
func (c *Cutter) Fix(end int64) { c.fixed = end }

// Fixed is the end that Fix gave, or -1.
func (c *Cutter) Fixed() int64 { return c.fixed }

// EndsBefore tells whether the chunk ends before rec. Then End must be called before rec is added.
func (c *Cutter) EndsBefore(rec Record) bool {
	if c.fixed >= 0 {
		return rec.Offset >= c.fixed
	}
	// Broker time may step back when a partition's leader changes: only forward counts.
	return c.open && c.bucket(rec.TimeMS) > c.bucket(c.since)
}

func (c *Cutter) bucket(ms int64) int64 {
	i := c.rules.Interval.Milliseconds()
	b := ms / i
	if ms < 0 && ms%i != 0 {
		b--
	}
	return b
}

// Add takes rec into the chunk and tells whether the chunk ends after it.
// Ticks before the first other record change nothing but Next: so it does not matter whether they are seen again.
func (c *Cutter) Add(rec Record) bool {
	c.next = rec.Offset + 1
	if !rec.Tick {
		if !c.open {
			c.open, c.since = true, rec.TimeMS
		}
		c.rows += rec.Rows
		c.bytes += rec.Bytes
	}
	if c.fixed >= 0 {
		return c.next >= c.fixed
	}
	return c.rows >= c.rules.MaxRows || c.bytes >= c.rules.MaxBytes
}

// Span is a finished chunk.
type Span struct {
	First, End int64 // offsets [First, End)
	SinceMS    int64 // broker's time of the first record that is no tick
	Rows       int64
}

// End finishes the chunk and starts the next. atOffset is the offset of the record it ends before, or Next when it ends after
// the last one added. A chunk without rows becomes no file: the next chunk then covers its offsets too,
// so that the files tile the partition.
func (c *Cutter) End(atOffset int64) Span {
	if c.fixed >= 0 {
		atOffset = c.fixed
	}
	s := Span{First: c.first, End: atOffset, SinceMS: c.since, Rows: c.rows}
	if c.rows > 0 {
		c.first = atOffset
	}
	c.next = max(c.next, atOffset)
	c.open, c.since, c.rows, c.bytes, c.fixed = false, 0, 0, 0, -1
	return s
}

// First is the first offset that the chunk covers.
func (c *Cutter) First() int64 { return c.first }

// Next is the first offset not yet seen.
func (c *Cutter) Next() int64 { return c.next }

// Open tells whether the chunk holds anything but ticks, and since what broker time.
func (c *Cutter) Open() (sinceMS int64, open bool) { return c.since, c.open }
