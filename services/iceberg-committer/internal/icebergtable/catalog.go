package icebergtable

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/catalog/rest"
	catalogsql "github.com/apache/iceberg-go/catalog/sql"
	icebergio "github.com/apache/iceberg-go/io"
	_ "github.com/apache/iceberg-go/io/gocloud/s3" // s3://
	_ "github.com/jackc/pgx/v5/stdlib"             // the driver "pgx"
	_ "modernc.org/sqlite"                         // the driver "sqlite"

	"github.com/tocsin-io/tocsin/pkg/icebergconfig"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

const schemeFile = "file://"

// LakeURI is the lake's address as every engine can resolve it.
func LakeURI(store objstore.Config) (string, error) {
	dir, ok := strings.CutPrefix(store.URL, schemeFile)
	if !ok {
		return strings.TrimRight(store.URL, "/"), nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("lake directory: %w", err)
	}
	return schemeFile + (&url.URL{Path: filepath.ToSlash(abs)}).EscapedPath(), nil
}

// properties are what the library reaches the store with.
func properties(c icebergconfig.Iceberg, store objstore.Config, lakeURI string) iceberg.Properties {
	props := iceberg.Properties{"warehouse": warehouse(c, lakeURI)}
	if strings.HasPrefix(store.URL, "s3://") {
		for k, v := range map[string]string{
			icebergio.S3Region: store.Region, icebergio.S3EndpointURL: store.Endpoint,
			icebergio.S3AccessKeyID: store.AccessKey, icebergio.S3SecretAccessKey: store.SecretKey,
			icebergio.S3ForceVirtualAddressing: strconv.FormatBool(!store.PathStyle),
		} {
			if v != "" {
				props[k] = v
			}
		}
	}
	return props
}

// openCatalog connects to the catalog. close is never nil.
func openCatalog(ctx context.Context, c icebergconfig.Iceberg, store objstore.Config, props iceberg.Properties) (_ catalog.Catalog, closeIt func() error, err error) {
	none := func() error { return nil }
	if c.REST() {
		opts := []rest.Option{rest.WithAdditionalProps(props)}
		if c.Token != "" {
			opts = append(opts, rest.WithOAuthToken(c.Token))
		}
		if c.Warehouse != "" {
			opts = append(opts, rest.WithWarehouseLocation(c.Warehouse))
		}
		cat, err := rest.NewCatalog(ctx, c.Name, c.Catalog, opts...)
		if err != nil {
			return nil, none, fmt.Errorf("REST catalog: %w", err)
		}
		return cat, none, nil
	}
	db, dialect, err := openSQL(c, store)
	if err != nil {
		return nil, none, err
	}
	cat, err := catalogsql.NewCatalog(c.Name, db, dialect, props)
	if err != nil {
		return nil, none, errors.Join(fmt.Errorf("catalog: %w", err), db.Close())
	}
	if err := cat.CreateSQLTables(ctx); err != nil {
		return nil, none, errors.Join(fmt.Errorf("catalog: %w", err), db.Close())
	}
	return cat, db.Close, nil
}

func warehouse(c icebergconfig.Iceberg, lakeURI string) string {
	if c.Warehouse != "" {
		return strings.TrimRight(c.Warehouse, "/")
	}
	return lakeURI + "/tocsin/_iceberg"
}

func openSQL(c icebergconfig.Iceberg, store objstore.Config) (*sql.DB, catalogsql.SupportedDialect, error) {
	if c.Postgres() {
		db, err := sql.Open("pgx", c.Catalog)
		if err != nil {
			return nil, "", errors.New("catalog: not a PostgreSQL address") // the error would show the password
		}
		db.SetMaxOpenConns(4)
		return db, catalogsql.Postgres, nil
	}
	path := strings.TrimPrefix(c.Catalog, icebergconfig.SchemeSQLite)
	if path == "" {
		dir, ok := strings.CutPrefix(store.URL, schemeFile)
		if !ok {
			return nil, "", errors.New("catalog: must be given when the lake is not a directory")
		}
		path = filepath.Join(dir, "tocsin", "_iceberg", "catalog.db")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, "", fmt.Errorf("catalog: %w", err)
	}
	// Every writer waits its turn instead of failing; WAL lets engines read meanwhile.
	q := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, "", fmt.Errorf("catalog: %w", err)
	}
	db.SetMaxOpenConns(4)
	return db, catalogsql.SQLite, nil
}
