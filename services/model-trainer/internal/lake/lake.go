// Package lake reads samples to train on from the lake's table of readings, as the cold-path-writer keeps it: Parquet files with a row for each value, sorted by machine and time.
//
// Memory is bounded by the file that is read and by the rows that are kept. Of more samples than that, those are kept whose machine and time have the smallest hashes: a uniform sample without replacement, the
// same whatever the order and number of files.
package lake

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	layout "github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// Query says which samples.
type Query struct {
	From     time.Time `json:"from"` // of the readings' own time
	To       time.Time `json:"to"`
	Machines []string  `json:"machines"` // ids, or patterns with *; empty: all
	Sensors  []string  `json:"sensors"`  // the features, in this order; a sample is used if it has all of them
	Rows     int       `json:"rows"`     // most to keep; default 100,000
	// Hold fills in a sensor that a sample lacks with its machine's last value, if that is no older; for machines whose sensors do not report together.
	Hold Duration `json:"hold"`
	// Late readings are looked for in files written up to so long after To; default 24h.
	Late Duration `json:"late"`
}

// Duration is written like 90s in JSON.
type Duration time.Duration

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText writes it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

const (
	defaultRows = 100_000
	maxSensors  = 4096
	maxMachines = 100_000 // whose last values are held
	maxFile     = 1 << 30 // bytes of one file of the lake
	table       = "tocsin/readings/"
)

// Validate names the field that is wrong. maxRows and maxValues bound what is kept.
func (q *Query) Validate(maxRows, maxValues int) error {
	if q.Rows == 0 {
		q.Rows = min(defaultRows, maxRows, maxValues/max(1, len(q.Sensors)))
	}
	if q.Late == 0 {
		q.Late = Duration(24 * time.Hour)
	}
	switch {
	case q.From.IsZero() || q.To.IsZero() || !q.From.Before(q.To):
		return errors.New("from: both from and to are needed, from before to")
	case len(q.Sensors) == 0 || len(q.Sensors) > maxSensors:
		return fmt.Errorf("sensors: %d are not between 1 and %d", len(q.Sensors), maxSensors)
	case q.Rows < 2 || q.Rows > maxRows || q.Rows*len(q.Sensors) > maxValues:
		return fmt.Errorf("rows: %d is less than 2, more than max_train_rows (%d), or makes more than max_train_values (%d)", q.Rows, maxRows, maxValues)
	case q.Hold < 0 || q.Late < 0:
		return errors.New("hold, late: must not be negative")
	}
	for i, s := range q.Sensors {
		if s == "" || slices.Index(q.Sensors, s) < i {
			return fmt.Errorf("sensors[%d]: empty, or given twice", i)
		}
	}
	for i, m := range q.Machines {
		if _, err := path.Match(m, ""); err != nil {
			return fmt.Errorf("machines[%d]: %q is no pattern", i, m)
		}
	}
	return nil
}

// Sample is one moment of one machine.
type Sample struct {
	Machine string
	TimeUS  int64
	Values  []float32 // by sensor of the query

	hash uint64
}

// Result is what was found, by machine and time.
type Result struct {
	Samples []Sample
	Seen    int // samples that had all sensors; more than Samples when some were left out
	Partial int // samples that lacked a sensor
	Files   int
}

// row is what is read of a row of the table.
type row struct {
	EquipmentID string   `parquet:"equipment_id"`
	TS          int64    `parquet:"ts,timestamp(microsecond)"`
	Sensor      string   `parquet:"sensor"`
	Value       *float32 `parquet:"value,optional"`
	Validity    string   `parquet:"validity"`
}

// Error is something wrong in the lake, or with what was asked of it.
type Error struct{ Reason string }

func (e *Error) Error() string { return e.Reason }

// Read finds the samples. progress, if not nil, is told how much of the files is read.
func Read(ctx context.Context, b objstore.Bucket, q Query, progress func(float64)) (*Result, error) {
	keys, err := files(ctx, b, &q)
	if err != nil {
		return nil, err
	}
	r := &reader{q: &q, at: make(map[string]int, len(q.Sensors)), wanted: map[string]bool{}, last: map[string]*held{}, now: make([]float32, len(q.Sensors))}
	for i, s := range q.Sensors {
		r.at[s] = i
	}
	for i, key := range keys {
		data, _, err := b.Get(ctx, key, maxFile)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", key, err)
		}
		if err := r.file(data); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if progress != nil {
			progress(float64(i+1) / float64(len(keys)))
		}
	}
	out := &Result{Samples: r.kept, Seen: r.seen, Partial: r.partial, Files: len(keys)}
	if len(out.Samples) < 2 {
		return nil, &Error{fmt.Sprintf("%d samples with all of the sensors %q in %d files of the lake, %d lacked some; at least 2 are needed", r.seen, q.Sensors, len(keys), r.partial)}
	}
	slices.SortFunc(out.Samples, func(a, b Sample) int {
		if c := strings.Compare(a.Machine, b.Machine); c != 0 {
			return c
		}
		return int(max(-1, min(a.TimeUS-b.TimeUS, 1)))
	})
	return out, nil
}

