package maintain

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// What a rollup holds is told by offsets, as what a merge replaces: its groups cover the offsets whose rows are in it. A unit of the source is rolled up when none of its offsets are
// covered, and merged or removed when all are. So no unit is ever covered in part: it begins as a raw file, which is not, becomes covered whole by one commit, and is merged only
// with others that are.

// rolled gives the condition under which a unit of the table may be merged or removed: that it is in the rollup. Without rollups, that it is not: what is in
// one of former times stays as it is.
func (k *Keeper) rolled(ctx context.Context, tableName string) (func(*unit) (bool, error), error) {
	r, ok := table.RollupOf(tableName)
	if !ok {
		return func(*unit) (bool, error) { return true, nil }, nil
	}
	m, err := lake.LoadManifest(ctx, k.Bucket, r.Name())
	if err != nil {
		return nil, err
	}
	covered := m.Covered()
	return func(u *unit) (bool, error) {
		in, err := whole(covered, u)
		return in == k.Policy.Rollups || k.Policy.Rollups && k.DryRun, err // a dry run takes it for done
	}, nil
}

// whole tells whether all of the unit is covered, or nothing.
func whole(covered lake.Spans, u *unit) (bool, error) {
	in, out := false, false
	for src, spans := range u.covers {
		for _, s := range spans {
			for at := s.First; at < s.End; {
				end, ok := covered.Holds(src, at)
				if ok {
					in = true
				} else {
					out, end = true, next(covered[src], at)
				}
				at = end
			}
		}
	}
	if in && out {
		return false, fmt.Errorf("%s: a part of it is rolled up and a part is not: processes with and without rollups maintain this lake. Remove the rollups and their manifests, they are made again", u.key)
	}
	return in, nil
}

// next is where the first of spans behind at begins.
func next(spans []lake.Span, at int64) int64 {
	for _, s := range spans {
		if s.First > at {
			return s.First
		}
	}
	return math.MaxInt64
}

// Rollup brings the table's rollup up to the files that are there, when their hour has been over for the policy's age.
func (k *Keeper) Rollup(ctx context.Context, source string) error {
	r, ok := table.RollupOf(source)
	if !ok || !k.Policy.Rollups {
		return nil
	}
	return k.repeat(ctx, "roll up "+source, func() (bool, error) { return k.rollupOnce(ctx, source, r) })
}

// rollupOnce takes in what of one hour is not in the rollup yet; false: there is nothing.
func (k *Keeper) rollupOnce(ctx context.Context, source string, r table.Rollup) (bool, error) {
	// The rollup's manifest is read first: what is committed to it later cannot be missing in what is listed then.
	m, err := lake.LoadManifest(ctx, k.Bucket, r.Name())
	if err != nil {
		return false, err
	}
	from, err := lake.LoadManifest(ctx, k.Bucket, source)
	if err != nil {
		return false, err
	}
	units, err := k.units(ctx, lake.NewView(k.Bucket, from))
	if err != nil {
		return false, err
	}
	covered := m.Covered()
	for len(units) > 0 {
		hour, hours, n := units[0].hour, units[0].hours, 0
		var fresh []*unit
		for n < len(units) && units[n].hour == hour {
			u := units[n]
			n++
			if !k.old(u, k.Policy.MinAge) {
				continue
			}
			if err := k.complete(ctx, u); err != nil {
				return false, err
			}
			in, err := whole(covered, u)
			if err != nil {
				return false, err
			}
			if !in {
				fresh = append(fresh, u)
				hours = max(hours, u.hours)
			}
		}
		units = units[n:]
		if len(fresh) == 0 {
			continue
		}
		if fresh, err = k.fit(ctx, r, fresh); err != nil {
			return false, err
		}
		if !k.DryRun {
			return true, k.rollup(ctx, r, m, job{hour, hours, fresh})
		}
		k.report(step(r.Name(), "rollup", hour, hours, fresh))
	}
	return false, nil
}

// rollup makes a group of the units.
func (k *Keeper) rollup(ctx context.Context, r table.Rollup, m *lake.Manifest, j job) error {
	group := lake.Group{HourMS: j.hour, Covers: lake.Spans{}, AtMS: k.Now().UnixMilli()}
	if j.hours > 1 {
		group.Hours = j.hours
	}
	for _, u := range j.units {
		group.Covers.Merge(u.covers)
	}
	runs, id := k.runs(ctx, j.units)
	var hash uint64
	err := r.Derive(ctx, runs, k.Policy.TargetRows, describe, func(f table.File) error {
		file, err := k.put(ctx, func(id uint64) string {
			return lake.MergedKey(r.Name(), j.hour, j.hours, m.Version, id, len(group.Files))
		}, id, f)
		if err != nil {
			return err
		}
		group.Files = append(group.Files, file)
		group.Rows += f.Rows
		hash += f.Hash
		return nil
	})
	if err != nil {
		return err
	}
	group.Hash = lake.FormatHash(hash)
	s := step(r.Name(), "rollup", j.hour, j.hours, j.units)
	next, action := *m, lake.Action{Kind: "rollup", By: k.By, HoursMS: []int64{j.hour}, Rows: group.Rows}
	for _, f := range group.Files {
		action.Added = append(action.Added, f.Key)
		s.Into++
		s.IntoLen += f.Bytes
	}
	if len(group.Files) > 0 {
		next.Groups = append(slices.Clone(m.Groups), group)
	} else { // no good value in all of it
		next.Expired = lake.Spans{}
		next.Expired.Merge(m.Expired)
		next.Expired.Merge(group.Covers)
	}
	if err := k.commit(ctx, &next, action); err != nil {
		return err
	}
	k.report(s)
	return nil
}
