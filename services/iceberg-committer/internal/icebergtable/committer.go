// Package icebergtable keeps an Iceberg table over each of the lake's tables.
//
// The files are the lake's own; Iceberg's metadata names them. What a table holds is a function of the lake: the files that count. Each
// snapshot's summary says up to which offset of each partition, and to which version of the manifest, it has come; so whoever commits next, after whatever crash, goes on
// from there and neither repeats nor skips. Any number of processes may commit: a commit stands only on the snapshot whose summary it was made from.
package icebergtable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/table"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/icebergconfig"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// Observer is told what happens, for metrics. Its methods may be called concurrently.
type Observer interface {
	// IcebergTable: a table is looked after from now on.
	IcebergTable(table string)
	// IcebergCommitted: a snapshot with so many files more and fewer.
	IcebergCommitted(table string, added, removed int)
	// IcebergFailed: a try to bring a table up to date failed.
	IcebergFailed(table string)
	// IcebergRaced: another committer was faster; tried again.
	IcebergRaced(table string)
}

const (
	// Keys in a snapshot's summary.
	summaryOffsets  = "tocsin.offsets"  // JSON object: source to the offset behind its last file
	summaryManifest = "tocsin.manifest" // version of the manifest that the files are those of
	// maxFiles of one commit: bounds memory and how long a commit takes.
	maxFiles = 500
	// maxRaces until the next round.
	maxRaces = 8
	// lookBack from the newest hour known: files appear in folders that old without a full listing.
	lookBack = 48 * time.Hour
	// fullEvery so often everything is listed.
	fullEvery = time.Hour
	// expireEvery so often old snapshots are removed.
	expireEvery = time.Hour
)

// Committer brings the tables up to date. Safe for concurrent use, also with committers of other processes.
type Committer struct {
	cfg    icebergconfig.Iceberg
	store  objstore.Config
	bucket objstore.Bucket
	uri    string
	props  iceberg.Properties
	tables []string
	log    *zap.Logger
	watch  Observer

	// trouble is how the last round ended; nil before the first.
	trouble atomic.Pointer[error]
	synced  atomic.Int64 // ms since 1970 UTC

	mu       sync.Mutex // held during a round
	cat      catalog.Catalog
	closeCat func() error
	state    map[string]*tableState
}

// tableState is what only saves work: nothing depends on it.
type tableState struct {
	newest     time.Time // hour of the newest file seen
	listed     time.Time // when everything was listed
	expired    time.Time
	reconciled int64 // version of the manifest that needed no commit
}

// New makes a Committer over the lake in bucket, which store describes. Without tables it looks after all that stand in the lake. It does not reach for the catalog.
func New(cfg icebergconfig.Iceberg, store objstore.Config, bucket objstore.Bucket, tables []string, log *zap.Logger, watch Observer) (*Committer, error) {
	uri, err := LakeURI(store)
	if err != nil {
		return nil, err
	}
	return &Committer{cfg: cfg, store: store, bucket: bucket, uri: uri, props: properties(cfg, store, uri), tables: tables, log: log, watch: watch, state: map[string]*tableState{}}, nil
}

// Run brings all tables up to date every interval until ctx ends. Failures are logged and tried again: Iceberg is a view of the lake, which goes on
// without.
func (c *Committer) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := c.Sync(ctx)
		if ctx.Err() != nil {
			return
		}
		was := c.trouble.Swap(&err)
		switch failed := was != nil && *was != nil; {
		case err != nil && !failed:
			c.log.Warn("iceberg tables cannot be brought up to date, trying again", zap.Error(err), zap.Duration("every", c.cfg.Interval))
		case err == nil && failed:
			c.log.Info("iceberg tables are up to date again")
		}
		if err == nil {
			c.synced.Store(time.Now().UnixMilli())
		}
		timer.Reset(c.cfg.Interval)
	}
}

