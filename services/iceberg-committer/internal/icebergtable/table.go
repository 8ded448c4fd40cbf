package icebergtable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	icebergio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"go.uber.org/zap"
)

func (c *Committer) ident(name string) table.Identifier {
	return table.Identifier{c.cfg.Namespace, name}
}

// shape makes the table (tbl is nil) or the columns that it lacks, as the file at uri has them. made: it had to, and tbl is of the past.
func (c *Committer) shape(ctx context.Context, name string, tbl *table.Table, uri string) (made bool, err error) {
	store, err := icebergio.LoadFS(ctx, c.props, uri)
	if err != nil {
		return false, err
	}
	foot, err := readFooter(store, uri)
	if err != nil {
		return false, err
	}
	if tbl == nil {
		return true, c.create(ctx, c.ident(name), foot)
	}
	return c.evolve(ctx, tbl, foot.schema)
}

func (c *Committer) create(ctx context.Context, ident table.Identifier, foot footer) error {
	if err := c.cat.CreateNamespace(ctx, ident[:1], nil); err != nil && !errors.Is(err, catalog.ErrNamespaceAlreadyExists) {
		return fmt.Errorf("namespace %s: %w", ident[0], err)
	}
	order, err := orderOf(foot.schema, foot.sortedBy)
	if err != nil {
		return err
	}
	opts := []catalog.CreateTableOpt{
		catalog.WithSortOrder(order),
		catalog.WithProperties(iceberg.Properties{
			table.ManifestMergeEnabledKey:             "true",
			table.MetadataDeleteAfterCommitEnabledKey: "true",
			table.MetadataPreviousVersionsMaxKey:      "20",
			table.CommitNumRetriesKey:                 "0",
			"comment":                                 "written by tocsin; others read",
		}),
	}
	if !c.cfg.REST() || c.cfg.Warehouse != "" {
		opts = append(opts, catalog.WithLocation(warehouse(c.cfg, c.uri)+"/"+ident[1]))
	}
	_, err = c.cat.CreateTable(ctx, ident, foot.schema, opts...)
	if errors.Is(err, catalog.ErrTableAlreadyExists) {
		return nil // another process was faster
	}
	return err
}

// evolve adds columns that the table lacks, each optional, as docs/LAKE.md allows; nothing else ever changes.
func (c *Committer) evolve(ctx context.Context, tbl *table.Table, want *iceberg.Schema) (made bool, err error) {
	var missing []iceberg.NestedField
	have := tbl.Schema()
	for _, f := range want.Fields() {
		if _, ok := have.FindFieldByName(f.Name); !ok {
			missing = append(missing, f)
		}
	}
	if len(missing) == 0 {
		return false, nil
	}
	txn := tbl.NewTransaction()
	var opts []table.UpdateSchemaOption
	if m := tbl.NameMapping(); m != nil {
		opts = append(opts, table.WithNameMapping(m))
	}
	update := txn.UpdateSchema(true, false, opts...)
	for _, f := range missing {
		update = update.AddColumn([]string{f.Name}, f.Type, "", false, nil)
	}
	if err := update.Commit(); err != nil {
		return false, fmt.Errorf("new columns: %w", err)
	}
	_, err = txn.Commit(ctx)
	return true, err
}

// expire removes old snapshots, and the metadata that only they need. Files of the lake are never removed here: maintenance does that.
func (c *Committer) expire(ctx context.Context, name string, st *tableState) error {
	if time.Since(st.expired) < expireEvery {
		return nil
	}
	st.expired = time.Now()
	if err := c.Expire(ctx, name, c.cfg.Keep); err != nil {
		return fmt.Errorf("expire snapshots: %w", err)
	}
	return nil
}

// Expire removes a table's snapshots that are older than keep; the last one stays.
func (c *Committer) Expire(ctx context.Context, name string, keep time.Duration) error {
	before, err := c.load(ctx, name)
	if err != nil || before == nil {
		return err
	}
	txn := before.NewTransaction()
	if err := txn.ExpireSnapshots(table.WithOlderThan(keep), table.WithRetainLast(1), table.WithPostCommit(false)); err != nil {
		return err
	}
	after, err := txn.Commit(ctx)
	if err != nil {
		if c.moved(ctx, name, before) {
			return nil // another committer was faster: next time
		}
		return err
	}
	return c.removeMetadata(ctx, name, before, after)
}

// removeMetadata removes manifests that before had and after does not need. A crash on the way leaves them for ever: some kilobytes.
func (c *Committer) removeMetadata(ctx context.Context, name string, before, after *table.Table) error {
	store, err := after.FS(ctx)
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, s := range after.Metadata().Snapshots() {
		needed[s.ManifestList] = true
		list, err := s.Manifests(store)
		if err != nil {
			return err
		}
		for _, m := range list {
			needed[m.FilePath()] = true
		}
	}
	useless := map[string]bool{}
	for _, s := range before.Metadata().Snapshots() {
		if needed[s.ManifestList] {
			continue
		}
		list, err := s.Manifests(store)
		if err != nil {
			return err
		}
		useless[s.ManifestList] = true
		for _, m := range list {
			if !needed[m.FilePath()] {
				useless[m.FilePath()] = true
			}
		}
	}
	for path := range useless {
		if err := store.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(useless) > 0 {
		c.log.Info("iceberg snapshots expired", zap.String("table", name), zap.Int("metadata_files", len(useless)))
	}
	return nil
}
