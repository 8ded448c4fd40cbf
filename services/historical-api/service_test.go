package historicalapi

import (
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/service"
)

func TestCloseWithoutRun(t *testing.T) {
	cfg := DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Lake.URL = "file://" + t.TempDir()
	cfg.DataDir = t.TempDir()
	svc, err := New(cfg, service.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if svc.Ready() == nil {
		t.Error("ready before Run")
	}
	for range 2 {
		if err := svc.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigNamesTheField(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for field, breakIt := range map[string]func(*Config){
		"http.listen":               func(c *Config) { c.HTTP.Listen = "nowhere" },
		"lake.url":                  func(c *Config) { c.Lake.URL = "x" },
		"data_dir":                  func(c *Config) { c.DataDir = "" },
		"refresh":                   func(c *Config) { c.Refresh = -1 },
		"auth.people":               func(c *Config) { c.HTTP.Listen = "0.0.0.0:0" },
		"auth.people[0].name":       func(c *Config) { c.Auth.People = []Person{{"a b", adminToken, []string{"*"}}} },
		"auth.people[0].token":      func(c *Config) { c.Auth.People = []Person{{"a", "short", []string{"*"}}} },
		"auth.people[1].token":      func(c *Config) { c.Auth.People = []Person{people()[0], {"b", adminToken, []string{"*"}}} },
		"auth.people[0].equipment":  func(c *Config) { c.Auth.People = []Person{{"a", adminToken, nil}} },
		"auth.people[0].equipment[": func(c *Config) { c.Auth.People = []Person{{"a", adminToken, []string{"a b"}}} },
		"queries.concurrent":        func(c *Config) { c.Queries.Concurrent = 0 },
		"queries.wait":              func(c *Config) { c.Queries.Wait = -1 },
		"queries.timeout":           func(c *Config) { c.Queries.Timeout = 0 },
		"queries.threads":           func(c *Config) { c.Queries.Threads = 0 },
		"queries.memory_bytes":      func(c *Config) { c.Queries.MemoryBytes = 1 },
		"queries.max_rows":          func(c *Config) { c.Queries.MaxRows = 0 },
		"queries.max_bytes":         func(c *Config) { c.Queries.MaxBytes = 0 },
		"queries.max_query_bytes":   func(c *Config) { c.Queries.MaxQueryBytes = 0 },
		"queries.cache_bytes":       func(c *Config) { c.Queries.CacheBytes = -1 },
		"queries.copy_bytes":        func(c *Config) { c.Queries.CopyBytes = 0 },
	} {
		c := DefaultConfig()
		breakIt(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
