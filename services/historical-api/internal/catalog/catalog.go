package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

// Catalog lists the lake, a table at a time, at most every refresh. Safe for concurrent use.
type Catalog struct {
	bucket  objstore.Bucket
	files   Files
	refresh time.Duration
	now     func() time.Time
	tables  map[string]*listed
}

// Files makes objects readable by path.
type Files interface {
	// Root is the folder below which all of them lie, under their keys.
	Root() string
	// Hold makes the objects readable until release is called.
	Hold(ctx context.Context, entries []lake.Entry) (release func(), err error)
}

type listed struct {
	Table
	mu      sync.Mutex // held while listing: others wait for the same answer
	at      time.Time
	entries []lake.Entry
	covered lake.Spans        // offsets that the manifest covers
	begins  map[string]origin // where the offsets of a merged file's group begin
}

// origin is an offset of a source.
type origin struct {
	source string
	offset int64
}

// listing is a table as it was listed at one time.
type listing struct {
	entries []lake.Entry
	covered lake.Spans
	begins  map[string]origin
}

// rolledUp tells whether the rows of e, a file of this listing, are in a rollup that covers those offsets. They are all or none (docs/LAKE.md), so one offset tells.
func (l listing) rolledUp(e lake.Entry, covered lake.Spans) bool {
	at := l.begins[e.Key]
	if !e.Merged {
		at = origin{lake.SourceName(e.Raw.Source), e.Raw.First}
	}
	_, in := covered.Holds(at.source, at.offset)
	return in
}

// New lists what is in the bucket.
func New(bucket objstore.Bucket, files Files, refresh time.Duration, now func() time.Time) *Catalog {
	c := &Catalog{bucket: bucket, files: files, refresh: refresh, now: now, tables: map[string]*listed{}}
	for _, t := range Tables() {
		c.tables[t.Name] = &listed{Table: t}
	}
	return c
}

// Range is what is asked for: event time (zero times are open), and machines in order (none: all), so that files which the manifest says to hold others are not opened.
type Range struct {
	From, To time.Time
	Machines []string
	// Rollup is a table that is read too: of readings only the files are wanted whose rows are not in it.
	Rollup string
}

// mayHold tells whether a merged file may have rows of the range, as far as the manifest knows.
func (r Range) mayHold(f lake.File) bool {
	var from, to int64
	if !r.From.IsZero() {
		from = r.From.UnixMicro()
	}
	if !r.To.IsZero() {
		to = r.To.UnixMicro()
	}
	return f.MayHold(r.Machines, from, to)
}

// Part is what a query reads of the lake.
type Part struct {
	entries map[string][]lake.Entry
	within  Range
	// Version names the files: equal versions, equal answers.
	Version string
	Bytes   int64
}

// Find lists the files of the tables that may have rows of the event times asked for: a file lies in the folder of the hour that its first record was stored in, so none
// stored more than an hour before from can have any (docs/LAKE.md). How late rows may come has no bound; so there is none at the other end, and statistics in the files do the rest.
func (c *Catalog) Find(ctx context.Context, tables []string, within Range) (Part, error) {
	p := Part{entries: map[string][]lake.Entry{}, within: within}
	h := sha256.New()
	for _, name := range slices.Sorted(slices.Values(tables)) {
		t, ok := c.tables[name]
		if !ok {
			return p, fmt.Errorf("no table is called %q", name)
		}
		all, err := t.list(ctx, c)
		if err != nil {
			return p, err
		}
		var rolled lake.Spans
		if within.Rollup != "" && name == "readings" {
			// Listed at another time than readings: it may cover what is not listed here yet, and nothing that is listed is in both.
			r, err := c.tables[within.Rollup].list(ctx, c)
			if err != nil {
				return p, err
			}
			rolled = r.covered
		}
		var some []lake.Entry
		for _, e := range all.entries {
			if rolled != nil && all.rolledUp(e, rolled) {
				continue
			}
			if !within.From.IsZero() && e.Last.Before(within.From.Add(-slack).Truncate(time.Hour)) {
				continue
			}
			if e.Merged && !within.mayHold(e.File) {
				continue
			}
			some = append(some, e)
			p.Bytes += e.Size
			fmt.Fprintf(h, "%s\x00", e.Key)
			_ = binary.Write(h, binary.BigEndian, e.Size)
		}
		p.entries[name] = some
		fmt.Fprintf(h, "\x01%s", name)
	}
	p.Version = hex.EncodeToString(h.Sum(nil)[:8])
	return p, nil
}

// slack: a file may begin late in the hour before, and a machine's clock may be five minutes ahead of the broker's.
const slack = time.Hour + 5*time.Minute

func (t *listed) list(ctx context.Context, c *Catalog) (listing, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := c.now(); !t.at.IsZero() && now.Sub(t.at) < c.refresh {
		return listing{t.entries, t.covered, t.begins}, nil
	}
	began := c.now()
	view, err := lake.Open(ctx, c.bucket, t.Name)
	if err != nil {
		return listing{}, fmt.Errorf("lake: %w", err)
	}
	var entries []lake.Entry
	for e, err := range view.Files(ctx, time.Time{}, time.Time{}) {
		if err != nil {
			return listing{}, fmt.Errorf("lake: %w", err)
		}
		entries = append(entries, e)
	}
	begins := map[string]origin{}
	for _, g := range view.Manifest.Groups {
		for source, spans := range g.Covers {
			for _, f := range g.Files {
				begins[f.Key] = origin{source, spans[0].First}
			}
		}
	}
	t.entries, t.at, t.covered, t.begins = entries, began, view.Manifest.Covered(), begins
	return listing{entries, t.covered, begins}, nil
}

// Hold makes a part readable until release is called.
func (c *Catalog) Hold(ctx context.Context, p Part) (worker.Files, func(), error) {
	f := worker.Files{Root: c.files.Root(), Tables: map[string]worker.Table{}}
	f.Machines = p.within.Machines
	if !p.within.From.IsZero() {
		f.FromUS = p.within.From.UnixMicro()
	}
	if !p.within.To.IsZero() {
		f.ToUS = p.within.To.UnixMicro()
	}
	var all []lake.Entry
	for name, entries := range p.entries {
		t := worker.Table{Columns: c.tables[name].Columns, Time: c.tables[name].Time}
		// The newest first: it has the columns of all others (a table only grows).
		for _, e := range slices.Backward(entries) {
			t.Files = append(t.Files, filepath.Join(f.Root, filepath.FromSlash(e.Key)))
		}
		f.Tables[name] = t
		all = append(all, entries...)
	}
	release, err := c.files.Hold(ctx, all)
	return f, release, err
}

// Size of a table.
type Size struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	// Hours of the first and the last folder.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// Sizes of all tables.
func (c *Catalog) Sizes(ctx context.Context) (map[string]Size, error) {
	out := map[string]Size{}
	for name, t := range c.tables {
		l, err := t.list(ctx, c)
		if err != nil {
			return nil, err
		}
		s := Size{Files: len(l.entries)}
		for _, e := range l.entries {
			s.Bytes += e.Size
			if s.First.IsZero() || e.Hour.Before(s.First) {
				s.First = e.Hour
			}
			if e.Hour.After(s.Last) {
				s.Last = e.Hour
			}
		}
		out[name] = s
	}
	return out, nil
}

// ErrTooLarge: a query would read more than may be kept of a distant store at once.
var ErrTooLarge = errors.New("the query reads more files than the cache may hold")
