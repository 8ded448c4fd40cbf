// Package maintain merges the lake's small files, removes what retention no longer keeps, and deletes what does not count any more.
//
// Each step ends in a commit of the table's manifest, which takes effect at once and whole. Before it nothing has changed for readers; after it what was replaced stays
// for the grace. So a crash at any point leaves a lake that is right, and at most files that nobody counts, which the next run removes. Any number of processes may
// run: a commit that comes too late fails, and its maker begins again.
package maintain

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Policy says what to do with the lake.
type Policy struct {
	MinAge     time.Duration `mapstructure:"min_age" doc:"An hour's files are merged when the hour has ended so long ago. What comes later is merged again."`
	TargetRows int64         `mapstructure:"target_rows" doc:"Rows of a merged file, at most. Files of half as many are left alone."`
	InputBytes int64         `mapstructure:"input_bytes" doc:"Files merged at once, in bytes: they are held in memory."`
	Grace      time.Duration `mapstructure:"grace" doc:"Files that do not count any more stay so long for readers that have begun. Not less than iceberg_committer.iceberg.keep_snapshots, where that runs."`
	Keep       []Keep        `mapstructure:"keep" doc:"How long rows are kept. Tables that are not named are kept for ever."`
}

// Keep is how long a table's rows are kept.
type Keep struct {
	Table string        `mapstructure:"table" doc:"Table of the lake."`
	For   time.Duration `mapstructure:"for" doc:"Rows are removed an hour at a time, when the hour in which they came has ended so long ago."`
}

// DefaultPolicy removes no rows.
func DefaultPolicy() Policy {
	return Policy{MinAge: 2 * time.Hour, TargetRows: 8_000_000, InputBytes: 256 << 20, Grace: 24 * time.Hour}
}

// Validate names the first field that is wrong.
func (p Policy) Validate() error {
	switch {
	case p.MinAge < 0:
		return errors.New("min_age: must not be negative")
	case p.TargetRows < 1000 || p.TargetRows > 64_000_000:
		return fmt.Errorf("target_rows: %d is not in 1000..64000000", p.TargetRows)
	case p.InputBytes < 1<<20:
		return errors.New("input_bytes: must be 1 MiB or more")
	case p.Grace < 0:
		return errors.New("grace: must not be negative")
	}
	for i, k := range p.Keep {
		if !slices.ContainsFunc(table.All(nil), func(t table.Table) bool { return t.Name() == k.Table }) {
			return fmt.Errorf("keep[%d].table: there is no table %q", i, k.Table)
		}
		if k.For < time.Hour {
			return fmt.Errorf("keep[%d].for: must be 1h or more", i)
		}
	}
	return nil
}

// Step is something that was done, or would be.
type Step struct {
	Table   string `json:"table"`
	Kind    string `json:"kind"` // compact, retain or clean
	HourMS  int64  `json:"hour_ms,omitempty"`
	Files   int    `json:"files"` // that go
	Bytes   int64  `json:"bytes"`
	Rows    int64  `json:"rows"`
	Into    int    `json:"into"` // files that come
	IntoLen int64  `json:"into_bytes"`
}

// Keeper maintains a lake. Not safe for concurrent use; other processes' keepers do no harm.
type Keeper struct {
	Bucket objstore.Bucket
	Policy Policy
	// DryRun: only say what would be done.
	DryRun bool
	// By names this process in the audit log.
	By  string
	Now func() time.Time
	Log *zap.Logger
	// Report is told of each step; nil: nobody.
	Report func(Step)
}

func (k *Keeper) report(s Step) {
	k.Log.Info("lake maintenance", zap.Any("step", s), zap.Bool("dry_run", k.DryRun))
	if k.Report != nil {
		k.Report(s)
	}
}

// unit is what is merged or removed whole: a raw file, or a group.
type unit struct {
	key   string // its first file's, which gives the order
	files []lake.File
	hour  int64
	rows  int64
	bytes int64
	hash  uint64
	// covers is known of groups; of raw files only after load.
	covers lake.Spans
	raw    *lake.Entry
}

