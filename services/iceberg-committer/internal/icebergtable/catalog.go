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
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/catalog/rest"
	catalogsql "github.com/apache/iceberg-go/catalog/sql"
	icebergio "github.com/apache/iceberg-go/io"
	_ "github.com/apache/iceberg-go/io/gocloud/s3" // s3://
	_ "github.com/jackc/pgx/v5/stdlib"             // the driver "pgx"
	_ "modernc.org/sqlite"                         // the driver "sqlite"

	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// Config of the Iceberg tables.
type Config struct {
	Catalog   string        `mapstructure:"catalog" doc:"sqlite:///absolute/file.db, postgres://user:password@host/database, or the http(s) address of a REST catalog. Empty: sqlite beside a lake in a directory." secret:"true"`
	Token     string        `mapstructure:"token" doc:"Bearer token for a REST catalog." secret:"true"`
	Name      string        `mapstructure:"name" doc:"Name of the catalog: one SQL database may hold several."`
	Namespace string        `mapstructure:"namespace" doc:"Namespace of the tables."`
	Warehouse string        `mapstructure:"warehouse" doc:"Where the tables' metadata is kept, as a file:// or s3:// address; empty: tocsin/_iceberg in the lake."`
	Interval  time.Duration `mapstructure:"interval" doc:"How often new files are committed to the tables."`
	Keep      time.Duration `mapstructure:"keep_snapshots" doc:"Snapshots that old, and what is of no use without them, are removed. Merged and removed files stay as long."`
}

// DefaultConfig keeps the catalog beside a lake in a directory.
func DefaultConfig() Config {
	return Config{Name: "tocsin", Namespace: "tocsin", Interval: time.Minute, Keep: 24 * time.Hour}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Catalog != "" && !strings.HasPrefix(c.Catalog, schemeSQLite) && !c.postgres() && !c.rest():
		return errors.New("catalog: begins with none of sqlite:///, postgres://, http://, https://")
	case c.Name == "":
		return errors.New("name: must not be empty")
	case c.Namespace == "" || strings.ContainsAny(c.Namespace, "./ "):
		return fmt.Errorf("namespace: %q is empty or has a dot, slash or space", c.Namespace)
	case c.Interval < time.Second:
		return errors.New("interval: must be 1s or more")
	case c.Keep < time.Hour:
		return errors.New("keep_snapshots: must be 1h or more")
	}
	return nil
}

const (
	schemeFile   = "file://"
	schemeSQLite = "sqlite://"
)

func (c Config) postgres() bool {
	return strings.HasPrefix(c.Catalog, "postgres://") || strings.HasPrefix(c.Catalog, "postgresql://")
}

func (c Config) rest() bool {
	return strings.HasPrefix(c.Catalog, "http://") || strings.HasPrefix(c.Catalog, "https://")
}

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
func (c Config) properties(store objstore.Config, lakeURI string) iceberg.Properties {
	props := iceberg.Properties{"warehouse": c.warehouse(lakeURI)}
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
func openCatalog(ctx context.Context, c Config, store objstore.Config, props iceberg.Properties) (_ catalog.Catalog, closeIt func() error, err error) {
	none := func() error { return nil }
	if c.rest() {
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

func (c Config) warehouse(lakeURI string) string {
	if c.Warehouse != "" {
		return strings.TrimRight(c.Warehouse, "/")
	}
	return lakeURI + "/tocsin/_iceberg"
}

func openSQL(c Config, store objstore.Config) (*sql.DB, catalogsql.SupportedDialect, error) {
	if c.postgres() {
		db, err := sql.Open("pgx", c.Catalog)
		if err != nil {
			return nil, "", errors.New("catalog: not a PostgreSQL address") // the error would show the password
		}
		db.SetMaxOpenConns(4)
		return db, catalogsql.Postgres, nil
	}
	path := strings.TrimPrefix(c.Catalog, schemeSQLite)
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
