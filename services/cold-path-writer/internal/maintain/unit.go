package maintain

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/colmerge"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// unit is what is merged or removed whole: a raw file, or a group. Its files, one after another, are sorted.
type unit struct {
	key   string // its first file's, which gives the order
	files []lake.File
	hour  int64
	hours int // 1 or lake.DayHours
	rows  int64
	bytes int64
	hash  uint64
	// covers is known of groups; of raw files only after complete.
	covers lake.Spans
	raw    *lake.Entry
}

const (
	hourMS = int64(time.Hour / time.Millisecond)
	dayMS  = lake.DayHours * hourMS
)

// day that the unit's folders are of.
func (u *unit) day() int64 { return u.hour - (u.hour%dayMS+dayMS)%dayMS }

// old tells whether what came in the unit's hours came so long ago.
func (k *Keeper) old(u *unit, age time.Duration) bool {
	return k.ended(u.hour+int64(u.hours)*hourMS, age)
}

func (k *Keeper) ended(atMS int64, age time.Duration) bool {
	return atMS+age.Milliseconds() <= k.Now().UnixMilli()
}

// units of a table, in the order of hours and keys.
func (k *Keeper) units(ctx context.Context, v *lake.View) ([]*unit, error) {
	var out []*unit
	for i := range v.Manifest.Groups {
		g := &v.Manifest.Groups[i]
		hash, err := lake.ParseHash(g.Hash)
		if err != nil || len(g.Files) == 0 {
			return nil, fmt.Errorf("manifest %d: group of %d has no files or no hash", v.Manifest.Version, g.HourMS)
		}
		u := &unit{key: g.Files[0].Key, files: g.Files, hour: g.HourMS, hours: max(1, g.Hours), rows: g.Rows, hash: hash, covers: g.Covers}
		for _, f := range g.Files {
			u.bytes += f.Bytes
		}
		out = append(out, u)
	}
	for e, err := range v.Files(ctx, time.Time{}, time.Time{}) {
		if err != nil {
			return nil, err
		}
		if e.Merged {
			continue
		}
		out = append(out, &unit{key: e.Key, files: []lake.File{{Key: e.Key, Bytes: e.Size}}, hour: e.Hour.UnixMilli(), hours: 1, bytes: e.Size, raw: &e})
	}
	slices.SortFunc(out, func(a, b *unit) int { return cmp.Or(cmp.Compare(a.hour, b.hour), cmp.Compare(a.key, b.key)) })
	return out, nil
}

// complete reads what of a raw file stands in its metadata.
func (k *Keeper) complete(ctx context.Context, u *unit) error {
	if u.raw == nil || u.covers != nil {
		return nil
	}
	o, known := k.heads[u.key]
	if !known {
		info, err := k.Bucket.Head(ctx, u.key)
		if err != nil {
			return err
		}
		if o, err = u.raw.Raw.WithMetadata(info.Metadata); err != nil {
			return fmt.Errorf("%s: %w", u.key, err)
		}
		if k.heads == nil {
			k.heads = map[string]lake.Object{}
		}
		k.heads[u.key] = o
	}
	u.rows, u.hash = o.Rows, o.Hash
	u.covers = lake.Spans{lake.SourceName(o.Source): {{First: o.First, End: o.End}}}
	return nil
}

// fit is as many units from the first on as a merge may hold, two at least, if there are.
func (k *Keeper) fit(ctx context.Context, t table.Merger, units []*unit) ([]*unit, error) {
	var need int64
	for i, u := range units {
		if err := k.complete(ctx, u); err != nil {
			return nil, err
		}
		if need += t.Memory(u.rows, u.bytes); need > k.Policy.InputBytes && i >= 2 {
			return units[:i], nil
		}
	}
	return units, nil
}

// runs are the units' files, to be read while ctx lasts, and a name for all of them.
func (k *Keeper) runs(ctx context.Context, units []*unit) (runs []colmerge.Run, id uint64) {
	h := fnv.New64a()
	for _, u := range units {
		var run colmerge.Run
		for _, f := range u.files {
			_, _ = h.Write([]byte(f.Key)) // never fails
			run = append(run, colmerge.File{Name: f.Key, Size: f.Bytes, Read: func(off, n int64) ([]byte, error) {
				return k.Bucket.GetRange(ctx, f.Key, off, n)
			}})
		}
		runs = append(runs, run)
	}
	return runs, h.Sum64()
}

// drop takes units out of what counts: their files become waste.
func (k *Keeper) drop(m *lake.Manifest, units []*unit, action *lake.Action) {
	gone := map[string]bool{}
	m.Waste = slices.Clone(m.Waste)
	for _, u := range units {
		for _, f := range u.files {
			gone[f.Key] = true
			m.Waste = append(m.Waste, lake.Waste{Key: f.Key, SinceMS: k.Now().UnixMilli()})
			action.Removed = append(action.Removed, f.Key)
		}
	}
	m.Groups = slices.DeleteFunc(slices.Clone(m.Groups), func(g lake.Group) bool { return gone[g.Files[0].Key] })
}

func step(tableName, kind string, hour int64, hours int, units []*unit) Step {
	s := Step{Table: tableName, Kind: kind, HourMS: hour, Hours: hours}
	for _, u := range units {
		s.Files += len(u.files)
		s.Bytes += u.bytes
		s.Rows += u.rows
	}
	return s
}
