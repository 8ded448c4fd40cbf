package lake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// View is a table at one version of its manifest. Raw files that the writer adds later are seen by a later call of Files. Safe for concurrent use.
type View struct {
	Table    string
	Manifest *Manifest
	bucket   objstore.Bucket
	covered  Spans
	named    map[string]File
}

// Open reads the table's manifest. What a View yields stays readable for the grace that maintenance leaves, an hour at least: open one for a query,
// not for a day.
func Open(ctx context.Context, b objstore.Bucket, table string) (*View, error) {
	m, err := LoadManifest(ctx, b, table)
	if err != nil {
		return nil, err
	}
	return NewView(b, m), nil
}

// NewView is the table at m.
func NewView(b objstore.Bucket, m *Manifest) *View {
	return &View{Table: m.Table, Manifest: m, bucket: b, covered: m.Covered(), named: m.Files()}
}

// Entry is a file that counts.
type Entry struct {
	Key    string
	Size   int64
	Hour   time.Time // of its folder
	Last   time.Time // the last hour that rows of it may have come in: Hour, but for a day's file
	Merged bool
	// File is what the manifest says of a merged file.
	File File
	// Raw says which partition's offsets begin where; of a raw file only. Its End is not known from the key.
	Raw Object
}

// Counts tells whether the object at key counts, and what it is. ErrForeign: it is none of the lake's.
func (v *View) Counts(key string) (Entry, bool, error) {
	if m, ok := ParseMerged(key); ok {
		f, counts := v.named[key]
		hour := time.UnixMilli(m.HourMS).UTC()
		return Entry{Key: key, Hour: hour, Last: hour.Add(time.Duration(m.Hours-1) * time.Hour), Merged: true, File: f}, counts, nil
	}
	o, err := ParseKey(key)
	if err != nil {
		return Entry{}, false, err
	}
	_, gone := v.covered.Holds(SourceName(o.Source), o.First)
	hour := time.UnixMilli(o.SinceMS).UTC()
	return Entry{Key: key, Hour: hour, Last: hour, Raw: o}, !gone, nil
}

// Files yields the files that count with rows that came in the hours from ... to, both included, in the order of their keys; zero times mean no bound. It lists a
// day's folders at a time. What is none of the lake's is passed over. An error ends it.
func (v *View) Files(ctx context.Context, from, to time.Time) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, prefix := range prefixes(v.Table, from, to) {
			for info, err := range v.bucket.List(ctx, prefix) {
				if err != nil {
					yield(Entry{}, fmt.Errorf("list %s: %w", prefix, err))
					return
				}
				e, counts, err := v.Counts(info.Key)
				if err != nil && !errors.Is(err, ErrForeign) {
					yield(Entry{}, err)
					return
				}
				if err != nil || !counts || !from.IsZero() && e.Last.Before(from.Truncate(time.Hour)) || !to.IsZero() && e.Hour.After(to) {
					continue
				}
				if e.Size = info.Size; !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Tables names the tables that have a folder in the lake, sorted; whether a file counts there it does not ask.
func Tables(ctx context.Context, b objstore.Bucket) ([]string, error) {
	all, err := objstore.Folders(ctx, b, Root)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(name string) bool { return strings.HasPrefix(name, "_") }), nil
}

// maxDays are listed each on its own; above, the whole table is.
const maxDays = 400

func prefixes(table string, from, to time.Time) []string {
	all := []string{Prefix(table)}
	if from.IsZero() || to.IsZero() || to.Sub(from) > maxDays*24*time.Hour {
		return all
	}
	var out []string
	for day := from.UTC().Truncate(24 * time.Hour); !day.After(to); day = day.Add(24 * time.Hour) {
		out = append(out, Prefix(table)+"date="+day.Format(time.DateOnly)+"/")
	}
	return out
}