// files lists those that may hold readings of the range. A folder's hour is the broker's time of a file's first record. Readings are at most minutes ahead of the broker, so older folders hold none of the range;
// younger ones may hold late ones.
func files(ctx context.Context, b objstore.Bucket, q *Query) ([]string, error) {
	const chunk = 2 * time.Hour // a file's span, and the hour of its folder
	view, err := layout.Open(ctx, b, path.Base(table))
	if err != nil {
		return nil, err
	}
	var out []string
	for day := q.From.Add(-chunk).UTC().Truncate(24 * time.Hour); !day.After(q.To.Add(time.Duration(q.Late))); day = day.Add(24 * time.Hour) {
		for info, err := range b.List(ctx, table+"date="+day.Format(time.DateOnly)+"/") {
			if err != nil {
				return nil, fmt.Errorf("listing the lake: %w", err)
			}
			hour, err := time.Parse("date=2006-01-02/hour=15", path.Dir(strings.TrimPrefix(info.Key, table)))
			if err != nil || !strings.HasSuffix(info.Key, ".parquet") {
				continue // not ours
			}
			last := hour
			if e, counts, err := view.Counts(info.Key); err == nil {
				if !counts {
					continue // its rows stand in a merged file, or are to be forgotten
				}
				last = e.Last // a day's file lies in the folder of its first hour
			}
			if last.Add(chunk).Before(q.From) || hour.After(q.To.Add(time.Duration(q.Late))) {
				continue
			}
			out = append(out, info.Key)
		}
	}
	return out, nil
}

// held is a machine's last values.
type held struct {
	values []float32
	times  []int64
}

type reader struct {
	q      *Query
	at     map[string]int
	wanted map[string]bool // by machine, as far as asked
	last   map[string]*held

	machine string // of the sample that is being read
	ts      int64
	now     []float32
	open    bool

	kept    sample // a heap, the greatest hash first, once it is full
	seen    int
	partial int
}

// file reads one file's rows. What does not look like a table of readings is an *Error.
func (r *reader) file(data []byte) (err error) {
	defer func() { // a hostile file must not end the process
		if p := recover(); p != nil {
			err = &Error{fmt.Sprintf("no readable Parquet file: %v", p)}
		}
	}()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return &Error{"no readable Parquet file: " + err.Error()}
	}
	rows := parquet.NewGenericReader[row](f)
	defer func() { err = errors.Join(err, rows.Close()) }()
	batch := make([]row, 1024)
	for {
		n, err := rows.Read(batch)
		for i := range batch[:n] {
			r.row(&batch[i])
		}
		if errors.Is(err, io.EOF) {
			r.close()
			return nil
		}
		if err != nil {
			return &Error{err.Error()}
		}
	}
}

func (r *reader) row(v *row) {
	if !r.open || v.EquipmentID != r.machine || v.TS != r.ts {
		r.close()
		if v.TS < r.q.From.UnixMicro() || v.TS >= r.q.To.UnixMicro() || !r.wants(v.EquipmentID) {
			return
		}
		r.open, r.machine, r.ts = true, strings.Clone(v.EquipmentID), v.TS
		for i := range r.now {
			r.now[i] = float32(math.NaN())
		}
	}
	// Only what the judge found good teaches what is usual.
	if i, ok := r.at[v.Sensor]; ok && v.Validity == "good" && v.Value != nil && math.Abs(float64(*v.Value)) <= math.MaxFloat32 {
		r.now[i] = *v.Value
	}
}

func (r *reader) wants(machine string) bool {
	if len(r.q.Machines) == 0 {
		return true
	}
	w, ok := r.wanted[machine]
	if !ok {
		w = slices.ContainsFunc(r.q.Machines, func(p string) bool { m, _ := path.Match(p, machine); return m })
		if len(r.wanted) < maxMachines {
			r.wanted[strings.Clone(machine)] = w
		}
	}
	return w
}

// close ends the sample that is being read.
func (r *reader) close() {
	if !r.open {
		return
	}
	r.open = false
	if r.q.Hold > 0 {
		r.fill()
	}
	if slices.ContainsFunc(r.now, func(v float32) bool { return v != v }) {
		r.partial++
		return
	}
	r.seen++
	s := Sample{Machine: r.machine, TimeUS: r.ts, hash: hashOf(r.machine, r.ts)}
	switch {
	case len(r.kept) < r.q.Rows:
		s.Values = slices.Clone(r.now)
		if r.kept = append(r.kept, s); len(r.kept) == r.q.Rows {
			heap.Init(&r.kept)
		}
	case s.before(&r.kept[0]):
		s.Values = append(r.kept[0].Values[:0], r.now...)
		r.kept[0] = s
		heap.Fix(&r.kept, 0)
	}
}

// fill takes sensors that the sample lacks from what the machine said last, and remembers what it has.
func (r *reader) fill() {
	h := r.last[r.machine]
	if h == nil {
		if len(r.last) == maxMachines {
			return
		}
		h = &held{make([]float32, len(r.now)), make([]int64, len(r.now))}
		r.last[r.machine] = h
	}
	for i, v := range r.now {
		switch age := r.ts - h.times[i]; {
		case v == v:
			h.values[i], h.times[i] = v, r.ts
		case h.times[i] != 0 && age >= 0 && age <= time.Duration(r.q.Hold).Microseconds():
			r.now[i] = h.values[i]
		}
	}
}

func hashOf(machine string, ts int64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.LittleEndian.AppendUint64([]byte(machine), uint64(ts)))
	x := h.Sum64() // mixed once more: the low bits of FNV follow the last bytes (murmur3's finaliser)
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// before orders samples by hash, and where that is the same by what they are, so that nothing hangs on the order of files.
func (s *Sample) before(o *Sample) bool {
	if s.hash != o.hash {
		return s.hash < o.hash
	}
	if s.Machine != o.Machine {
		return s.Machine < o.Machine
	}
	return s.TimeUS < o.TimeUS
}

// sample is a heap with the last sample of the order in front.
type sample []Sample

func (s sample) Len() int           { return len(s) }
func (s sample) Less(i, j int) bool { return s[j].before(&s[i]) }
func (s sample) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *sample) Push(x any)        { *s = append(*s, x.(Sample)) }
func (s *sample) Pop() any          { o := *s; x := o[len(o)-1]; *s = o[:len(o)-1]; return x }
