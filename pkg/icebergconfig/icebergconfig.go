// Package icebergconfig is the iceberg-committer's section of the fleet's file. It stands here and not in the service, so that the file can be checked and documented
// by programs that do not link an Iceberg library.
package icebergconfig

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// Config of the iceberg-committer.
type Config struct {
	HTTP    httpserver.Config `mapstructure:"http" doc:"Health, metrics, configuration."`
	Lake    objstore.Config   `mapstructure:"lake" doc:"Where the Parquet files are kept: as cold_path_writer.lake."`
	Tables  []string          `mapstructure:"tables" doc:"Tables of the lake to keep Iceberg tables of. Empty: all that stand in the lake, also those that appear later."`
	Iceberg Iceberg           `mapstructure:"iceberg" doc:"Catalog and snapshots."`
}

// Default keeps the catalog beside the lake of the working directory.
func Default() Config {
	return Config{
		HTTP: httpserver.DefaultConfig("127.0.0.1:8089"), Lake: objstore.DefaultConfig("./.tocsin/lake"), Iceberg: DefaultIceberg(),
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	for _, part := range []struct {
		name string
		err  error
	}{
		{"http", c.HTTP.Validate()},
		{"lake", c.Lake.Validate()},
		{"iceberg", c.Iceberg.Validate()},
	} {
		if part.err != nil {
			return fmt.Errorf("%s.%w", part.name, part.err)
		}
	}
	for i, t := range c.Tables {
		if strings.Contains(t, "/") || strings.HasPrefix(t, "_") || objstore.ValidateKey(t) != nil {
			return fmt.Errorf("tables[%d]: %q names no table", i, t)
		}
	}
	if c.Iceberg.Catalog == "" && !strings.HasPrefix(c.Lake.URL, "file://") {
		return errors.New("iceberg.catalog: must be given when the lake is not a directory")
	}
	return nil
}

// Iceberg says where the tables are written down.
type Iceberg struct {
	Catalog   string        `mapstructure:"catalog" doc:"sqlite:///absolute/file.db, postgres://user:password@host/database, or the http(s) address of a REST catalog. Empty: SQLite beside a lake in a directory." secret:"true"`
	Token     string        `mapstructure:"token" doc:"Bearer token for a REST catalog." secret:"true"`
	Name      string        `mapstructure:"name" doc:"Name of the catalog: one SQL database may hold several."`
	Namespace string        `mapstructure:"namespace" doc:"Namespace of the tables."`
	Warehouse string        `mapstructure:"warehouse" doc:"Where the tables' metadata is kept, as a file:// or s3:// address; empty: tocsin/_iceberg in the lake, or where a REST catalog wants it."`
	Interval  time.Duration `mapstructure:"interval" doc:"How often new files are committed to the tables."`
	Keep      time.Duration `mapstructure:"keep_snapshots" doc:"Snapshots that old, and what is of no use without them, are removed. Not more than cold_path_writer.maintenance.grace."`
}

// DefaultIceberg keeps the catalog beside a lake in a directory.
func DefaultIceberg() Iceberg {
	return Iceberg{Name: "tocsin", Namespace: "tocsin", Interval: time.Minute, Keep: 24 * time.Hour}
}

// Validate names the first field that is wrong.
func (c Iceberg) Validate() error {
	switch {
	case c.Catalog != "" && !strings.HasPrefix(c.Catalog, SchemeSQLite) && !c.Postgres() && !c.REST():
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

// SchemeSQLite begins a catalog in a file.
const SchemeSQLite = "sqlite://"

// Postgres tells whether the catalog is in PostgreSQL.
func (c Iceberg) Postgres() bool {
	return strings.HasPrefix(c.Catalog, "postgres://") || strings.HasPrefix(c.Catalog, "postgresql://")
}

// REST tells whether the catalog is a REST catalog.
func (c Iceberg) REST() bool {
	return strings.HasPrefix(c.Catalog, "http://") || strings.HasPrefix(c.Catalog, "https://")
}
