package coldpathwriter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/maintain"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Keep is how long a table's rows are kept.
type Keep = maintain.Keep

// Maintenance of the lake: merging of small files and retention.
type Maintenance struct {
	Interval        time.Duration `mapstructure:"interval" doc:"How often the writer looks after the lake; 0: never, and tocsin lake compact and retain do it. Of several replicas all may: what is done is done once."`
	maintain.Policy `mapstructure:",squash"`
}

// DefaultMaintenance is left to the commands.
func DefaultMaintenance() Maintenance { return Maintenance{Policy: maintain.DefaultPolicy()} }

// besidesWriting is for a writer that is asked for it: it removes no rows, and merges less at once than a large machine could (docs/LAKE.md has figures). It is not
// asked unless the configuration says so: whoever lists folders instead of asking which files count would see rows twice.
func besidesWriting() Maintenance {
	m := DefaultMaintenance()
	m.InputBytes = 128 << 20
	return m
}

// Validate names the first field that is wrong.
func (m Maintenance) Validate() error {
	if m.Interval != 0 && m.Interval < time.Minute {
		return errors.New("interval: must be 0, or 1m or more")
	}
	return m.Policy.Validate()
}

// MaintenanceStep is something that maintenance did, or would do.
type MaintenanceStep = maintain.Step

// MaintainOptions say what Compact and Retain do.
type MaintainOptions struct {
	Maintenance Maintenance
	// Tables; empty: all.
	Tables []string
	// DryRun only reports.
	DryRun bool
	// Now is the clock; nil: the machine's.
	Now func() time.Time
	// Report is told of each step; nil: nobody.
	Report func(MaintenanceStep)
	Log    *zap.Logger
}

func (o MaintainOptions) keeper(bucket objstore.Bucket) *maintain.Keeper {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	k := &maintain.Keeper{Bucket: bucket, Policy: o.Maintenance.Policy, DryRun: o.DryRun, By: fmt.Sprintf("%s, process %d", host, os.Getpid()), Now: o.Now, Log: o.Log, Report: o.Report}
	if k.Now == nil {
		k.Now = time.Now
	}
	if k.Log == nil {
		k.Log = zap.NewNop()
	}
	return k
}

// each does every table, a rollup behind its source.
func (o MaintainOptions) each(do func(table.Merger) error) error {
	all := table.Kept()
	for _, n := range o.Tables {
		if !slices.ContainsFunc(all, func(t table.Merger) bool { return t.Name() == n }) {
			return fmt.Errorf("no table %q", n)
		}
	}
	var errs []error
	for _, t := range all {
		if len(o.Tables) > 0 && !slices.Contains(o.Tables, t.Name()) {
			continue
		}
		errs = append(errs, do(t))
	}
	return errors.Join(errs...)
}

// Compact brings the rollups up to date, merges the small files of hours and days that are past, and deletes what does not count any more. It may run while writers and readers do, and be
// ended at any moment.
func Compact(ctx context.Context, bucket objstore.Bucket, o MaintainOptions) error {
	k := o.keeper(bucket)
	return o.each(func(t table.Merger) error {
		if err := k.Rollup(ctx, t.Name()); err != nil {
			return err
		}
		return errors.Join(k.Compact(ctx, t), k.Clean(ctx, t.Name()))
	})
}

// Retain removes the rows that the policy does not keep any more, and deletes what does not count any more. As Compact, it may run at any time.
func Retain(ctx context.Context, bucket objstore.Bucket, o MaintainOptions) error {
	k := o.keeper(bucket)
	return o.each(func(t table.Merger) error {
		if slices.ContainsFunc(o.Maintenance.Keep, func(p Keep) bool { return p.Table == t.Name() }) {
			if err := k.Rollup(ctx, t.Name()); err != nil {
				return err
			}
		}
		return errors.Join(k.Retain(ctx, t.Name()), k.Clean(ctx, t.Name()))
	})
}

// MaintenanceLog is what was done to a table, oldest first.
func MaintenanceLog(ctx context.Context, bucket objstore.Bucket, tableName string) ([]lake.LogEntry, error) {
	return maintain.AuditLog(ctx, bucket, tableName)
}

// run looks after the lake until ctx ends. What fails is tried again: the lake is right without.
func (m Maintenance) run(ctx context.Context, bucket objstore.Bucket, log *zap.Logger) error {
	if m.Interval == 0 {
		return nil
	}
	tick := time.NewTicker(m.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		o := MaintainOptions{Maintenance: m, Log: log}
		if err := errors.Join(Retain(ctx, bucket, o), Compact(ctx, bucket, o)); err != nil && ctx.Err() == nil {
			log.Warn("lake maintenance failed, trying again", zap.Error(err), zap.Duration("every", m.Interval))
		}
	}
}