// units of a table by hour, each hour in the order of keys.
func (k *Keeper) units(ctx context.Context, v *lake.View) (map[int64][]*unit, error) {
	out := map[int64][]*unit{}
	for i := range v.Manifest.Groups {
		g := &v.Manifest.Groups[i]
		hash, err := lake.ParseHash(g.Hash)
		if err != nil || len(g.Files) == 0 {
			return nil, fmt.Errorf("manifest %d: group of %d has no files or no hash", v.Manifest.Version, g.HourMS)
		}
		u := &unit{key: g.Files[0].Key, files: g.Files, hour: g.HourMS, rows: g.Rows, hash: hash, covers: g.Covers}
		for _, f := range g.Files {
			u.bytes += f.Bytes
		}
		out[g.HourMS] = append(out[g.HourMS], u)
	}
	for e, err := range v.Files(ctx, time.Time{}, time.Time{}) {
		if err != nil {
			return nil, err
		}
		if e.Merged {
			continue
		}
		hour := e.Hour.UnixMilli()
		out[hour] = append(out[hour], &unit{key: e.Key, files: []lake.File{{Key: e.Key, Bytes: e.Size}}, hour: hour, bytes: e.Size, raw: &e})
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b *unit) int { return cmp.Compare(a.key, b.key) })
	}
	return out, nil
}

// complete reads what of a raw file stands in its metadata.
func (k *Keeper) complete(ctx context.Context, u *unit) error {
	if u.raw == nil || u.covers != nil {
		return nil
	}
	info, err := k.Bucket.Head(ctx, u.key)
	if err != nil {
		return err
	}
	o, err := u.raw.Raw.WithMetadata(info.Metadata)
	if err != nil {
		return fmt.Errorf("%s: %w", u.key, err)
	}
	u.rows, u.hash = o.Rows, o.Hash
	u.covers = lake.Spans{lake.SourceName(o.Source): {{First: o.First, End: o.End}}}
	return nil
}

const hour = int64(time.Hour / time.Millisecond)

// old tells whether an hour has ended so long ago.
func (k *Keeper) old(hourMS int64, age time.Duration) bool {
	return hourMS+hour+age.Milliseconds() <= k.Now().UnixMilli()
}

// maxStale until the next run.
const maxStale = 20

