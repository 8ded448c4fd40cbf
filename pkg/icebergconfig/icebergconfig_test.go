package icebergconfig

import (
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	for field, spoil := range map[string]func(*Config){
		"http.listen:":            func(c *Config) { c.HTTP.Listen = "nowhere" },
		"lake.url:":               func(c *Config) { c.Lake.URL = "ftp://x" },
		"tables[0]:":              func(c *Config) { c.Tables = []string{"readings/date=2026-01-01"} },
		"tables[1]:":              func(c *Config) { c.Tables = []string{"readings", "_manifest"} },
		"iceberg.catalog: begins": func(c *Config) { c.Iceberg.Catalog = "mysql://x" },
		"iceberg.catalog: must":   func(c *Config) { c.Lake.URL = "s3://lake" },
		"iceberg.name:":           func(c *Config) { c.Iceberg.Name = "" },
		"iceberg.namespace:":      func(c *Config) { c.Iceberg.Namespace = "a.b" },
		"iceberg.interval:":       func(c *Config) { c.Iceberg.Interval = time.Millisecond },
		"iceberg.keep_snapshots:": func(c *Config) { c.Iceberg.Keep = time.Minute },
	} {
		c := Default()
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%v, want an error that begins with %s", err, field)
		}
	}
	c := Default()
	c.Lake.URL, c.Iceberg.Catalog = "s3://lake", "postgres://tocsin@db/tocsin"
	if err := c.Validate(); err != nil || !c.Iceberg.Postgres() || c.Iceberg.REST() {
		t.Errorf("S3 with PostgreSQL: %v", err)
	}
}
