// Package lakehistory reads what machines said from the lake's table of readings, in the order in which the broker received it: history for a trial.
//
// An hour of arrival is read at a time. Memory: one file, and the samples of the chosen machines in that hour.
package lakehistory

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trial"
)

const (
	table = "readings"
	// maxFile is the most bytes of one file, which is held while it is read.
	maxFile = 1 << 30
	// chunk is how long a file may go on after the hour of its folder has begun.
	chunk = 2 * time.Hour
	// late is how long after the end of a stretch readings of it may arrive and still be found.
	late = 6 * time.Hour
	// statistic is how many bytes of a text the files' statistics hold at least.
	statistic = 16
	// maxNames bounds the ids that are looked at to choose machines from.
	maxNames = 1_000_000
)

// History is a stretch of history of some machines. Not safe for concurrent use.
type History struct {
	Bucket   objstore.Bucket
	From, To time.Time // of the machines' own time
	// Wanted tells whether a machine is asked for.
	Wanted func(equipmentID string) bool
	// MaxMachines are judged at most. Of more, those with the smallest hashes of their ids: a sample that is the same each time.
	MaxMachines int
	// MaxSamples are given at most: what comes after is left out, and Cut says from when. MaxValues of them are held at once.
	MaxSamples, MaxValues int64
	// Progress is told how much is read, in [0, 1]; may be nil.
	Progress func(float64)

	Matched int       // machines that are asked for and have history
	Cut     time.Time // zero: nothing was left out
	Samples int64

	names    map[string]string // interned
	lists    map[string][]string
	machines map[string]bool
}

// TooMuch is history that does not fit into the limits.
type TooMuch struct{ Reason string }

func (e *TooMuch) Error() string { return e.Reason }

// Unreadable is a file of the lake that is none.
type Unreadable struct {
	Key string
	Err error
}

func (e *Unreadable) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *Unreadable) Unwrap() error { return e.Err }

// Each is trial.Source.
func (h *History) Each(ctx context.Context, do func(*trial.Sample) error) error {
	view, err := lake.Open(ctx, h.Bucket, table)
	if err != nil {
		return err
	}
	var files []lake.Entry
	for e, err := range view.Files(ctx, h.From.Add(-chunk), h.To.Add(late)) {
		if err != nil {
			return err
		}
		files = append(files, e)
	}
	h.names, h.lists = map[string]string{}, map[string][]string{}
	if err := h.choose(ctx, files); err != nil {
		return err
	}
	for i := 0; i < len(files) && h.Cut.IsZero(); {
		n := i
		for n < len(files) && files[n].Hour.Equal(files[i].Hour) {
			n++
		}
		if err := h.hour(ctx, files[i:n], do); err != nil {
			return err
		}
		i = n
		h.report(chosen + (1-chosen)*float64(i)/float64(len(files)))
	}
	return nil
}

// chosen is the share of the work that choosing the machines counts as.
const chosen = 0.1

func (h *History) report(done float64) {
	if h.Progress != nil {
		h.Progress(done)
	}
}

// choose finds the machines that have history.
func (h *History) choose(ctx context.Context, files []lake.Entry) error {
	seen := map[string]bool{}
	var all []string
	for i, f := range files {
		err := h.open(ctx, f.Key, func(p *parquet.File) error {
			return rows(parquet.NewGenericReader[struct {
				EquipmentID string `parquet:"equipment_id"`
			}](p), func(batch []struct {
				EquipmentID string `parquet:"equipment_id"`
			},
			) error {
				for j := range batch {
					id := batch[j].EquipmentID
					if j > 0 && id == batch[j-1].EquipmentID || seen[id] {
						continue
					}
					if len(seen) >= maxNames {
						return &TooMuch{fmt.Sprintf("more than %d machines", maxNames)}
					}
					id = strings.Clone(id)
					if seen[id] = true; h.Wanted(id) {
						all = append(all, id)
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		h.report(chosen * float64(i+1) / float64(len(files)))
	}
	h.Matched = len(all)
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(hash(a), hash(b)), cmp.Compare(a, b)) })
	h.machines = map[string]bool{}
	for _, id := range all[:min(len(all), h.MaxMachines)] {
		h.machines[id] = true
	}
	return nil
}

func hash(s string) uint64 {
	f := fnv.New64a()
	_, _ = f.Write([]byte(s))
	return f.Sum64()
}

// open reads one file. A hostile one must not end the process.
func (h *History) open(ctx context.Context, key string, read func(*parquet.File) error) (err error) {
	data, _, err := h.Bucket.Get(ctx, key, maxFile)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil // merged or removed since it was listed, a grace ago: what it held is too old to be kept
	}
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = &Unreadable{key, fmt.Errorf("no readable Parquet file: %v", p)}
		}
	}()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return &Unreadable{key, err}
	}
	if err := read(f); err != nil {
		var much *TooMuch
		if errors.As(err, &much) || ctx.Err() != nil {
			return err
		}
		return &Unreadable{key, err}
	}
	return ctx.Err()
}