// Compact merges the table's small files.
func (k *Keeper) Compact(ctx context.Context, t table.Merger) error {
	for stale := 0; ; {
		did, err := k.compactOnce(ctx, t)
		switch {
		case errors.Is(err, lake.ErrStale) && stale < maxStale:
			stale++
		case err != nil:
			return fmt.Errorf("compact %s: %w", t.Name(), err)
		case !did:
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// compactOnce merges one hour's files; false: there are none to merge.
func (k *Keeper) compactOnce(ctx context.Context, t table.Merger) (bool, error) {
	m, err := lake.LoadManifest(ctx, k.Bucket, t.Name())
	if err != nil {
		return false, err
	}
	byHour, err := k.units(ctx, lake.NewView(k.Bucket, m))
	if err != nil {
		return false, err
	}
	hours := make([]int64, 0, len(byHour))
	for h := range byHour {
		hours = append(hours, h)
	}
	slices.Sort(hours)
	for _, h := range hours {
		if !k.old(h, k.Policy.MinAge) {
			continue
		}
		pick, err := k.pick(ctx, byHour[h])
		if err != nil {
			return false, err
		}
		if len(pick) == 0 {
			continue
		}
		if k.DryRun {
			k.report(step(t.Name(), "compact", pick))
			continue
		}
		return true, k.merge(ctx, t, m, pick)
	}
	return false, nil
}

func step(tableName, kind string, units []*unit) Step {
	s := Step{Table: tableName, Kind: kind, HourMS: units[0].hour}
	for _, u := range units {
		s.Files += len(u.files)
		s.Bytes += u.bytes
		s.Rows += u.rows
	}
	return s
}

// pick chooses what of an hour is merged: the small ones, as many as fit, if there are two at least.
func (k *Keeper) pick(ctx context.Context, list []*unit) ([]*unit, error) {
	var out []*unit
	var total int64
	for _, u := range list {
		if u.raw == nil && u.rows > k.Policy.TargetRows/2 {
			continue
		}
		if len(out) > 0 && total+u.bytes > k.Policy.InputBytes {
			break
		}
		if err := k.complete(ctx, u); err != nil {
			return nil, err
		}
		if u.raw != nil && u.rows > k.Policy.TargetRows/2 {
			continue
		}
		total += u.bytes
		out = append(out, u)
	}
	if len(out) < 2 {
		return nil, nil
	}
	return out, nil
}

// merge makes new files of units and commits them in their place.
func (k *Keeper) merge(ctx context.Context, t table.Merger, m *lake.Manifest, units []*unit) error {
	group := lake.Group{HourMS: units[0].hour, Covers: lake.Spans{}, AtMS: k.Now().UnixMilli()}
	id := fnv.New64a()
	var inputs [][]byte
	var hash uint64
	for _, u := range units {
		for _, f := range u.files {
			data, _, err := k.Bucket.Get(ctx, f.Key, 0)
			if err != nil {
				return fmt.Errorf("%s: %w", f.Key, err)
			}
			inputs = append(inputs, data)
			_, _ = id.Write([]byte(f.Key)) // never fails
		}
		group.Covers.Merge(u.covers)
		group.Rows += u.rows
		hash += u.hash
	}
	group.Hash = lake.FormatHash(hash)
	var got uint64
	var rows int64
	describe := func(rows int64, hash uint64) map[string]string {
		return map[string]string{"rows": fmt.Sprint(rows), "row-hash": lake.FormatHash(hash), "merged": "1"}
	}
	err := t.Merge(ctx, inputs, k.Policy.TargetRows, describe, func(f table.File) error {
		key := lake.MergedKey(t.Name(), group.HourMS, m.Version, id.Sum64(), len(group.Files))
		if err := k.put(ctx, key, f, describe(f.Rows, f.Hash)); err != nil {
			return err
		}
		group.Files = append(group.Files, lake.File{Key: key, Rows: f.Rows, Bytes: int64(len(f.Data)), Hash: lake.FormatHash(f.Hash)})
		got, rows = got+f.Hash, rows+f.Rows
		return nil
	})
	if err != nil {
		return err
	}
	if got != hash || rows != group.Rows {
		return fmt.Errorf("hour %s: %d rows with hash %s became %d with %s: nothing is replaced", time.UnixMilli(group.HourMS).UTC().Format(time.RFC3339),
			group.Rows, group.Hash, rows, lake.FormatHash(got))
	}
	action := lake.Action{Kind: "compact", By: k.By, HoursMS: []int64{group.HourMS}, Rows: rows}
	s := step(t.Name(), "compact", units)
	for _, f := range group.Files {
		action.Added = append(action.Added, f.Key)
		s.Into++
		s.IntoLen += f.Bytes
	}
	next := *m
	k.drop(&next, units, &action)
	next.Groups = append(next.Groups, group)
	if err := k.commit(ctx, &next, action); err != nil {
		return err
	}
	k.report(s)
	return nil
}

// put stores a merged file. One that is there already is of a former try of the same merge, and must be the same.
func (k *Keeper) put(ctx context.Context, key string, f table.File, meta map[string]string) error {
	err := k.Bucket.PutIfAbsent(ctx, key, f.Data, meta)
	if !errors.Is(err, objstore.ErrExists) {
		return err
	}
	there, _, err := k.Bucket.Get(ctx, key, 0)
	if err != nil {
		return err
	}
	if !bytes.Equal(there, f.Data) {
		return fmt.Errorf("%s: another file stands there; it is removed when the manifest has another version", key)
	}
	return nil
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

func (k *Keeper) commit(ctx context.Context, m *lake.Manifest, action lake.Action) error {
	if err := m.Commit(ctx, k.Bucket, k.Now(), action); err != nil {
		return err
	}
	return lake.WriteLog(ctx, k.Bucket, m.Table)
}

// Retain removes the rows that the policy does not keep any more.
func (k *Keeper) Retain(ctx context.Context, tableName string) error {
	for stale := 0; ; stale++ {
		err := k.retainOnce(ctx, tableName)
		if errors.Is(err, lake.ErrStale) && stale < maxStale {
			continue
		}
		if err != nil {
			return fmt.Errorf("retain %s: %w", tableName, err)
		}
		return nil
	}
}

func (k *Keeper) retainOnce(ctx context.Context, tableName string) error {
	i := slices.IndexFunc(k.Policy.Keep, func(p Keep) bool { return p.Table == tableName })
	if i < 0 {
		return nil
	}
	m, err := lake.LoadManifest(ctx, k.Bucket, tableName)
	if err != nil {
		return err
	}
	byHour, err := k.units(ctx, lake.NewView(k.Bucket, m))
	if err != nil {
		return err
	}
	next, action := *m, lake.Action{Kind: "retain", By: k.By}
	next.Expired = lake.Spans{}
	next.Expired.Merge(m.Expired)
	var steps []Step
	for h, list := range byHour {
		if !k.old(h, k.Policy.Keep[i].For) {
			continue
		}
		for _, u := range list {
			if err := k.complete(ctx, u); err != nil {
				return err
			}
			next.Expired.Merge(u.covers)
			action.Rows += u.rows
		}
		k.drop(&next, list, &action)
		action.HoursMS = append(action.HoursMS, h)
		steps = append(steps, step(tableName, "retain", list))
	}
	if len(steps) == 0 {
		return nil
	}
	slices.Sort(action.HoursMS)
	slices.Sort(action.Removed)
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Compare(a.HourMS, b.HourMS) })
	if !k.DryRun {
		if err := k.commit(ctx, &next, action); err != nil {
			return err
		}
	}
	for _, s := range steps {
		k.report(s)
	}
	return nil
}

// Clean deletes what does not count any more and has stood for the grace, and what a crash has left.
func (k *Keeper) Clean(ctx context.Context, tableName string) error {
	m, err := lake.LoadManifest(ctx, k.Bucket, tableName)
	if err != nil || m.Version == 0 {
		return err
	}
	if !k.DryRun {
		if err := lake.WriteLog(ctx, k.Bucket, tableName); err != nil {
			return err
		}
		if err := lake.SweepManifests(ctx, k.Bucket, tableName); err != nil {
			return err
		}
	}
	before := k.Now().Add(-k.Policy.Grace).UnixMilli()
	next, action := *m, lake.Action{Kind: "clean", By: k.By}
	next.Waste = nil
	listed := map[string]bool{}
	var gone []string
	for _, w := range m.Waste {
		listed[w.Key] = true
		if w.SinceMS > before {
			next.Waste = append(next.Waste, w)
			continue
		}
		gone = append(gone, w.Key)
		action.Removed = append(action.Removed, w.Key)
	}
	v := lake.NewView(k.Bucket, m)
	for info, err := range k.Bucket.List(ctx, lake.Prefix(tableName)) {
		if err != nil {
			return err
		}
		_, counts, err := v.Counts(info.Key)
		if err != nil || counts || listed[info.Key] || info.Modified.UnixMilli() > before {
			continue
		}
		// A merged file that may still come to count is one made for the very next version. What else does not count never will.
		if _, base, merged := lake.ParseMerged(info.Key); merged && base >= m.Version {
			continue
		}
		gone = append(gone, info.Key)
	}
	if len(gone) == 0 {
		return nil
	}
	s := Step{Table: tableName, Kind: "clean", Files: len(gone)}
	if !k.DryRun {
		for _, key := range gone {
			if err := k.Bucket.Delete(ctx, key); err != nil {
				return fmt.Errorf("clean %s: %w", tableName, err)
			}
		}
		if len(action.Removed) > 0 {
			// Only the list of waste changes. If another was faster, its version still lists them, and they are deleted again.
			if err := k.commit(ctx, &next, action); err != nil && !errors.Is(err, lake.ErrStale) {
				return fmt.Errorf("clean %s: %w", tableName, err)
			}
		}
	}
	k.report(s)
	return nil
}
