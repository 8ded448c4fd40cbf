package maintain

import (
	"context"
	"errors"
	"fmt"

	"github.com/tocsin-io/tocsin/pkg/lake"
)

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
		if f, merged := lake.ParseMerged(info.Key); merged && f.Base >= m.Version {
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
