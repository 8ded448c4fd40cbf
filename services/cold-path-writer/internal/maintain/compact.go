package maintain

import (
	"context"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Compact merges the table's small files: those of an hour, and when a day is over all of the day's.
func (k *Keeper) Compact(ctx context.Context, t table.Merger) error {
	return k.repeat(ctx, "compact "+t.Name(), func() (bool, error) { return k.compactOnce(ctx, t) })
}

// job is units that become one group.
type job struct {
	hour  int64
	hours int
	units []*unit
}

// compactOnce does one merge; false: there is none to do.
func (k *Keeper) compactOnce(ctx context.Context, t table.Merger) (bool, error) {
	m, err := lake.LoadManifest(ctx, k.Bucket, t.Name())
	if err != nil {
		return false, err
	}
	units, err := k.units(ctx, lake.NewView(k.Bucket, m))
	if err != nil {
		return false, err
	}
	mine, err := k.rolled(ctx, t.Name())
	if err != nil {
		return false, err
	}
	for rest := units; len(rest) > 0; {
		day, n := rest[0].day(), 1
		for n < len(rest) && rest[n].day() == day {
			n++
		}
		jobs, err := k.plan(ctx, t, day, rest[:n], mine)
		if err != nil {
			return false, err
		}
		rest = rest[n:]
		for _, j := range jobs {
			if !k.DryRun {
				return true, k.merge(ctx, t, m, j)
			}
			k.report(step(t.Name(), "compact", j.hour, j.hours, j.units))
		}
	}
	return false, nil
}

// plan chooses what of a day's units is merged. An hour's small ones are, if there are two at least. When the day is over all are, but for the day's files that are large: so late rows cost
// as much work as there are, not a day's.
func (k *Keeper) plan(ctx context.Context, t table.Merger, day int64, units []*unit, mine func(*unit) (bool, error)) ([]job, error) {
	var all []*unit
	byHour := map[int64][]*unit{}
	var hours []int64
	for _, u := range units {
		if !k.old(u, k.Policy.MinAge) || u.hours == lake.DayHours && u.rows > k.Policy.TargetRows/2 {
			continue
		}
		if err := k.complete(ctx, u); err != nil {
			return nil, err
		}
		if ok, err := mine(u); err != nil || !ok {
			if err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, u)
		if u.hours != 1 || u.rows > k.Policy.TargetRows/2 {
			continue
		}
		if byHour[u.hour] == nil {
			hours = append(hours, u.hour)
		}
		byHour[u.hour] = append(byHour[u.hour], u)
	}
	dayOver := k.Policy.Days && k.ended(day+dayMS, k.Policy.MinAge)
	if dayOver && len(all) > 1 {
		if fits, err := k.fit(ctx, t, all); err != nil || len(fits) == len(all) {
			return []job{{day, lake.DayHours, all}}, err
		}
	}
	var jobs []job
	for _, h := range hours {
		fits, err := k.fit(ctx, t, byHour[h])
		if err != nil {
			return nil, err
		}
		if len(fits) > 1 {
			jobs = append(jobs, job{h, 1, fits})
		}
	}
	if len(jobs) > 0 || !dayOver || len(all) < 2 {
		return jobs, nil
	}
	fits, err := k.fit(ctx, t, all)
	return []job{{day, lake.DayHours, fits}}, err
}

// merge makes new files of units and commits them in their place.
func (k *Keeper) merge(ctx context.Context, t table.Merger, m *lake.Manifest, j job) error {
	group := lake.Group{HourMS: j.hour, Covers: lake.Spans{}, AtMS: k.Now().UnixMilli()}
	if j.hours > 1 {
		group.Hours = j.hours
	}
	var hash uint64
	for _, u := range j.units {
		group.Covers.Merge(u.covers)
		group.Rows += u.rows
		hash += u.hash
	}
	group.Hash = lake.FormatHash(hash)
	runs, id := k.runs(ctx, j.units)
	var got uint64
	var rows int64
	err := t.Merge(ctx, runs, k.Policy.TargetRows, describe, func(f table.File) error {
		file, err := k.put(ctx, func(id uint64) string {
			return lake.MergedKey(t.Name(), group.HourMS, j.hours, m.Version, id, len(group.Files))
		}, id, f)
		if err != nil {
			return err
		}
		group.Files = append(group.Files, file)
		got, rows = got+f.Hash, rows+f.Rows
		return nil
	})
	if err != nil {
		return err
	}
	if got != hash || rows != group.Rows {
		return fmt.Errorf("%s: %d rows with hash %s became %d with %s: nothing is replaced", time.UnixMilli(group.HourMS).UTC().Format(time.RFC3339),
			group.Rows, group.Hash, rows, lake.FormatHash(got))
	}
	action := lake.Action{Kind: "compact", By: k.By, HoursMS: []int64{group.HourMS}, Rows: rows}
	s := step(t.Name(), "compact", j.hour, j.hours, j.units)
	for _, f := range group.Files {
		action.Added = append(action.Added, f.Key)
		s.Into++
		s.IntoLen += f.Bytes
	}
	next := *m
	k.drop(&next, j.units, &action)
	next.Groups = append(next.Groups, group)
	if err := k.commit(ctx, &next, action); err != nil {
		return err
	}
	k.report(s)
	return nil
}