// rows gives a reader's rows in batches and closes it.
func rows[T any](r *parquet.GenericReader[T], do func([]T) error) (err error) {
	defer func() { err = errors.Join(err, r.Close()) }()
	batch := make([]T, 1024)
	for {
		n, err := r.Read(batch)
		if err := do(batch[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// row is what is read of the table.
type row struct {
	EquipmentID string   `parquet:"equipment_id"`
	TS          int64    `parquet:"ts,timestamp(microsecond)"`
	Sensor      string   `parquet:"sensor"`
	Value       *float32 `parquet:"value,optional"`
	Quality     string   `parquet:"quality"`
	Sample      int32    `parquet:"sample"`
	Received    int64    `parquet:"log_append_time,timestamp(microsecond)"`
	Offset      int64    `parquet:"offset"`
}

// sample is a trial.Sample with its place in the log.
type sample struct {
	trial.Sample
	offset int64
	number int32
}

// hour reads what arrived in one hour and gives it, machine by machine.
func (h *History) hour(ctx context.Context, files []lake.Entry, do func(*trial.Sample) error) error {
	var all []*sample
	var values int64
	for _, f := range files {
		err := h.open(ctx, f.Key, func(p *parquet.File) error {
			var open []*sample // of one machine and time; nearly always one
			var machine string
			var ts int64
			flush := func() {
				for _, s := range open {
					h.name(s)
					all = append(all, s)
				}
				open = open[:0]
			}
			column := -1
			if leaf, ok := p.Schema().Lookup("equipment_id"); ok {
				column = leaf.ColumnIndex
			}
			for _, g := range p.RowGroups() {
				if column >= 0 && !h.holds(g.ColumnChunks()[column]) {
					continue
				}
				err := rows(parquet.NewGenericRowGroupReader[row](g), func(batch []row) error {
					for i := range batch {
						v := &batch[i]
						if !h.machines[v.EquipmentID] || v.TS < h.From.UnixMicro() || v.TS >= h.To.UnixMicro() {
							continue
						}
						if v.EquipmentID != machine || v.TS != ts {
							flush()
							machine, ts = h.intern(v.EquipmentID), v.TS
						}
						at := slices.IndexFunc(open, func(s *sample) bool { return s.offset == v.Offset && s.number == v.Sample })
						if at < 0 {
							at = len(open)
							open = append(open, &sample{
								Sample: trial.Sample{Machine: machine, At: time.UnixMicro(v.TS).UTC(), Received: time.UnixMicro(v.Received).UTC()}, offset: v.Offset, number: v.Sample,
							})
						}
						open[at].add(h.intern(v.Sensor), v)
						if values++; values > h.MaxValues {
							return &TooMuch{fmt.Sprintf("more than %d values in one hour: choose fewer machines", h.MaxValues)}
						}
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			flush()
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(all, func(a, b *sample) int {
		return cmp.Or(cmp.Compare(a.Machine, b.Machine), a.Received.Compare(b.Received), cmp.Compare(a.offset, b.offset), cmp.Compare(a.number, b.number))
	})
	if h.Samples+int64(len(all)) > h.MaxSamples {
		h.Cut = files[0].Hour
		return nil
	}
	for i, s := range all {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		h.Samples++
		if err := do(&s.Sample); err != nil {
			return err
		}
	}
	return nil
}

func (s *sample) add(sensor string, v *row) {
	s.Sensors = append(s.Sensors, sensor)
	x := float32(math.NaN())
	if v.Value != nil {
		x = *v.Value
	}
	s.Values = append(s.Values, x)
	code := quality(v.Quality)
	if code != good && s.Qualities == nil {
		s.Qualities = make([]uint8, len(s.Values)-1, cap(s.Values))
		for i := range s.Qualities {
			s.Qualities[i] = good
		}
	}
	if s.Qualities != nil {
		s.Qualities = append(s.Qualities, code)
	}
}

// Codes of qualities in frames.
const good, uncertain, bad, missing = 1, 2, 3, 4

func quality(word string) uint8 {
	switch word {
	case "uncertain":
		return uncertain
	case "bad":
		return bad
	case "missing":
		return missing
	}
	return good
}

func (h *History) intern(s string) string {
	if known, ok := h.names[s]; ok {
		return known
	}
	s = strings.Clone(s)
	h.names[s] = s
	return s
}

// name has a sample share the list of sensors with the machine's sample before, if it is the same.
func (h *History) name(s *sample) {
	if last := h.lists[s.Machine]; slices.Equal(last, s.Sensors) {
		s.Sensors = last
		return
	}
	h.lists[s.Machine] = s.Sensors
}

// holds tells whether a part of a file may hold a chosen machine, by its statistics, which may be cut after some bytes.
func (h *History) holds(c parquet.ColumnChunk) bool {
	index, err := c.ColumnIndex()
	if err != nil || index == nil || index.NumPages() == 0 {
		return true
	}
	for i := range index.NumPages() {
		low, high := string(index.MinValue(i).ByteArray()), string(index.MaxValue(i).ByteArray())
		for id := range h.machines {
			if id >= low && id[:min(len(id), statistic)] <= high {
				return true
			}
		}
	}
	return false
}