// Ready is why the tables are not up to date, or nil.
func (c *Committer) Ready() error {
	if p := c.trouble.Load(); p != nil {
		return *p
	}
	return errors.New("not run yet")
}

// Synced is when the tables were last found to be up to date; 1970 before that.
func (c *Committer) Synced() time.Time { return time.UnixMilli(c.synced.Load()) }

// Close releases the catalog.
func (c *Committer) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closeCat == nil {
		return nil
	}
	defer func() { c.cat, c.closeCat = nil, nil }()
	return c.closeCat()
}

// Sync brings each table to the files that count now. After an error some tables may be behind.
func (c *Committer) Sync(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cat == nil {
		cat, closeIt, err := openCatalog(ctx, c.cfg, c.store, c.props)
		if err != nil {
			return err
		}
		c.cat, c.closeCat = cat, closeIt
	}
	tables := c.tables
	if len(tables) == 0 {
		var err error
		if tables, err = lake.Tables(ctx, c.bucket); err != nil {
			return err
		}
	}
	var errs []error
	for _, name := range tables {
		if err := c.table(ctx, name); err != nil {
			c.watch.IcebergFailed(name)
			errs = append(errs, fmt.Errorf("iceberg %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// table brings one table up to date, in as many commits as it takes.
func (c *Committer) table(ctx context.Context, name string) error {
	st := c.state[name]
	if st == nil {
		st = &tableState{}
		c.state[name] = st
		c.watch.IcebergTable(name)
	}
	for races := 0; ; {
		tbl, err := c.load(ctx, name)
		if err != nil {
			return err
		}
		more, err := c.advance(ctx, name, st, tbl)
		switch {
		case err != nil && races < maxRaces && c.moved(ctx, name, tbl):
			// Another committer was faster, or this commit stands and its answer was lost: the summary of what is there tells.
			c.watch.IcebergRaced(name)
			races++
		case err != nil:
			return err
		case !more:
			return c.expire(ctx, name, st)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// load reads the table; nil when there is none.
func (c *Committer) load(ctx context.Context, name string) (*table.Table, error) {
	tbl, err := c.cat.LoadTable(ctx, c.ident(name))
	if errors.Is(err, catalog.ErrNoSuchTable) || errors.Is(err, catalog.ErrNoSuchNamespace) {
		return nil, nil
	}
	return tbl, err
}

// moved tells whether the table is not what it was any more. Catalogs say in many ways that a commit came too late; this is what they mean.
func (c *Committer) moved(ctx context.Context, name string, was *table.Table) bool {
	now, err := c.load(ctx, name)
	if err != nil || now == nil {
		return false
	}
	return was == nil || now.MetadataLocation() != was.MetadataLocation()
}

// progress is what a snapshot's summary says.
type progress struct {
	offsets  map[string]int64
	manifest int64
	any      bool // a snapshot of ours was found
}

// progressOf reads the newest snapshot of ours; those that other tools made say nothing of the lake. nil: there is no table.
func progressOf(tbl *table.Table) (progress, error) {
	p := progress{offsets: map[string]int64{}}
	if tbl == nil {
		return p, nil
	}
	for s := tbl.CurrentSnapshot(); s != nil; {
		if s.Summary != nil {
			if text, ok := s.Summary.Properties[summaryOffsets]; ok {
				if err := json.Unmarshal([]byte(text), &p.offsets); err != nil {
					return p, fmt.Errorf("summary of snapshot %d: %w", s.SnapshotID, err)
				}
				p.manifest, p.any = int64(s.Summary.Properties.GetInt(summaryManifest, 0)), true
				return p, nil
			}
		}
		if s.ParentSnapshotID == nil {
			break
		}
		s = tbl.SnapshotByID(*s.ParentSnapshotID)
	}
	if tbl.CurrentSnapshot() != nil {
		return p, errors.New("the table has snapshots, and none says how far it has come: drop the table, it is made again from the lake")
	}
	return p, nil
}

// advance makes one step: the table, its columns, or a snapshot; more tells that there may be more.
func (c *Committer) advance(ctx context.Context, name string, st *tableState, tbl *table.Table) (more bool, err error) {
	p, err := progressOf(tbl)
	if err != nil {
		return false, err
	}
	m, err := lake.LoadManifest(ctx, c.bucket, name)
	if err != nil {
		return false, err
	}
	if m.Version < p.manifest {
		return false, fmt.Errorf("the table stands at version %d of the manifest, the lake has %d: another lake?", p.manifest, m.Version)
	}
	view := lake.NewView(c.bucket, m)
	if m.Version > p.manifest && st.reconciled < m.Version && p.any {
		return c.reconcile(ctx, name, st, tbl, view, p)
	}
	fresh, next, err := c.fresh(ctx, st, view, p)
	if err != nil || len(fresh) == 0 {
		return false, err
	}
	more = len(fresh) > maxFiles
	fresh = fresh[:min(len(fresh), maxFiles)]
	if !more {
		p.manifest = m.Version
	}
	add := make([]string, 0, len(fresh))
	for _, f := range fresh {
		add = append(add, c.uri+"/"+f.entry.Key)
		if !f.entry.Merged {
			p.offsets[f.source] = f.end
		}
	}
	if !more {
		p.offsets = next
	}
	if made, err := c.shape(ctx, name, tbl, add[len(add)-1]); err != nil || made {
		return made, err
	}
	return more, c.commit(ctx, name, tbl, nil, add, p)
}

// commit makes a snapshot. It stands on the snapshot that tbl shows, or fails.
func (c *Committer) commit(ctx context.Context, name string, tbl *table.Table, remove, add []string, p progress) error {
	offsets, err := json.Marshal(p.offsets)
	if err != nil {
		return err
	}
	props := iceberg.Properties{summaryOffsets: string(offsets), summaryManifest: fmt.Sprint(p.manifest)}
	txn := tbl.NewTransaction()
	// Without this the library would repeat a lost race on top of the winner's snapshot, and files would stand twice.
	if err := txn.AssertRefSnapshotID(table.MainBranch); err != nil {
		return err
	}
	if len(remove) == 0 {
		err = txn.AddFiles(ctx, add, props, true)
	} else {
		err = txn.ReplaceDataFiles(ctx, remove, add, props)
	}
	if err != nil {
		return err
	}
	if _, err = txn.Commit(ctx); err != nil {
		return err
	}
	c.watch.IcebergCommitted(name, len(add), len(remove))
	c.log.Debug("iceberg snapshot", zap.String("table", name), zap.Int("added", len(add)), zap.Int("removed", len(remove)))
	return nil
}

// reconcile makes the table the files that count, when maintenance has changed what counts. It lists the table and the lake whole.
func (c *Committer) reconcile(ctx context.Context, name string, st *tableState, tbl *table.Table, view *lake.View, p progress) (more bool, err error) {
	files, next, err := c.all(ctx, view, st)
	if err != nil {
		return false, err
	}
	tasks, err := tbl.Scan().PlanFiles(ctx)
	if err != nil {
		return false, err
	}
	has := make(map[string]bool, len(tasks))
	for _, t := range tasks {
		has[t.File.FilePath()] = true
	}
	var add, remove []string
	for _, f := range files {
		uri := c.uri + "/" + f.entry.Key
		if !has[uri] {
			add = append(add, uri)
		}
		delete(has, uri)
	}
	for uri := range has {
		remove = append(remove, uri)
	}
	slices.Sort(remove)
	if len(add)+len(remove) == 0 {
		st.reconciled = view.Manifest.Version
		return true, nil
	}
	if len(add) > 0 {
		if made, err := c.shape(ctx, name, tbl, add[len(add)-1]); err != nil || made {
			return made, err
		}
	}
	p.manifest, p.offsets = view.Manifest.Version, next
	return true, c.commit(ctx, name, tbl, remove, add, p)
}
