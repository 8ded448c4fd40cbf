// Package maintain merges the lake's small files, keeps rollups of them, removes what retention no longer keeps, and deletes what does not count any more.
//
// Each step ends in a commit of the table's manifest, which takes effect at once and whole. Before it nothing has changed for readers; after it what was replaced stays
// for the grace. So a crash at any point leaves a lake that is right, and at most files that nobody counts, which the next run removes. Any number of processes may
// run: a commit that comes too late fails, and its maker begins again.
package maintain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Step is something that was done, or would be.
type Step struct {
	Table   string `json:"table"`
	Kind    string `json:"kind"` // compact, rollup, retain or clean
	HourMS  int64  `json:"hour_ms,omitempty"`
	Hours   int    `json:"hours,omitempty"` // 24: of a day; else of one hour
	Files   int    `json:"files"`           // that go; of a rollup: that are read
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

	// heads is what complete has found of raw files, which never change.
	heads map[string]lake.Object
}

func (k *Keeper) report(s Step) {
	k.Log.Info("lake maintenance", zap.Any("step", s), zap.Bool("dry_run", k.DryRun))
	if k.Report != nil {
		k.Report(s)
	}
}

// maxStale until the next run.
const maxStale = 20

// repeat does once until it has nothing left to do.
func (k *Keeper) repeat(ctx context.Context, what string, once func() (did bool, err error)) error {
	for stale := 0; ; {
		did, err := once()
		switch {
		case errors.Is(err, lake.ErrStale) && stale < maxStale:
			stale++
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case !did:
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// put stores a file under a name made of id. One that is there already is of a former try of the same step, and mostly the same; where another version of this program made it otherwise, the
// next id is taken, and nobody counts the other.
func (k *Keeper) put(ctx context.Context, name func(id uint64) string, id uint64, f table.File) (lake.File, error) {
	out := lake.File{Rows: f.Rows, Bytes: int64(len(f.Data)), Hash: lake.FormatHash(f.Hash), Machines: f.Within.Machines, TimesUS: f.Within.TimesUS}
	for range maxNames {
		out.Key = name(id)
		err := k.Bucket.PutIfAbsent(ctx, out.Key, f.Data, describe(f.Rows, f.Hash))
		if !errors.Is(err, objstore.ErrExists) {
			return out, err
		}
		there, _, err := k.Bucket.Get(ctx, out.Key, 0)
		if err != nil {
			return out, err
		}
		if bytes.Equal(there, f.Data) {
			return out, nil
		}
		id++
	}
	return out, fmt.Errorf("%s: other files stand there; they are removed when the manifest has another version", out.Key)
}

// maxNames are tried for a file.
const maxNames = 8

// describe is the metadata of a merged file.
func describe(rows int64, hash uint64) map[string]string {
	return map[string]string{"rows": fmt.Sprint(rows), "row-hash": lake.FormatHash(hash), "merged": "1"}
}

func (k *Keeper) commit(ctx context.Context, m *lake.Manifest, action lake.Action) error {
	if err := m.Commit(ctx, k.Bucket, k.Now(), action); err != nil {
		return err
	}
	return lake.WriteLog(ctx, k.Bucket, m.Table)
}
