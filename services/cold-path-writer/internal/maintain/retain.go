package maintain

import (
	"cmp"
	"context"
	"slices"

	"github.com/tocsin-io/tocsin/pkg/lake"
)

// Retain removes the rows that the policy does not keep any more: those that are in the rollups, where there are any.
func (k *Keeper) Retain(ctx context.Context, tableName string) error {
	return k.repeat(ctx, "retain "+tableName, func() (bool, error) { return false, k.retainOnce(ctx, tableName) })
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
	units, err := k.units(ctx, lake.NewView(k.Bucket, m))
	if err != nil {
		return err
	}
	mine, err := k.rolled(ctx, tableName)
	if err != nil {
		return err
	}
	next, action := *m, lake.Action{Kind: "retain", By: k.By}
	next.Expired = lake.Spans{}
	next.Expired.Merge(m.Expired)
	byHour := map[int64][]*unit{}
	for _, u := range units {
		if !k.old(u, k.Policy.Keep[i].For) {
			continue
		}
		if err := k.complete(ctx, u); err != nil {
			return err
		}
		if ok, err := mine(u); err != nil {
			return err
		} else if !ok {
			continue
		}
		next.Expired.Merge(u.covers)
		action.Rows += u.rows
		byHour[u.hour] = append(byHour[u.hour], u)
	}
	if len(byHour) == 0 {
		return nil
	}
	var steps []Step
	for h, list := range byHour {
		k.drop(&next, list, &action)
		action.HoursMS = append(action.HoursMS, h)
		steps = append(steps, step(tableName, "retain", h, list[0].hours, list))
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
